//! Who has moved to Streamable HTTP, and that it decides nothing.

use sse_sunset::report::outcome::{Client, Measured, Movement, Moves, Report, State, Verdict};
use sse_sunset::report::policy::{Pattern, Policy};

use super::super::log::{Boot, DAY, HOUR, MINUTE, NOW, Who, policy};
use super::{WINDOW, app, judged, judged_with, solo};

/// As `solo`, of a replica that passes modern clients through.
fn counting(days: i64) -> Boot {
    let mut boot = solo(days);
    boot.passes("mcp");
    boot
}

fn row<'a>(report: &'a Report, identity: &str) -> &'a Client {
    report.clients.iter().find(|row| row.identity == identity).expect("a row")
}

fn moved(report: &Report, identity: &str) -> Option<Movement> {
    row(report, identity).movement
}

#[test]
fn who_was_only_upgraded_or_seen_is_counted_and_never_in_the_way() {
    for way in [Boot::upgrade, Boot::modern] {
        let mut boot = counting(6);
        way(&mut boot, NOW - HOUR, &app());
        let report = judged(&[boot.clone()]);
        assert_eq!((report.verdict, report.clients.len(), report.moving.never_legacy), (Verdict::Safe, 0, 1));
        let all = judged_with(&[boot.clone()], &Policy { is_for_all: true, ..policy(NOW, WINDOW) });
        assert_eq!((row(&all, "client_id:app").state, all.verdict), (State::Modern, Verdict::Safe));
        assert_eq!(moved(&all, "client_id:app"), Some(Movement::ModernOnly));
        // Who is asked for by name is found.
        let asked = Policy { shown: vec![Pattern::new("app")], ..policy(NOW, WINDOW) };
        assert_eq!(judged_with(&[boot], &asked).clients.len(), 1);
    }
}

#[test]
fn upgrade_neither_hides_use_nor_excuses_it() {
    for way in [Boot::upgrade, Boot::modern] {
        let mut boot = counting(6);
        boot.session("s", &app(), &[NOW - DAY]);
        way(&mut boot, NOW - HOUR, &app());
        let report = judged(&[boot]);
        assert_eq!((report.verdict, row(&report, "client_id:app").state), (Verdict::NotYet, State::Blocking));
        assert_eq!(moved(&report, "client_id:app"), Some(Movement::Both));
        assert_eq!((report.moving.both, report.moving.never_legacy), (1, 0));
    }
}

#[test]
fn client_is_on_both_until_it_is_due_and_moved_from_then_on() {
    for (late, movement) in [(1, Movement::Both), (0, Movement::ModernOnly)] {
        let mut boot = counting(6);
        boot.session("s", &app(), &[NOW - WINDOW + late]);
        boot.modern(NOW - HOUR, &app());
        assert_eq!(moved(&judged(&[boot]), "client_id:app"), Some(movement), "{late}");
    }
}

#[test]
fn client_seen_nowhere_for_a_window_has_vanished_and_not_a_millisecond_earlier() {
    for (late, movement) in [(1, Movement::ModernOnly), (0, Movement::Vanished)] {
        let mut boot = counting(7);
        boot.session("s", &app(), &[NOW - WINDOW - DAY]);
        boot.modern(NOW - WINDOW + late, &app());
        assert_eq!(moved(&judged(&[boot]), "client_id:app"), Some(movement), "{late}");
    }
    let mut boot = counting(7);
    boot.session("s", &app(), &[NOW - WINDOW - DAY]);
    let report = judged(&[boot]);
    assert_eq!((report.verdict, moved(&report, "client_id:app")), (Verdict::Safe, Some(Movement::Vanished)));
}

#[test]
fn rare_client_may_be_silent_for_one_and_a_half_times_its_rhythm_there_too() {
    for (last, movement) in [(29, Movement::ModernOnly), (31, Movement::Vanished)] {
        let mut boot = counting(90);
        boot.session("s", &app(), &[NOW - 80 * DAY]);
        for visit in 0..3 {
            boot.modern(NOW - (last + visit * 20) * DAY, &app());
        }
        assert_eq!(moved(&judged(&[boot]), "client_id:app"), Some(movement), "{last} days ago");
    }
}

#[test]
fn none_seen_is_told_from_not_looked_for() {
    for (way, measured, on, off) in [
        ("", Measured::No, Movement::NotMeasured, Movement::NotMeasured),
        ("off", Measured::No, Movement::NotMeasured, Movement::NotMeasured),
        ("mcp", Measured::Yes, Movement::LegacyOnly, Movement::Vanished),
        ("all", Measured::Yes, Movement::LegacyOnly, Movement::Vanished),
    ] {
        let mut boot = solo(8);
        if !way.is_empty() {
            boot.passes(way);
        }
        boot.session("s", &Who::principal("on"), &[NOW - DAY]);
        boot.session("t", &Who::principal("off"), &[NOW - WINDOW - DAY]);
        let report = judged(&[boot]);
        assert_eq!(report.moving.measured, measured, "{way}");
        assert_eq!((moved(&report, "client_id:on"), moved(&report, "client_id:off")), (Some(on), Some(off)), "{way}");
    }
}

