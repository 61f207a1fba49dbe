//! The verdict cannot be fooled: histories by chance are read from files as an operator gives them, and held against a
//! model that is slow and obvious (`model`), and against themselves with something added, missing or in another order.
//!
//! `VERDICT_SEEDS=7..8` plays other histories; a failure names its seed.

mod history;
mod log;
mod model;
mod rules;

use std::collections::BTreeMap;
use std::ops::Range;

use sse_sunset::report::line::Line;
use sse_sunset::report::evidence::Bounds;
use sse_sunset::report::outcome::{Report, State, Verdict};
use sse_sunset::report::policy::Policy;
use sse_sunset::report::{input, judge, read};

use crate::simulation::chance::Chance;
use history::{History, Kind};
use log::{File, HOUR, MINUTE, NOW};
use model::{Answer, Question};

const SEEDS: Range<u64> = 0..60;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("VERDICT_SEEDS") else { return SEEDS };
    let (start, end) = text.split_once("..").expect("VERDICT_SEEDS is START..END");
    start.parse().expect("a number")..end.parse().expect("a number")
}

/// Runs `holds` for every seed, and tells of all that fail.
fn for_every_seed(holds: impl Fn(u64) -> Result<(), String>) {
    let failed: Vec<String> =
        seeds().filter_map(|seed| Some(format!("seed {seed}: {}", holds(seed).err()?))).collect();
    assert!(failed.is_empty(), "{} of them fail:\n{}", failed.len(), failed.iter().take(3).cloned().collect::<Vec<_>>().join("\n"));
}

fn policy(history: &History) -> Policy {
    Policy { waivers: history.waivers.clone(), ..log::policy(NOW, history.window) }
}

fn ask(files: &[File], history: &History) -> Answer {
    model::answer(files, &Question { until: NOW, window: history.window, waivers: &history.waivers })
}

fn is_safe(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Safe | Verdict::SafeWithNotes)
}

/// What a report says, in the model's terms.
fn essence(report: &Report) -> (Verdict, BTreeMap<String, i64>, Option<i64>) {
    let blocking = report.clients.iter().filter(|row| row.state.is_blocking());
    let due = |row: &sse_sunset::report::outcome::Client| row.due.expect("a date").as_millisecond();
    let blocking = blocking.map(|row| (row.identity.clone(), due(row))).collect();
    (report.verdict, blocking, report.earliest_safe.map(jiff::Timestamp::as_millisecond))
}

fn differ(what: &str, files: &[File], report: &Report, answer: &Answer) -> String {
    if let Ok(dir) = std::env::var("VERDICT_KEEP") {
        std::fs::create_dir_all(&dir).expect("a folder");
        log::write(std::path::Path::new(&dir), files);
    }
    let (verdict, blocking, earliest) = essence(report);
    format!(
        "{what}\nreport: {verdict:?} {blocking:?} {earliest:?} {}\nmodel:  {:?} {:?} {:?} {:?}",
        report.reason, answer.verdict, answer.blocking, answer.earliest, answer.doubts
    )
}

#[test]
fn verdict_is_that_of_the_model() {
    for_every_seed(|seed| {
        let history = history::history(seed, Kind { has_odd_clocks: false, has_gaps: seed % 3 == 0 });
        let mut files = history::files(&history, &mut Chance::new(seed, 1));
        let report = log::report(&files, &policy(&history));
        let answer = ask(&files, &history);
        if essence(&report) != (answer.verdict, answer.blocking.clone(), answer.earliest) {
            return Err(differ("", &files, &report, &answer));
        }
        // Pieces in another order, and some of them twice.
        files.reverse();
        files.push(files[0].clone());
        let again = log::report(&files, &policy(&history));
        same(&report, &again)
    });
}

/// Two reports say the same, but for what was read.
fn same(one: &Report, other: &Report) -> Result<(), String> {
    let text = |report: &Report| {
        let mut report = report.clone();
        report.input = Default::default();
        serde_json::to_string_pretty(&report).expect("json")
    };
    let (one, other) = (text(one), text(other));
    let differing = one.lines().zip(other.lines()).find(|(a, b)| a != b);
    match differing {
        None if one.len() == other.len() => Ok(()),
        differing => Err(format!("the order or a duplicate changed something: {differing:?}")),
    }
}

#[test]
fn verdict_is_never_safer_than_the_model_whatever_happened_to_the_log() {
    for_every_seed(|seed| {
        let kind = Kind { has_odd_clocks: seed % 2 == 0, has_gaps: seed % 3 == 0 };
        let history = history::history(seed, kind);
        let mut chance = Chance::new(seed, 2);
        let mut files = history::files(&history, &mut chance);
        let mut damages = Vec::new();
        for _ in 0..chance.below(4) {
            damages.push(history::damage(&mut files, &mut chance));
        }
        let report = log::report(&files, &policy(&history));
        let answer = ask(&files, &history);
        let is_safer = is_safe(report.verdict) && !is_safe(answer.verdict)
            || answer.verdict == Verdict::NotYet && report.verdict != Verdict::NotYet;
        if is_safer { Err(differ(&format!("{kind:?} {damages:?}"), &files, &report, &answer)) } else { Ok(()) }
    });
}
