//! Real legacy clients, many in one process, and what passed between them and the proxy.
//!
//! Promise: no wait is without end: the process answers each order within its own limit, and the limits here are longer.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, Command};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::Child;
use crate::ledger::Ledger;
use crate::packages::{node, python};
use crate::server::fixtures;
use crate::wait::{self, seconds};

/// Longer than the limit of the clients' process itself.
const LIMIT: Duration = seconds(70);

/// A process full of clients.
pub(crate) struct Driver {
    stdin: Mutex<(u64, ChildStdin)>,
    replies: Arc<Replies>,
    child: Child,
}

/// What the process said, by `seq`, and that it said something.
#[derive(Default)]
struct Replies {
    by_seq: Mutex<HashMap<u64, Value>>,
    news: Condvar,
}

/// A client of a [`Driver`].
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    driver: &'a Driver,
    pub(crate) name: &'a str,
}

/// An order that is being carried out.
pub(crate) struct Pending<'a> {
    driver: &'a Driver,
    order: Value,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Text(String),
    /// An error: its code, message and data, where there were such.
    Failed(Value),
}

impl Driver {
    /// Clients of the TypeScript SDK 1.32.2.
    pub(crate) fn typescript() -> Self {
        let mut command = Command::new("node");
        Self::start(command.arg(fixtures().join("clients/typescript.mjs")))
    }

    /// Clients of the Python SDK 1.30.0.
    pub(crate) fn python() -> Self {
        let mut command = Command::new(python("1.30.0"));
        Self::start(command.arg(fixtures().join("clients/python.py")))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = Child::start("clients", command.env("INTEROP_PACKAGES", node()));
        let replies = Arc::new(Replies::default());
        let (stdout, noting) = (child.stdout(), Arc::clone(&replies));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let reply: Value = serde_json::from_str(&line).expect("JSON");
                let seq = reply["seq"].as_u64().expect("the number of the order");
                noting.by_seq.lock().unwrap_or_else(PoisonError::into_inner).insert(seq, reply);
                noting.news.notify_all();
            }
        });
        Driver { stdin: Mutex::new((0, child.stdin())), replies, child }
    }

    /// Gives an order.
    pub(crate) fn begin(&self, mut order: Value) -> Pending<'_> {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.0 += 1;
        order["seq"] = stdin.0.into();
        writeln!(stdin.1, "{order}").expect("the clients read");
        drop(stdin);
        Pending { driver: self, order }
    }

    /// Gives an order that cannot fail, and awaits that it is done.
    pub(crate) fn ask(&self, order: Value) -> Value {
        let pending = self.begin(order);
        let reply = pending.reply();
        assert!(reply.get("failed").is_none(), "{}: {reply}", pending.order);
        reply
    }

    /// Connects a client, handshake included.
    pub(crate) fn connect<'a>(&'a self, name: &'a str, url: &str, token: Option<&str>) -> Client<'a> {
        self.ask(connecting(name, url, token));
        Client { driver: self, name }
    }

    /// The same with any number at once; all have to succeed.
    pub(crate) fn connect_all(&self, names: &[String], url: &str, token: impl Fn(&str) -> Option<String>) {
        let connects: Vec<_> =
            names.iter().map(|name| self.begin(connecting(name, url, token(name).as_deref()))).collect();
        for connect in connects {
            let reply = connect.reply();
            assert!(reply.get("failed").is_none(), "{}: {reply}", connect.order);
        }
    }

    /// Connects a client that may not be able to.
    pub(crate) fn begin_connect(&self, name: &str, url: &str) -> Pending<'_> {
        self.begin(connecting(name, url, None))
    }

    pub(crate) fn client<'a>(&'a self, name: &'a str) -> Client<'a> {
        Client { driver: self, name }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::read(&self.ask(json!({"do": "ledger"}))["clients"])
    }

    /// Endpoint events by client.
    pub(crate) fn streams(&self) -> HashMap<String, u64> {
        self.figures("streams")
    }

    /// By client, the number of the last stream on which a request was posted that got a result.
    pub(crate) fn served(&self) -> HashMap<String, u64> {
        self.figures("served")
    }

    fn figures(&self, what: &str) -> HashMap<String, u64> {
        let streams = self.ask(json!({"do": "streams"}));
        serde_json::from_value(streams[what].clone()).expect("figures")
    }

    /// `kill -9`: the clients are gone without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill();
    }
}

