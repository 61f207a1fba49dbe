mod replicas;

use std::fs;
use std::sync::mpsc;

use super::*;
use crate::report::evidence::DAY_MS;
use crate::report::outcome::{Measured, Movement, Moves, State, Verdict};
use crate::report::render;

const WHO: &str = r#","legacy.session":"s","identity":"client_id:x","identity.source":"client_id","client.family":"other","client.address":"1""#;

fn line(seq: u64, name: &str, more: &str) -> String {
    line_of("a", "b", seq, name, more)
}

fn line_of(instance: &str, boot: &str, seq: u64, name: &str, more: &str) -> String {
    format!(
        r#"{{"@timestamp":"{}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"{instance}","boot.id":"{boot}","log.seq":{seq}{more}}}"#,
        crate::clock::now()
    )
}

fn open(dir: &Path, instance: &str) -> Live {
    Live::open(Some(dir), instance, "LOG".into()).expect("a state")
}

#[test]
fn evidence_outlives_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a/b");
    live.observe(line(0, "proxy.start", "").as_bytes());
    live.observe(line(1, "legacy.use", WHO).as_bytes());
    live.save().expect("saved");
    let busy = Live::open(Some(dir.path()), "a/b", "LOG".into()).expect_err("it is in use");
    assert!(busy.to_string().contains("--instance"), "{busy}");
    drop(live);
    let again = open(dir.path(), "a/b").report();
    assert_eq!((again.verdict, again.input.records), (Verdict::NotYet, 2));
    assert_eq!(again.clients.first().map(|client| client.uses), Some(1));
}

#[test]
fn process_without_a_state_directory_knows_little_and_says_so() {
    let live = Live::open(None, "a", "LOG".into()).expect("a state");
    live.observe(line(0, "proxy.start", "").as_bytes());
    let report = live.report();
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.reason.contains("--state-dir"), "{}", report.reason);
}

#[test]
fn damaged_state_is_put_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    for damaged in ["{\"form\":1,", "{\"form\":0,\"records\":1,\"evidence\":{}}"] {
        fs::write(dir.path().join("evidence-a_b.json"), damaged).expect("written");
        assert_eq!(open(dir.path(), "a/b").report().verdict, Verdict::Unknown);
        let aside = fs::read_to_string(dir.path().join("evidence-a_b.json.unreadable")).expect("it is kept");
        assert_eq!(aside, damaged);
    }
}

#[test]
fn what_a_killed_process_had_not_saved_is_taken_from_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("t.log");
    let start = line_of("a", "b", 0, "proxy.start", "");
    let lines = [
        start.clone(),
        line_of("a", "b", 1, "legacy.use", WHO),
        // The state directory was full from here on, over a whole start.
        line_of("a", "c", 0, "proxy.start", ""),
        line_of("a", "c", 1, "legacy.use", &WHO.replace("client_id:x", "client_id:y")),
        line_of("a", "c", 2, "proxy.stop", ""),
        line_of("other", "d", 7, "legacy.use", &WHO.replace("client_id:x", "client_id:z")),
        "{\"@timestamp\":\"cut off in the mid".to_owned(),
    ];
    fs::write(&log, lines.join("\n")).expect("written");
    let live = open(dir.path(), "a");
    live.observe(start.as_bytes());
    live.save().expect("saved");
    drop(live);
    let live = open(dir.path(), "a");
    assert_eq!(live.report_at(Timestamp::now().as_millisecond()).clients.len(), 0);
    for _ in 0..2 {
        live.catch_up(&log).expect("a log");
        let report = live.report_at(Timestamp::now().as_millisecond());
        let mut names: Vec<&str> = report.clients.iter().map(|row| row.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!((names, report.verdict, report.input.records), (vec!["x", "y"], Verdict::NotYet, 5));
        assert_eq!(report.coverage.missing_records, 0, "{:?}", report.coverage.holes);
    }
}

#[test]
fn log_that_was_rotated_away_meanwhile_leaves_a_hole_and_old_starts_leave_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("t.log");
    let end_of_old = format!("{}\n", line_of("a", "old", 9, "proxy.stop", ""));
    fs::write(&log, end_of_old).expect("written");
    let live = open(dir.path(), "a");
    live.catch_up(&log).expect("a log");
    live.observe(line(0, "proxy.start", "").as_bytes());
    live.save().expect("saved");
    assert_eq!(live.report().coverage.missing_records, 0, "nothing is known of that start, and nothing is missing");
    drop(live);
    for (boot, seq) in [("b", 5), ("unknown", 4)] {
        let mut end = line_of("a", boot, seq, "proxy.heartbeat", "");
        // Later than what is saved, by the clock of the log.
        end = end.replacen("\"@timestamp\":\"20", "\"@timestamp\":\"21", 1);
        fs::write(&log, end).expect("written");
        let live = open(dir.path(), "a");
        live.catch_up(&log).expect("a log");
        let report = live.report();
        assert_eq!((report.verdict, report.coverage.missing_records), (Verdict::Unknown, 4), "{boot}");
    }
}

