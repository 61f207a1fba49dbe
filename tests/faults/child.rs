//! A process of the test's own, ended with the test whatever becomes of it.
//!
//! Promise: no process is left behind, and when the test fails, what the process said last is shown.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::packages::run;
use crate::wait;

/// How much of what a process said is shown when a test fails, in lines.
const LAST_LINES: usize = 30;

/// A running program; killed on drop.
pub(crate) struct Child {
    name: &'static str,
    process: Process,
    /// For its files.
    folder: TempDir,
}

impl Child {
    /// Starts `command` in a folder of its own, with pipes for its standard input and output.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), name, command)
    }

    /// The same in a folder that was prepared for it.
    pub(crate) fn start_in(folder: TempDir, name: &'static str, command: &mut Command) -> Self {
        let said = File::create(folder.path().join("stderr")).expect("a file");
        command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
        let process = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Child { name, process, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.process.stdin.take().expect("taken once")
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.process.stdout.take().expect("taken once")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it said on standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder().join("stderr")).expect("a file")
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`, …
    pub(crate) fn signal(&self, name: &str) {
        run(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]));
    }

    /// `kill -9`, and awaits the end.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it could be killed");
        self.process.wait().expect("an end");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a look").is_some()
    }

    /// Awaits the end.
    pub(crate) fn ended(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name;
        wait::find(&format!("the end of the {name}"), limit, || self.process.try_wait().expect("a look"))
    }

    /// A figure of `/proc/PID/status`, in KiB where it has a unit.
    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a known key");
        line.trim_start_matches(':').split_whitespace().next().and_then(|figure| figure.parse().ok()).expect("a figure")
    }

    /// Memory it uses, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.status("VmRSS")
    }

    /// Descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Processor time it has used, in the kernel's ticks of 10 ms.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
        // Fields 14 and 15 of proc(5), counted from behind the name.
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a figure")).sum()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.len().saturating_sub(LAST_LINES);
            eprintln!("--- the {} said last:\n{}", self.name, lines[last..].join("\n"));
        }
    }
}
