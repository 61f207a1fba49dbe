//! Whether three accounts of the same soak agree: the clients' own, the traffic log, and the ledger of what the stub ran.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::stub::Entry;

/// What became of a call, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    MayHaveRun,
    NotSent,
}

/// One client's account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    /// What it authenticates with; empty if with nothing.
    pub(crate) authorization: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    /// How often it lost its stream and came back.
    pub(crate) returns: u64,
    /// By the first word of the call's text.
    outcomes: HashMap<String, Outcome>,
}

/// What the soak did, to be compared with the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deeds {
    /// Sessions opened, those included that were opened for streams which came back without a word.
    pub(crate) sessions: u64,
    /// Streams that came back and named their last event.
    pub(crate) resumed: u64,
    /// Streams that came back without a word.
    pub(crate) adopted: u64,
    pub(crate) restarts: u64,
}

/// What the proxy counted (`proxy.stop`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Survival {
    #[serde(rename = "streams.resumed")]
    pub(crate) resumed: u64,
    #[serde(rename = "streams.adopted")]
    pub(crate) adopted: u64,
    #[serde(rename = "handshakes.made")]
    handshakes_made: u64,
    #[serde(rename = "upstream.sessions.lost")]
    lost: u64,
    #[serde(rename = "upstream.sessions.revived")]
    pub(crate) revived: u64,
    #[serde(rename = "messages.replayed")]
    pub(crate) replayed: u64,
    #[serde(rename = "slow_consumers")]
    slow_consumers: u64,
    panics: u64,
    #[serde(rename = "log.lost")]
    records_lost: u64,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "event.name")]
    name: String,
    #[serde(rename = "legacy.session", default)]
    session: String,
    #[serde(rename = "mcp.client.name")]
    client: Option<String>,
    #[serde(flatten)]
    end: Option<End>,
}

/// What `legacy.end` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct End {
    #[serde(rename = "session.end.reason")]
    reason: String,
    #[serde(rename = "legacy.uses")]
    uses: u64,
    #[serde(rename = "legacy.errors")]
    errors: u64,
    #[serde(rename = "legacy.reconnects")]
    reconnects: u64,
    #[serde(rename = "legacy.undelivered")]
    undelivered: u64,
}

/// What the log says of one label. Labels are short, so that two sessions may share one in a long soak.
#[derive(Debug, Default)]
struct Label {
    connects: u64,
    ends: Vec<End>,
}

impl Account {
    pub(crate) fn new(name: String, authorization: String) -> Self {
        Account { name, authorization, calls: 0, errors: 0, returns: 0, outcomes: HashMap::new() }
    }

    pub(crate) fn note(&mut self, text: &str, outcome: Outcome) {
        let call = text.split(' ').next().unwrap_or_default();
        self.outcomes.insert(call.to_owned(), outcome);
    }
}

/// Whether the stub ran what clients were told it ran, once, and under their own credentials.
pub(crate) fn compare_with_ledger(ledger: impl BufRead, accounts: &[Account]) -> Result<()> {
    let mut ran: HashMap<String, Entry> = HashMap::new();
    for line in ledger.lines() {
        let entry: Entry = serde_json::from_str(&line?).context("the ledger")?;
        let call = entry.call.clone();
        ensure!(ran.insert(call.clone(), entry).is_none(), "{call} ran twice");
    }
    for account in accounts {
        ensure!(account.outcomes.len() as u64 == account.calls, "{}: a call without an answer", account.name);
        for (call, outcome) in &account.outcomes {
            match (outcome, ran.remove(call)) {
                (Outcome::Answered | Outcome::MayHaveRun, Some(entry)) => ensure!(
                    entry.authorization == account.authorization,
                    "{call} ran under {:?} instead of {:?}",
                    entry.authorization,
                    account.authorization
                ),
                (Outcome::MayHaveRun | Outcome::NotSent, None) => {}
                (Outcome::Answered, None) => anyhow::bail!("{call} was answered and never ran"),
                (Outcome::NotSent, Some(_)) => {
                    anyhow::bail!("{call} ran, and its client was told that it was not sent")
                }
            }
        }
    }
    ensure!(ran.is_empty(), "calls ran that nobody made: {:?}", ran.keys());
    Ok(())
}

