//! Clocks that are wrong, and files that are damaged or something else.

use sse_sunset::report::outcome::{Report, State, Verdict};
use sse_sunset::report::policy::Policy;
use sse_sunset::report::{ReadError, access, input, judge, read};

use super::super::log::{self, BEAT, Boot, DAY, End, HOUR, NOW, SECOND, Who, file, policy, report};
use super::{WINDOW, app, client, judged, solo, without};

#[test]
fn clock_that_was_slow_makes_uses_and_holes_later() {
    let slow = 2 * DAY;
    let mut boot = solo(9);
    let at = NOW - 4 * DAY;
    boot.session("s", &app(), &[at]);
    for record in boot.records.iter_mut().filter(|record| record.at < NOW - 2 * HOUR) {
        record.says -= slow;
        record.last_use = record.last_use.map(|at| at - slow);
    }
    let first = boot
        .records
        .iter_mut()
        .filter(|record| record.at >= NOW - 2 * HOUR && record.name == "proxy.heartbeat")
        .min_by_key(|record| record.at);
    first.expect("a heartbeat").more = r#","clock.step_s":172800"#.to_owned();
    // Its clock said that it was six days ago, more than a window; it was four, within an hour.
    let (state, due) = client(&judged(&[boot.clone()]), "client_id:app");
    assert!(
        state == State::Blocking && (at + WINDOW..=at + WINDOW + HOUR).contains(&due.expect("a date")),
        "{state:?} {due:?}"
    );
    // The same if the step is read before what it moves.
    let mut lines = boot.lines();
    lines.reverse();
    assert_eq!(client(&report(&[file(&lines)], &policy(NOW, WINDOW)), "client_id:app"), (state, due));
    boot.records.retain(|record| !record.name.starts_with("legacy."));
    let dropped = usize::try_from(5 * DAY / BEAT).expect("small");
    let report = report(&[without(&boot, |number| number == dropped)], &policy(NOW, WINDOW));
    assert_eq!((report.verdict, report.coverage.holes.len()), (Verdict::Unknown, 1));
}

#[test]
fn records_from_the_future_are_taken_as_made_now() {
    let mut boot = solo(6);
    boot.session("s", &app(), &[NOW - HOUR]);
    boot.records
        .iter_mut()
        .filter(|record| record.name.starts_with("legacy."))
        .for_each(|record| record.says += 3 * DAY);
    let report = judged(&[boot]);
    // All four; the end says of its use what the fast clock did not touch.
    assert_eq!((report.input.from_the_future, client(&report, "client_id:app").1), (4, Some(NOW + WINDOW)));
}

#[test]
fn file_that_breaks_off_counts_where_nothing_follows() {
    let stopped = Boot::alive("r", "b1", NOW - 6 * DAY, NOW - 2 * DAY);
    let text = file(&stopped.lines());
    let next = file(&Boot::alive("r", "b2", NOW - 2 * DAY + SECOND, NOW).lines());
    for (cut, verdict) in [(0, Verdict::SafeWithNotes), (40, Verdict::Unknown)] {
        let report = report(&[text[..text.len() - cut].to_owned(), next.clone()], &policy(NOW, WINDOW));
        assert_eq!((report.verdict, report.input.broken), (verdict, u64::from(cut > 0)));
    }
    // A log that is being written may end anywhere.
    let growing = file(&solo(6).lines());
    let report = report(&[growing[..growing.len() - 40].to_owned()], &policy(NOW, WINDOW));
    assert_eq!(report.verdict, Verdict::Safe);
}