#[test]
fn log_that_is_no_file_is_let_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a");
    for path in ["/dev/full", "/dev/zero", "/nonexistent/t.log"] {
        live.catch_up(Path::new(path)).expect("nothing to read");
    }
}

#[test]
fn replica_that_shares_the_directory_makes_the_verdict_unknown() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = open(dir.path(), "b");
    other.observe(line_of("b", "c", 0, "proxy.start", "").as_bytes());
    other.save().expect("saved");
    let live = open(dir.path(), "a");
    live.observe(line(0, "proxy.start", "").as_bytes());
    let year = Timestamp::now().as_millisecond() + 366 * DAY_MS;
    let doubts = super::doubts(&live.held().others, Forgotten::default(), year);
    assert!(doubts.len() == 1 && doubts[0].starts_with("evidence-b.json in the state directory"), "{doubts:?}");
    let report = live.report();
    assert_eq!((report.verdict, report.earliest_safe), (Verdict::Unknown, None));
    // For one report only.
    assert!(live.held().evidence.unread.is_empty());
}

#[test]
fn reports_of_one_minute_in_which_nothing_happened_are_the_same() {
    let live = Live::open(None, "a", "LOG".into()).expect("a state");
    live.observe(line(0, "proxy.start", "").as_bytes());
    live.observe(line(1, "legacy.use", WHO).as_bytes());
    // The minute after the next has begun and no record stands in it.
    let minute = (Timestamp::now().as_millisecond() / MINUTE_MS + 2) * MINUTE_MS;
    let at = |now| render::page::fragment(&live.report_at(now));
    let first = at(minute);
    assert_eq!(at(minute + 1_000), first);
    assert_eq!(at(minute + 59_999), first);
    assert_ne!(at(minute + MINUTE_MS), first, "its ages are those of another minute");
    live.observe(line(2, "legacy.use", &WHO.replace("client_id:x", "client_id:y")).as_bytes());
    assert_ne!(at(minute + 1_000), first);
}

#[test]
fn report_is_never_as_of_a_time_before_its_last_record_or_after_now() {
    let live = Live::open(None, "a", "LOG".into()).expect("a state");
    live.observe(line(0, "proxy.start", "").as_bytes());
    let now = Timestamp::now().as_millisecond();
    let report = live.report_at(now);
    assert!(report.generated.as_millisecond() <= now);
    assert_eq!(report.coverage.last.map(|last| last <= report.generated), Some(true));
}

#[test]
fn sessions_put_their_lines_down_while_somebody_judges_or_writes() {
    let live = Arc::new(Live::open(None, "a", "LOG".into()).expect("a state"));
    let judging = live.held();
    let (done, is_done) = mpsc::sync_channel(1);
    let session = Arc::clone(&live);
    std::thread::spawn(move || {
        session.observe(line(0, "legacy.use", WHO).as_bytes());
        done.send(())
    });
    is_done.recv_timeout(Duration::from_secs(60)).expect("it does not wait");
    drop(judging);
    assert_eq!(live.report().totals.uses, 1);
}

#[test]
fn lines_that_wait_are_bounded() {
    let live = Live::open(None, "a", "LOG".into()).expect("a state");
    let record = line(0, "legacy.use", WHO);
    for _ in 0..=MOST_WAITING / record.len() {
        live.observe(record.as_bytes());
        assert!(live.waiting().len() <= MOST_WAITING + record.len());
    }
    assert!(live.waiting().len() < MOST_WAITING);
}

#[test]
fn state_is_whole_however_many_write_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let live = &live;
            scope.spawn(move || {
                for seq in 0..20 {
                    let who = WHO.replace("client_id:x", &format!("client_id:{thread}-{seq}"));
                    live.observe(line_of("a", &thread.to_string(), seq, "legacy.use", &who).as_bytes());
                    live.save().expect("saved");
                }
            });
        }
    });
    drop(live);
    assert_eq!(open(dir.path(), "a").report().totals.users, 80);
}