/// Whether every session has its end in the log, and those that stayed are the same ones to their end.
pub(crate) fn compare_with_log(log: impl BufRead, staying: &[Account], deeds: Deeds) -> Result<Survival> {
    let mut labels: HashMap<String, Label> = HashMap::new();
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut survival = None;
    for line in log.lines() {
        let line = line?;
        let record: Record = serde_json::from_str(&line)?;
        match record.name.as_str() {
            "legacy.connect" => labels.entry(record.session).or_default().connects += 1,
            "legacy.identify" => {
                if let Some(client) = record.client.filter(|client| client.starts_with("staying-")) {
                    named.entry(client).or_default().push(record.session);
                }
            }
            "legacy.end" => {
                labels.entry(record.session).or_default().ends.push(record.end.context("an odd end")?);
            }
            "proxy.stop" => survival = Some(serde_json::from_str::<Survival>(&line)?),
            _ => {}
        }
    }
    for account in staying {
        let Some([label]) = named.get(&account.name).map(Vec::as_slice) else {
            anyhow::bail!("{} has shaken hands more than once, or never", account.name)
        };
        let Account { calls: uses, errors, returns: reconnects, .. } = *account;
        let expected = End { reason: "drain".to_owned(), uses, errors, reconnects, undelivered: 0 };
        let ends = labels.get(label).map(|label| label.ends.as_slice()).unwrap_or_default();
        ensure!(ends == [expected.clone()], "{}: the log says {ends:?}, not {expected:?}", account.name);
    }
    all_ended(&labels, deeds)?;
    let survival = survival.context("no proxy.stop")?;
    check(&survival, deeds, staying.len() as u64)?;
    Ok(survival)
}

fn all_ended(labels: &HashMap<String, Label>, deeds: Deeds) -> Result<()> {
    for (name, Label { connects, ends }) in labels {
        // Every stream but the first one of a session says `legacy.connect` again.
        let again: u64 = ends.iter().map(|end| end.reconnects).sum();
        ensure!(*connects == again + ends.len() as u64, "{name}: {connects} connects, and the ends are {ends:?}");
    }
    let ends = || labels.values().flat_map(|label| &label.ends);
    let (ended, merged) = (ends().count() as u64, ends().filter(|end| end.reason == "merged").count() as u64);
    ensure!(ended == deeds.sessions, "{} sessions, {ended} ended", deeds.sessions);
    ensure!(merged == deeds.adopted, "{} streams came back without a word, {merged} merged", deeds.adopted);
    Ok(())
}

