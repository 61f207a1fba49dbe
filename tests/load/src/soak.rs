//! The same for long: sessions that work, leave in order, vanish in the middle of a call, or sit there, and a proxy that
//! must be the same afterwards.
//!
//! What grows without bound grows in steps too small to see in a minute: hence minutes or hours, and a level that is
//! taken after the first fifth, when pools and caches are full.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::client::{Call, Client, Target};
use crate::measure::Cost;
use crate::plan;
use crate::roles::Role;
use crate::workload;

/// Well within what the proxy gives itself for a drain with nothing to wait for: 5 s in which everything is served.
const DRAIN: Duration = Duration::from_secs(15);
/// Sessions at work in each turn.
const SESSIONS: usize = 40;
/// What memory may grow by, in bytes, beside a tenth of its level: one outbox and what malloc keeps.
const SLACK: u64 = 4 << 20;

/// Runs for `time`, and fails when memory, descriptors or threads are not flat, or a session or task is left.
pub(crate) async fn run(time: Duration) -> Result<()> {
    let stub = Role::start("stub", plan::LOAD_CORE, &["json"])?;
    let log = std::env::temp_dir().join(format!("sse-sunset-soak-{}.log", std::process::id()));
    let proxy = plan::proxy(&stub, &log)?;
    let target = plan::legacy(&proxy.address);
    let (start, mut turns, mut sessions) = (Instant::now(), 0_u64, 0);
    let mut level: Option<Cost> = None;
    while start.elapsed() < time {
        sessions += turn(&target).await?;
        turns += 1;
        if level.is_none() && start.elapsed() > time / 5 {
            workload::all_deleted(&stub.address, sessions).await?;
            level = Some(settled(&proxy).await?);
        }
    }
    workload::all_deleted(&stub.address, sessions).await?;
    let (level, end) = (level.context("too short for a level")?, settled(&proxy).await?);
    // A task that never ends would outlast the drain, and a session that never ends would have no `legacy.end`.
    let stopping = Instant::now();
    proxy.stop()?;
    ensure!(stopping.elapsed() < DRAIN, "tasks were still there at the end of the drain");
    let text = std::fs::read_to_string(&log)?;
    let records = |name: &str| text.lines().filter(|line| line.contains(name)).count() as u64;
    let (connected, ended) = (records("\"legacy.connect\""), records("\"legacy.end\""));
    ensure!((connected, ended) == (sessions, sessions), "{sessions} sessions, {connected} connected, {ended} ended");
    let _ = std::fs::remove_file(log);
    println!(
        "{sessions} sessions in {turns} turns, {} s: RSS {} -> {} KiB, descriptors {} -> {}, threads {} -> {}",
        start.elapsed().as_secs(),
        level.rss >> 10,
        end.rss >> 10,
        level.descriptors,
        end.descriptors,
        level.threads,
        end.threads
    );
    ensure!(end.rss <= level.rss + level.rss / 10 + SLACK, "memory grows");
    ensure!(end.descriptors <= level.descriptors + 4, "descriptors stay behind");
    ensure!(end.threads <= level.threads, "threads stay behind");
    Ok(())
}

/// One turn; gives how many sessions it opened.
async fn turn(target: &Target) -> Result<u64> {
    try_join_all((0..SESSIONS).map(async |number| {
        let mut client = Client::open(target).await?;
        for call in 0..5 {
            let text = format!("\"{number}/{call}\"");
            client.call(Call::echo(&text)).await?;
        }
        client.call(Call { tool: "progress", text: "\"done\"", count: 50, megabytes: 0 }).await?;
        match number % 4 {
            // Vanishes in the middle of a call, with more on the way than it will ever read.
            0 => drop(client.begin(Call { tool: "flood", text: "\"never read\"", count: 0, megabytes: 4 }).await?),
            1 => drop(client.begin(Call { tool: "progress", text: "\"never read\"", count: 500, megabytes: 0 }).await?),
            2 => client.pipelined(16).await?,
            _ => {}
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(SESSIONS as u64)
}

/// What the proxy costs once the connections are closed that it keeps for the next request.
async fn settled(proxy: &Role) -> Result<Cost> {
    tokio::time::sleep(plan::POOLS_EMPTY).await;
    proxy.cost()
}
