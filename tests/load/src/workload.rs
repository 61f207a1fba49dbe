//! What is done to a target. Everything is bounded, and nothing is trusted (`client`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::client::{Call, Client, IdleClient, Target, Transport, counts};
use crate::measure::Latencies;
use crate::roles::Role;

/// One session, one call after the other, as long as `limit` lets it begin them.
pub(crate) async fn sequential(target: &Target, calls: usize, limit: Duration) -> Result<Latencies> {
    let mut client = Client::open(target).await?;
    let mut latencies = Latencies::default();
    let start = Instant::now();
    for number in (0..calls).take_while(|_| start.elapsed() < limit) {
        let text = format!("\"sequential {number}\"");
        latencies.0.push(client.call(Call::echo(&text)).await?);
    }
    Ok(latencies)
}

/// Many sessions at once, each one call after the other; how long all took.
pub(crate) async fn concurrent(clients: &mut [Client], calls: usize, text: &str) -> Result<Duration> {
    Ok(within(clients, calls, text, Duration::MAX).await?.1)
}

/// The same, as long as `limit` lets them begin calls; how many they made, and how long that took.
pub(crate) async fn within(
    clients: &mut [Client],
    calls: usize,
    text: &str,
    limit: Duration,
) -> Result<(usize, Duration)> {
    let start = Instant::now();
    let each = calls / clients.len();
    let made = try_join_all(clients.iter_mut().enumerate().map(async |(session, client)| {
        let mut made = 0;
        while made < each && start.elapsed() < limit {
            let text = if text.is_empty() { format!("\"{session}/{made}\"") } else { text.to_owned() };
            client.call(Call::echo(&text)).await?;
            made += 1;
        }
        anyhow::Ok(made)
    }))
    .await?;
    Ok((made.iter().sum(), start.elapsed()))
}

/// Sessions that send `depth` calls before they read an answer, again and again.
pub(crate) async fn pipelined(clients: &mut [Client], rounds: usize, depth: usize) -> Result<()> {
    try_join_all(clients.iter_mut().map(async |client| {
        for _ in 0..rounds {
            client.pipelined(depth).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

/// Calls that send notifications before they answer.
pub(crate) async fn progress(clients: &mut [Client], calls: usize, count: u64) -> Result<()> {
    try_join_all(clients.iter_mut().map(async |client| {
        for _ in 0..calls {
            client.call(Call { tool: "progress", text: "\"done\"", count, megabytes: 0 }).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

/// Opens sessions, some at a time, so that no accept queue overflows.
pub(crate) async fn open(target: &Target, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let batch = (count - clients.len()).min(50);
        clients.extend(try_join_all((0..batch).map(|_| Client::open(target))).await?);
    }
    Ok(clients)
}

/// Opens sessions that do nothing and keep but their streams. Few at a time, so that those on the way take no descriptors
/// that the last ones need.
pub(crate) async fn open_idle(target: &Target, count: usize) -> Result<Vec<IdleClient>> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let batch = (count - clients.len()).min(20);
        let opened = try_join_all((0..batch).map(|_| Client::open(target))).await?;
        clients.extend(opened.into_iter().map(Client::without_poster));
    }
    Ok(clients)
}

/// Connects, calls, leaves, again and again, some at a time.
pub(crate) async fn churn(target: &Target, cycles: usize) -> Result<()> {
    let mut left = cycles;
    while left > 0 {
        let batch = left.min(20);
        left -= batch;
        try_join_all((0..batch).map(async |_| {
            let mut client = Client::open(target).await?;
            client.call(Call::echo("\"churn\"")).await
        }))
        .await?;
    }
    Ok(())
}

/// Waits until the stub has seen `sessions` end.
pub(crate) async fn all_deleted(stub: &str, sessions: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let seen = counts(stub).await?;
        if seen.deletes == sessions {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{} of {sessions} sessions were deleted upstream", seen.deletes);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the stub has seen `streams` GET streams: those of sessions open in the background.
pub(crate) async fn all_listening(stub: &str, streams: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while counts(stub).await?.streams < streams {
        ensure!(Instant::now() < deadline, "not every session opened its GET stream upstream");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// What a client that does not read does to a target, and to the others.
#[derive(Debug)]
pub(crate) struct Slow {
    /// Growth of the target while everything was pushed, in bytes.
    pub(crate) growth: u64,
    /// Latencies of another session meanwhile.
    pub(crate) others: Latencies,
}

/// Has `megabytes` pushed at a client that does not read.
pub(crate) async fn slow(target: &Target, role: &Role, megabytes: usize) -> Result<Slow> {
    ensure!(target.transport == Transport::Legacy);
    let mut other = Client::open(target).await?;
    for _ in 0..100 {
        other.call(Call::echo("\"warm\"")).await?;
    }
    let mut slow = Client::open(target).await?;
    let before = role.cost()?.rss;
    slow.begin(Call { tool: "flood", text: "\"over\"", count: 0, megabytes }).await?;
    let (mut others, mut most) = (Latencies::default(), before);
    for _ in 0..2_000 {
        others.0.push(other.call(Call::echo("\"meanwhile\"")).await.context("another session suffers")?);
        most = most.max(role.cost()?.rss);
    }
    Ok(Slow { growth: most - before, others })
}
