//! Where those who used SSE have moved to.

use std::collections::{BTreeMap, BTreeSet};

use sse_sunset::report::outcome::Movement;

use super::super::log::DAY;
use super::accounts::{Known, longest};
use super::given::{Account, Boot, Given, Record};
use super::{Question, due};

pub(super) fn movement(
    given: &Given,
    accounts: &BTreeMap<Account, Known>,
    question: &Question<'_>,
) -> BTreeMap<String, Movement> {
    let start = question.until - question.window;
    let counts = |boot: &&Boot| boot.records.values().any(passes);
    let counting: Vec<&Boot> = given.boots.values().filter(counts).collect();
    let within: Vec<&Boot> = given.boots.values().filter(|boot| boot.last() > start).collect();
    let is_measured = within.iter().any(counts);
    let is_wholly = is_measured && within.iter().all(counts) && counting.iter().any(|boot| boot.first() <= start);
    let mut all = BTreeMap::new();
    for (account, known) in accounts {
        if due(account, known, accounts, question.window).is_none() {
            continue;
        }
        let identity = &account.0;
        let of_identity = || accounts.iter().filter(|(other, _)| other.0 == *identity);
        let on_sse = of_identity().any(|(other, known)| {
            known.open || due(other, known, accounts, question.window).is_some_and(|due| due > question.until)
        });
        let together: BTreeSet<i64> = of_identity().flat_map(|(_, known)| known.uses.iter().copied()).collect();
        let gap = of_identity().map(|(_, known)| longest(&known.uses)).chain([longest(&together)]).max();
        let on_http = is_on_http(given, identity, gap.expect("itself"), question);
        let movement = match (on_sse, on_http) {
            (true, true) => Movement::Both,
            (false, true) => Movement::ModernOnly,
            (true, false) if is_measured => Movement::LegacyOnly,
            (false, false) if is_wholly => Movement::Vanished,
            _ => Movement::NotMeasured,
        };
        all.insert(identity.clone(), movement);
    }
    all
}

fn passes(record: &Record) -> bool {
    !matches!(record.text("passthrough"), "" | "off")
}

fn is_on_http(given: &Given, identity: &str, gap: i64, question: &Question<'_>) -> bool {
    let records = given.boots.values().flat_map(|boot| boot.records.values());
    let seen = records.filter(|record| record.is_modern() && record.text("identity") == identity);
    let times: BTreeSet<i64> = seen.map(|record| record.at).collect();
    let days: BTreeSet<i64> = times.iter().map(|at| at.div_euclid(DAY) * DAY).collect();
    let patience = question.window.max(gap.max(longest(&days)) * 3 / 2);
    times.last().is_some_and(|last| last + patience > question.until)
}
