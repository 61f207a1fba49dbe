//! Who blocks, and until when.

use sse_sunset::report::outcome::{State, Verdict};
use sse_sunset::report::policy::Policy;

use super::super::log::{Boot, DAY, End, HOUR, MINUTE, NOW, SECOND, Who, policy};
use super::{WINDOW, app, client, judged, judged_with, solo, waiver};

#[test]
fn whole_log_with_a_canary_and_nobody_is_safe() {
    let report = judged(&[solo(6)]);
    let short = ["A window of less than 14 days misses whoever comes every other week.".to_owned()];
    assert_eq!((report.verdict, report.notes.as_slice(), report.earliest_safe), (Verdict::Safe, &short[..], None));
}

#[test]
fn use_blocks_for_a_window_and_not_a_millisecond_longer() {
    for (late, verdict, state) in [(0, Verdict::Safe, State::Quiet), (1, Verdict::NotYet, State::Blocking)] {
        let mut boot = solo(6);
        boot.session("s", &app(), &[NOW - WINDOW + late]);
        let report = judged(&[boot]);
        assert_eq!((report.verdict, client(&report, "client_id:app")), (verdict, (state, Some(NOW + late))));
        let earliest = report.earliest_safe.map(jiff::Timestamp::as_millisecond);
        assert_eq!(earliest, (late > 0).then_some(NOW + late));
    }
}

#[test]
fn window_is_thirty_days_and_can_be_chosen() {
    for (window, day, state) in
        [(30, 29, State::Blocking), (30, 31, State::Quiet), (14, 13, State::Blocking), (14, 15, State::Quiet)]
    {
        let mut boot = Boot::new("r", "b");
        boot.session("s", &app(), &[NOW - day * DAY]);
        let policy = if window == 30 { Policy::at(NOW) } else { policy(NOW, window * DAY) };
        assert_eq!(
            client(&judged_with(&[boot], &policy), "client_id:app"),
            (state, Some(NOW + (window - day) * DAY)),
            "{window} {day}"
        );
    }
}

#[test]
fn rare_client_has_one_and_a_half_times_its_longest_gap() {
    for (every, last, due) in
        [(7, 6, NOW + DAY * 9 / 2), (30, 40, NOW + 5 * DAY), (30, 46, NOW - DAY), (1, 6, NOW - DAY)]
    {
        let mut boot = Boot::new("r", "b");
        for visit in 0..3 {
            boot.session(&format!("s{visit}"), &app(), &[NOW - (last + visit * every) * DAY]);
        }
        assert_eq!(client(&judged(&[boot]), "client_id:app").1, Some(due), "every {every} days, {last} days ago");
    }
}

#[test]
fn longest_gap_of_an_anonymous_client_is_also_seen_over_its_addresses() {
    let mut boot = Boot::new("r", "b");
    for (address, day) in [("a", 38), ("b", 8)] {
        boot.session(address, &Who::named("mcp", address), &[NOW - day * DAY]);
    }
    assert_eq!(client(&judged(&[boot]), "name:mcp"), (State::Blocking, Some(NOW + 37 * DAY)));
}

#[test]
fn anonymous_clients_are_judged_by_address_and_shown_together() {
    let mut boot = Boot::new("r", "b");
    boot.session("s", &Who::named("mcp", "a"), &[NOW - 20 * DAY]);
    boot.session("t", &Who::named("mcp", "b"), &[NOW - 19 * DAY]);
    boot.session("u", &Who::named("mcp", "b"), &[NOW - DAY]);
    let report = judged(&[boot]);
    let [row] = report.clients.as_slice() else { panic!("one row: {:?}", report.clients) };
    assert_eq!((row.principals, row.addresses.as_slice()), (2, &["b".to_owned(), "a".to_owned()][..]));
    // The gap of b, which is also that of both together.
    assert_eq!(row.due.map(jiff::Timestamp::as_millisecond), Some(NOW + 26 * DAY));
}

#[test]
fn open_session_with_use_blocks_however_long_ago_the_use_was() {
    let mut boot = solo(20);
    boot.connect(NOW - 19 * DAY, "s", &app());
    boot.uses(NOW - 19 * DAY + 1, "s", &app(), 1);
    let report = judged(&[boot.clone()]);
    assert_eq!((report.verdict, client(&report, "client_id:app").0), (Verdict::NotYet, State::Open));
    let waived = Policy { waivers: vec![waiver("client_id:app", "2027-01-01")], ..policy(NOW, WINDOW) };
    assert_eq!(judged_with(&[boot], &waived).verdict, Verdict::NotYet, "a waiver does not close it");
}

#[test]
fn open_session_without_use_is_a_note_at_most() {
    for (who, verdict) in [(app(), Verdict::SafeWithNotes), (Who::named("bot", "a"), Verdict::Safe)] {
        let mut boot = solo(6);
        boot.connect(NOW - DAY, "s", &who);
        boot.identify(NOW - DAY + 1, "s", &who);
        assert_eq!(judged(&[boot]).verdict, verdict, "{who:?}");
    }
}

#[test]
fn crash_ends_sessions_where_the_hour_or_the_boot_does() {
    for (lives_on, last) in [(10 * MINUTE, 10 * MINUTE), (3 * HOUR, HOUR - 1)] {
        let at = NOW - 3 * DAY;
        let mut crashed = Boot::alive("r", "b1", NOW - 6 * DAY, at + lives_on);
        crashed.connect(at - 1, "s", &app());
        crashed.uses(at, "s", &app(), 1);
        let after = Boot::alive("r", "b2", at + lives_on + SECOND, NOW);
        let report = judged(&[crashed, after]);
        assert_eq!(client(&report, "client_id:app"), (State::Blocking, Some(at + last + WINDOW)));
        let [replica] = report.coverage.replicas.as_slice() else { panic!("one replica") };
        assert_eq!((replica.boots, replica.crashes, replica.is_running), (2, 1, true));
    }
}

