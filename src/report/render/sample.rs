//! Reports for the tests of every form, and the files that say how each has to look.
//!
//! `UPDATE_EXPECTED=1 cargo test --lib report::render` writes the files anew; the difference is then read, not trusted.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::{Date, date};

use crate::report::outcome::*;
use crate::traffic::Engagement;

/// Compares `text` with the file `name` below `expected`.
pub(super) fn expect(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/render/expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, text).expect("a file that can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} is not as expected; it is now:\n{text}");
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A client that used the server and is quiet by now.
pub(super) fn client(name: &str) -> Client {
    Client {
        identity: format!("name:{name}"),
        name: name.to_owned(),
        source: "client_info".to_owned(),
        is_principal: false,
        family: "other".to_owned(),
        seen_as: vec![format!("{name} 1.0.0")],
        principals: 1,
        addresses: vec!["c8cb28cf5ee2a8fb".to_owned()],
        engagement: Engagement::Use,
        first_seen: at("2026-09-23T08:00:00Z"),
        last_seen: at("2026-09-25T08:00:00Z"),
        last_use: Some(at("2026-09-25T08:00:00Z")),
        last_attempt: None,
        last_attempt_in: None,
        active_days: 2,
        sessions: 3,
        open_sessions: 0,
        uses: 12,
        refused: 0,
        refused_in: RefusedIn::new(),
        would_be_refused: WouldBeRefused::new(),
        longest_gap_s: 86_400,
        rhythm: Rhythm::Irregular,
        due: Some(at("2026-10-25T08:00:00Z")),
        state: State::Quiet,
        waiver: None,
        moves: Moves::Unknown,
        fix: "other",
        movement: None,
        modern: None,
        by_day: Vec::new(),
        evidence: Some("web-1/435a6846f398da42/1204".to_owned()),
    }
}

/// Seen by Streamable HTTP until two hours ago, upgraded at some time or never.
fn modern(upgraded: Option<Timestamp>) -> Modern {
    Modern {
        first: upgraded.unwrap_or(at("2026-11-18T08:00:00Z")),
        last: at("2026-11-21T10:00:00Z"),
        days: 4,
        upgrades: upgraded.map_or(0, |_| 3),
        first_upgrade: upgraded,
        last_upgrade: upgraded,
    }
}

fn blocking() -> Vec<Client> {
    vec![
        Client {
            family: "mcp-remote".to_owned(),
            seen_as: vec!["Cursor 1.7.0".to_owned(), "mcp-remote 0.1.31".to_owned()],
            principals: 3,
            last_seen: at("2026-11-21T11:58:00Z"),
            last_use: Some(at("2026-11-21T11:55:00Z")),
            active_days: 41,
            sessions: 212,
            open_sessions: 2,
            uses: 4_711,
            rhythm: Rhythm::Weekdays,
            due: Some(at("2026-12-21T11:55:00Z")),
            state: State::Open,
            moves: Moves::Config,
            fix: "mcp-remote",
            movement: Some(Movement::Both),
            modern: Some(modern(None)),
            ..client("Cursor via mcp-remote")
        },
        Client {
            identity: "client_id:reporting".to_owned(),
            source: "client_id".to_owned(),
            is_principal: true,
            family: "python-sdk".to_owned(),
            last_seen: at("2026-11-16T06:00:09Z"),
            last_use: Some(at("2026-11-16T06:00:05Z")),
            active_days: 8,
            sessions: 8,
            uses: 96,
            longest_gap_s: 604_805,
            rhythm: Rhythm::Weekly,
            would_be_refused: WouldBeRefused::from([(
                Refusing::Tombstone,
                WouldBe { times: 7, last: at("2026-11-16T06:00:00Z") },
            )]),
            due: Some(at("2026-12-16T06:00:05Z")),
            state: State::Blocking,
            moves: Moves::Code,
            fix: "python-sdk",
            movement: Some(Movement::LegacyOnly),
            ..client("reporting")
        },
        Client {
            identity: "header:team-データ分析基盤-with-a-very-long-name-that-nobody-can-read".to_owned(),
            source: "header".to_owned(),
            is_principal: true,
            last_seen: at("2026-11-10T09:30:00Z"),
            last_use: Some(at("2026-11-02T09:00:00Z")),
            last_attempt: Some(at("2026-11-10T09:30:00Z")),
            last_attempt_in: Some(Refusing::Brownout),
            refused: 14,
            refused_in: RefusedIn::from([(Refusing::Freeze, 2), (Refusing::Brownout, 9)]),
            due: Some(at("2026-12-10T09:30:00Z")),
            state: State::Blocking,
            movement: Some(Movement::LegacyOnly),
            ..client("team-データ分析基盤-with-a-very-long-name-that-nobody-can-read")
        },
    ]
}

