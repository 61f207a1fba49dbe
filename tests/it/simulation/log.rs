//! What the traffic log of a run has to say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sse_sunset::traffic::Log;

use super::client::Client;
use super::ledger::Ledger;

/// The records of the log, once all were written. The writer is a thread, so time is real while it is waited for.
pub(super) async fn read(log: &Log, path: &Path) -> Vec<Value> {
    tokio::time::resume();
    log.flush().await;
    let text = std::fs::read_to_string(path).expect("the log");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// Every session is opened and ended once. Gives the count of undelivered messages for each client.
pub(super) fn check(ledger: &Ledger, lines: &[Value], clients: &[Arc<Client>]) -> Vec<u64> {
    let mut numbers: Vec<u64> = lines.iter().filter_map(|line| line["log.seq"].as_u64()).collect();
    numbers.sort_unstable();
    if !numbers.iter().copied().eq(0..lines.len() as u64) {
        ledger.violation(format!("log.seq has a hole: {numbers:?}"));
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut ends: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for line in lines {
        let label = line["legacy.session"].as_str().unwrap_or_default();
        match line["event.name"].as_str() {
            Some("legacy.connect") => {
                let path = line["url.path"].as_str().unwrap_or_default();
                if owners.insert(label, path).is_some_and(|before| before != path) {
                    ledger.violation(format!("the session {label} was of two clients"));
                }
            }
            Some("legacy.end") => ends.entry(label).or_default().push(line),
            _ => {}
        }
    }
    for label in owners.keys() {
        let count = ends.get(label).map_or(0, Vec::len);
        if count != 1 {
            ledger.violation(format!("the session {label} has {count} ends"));
        }
    }
    if ends.len() != owners.len() {
        ledger.violation(format!("{} sessions ended of {} that were opened", ends.len(), owners.len()));
    }
    let undelivered_of = |client: &Arc<Client>| {
        let path = format!("/c{}", client.name);
        let own = ends.iter().filter(|(label, _)| owners.get(*label) == Some(&path.as_str()));
        own.flat_map(|(_, ends)| ends.iter().filter_map(|end| end["legacy.undelivered"].as_u64())).sum()
    };
    clients.iter().map(undelivered_of).collect()
}