#[test]
fn state_that_cannot_be_written_is_named_and_written_later() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path().join("state");
    fs::create_dir(&dir).expect("a directory");
    let live = open(&dir, "a");
    fs::rename(&dir, folder.path().join("gone")).expect("renamed");
    live.observe(line(0, "legacy.use", WHO).as_bytes());
    live.save().expect_err("nowhere to write to");
    let health = live.store_health().expect("a state");
    assert!(health.error.is_some() && health.saved.is_none(), "{health:?}");
    fs::rename(folder.path().join("gone"), &dir).expect("renamed");
    live.save().expect("nothing is forgotten");
    let health = live.store_health().expect("a state");
    assert!(health.error.is_none() && health.saved.is_some(), "{health:?}");
    drop(live);
    assert_eq!(open(&dir, "a").report().totals.uses, 1);
    let error = Live::open(Some(&folder.path().join("missing")), "a", "LOG".into()).expect_err("no directory");
    assert!(error.to_string().contains("missing/evidence-a.lock"), "{error}");
}

#[test]
fn old_noise_is_forgotten_and_users_are_not() {
    let mut evidence = Evidence::default();
    let now = Timestamp::now().as_millisecond();
    let bounds = bounds();
    for (seq, (name, id)) in
        [("legacy.refused", "old"), ("legacy.use", "user"), ("legacy.refused", "new")].into_iter().enumerate()
    {
        let text = line(u64::try_from(seq).expect("small"), name, &WHO.replace("client_id:x", id));
        let mut line = Line::parse(text.as_bytes()).expect("a record");
        line.at = if id == "new" { now } else { now - 100 * DAY_MS };
        evidence.take(&line, &bounds);
    }
    let old = Forgotten { accounts: 1, ..Forgotten::default() };
    assert_eq!(noise::forget(&mut evidence, now), old, "nobody is forgotten who may matter");
    let report = judge(&evidence, Input::default(), &Policy::at(now));
    let names: Vec<(&str, State)> = report.clients.iter().map(|row| (row.identity.as_str(), row.state)).collect();
    // The use was in a session that nobody ended, and its process still runs.
    assert_eq!(names, [("user", State::Open), ("new", State::Looked)]);
}

#[test]
fn those_who_came_by_streamable_http_only_are_bounded_and_cost_no_stranger_its_place() {
    let live = Live::open(None, "a", "LOG".into()).expect("a state");
    let many = u64::try_from(noise::MOST).expect("small") + TIDY_AFTER;
    live.observe(line(0, "legacy.use", WHO).as_bytes());
    live.observe(line(1, "legacy.refused", &WHO.replace("client_id:x", "client_id:turned-away")).as_bytes());
    live.observe(line(2, "modern.seen", WHO).as_bytes());
    for seq in 3..many {
        live.observe(line(seq, "modern.seen", &WHO.replace("client_id:x", &format!("client_id:{seq}"))).as_bytes());
    }
    live.save().expect("nothing to write");
    assert!(live.report().notes.iter().any(|note| note.contains(" came by Streamable HTTP only were forgotten")));
    let held = live.held();
    assert!(held.evidence.movers.count() <= noise::MOST, "{}", held.evidence.movers.count());
    assert!(held.evidence.movers.get("client_id:x").is_some(), "it uses SSE, so where else it is has to be known");
    assert_eq!((held.forgotten.accounts, held.forgotten.barred_until), (0, None));
}