#[test]
fn damaged_and_foreign_lines_are_counted_and_only_damage_makes_doubt() {
    let lines = solo(6).lines();
    let middle = lines.len() / 2;
    for (line, verdict, broken, foreign) in [
        ("{\"level\":\"info\"}", Verdict::Safe, 0, 1),
        ("Started sse-sunset", Verdict::Safe, 0, 1),
        (&lines[middle][..100], Verdict::Unknown, 1, 0),
    ] {
        let mut lines = lines.clone();
        lines.insert(middle, line.to_owned());
        let report = report(&[file(&lines)], &policy(NOW, WINDOW));
        assert_eq!((report.verdict, report.input.broken, report.input.foreign), (verdict, broken, foreign), "{line}");
    }
}

#[test]
fn sessions_read_backwards_are_the_same_sessions() {
    let mut boot = solo(6);
    let door = Who::new("ua:node", "user_agent", "a");
    let who = Who::named("mcp", "a");
    boot.connect(NOW - 5 * HOUR, "s", &door);
    boot.identify(NOW - 5 * HOUR + 1, "s", &who);
    boot.uses(NOW - 5 * HOUR + 2, "s", &who, 1);
    boot.end(
        NOW - 4 * HOUR,
        "s",
        &who,
        &End { reason: "x", engagement: "use", uses: 3, last_use: Some(NOW - 5 * HOUR + 3) },
    );
    let mut lines = boot.lines();
    let there = judged(&[boot]);
    lines.reverse();
    let back = report(&[file(&lines)], &policy(NOW, WINDOW));
    let essence = |report: &Report| {
        let row = report.clients.iter().find(|row| row.identity == "name:mcp").expect("a row");
        (report.verdict, row.state, row.due, row.uses, row.sessions, row.open_sessions)
    };
    assert_eq!(essence(&there), essence(&back));
    assert_eq!((essence(&there).3, essence(&there).4), (3, 1));
}

#[test]
fn unknown_schema_is_an_error_that_names_the_line() {
    let newer = file(&solo(6).lines()).replace("sse-sunset/1", "sse-sunset/2");
    let error = log::attempt(&[newer], &policy(NOW, WINDOW)).expect_err("an error");
    assert!(matches!(error, ReadError::Schema { line: 1, .. }), "{error}");
    assert!(error.to_string().contains("sse-sunset/2"), "{error}");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let error = input::open(&["/nowhere/at/all.log".to_owned()]).expect_err("an error");
    assert!(error.to_string().contains("there is no such file"), "{error}");
}

#[test]
fn nothing_at_all_is_unknown() {
    for text in ["", "hello\n"] {
        let report = report(&[text.to_owned()], &policy(NOW, WINDOW));
        assert_eq!((report.verdict, report.earliest_safe), (Verdict::Unknown, None));
    }
}

#[test]
fn access_log_alone_is_never_safe() {
    let line = |method: &str, day: u8| {
        format!(
            "192.0.2.1 - - [{day:02}/Oct/2026:10:00:00 +0000] \"{method} /messages?sessionId=x HTTP/1.1\" 202 8 \"-\" \"node\"\n"
        )
    };
    for (text, verdict) in [(line("POST", 1), Verdict::Unknown), (line("POST", 30), Verdict::NotYet)] {
        let report = report(&[text], &Policy::at(NOW));
        assert_eq!((report.verdict, report.clients.len()), (verdict, 1), "{}", report.reason);
    }
}

#[test]
fn records_outside_the_bounds_are_left_out() {
    let mut boot = solo(9);
    boot.session("s", &app(), &[NOW - DAY]);
    let dir = tempfile::tempdir().expect("a directory");
    let names = log::write(dir.path(), &[file(&boot.lines())]);
    let until = NOW - 2 * DAY;
    let mut reading = log::reading(NOW);
    reading.bounds.until = Some(until);
    reading.paths = access::Paths::default();
    let (evidence, read) = read(input::open(&names).expect("inputs"), reading, &mut |_| {}).expect("evidence");
    let report = judge(&evidence, read, &Policy { now: NOW, ..policy(until, WINDOW) });
    assert_eq!((report.verdict, report.clients.len()), (Verdict::SafeWithNotes, 0));
    assert!(report.input.left_out > 1000);
}