#[test]
fn session_that_a_stopped_boot_left_open_is_lost() {
    let mut stopped = Boot::alive("r", "b1", NOW - 7 * DAY, NOW - 6 * DAY);
    stopped.connect(NOW - 6 * DAY - 2, "s", &app());
    stopped.uses(NOW - 6 * DAY - 1, "s", &app(), 1);
    stopped.add(NOW - 6 * DAY, "proxy.stop", "");
    let report = judged(&[stopped, Boot::alive("r", "b2", NOW - 6 * DAY + SECOND, NOW)]);
    assert_eq!(client(&report, "client_id:app").0, State::Quiet);
}

#[test]
fn of_two_processes_with_one_name_both_run() {
    let mut first = Boot::alive("r", "b1", NOW - 20 * DAY, NOW);
    first.connect(NOW - 19 * DAY, "s", &app());
    first.uses(NOW - 19 * DAY + 1, "s", &app(), 1);
    let report = judged(&[first, Boot::alive("r", "b2", NOW - 2 * DAY, NOW)]);
    assert_eq!(client(&report, "client_id:app").0, State::Open);
}

#[test]
fn refusal_after_use_is_an_attempt_and_before_it_is_not() {
    for (refused, due) in [(NOW - DAY, NOW + 4 * DAY), (NOW - 8 * DAY, NOW - DAY)] {
        let mut boot = solo(9);
        boot.session("s", &app(), &[NOW - 6 * DAY]);
        boot.refuse(refused, &app(), "freeze", false);
        assert_eq!(client(&judged(&[boot]), "client_id:app").1, Some(due));
    }
}

#[test]
fn refusal_of_one_who_never_used_the_server_blocks_nothing() {
    let mut boot = solo(6);
    boot.session("s", &Who::named("other", "a"), &[NOW - 5 * DAY - HOUR]);
    boot.refuse(NOW - DAY, &Who::named("bot", "b"), "limit", false);
    let report = judged(&[boot]);
    assert_eq!((report.verdict, client(&report, "name:bot").0), (Verdict::SafeWithNotes, State::Noise));
    assert!(
        report.notes.iter().any(|note| note.contains("1 attempts within the window were turned away")),
        "{:?}",
        report.notes
    );
}

#[test]
fn dry_run_refuses_nobody() {
    let mut boot = solo(7);
    boot.session("s", &app(), &[NOW - 6 * DAY]);
    boot.refuse(NOW - DAY, &app(), "freeze", true);
    assert_eq!(client(&judged(&[boot]), "client_id:app").1, Some(NOW - DAY));
}

#[test]
fn refusal_before_the_name_is_said_is_the_attempt_of_whoever_came_by_that_door() {
    let door = |address: &str| Who::new("ua:node", "user_agent", address);
    for (reason, address, blocks) in [
        ("gone", "a", "name:mcp"),
        ("host", "a", "name:mcp"),
        ("gone", "b", "ua:node"),
        ("host", "b", ""),
        ("origin", "b", ""),
    ] {
        let mut boot = solo(8);
        let at = NOW - 7 * DAY;
        boot.connect(at, "s", &door("a"));
        boot.identify(at + 1, "s", &Who::named("mcp", "a"));
        boot.uses(at + 2, "s", &Who::named("mcp", "a"), 1);
        boot.end(
            at + 3,
            "s",
            &Who::named("mcp", "a"),
            &End { reason: "x", engagement: "use", uses: 1, last_use: Some(at + 2) },
        );
        boot.refuse(NOW - DAY, &door(address), reason, false);
        let report = judged(&[boot]);
        let blocking: Vec<&str> =
            report.clients.iter().filter(|row| row.state.is_blocking()).map(|row| row.identity.as_str()).collect();
        assert_eq!(blocking.join(" "), blocks, "{reason} from {address}");
    }
}

#[test]
fn anonymous_noise_is_shown_and_blocks_nothing() {
    let mut boot = solo(6);
    boot.connect(NOW - DAY, "s", &Who::new("address:a", "address", "a"));
    boot.end(
        NOW - DAY + 1,
        "s",
        &Who::new("address:a", "address", "a"),
        &End { reason: "x", engagement: "connect", uses: 0, last_use: None },
    );
    boot.connect(NOW - DAY, "t", &Who::named("crawler", "b"));
    boot.end(
        NOW - DAY + 1,
        "t",
        &Who::named("crawler", "b"),
        &End { reason: "x", engagement: "handshake", uses: 0, last_use: None },
    );
    let report = judged(&[boot]);
    assert_eq!((report.verdict, report.totals.noise), (Verdict::Safe, 2));
}

#[test]
fn known_clients_that_never_used_the_server_are_a_note() {
    for (who, engagement) in [(app(), "handshake"), (Who::named("x", "a"), "discovery")] {
        let mut boot = solo(6);
        boot.connect(NOW - DAY, "s", &who);
        boot.end(NOW - DAY + 1, "s", &who, &End { reason: "x", engagement, uses: 0, last_use: None });
        let report = judged(&[boot]);
        assert_eq!((report.verdict, client(&report, &who.identity).0), (Verdict::SafeWithNotes, State::Looked));
    }
}

#[test]
fn end_that_tells_of_use_without_a_time_counts_at_its_end() {
    let mut boot = solo(6);
    boot.end(NOW - DAY, "s", &app(), &End { reason: "x", engagement: "use", uses: 2, last_use: None });
    assert_eq!(client(&judged(&[boot]), "client_id:app"), (State::Blocking, Some(NOW + 4 * DAY)));
}
