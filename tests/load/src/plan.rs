//! What is measured, in which order: targets take turns, so that whatever the machine does meets all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::client::{self, Client, Target, Transport};
use crate::measure::{Cost, median};
use crate::roles::Role;
use crate::table::{Budget, Row};
use crate::{alternatives, counts, fleet, workload};

/// The core of what is measured; the load and the stub share the other.
pub(crate) const MEASURED_CORE: usize = 1;
pub(crate) const LOAD_CORE: usize = 0;

/// The proxy's option for passing Streamable HTTP through (DESIGN, Front).
const PASS_THROUGH: &str = "passthrough";

/// Idle connections to the upstream are closed after 4 s, by a look every 4 s.
pub(crate) const POOLS_EMPTY: Duration = Duration::from_secs(9);

/// Malloc gives back over ten seconds what is free, its last pages when it happens to look: the lowest figure is what is held.
const GIVEN_BACK: Duration = Duration::from_secs(15);

/// How much is done.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) rounds: usize,
    pub(crate) calls: usize,
    pub(crate) sequential_calls: usize,
    /// Calls of each of four sessions, with a thousand notifications each.
    pub(crate) progress_calls: usize,
    pub(crate) large_calls: usize,
    pub(crate) idle: Vec<usize>,
    /// The first cycles, after which memory is looked at, and those after.
    pub(crate) churn: (usize, usize),
    /// Cycles after which sessions linger.
    pub(crate) lingering: Option<usize>,
    pub(crate) flood_megabytes: usize,
    /// For how long what is held is looked at, once the pools are empty.
    pub(crate) looks: Duration,
    /// Sessions of three replicas together.
    pub(crate) fleet_sessions: usize,
    /// How often a process is started to see how long that takes.
    pub(crate) starts: usize,
    /// Idle sessions of each alternative, if they are measured.
    pub(crate) alternatives_idle: Option<usize>,
}

impl Size {
    pub(crate) fn full() -> Self {
        Size {
            rounds: 3,
            calls: 20_000,
            sequential_calls: 3_000,
            progress_calls: 20,
            large_calls: 100,
            idle: vec![1_000, 5_000, 9_800],
            churn: (2_000, 18_000),
            lingering: Some(1_000),
            flood_megabytes: 200,
            looks: GIVEN_BACK,
            fleet_sessions: 3_000,
            starts: 11,
            alternatives_idle: Some(200),
        }
    }

    /// For every change: all answers are checked, and figures that are off by far are noticed.
    pub(crate) fn short() -> Self {
        Size {
            rounds: 1,
            calls: 8_000,
            sequential_calls: 500,
            progress_calls: 20,
            large_calls: 20,
            idle: vec![200],
            churn: (200, 800),
            // The soak has sessions that linger.
            lingering: None,
            flood_megabytes: 50,
            looks: Duration::ZERO,
            fleet_sessions: 192,
            starts: 5,
            // Slow, and none of ours to check.
            alternatives_idle: None,
        }
    }
}

/// All loads, in order.
pub(crate) const LOADS: [&str; 14] = [
    "echo",
    "counts",
    "through",
    "sequential",
    "pipelined",
    "progress",
    "large",
    "slow",
    "churn",
    "linger",
    "idle",
    "startup",
    "fleet",
    "alternatives",
];

/// Everything that runs.
pub(crate) struct Stage {
    json: Role,
    _sse: Role,
    proxy: Role,
    proxy_sse: Role,
    hyper: Role,
    raw: Role,
    folder: std::path::PathBuf,
}

pub(crate) fn legacy(address: &str) -> Target {
    Target { address: address.to_owned(), transport: Transport::Legacy }
}

impl Stage {
    pub(crate) fn set() -> Result<Stage> {
        let json = Role::start("stub", LOAD_CORE, &["json"])?;
        let sse = Role::start("stub", LOAD_CORE, &["sse"])?;
        let folder = std::env::temp_dir().join(format!("sse-sunset-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Stage {
            proxy: proxy(&json, &folder.join("json.log"))?,
            proxy_sse: proxy(&sse, &folder.join("sse.log"))?,
            hyper: Role::start("hyper", MEASURED_CORE, &[&json.address])?,
            raw: Role::start("raw", MEASURED_CORE, &[&json.address])?,
            json,
            _sse: sse,
            folder,
        })
    }

