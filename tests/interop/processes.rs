//! Running programs: servers, and the proxy itself as its users have it.
//!
//! Promise: nothing is left behind. Servers end when their standard input does, the proxy is told to stop and awaited,
//! and both are killed on drop. Ports are chosen by the kernel.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::packages::{node, run};

/// How long a server or the proxy may take to accept connections. Generous: machines with two busy cores.
const START: Duration = Duration::from_secs(60);

/// A real server on a free port, in a process of its own.
pub(crate) struct ServerProcess {
    child: Child,
    /// `http://HOST:PORT`
    pub(crate) base: String,
}

impl ServerProcess {
    /// Starts `command` and waits until it says `LISTENING http://HOST:PORT`.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .env("INTEROP_PACKAGES", node())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        let stdout = child.stdout.take().expect("piped");
        let base = wait_for(stdout, |line| line.strip_prefix("LISTENING ").map(str::to_owned));
        ServerProcess { child, base }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real binary.
pub(crate) struct Proxy {
    child: Child,
    base: String,
    log: PathBuf,
    /// What it said on stderr so far.
    said: Arc<Mutex<Vec<u8>>>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn start(upstream: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("traffic.log");
        let without_admin: &[&str] = if options.contains(&"--admin") { &[] } else { &["--admin", "off"] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
            .args(["serve", "--upstream", upstream, "--listen", "127.0.0.1:0", "--drain-delay", "0s"])
            .args(options)
            .args(without_admin)
            .args(["--log-format", "json", "--traffic-log"])
            .arg(&log)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let stderr = child.stderr.take().expect("piped");
        let said = Arc::new(Mutex::new(Vec::new()));
        let address = wait_and_keep(stderr, Arc::clone(&said), |line| {
            let said: Value = serde_json::from_str(line).ok()?;
            said["listen"].as_str().map(str::to_owned)
        });
        Proxy { child, base: format!("http://{address}"), log, said, _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().expect("an address")
    }

    /// What it said on stderr until this is asked, be it after its end.
    pub(crate) fn said_so_far(&self) -> impl Fn() -> String + use<> {
        let said = Arc::clone(&self.said);
        move || String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.base)
    }

    /// Where operators find it; it was started with `--admin`.
    pub(crate) fn admin(&self) -> String {
        let said = self.said_so_far()();
        let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find_map(|line| line["admin"].as_str().map(str::to_owned)).expect("an admin address")
    }

    /// Stops it in order and gives its log.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.end()
    }

    /// The same, with what `report` makes of the log.
    pub(crate) fn stop_and_report(mut self) -> (Vec<Value>, Value) {
        let log = self.end();
        let mut report = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        // The exit code is the verdict, which stands in the report too.
        let output = report.arg("report").arg(&self.log).args(["--format", "json"]).output().expect("the binary");
        (log, serde_json::from_slice(&output.stdout).expect("a report in JSON"))
    }

    fn end(&mut self) -> Vec<Value> {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let status = self.child.wait().expect("an end");
        assert!(status.success(), "the proxy ended with {status}");
        let log = fs::read_to_string(&self.log).expect("a log");
        log.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that `find` takes something from; the rest of the output is read too, so that nobody blocks.
pub(crate) fn wait_for(
    output: impl std::io::Read + Send + 'static,
    find: impl Fn(&str) -> Option<String> + Send + 'static,
) -> String {
    wait_and_keep(output, Arc::default(), find)
}

/// The same; what is read goes to `kept`.
fn wait_and_keep(
    output: impl std::io::Read + Send + 'static,
    kept: Arc<Mutex<Vec<u8>>>,
    find: impl Fn(&str) -> Option<String> + Send + 'static,
) -> String {
    let (found, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        let mut find = Some(find);
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&line);
            if let Some(value) = find.as_ref().and_then(|find| find(String::from_utf8_lossy(&line).trim_end())) {
                let _ = found.send(value);
                find = None;
            }
            line.clear();
        }
    });
    first.recv_timeout(START).expect("the process says in time that it accepts connections")
}
