//! A legacy client that logs in, and the browser of the person who uses it.
//!
//! Promise: the client is the SDK's own, in a process of its own, and is told step by step what to do; the browser follows
//! redirects to the end, as a browser does, and remembers whom it saw.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{RUNTIME, get};
use crate::packages::{fixtures, node, python};

/// How long a client may take for one step; it gives up itself sooner.
const STEP: Duration = Duration::from_secs(60);

/// The redirects that a browser follows before it gives up.
const REDIRECTS: usize = 5;

/// An SDK in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sdk {
    TypeScript(&'static str),
    Python(&'static str),
}

/// The generations of clients, oldest first: before protected-resource metadata, with it, and newest.
pub(super) const CLIENTS: [Sdk; 6] = [
    Sdk::TypeScript("1.8.0"),
    Sdk::TypeScript("1.13.3"),
    Sdk::TypeScript("1.32.2"),
    Sdk::Python("1.12.4"),
    Sdk::Python("1.20.0"),
    Sdk::Python("1.30.0"),
];

impl Sdk {
    /// As people call it, and as it registers.
    pub(super) fn title(self) -> String {
        match self {
            Sdk::TypeScript(version) => format!("TypeScript {version}"),
            Sdk::Python(version) => format!("Python {version}"),
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Works(String),
    Error(String),
    /// It still waits; nobody will tell it anything.
    Hangs,
}

/// A running client.
pub(super) struct Client {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    /// Every address that the browser went to.
    pub(super) visited: Vec<String>,
}

impl Client {
    pub(super) fn start(sdk: Sdk, url: &str) -> Self {
        let mut command = match sdk {
            Sdk::TypeScript(version) => {
                let mut command = Command::new("node");
                command.arg(fixtures().join("clients/oauth.mjs")).arg(version);
                command
            }
            Sdk::Python(version) => {
                let mut command = Command::new(python(version));
                command.arg(fixtures().join("clients/oauth.py"));
                command
            }
        };
        let mut child = command
            .args([url, &sdk.title()])
            .env("INTEROP_PACKAGES", node())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a client");
        let (commands, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Client { child, commands, lines, visited: Vec::new() }
    }

    /// Opens a session, logging in if need be.
    pub(super) fn connect(&mut self) -> Said {
        self.act(&json!({ "do": "connect" }))
    }

    /// Calls a tool without arguments.
    pub(super) fn call(&mut self, tool: &str) -> Said {
        self.act(&json!({ "do": "call", "tool": tool }))
    }

    fn act(&mut self, command: &Value) -> Said {
        if writeln!(self.commands, "{command}").is_err() {
            return Said::Error("the client has ended".to_owned());
        }
        loop {
            let Ok(line) = self.lines.recv_timeout(STEP) else {
                return Said::Error("the client says nothing any more".to_owned());
            };
            let mut said: Value = serde_json::from_str(&line).expect("a line of JSON");
            if let Some(url) = said["open"].as_str() {
                let url = url.to_owned();
                self.browse(url);
                continue;
            }
            return match (said["works"].take(), said["error"].take()) {
                (Value::String(text), _) => Said::Works(text),
                (_, Value::String(text)) => Said::Error(text),
                _ => Said::Hangs,
            };
        }
    }

    /// Goes where the client sends the browser, until nobody sends it further.
    fn browse(&mut self, mut url: String) {
        for _ in 0..REDIRECTS {
            self.visited.push(url.clone());
            match RUNTIME.block_on(get(&url)) {
                Ok((status, Some(further), _)) if status.is_redirection() => url = further,
                // Back at the client, or at an error page: nobody tells the client of that.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
