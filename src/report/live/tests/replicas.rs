//! What replicas tell one another, and what the report of each says then.

use super::super::replicas::{document as packed, read, read_within};
use super::*;

fn replica(instance: &str) -> Live {
    Live::open(None, instance, "LOG".into()).expect("a state").with_replicas()
}

fn uses(live: &Live, boot: &str, identity: &str) {
    live.observe(line_of(live.instance(), boot, 0, "proxy.start", "").as_bytes());
    live.observe(line_of(live.instance(), boot, 1, "legacy.use", &WHO.replace("client_id:x", identity)).as_bytes());
}

fn document(live: &Live) -> Vec<u8> {
    live.document().expect("a document").expect("news").bytes
}

fn known(live: &Live) -> Vec<String> {
    let mut names: Vec<String> = live.report_now().clients.into_iter().map(|row| row.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn replicas_tell_the_same_story_once_each_has_heard_the_others() {
    let lives = ["a", "b", "c"].map(replica);
    for live in &lives {
        uses(live, "boot", &format!("client_id:{}", live.instance()));
        live.set_peers(vec![]);
    }
    let documents: Vec<(&str, Vec<u8>)> = lives.iter().map(|live| (live.instance(), document(live))).collect();
    for live in &lives {
        for (instance, document) in &documents {
            live.hear(instance, Some(document)).expect("heard");
        }
    }
    let now = (Timestamp::now().as_millisecond() / MINUTE_MS + 2) * MINUTE_MS;
    let pages = lives.each_ref().map(|live| render::page::fragment(&live.report_at(now)));
    assert_eq!((&pages[0], &pages[1]), (&pages[1], &pages[2]));
    assert_eq!(known(&lives[0]), ["a", "b", "c"]);
    let report = lives[1].report_now();
    assert_eq!((report.verdict, report.input.records, report.totals.uses), (Verdict::NotYet, 6, 3));
    assert_eq!(lives[1].last_uses().len(), 3);
    let mut seen = 0;
    lives[2].look(|evidence| seen += evidence.people.groups().count());
    assert_eq!(seen, 3);
}

#[test]
fn document_is_made_until_it_arrived_and_when_something_is_new() {
    let live = replica("a");
    uses(&live, "b", "client_id:x");
    let first = document(&live);
    let again = live.document().expect("a document").expect("nobody said that the first one arrived");
    assert_eq!(again.bytes, first);
    live.told(again.change);
    assert!(live.document().expect("no error").is_none());
    live.observe(line(2, "legacy.use", WHO).as_bytes());
    assert_ne!(document(&live), first);
    // An own one that comes back is no other replica's.
    live.hear("a", Some(&first)).expect("its own");
    assert_eq!(live.report_now().totals.uses, 2);
}

#[test]
fn what_a_replica_knew_is_its_own_again_after_a_start_without_a_state_directory() {
    let before = replica("a");
    uses(&before, "b", "client_id:x");
    let past = document(&before);
    let live = replica("a");
    uses(&live, "c", "client_id:y");
    assert!(live.adopt(&past).expect("sense"));
    assert!(!live.adopt(&past).expect("sense"), "once");
    assert_eq!(known(&live), ["x", "y"]);
    assert_eq!(live.report_now().input.records, 4);
    // It tells all of it, and records that follow find their start.
    live.observe(line_of("a", "c", 2, "legacy.use", &WHO.replace("client_id:x", "client_id:y")).as_bytes());
    let other = replica("other");
    other.hear("a", Some(&document(&live))).expect("sense");
    assert_eq!((known(&other), other.report_now().totals.uses), (vec!["x".to_owned(), "y".to_owned()], 3));
    assert_eq!(other.report_now().coverage.missing_records, 0);
}

#[test]
fn past_that_was_heard_before_it_was_adopted_counts_once() {
    let before = replica("a");
    uses(&before, "b", "client_id:x");
    let past = document(&before);
    for is_heard_first in [true, false] {
        let live = replica("a");
        let hear = || live.hear("a", Some(&past)).expect("sense");
        if is_heard_first {
            hear();
        }
        assert!(live.adopt(&past).expect("sense"));
        if !is_heard_first {
            hear();
        }
        assert_eq!((known(&live), live.report_now().totals.uses), (vec!["x".to_owned()], 1));
        // Its own document comes back.
        live.hear("a", Some(&document(&live))).expect("sense");
        assert_eq!(live.report_now().totals.uses, 1);
    }
}

#[test]
fn state_directory_that_knows_its_past_is_believed_before_the_board() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path(), "a").with_replicas();
    uses(&live, "b", "client_id:x");
    let past = document(&live);
    live.save().expect("saved");
    drop(live);
    let live = open(dir.path(), "a").with_replicas();
    assert!(!live.adopt(&past).expect("sense"));
    live.hear("a", Some(&past)).expect("sense");
    assert_eq!(live.report_now().totals.uses, 1);
}

