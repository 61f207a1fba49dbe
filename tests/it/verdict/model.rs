//! The verdict again, slow and obvious: every line in memory, everything by brute force, written from the rules.
//!
//! Where the rules leave a choice open, it makes the one that the program documents:
//! - a principal is one client, whatever its address; other identities are one client for each address;
//! - the longest gap of a client is its own or, if longer, that of its identity over all addresses;
//! - a client turned away before it said its name is looked for among those that once came under that identity: those
//!   of its address if there are any, else it stands in for them itself, unless the host or the origin was wrong;
//! - two records of a boot further apart than 150 s have an uncovered time between them; a last silence up to that is none;
//! - a boot may still run when it neither stopped nor was replaced, and wrote something in the last hour;
//! - of a clock that was set forward, both what it said before and what it should have said count, whatever is worse.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sse_sunset::report::outcome::{Verdict, Waiver};

use super::log::{DAY, File, HOUR, MINUTE};

const PULSE: i64 = 150_000;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) until: i64,
    pub(super) window: i64,
    pub(super) waivers: &'a [Waiver],
}

/// What the rules say.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    /// Identities that block, each with its latest `due`.
    pub(super) blocking: BTreeMap<String, i64>,
    pub(super) earliest: Option<i64>,
    /// Why it is unknown, besides.
    pub(super) doubts: Vec<String>,
}

/// Who: the identity, and the address where that is not authenticated.
type Account = (String, String);

#[derive(Debug, Clone)]
struct Record {
    /// As it says, but never later than now.
    at: i64,
    name: String,
    fields: Value,
}

impl Record {
    fn text(&self, key: &str) -> &str {
        self.fields[key].as_str().unwrap_or_default()
    }

    fn account(&self) -> Account {
        let is_one = matches!(self.text("identity.source"), "sub" | "client_id" | "header" | "mtls");
        let address = if is_one { "" } else { self.text("client.address") };
        (self.text("identity").to_owned(), address.to_owned())
    }

    fn is_of_client(&self) -> bool {
        self.name.starts_with("legacy.")
    }
}

/// One start: its records by number.
#[derive(Debug, Default)]
struct Boot {
    instance: String,
    records: BTreeMap<u64, Record>,
    /// Steps of its clock: the number of the heartbeat that noticed, its time, by how much.
    steps: Vec<(u64, i64, i64)>,
}

impl Boot {
    fn times(&self) -> impl Iterator<Item = i64> {
        self.records.values().map(|record| record.at)
    }

    fn first(&self) -> i64 {
        self.times().min().expect("a record")
    }

    fn last(&self) -> i64 {
        self.times().max().expect("a record")
    }

    fn stopped(&self) -> bool {
        self.records.values().any(|record| record.name == "proxy.stop")
    }

    fn find_steps(&self) -> Vec<(u64, i64, i64)> {
        let step = |(seq, record): (&u64, &Record)| {
            #[expect(clippy::cast_possible_truncation, reason = "small")]
            let by = (record.fields["clock.step_s"].as_f64()? * 1000.0) as i64;
            (by.abs() > MINUTE).then_some((*seq, record.at, by))
        };
        self.records.iter().filter_map(step).collect()
    }

    /// Every time that record `seq`, which says `at`, may have been written at: by the clock of then, and of later.
    fn readings(&self, seq: u64, at: i64) -> Vec<i64> {
        let mut times = vec![at];
        let mut moved = at;
        for (_, noticed, by) in self.steps.iter().filter(|step| step.0 > seq) {
            moved = (moved + by).min(*noticed);
            times.push(moved);
        }
        times
    }

    /// How much later than it says record `seq` may have been written.
    fn slow(&self, seq: u64) -> i64 {
        let steps = self.steps.iter().filter(|step| step.0 > seq);
        steps
            .scan(0, |sum, (_, _, by)| {
                *sum += by;
                Some(*sum)
            })
            .max()
            .unwrap_or(0)
            .max(0)
    }
}

/// All that was given.
#[derive(Debug, Default)]
struct Given {
    boots: BTreeMap<(String, String), Boot>,
    /// When damaged lines were written at the latest.
    damaged: Vec<i64>,
    /// Boots after whose record a file breaks off.
    cut: Vec<(String, String)>,
    future: bool,
}