    /// The process in the middle and how it is reached, for each column that has one.
    fn middles(&self) -> [(&'static str, &Role); 3] {
        [("proxy", &self.proxy), ("hyper relay", &self.hyper), ("raw relay", &self.raw)]
    }

    /// Runs the loads named in `only`, of [`LOADS`].
    pub(crate) async fn measure(&self, size: &Size, only: &[&str]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for load in only {
            match *load {
                "echo" => self.echo(size, &mut rows).await?,
                "through" => self.through(size, &mut rows).await?,
                "sequential" => self.sequential(size, &mut rows).await?,
                "pipelined" => self.pipelined(size, &mut rows).await?,
                "progress" => self.progress(size, &mut rows).await?,
                "large" => self.large(size, &mut rows).await?,
                "slow" => self.slow(size, &mut rows).await?,
                "churn" => self.churn(size, &mut rows).await?,
                "linger" => self.linger(size, &mut rows).await?,
                "idle" => self.idle(size, &mut rows).await?,
                "counts" => counts::calls(&self.folder, &self.json, size, &mut rows).await?,
                "startup" => counts::start_up(&self.folder, &self.json, size, &mut rows).await?,
                "alternatives" => alternatives::measure(&self.folder, size, &mut rows).await?,
                "fleet" => fleet::measure(&self.folder, size, &mut rows).await?,
                other => bail!("no such load: {other}"),
            }
        }
        Ok(rows)
    }

    /// CPU seconds for each 10,000 echo calls of 64 sessions.
    async fn echo(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        for (name, proxy, limit) in [
            ("echo, 64 sessions, JSON replies", &self.proxy, 1.5),
            ("echo, 64 sessions, SSE replies", &self.proxy_sse, 2.0),
        ] {
            let (mut cpu, mut rate) = (Figures::default(), Figures::default());
            for _ in 0..size.rounds {
                for (column, role) in [("proxy", proxy), ("hyper relay", &self.hyper), ("raw relay", &self.raw)] {
                    let mut clients = workload::open(&legacy(&role.address), 64).await?;
                    let before = role.cost()?.cpu_s;
                    let took = workload::concurrent(&mut clients, size.calls, "").await?;
                    cpu.add(column, (role.cost()?.cpu_s - before) / per(size.calls, 10_000));
                    rate.add(column, per(size.calls, 1) / took.as_secs_f64());
                }
                let direct = Target { address: self.json.address.clone(), transport: Transport::Direct };
                for (column, target) in [("native", legacy(&self.json.address)), ("direct", direct)] {
                    let mut clients = workload::open(&target, 64).await?;
                    let took = workload::concurrent(&mut clients, size.calls, "").await?;
                    rate.add(column, per(size.calls, 1) / took.as_secs_f64());
                }
            }
            let cpu = cpu.medians();
            let budget = ratio(&cpu, limit, false);
            rows.push(Row::new(name, "CPU s / 10,000 calls", cpu).with(budget));
            rows.push(Row::new(name, "calls/s", rate.medians()));
        }
        Ok(())
    }

    /// Streamable HTTP through what stands in between; the proxy takes part as soon as it has an option for it.
    async fn through(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        let passes = sse_sunset::config::OPTIONS.iter().any(|option| option.name == PASS_THROUGH);
        let (option, log) = (format!("--{PASS_THROUGH}"), self.folder.join("through.log"));
        let proxy = if passes { Some(proxy_with(&self.json, &log, &[&option, "mcp"])?) } else { None };
        let mut middles = vec![("hyper relay", &self.hyper), ("raw relay", &self.raw)];
        middles.extend(proxy.as_ref().map(|proxy| ("proxy", proxy)));
        let mut cpu = Figures::default();
        for _ in 0..size.rounds {
            for (column, role) in &middles {
                let target = Target { address: role.address.clone(), transport: Transport::Direct };
                let mut clients = workload::open(&target, 64).await?;
                let before = role.cost()?.cpu_s;
                workload::concurrent(&mut clients, size.calls, "").await?;
                cpu.add(column, (role.cost()?.cpu_s - before) / per(size.calls, 10_000));
            }
        }
        let values = cpu.medians();
        let budget = ratio(&values, 1.2, false);
        let name = "Streamable HTTP passed through, 64 sessions";
        rows.push(Row::new(name, "CPU s / 10,000 calls", values).with(budget));
        Ok(())
    }

    async fn sequential(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        let direct = Target { address: self.json.address.clone(), transport: Transport::Direct };
        let mut targets: Vec<(&'static str, Target)> =
            self.middles().into_iter().map(|(column, role)| (column, legacy(&role.address))).collect();
        targets.extend([("native", legacy(&self.json.address)), ("direct", direct)]);
        let (mut p50, mut p99) = (Figures::default(), Figures::default());
        for _ in 0..size.rounds {
            for (column, target) in &targets {
                let mut latencies = workload::sequential(target, size.sequential_calls, Duration::MAX).await?;
                p50.add(column, latencies.percentile_ms(0.5));
                p99.add(column, latencies.percentile_ms(0.99));
            }
        }
        let (p50, p99) = (p50.medians(), p99.medians());
        let added =
            |column| p50.get(column).copied().unwrap_or(f64::NAN) - p50.get("native").copied().unwrap_or(f64::NAN);
        let budget = Budget {
            text: "adds at most 1.5 × what the hyper relay adds".to_owned(),
            value: added("proxy") / added("hyper relay"),
            limit: 1.5,
            at_least: false,
        };
        rows.push(Row::new("sequential, p50", "ms", p50).with(Some(budget)));
        rows.push(Row::new("sequential, p99", "ms", p99));
        Ok(())
    }

    async fn pipelined(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        const DEPTH: usize = 32;
        let mut cpu = Figures::default();
        for _ in 0..size.rounds {
            for (column, role) in self.middles() {
                let mut clients = workload::open(&legacy(&role.address), 8).await?;
                let before = role.cost()?.cpu_s;
                workload::pipelined(&mut clients, size.calls / DEPTH / 8, DEPTH).await?;
                cpu.add(column, (role.cost()?.cpu_s - before) / per(size.calls, 10_000));
            }
        }
        let name = format!("echo, 8 sessions, {DEPTH} calls at once");
        rows.push(Row::new(name, "CPU s / 10,000 calls", cpu.medians()));
        Ok(())
    }

    async fn progress(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        let mut cpu = Figures::default();
        for _ in 0..size.rounds {
            for (column, role) in self.middles() {
                let mut clients = workload::open(&legacy(&role.address), 4).await?;
                let before = role.cost()?.cpu_s;
                workload::progress(&mut clients, size.progress_calls, 1_000).await?;
                cpu.add(column, (role.cost()?.cpu_s - before) / per(4 * size.progress_calls * 1_000, 10_000));
            }
        }
        let values = cpu.medians();
        let budget = ratio(&values, 1.5, false);
        rows.push(Row::new("progress, 1,000 a call", "CPU s / 10,000 notifications", values).with(budget));
        Ok(())
    }

    async fn large(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        let text = format!("\"{}\"", "x".repeat(1 << 20));
        let mut rate = Figures::default();
        for _ in 0..size.rounds {
            for (column, address) in self
                .middles()
                .map(|(column, role)| (column, &role.address))
                .into_iter()
                .chain([("native", &self.json.address)])
            {
                let mut clients = workload::open(&legacy(address), 4).await?;
                let took = workload::concurrent(&mut clients, size.large_calls, &text).await?;
                // There and back.
                rate.add(column, 2.0 * per(size.large_calls, 1) / took.as_secs_f64());
            }
        }
        let values = rate.medians();
        let budget = ratio(&values, 0.7, true);
        rows.push(Row::new("1 MiB there and back, 4 sessions", "MiB/s", values).with(budget));
        Ok(())
    }

    async fn slow(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        // A fresh one: memory that other loads left free would hide the growth.
        let proxy = proxy(&self.json, &self.folder.join("slow.log"))?;
        let mut slow = workload::slow(&legacy(&proxy.address), &proxy, size.flood_megabytes).await?;
        let mebibytes = per(usize::try_from(slow.growth)?, 1 << 20);
        let budget = Budget {
            text: "at most the outbox (1 MiB) and 1 MiB more".to_owned(),
            value: mebibytes,
            limit: 2.0,
            at_least: false,
        };
        let name = format!("{} MB at a client that does not read", size.flood_megabytes);
        rows.push(Row::of_proxy(format!("{name}: growth"), "MiB", mebibytes).with(Some(budget)));
        let p99 = slow.others.percentile_ms(0.99);
        rows.push(Row::of_proxy(format!("{name}: another session's p99"), "ms", p99));
        Ok(())
    }

    /// On a proxy of its own: what the other loads left behind is no matter of this one. Nobody lingers here: the sessions
    /// of 15 s are more than there are descriptors (`linger` looks at those).
    async fn churn(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        let stub = Role::start("stub", LOAD_CORE, &["json"])?;
        let proxy = proxy_with(&stub, &self.folder.join("churn.log"), &["--linger", "0s"])?;
        let target = legacy(&proxy.address);
        workload::churn(&target, size.churn.0).await?;
        workload::all_deleted(&stub.address, size.churn.0 as u64).await?;
        let first = held(&proxy, size).await?;
        workload::churn(&target, size.churn.1).await?;
        let cpu = (proxy.cost()?.cpu_s - first.cpu_s) / per(size.churn.1, 10_000);
        let all = (size.churn.0 + size.churn.1) as u64;
        workload::all_deleted(&stub.address, all).await?;
        ensure!(client::counts(&stub.address).await?.sessions == all, "a session more or less upstream");
        let last = held(&proxy, size).await?;
        let name = format!("{all} cycles, no linger: RSS to that after the first {}", size.churn.0);
        rows.push(back_to(name, first, last)?);
        rows.push(Row::of_proxy("connect, call, leave", "CPU s / 10,000 cycles", cpu));
        Ok(())
    }

    /// The same with the default options, in waves: what sessions cost that wait for their clients, and that all of it is
    /// given back.
    async fn linger(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        let Some(wave) = size.lingering else { return Ok(()) };
        let stub = Role::start("stub", LOAD_CORE, &["json"])?;
        let proxy = proxy(&stub, &self.folder.join("linger.log"))?;
        let target = legacy(&proxy.address);
        workload::churn(&target, 20).await?;
        let before = proxy.cost()?;
        workload::churn(&target, wave).await?;
        let lingering = proxy.cost()?;
        let open = client::counts(&stub.address).await?.open;
        let rss = per(usize::try_from(lingering.rss.saturating_sub(before.rss))?, 1 << 10) / per(open, 1);
        let descriptors = per(lingering.descriptors.saturating_sub(before.descriptors), 1) / per(open, 1);
        let name = format!("{wave} cycles, {open} sessions lingering");
        for (unit, figure) in [("KiB RSS / session", rss), ("descriptors / session", descriptors)] {
            rows.push(Row::of_proxy(name.clone(), unit, figure));
        }
        // malloc needs two of them to have what it keeps.
        workload::all_deleted(&stub.address, 20 + wave as u64).await?;
        workload::churn(&target, wave).await?;
        workload::all_deleted(&stub.address, 20 + 2 * wave as u64).await?;
        let first = held(&proxy, size).await?;
        workload::churn(&target, wave).await?;
        workload::all_deleted(&stub.address, 20 + 3 * wave as u64).await?;
        let last = held(&proxy, size).await?;
        let name = format!("{wave} cycles more, all over: RSS to that after the first two");
        rows.push(back_to(name, first, last)?);
        Ok(())
    }

    /// Sessions that do nothing, with their GET streams open upstream; and what a call costs beside them.
    async fn idle(&self, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
        for &count in &size.idle {
            let stub = Role::start("stub", LOAD_CORE, &["json"])?;
            let proxy = proxy(&stub, &self.folder.join("idle.log"))?;
            let target = legacy(&proxy.address);
            let mut busy = workload::open(&target, 64).await?;
            workload::concurrent(&mut busy, size.calls / 4, "").await?;
            let alone = echo_cost(&proxy, &mut busy, size).await?;
            let before = held(&proxy, size).await?;
            let idle = workload::open_idle(&target, count).await?;
            workload::all_listening(&stub.address, 64 + count as u64).await?;
            let after = held(&proxy, size).await?;
            let rss = per(usize::try_from(after.rss.saturating_sub(before.rss))?, 1 << 10) / per(count, 1);
            // The design's budget is for 5,000 and more; with few of them, what does not go with their number counts.
            let limit = if count < 5_000 { 50.0 } else { 40.0 };
            let budget = Budget { text: format!("at most {limit}"), value: rss, limit, at_least: false };
            let name = format!("{count} idle sessions");
            rows.push(Row::of_proxy(name.clone(), "KiB RSS / session", rss).with(Some(budget)));
            let descriptors = per(after.descriptors.saturating_sub(before.descriptors), 1) / per(count, 1);
            let budget = Budget { text: "at most 2".to_owned(), value: descriptors, limit: 2.02, at_least: false };
            rows.push(Row::of_proxy(name.clone(), "descriptors / session", descriptors).with(Some(budget)));
            let beside = echo_cost(&proxy, &mut busy, size).await?;
            let budget = Budget {
                text: "at most 1.3 × that without them".to_owned(),
                value: beside / alone,
                limit: 1.3,
                at_least: false,
            };
            let name = format!("echo beside {name}");
            rows.push(Row::of_proxy(name, "CPU s / 10,000 calls", beside).with(Some(budget)));
            drop(idle);
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn proxy(stub: &Role, log: &std::path::Path) -> Result<Role> {
    proxy_with(stub, log, &[])
}

/// The proxy with its default options but for the limit of sessions, and `options`.
pub(crate) fn proxy_with(stub: &Role, log: &std::path::Path, options: &[&str]) -> Result<Role> {
    let words = proxy_words(stub, log, options);
    Role::start("proxy", MEASURED_CORE, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the proxy is started with.
pub(crate) fn proxy_words(stub: &Role, log: &std::path::Path, options: &[&str]) -> Vec<String> {
    let (upstream, log) = (format!("http://{}/mcp", stub.address), log.display().to_string());
    let own = ["--upstream", &upstream, "--traffic-log", &log, "--max-sessions", "20000", "--max-connections", "20000"];
    // Where the upstream is killed the proxy says so for every session.
    let level = if options.contains(&"--log-level") { &[][..] } else { &["--log-level", "warn"] };
    [&own, level, options].concat().into_iter().map(str::to_owned).collect()
}

/// What a process holds that has nothing to do, once connections that were kept for the next call are closed.
async fn held(proxy: &Role, size: &Size) -> Result<Cost> {
    tokio::time::sleep(POOLS_EMPTY).await;
    let mut held = proxy.cost()?;
    let end = tokio::time::Instant::now() + size.looks;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        held = [held, proxy.cost()?].into_iter().min_by_key(|cost| cost.rss).unwrap_or(held);
    }
    Ok(held)
}

/// CPU seconds of 10,000 calls, the median of the rounds.
async fn echo_cost(proxy: &Role, busy: &mut [Client], size: &Size) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..size.rounds {
        let start = proxy.cost()?.cpu_s;
        workload::concurrent(busy, size.calls, "").await?;
        rounds.push((proxy.cost()?.cpu_s - start) / per(size.calls, 10_000));
    }
    Ok(median(rounds))
}

/// The row that says whether what was taken `first` is what is taken at `last`.
fn back_to(name: String, first: Cost, last: Cost) -> Result<Row> {
    ensure!(last.descriptors <= first.descriptors + 4, "descriptors stay behind: {}", last.descriptors);
    let growth = per(usize::try_from(last.rss)?, 1) / per(usize::try_from(first.rss)?, 1);
    let budget = Budget { text: "within 10 %".to_owned(), value: growth, limit: 1.1, at_least: false };
    Ok(Row::of_proxy(name, "ratio", growth).with(Some(budget)))
}

/// The same figure of several rounds, for each column.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    pub(crate) fn add(&mut self, column: &'static str, figure: f64) {
        self.0.entry(column).or_default().push(figure);
    }

    pub(crate) fn medians(self) -> BTreeMap<&'static str, f64> {
        self.0.into_iter().map(|(column, figures)| (column, median(figures))).collect()
    }
}

/// The proxy's figure to the hyper relay's.
fn ratio(values: &BTreeMap<&'static str, f64>, limit: f64, at_least: bool) -> Option<Budget> {
    let value = values.get("proxy")? / values.get("hyper relay")?;
    let text = format!("at {} {limit} × hyper relay", if at_least { "least" } else { "most" });
    Some(Budget { text, value, limit, at_least })
}

#[allow(clippy::cast_precision_loss, reason = "counts and sizes here are far below what a double holds exactly")]
pub(crate) fn per(amount: usize, unit: usize) -> f64 {
    amount as f64 / unit as f64
}
