//! The proxy next to others that do its job, in the same run, with the same load and the same eyes on every answer.
//!
//! Why on time: they are slower by orders of magnitude, so each makes as many calls as it can in a few seconds. What one of them
//! cannot do is a fact in its column, not the end of the run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::counts;
use crate::others::{Installed, Other, last_words};
use crate::plan::{Figures, LOAD_CORE, POOLS_EMPTY, Size, legacy, per, proxy};
use crate::roles::Role;
use crate::table::Row;
use crate::workload;

/// How long each makes calls, in each round and load.
const LIMIT: Duration = Duration::from_secs(4);
/// Sessions that call at once: the most that somebody can do.
const SESSIONS: [usize; 4] = [64, 16, 4, 1];

/// The proxy, or one of the others.
type Middle = Option<Other>;

const MIDDLES: [Middle; 3] = [None, Some(Other::FastMcp), Some(Other::McpProxy)];

/// Everything that runs.
struct Stage<'a> {
    folder: &'a Path,
    installed: Installed,
    stub: Role,
}

/// A row as it comes about.
struct Findings {
    name: String,
    unit: &'static str,
    figures: Figures,
    facts: BTreeMap<&'static str, String>,
    /// With how many sessions it is worth trying, where that was found to be fewer than the most.
    able: BTreeMap<&'static str, usize>,
}

/// All rows, or none where the others cannot be installed.
pub(crate) async fn measure(folder: &Path, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
    let Some(idle) = size.alternatives_idle else { return Ok(()) };
    let installed = match Installed::find() {
        Ok(installed) => installed,
        Err(error) => {
            eprintln!("the alternatives cannot be installed, their rows are left out: {error:#}");
            return Ok(());
        }
    };
    let stage = Stage { folder, installed, stub: Role::start("stub", LOAD_CORE, &["json"])? };
    let name = format!("echo, {} sessions, JSON replies", SESSIONS[0]);
    let mut echo = ["CPU s / 10,000 calls", "calls/s"].map(|unit| Findings::new(&name, unit));
    let mut sequential = ["sequential, p50", "sequential, p99"].map(|name| Findings::new(name, "ms"));
    for _ in 0..size.rounds {
        for middle in MIDDLES {
            stage.echo(middle, size.calls, &mut echo).await?;
            stage.once(&mut sequential, middle, async || stage.latencies(middle, size.sequential_calls).await).await?;
        }
    }
    let name = format!("{idle} idle sessions");
    let mut of_idle = [
        Findings::new("started, nobody there", "MiB RSS"),
        Findings::new(&name, "KiB RSS / session"),
        Findings::new(&name, "descriptors / session"),
        Findings::new(&name, "GET streams upstream / session"),
    ];
    for middle in MIDDLES {
        stage.once(&mut of_idle, middle, async || stage.idle(middle, idle).await).await?;
    }
    rows.extend(echo.into_iter().chain(sequential).chain(of_idle).map(Findings::row));
    Ok(())
}

