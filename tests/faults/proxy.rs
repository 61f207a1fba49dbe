//! The real binary, as its users have it: started with any options, on any address, stopped and killed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use crate::child::Child;
use crate::wait::{self, seconds};

/// How long the proxy may take to accept connections. Generous: machines with two busy cores.
const START: Duration = seconds(30);

/// How to start the binary.
pub(crate) struct Launch<'a> {
    pub(crate) upstream: &'a str,
    pub(crate) listen: SocketAddr,
    /// More words of its command line.
    pub(crate) options: &'a [&'a str],
    /// How many descriptors it may have, if that is to be few.
    pub(crate) descriptors: Option<u32>,
}

/// The binary while it runs.
pub(crate) struct Proxy {
    pub(crate) child: Child,
    base: String,
    /// Where operators ask, if anywhere: `http://HOST:PORT`.
    admin: Option<String>,
}

impl Proxy {
    /// On a port that the kernel chooses.
    pub(crate) fn start(upstream: &str, options: &[&str]) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        Self::launch(&Launch { upstream, listen, options, descriptors: None })
    }

    /// On an address of the test's choice.
    pub(crate) fn start_on(listen: SocketAddr, upstream: &str, options: &[&str]) -> Self {
        Self::launch(&Launch { upstream, listen, options, descriptors: None })
    }

    pub(crate) fn launch(launch: &Launch<'_>) -> Self {
        let program = env!("CARGO_BIN_EXE_sse-sunset");
        let mut command = match launch.descriptors {
            None => Command::new(program),
            Some(descriptors) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={descriptors}")).arg(program);
                command
            }
        };
        command.args(["serve", "--upstream", launch.upstream, "--listen", &launch.listen.to_string()]);
        command.args(["--admin", "off", "--traffic-log", "traffic.log"]).args(launch.options);
        Self::run(command)
    }

    /// By any command that serves, but for the form of its log.
    pub(crate) fn run(mut command: Command) -> Self {
        let child = Child::start("proxy", command.args(["--log-format", "json"]));
        let started = wait::find("the proxy accepts connections", START, || {
            let said = child.said();
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["listen"].is_string())
        });
        let base = format!("http://{}", started["listen"].as_str().expect("an address"));
        Proxy { child, base, admin: started["admin"].as_str().map(str::to_owned) }
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.base)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().expect("an address")
    }

    /// Where operators ask: `http://HOST:PORT`.
    pub(crate) fn admin(&self) -> &str {
        self.admin.as_deref().expect("one that has it")
    }

    /// SIGTERM, and awaits the end.
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.child.signal("TERM");
        self.child.ended(limit)
    }

    /// The records of the traffic log named `event`, as far as they are written.
    pub(crate) fn records(&self, event: &str) -> Vec<Value> {
        records(&self.child.folder().join("traffic.log"), event)
    }

    /// The `session.end.reason` of every session that ended.
    pub(crate) fn ends(&self) -> Vec<String> {
        let ends = self.records("legacy.end");
        ends.iter().map(|end| end["session.end.reason"].as_str().expect("a reason").to_owned()).collect()
    }
}

/// The records named `event` of a traffic log, as far as they are written.
pub(crate) fn records(log: &Path, event: &str) -> Vec<Value> {
    let log = fs::read_to_string(log).unwrap_or_default();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let records = whole.lines().map(|line| serde_json::from_str(line).expect("a record"));
    records.filter(|record: &Value| record["event.name"] == event).collect()
}
