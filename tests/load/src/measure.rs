//! What a process costs, read from `/proc`, and what a list of latencies says.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/PID/stat`: a constant of Linux's interface, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// What a process has cost so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// User and system time of all its threads, in seconds.
    pub(crate) cpu_s: f64,
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

/// Reads what `pid` has cost.
pub(crate) fn cost(pid: u32) -> Result<Cost> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name, in parentheses, may hold spaces; the fields after it do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).context("an odd /proc/PID/stat");
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let rss: u64 = rss.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(Cost {
        cpu_s: f64::from(ticks(11)? + ticks(12)?) / TICKS,
        rss: rss << 10,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
    })
}

/// Latencies of one run.
#[derive(Debug, Default)]
pub(crate) struct Latencies(pub(crate) Vec<Duration>);

impl Latencies {
    /// The latency below which `share` of all are, in milliseconds.
    pub(crate) fn percentile_ms(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (self.0.len().saturating_sub(1) as f64 * share).round() as usize;
        self.0.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// The middle one of several figures: what one disturbed round says does not count.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