fn connecting(name: &str, url: &str, token: Option<&str>) -> Value {
    let mut order = json!({"do": "connect", "client": name, "url": url});
    if let Some(token) = token {
        order["token"] = token.into();
    }
    order
}

impl Pending<'_> {
    fn reply(&self) -> Value {
        let seq = self.order["seq"].as_u64().expect("given");
        let deadline = Instant::now() + LIMIT;
        let replies = &self.driver.replies;
        let mut by_seq = replies.by_seq.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(reply) = by_seq.remove(&seq) {
                return reply;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the clients' process does not answer: {}", self.order);
            by_seq = replies.news.wait_timeout(by_seq, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What it came to.
    pub(crate) fn outcome(&self) -> Outcome {
        let reply = self.reply();
        match (reply.get("failed"), reply["text"].as_str()) {
            (Some(failed), _) => Outcome::Failed(failed.clone()),
            (None, text) => Outcome::Text(text.unwrap_or_default().to_owned()),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        let seq = self.order["seq"].as_u64().expect("given");
        self.driver.replies.by_seq.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&seq)
    }
}

impl<'a> Client<'a> {
    /// Calls `count` or `hold` under a token of its own, and does not wait.
    pub(crate) fn begin(self, tool: &str, token: &str) -> Pending<'a> {
        self.begin_with(tool, &json!({"token": token}))
    }

    pub(crate) fn begin_with(self, tool: &str, arguments: &Value) -> Pending<'a> {
        self.driver.begin(json!({"do": "call", "client": self.name, "tool": tool, "args": arguments}))
    }

    /// A call, and what it came to.
    pub(crate) fn count(self, token: &str) -> Outcome {
        self.begin("count", token).outcome()
    }

    /// A call that has to succeed.
    pub(crate) fn must_count(self, token: &str) {
        let outcome = self.count(token);
        assert_eq!(outcome, Outcome::Text(format!("counted {token}")), "{}", self.name);
    }

    pub(crate) fn tools(self) -> Vec<String> {
        let listed = self.driver.ask(json!({"do": "list", "client": self.name}));
        serde_json::from_value(listed["tools"].clone()).expect("names")
    }

    pub(crate) fn set_level(self, level: &str) {
        self.driver.ask(json!({"do": "level", "client": self.name, "level": level}));
    }

    pub(crate) fn streams(self) -> u64 {
        self.driver.streams()[self.name]
    }

    /// GETs that got no answer so far.
    pub(crate) fn failed_gets(self) -> usize {
        self.driver.ledger().clients[self.name].gets.iter().filter(|status| !status.is_u64()).count()
    }

    /// Waits until it has come back so that it has had `streams` streams in all. TypeScript takes 3 s.
    pub(crate) fn await_stream(self, streams: u64, limit: Duration) {
        let name = self.name;
        wait::until(&format!("stream {streams} of {name}"), limit, || self.streams() >= streams);
    }
}

impl Outcome {
    /// `data.reason` of an error that the proxy made.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Outcome::Failed(failed) => failed["data"]["reason"].as_str().unwrap_or_default(),
            Outcome::Text(_) => "",
        }
    }

    /// The message of an error.
    pub(crate) fn message(&self) -> &str {
        match self {
            Outcome::Failed(failed) => failed["message"].as_str().unwrap_or_default(),
            Outcome::Text(_) => "",
        }
    }

    pub(crate) fn code(&self) -> i64 {
        match self {
            Outcome::Failed(failed) => failed["code"].as_i64().unwrap_or_default(),
            Outcome::Text(_) => 0,
        }
    }
}