#[test]
fn fleet_remembers_for_a_replica_without_a_state_directory() {
    let alone = Live::open(None, "a", "LOG".into()).expect("a state");
    let shared = replica("a");
    shared.set_peers(vec![]);
    for (live, names_state) in [(alone, true), (shared, false)] {
        live.observe(line(0, "proxy.start", "").as_bytes());
        let report = live.report();
        assert_eq!(report.verdict, Verdict::Unknown, "it is young");
        assert_eq!(report.reason.contains("--state-dir"), names_state, "{}", report.reason);
    }
}

fn notes(live: &Live) -> String {
    live.report_now().notes.concat()
}

fn doubts_of(live: &Live) -> Vec<String> {
    live.shared.as_ref().expect("there may be others").replicas().doubts(live.instance())
}

#[test]
fn silence_of_others_is_a_doubt_until_they_are_heard() {
    let live = replica("a");
    live.observe(line(0, "proxy.start", "").as_bytes());
    assert!(notes(&live).contains("nobody could be asked"), "{}", notes(&live));
    live.set_peers(vec!["b".into()]);
    assert!(notes(&live).contains("Replica b runs"), "{}", notes(&live));
    assert_eq!((live.report().verdict, live.report().earliest_safe), (Verdict::Unknown, None));
    let other = replica("b");
    uses(&other, "c", "client_id:x");
    let document = document(&other);
    live.hear("b", Some(&document)).expect("sense");
    assert_eq!(doubts_of(&live), [""; 0]);
    live.set_cut_off(true);
    assert!(doubts_of(&live)[0].contains("cannot be reached"));
    live.set_cut_off(false);
    live.hear("b", Some(b"nonsense")).expect_err("no document");
    assert!(doubts_of(&live)[0].contains("What replica b tells makes no sense"));
    assert_eq!(known(&live), ["x"], "what it told before stays");
    live.hear("b", Some(&document)).expect("sense");
    assert_eq!(doubts_of(&live), [""; 0]);
}

#[test]
fn namesake_is_told_apart_and_nothing_it_knows_is_lost() {
    let (live, twin) = (replica("a"), replica("a"));
    uses(&live, "b", "client_id:x");
    uses(&twin, "c", "client_id:y");
    live.set_peers(vec!["a".into()]);
    live.hear("a", Some(&document(&twin))).expect("sense");
    assert!(notes(&live).contains("--instance"), "{}", notes(&live));
    assert_eq!(doubts_of(&live).len(), 1);
    assert_eq!(known(&live), ["x", "y"]);
}

#[test]
fn what_is_gone_from_the_board_is_known_for_as_long_as_it_matters() {
    let (live, other) = (replica("a"), replica("b"));
    uses(&other, "c", "client_id:x");
    live.hear("b", Some(&document(&other))).expect("sense");
    live.hear("b", None).expect("nothing to read");
    assert_eq!(known(&live), ["x"], "Redis may have been flushed");
    let shared = live.shared.as_ref().expect("there may be others");
    shared.replicas().miss("b", Timestamp::now().as_millisecond() + 46 * DAY_MS);
    assert_eq!(known(&live), [""; 0]);
}

#[test]
fn file_of_a_replica_that_is_heard_is_no_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = open(dir.path(), "b").with_replicas();
    other.observe(line_of("b", "c", 0, "proxy.start", "").as_bytes());
    other.save().expect("saved");
    let live = open(dir.path(), "a").with_replicas();
    live.set_peers(vec![]);
    live.observe(line(0, "proxy.start", "").as_bytes());
    assert_eq!((live.report_now().verdict, live.report_now().earliest_safe), (Verdict::Unknown, None));
    live.hear("b", Some(&document(&other))).expect("sense");
    assert_eq!(live.held().others, ["evidence-b.json"]);
    assert!(live.report_now().earliest_safe.is_some(), "nothing but time is missing");
}

#[test]
fn documents_are_bounded_and_of_one_form() {
    let long = packed(&[b' '; 1000]).expect("compressed");
    let error = read_within(&long, 999).expect_err("too long");
    assert!(error.to_string().contains("bytes of text"), "{error}");
    let other = packed(br#"{"form":2,"records":0,"evidence":{"boots":[],"people":{"groups":{},"persons":[]},"canaries":{},"last_canary":null,"damaged":null,"unread":[],"cut":[]}}"#).expect("compressed");
    let error = read(&other).expect_err("another form");
    assert!(error.to_string().contains("form 1, got 2"), "{error}");
}