fn ours(fields: &Value) -> bool {
    fields["schema"] == "sse-sunset/1" && fields["log.seq"].is_u64() && fields["@timestamp"].is_string()
}

fn gather(files: &[File], until: i64) -> Given {
    let mut given = Given::default();
    for file in files {
        let mut broken = 0;
        let mut last = None;
        for line in file.split_inclusive('\n') {
            let is_cut = !line.ends_with('\n');
            let line = line.trim_end_matches(['\r', '\n']);
            match serde_json::from_str::<Value>(line) {
                Ok(fields) if ours(&fields) => {
                    let says: jiff::Timestamp = fields["@timestamp"].as_str().expect("text").parse().expect("a time");
                    let says = says.as_millisecond();
                    let name = fields["event.name"].as_str().expect("text").to_owned();
                    let key = (
                        fields["service.instance.id"].as_str().expect("text").to_owned(),
                        fields["boot.id"].as_str().expect("text").to_owned(),
                    );
                    let seq = fields["log.seq"].as_u64().expect("a number");
                    let record = Record { at: says.min(until), name, fields };
                    given.future |= says > until + 5_000;
                    given.damaged.extend(std::iter::repeat_n(record.at, std::mem::take(&mut broken)));
                    let boot = given.boots.entry(key.clone()).or_default();
                    boot.instance.clone_from(&key.0);
                    boot.records.entry(seq).or_insert(record);
                    last = Some(key);
                }
                Err(_) if is_cut && line.starts_with('{') => given.cut.extend(last.clone()),
                Err(_) if line.starts_with("{\"@timestamp\":\"") => broken += 1,
                _ => {}
            }
        }
        given.damaged.extend(std::iter::repeat_n(until, broken));
    }
    for boot in given.boots.values_mut() {
        boot.steps = boot.find_steps();
    }
    given
}

/// What is known of an account.
#[derive(Debug, Default, Clone)]
struct Known {
    uses: BTreeSet<i64>,
    /// The last use, and times that it may have been at besides.
    last: Option<i64>,
    attempt: Option<i64>,
    refused: Option<i64>,
    barred: Option<i64>,
    open: bool,
    doors: BTreeSet<String>,
    address: String,
    seen: i64,
    engaged: bool,
    /// It left something of its own: a session that was not merged into another, or an attempt.
    came: bool,
    is_one: bool,
}

pub(super) fn answer(files: &[File], question: &Question<'_>) -> Answer {
    let given = gather(files, question.until);
    let start = question.until - question.window;
    let mut accounts = accounts(&given, question.until);
    attempts(&mut accounts);
    let uncovered = uncovered(&given, question.until);
    let doubts = doubts(&given, &uncovered, start, question);
    let mut blocking: BTreeMap<String, i64> = BTreeMap::new();
    let mut proven = question.until;
    let mut waived = Vec::new();
    let mut is_noted = given.future;
    for (account, known) in &accounts {
        let Some(due) = due(account, known, &accounts, question.window) else {
            is_noted |= known.came && known.seen >= start && (known.is_one || known.engaged);
            continue;
        };
        let active = known.last.max(known.attempt).expect("it has a due date");
        let late: i64 = uncovered.iter().map(|gap| (gap.1 - gap.0.max(active)).max(0)).sum();
        if !known.open && due <= question.until {
            continue;
        }
        let waiver = question.waivers.iter().find(|waiver| fits(waiver, &account.0) && lasts(waiver, question.until));
        let is_open = accounts.iter().any(|(other, known)| other.0 == account.0 && known.open);
        if let Some(waiver) = waiver.filter(|_| !is_open) {
            is_noted = true;
            waived.push((waiver, due + late));
            continue;
        }
        let latest = blocking.entry(account.0.clone()).or_insert(due);
        *latest = due.max(*latest);
        proven = proven.max(due + late);
    }
    let has_canary = given
        .boots
        .values()
        .flat_map(|boot| boot.records.values())
        .any(|record| record.name == "canary.seen" && record.at >= start);
    let verdict = match () {
        () if !blocking.is_empty() => Verdict::NotYet,
        () if !doubts.is_empty() => Verdict::Unknown,
        () if is_noted || !has_canary => Verdict::SafeWithNotes,
        () => Verdict::Safe,
    };
    let earliest = if matches!(verdict, Verdict::Safe | Verdict::SafeWithNotes) {
        None
    } else {
        doubts.iter().map(|doubt| doubt.1).try_fold(proven, |latest, clean| Some(latest.max(clean?))).map(|mut at| {
            waived.sort_by_key(|(_, proven)| *proven);
            loop {
                let next = waived.iter().filter(|(waiver, _)| !lasts(waiver, at)).map(|(_, proven)| *proven).max();
                match next.filter(|next| *next > at) {
                    Some(next) => at = next,
                    None => return at,
                }
            }
        })
    };
    Answer { verdict, blocking, earliest, doubts: doubts.into_iter().map(|doubt| doubt.0).collect() }
}

