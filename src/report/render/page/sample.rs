//! Reports for the tests of this folder.

use jiff::civil::Date;
use jiff::{Span as Days, Timestamp};

use crate::report::evidence::Evidence;
use crate::report::judge;
use crate::report::outcome::{
    Client, DryRun, Input, Moves, PhaseChange, RefusedIn, Refusing, Rehearsed, Replica, Report, Rhythm, Span, State,
    Verdict, WouldBeRefused,
};
use crate::report::policy::Policy;
use crate::traffic::Engagement;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn day(text: &str) -> Date {
    text.parse().expect("a day")
}

/// Nothing at all was read.
pub(super) fn empty() -> Report {
    Report {
        verdict: Verdict::Unknown,
        reason: "the log is empty".to_owned(),
        earliest_safe: None,
        next: "sse-sunset serve --traffic-log PATH".to_owned(),
        notes: Vec::new(),
        days: Vec::new(),
        uses: Vec::new(),
        ..judge(&Evidence::default(), Input::default(), &Policy::at(now().as_millisecond()))
    }
}

/// Two weeks of one replica, which did not run for three hours on 10 November.
pub(super) fn with_a_gap() -> Report {
    let mut report = empty();
    report.days = day("2026-11-08").series(Days::new().days(1)).take(14).collect();
    report.uses = vec![0; 14];
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let gap = Span { from: at("2026-11-10T10:00:00Z"), to: at("2026-11-10T13:00:00Z") };
    let first = at("2026-11-08T09:00:00Z");
    report.coverage.first = Some(first);
    report.coverage.last = Some(now());
    report.coverage.gaps = vec![gap];
    report.coverage.gap_count = 1;
    let spans = vec![Span { from: first, to: gap.from }, Span { from: gap.to, to: now() }];
    report.coverage.replicas =
        vec![Replica { instance: "pod-a".to_owned(), boots: 2, crashes: 1, is_running: true, spans }];
    report
}

/// Announced, browned out for five minutes and paused, with a dry run.
pub(super) fn switching_off() -> Report {
    let mut report = with_a_gap();
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let change = |time: &str, phase: &str, paused| PhaseChange {
        at: at(time),
        phase: phase.to_owned(),
        before: None,
        by: "plan".to_owned(),
        why: None,
        until: None,
        paused,
        held_back: None,
        dry_run: None,
    };
    report.phases.changes = vec![
        change("2026-11-08T09:00:00Z", "observe", false),
        change("2026-11-09T09:00:00Z", "announce", false),
        change("2026-11-15T09:00:00Z", "brownout", false),
        change("2026-11-15T09:05:00Z", "announce", false),
        change("2026-11-18T09:00:00Z", "announce", true),
    ];
    report.phases.now = Some("announce".to_owned());
    let hit =
        Rehearsed { identity: "client_id:x".to_owned(), is_user: false, times: 2, last: at("2026-11-20T09:00:00Z") };
    let (since, until) = (at("2026-11-19T09:00:00Z"), None);
    report.dry_run =
        vec![DryRun { phase: Refusing::Gone, since, until, clients: 1, users: 0, times: 2, listed: vec![hit] }];
    report
}

/// As many clients as wanted, each with one use on each of 60 days.
pub(super) fn crowd(clients: usize) -> Report {
    let mut report = empty();
    report.days = day("2026-09-23").series(Days::new().days(1)).take(60).collect();
    report.uses = vec![u64::try_from(clients).expect("few"); 60];
    report.clients = (0..clients).map(|number| client(&format!("client {number}"))).collect();
    report
}

/// `text` wherever a log can put one.
pub(super) fn hostile(text: &str) -> Report {
    let mut report = crowd(1);
    let all = || vec![text.to_owned()];
    report.reason = text.to_owned();
    report.next = text.to_owned();
    report.notes = all();
    report.coverage.holes = all();
    report.coverage.missing_boots = all();
    report.coverage.replicas =
        vec![Replica { instance: text.to_owned(), boots: 1, crashes: 0, is_running: true, spans: Vec::new() }];
    report.input.problems = all();
    report.input.problem_count = 1;
    report.phases = switching_off().phases;
    report.phases.now = Some(text.to_owned());
    for change in &mut report.phases.changes {
        (change.phase, change.by, change.why) = (text.to_owned(), text.to_owned(), Some(text.to_owned()));
    }
    report.dry_run = switching_off().dry_run;
    for hit in report.dry_run.iter_mut().flat_map(|run| &mut run.listed) {
        text.clone_into(&mut hit.identity);
    }
    let mut client = client(text);
    client.source = text.to_owned();
    client.family = text.to_owned();
    client.seen_as = all();
    client.addresses = all();
    client.evidence = Some(format!("{text}/{text}/{text}"));
    let mut noise = client.clone();
    noise.identity += "noise";
    noise.state = State::Noise;
    report.clients = vec![client, noise];
    report
}

fn client(name: &str) -> Client {
    Client {
        identity: format!("name:{name}"),
        name: name.to_owned(),
        source: "client_info".to_owned(),
        is_principal: false,
        family: "other".to_owned(),
        seen_as: Vec::new(),
        principals: 1,
        addresses: Vec::new(),
        engagement: Engagement::Use,
        first_seen: now(),
        last_seen: now(),
        last_use: Some(now()),
        last_attempt: None,
        last_attempt_in: None,
        active_days: 60,
        sessions: 60,
        open_sessions: 0,
        uses: 60,
        refused: 0,
        refused_in: RefusedIn::new(),
        would_be_refused: WouldBeRefused::new(),
        longest_gap_s: 86_400,
        rhythm: Rhythm::Daily,
        due: Some(now()),
        state: State::Blocking,
        waiver: None,
        moves: Moves::Unknown,
        fix: "other",
        movement: None,
        modern: None,
        by_day: vec![1; 60],
        evidence: None,
    }
}