#[test]
fn heartbeat_alone_tells_what_is_passed_through_and_nobody_who_came_on_the_legacy_url_does() {
    let mut with_heartbeats = solo(8);
    with_heartbeats.beat(NOW - MINUTE, r#","passthrough":"mcp""#);
    let mut with_someone = solo(8);
    // What an upgraded client does on another day.
    with_someone.beat(NOW - MINUTE, r#","passthrough":"off""#);
    with_someone.modern(NOW - MINUTE, &Who::principal("other"));
    for (mut boot, measured, on, off) in [
        (with_heartbeats, Measured::Yes, Movement::LegacyOnly, Movement::Vanished),
        (with_someone, Measured::No, Movement::NotMeasured, Movement::NotMeasured),
    ] {
        boot.session("s", &app(), &[NOW - DAY]);
        boot.session("t", &Who::principal("gone"), &[NOW - WINDOW - DAY]);
        let report = judged(&[boot]);
        let seen = (report.moving.measured, moved(&report, "client_id:app"), moved(&report, "client_id:gone"));
        assert_eq!(seen, (measured, Some(on), Some(off)));
    }
}

#[test]
fn client_vanishes_only_where_all_replicas_counted_through_all_of_the_window() {
    let silent = |other: Boot| {
        let mut boot = counting(8);
        boot.session("s", &app(), &[NOW - WINDOW - DAY]);
        let report = judged(&[boot, other]);
        let moving = report.moving;
        (moving.measured, moving.replicas, moving.replicas_in_all, moved(&report, "client_id:app"))
    };
    let mut other = Boot::alive("q", "c", NOW - 8 * DAY, NOW);
    assert_eq!(silent(other.clone()), (Measured::Partly, 1, 2, Some(Movement::NotMeasured)));
    other.passes("all");
    assert_eq!(silent(other), (Measured::Yes, 2, 2, Some(Movement::Vanished)));
    // Before the window it does not matter.
    assert_eq!(silent(Boot::alive("q", "c", NOW - 8 * DAY, NOW - 6 * DAY)).0, Measured::Yes);
    let mut young = counting(4);
    young.session("s", &app(), &[NOW - DAY]);
    let report = judged(&[young]);
    assert_eq!(
        (report.moving.measured, moved(&report, "client_id:app")),
        (Measured::Partly, Some(Movement::LegacyOnly))
    );
}

#[test]
fn only_who_was_upgraded_moves_by_itself() {
    for (way, moves) in [(Boot::upgrade as fn(&mut Boot, i64, &Who), Moves::Auto), (Boot::modern, Moves::Unknown)] {
        let mut boot = counting(6);
        boot.session("s", &app(), &[NOW - DAY]);
        way(&mut boot, NOW - HOUR, &app());
        assert_eq!(row(&judged(&[boot]), "client_id:app").moves, moves);
    }
}

#[test]
fn name_that_many_share_moves_by_itself_only_when_all_that_still_come_were_upgraded() {
    for (upgraded, moves) in [(&["a"][..], Moves::Unknown), (&["a", "b"], Moves::Auto)] {
        let mut boot = counting(20);
        // Together they are silent for six days at most, so nine days are enough for the one that is gone.
        for (address, days) in [("gone", &[19][..]), ("b", &[14, 8, 2]), ("a", &[1])] {
            let uses: Vec<i64> = days.iter().map(|days| NOW - days * DAY).collect();
            boot.session(address, &Who::named("mcp", address), &uses);
        }
        for address in upgraded {
            boot.upgrade(NOW - HOUR, &Who::named("mcp", address));
        }
        let report = judged(&[boot]);
        let row = row(&report, "name:mcp");
        assert_eq!((row.principals, row.moves), (3, moves), "{upgraded:?}");
    }
}

#[test]
fn those_with_nothing_but_sse_come_first_among_those_in_the_way() {
    let mut boot = counting(6);
    for (name, days) in [("both", 1), ("sse", 2), ("gone", 5)] {
        boot.session(name, &Who::principal(name), &[NOW - days * DAY - HOUR]);
    }
    boot.modern(NOW - HOUR, &Who::principal("both"));
    let report = judged(&[boot]);
    let names: Vec<&str> = report.clients.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["sse", "both", "gone"]);
    assert!(report.reason.starts_with("both used the server"), "it blocks longest: {}", report.reason);
    let moving = report.moving;
    assert_eq!((moving.clients(), moving.legacy_only, moving.both, moving.vanished), (3, 1, 1, 1));
}
