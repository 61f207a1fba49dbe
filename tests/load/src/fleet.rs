//! Three replicas on a real Redis: what it costs that a message lands on another replica than the one that holds its session.
//!
//! Why connections are few here and sessions many: behind a balancer whoever posts is one of its connections, and only the
//! session's id says where a message belongs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::client::{Call, Client, Poster, connect};
use crate::measure::Latencies;
use crate::plan::{LOAD_CORE, Size, legacy, per, proxy_with};
use crate::redis::Redis;
use crate::roles::Role;
use crate::table::{Budget, Row};
use crate::workload;

const REPLICAS: usize = 3;
/// Connections at work to each replica, each with one call at a time.
const BUSY: usize = 64;
/// How long the replicas may take to find each other.
const FOUND: Duration = Duration::from_secs(20);
/// How long Redis is watched while nobody calls.
const QUIET: Duration = Duration::from_secs(10);

/// Where a message is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Owner,
    Other,
}

/// Everything that runs.
struct Stage {
    _stub: Role,
    replicas: Vec<Role>,
    redis: Redis,
}

/// A session, and the place of the replica that holds it.
struct Session {
    client: Client,
    owner: usize,
}

/// Somebody with a connection to each replica, and sessions of its own.
struct Worker {
    posters: Vec<Poster>,
    sessions: Vec<Session>,
}

/// How long calls took.
#[derive(Debug, Default)]
struct Took {
    /// Until the message was taken.
    taken: Latencies,
    /// Until the answer was there.
    answered: Latencies,
}

/// What was done to Redis so far.
#[derive(Debug, Clone, Copy)]
struct Load {
    commands: u64,
    bytes: u64,
    cpu_s: f64,
}

/// What calls came to.
struct Run {
    calls_a_second: f64,
    cpu_s: f64,
    redis: Load,
}

/// All rows, or none where there is no Redis.
pub(crate) async fn measure(folder: &Path, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
    if !Redis::is_installed() {
        eprintln!("redis-server is missing: the rows of fleet are left out (Debian's package redis-server has it)");
        return Ok(());
    }
    let stage = Stage::set(folder)?;
    let name = format!("{REPLICAS} replicas, {} sessions", size.fleet_sessions);
    let mut workers = stage.workers(size.fleet_sessions).await?;
    let worker = workers.first_mut().context("a worker")?;
    let (mut own, mut other) = (Took::default(), Took::default());
    for number in 0..size.sequential_calls {
        worker.call(number, At::Owner, &mut own).await?;
        worker.call(number, At::Other, &mut other).await?;
    }
    latency_rows(&name, &mut own, &mut other, rows);
    for (at, place) in [(At::Owner, "the owner"), (At::Other, "another replica")] {
        let run = stage.run(&mut workers, size.calls, at).await?;
        let mut row = |what: String, unit, figure| rows.push(Row::of_proxy(what, unit, figure));
        row(format!("{name}: {BUSY} calls at once at {place}"), "calls/s", run.calls_a_second);
        row(format!("{name}: {BUSY} calls at once at {place}, all replicas"), "CPU s / 10,000 calls", run.cpu_s);
        if at == At::Other {
            let calls = per(size.calls, 1);
            let redis = |what: &str| format!("{name}: Redis, {what}");
            row(redis("a message at another replica"), "commands / message", count(run.redis.commands) / calls);
            row(redis("a message at another replica, in and out"), "bytes / message", count(run.redis.bytes) / calls);
            row(redis("messages at another replica"), "CPU s / 10,000 messages", run.redis.cpu_s / calls * 10_000.0);
        }
    }
    let before = stage.load()?;
    tokio::time::sleep(QUIET).await;
    let commands = count(stage.load()?.since(before).commands) / QUIET.as_secs_f64();
    rows.push(Row::of_proxy(format!("{name}: Redis, nobody calls"), "commands/s", commands));
    Ok(())
}

fn latency_rows(name: &str, own: &mut Took, other: &mut Took, rows: &mut Vec<Row>) {
    let added = other.taken.percentile_ms(0.5) - own.taken.percentile_ms(0.5);
    let mut budget = Some(Budget { text: "adds at most 1 ms".to_owned(), value: added, limit: 1.0, at_least: false });
    for (share, word) in [(0.5, "p50"), (0.99, "p99")] {
        let figures = [
            ("POST at the owner until 202", own.taken.percentile_ms(share), None),
            ("POST at another replica until 202", other.taken.percentile_ms(share), budget.take()),
            ("call at the owner", own.answered.percentile_ms(share), None),
            ("call at another replica", other.answered.percentile_ms(share), None),
        ];
        for (what, figure, budget) in figures {
            rows.push(Row::of_proxy(format!("{name}: {what}, {word}"), "ms", figure).with(budget));
        }
    }
}

