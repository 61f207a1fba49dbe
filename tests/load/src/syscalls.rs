//! How many system calls a process makes, counted by `perf stat`.
//!
//! Why not `strace`: it stops the process at every call, and a process that is slow finds more to do at each wake-up, so that
//! fewer calls are counted than are made.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

const EVENT: &str = "raw_syscalls:sys_enter";

/// Counts as long as it lives.
#[derive(Debug)]
pub(crate) struct Counter {
    perf: Child,
}

/// Whether there is a `perf` that may count; else why not.
pub(crate) fn may_count() -> Result<()> {
    let asked = perf().arg("true").output().context("perf is missing (Debian's package linux-perf has it)")?;
    let said = String::from_utf8_lossy(&asked.stderr);
    ensure!(counted(&said).is_some(), "perf may not count system calls: {said}");
    Ok(())
}

impl Counter {
    /// Begins to count the system calls of a process, in all its threads.
    pub(crate) fn attach(pid: u32) -> Result<Counter> {
        let mut command = perf();
        // Waits to be told, and says when it has begun.
        command.args(["--delay", "-1", "--control", "fd:0,1", "--pid", &pid.to_string()]);
        let perf = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut counter = Counter { perf };
        counter.tell("enable\n")?;
        Ok(counter)
    }

    /// How many there were.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.tell("disable\n")?;
        let pid = rustix::process::Pid::from_child(&self.perf);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let mut said = String::new();
        let output = self.perf.stderr.take().context("piped")?;
        std::io::Read::read_to_string(&mut BufReader::new(output), &mut said)?;
        counted(&said).with_context(|| format!("no count: {said}"))
    }

    fn tell(&mut self, order: &str) -> Result<()> {
        self.perf.stdin.as_mut().context("piped")?.write_all(order.as_bytes())?;
        let mut said = String::new();
        BufReader::new(self.perf.stdout.as_mut().context("piped")?).read_line(&mut said)?;
        // Some versions put a zero byte behind the line, which is then before the next.
        ensure!(said.trim_matches('\0').trim() == "ack", "perf does not count");
        Ok(())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

fn perf() -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "--field-separator", ",", "--event", EVENT]);
    command
}

/// The count in what `perf stat` says.
fn counted(said: &str) -> Option<u64> {
    said.lines().find(|line| line.contains(EVENT))?.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_between_remarks() {
        let said = "Events disabled\nEvents enabled\n20123,,raw_syscalls:sys_enter,31415926,100.00,,\n";
        assert_eq!(counted(said), Some(20_123));
        assert_eq!(counted("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"), None);
        assert_eq!(counted("Access to performance monitoring is limited.\n"), None);
    }
}
