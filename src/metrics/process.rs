//! What the kernel says of this process, under the names that Prometheus' own client libraries use.
//!
//! Read from `/proc` when someone asks; what cannot be read is left out.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, which is 100 wherever Rust runs on Linux.
const TICKS: f64 = 100.0;

/// The process, as far as it knows itself.
#[derive(Debug)]
pub(super) struct Process {
    /// When it started, in seconds since 1970.
    started: f64,
}

/// Writes one number, if it is known.
fn write<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: Option<M>,
) -> Result<(), fmt::Error> {
    let Some(metric) = metric else { return Ok(()) };
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

impl Process {
    /// A registry that holds this process, which starts now.
    pub(super) fn registry() -> Registry {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process { started }));
        registry
    }
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        let started = Some(ConstGauge::new(self.started));
        write(&mut to, "process_start_time", "Unix time at which the process started.", Some(&Unit::Seconds), started)?;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let cpu = cpu_seconds(&stat).map(ConstCounter::new);
        write(&mut to, "process_cpu", "User and system CPU time of the process.", Some(&Unit::Seconds), cpu)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = kibibytes(&status, "VmRSS:").map(ConstGauge::new);
        write(&mut to, "process_resident_memory", "Memory of the process in RAM.", Some(&Unit::Bytes), resident)?;
        let virtual_memory = kibibytes(&status, "VmSize:").map(ConstGauge::new);
        write(&mut to, "process_virtual_memory", "Address space of the process.", Some(&Unit::Bytes), virtual_memory)?;
        // One of them is the folder that is being read.
        let open = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| ConstGauge::new((entries.count() as u64).saturating_sub(1)));
        write(&mut to, "process_open_fds", "Descriptors that the process has open.", None, open)?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let most = max_open_files(&limits).map(ConstGauge::new);
        write(&mut to, "process_max_fds", "Descriptors that the process may have open.", None, most)
    }
}

/// User and system time; the name of the program before them may hold anything, so they are counted from its end.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(f64::from(ticks) / TICKS)
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit; one that is unlimited is none.
fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_tables_are_read() {
        let stat = "7 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 12 13 14";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12288));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(max_open_files(limits), Some(1024));
        assert_eq!((cpu_seconds(""), kibibytes("", "VmRSS:"), max_open_files("")), (None, None, None));
    }
}
