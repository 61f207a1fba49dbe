//! Each rule of the verdict by itself: the log that just breaks it, and the one that just does not.

use sse_sunset::report::outcome::{Report, State, Verdict, Waiver};
use sse_sunset::report::policy::Policy;
use sse_sunset::report::{ReadError, access, input, judge, read};

use super::log::{self, BEAT, Boot, DAY, End, HOUR, MINUTE, NOW, SECOND, Who, file, policy, report};

/// Short enough for short logs, long enough that an hour is less than one in a hundred.
const WINDOW: i64 = 5 * DAY;

/// One replica that ran through all of the last `days`, and whose canary works.
fn solo(days: i64) -> Boot {
    let mut boot = Boot::alive("r", "b", NOW - days * DAY, NOW);
    boot.add(NOW - HOUR, "canary.seen", "");
    boot
}

fn judged(boots: &[Boot]) -> Report {
    judged_with(boots, &policy(NOW, WINDOW))
}

fn judged_with(boots: &[Boot], policy: &Policy) -> Report {
    let files: Vec<String> = boots.iter().map(|boot| file(&boot.lines())).collect();
    report(&files, policy)
}

/// The state and the due date of a client.
fn client(report: &Report, identity: &str) -> (State, Option<i64>) {
    let row = report.clients.iter().find(|row| row.identity == identity).expect("a row");
    (row.state, row.due.map(jiff::Timestamp::as_millisecond))
}

/// The log without the records between two times.
fn silence(boot: &mut Boot, from: i64, to: i64) {
    boot.records.retain(|record| record.at <= from || record.at >= to);
    boot.beat(from, "");
    boot.beat(to, "");
}

/// The lines without those that `drop` names by number.
fn without(boot: &Boot, drop: impl Fn(usize) -> bool) -> String {
    let lines = boot.lines();
    file(&lines.into_iter().enumerate().filter(|(number, _)| !drop(*number)).map(|(_, line)| line).collect::<Vec<_>>())
}

fn waiver(client: &str, expires: &str) -> Waiver {
    let expires = expires.parse().expect("a date");
    Waiver { client: client.to_owned(), owner: "Ada".into(), reason: "moves".into(), expires }
}

fn app() -> Who {
    Who::principal("app")
}

#[test]
fn whole_log_with_a_canary_and_nobody_is_safe() {
    let report = judged(&[solo(6)]);
    assert_eq!((report.verdict, report.notes.as_slice(), report.earliest_safe), (Verdict::Safe, &[][..], None));
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
    assert_eq!((report.verdict, client(&report, "name:bot").0), (Verdict::Safe, State::Noise));
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
    assert_eq!(judged(&[boot, other]).verdict, Verdict::Safe);
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
fn known_blockers_come_before_unknown_coverage() {
    let mut boot = Boot::new("r", "b");
    boot.session("s", &app(), &[NOW - DAY]);
    assert_eq!(judged(&[boot]).verdict, Verdict::NotYet);
}

#[test]
fn safety_without_a_canary_has_a_note_and_fails_a_strict_check() {
    for (canary, verdict, strict) in [(NOW - WINDOW, Verdict::Safe, 0), (NOW - WINDOW - 1, Verdict::SafeWithNotes, 1)] {
        let mut boot = Boot::alive("r", "b", NOW - 6 * DAY, NOW);
        boot.add(canary, "canary.seen", "");
        let report = judged(&[boot]);
        assert_eq!(
            (report.verdict, report.verdict.exit_code(false), report.verdict.exit_code(true)),
            (verdict, 0, strict)
        );
    }
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

#[test]
fn clock_that_was_slow_makes_uses_and_holes_later() {
    let slow = 2 * DAY;
    let mut boot = solo(9);
    let at = NOW - 4 * DAY;
    boot.session("s", &app(), &[at]);
    for record in boot.records.iter_mut().filter(|record| record.at < NOW - 2 * HOUR) {
        record.says -= slow;
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