#[test]
fn where_clients_moved_to_outlives_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a");
    live.observe(line(0, "proxy.start", r#","passthrough":"mcp""#).as_bytes());
    live.observe(line(1, "legacy.use", WHO).as_bytes());
    live.observe(line(2, "legacy.upgrade", WHO).as_bytes());
    live.save().expect("saved");
    drop(live);
    let report = open(dir.path(), "a").report();
    let row = report.clients.first().expect("a client");
    assert_eq!((row.movement, row.moves), (Some(Movement::Both), Moves::Auto));
    assert_eq!(row.modern.map(|modern| (modern.days, modern.upgrades)), Some((1, 1)));
    assert_eq!((report.moving.measured, report.moving.both), (Measured::Partly, 1), "it began today");
}

#[test]
fn attempts_are_remembered_as_long_as_they_count() {
    let mut evidence = Evidence::default();
    let now = Timestamp::now().as_millisecond();
    // Twice in 80 days: silent for 120 days at least before its silence tells anything.
    for (seq, (name, id, days)) in
        [("legacy.use", "user", 180), ("legacy.use", "user", 100), ("legacy.refused", "door", 70)]
            .into_iter()
            .enumerate()
    {
        let text = line(u64::try_from(seq).expect("small"), name, &WHO.replace("client_id:x", id));
        let mut line = Line::parse(text.as_bytes()).expect("a record");
        line.at = now - days * DAY_MS;
        evidence.take(&line, &bounds());
    }
    assert_eq!(noise::forget(&mut evidence, now), Forgotten::default());
    assert_eq!(noise::count(&evidence), 1);
    assert_eq!(noise::forget(&mut evidence, now + 60 * DAY_MS), Forgotten { accounts: 1, ..Forgotten::default() });
    assert_eq!(noise::count(&evidence), 0);
}

#[test]
fn strangers_are_bounded_and_those_turned_away_leave_a_doubt() {
    let live = Live::open(None, "a", "LOG".into()).expect("a state");
    let many = u64::try_from(noise::MOST).expect("small") + TIDY_AFTER;
    let session = |seq: u64| {
        let name = if seq == 3 { "legacy.refused" } else { "legacy.connect" };
        let who = WHO
            .replace("\"s\"", &format!("\"{seq}\""))
            .replace("client_id:x", &format!("name:{seq}"))
            .replace("client_id", "client_info");
        let end = r#","session.end.reason":"client_gone","legacy.engagement":"connect","legacy.uses":0"#;
        live.observe(line(2 * seq, name, &who).as_bytes());
        live.observe(line(2 * seq + 1, "legacy.end", &format!("{who}{end}")).as_bytes());
    };
    (0..many).for_each(session);
    live.save().expect("nothing to write");
    assert!(
        live.report().notes.iter().any(|note| note.contains(" accounts that never used the server were forgotten"))
    );
    let held = live.held();
    assert!(noise::count(&held.evidence) <= noise::MOST, "{}", noise::count(&held.evidence));
    assert!(held.forgotten.barred_until.is_some());
    let at = Timestamp::now().as_millisecond();
    let doubts = super::doubts(&[], held.forgotten, at - DAY_MS);
    assert!(doubts.len() == 1 && doubts[0].starts_with("So many strangers"), "{doubts:?}");
    assert_eq!(super::doubts(&[], held.forgotten, at + DAY_MS), [""; 0], "it ages");
}

#[test]
fn phase_refusals_and_dry_runs_outlive_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a");
    let refused = |reason: &str, dry_run: bool| {
        format!(r#"{WHO},"legacy.refused.reason":"{reason}","legacy.refused.dry_run":{dry_run}"#)
    };
    let phase = r#","sunset.phase":"brownout","sunset.phase.before":"announce","sunset.by":"plan""#;
    live.observe(line(0, "proxy.start", "").as_bytes());
    live.observe(line(1, "sunset.phase", phase).as_bytes());
    live.observe(line(2, "legacy.refused", &refused("brownout", false)).as_bytes());
    live.observe(line(3, "legacy.connect", WHO).as_bytes());
    live.observe(line(4, "legacy.refused", &refused("gone", true)).as_bytes());
    live.save().expect("saved");
    let before = render::json(&live.report_at(Timestamp::now().as_millisecond()));
    drop(live);
    let report = open(dir.path(), "a").report();
    assert_eq!(report.phases.now.as_deref(), Some("brownout"));
    assert_eq!(report.dry_run.iter().map(|run| (run.clients, run.times)).collect::<Vec<_>>(), [(1, 1)]);
    let row = report.clients.first().expect("a client");
    assert_eq!((row.refused, row.refused_in.len(), row.would_be_refused.len()), (1, 1, 1));
    let part = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["phases"].clone();
    assert_eq!(part(&render::json(&report)), part(&before));
}

#[test]
fn state_of_before_there_were_phases_is_taken_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a");
    live.observe(line(0, "proxy.start", "").as_bytes());
    live.observe(line(1, "legacy.use", WHO).as_bytes());
    live.save().expect("saved");
    drop(live);
    let path = dir.path().join("evidence-a.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a state")).expect("JSON");
    let evidence = state["evidence"].as_object_mut().expect("evidence");
    assert!(evidence.remove("phases").is_some());
    // Nor were there times of those that heartbeats named.
    evidence["boots"][0]["peers"] = serde_json::json!(["q/c"]);
    let text = state.to_string();
    assert!(!text.contains("refused_in") && !text.contains("rehearsed"), "what never happened takes no room: {text}");
    fs::write(&path, text).expect("written");
    let report = open(dir.path(), "a").report();
    assert_eq!((report.verdict, report.phases.now.as_deref(), report.clients.len()), (Verdict::NotYet, None, 1));
    assert_eq!(report.coverage.missing_boots, ["q/c"]);
}
