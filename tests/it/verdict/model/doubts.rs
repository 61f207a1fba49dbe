//! Whether silence is proven.

use serde_json::Value;

use super::super::log::HOUR;
use super::Question;
use super::given::{Boot, Given, Record};

const PULSE: i64 = 150_000;

/// What no boot proves, from the first record to the end.
pub(super) fn uncovered(given: &Given, until: i64) -> Vec<(i64, i64)> {
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
pub(super) fn doubts(
    given: &Given,
    uncovered: &[(i64, i64)],
    start: i64,
    question: &Question<'_>,
) -> Vec<(String, Option<i64>)> {
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
        if boot.stopped() || boot.last() < question.until - 150_000 || is_replaced {
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
    let within = |record: &&Record| record.at > start;
    let named = given.boots.values().flat_map(|boot| boot.records.values()).filter(within).flat_map(|record| {
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
