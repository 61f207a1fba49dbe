//! Who did what: accounts, their sessions, and what their refusals mean.

use std::collections::{BTreeMap, BTreeSet};

use super::super::log::HOUR;
use super::given::{Account, Boot, Given};

/// What is known of an account.
#[expect(clippy::struct_excessive_bools, reason = "a list of facts")]
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    pub(super) uses: BTreeSet<i64>,
    /// The last use, and times that it may have been at besides.
    pub(super) last: Option<i64>,
    pub(super) attempt: Option<i64>,
    pub(super) refused: Option<i64>,
    pub(super) barred: Option<i64>,
    pub(super) open: bool,
    pub(super) doors: BTreeSet<String>,
    pub(super) address: String,
    pub(super) seen: i64,
    pub(super) engaged: bool,
    /// It left something of its own: a session that was not merged into another, or an attempt.
    pub(super) came: bool,
    pub(super) is_one: bool,
}

/// Sessions by label: whose, the last time of its use records, and whether it ended.
type Sessions<'a> = BTreeMap<&'a str, (Account, Option<i64>, bool)>;

pub(super) fn accounts(given: &Given, until: i64) -> BTreeMap<Account, Known> {
    let mut all: BTreeMap<Account, Known> = BTreeMap::new();
    for boot in given.boots.values() {
        let is_replaced =
            given.boots.values().any(|other| other.instance == boot.instance && other.first() > boot.last());
        let is_alive = !boot.stopped() && boot.last() >= until - HOUR && !is_replaced;
        let sessions = of_boot(boot, &mut all);
        left_open(boot, is_alive, sessions, &mut all);
    }
    all
}

/// Takes in the records of one boot.
fn of_boot<'a>(boot: &'a Boot, all: &mut BTreeMap<Account, Known>) -> Sessions<'a> {
    let mut sessions = Sessions::new();
    for (seq, record) in boot.records.iter().filter(|(_, record)| record.is_of_client()) {
        let account = record.account();
        let known = all.entry(account.clone()).or_insert_with(|| Known {
            address: record.text("client.address").to_owned(),
            is_one: account.1.is_empty(),
            ..Known::default()
        });
        if record.at > known.seen {
            record.text("client.address").clone_into(&mut known.address);
        }
        known.seen = known.seen.max(record.at);
        known.engaged |= matches!(record.text("legacy.engagement"), "discovery" | "use");
        let mut used = |at: i64| {
            known.uses.insert(at);
            known.last = known.last.max(boot.readings(*seq, at).into_iter().max());
        };
        let label = record.text("legacy.session");
        match record.name.as_str() {
            "legacy.use" => {
                used(record.at);
                let session = sessions.entry(label).or_insert((account.clone(), None, false));
                session.0 = account;
                session.1 = session.1.max(Some(record.at));
            }
            "legacy.end" => {
                let last: Option<jiff::Timestamp> =
                    record.fields["legacy.last_use"].as_str().map(|at| at.parse().expect("a time"));
                let last = last.map(|last| last.as_millisecond().min(record.at));
                if let Some(at) = last.or((record.text("legacy.engagement") == "use").then_some(record.at)) {
                    used(at);
                }
                known.came |= record.text("session.end.reason") != "merged";
                sessions.entry(label).or_insert((account, None, true)).2 = true;
            }
            "legacy.refused" if record.fields["legacy.refused.dry_run"] != true => {
                known.came = true;
                known.refused = known.refused.max(Some(record.at));
                if !matches!(record.text("legacy.refused.reason"), "host" | "origin" | "request") {
                    known.barred = known.barred.max(Some(record.at));
                }
            }
            "legacy.connect" | "legacy.identify" => {
                let session = sessions.entry(label).or_insert_with(|| (account.clone(), None, false));
                let (owner, door) = if record.name == "legacy.identify" {
                    (account.clone(), session.0.0.clone())
                } else {
                    (session.0.clone(), account.0.clone())
                };
                let is_other = session.0 != account;
                session.0 = owner.clone();
                if is_other {
                    all.get_mut(&owner).expect("it was seen").doors.insert(door);
                }
            }
            _ => {}
        }
    }
    sessions
}

/// Sessions that no record ends.
fn left_open(boot: &Boot, is_alive: bool, sessions: Sessions<'_>, all: &mut BTreeMap<Account, Known>) {
    for (account, last, _) in sessions.into_values().filter(|session| !session.2) {
        let known = all.get_mut(&account).expect("it was seen");
        known.came = true;
        let Some(last) = last else { continue };
        known.open |= is_alive;
        // The rest of the hour tells of no further use.
        let hour_end = (last.div_euclid(HOUR) + 1) * HOUR - 1;
        known.last = known.last.max(Some(hour_end.min(boot.last()).max(last)));
    }
}

/// Finds out who was turned away; tells when those were of whom nobody knows who they are.
pub(super) fn attempts(accounts: &mut BTreeMap<Account, Known>) -> Vec<i64> {
    let mut unknown = Vec::new();
    let all = accounts.clone();
    let users: Vec<(&Account, &Known)> = all.iter().filter(|(_, known)| known.last.is_some()).collect();
    for (account, refused) in &all {
        let Some(at) = refused.refused else { continue };
        let mut tried = |account: &Account, at: i64| {
            let known = accounts.get_mut(account).expect("it is there");
            known.attempt = known.attempt.max(Some(at));
        };
        if refused.last.is_some() {
            tried(account, at);
            continue;
        }
        let same_door: Vec<_> =
            users.iter().filter(|(user, known)| user.0 == account.0 || known.doors.contains(&account.0)).collect();
        let neighbours: Vec<_> = same_door.iter().filter(|(_, known)| known.address == refused.address).collect();
        if !neighbours.is_empty() {
            for (user, _) in neighbours {
                tried(user, at);
            }
        } else if users.iter().any(|(_, known)| known.address == refused.address) {
            for (user, _) in users.iter().filter(|(_, known)| known.address == refused.address) {
                tried(user, at);
            }
        } else if let (Some(barred), false) = (refused.barred, same_door.is_empty()) {
            tried(account, barred);
        } else {
            unknown.push(at);
        }
    }
    unknown
}

pub(super) fn longest(times: &BTreeSet<i64>) -> i64 {
    let times: Vec<i64> = times.iter().copied().collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}
