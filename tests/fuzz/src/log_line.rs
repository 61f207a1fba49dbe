//! Lines of a traffic log, whatever they hold: read, counted and judged without a panic, and the same when given again.

use sse_sunset::report::evidence::{Bounds, Evidence, Taken};
use sse_sunset::report::judge;
use sse_sunset::report::line::{Line, NotALine};
use sse_sunset::report::outcome::{Input, Report};
use sse_sunset::report::policy::Policy;

/// When the lines are judged: 2026-11-21T12:00:00Z.
const NOW: i64 = 1_795_262_400_000;

/// `data` is a log.
pub fn log_line(data: &[u8]) {
    let bounds = Bounds { since: None, until: None, now: NOW };
    let mut evidence = Evidence::default();
    let mut records = 0;
    for line in data.split(|byte| *byte == b'\n') {
        records += u64::from(takes(&mut evidence, line, &bounds));
    }
    let seen: u64 = evidence.boots.iter().map(|boot| boot.runs.count()).sum();
    assert_eq!(seen, records, "each record has one number");
    let before = report(&evidence);
    for line in data.split(|byte| *byte == b'\n') {
        assert!(!takes(&mut evidence, line, &bounds), "a record was new a second time");
    }
    assert_eq!(text(&before), text(&report(&evidence)), "what was given again changed something");
    // What is kept in a state directory comes back as it was.
    let kept = serde_json::to_vec(&evidence).expect("evidence is JSON");
    let evidence: Evidence = serde_json::from_slice(&kept).expect("evidence comes back");
    assert_eq!(text(&before), text(&report(&evidence)));
}

/// Whether `line` is a record that was not given before.
fn takes(evidence: &mut Evidence, line: &[u8], bounds: &Bounds) -> bool {
    match Line::parse(line) {
        Ok(record) => evidence.take(&record, bounds) != Taken::Duplicate,
        Err(NotALine::Schema(schema)) => {
            assert_ne!(schema, "sse-sunset/1", "the schema of now was not known");
            false
        }
        Err(_) => false,
    }
}

fn report(evidence: &Evidence) -> Report {
    judge(evidence, Input::default(), &Policy::at(NOW))
}

fn text(report: &Report) -> String {
    serde_json::to_string(report).expect("a report is JSON")
}
