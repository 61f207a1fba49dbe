//! The clients whose users are to see what the switch-off looks like, each run as a program of its own (rmcp in a thread).
//!
//! Promise: what a client says arrives line by line, and its end is told to its gate. It is killed on drop.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::gate::{DEADLINE, Exchange, Gate};
use super::rmcp;
use crate::clients::Turn;
use crate::packages::{fixtures, node, python};

/// A legacy client in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Legacy {
    TypeScript(&'static str),
    /// mcp-remote, told to speak SSE only, behind the stdio client of the TypeScript SDK 1.32.2.
    Remote,
    Python(&'static str),
    Rmcp,
}

/// All of them, in the order of the table's rows.
pub(super) const LEGACY: [Legacy; 8] = [
    Legacy::TypeScript("1.8.0"),
    Legacy::TypeScript("1.13.3"),
    Legacy::TypeScript("1.32.2"),
    Legacy::Remote,
    Legacy::Python("1.12.4"),
    Legacy::Python("1.20.0"),
    Legacy::Python("1.30.0"),
    Legacy::Rmcp,
];

/// A client that speaks both transports and was given the legacy URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dual {
    /// The TypeScript SDK's own example (`streamableHttpWithSseFallbackClient`).
    Example,
    /// What VS Code does.
    VsCode,
    /// mcp-remote as it is by default.
    Remote,
}

/// All of them.
pub(super) const DUAL: [Dual; 3] = [Dual::Example, Dual::VsCode, Dual::Remote];

impl Legacy {
    /// Its SDK or program.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Legacy::TypeScript(_) => "TypeScript SDK",
            Legacy::Remote => "mcp-remote (SSE only)",
            Legacy::Python(_) => "Python SDK",
            Legacy::Rmcp => "rmcp",
        }
    }

    pub(super) fn version(self) -> &'static str {
        match self {
            Legacy::TypeScript(version) | Legacy::Python(version) => version,
            Legacy::Remote => "0.15.1",
            Legacy::Rmcp => "0.8.5",
        }
    }

    /// As it names itself.
    pub(super) fn name(self, who: &str) -> String {
        format!("{who} {} {}", self.kind(), self.version())
    }

    /// Whether it opens another stream by itself when its own has ended.
    pub(super) fn reconnects(self) -> bool {
        matches!(self, Legacy::TypeScript(_) | Legacy::Remote)
    }

    /// The last number of its address.
    fn address(self) -> u8 {
        let place = LEGACY.iter().position(|known| *known == self).expect("one of the list");
        u8::try_from(place).expect("a short list") + 1
    }

    fn command(self) -> Option<Command> {
        let mut command = match self {
            Legacy::Rmcp => return None,
            Legacy::TypeScript(version) => script("clients/sunset.mjs", version),
            Legacy::Remote => script("clients/sunset.mjs", "mcp-remote-sse"),
            Legacy::Python(version) => {
                let mut command = Command::new(python(version));
                command.arg("-B").arg(fixtures().join("clients/sunset.py"));
                command
            }
        };
        command.env("INTEROP_PACKAGES", node());
        Some(command)
    }
}

fn script(path: &str, kind: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(fixtures().join(path)).arg(kind).env("INTEROP_PACKAGES", node());
    command
}

/// What the client's user is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// What came.
    Works(Value),
    Error {
        text: String,
        /// What is shown where the exception is printed as it comes; empty where that is the text.
        as_printed: String,
        /// What mcp-remote printed.
        stderr: String,
    },
}

impl Said {
    fn new(line: &Value) -> Self {
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match line["error"].as_str() {
            Some(text) => Said::Error { text: text.to_owned(), as_printed: word("shown"), stderr: word("stderr") },
            None => Said::Works(line["works"].clone()),
        }
    }

    /// What came; panics where it was an error.
    pub(super) fn works(&self) -> &Value {
        match self {
            Said::Works(works) => works,
            Said::Error { text, .. } => panic!("an error: {text}"),
        }
    }

    /// The text of the error; empty where there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Said::Works(_) => "",
            Said::Error { text, .. } => text,
        }
    }
}

/// A client that runs.
pub(super) struct Running {
    pub(super) gate: Gate,
    lines: Receiver<Value>,
    again: Again,
}

/// How it is told to call again.
enum Again {
    Process(Child, Option<ChildStdin>),
    Thread(tokio::sync::mpsc::Sender<()>),
}

