//! The invariant, held against what the clients noted on the wire and what the servers did.
//!
//! For every request id that a client got 202 for, exactly one answer or error; no answer in another session; no tool
//! carried out twice. What a test breaks on purpose it has to name: nothing is forgiven by itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::server::Server;

/// What passed between every client and the proxy.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) clients: BTreeMap<String, Account>,
}

/// What passed between one client and the proxy.
#[derive(Debug, Deserialize)]
pub(crate) struct Account {
    pub(crate) requests: Vec<Request>,
    /// Answers under ids that this client never used.
    pub(crate) strangers: Vec<Value>,
    /// Methods of the notifications that came.
    pub(crate) notifications: Vec<String>,
    /// Endpoint events that came.
    pub(crate) streams: u64,
    /// Status codes of its GETs, or why there was none.
    pub(crate) gets: Vec<Value>,
    pub(crate) troubles: Vec<String>,
}

/// A request that a client posted.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) token: Option<String>,
    /// How many streams the client had had when it posted.
    pub(crate) stream: u64,
    /// Status of the POST, or why it got none.
    #[serde(default)]
    pub(crate) posted: Value,
    pub(crate) answers: Vec<Answer>,
}

/// What came under the id of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) error: Option<Value>,
    /// Whether a result carries the token of the request.
    #[serde(default = "yes")]
    pub(crate) mine: bool,
}

const fn yes() -> bool {
    true
}

impl Ledger {
    pub(crate) fn read(clients: &Value) -> Self {
        Ledger { clients: serde_json::from_value(clients.clone()).expect("accounts") }
    }

    /// The invariant, with nothing lost.
    pub(crate) fn assert_kept(&self, server: &Server) {
        self.assert_kept_but(server, |_, _| false);
    }

    /// The invariant, except that a request of which `may_be_lost` says so may have no answer.
    pub(crate) fn assert_kept_but(&self, server: &Server, may_be_lost: impl Fn(&Account, &Request) -> bool) {
        let mut broken = Vec::new();
        for (name, account) in &self.clients {
            for request in &account.requests {
                let what = format!("{name}: {} {} {:?}", request.method, request.id, request.token);
                match request.answers.len() {
                    0 if request.posted == 202 && !may_be_lost(account, request) => {
                        broken.push(format!("{what}: accepted and never answered"));
                    }
                    0 | 1 => {}
                    more => broken.push(format!("{what}: {more} answers: {:?}", request.answers)),
                }
                if request.answers.iter().any(|answer| !answer.mine) {
                    broken.push(format!("{what}: the answer of another session"));
                }
            }
            if !account.strangers.is_empty() {
                broken.push(format!("{name}: answers to nothing it asked: {:?}", account.strangers));
            }
        }
        let twice = server.runs().into_iter().filter(|(_, times)| *times > 1);
        broken.extend(twice.map(|(token, times)| format!("{token}: carried out {times} times")));
        assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
    }

    /// Requests that were accepted and have no answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.requests().filter(|request| request.posted == 202 && request.answers.is_empty()).count()
    }

    /// Every request of everybody.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.clients.values().flat_map(|account| &account.requests)
    }

    /// How many errors came, by `data.reason`, or else by their text.
    pub(crate) fn errors(&self) -> BTreeMap<String, usize> {
        let mut errors = BTreeMap::new();
        for error in self.requests().flat_map(|request| &request.answers).filter_map(|answer| answer.error.as_ref()) {
            let reason = error["data"]["reason"].as_str().or(error["message"].as_str()).unwrap_or_default();
            *errors.entry(reason.to_owned()).or_default() += 1;
        }
        errors
    }

    /// Whether every client got a notification of `method`.
    pub(crate) fn has_notified(&self, method: &str) -> bool {
        self.clients.values().all(|account| account.notifications.iter().any(|one| one == method))
    }
}
