//! The verdict again, slow and obvious: every line in memory, everything by brute force, written from the rules.
//!
//! Where the rules leave a choice open, it makes the one that the program documents:
//! - a principal is one client, whatever its address; other identities are one client for each address;
//! - the longest gap of a client is its own or, if longer, that of its identity over all addresses;
//! - a client turned away before it said its name is looked for among those that once came under that identity: those
//!   of its address if there are any, else among all of its address, else it stands in for them itself, unless the host
//!   or the origin was wrong;
//! - whoever was turned away within the window and is none of these is a note, and so is a replica that was there within
//!   the window, and of which nothing says that it ended, and a file without a line;
//! - two records of a boot further apart than 150 s have an uncovered time between them; a last silence up to that is none;
//! - a boot may still run when it neither stopped nor was replaced, and wrote something in the last hour;
//! - a canary of the last day and a half is one, and in the phase gone, unless it is paused, one of the day and a half before it
//!   began;
//! - who was upgraded or came by Streamable HTTP has neither used SSE by it nor been silent there: it says where a client has
//!   moved to (`movement`), and nothing else;
//! - of a clock that was set forward, both what it said before and what it should have said count, whatever is worse.

mod accounts;
mod doubts;
mod given;
mod movement;

use std::collections::{BTreeMap, BTreeSet};

use sse_sunset::report::outcome::{Movement, Verdict, Waiver};

use super::log::{DAY, File, HOUR};
use accounts::{Known, accounts, attempts, longest};
use doubts::{doubts, uncovered};
use given::{Account, Given, Record, gather};

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
    /// Where each that used SSE has moved to.
    pub(super) movement: BTreeMap<String, Movement>,
}

pub(super) fn answer(files: &[File], question: &Question<'_>) -> Answer {
    let given = gather(files, question.until);
    let start = question.until - question.window;
    let mut accounts = accounts(&given, question.until);
    let unknown = attempts(&mut accounts);
    let uncovered = uncovered(&given, question.until);
    let doubts = doubts(&given, &uncovered, start, question);
    let mut blocking: BTreeMap<String, i64> = BTreeMap::new();
    let mut proven = question.until;
    let mut excused = Vec::new();
    let mut is_noted =
        given.future || unknown.iter().any(|at| *at >= start) || given.someone_vanished(start, question.until);
    is_noted |= files.iter().any(|file| file.trim().is_empty());
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
        let waiver = question.waivers.iter().find(|it| fits(it, &account.0) && lasts(it, question.until));
        let is_open = accounts.iter().any(|(other, known)| other.0 == account.0 && known.open);
        if let Some(waiver) = waiver.filter(|_| !is_open) {
            is_noted = true;
            excused.push((waiver, due + late));
            continue;
        }
        let latest = blocking.entry(account.0.clone()).or_insert(due);
        *latest = due.max(*latest);
        proven = proven.max(due + late);
    }
    let verdict = match () {
        () if !blocking.is_empty() => Verdict::NotYet,
        () if !doubts.is_empty() => Verdict::Unknown,
        () if is_noted || !has_canary(&given, start, question.until) => Verdict::SafeWithNotes,
        () => Verdict::Safe,
    };
    let earliest = if matches!(verdict, Verdict::Safe | Verdict::SafeWithNotes) {
        None
    } else {
        doubts.iter().map(|doubt| doubt.1).try_fold(proven, |latest, clean| Some(latest.max(clean?))).map(|mut at| {
            excused.sort_by_key(|(_, proven)| *proven);
            loop {
                let next = excused.iter().filter(|(waiver, _)| !lasts(waiver, at)).map(|(_, proven)| *proven).max();
                match next.filter(|next| *next > at) {
                    Some(next) => at = next,
                    None => return at,
                }
            }
        })
    };
    let movement = movement::movement(&given, &accounts, question);
    Answer { verdict, blocking, earliest, doubts: doubts.into_iter().map(|doubt| doubt.0).collect(), movement }
}

/// Whether one came within the window, and within the day and a half before its end, or before everybody got 410 for good.
fn has_canary(given: &Given, start: i64, until: i64) -> bool {
    let records: Vec<&Record> = given.boots.values().flat_map(|boot| boot.records.values()).collect();
    let mut phases: Vec<_> = records.iter().filter(|record| record.name == "sunset.phase").collect();
    phases.sort_by_key(|record| (record.at, record.fields["log.seq"].as_u64()));
    let is_gone = |record: &&&&Record| record.text("sunset.phase") == "gone";
    let is_paused = phases.last().is_some_and(|record| record.fields["sunset.paused"] == true);
    let since = phases.iter().rev().take_while(is_gone).last().filter(|_| !is_paused);
    let end = since.map_or(until, |record| record.at);
    let earliest = start.max(end - 36 * HOUR);
    records.iter().any(|record| record.name == "canary.seen" && record.at >= earliest)
}

fn fits(waiver: &Waiver, identity: &str) -> bool {
    waiver.client == identity
}

fn lasts(waiver: &Waiver, at: i64) -> bool {
    let end = waiver.expires.tomorrow().expect("in range").to_zoned(jiff::tz::TimeZone::UTC).expect("in range");
    at < end.timestamp().as_millisecond()
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