fn check(survival: &Survival, deeds: Deeds, staying: u64) -> Result<()> {
    let Deeds { resumed, adopted, restarts, .. } = deeds;
    let all = (survival.resumed, survival.adopted) == (resumed, adopted);
    ensure!(all, "{resumed} streams were to be resumed and {adopted} adopted: {survival:?}");
    ensure!(survival.handshakes_made == 0, "a client that came back was not known: {survival:?}");
    // Every one of them loses its session with every restart, and has another.
    let lost = restarts * staying;
    ensure!(survival.lost >= lost && survival.revived >= lost, "{restarts} restarts: {survival:?}");
    let is_sound = (survival.panics, survival.slow_consumers, survival.records_lost) == (0, 0, 0);
    ensure!(is_sound, "{survival:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(outcomes: &[(&str, Outcome)]) -> Account {
        let mut account = Account::new("staying-a".to_owned(), "Bearer a".to_owned());
        account.calls = outcomes.len() as u64;
        for (call, outcome) in outcomes {
            account.note(&format!("{call} and more"), *outcome);
        }
        account
    }

    fn agrees(ledger: &str, outcomes: &[(&str, Outcome)]) -> bool {
        compare_with_ledger(ledger.as_bytes(), &[account(outcomes)]).is_ok()
    }

    fn ran(call: &str, authorization: &str) -> String {
        format!("{{\"call\":\"{call}\",\"authorization\":\"{authorization}\"}}\n")
    }

    #[test]
    fn ledger_agrees_where_calls_ran_as_their_clients_were_told() {
        let outcomes = [("a/1", Outcome::Answered), ("a/2", Outcome::MayHaveRun), ("a/3", Outcome::NotSent)];
        assert!(agrees(&ran("a/1", "Bearer a"), &outcomes));
        assert!(agrees(&(ran("a/1", "Bearer a") + &ran("a/2", "Bearer a")), &outcomes));
    }

    #[test]
    fn ledger_shows_calls_that_ran_twice_or_falsely() {
        let mine = ran("a/1", "Bearer a");
        for (what, ledger, outcome) in [
            ("twice", mine.clone() + &mine, Outcome::Answered),
            ("under another credential", ran("a/1", "Bearer b"), Outcome::Answered),
            ("never", String::new(), Outcome::Answered),
            ("although it was not sent", mine.clone(), Outcome::NotSent),
            ("beside one that nobody made", mine + &ran("b/1", "Bearer a"), Outcome::Answered),
        ] {
            assert!(!agrees(&ledger, &[("a/1", outcome)]), "{what}");
        }
    }

    const CONNECT: &str = r#"{"event.name":"legacy.connect","legacy.session":"L"}"#;
    const IDENTIFY: &str = r#"{"event.name":"legacy.identify","legacy.session":"L","mcp.client.name":"staying-a"}"#;

    fn end(label: &str, reason: &str, uses: u64, reconnects: u64) -> String {
        format!(
            r#"{{"event.name":"legacy.end","legacy.session":"{label}","session.end.reason":"{reason}","legacy.uses":{uses},"legacy.errors":0,"legacy.reconnects":{reconnects},"legacy.undelivered":0}}"#
        )
    }

    fn stop(resumed: u64, made: u64, revived: u64) -> String {
        format!(
            r#"{{"event.name":"proxy.stop","streams.resumed":{resumed},"streams.adopted":0,"handshakes.made":{made},"upstream.sessions.lost":1,"upstream.sessions.revived":{revived},"messages.replayed":0,"slow_consumers":0,"panics":0,"log.lost":0}}"#
        )
    }

    #[test]
    fn log_agrees_only_where_every_session_has_its_end_and_those_who_stay_keep_theirs() {
        let mut staying = account(&[("a/1", Outcome::Answered)]);
        staying.returns = 1;
        let deeds = Deeds { sessions: 1, resumed: 1, adopted: 0, restarts: 1 };
        let agrees = |lines: &[&str]| {
            compare_with_log(lines.join("\n").as_bytes(), std::slice::from_ref(&staying), deeds).map(|_| ())
        };
        let (kept, stop_well) = (end("L", "drain", 1, 1), stop(1, 0, 1));
        agrees(&[CONNECT, IDENTIFY, CONNECT, &kept, &stop_well]).expect("a log as it should be");
        let wrong: [(&str, &[&str]); 8] = [
            ("no end", &[CONNECT, IDENTIFY, CONNECT, &stop_well]),
            ("two ends", &[CONNECT, IDENTIFY, CONNECT, &kept, &kept, &stop_well]),
            ("a stream that nobody counted", &[CONNECT, IDENTIFY, CONNECT, CONNECT, &kept, &stop_well]),
            ("another end", &[CONNECT, IDENTIFY, CONNECT, &end("L", "client_disconnect", 1, 1), &stop_well]),
            ("a call more", &[CONNECT, IDENTIFY, CONNECT, &end("L", "drain", 2, 1), &stop_well]),
            ("a handshake made", &[CONNECT, IDENTIFY, CONNECT, &kept, &stop(1, 1, 1)]),
            ("a stream not resumed", &[CONNECT, IDENTIFY, CONNECT, &kept, &stop(0, 0, 1)]),
            ("a session not opened again", &[CONNECT, IDENTIFY, CONNECT, &kept, &stop(1, 0, 0)]),
        ];
        for (what, lines) in wrong {
            assert!(agrees(lines).is_err(), "{what}");
        }
    }
}
