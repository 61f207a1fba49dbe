//! Installs and starts what the interop tests need: npm and Python packages, servers, the proxy, clients.
//!
//! Promise: nothing is left behind. Servers end when their standard input does, the proxy is told to stop and awaited,
//! and both are killed on drop. Ports are chosen by the kernel.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

/// How long a server or the proxy may take to accept connections. Generous: machines with two busy cores.
const START: Duration = Duration::from_secs(60);

/// Which client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    TypeScript,
    Python,
}

/// Which server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Everything,
    Python,
}

/// Over which transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    LegacySse,
    StreamableHttp,
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Client::TypeScript => "interop-ts",
            Client::Python => "interop-py",
        }
    }

    pub(crate) fn family(self) -> &'static str {
        match self {
            Client::TypeScript => "typescript-sdk",
            Client::Python => "python-sdk",
        }
    }
}

/// The folder of the fixtures.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// Where packages are installed: outside of the tree, kept between runs.
struct Packages {
    node: PathBuf,
    python: PathBuf,
}

/// Installs the pinned packages, once; a list that changed is installed anew.
fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
        let node = home.join("node");
        install(&node, &["package.json", "package-lock.json", ".npmrc"], |folder| {
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder));
        });
        let python = home.join("python");
        install(&python, &["requirements.txt"], |folder| {
            run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(folder));
            let pip = folder.join("venv/bin/pip");
            run(Command::new(pip).args(["install", "--quiet", "-r", "requirements.txt"]).current_dir(folder));
        });
        Packages { node, python: python.join("venv/bin/python") }
    })
}

/// Runs `installation` in `folder`, which holds copies of `lists`, unless the same lists were installed there before.
fn install(folder: &Path, lists: &[&str], installation: impl FnOnce(&Path)) {
    let read = |list: &&str| fs::read_to_string(fixtures().join(list)).expect("a list of packages");
    let wanted: String = lists.iter().map(read).collect();
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return;
    }
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("a folder for packages");
    for list in lists {
        fs::copy(fixtures().join(list), folder.join(list)).expect("a copy of a list");
    }
    installation(folder);
    fs::write(stamp, wanted).expect("a note of what was installed");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&text));
}

/// A real server on a free port.
pub(crate) struct Server {
    child: Child,
    base: String,
}

impl Server {
    pub(crate) fn start(kind: ServerKind, flavour: Flavour) -> Self {
        let mut command = match kind {
            ServerKind::Everything => {
                let mut command = Command::new("node");
                command.arg(fixtures().join("servers/everything.mjs"));
                command.arg(if flavour == Flavour::LegacySse { "sse" } else { "streamableHttp" });
                command
            }
            ServerKind::Python => {
                let mut command = Command::new(&packages().python);
                command.arg(fixtures().join("servers/python_server.py")).arg("--transport");
                command.arg(if flavour == Flavour::LegacySse { "sse" } else { "streamable-http" });
                command
            }
        };
        let mut child = command
            .env("INTEROP_PACKAGES", &packages().node)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        let stdout = child.stdout.take().expect("piped");
        let base = wait_for(stdout, |line| line.strip_prefix("LISTENING ").map(str::to_owned));
        Server { child, base }
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.base)
    }

    pub(crate) fn mcp_url(&self) -> String {
        format!("{}/mcp", self.base)
    }
}

impl Drop for Server {
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
    pub(crate) fn start(upstream: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("traffic.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
            .args(["serve", "--upstream", upstream, "--listen", "127.0.0.1:0", "--drain-delay", "0s"])
            .args(["--log-format", "json", "--traffic-log"])
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
fn wait_for(
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

/// Runs a whole conversation and gives the lines it printed.
pub(crate) fn converse(client: Client, sse_url: &str, kind: ServerKind) -> Vec<String> {
    let mut command = match client {
        Client::TypeScript => {
            let mut command = Command::new("node");
            command.arg(fixtures().join("clients/conversation.mjs"));
            command
        }
        Client::Python => {
            let mut command = Command::new(&packages().python);
            command.arg(fixtures().join("clients/conversation.py"));
            command
        }
    };
    let profile = match kind {
        ServerKind::Everything => "everything",
        ServerKind::Python => "python",
    };
    command.args([sse_url, profile]).env("INTEROP_PACKAGES", &packages().node);
    let output = command.stdin(Stdio::null()).output().expect("a client");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?} ended with {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("utf-8").lines().map(str::to_owned).collect()
}