impl Running {
    /// Starts `client` under the name that `who` gives it.
    pub(super) fn start(client: Legacy, who: &str, manner: &'static str, proxy: SocketAddr) -> Self {
        // Newcomers come from elsewhere.
        let elsewhere = if who == KNOWN { 0 } else { 100 };
        let gate = Gate::open(proxy, client.address() + elsewhere);
        let name = client.name(who);
        let Some(mut command) = client.command() else {
            let (lines, again) = rmcp::start(gate.sse_url(), name, manner, gate.end());
            return Running { gate, lines, again: Again::Thread(again) };
        };
        command.args([manner, &gate.sse_url(), &name]);
        Self::process(command, gate)
    }

    fn process(mut command: Command, gate: Gate) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        let end = gate.end();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("a line of JSON");
                if sender.send(line).is_err() {
                    break;
                }
            }
            end();
        });
        Running { gate, lines, again: Again::Process(child, Some(stdin)) }
    }

    /// What it says next.
    pub(super) fn next(&self) -> Said {
        Said::new(&self.line())
    }

    fn line(&self) -> Value {
        let line = self.lines.recv_timeout(DEADLINE);
        line.unwrap_or_else(|error| panic!("the client says nothing ({error}): {:#?}", self.gate.exchanges()))
    }

    /// Has it call once more.
    pub(super) fn again(&mut self) {
        match &mut self.again {
            Again::Process(_, stdin) => {
                let stdin = stdin.as_mut().expect("it was not told to leave");
                stdin.write_all(b"again\n").expect("a client that listens");
            }
            Again::Thread(again) => again.blocking_send(()).expect("a client that listens"),
        }
    }

    /// Has it leave, and waits until it has; how many streams it asked for.
    pub(super) fn leave(mut self) -> usize {
        match &mut self.again {
            Again::Process(_, stdin) => drop(stdin.take()),
            Again::Thread(again) => *again = tokio::sync::mpsc::channel(1).0,
        }
        assert!(self.gate.wait(|_, _| false), "it ends");
        self.gate.streams()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Again::Process(child, _) = &mut self.again {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Who was there before anything was switched off.
pub(super) const KNOWN: &str = "known";

/// What came of a client that connects, does what there is to do and leaves.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) client: Legacy,
    pub(super) said: Said,
    pub(super) exchanges: Vec<Exchange>,
    /// Whether it still opens streams, one after another, when it has said that it cannot.
    pub(super) tries_on: bool,
}

impl Visit {
    /// One client's, under the name that `who` gives it.
    pub(super) fn pay(client: Legacy, who: &str, proxy: SocketAddr) -> Self {
        let _turn = Turn::take();
        Waiting::start(client, who, proxy).end()
    }
}

/// A visit that is not over.
pub(super) struct Waiting {
    client: Legacy,
    running: Running,
}

impl Waiting {
    fn start(client: Legacy, who: &str, proxy: SocketAddr) -> Self {
        Waiting { client, running: Running::start(client, who, "visit", proxy) }
    }

    /// One of a client that goes on waiting when it was answered.
    pub(super) fn answered(client: Legacy, who: &str, proxy: SocketAddr) -> Self {
        let waiting = Self::start(client, who, proxy);
        let is_over = waiting.running.gate.wait(|seen, _| seen.iter().any(Exchange::is_message_taken));
        assert!(!is_over, "{client:?} takes the answer for none");
        waiting
    }

    /// Waits for the client's word, and for its end.
    pub(super) fn end(self) -> Visit {
        /// More streams than a client opens that does not try again and again.
        const MANY: usize = 4;
        let said = self.running.next();
        // Its standard input stays open: nobody tells it to leave.
        let is_over = self.running.gate.wait(|_, streams| streams >= MANY);
        Visit { client: self.client, said, exchanges: self.running.gate.exchanges(), tries_on: !is_over }
    }
}

/// What came of a client that speaks both transports.
#[derive(Debug)]
pub(super) struct DualVisit {
    pub(super) client: Dual,
    pub(super) line: Value,
    pub(super) exchanges: Vec<Exchange>,
}

impl DualVisit {
    pub(super) fn pay(client: Dual, proxy: SocketAddr) -> Self {
        let _turn = Turn::take();
        let gate = Gate::open(proxy, 200);
        let mut command = match client {
            Dual::Example => script("clients/dual.mjs", "typescript"),
            Dual::VsCode => script("clients/dual.mjs", "vscode"),
            Dual::Remote => script("clients/sunset.mjs", "mcp-remote"),
        };
        let url = gate.sse_url();
        match client {
            Dual::Remote => command.args(["visit", &url, "dual mcp-remote"]),
            _ => command.arg(&url),
        };
        let running = Running::process(command, gate);
        let line = running.line();
        assert!(running.gate.wait(|_, _| false), "it ends");
        DualVisit { client, line, exchanges: running.gate.exchanges() }
    }
}