impl Stage {
    fn set(folder: &Path) -> Result<Self> {
        let (redis, stub) = (Redis::start(), Role::start("stub", LOAD_CORE, &["json"])?);
        let key = folder.join("fleet.key");
        std::fs::write(&key, "5e".repeat(32))?;
        let (key, url) = (key.display().to_string(), redis.url());
        let replica = |place: usize| {
            let log = folder.join(format!("fleet-{place}.log"));
            let instance = format!("replica-{place}");
            proxy_with(&stub, &log, &["--fleet", &url, "--fleet-key-file", &key, "--instance", &instance])
        };
        let replicas = (0..REPLICAS).map(replica).collect::<Result<_>>()?;
        Ok(Stage { replicas, redis, _stub: stub })
    }

    /// Sessions at all replicas alike, in as many hands as there are calls at once.
    async fn workers(&self, sessions: usize) -> Result<Vec<Worker>> {
        let mut workers = Vec::with_capacity(BUSY);
        for _ in 0..BUSY {
            let posters = try_join_all(self.replicas.iter().map(|replica| connect(&replica.address, false))).await?;
            workers.push(Worker { posters, sessions: Vec::new() });
        }
        for (owner, replica) in self.replicas.iter().enumerate() {
            for (at, client) in
                workload::open(&legacy(&replica.address), sessions / REPLICAS).await?.into_iter().enumerate()
            {
                let worker = workers.get_mut(at % BUSY).context("one of them")?;
                worker.sessions.push(Session { client, owner });
            }
        }
        self.await_ways(&mut workers).await?;
        // Once each, so that every session is known to be answered.
        try_join_all(workers.iter_mut().map(async |worker| {
            for number in 0..worker.sessions.len() {
                worker.call(number, At::Other, &mut Took::default()).await?;
            }
            anyhow::Ok(())
        }))
        .await?;
        Ok(workers)
    }

    /// Waits until each replica reaches each other one, with sessions that are not needed any more.
    async fn await_ways(&self, workers: &mut [Worker]) -> Result<()> {
        let (worker, deadline) = (workers.first_mut().context("a worker")?, Instant::now() + FOUND);
        for (owner, replica) in self.replicas.iter().enumerate() {
            for poster in (0..REPLICAS).filter(|place| *place != owner) {
                let mut client = Client::open(&legacy(&replica.address)).await?;
                let poster = worker.posters.get_mut(poster).context("a connection")?;
                while !client.is_taken_by(poster).await? {
                    ensure!(Instant::now() < deadline, "the replicas do not find each other");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(())
    }

    async fn run(&self, workers: &mut [Worker], calls: usize, at: At) -> Result<Run> {
        let (cpu, load, start) = (self.cpu_s()?, self.load()?, Instant::now());
        let each = calls / workers.len();
        try_join_all(workers.iter_mut().map(async |worker| {
            let mut took = Took::default();
            for number in 0..each {
                worker.call(number, at, &mut took).await?;
            }
            anyhow::Ok(())
        }))
        .await?;
        let took = start.elapsed().as_secs_f64();
        Ok(Run {
            calls_a_second: per(calls, 1) / took,
            cpu_s: (self.cpu_s()? - cpu) / per(calls, 10_000),
            redis: self.load()?.since(load),
        })
    }

    /// What all replicas have cost so far.
    fn cpu_s(&self) -> Result<f64> {
        self.replicas.iter().map(|replica| Ok(replica.cost()?.cpu_s)).sum()
    }

    fn load(&self) -> Result<Load> {
        let stats = self.redis.text(&["INFO", "commandstats"]);
        let calls =
            stats.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next()?.parse::<u64>().ok());
        let bytes = |name| anyhow::Ok(self.redis.figure("stats", name).parse::<u64>()?);
        let seconds = |name| anyhow::Ok(self.redis.figure("cpu", name).parse::<f64>()?);
        Ok(Load {
            commands: calls.sum(),
            bytes: bytes("total_net_input_bytes")? + bytes("total_net_output_bytes")?,
            cpu_s: seconds("used_cpu_user")? + seconds("used_cpu_sys")?,
        })
    }
}

impl Load {
    fn since(self, before: Load) -> Load {
        Load {
            commands: self.commands - before.commands,
            bytes: self.bytes - before.bytes,
            cpu_s: self.cpu_s - before.cpu_s,
        }
    }
}

impl Worker {
    /// A call of one of its sessions, which take turns.
    async fn call(&mut self, number: usize, at: At, took: &mut Took) -> Result<()> {
        let turn = number % self.sessions.len();
        let Session { client, owner } = self.sessions.get_mut(turn).context("a session")?;
        let place = match at {
            At::Owner => *owner,
            At::Other => (*owner + 1 + number / 2 % (REPLICAS - 1)) % REPLICAS,
        };
        let poster = self.posters.get_mut(place).context("a connection")?;
        let text = format!("\"{number}\"");
        let (taken, answered) = client.call_by(poster, Call::echo(&text)).await?;
        took.taken.0.push(taken);
        took.answered.0.push(answered);
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "far below what a double holds exactly")]
fn count(amount: u64) -> f64 {
    amount as f64
}
