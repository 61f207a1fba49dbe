//! Whether silence is proven, and which verdict comes of everything.

use sse_sunset::report::outcome::Verdict;
use sse_sunset::report::policy::Policy;

use super::super::log::{BEAT, Boot, DAY, HOUR, NOW, Who, policy, report};
use super::{WINDOW, app, client, judged, judged_with, silence, solo, waiver, without};

#[test]
fn evidence_must_be_as_old_as_the_window() {
    for (late, verdict) in [(0, Verdict::SafeWithNotes), (1, Verdict::Unknown)] {
        let report = judged(&[Boot::alive("r", "b", NOW - WINDOW + late, NOW)]);
        assert_eq!(report.verdict, verdict, "{late}");
        assert_eq!(report.earliest_safe.map(jiff::Timestamp::as_millisecond), (late > 0).then_some(NOW + late));
    }
}

#[test]
fn gap_of_an_hour_is_allowed_and_a_longer_one_is_not() {
    for (longer, verdict) in [(0, Verdict::Safe), (1, Verdict::Unknown)] {
        let mut boot = solo(6);
        silence(&mut boot, NOW - 3 * DAY, NOW - 3 * DAY + HOUR + longer);
        let report = judged(&[boot]);
        assert_eq!((report.verdict, report.coverage.gap_count), (verdict, 1), "{longer}");
        // The rest of it is short enough a millisecond after its first has left the window.
        let earliest = report.earliest_safe.map(jiff::Timestamp::as_millisecond);
        assert_eq!(earliest, (longer > 0).then_some(NOW + 2 * DAY + longer));
    }
}

#[test]
fn ninety_nine_percent_is_enough_and_less_is_not() {
    for (longer, verdict) in [(0, Verdict::Safe), (1, Verdict::Unknown)] {
        let mut boot = solo(6);
        silence(&mut boot, NOW - 3 * DAY, NOW - 3 * DAY + HOUR / 2);
        silence(&mut boot, NOW - 2 * DAY, NOW - 2 * DAY + WINDOW / 100 - HOUR / 2 + longer);
        let report = judged(&[boot]);
        assert_eq!(report.verdict, verdict, "{longer}");
        assert!((report.coverage.ratio - 0.99).abs() < 1e-6, "{}", report.coverage.ratio);
        let earliest = report.earliest_safe.map(jiff::Timestamp::as_millisecond);
        assert_eq!(earliest, (longer > 0).then_some(NOW + 2 * DAY + longer));
    }
}

#[test]
fn other_replica_covers_a_gap() {
    let mut boot = solo(6);
    silence(&mut boot, NOW - 3 * DAY, NOW - 3 * DAY + 5 * HOUR);
    assert_eq!(judged(&[boot.clone()]).verdict, Verdict::Unknown);
    let other = Boot::alive("q", "c", NOW - 3 * DAY - HOUR, NOW - 3 * DAY + 6 * HOUR);
    // The gap is covered, and what became of that replica is not known.
    let report = judged(&[boot, other]);
    assert_eq!(report.verdict, Verdict::SafeWithNotes);
    assert!(report.notes.iter().any(|note| note.starts_with("q did not say that it ended")), "{:?}", report.notes);
}

#[test]
fn log_that_ended_long_ago_proves_nothing_since() {
    let report = judged(&[Boot::alive("r", "b", NOW - 9 * DAY, NOW - 2 * HOUR)]);
    assert_eq!(report.verdict, Verdict::Unknown);
}

#[test]
fn hole_counts_while_a_record_after_it_is_in_the_window() {
    let boot = solo(8);
    let lines = boot.lines();
    let day = |days: i64| usize::try_from((8 - days) * DAY / BEAT).expect("small");
    for (dropped, verdict) in [(day(3), Verdict::Unknown), (day(7), Verdict::Safe), (0, Verdict::Safe)] {
        let text = without(&boot, |number| number == dropped);
        let report = report(&[text], &policy(NOW, WINDOW));
        assert_eq!(report.verdict, verdict, "{dropped} of {}", lines.len());
    }
    let report = report(&[without(&boot, |number| (day(3)..day(3) + 4).contains(&number))], &policy(NOW, WINDOW));
    assert_eq!((report.coverage.missing_records, report.coverage.holes.len()), (4, 1));
}

#[test]
fn lost_records_count_while_they_were_told_within_the_window() {
    for (told, verdict) in [(3, Verdict::Unknown), (7, Verdict::Safe)] {
        let mut boot = solo(8);
        for record in
            boot.records.iter_mut().filter(|record| record.at > NOW - told * DAY && record.name == "proxy.heartbeat")
        {
            record.more += r#","log.lost":2"#;
        }
        assert_eq!(judged(&[boot]).verdict, verdict, "{told} days ago");
    }
}