fn others() -> Vec<Client> {
    vec![
        Client {
            state: State::Waived,
            movement: Some(Movement::LegacyOnly),
            last_use: Some(at("2026-11-19T23:00:00Z")),
            last_seen: at("2026-11-19T23:00:00Z"),
            due: Some(at("2026-12-19T23:00:00Z")),
            waiver: Some(Waiver {
                client: "name:nightly-*".to_owned(),
                owner: "ops@example.com".to_owned(),
                reason: "is switched off with SSE".to_owned(),
                expires: date(2026, 12, 31),
            }),
            ..client("nightly-export")
        },
        Client {
            state: State::Looked,
            is_principal: true,
            engagement: Engagement::Discovery,
            last_use: None,
            uses: 0,
            active_days: 0,
            rhythm: Rhythm::Never,
            due: None,
            evidence: None,
            last_seen: at("2026-11-12T10:00:00Z"),
            ..client("inventory-scanner")
        },
        Client {
            moves: Moves::Auto,
            fix: "auto",
            movement: Some(Movement::ModernOnly),
            modern: Some(modern(Some(at("2026-09-25T09:12:00Z")))),
            ..client("claude-ai")
        },
        Client {
            identity: "ua:python-httpx".to_owned(),
            source: "user_agent".to_owned(),
            family: "python-sdk".to_owned(),
            state: State::Noise,
            engagement: Engagement::Handshake,
            principals: 312,
            sessions: 5_017,
            last_use: None,
            uses: 0,
            active_days: 0,
            rhythm: Rhythm::Never,
            due: None,
            evidence: None,
            last_seen: at("2026-11-21T11:00:00Z"),
            ..client("python-httpx")
        },
    ]
}

/// Announced and frozen, browned out for an hour by plan, and paused by somebody who gives a reason.
fn phases() -> Phases {
    let change = |time: &str, before: &str, phase: &str, by: &str, why: &str| PhaseChange {
        at: at(time),
        phase: phase.to_owned(),
        before: Some(before.to_owned()),
        by: by.to_owned(),
        why: Some(why.to_owned()).filter(|why| !why.is_empty()),
        until: None,
        paused: false,
        held_back: None,
        dry_run: None,
    };
    let dry_run = Some("tombstone".to_owned());
    let frozen = change("2026-11-10T10:00:00Z", "brownout", "freeze", "plan", "");
    let rehearsed =
        PhaseChange { dry_run: dry_run.clone(), ..change("2026-11-15T08:30:00Z", "freeze", "freeze", "start", "") };
    let why = "the reporting team moves *next* week";
    let paused =
        PhaseChange { paused: true, dry_run, ..change("2026-11-17T16:20:00Z", "freeze", "freeze", "operator", why) };
    Phases {
        now: Some("freeze".to_owned()),
        since: Some(frozen.at),
        until: Some(at("2026-12-01T00:00:00Z")),
        changes: vec![
            change("2026-10-01T00:00:00Z", "observe", "announce", "plan", ""),
            change("2026-11-01T00:00:00Z", "announce", "freeze", "operator", "everybody was told"),
            change("2026-11-10T09:00:00Z", "freeze", "brownout", "plan", ""),
            frozen,
            rehearsed,
            paused,
        ],
        left_out: 0,
    }
}

fn dry_run() -> DryRun {
    let hit = |identity: &str, is_user, times, last: &str| Rehearsed {
        identity: identity.to_owned(),
        is_user,
        times,
        last: at(last),
    };
    DryRun {
        phase: Refusing::Tombstone,
        since: at("2026-11-15T08:30:00Z"),
        until: None,
        clients: 3,
        users: 2,
        times: 13,
        listed: vec![
            hit("client_id:reporting", true, 7, "2026-11-16T06:00:00Z"),
            hit("name:Cursor via mcp-remote", true, 5, "2026-11-21T11:54:00Z"),
            hit("ua:python-httpx", false, 1, "2026-11-19T10:00:00Z"),
        ],
    }
}