impl Stage<'_> {
    fn start(&self, middle: Middle) -> Result<Role> {
        match middle {
            None => proxy(&self.stub, &self.folder.join("alternatives.log")),
            Some(other) => self.installed.start(other, &self.stub.address, &self.folder.join("said")),
        }
    }

    /// With as many sessions as it can.
    async fn echo(&self, middle: Middle, most: usize, echo: &mut [Findings]) -> Result<()> {
        let able = echo.first().and_then(|findings| findings.able.get(column(middle))).copied().unwrap_or(SESSIONS[0]);
        for sessions in SESSIONS.into_iter().filter(|sessions| *sessions <= able) {
            match self.calls(middle, sessions, most).await {
                Ok(figures) => {
                    add(echo, middle, &figures);
                    return Ok(());
                }
                Err(error) => {
                    let fault = self.fault(middle, &error)?;
                    let fewer = SESSIONS.into_iter().find(|fewer| *fewer < sessions).unwrap_or(0);
                    for findings in &mut *echo {
                        let fact =
                            if fewer == 0 { "fails".to_owned() } else { format!("with {fewer}; with more it fails") };
                        findings.facts.insert(column(middle), format!("{fact}: {fault}"));
                        findings.able.insert(column(middle), fewer);
                    }
                }
            }
        }
        Ok(())
    }

    /// CPU seconds for 10,000 calls, and calls a second.
    async fn calls(&self, middle: Middle, sessions: usize, most: usize) -> Result<[f64; 2]> {
        let role = self.start(middle)?;
        let mut clients = workload::open(&legacy(&role.address), sessions).await?;
        // What is loaded with the first calls does not count.
        workload::within(&mut clients, sessions, "", LIMIT).await?;
        let before = role.cost()?.cpu_s;
        let (made, took) = workload::within(&mut clients, most, "", LIMIT).await?;
        let cpu = (role.cost()?.cpu_s - before) / per(made, 10_000);
        Ok([cpu, per(made, 1) / took.as_secs_f64()])
    }

    /// The percentiles 50 and 99, in milliseconds.
    async fn latencies(&self, middle: Middle, most: usize) -> Result<[f64; 2]> {
        let role = self.start(middle)?;
        let mut latencies = workload::sequential(&legacy(&role.address), most, LIMIT).await?;
        Ok([latencies.percentile_ms(0.5), latencies.percentile_ms(0.99)])
    }

    /// What it takes to be there, in MiB; and what a session takes that does nothing: memory in KiB, descriptors, and a GET
    /// stream upstream if it opens one.
    async fn idle(&self, middle: Middle, count: usize) -> Result<[f64; 4]> {
        let role = self.start(middle)?;
        let started = role.cost()?;
        let mut warm = workload::open(&legacy(&role.address), 1).await?;
        workload::within(&mut warm, 100, "", LIMIT).await?;
        let (before, streams) = (role.cost()?, counts(&self.stub.address).await?.listening);
        let idle = workload::open_idle(&legacy(&role.address), count).await?;
        tokio::time::sleep(POOLS_EMPTY).await;
        let (after, listening) = (role.cost()?, counts(&self.stub.address).await?.listening);
        drop((idle, warm));
        Ok([
            per(usize::try_from(started.rss)?, 1 << 20),
            per(usize::try_from(after.rss.saturating_sub(before.rss))?, 1 << 10) / per(count, 1),
            per(after.descriptors.saturating_sub(before.descriptors), 1) / per(count, 1),
            per(listening.saturating_sub(streams), 1) / per(count, 1),
        ])
    }

    /// Enters what `measurement` gives, unless it went wrong before.
    async fn once<const N: usize>(
        &self,
        findings: &mut [Findings; N],
        middle: Middle,
        measurement: impl AsyncFnOnce() -> Result<[f64; N]>,
    ) -> Result<()> {
        if findings.iter().any(|findings| findings.facts.contains_key(column(middle))) {
            return Ok(());
        }
        match measurement().await {
            Ok(figures) => add(findings, middle, &figures),
            Err(error) => {
                let fault = self.fault(middle, &error)?;
                for findings in findings {
                    findings.facts.insert(column(middle), format!("fails: {fault}"));
                }
            }
        }
        Ok(())
    }

    /// What went wrong, in a few words; if it was the proxy, the run ends.
    fn fault(&self, middle: Middle, error: &anyhow::Error) -> Result<String> {
        ensure!(middle.is_some(), "the proxy: {error:#}");
        let text = format!("{error:#} (it said: {})", last_words(&self.folder.join("said")));
        Ok(text.chars().filter(|character| *character != '|').take(200).collect())
    }
}

impl Findings {
    fn new(name: &str, unit: &'static str) -> Self {
        Findings {
            name: name.to_owned(),
            unit,
            figures: Figures::default(),
            facts: BTreeMap::new(),
            able: BTreeMap::new(),
        }
    }

    fn row(self) -> Row {
        Row { facts: self.facts, ..Row::new(self.name, self.unit, self.figures.medians()) }
    }
}

fn column(middle: Middle) -> &'static str {
    middle.map_or("proxy", Other::column)
}

fn add(findings: &mut [Findings], middle: Middle, figures: &[f64]) {
    for (findings, figure) in findings.iter_mut().zip(figures) {
        findings.figures.add(column(middle), *figure);
    }
}