#[test]
fn boot_that_heartbeats_name_and_no_file_shows_is_a_missing_log() {
    let mut boot = solo(6);
    boot.beat(NOW - DAY, r#","fleet.boots":["q/c"]"#);
    let report = judged(&[boot.clone()]);
    assert_eq!((report.verdict, report.coverage.missing_boots.as_slice()), (Verdict::Unknown, &["q/c".to_owned()][..]));
    assert_eq!(report.earliest_safe, None);
    assert_eq!(judged(&[boot, Boot::alive("q", "c", NOW - 2 * DAY, NOW)]).verdict, Verdict::Safe);
}

#[test]
fn boot_that_was_named_only_before_the_window_is_not_missed() {
    for (at, verdict) in [(WINDOW + HOUR, Verdict::Safe), (WINDOW - HOUR, Verdict::Unknown)] {
        let mut boot = solo(7);
        boot.beat(NOW - at, r#","fleet.boots":["q/c"]"#);
        assert_eq!(judged(&[boot]).verdict, verdict);
    }
}

#[test]
fn known_blockers_come_before_unknown_coverage() {
    let mut boot = Boot::new("r", "b");
    boot.session("s", &app(), &[NOW - DAY]);
    assert_eq!(judged(&[boot]).verdict, Verdict::NotYet);
}

#[test]
fn safety_without_a_recent_canary_has_a_note_and_fails_a_strict_check() {
    let recent = 36 * HOUR;
    for (canary, gone, verdict, strict) in [
        (recent, None, Verdict::Safe, 0),
        (recent + 1, None, Verdict::SafeWithNotes, 1),
        (WINDOW + 1, None, Verdict::SafeWithNotes, 1),
        // In the phase gone it is refused like everybody.
        (2 * DAY + recent, Some(2 * DAY), Verdict::Safe, 0),
        (2 * DAY + recent + 1, Some(2 * DAY), Verdict::SafeWithNotes, 1),
        (WINDOW, Some(WINDOW - recent), Verdict::Safe, 0),
        (WINDOW + 1, Some(WINDOW - recent + 1), Verdict::SafeWithNotes, 1),
    ] {
        let mut boot = Boot::alive("r", "b", NOW - 6 * DAY, NOW);
        boot.add(NOW - canary, "canary.seen", "");
        if let Some(gone) = gone {
            boot.phase(NOW - gone, "gone", "tombstone", "");
        }
        let report = judged(&[boot]);
        assert_eq!(
            (report.verdict, report.verdict.exit_code(false), report.verdict.exit_code(true)),
            (verdict, 0, strict),
            "{canary} {gone:?}"
        );
    }
}

/// While gone is paused everybody is served, and a canary too.
#[test]
fn pause_of_the_phase_gone_misses_the_canary_again() {
    let mut boot = Boot::alive("r", "b", NOW - 6 * DAY, NOW);
    boot.add(NOW - 3 * DAY, "canary.seen", "");
    boot.phase(NOW - 2 * DAY, "gone", "tombstone", "");
    assert_eq!(judged(std::slice::from_ref(&boot)).verdict, Verdict::Safe);
    boot.phase(NOW - DAY, "gone", "gone", r#","sunset.paused":true"#);
    assert_eq!(judged(std::slice::from_ref(&boot)).verdict, Verdict::SafeWithNotes);
    boot.phase(NOW - HOUR, "gone", "gone", "");
    assert_eq!(judged(&[boot]).verdict, Verdict::Safe);
}

#[test]
fn exit_codes_tell_verdicts_apart() {
    let codes: Vec<(u8, u8)> = Verdict::ALL.iter().map(|it| (it.exit_code(false), it.exit_code(true))).collect();
    assert_eq!(codes, [(0, 0), (0, 1), (3, 3), (1, 1)]);
}

#[test]
fn waiver_holds_to_the_end_of_its_last_day_and_for_its_client_only() {
    for (client, expires, verdict) in [
        ("client_id:app", "2026-11-21", Verdict::SafeWithNotes),
        ("client_id:app", "2026-11-20", Verdict::NotYet),
        ("client_id:ap", "2027-01-01", Verdict::NotYet),
        ("client_id:a*", "2027-01-01", Verdict::SafeWithNotes),
    ] {
        let mut boot = solo(6);
        boot.session("s", &app(), &[NOW - DAY]);
        let policy = Policy { waivers: vec![waiver(client, expires)], ..policy(NOW, WINDOW) };
        assert_eq!(judged_with(&[boot], &policy).verdict, verdict, "{client} until {expires}");
    }
}

#[test]
fn earliest_safe_date_knows_that_waivers_expire() {
    let mut boot = solo(6);
    boot.session("s", &app(), &[NOW - DAY]);
    boot.session("t", &Who::principal("other"), &[NOW - 2 * DAY]);
    for (expires, days) in [("2026-11-23", 4), ("2026-11-24", 3)] {
        let policy = Policy { waivers: vec![waiver("client_id:app", expires)], ..policy(NOW, WINDOW) };
        let report = judged_with(&[boot.clone()], &policy);
        assert_eq!(report.earliest_safe.map(jiff::Timestamp::as_millisecond), Some(NOW + days * DAY), "{expires}");
    }
}

#[test]
fn uncovered_time_pushes_the_earliest_safe_date_out() {
    let mut boot = solo(6);
    boot.session("s", &app(), &[NOW - 2 * DAY]);
    silence(&mut boot, NOW - DAY, NOW - DAY + HOUR);
    let report = judged(&[boot]);
    assert_eq!(client(&report, "client_id:app").1, Some(NOW + 3 * DAY));
    assert_eq!(report.earliest_safe.map(jiff::Timestamp::as_millisecond), Some(NOW + 3 * DAY + HOUR));
}
