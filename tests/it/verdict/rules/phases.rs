//! Refusals of the switch-off are attempts to use like all others, whatever the phase; those of its dry runs are nothing.

use sse_sunset::report::outcome::{Refusing, Report, State, Verdict};
use sse_sunset::report::policy::Policy;

use super::super::log::{Boot, DAY, End, HOUR, MINUTE, NOW, SECOND, Who, policy};
use super::{WINDOW, client, judged, judged_with, solo, waiver};

const REASONS: [&str; 4] = ["freeze", "brownout", "tombstone", "gone"];

fn blocking(report: &Report) -> String {
    let blocking = report.clients.iter().filter(|row| row.state.is_blocking());
    blocking.map(|row| row.identity.as_str()).collect::<Vec<_>>().join(" ")
}

/// A replica of nine days on which `mcp` at the address `a` used the server seven days ago, long enough to be quiet, and
/// came as `ua:node` before it said so.
fn with_quiet_user() -> Boot {
    let mut boot = solo(9);
    let (at, who) = (NOW - 7 * DAY, Who::named("mcp", "a"));
    boot.connect(at, "s", &door("a"));
    boot.identify(at + 1, "s", &who);
    boot.uses(at + 2, "s", &who, 1);
    boot.end(at + 3, "s", &who, &End { reason: "x", engagement: "use", uses: 1, last_use: Some(at + 2) });
    boot
}

fn door(address: &str) -> Who {
    Who::new("ua:node", "user_agent", address)
}

#[test]
fn user_refused_in_a_phase_goes_on_blocking_and_the_reason_names_the_phase() {
    assert_eq!(judged(&[with_quiet_user()]).verdict, Verdict::Safe, "or the refusals prove nothing");
    for reason in REASONS {
        let mut boot = with_quiet_user();
        boot.refuse(NOW - 3 * DAY, &Who::named("mcp", "a"), reason, false);
        boot.refuse(NOW - 2 * DAY, &Who::named("mcp", "a"), reason, false);
        let report = judged(&[boot]);
        assert_eq!(client(&report, "name:mcp"), (State::Blocking, Some(NOW + 3 * DAY)), "{reason}");
        assert_eq!((report.verdict, report.totals.refused), (Verdict::NotYet, 2));
        assert_eq!(report.earliest_safe.map(jiff::Timestamp::as_millisecond), Some(NOW + 3 * DAY));
        assert_eq!(
            report.reason,
            format!("mcp was turned away 2 days ago ({reason}), and a refusal is no silence."),
            "{reason}"
        );
        let row = &report.clients[0];
        let phase = Refusing::of(reason).expect("a phase");
        assert_eq!((row.last_attempt_in, row.refused_in.get(&phase)), (Some(phase), Some(&2)));
    }
}

#[test]
fn user_refused_in_a_brownout_after_another_waits_from_the_last_one() {
    let mut boot = with_quiet_user();
    for hours in [90, 50, 10] {
        boot.refuse(NOW - hours * HOUR, &Who::named("mcp", "a"), "brownout", false);
    }
    assert_eq!(client(&judged(&[boot]), "name:mcp").1, Some(NOW - 10 * HOUR + WINDOW));
}

#[test]
fn stranger_refused_by_the_door_of_a_user_blocks_in_every_phase() {
    for reason in REASONS {
        let mut boot = with_quiet_user();
        boot.refuse(NOW - DAY, &door("elsewhere"), reason, false);
        let report = judged(&[boot]);
        assert_eq!((report.verdict, blocking(&report).as_str()), (Verdict::NotYet, "ua:node"), "{reason}");
        let expected =
            format!("node was turned away 24 hours ago ({reason}), and clients like it used the server before.");
        assert_eq!(report.reason, expected);
    }
}

#[test]
fn refusal_where_nobody_can_say_a_name_is_the_attempt_of_whoever_came_from_there() {
    // 410 comes before `initialize` and before any auth: all that is known is the connection.
    for (who, blocks) in [
        (door("a"), "name:mcp"),
        // Another library of the same host.
        (Who::new("ua:python-httpx", "user_agent", "a"), "name:mcp"),
        (Who::new("address:a", "address", "a"), "name:mcp"),
        (door("b"), "ua:node"),
        // Nobody who used the server came from there or looked like this: a scanner, or a newcomer.
        (Who::new("ua:curl", "user_agent", "b"), ""),
    ] {
        let mut boot = with_quiet_user();
        boot.refuse(NOW - DAY, &who, "gone", false);
        let report = judged(&[boot]);
        assert_eq!(blocking(&report), blocks, "{who:?}");
        let last = report.clients.iter().find(|row| row.identity == blocks).and_then(|row| row.last_attempt_in);
        assert_eq!(last, Some(Refusing::Gone).filter(|_| !blocks.is_empty()), "{who:?}");
    }
}

#[test]
fn principal_refused_before_any_auth_is_known_by_its_address() {
    let mut boot = solo(9);
    let user = Who::new("client_id:batch", "client_id", "a");
    boot.session("s", &user, &[NOW - 7 * DAY]);
    boot.refuse(NOW - DAY, &door("a"), "gone", false);
    assert_eq!(client(&judged(&[boot]), "client_id:batch"), (State::Blocking, Some(NOW + 4 * DAY)));
}

