//! A real upgraded server that can be killed, stopped and started again, and what it did.
//!
//! It listens on the same port in all its lives. What it did is in its journal, which outlives `kill -9`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use tempfile::TempDir;

use crate::child::Child;
use crate::packages::{node, python};
use crate::port::Port;
use crate::processes::wait_for;
use crate::wait;

/// Which SDK the server is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdk {
    TypeScript,
    Python,
}

/// A server; it ends when this is dropped.
pub(crate) struct Server {
    sdk: Sdk,
    options: Vec<&'static str>,
    port: Port,
    life: Option<Life>,
    folder: TempDir,
}

/// From a start to an end.
struct Life {
    child: Child,
    stdin: ChildStdin,
}

/// The folder of this test.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults")
}

impl Server {
    pub(crate) fn start(sdk: Sdk, options: &[&'static str]) -> Self {
        let mut server = Self::not_started(sdk, options);
        server.restart();
        server
    }

    /// One that has its port, where nobody listens yet.
    pub(crate) fn not_started(sdk: Sdk, options: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("journal"), "").expect("a journal");
        Server { sdk, options: options.to_vec(), port: Port::reserve(), life: None, folder }
    }

    /// Starts it anew on its port, and awaits that it accepts connections.
    pub(crate) fn restart(&mut self) {
        drop(self.life.take());
        let mut command = match self.sdk {
            Sdk::TypeScript => {
                let mut command = Command::new("node");
                command.arg(fixtures().join("servers/typescript.mjs"));
                command
            }
            Sdk::Python => {
                let mut command = Command::new(python("1.30.0"));
                command.arg(fixtures().join("servers/python.py"));
                command
            }
        };
        command.arg(self.journal_path()).args(&self.options);
        command.args(["--port", &self.port.address.port().to_string()]).env("INTEROP_PACKAGES", node());
        let mut child = Child::start("server", &mut command);
        let stdin = child.stdin();
        wait_for(child.stdout(), |line| line.strip_prefix("LISTENING ").map(str::to_owned));
        self.life = Some(Life { child, stdin });
    }

    /// `kill -9`. Connections to it are refused until it is started again.
    pub(crate) fn kill(&mut self) {
        self.life.take().expect("it runs").child.kill();
    }

    pub(crate) fn signal(&self, name: &str) {
        self.life.as_ref().expect("it runs").child.signal(name);
    }

    /// A line on its standard input: `release`, `forget`.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = &mut self.life.as_mut().expect("it runs").stdin;
        writeln!(stdin, "{line}").expect("it reads");
    }

    pub(crate) fn port(&self) -> &Port {
        &self.port
    }

    pub(crate) fn mcp_url(&self) -> String {
        format!("{}/mcp", self.port.base())
    }

    fn journal_path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// What it did, in all its lives.
    pub(crate) fn journal(&self) -> Vec<String> {
        fs::read_to_string(self.journal_path()).expect("a journal").lines().map(str::to_owned).collect()
    }

    /// How often each tool call was carried out.
    pub(crate) fn runs(&self) -> BTreeMap<String, usize> {
        let mut runs = BTreeMap::new();
        for token in self.journal().iter().filter_map(|line| line.strip_prefix("run ")) {
            *runs.entry(token.to_owned()).or_default() += 1;
        }
        runs
    }

    /// How many lines say exactly that, or begin with it and a blank.
    pub(crate) fn count(&self, entry: &str) -> usize {
        let is_it =
            |line: &&String| line.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        self.journal().iter().filter(is_it).count()
    }

    pub(crate) fn await_entry(&self, entry: &str, limit: Duration) {
        wait::until(&format!("the server says: {entry}"), limit, || self.count(entry) > 0);
    }
}
