//! Each rule of the verdict by itself: the log that just breaks it, and the one that just does not.

mod clients;
mod inputs;
mod movement;
mod phases;
mod proof;

use sse_sunset::report::outcome::{Report, State, Waiver};
use sse_sunset::report::policy::Policy;

use super::log::{Boot, DAY, HOUR, NOW, Who, file, policy, report};

/// Short enough for short logs, long enough that an hour is less than one in a hundred.
pub(super) const WINDOW: i64 = 5 * DAY;

/// One replica that ran through all of the last `days`, and whose canary works.
pub(super) fn solo(days: i64) -> Boot {
    let mut boot = Boot::alive("r", "b", NOW - days * DAY, NOW);
    boot.add(NOW - HOUR, "canary.seen", "");
    boot
}

pub(super) fn judged(boots: &[Boot]) -> Report {
    judged_with(boots, &policy(NOW, WINDOW))
}

pub(super) fn judged_with(boots: &[Boot], policy: &Policy) -> Report {
    let files: Vec<String> = boots.iter().map(|boot| file(&boot.lines())).collect();
    report(&files, policy)
}

/// The state and the due date of a client.
pub(super) fn client(report: &Report, identity: &str) -> (State, Option<i64>) {
    let row = report.clients.iter().find(|row| row.identity == identity).expect("a row");
    (row.state, row.due.map(jiff::Timestamp::as_millisecond))
}

/// The log without the records between two times.
pub(super) fn silence(boot: &mut Boot, from: i64, to: i64) {
    boot.records.retain(|record| record.at <= from || record.at >= to);
    boot.beat(from, "");
    boot.beat(to, "");
}

/// The lines without those that `drop` names by number.
pub(super) fn without(boot: &Boot, drop: impl Fn(usize) -> bool) -> String {
    let lines = boot.lines();
    file(&lines.into_iter().enumerate().filter(|(number, _)| !drop(*number)).map(|(_, line)| line).collect::<Vec<_>>())
}

pub(super) fn waiver(client: &str, expires: &str) -> Waiver {
    let expires = expires.parse().expect("a date");
    Waiver { client: client.to_owned(), owner: "Ada".into(), reason: "moves".into(), expires }
}

pub(super) fn app() -> Who {
    Who::principal("app")
}
