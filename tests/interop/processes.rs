//! Running programs: servers, and the proxy itself as its users have it.
//!
//! Promise: nothing is left behind. Servers end when their standard input does, the proxy is told to stop and awaited,
//! and both are killed on drop. Ports are chosen by the kernel.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
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
    _folder: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn start(upstream: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("traffic.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
            .args(["serve", "--upstream", upstream, "--listen", "127.0.0.1:0", "--drain-delay", "0s"])
            .args(options)
            .args(["--admin", "off", "--log-format", "json", "--traffic-log"])
            .arg(&log)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let stderr = child.stderr.take().expect("piped");
        let address = wait_for(stderr, |line| {
            let said: Value = serde_json::from_str(line).ok()?;
            said["listen"].as_str().map(str::to_owned)
        });
        Proxy { child, base: format!("http://{address}"), log, _folder: folder }
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.base)
    }

    /// Stops it in order and gives its log.
    pub(crate) fn stop(mut self) -> Vec<Value> {
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

/// The first line that `find` takes something from; the rest of the output is read and dropped, so that nobody blocks.
pub(crate) fn wait_for(
    output: impl std::io::Read + Send + 'static,
    find: impl Fn(&str) -> Option<String> + Send + 'static,
) -> String {
    let (found, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let Some(value) = find(line.trim_end()) {
                let _ = found.send(value);
                break;
            }
            line.clear();
        }
        let _ = reader.read_to_end(&mut Vec::new());
    });
    first.recv_timeout(START).expect("the process says in time that it accepts connections")
}