fn fits(waiver: &Waiver, identity: &str) -> bool {
    waiver.client == identity
}

fn lasts(waiver: &Waiver, at: i64) -> bool {
    let end = waiver.expires.tomorrow().expect("in range").to_zoned(jiff::tz::TimeZone::UTC).expect("in range");
    at < end.timestamp().as_millisecond()
}

fn accounts(given: &Given, until: i64) -> BTreeMap<Account, Known> {
    let mut all: BTreeMap<Account, Known> = BTreeMap::new();
    for boot in given.boots.values() {
        let is_replaced =
            given.boots.values().any(|other| other.instance == boot.instance && other.first() > boot.last());
        let is_alive = !boot.stopped() && boot.last() >= until - HOUR && !is_replaced;
        // A session: whose it is, the last time of its use records, and whether it ended.
        let mut sessions: BTreeMap<&str, (Account, Option<i64>, bool)> = BTreeMap::new();
        for (seq, record) in boot.records.iter().filter(|(_, record)| record.is_of_client()) {
            let account = record.account();
            let known = all.entry(account.clone()).or_insert_with(|| Known {
                address: record.text("client.address").to_owned(),
                is_one: account.1.is_empty(),
                ..Known::default()
            });
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
                    let (user, door) = if record.name == "legacy.identify" {
                        (account.clone(), session.0.0.clone())
                    } else {
                        (session.0.clone(), account.0.clone())
                    };
                    let is_other = session.0 != account;
                    session.0 = user.clone();
                    if is_other {
                        all.get_mut(&user).expect("it was seen").doors.insert(door);
                    }
                }
                _ => {}
            }
        }
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
    all
}

fn attempts(accounts: &mut BTreeMap<Account, Known>) {
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
            neighbours.iter().for_each(|(user, _)| tried(user, at));
        } else if let (Some(barred), false) = (refused.barred, same_door.is_empty()) {
            tried(account, barred);
        }
    }
}