fn days() -> Vec<Date> {
    date(2026, 9, 23).series(jiff::Span::new().days(1)).take(60).collect()
}

fn replica(instance: &str, is_running: bool) -> Replica {
    Replica { instance: instance.to_owned(), boots: 2, crashes: 0, is_running, spans: Vec::new() }
}

/// Sixty days of three replicas, with every kind of client.
pub(super) fn rich() -> Report {
    let window = Window { since: at("2026-10-22T12:00:00Z"), until: at("2026-11-21T12:00:00Z"), length_s: 2_592_000 };
    let uses: Vec<u64> = (0..60).map(|day: u64| if day % 7 > 4 { 0 } else { 130 - day * 2 + day % 3 * 11 }).collect();
    let clients: Vec<Client> = blocking().into_iter().chain(others()).collect();
    Report {
        schema: REPORT_SCHEMA,
        verdict: Verdict::NotYet,
        reason: "Cursor via mcp-remote has 2 sessions open and used the server 5 minutes ago".to_owned(),
        earliest_safe: Some(at("2026-12-21T11:55:00Z")),
        next: "tell the owners of the 3 clients that block how to move, then run this report again".to_owned(),
        notes: vec![
            "nightly-export is left out of account until 2026-12-31: ops@example.com answers for it (is switched off \
             with SSE)"
                .to_owned(),
            "14 attempts were refused during a brownout; a refused attempt counts as use".to_owned(),
        ],
        window,
        generated: window.until,
        grade: Grade::TrafficLog,
        totals: Totals {
            blocking: 3,
            users: 5,
            noise: 313,
            sessions: 5_243,
            open_sessions: 2,
            uses: 4_843,
            refused: 14,
        },
        moving: Moving {
            measured: Measured::Partly,
            since: Some(at("2026-10-25T06:00:00Z")),
            replicas: 2,
            replicas_in_all: 3,
            legacy_only: 3,
            both: 1,
            modern_only: 1,
            never_legacy: 1_204,
            ..Moving::default()
        },
        phases: phases(),
        dry_run: vec![dry_run()],
        days: days(),
        uses,
        clients,
        clients_hidden: 0,
        coverage: Coverage {
            ratio: 0.998_333,
            first: Some(at("2026-09-23T07:58:00Z")),
            last: Some(at("2026-11-21T11:59:30Z")),
            gaps: vec![Span { from: at("2026-11-03T02:10:00Z"), to: at("2026-11-03T03:22:00Z") }],
            gap_count: 1,
            missing_records: 3,
            holes: vec!["web-2/9f0c11aa22bb33cc misses 3 records after 880 (2026-11-03 02:09 UTC)".to_owned()],
            missing_boots: Vec::new(),
            clock_step_s: 0,
            replicas: vec![replica("web-1", true), replica("web-2", true), replica("web-3", false)],
        },
        canary: Canary { runs: 8_640, last: Some(at("2026-11-21T11:55:00Z")) },
        input: Input {
            files: 3,
            bytes: 48_230_118,
            lines: 131_072,
            records: 130_990,
            duplicates: 80,
            broken: 1,
            foreign: 1,
            problems: vec![
                "web-2.log.gz: line 40,112 is cut off".to_owned(),
                "web-3.log: line 7 is no record of the proxy".to_owned(),
            ],
            problem_count: 2,
            ..Input::default()
        },
    }
}

/// Nothing was read that counts.
pub(super) fn empty() -> Report {
    let full = rich();
    Report {
        verdict: Verdict::Unknown,
        reason: "no record of the proxy was given".to_owned(),
        earliest_safe: None,
        next: "sse-sunset report traffic.log".to_owned(),
        notes: Vec::new(),
        totals: Totals::default(),
        moving: Moving::default(),
        phases: Phases::default(),
        dry_run: Vec::new(),
        days: Vec::new(),
        uses: Vec::new(),
        clients: Vec::new(),
        coverage: Coverage {
            ratio: 0.0,
            first: None,
            last: None,
            gaps: vec![Span { from: full.window.since, to: full.window.until }],
            gap_count: 1,
            missing_records: 0,
            holes: Vec::new(),
            missing_boots: Vec::new(),
            clock_step_s: 0,
            replicas: Vec::new(),
        },
        canary: Canary::default(),
        input: Input { files: 1, ..Input::default() },
        ..full
    }
}