#[test]
fn newcomers_refused_in_a_phase_are_a_note_that_says_what_to_do() {
    let mut boot = solo(9);
    boot.refuse(NOW - DAY, &Who::principal("new"), "freeze", false);
    boot.refuse(NOW - DAY, &Who::named("crawler", "z"), "gone", false);
    let told = |boot: &Boot| {
        let report = judged(std::slice::from_ref(boot));
        assert_eq!(report.verdict, Verdict::SafeWithNotes);
        report.notes.into_iter().find(|note| note.contains("were turned away")).expect("a note")
    };
    let note = told(&boot);
    assert!(note.starts_with("2 attempts") && note.contains("new URL") && !note.contains("--allowed-host"), "{note}");
    boot.refuse(NOW - DAY, &Who::named("crawler", "z"), "limit", false);
    let note = told(&boot);
    assert!(note.starts_with("3 attempts") && note.contains("--allowed-host"), "{note}");
}

#[test]
fn waiver_holds_for_who_is_refused_in_a_phase() {
    let mut boot = with_quiet_user();
    boot.refuse(NOW - DAY, &Who::named("mcp", "a"), "tombstone", false);
    let policy = Policy { waivers: vec![waiver("name:mcp", "2027-01-01")], ..policy(NOW, WINDOW) };
    let report = judged_with(&[boot], &policy);
    assert_eq!((report.verdict, client(&report, "name:mcp").0), (Verdict::SafeWithNotes, State::Waived));
}

#[test]
fn phase_is_that_of_the_last_refusal_and_of_no_other_reason() {
    let user = Who::named("mcp", "a");
    for (refusals, phase) in [
        (&[("freeze", 3), ("brownout", 1)][..], Some(Refusing::Brownout)),
        (&[("gone", 1), ("brownout", 2)], Some(Refusing::Gone)),
        (&[("brownout", 2), ("limit", 1)], None),
    ] {
        let mut boot = with_quiet_user();
        for (reason, days) in refusals {
            boot.refuse(NOW - days * DAY, &user, reason, false);
        }
        let report = judged(&[boot]);
        assert_eq!(report.clients[0].last_attempt_in, phase, "{refusals:?}");
        assert_eq!(report.reason.contains('('), phase.is_some(), "{}", report.reason);
    }
}

#[test]
fn dry_run_is_neither_use_nor_attempt_and_tells_whom_it_would_have_hit() {
    for reason in REASONS {
        let mut boot = with_quiet_user();
        let user = Who::named("mcp", "a");
        boot.phase(
            NOW - 5 * DAY,
            "announce",
            "observe",
            &format!(r#","sunset.by":"operator","sunset.dry_run":"{reason}""#),
        );
        // A session that is over, one that is open, and a connection of which nothing is known.
        for (label, at) in [("t", NOW - 4 * DAY), ("u", NOW - HOUR)] {
            boot.connect(at, label, &door("a"));
            boot.rehearse(at, label, &door("a"), reason);
            boot.identify(at + SECOND, label, &user);
        }
        let how = End { reason: "x", engagement: "handshake", uses: 0, last_use: None };
        boot.end(NOW - 4 * DAY + MINUTE, "t", &user, &how);
        boot.refuse(NOW - DAY, &Who::new("ua:curl", "user_agent", "c"), reason, true);
        let report = judged(&[boot]);
        assert_eq!(
            (report.verdict, blocking(&report).as_str(), report.totals.refused),
            (Verdict::Safe, "", 0),
            "{reason}"
        );
        assert_eq!(client(&report, "name:mcp"), (State::Quiet, Some(NOW - 7 * DAY + 2 + WINDOW)));
        let [run] = report.dry_run.as_slice() else { panic!("one dry run: {:?}", report.dry_run) };
        let phase = Refusing::of(reason).expect("a phase");
        assert_eq!((run.phase, run.clients, run.users, run.times, run.until), (phase, 2, 1, 3, None));
        assert_eq!(run.since.as_millisecond(), NOW - 5 * DAY);
        let listed: Vec<(&str, bool, u64)> =
            run.listed.iter().map(|hit| (hit.identity.as_str(), hit.is_user, hit.times)).collect();
        assert_eq!(listed, [("name:mcp", true, 2), ("ua:curl", false, 1)]);
        let row = report.clients.iter().find(|row| row.identity == "name:mcp").expect("a row");
        let would = row.would_be_refused.get(&phase).expect("it would be");
        assert_eq!((would.times, would.last.as_millisecond()), (2, NOW - HOUR));
        assert!(row.refused_in.is_empty() && row.last_attempt.is_none());
    }
}

#[test]
fn dry_run_that_would_have_hit_nobody_says_so() {
    let mut boot = solo(9);
    boot.phase(NOW - 5 * DAY, "observe", "observe", r#","sunset.by":"start","sunset.dry_run":"tombstone""#);
    boot.phase(NOW - 2 * DAY, "observe", "observe", r#","sunset.by":"operator""#);
    let report = judged(&[boot]);
    let [run] = report.dry_run.as_slice() else { panic!("one dry run: {:?}", report.dry_run) };
    assert_eq!((run.clients, run.times, run.until.map(jiff::Timestamp::as_millisecond)), (0, 0, Some(NOW - 2 * DAY)));
}
