//! What happened in one run, as both ends saw it, and what must never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Names a client.
pub(super) type Name = u32;

/// Names an upstream session.
pub(super) type Sid = u64;

/// The token that names `client` and what it asked.
pub(super) fn token(client: Name, ask: usize) -> String {
    format!("c{client}/{ask}")
}

/// The client that `token` names.
pub(super) fn named(token: &str) -> Option<Name> {
    token.strip_prefix('c')?.split_once('/')?.0.parse().ok()
}

/// The book of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    since: Instant,
    traces: bool,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// In which upstream sessions each call ran.
    executed: BTreeMap<String, Vec<Sid>>,
    /// Calls that the server answered with an error that looks like the loss of a session.
    misled: BTreeSet<String>,
    /// The clients that had to do with an upstream session: that posted into it, or got something of it.
    touched: BTreeMap<Sid, BTreeSet<Name>>,
    violations: Vec<String>,
    trace: Vec<String>,
    events: u64,
}

impl Ledger {
    pub(super) fn new(traces: bool) -> Self {
        Ledger { since: Instant::now(), traces, pages: Mutex::default() }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that explains what comes later.
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.traces {
            let line = format!("{:>10.3} {}", self.since.elapsed().as_secs_f64(), what());
            self.pages().trace.push(line);
        }
    }

    /// Something that must not happen.
    pub(super) fn violation(&self, what: String) {
        self.note(|| format!("!!! {what}"));
        let at = self.since.elapsed();
        self.pages().violations.push(format!("after {:.3} s: {what}", at.as_secs_f64()));
    }

    /// The call `token` runs in `sid`.
    pub(super) fn execute(&self, token: &str, sid: Sid) {
        let mut pages = self.pages();
        let runs = pages.executed.entry(token.to_owned()).or_default();
        runs.push(sid);
        let (runs, misled) = (runs.clone(), pages.misled.contains(token));
        drop(pages);
        if runs.len() > 1 && !misled {
            self.violation(format!("{token} ran in the upstream sessions {runs:?}"));
        }
    }

    pub(super) fn mislead(&self, token: &str) {
        self.pages().misled.insert(token.to_owned());
    }

    /// How often `token` ran.
    pub(super) fn runs(&self, token: &str) -> usize {
        self.pages().executed.get(token).map_or(0, Vec::len)
    }

    /// `client` had to do with `sid`, and so must nobody else.
    pub(super) fn touch(&self, sid: Sid, client: Name, how: &str) {
        let mut pages = self.pages();
        pages.events += 1;
        let clients = pages.touched.entry(sid).or_default();
        if clients.insert(client) && clients.len() > 1 {
            let clients = clients.clone();
            drop(pages);
            self.violation(format!("{how}: the clients {clients:?} share the upstream session {sid}"));
        }
    }

    /// How much was checked.
    pub(super) fn events(&self) -> u64 {
        self.pages().events
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.pages().violations.clone()
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.pages().trace.clone()
    }
}