fn longest(times: &BTreeSet<i64>) -> i64 {
    let times: Vec<i64> = times.iter().copied().collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

fn due(account: &Account, known: &Known, all: &BTreeMap<Account, Known>, window: i64) -> Option<i64> {
    let of_identity: BTreeSet<i64> = all
        .iter()
        .filter(|(other, _)| other.0 == account.0)
        .flat_map(|(_, known)| known.uses.iter().copied())
        .collect();
    let gap = longest(&known.uses).max(longest(&of_identity));
    // Gaps within a day are not told apart: no window is so short that it would matter.
    assert!(window * 2 >= DAY * 3, "the model wants a longer window");
    Some(known.last.max(known.attempt)? + window.max(gap * 3 / 2))
}

/// What no boot proves, from the first record to the end.
fn uncovered(given: &Given, until: i64) -> Vec<(i64, i64)> {
    let mut proven = Vec::new();
    for boot in given.boots.values() {
        let pairs: Vec<_> = boot.records.iter().zip(boot.records.iter().skip(1)).collect();
        let follow =
            pairs.iter().filter(|((seq, a), (next, b))| **seq + 1 == **next && b.at - a.at <= PULSE && a.at <= b.at);
        let claimed = union(follow.clone().map(|((_, a), (_, b))| (a.at, b.at)).collect());
        // By the clock of the end.
        let moved =
            union(follow.map(|((seq, a), (next, b))| (a.at + boot.slow(**seq), b.at + boot.slow(**next))).collect());
        let both = claimed.iter().flat_map(|a| moved.iter().map(|b| (a.0.max(b.0), a.1.min(b.1))));
        proven.extend(both.filter(|both| both.0 < both.1));
    }
    let proven = union(proven);
    let Some(first) = given.boots.values().map(Boot::first).min() else { return Vec::new() };
    let mut open = Vec::new();
    let mut at = first;
    for (from, to) in proven {
        if from > at {
            open.push((at, from));
        }
        at = at.max(to);
    }
    if until - at > PULSE {
        open.push((at, until));
    }
    open
}

fn union(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut all: Vec<(i64, i64)> = Vec::new();
    for span in spans {
        match all.last_mut() {
            Some(last) if span.0 <= last.1 => last.1 = last.1.max(span.1),
            _ => all.push(span),
        }
    }
    all
}

/// Why silence is not proven, and when each reason has left the window.
fn doubts(given: &Given, uncovered: &[(i64, i64)], start: i64, question: &Question<'_>) -> Vec<(String, Option<i64>)> {
    let window = question.window;
    let mut doubts = Vec::new();
    let Some(first) = given.boots.values().map(Boot::first).min() else { return vec![("no record".to_owned(), None)] };
    let mut add = |what: String, clean: Option<i64>| doubts.push((what, clean));
    if first > start {
        add(format!("begins at {first}"), Some(first + window));
    }
    let mut later = |what: String, at: i64| {
        if at > start {
            add(what, Some(at + window));
        }
    };
    for at in &given.damaged {
        later(format!("damaged before {at}"), *at);
    }
    for (key, boot) in &given.boots {
        let mut before: Option<(u64, i64)> = None;
        for (seq, record) in &boot.records {
            if *seq != before.map_or(0, |(seq, _)| seq + 1) {
                let to = record.at.max(before.map_or(record.at, |(_, at)| at));
                later(format!("hole in {key:?} before {seq}"), to + boot.slow(*seq));
            }
            before = Some((*seq, record.at));
        }
        let mut known = 0;
        for (seq, record) in &boot.records {
            let lost = record.fields["log.lost"].as_u64().unwrap_or(0);
            if lost > known {
                later(format!("lost in {key:?}"), record.at + boot.slow(*seq));
                known = lost;
            }
        }
    }
    for key in &given.cut {
        let boot = &given.boots[key];
        let is_replaced =
            given.boots.values().any(|other| other.instance == boot.instance && other.first() > boot.last());
        if boot.stopped() || boot.last() < question.until - HOUR || is_replaced {
            later(format!("cut after {key:?}"), boot.last());
        }
    }
    let within: Vec<(i64, i64)> =
        uncovered.iter().map(|gap| (gap.0.max(start), gap.1)).filter(|gap| gap.0 < gap.1).collect();
    for (from, to) in within.iter().filter(|gap| gap.1 - gap.0 > HOUR) {
        add(format!("gap from {from}"), Some(to - HOUR + window));
    }
    let total = |start: i64| within.iter().map(|gap| (gap.1 - gap.0.max(start)).max(0)).sum::<i64>();
    if total(start) * 100 > window {
        // The first start of a window that has few enough of them.
        let (mut bad, mut good) = (start, question.until);
        while good - bad > 1 {
            let middle = i64::midpoint(good, bad);
            if total(middle) * 100 > window { bad = middle } else { good = middle }
        }
        add("less than 99 %".to_owned(), Some(good + window));
    }
    let named = given.boots.values().flat_map(|boot| boot.records.values()).flat_map(|record| {
        record.fields["fleet.boots"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>()
    });
    for name in named {
        let (instance, boot) = name.split_once('/').expect("instance/boot");
        if !given.boots.contains_key(&(instance.to_owned(), boot.to_owned())) {
            add(format!("{name} is missing"), None);
        }
    }
    doubts
}
