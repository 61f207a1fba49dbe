//! Reports made by hand, all of them judged on 21 November 2026 at noon.

use jiff::civil::{Date, Weekday};
use jiff::{Span as Days, Timestamp};
use sse_sunset::report::evidence::Evidence;
use sse_sunset::report::judge;
use sse_sunset::report::outcome::{
    Canary, Client, Coverage, Input, Measured, Modern, Movement, Moves, Moving, RefusedIn, Replica, Report, Rhythm,
    Span, State, Totals, Verdict, Waiver, WouldBeRefused,
};
use sse_sunset::report::policy::Policy;
use sse_sunset::traffic::Engagement;

const DAYS: usize = 60;
const DAY_S: u64 = 86_400;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

fn days() -> Vec<Date> {
    let first: Date = "2026-09-23".parse().expect("a day");
    first.series(Days::new().days(1)).take(DAYS).collect()
}

/// Uses on each of the days, by what `uses` says of a day and its place.
fn by_day(uses: impl Fn(usize, Date) -> u64) -> Vec<u64> {
    days().into_iter().enumerate().map(|(place, day)| uses(place, day)).collect()
}

fn is_working(day: Date) -> bool {
    !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// Three replicas over 60 days; a client of every kind.
pub(crate) fn rich() -> Report {
    let clients = vec![open(), weekly(), turned_away(), waived(), looked(), quiet(), crawler(), monitor()];
    let uses = by_day(|place, _| clients.iter().map(|client| client.by_day[place]).sum());
    Report {
        verdict: Verdict::NotYet,
        reason: "client_id:reporting came 4 days ago and comes weekly; a session of Cursor (via mcp-remote) is open"
            .to_owned(),
        earliest_safe: Some(at("2026-12-21T11:58:00Z")),
        next: "sse-sunset report --client reporting /var/log/sse-sunset/*.log".to_owned(),
        notes: vec![
            "one gap of 3 h lies before the window and does not count".to_owned(),
            "the waiver for name:Legacy Dashboard ends on 2026-12-31".to_owned(),
        ],
        totals: Totals {
            blocking: 3,
            users: 5,
            noise: 2,
            sessions: clients.iter().map(|client| client.sessions).sum(),
            open_sessions: 1,
            uses: uses.iter().sum(),
            refused: 21,
        },
        moving: Moving {
            measured: Measured::Partly,
            since: Some(at("2026-10-30T06:00:00Z")),
            replicas: 2,
            replicas_in_all: 3,
            legacy_only: 3,
            both: 1,
            vanished: 0,
            not_measured: 1,
            modern_only: 0,
            never_legacy: 1_204,
        },
        days: days(),
        uses,
        clients,
        coverage: coverage(),
        canary: Canary { runs: 718, last: Some(at("2026-11-21T11:45:00Z")) },
        input: Input {
            files: 9,
            bytes: 48_210_331,
            lines: 181_274,
            records: 181_233,
            duplicates: 12,
            broken: 1,
            foreign: 3,
            problems: vec!["pod-b.log.3.gz:88213: cut off in the middle of a record".to_owned()],
            problem_count: 4,
            ..Input::default()
        },
        ..empty()
    }
}

fn coverage() -> Coverage {
    let span = |from, to| Span { from: at(from), to: at(to) };
    let gap = span("2026-11-03T02:10:00Z", "2026-11-03T04:55:00Z");
    let early = span("2026-10-09T08:00:00Z", "2026-10-09T11:00:00Z");
    let start = "2026-09-23T06:30:00Z";
    let replica = |instance: &str, boots, crashes, is_running, spans| Replica {
        instance: instance.to_owned(),
        boots,
        crashes,
        is_running,
        spans,
    };
    Coverage {
        ratio: 0.996_18,
        first: Some(at(start)),
        last: Some(at("2026-11-21T11:59:40Z")),
        gaps: vec![gap],
        gap_count: 1,
        missing_records: 2,
        holes: vec!["pod-c, boot 7f21: 2 records missing after log.seq 90117 (2026-11-12 07:02 UTC)".to_owned()],
        missing_boots: vec!["pod-d/5e0c9a".to_owned()],
        clock_step_s: 4,
        replicas: vec![
            replica(
                "mcp-proxy-5d9c7b-a",
                3,
                1,
                true,
                vec![
                    span(start, "2026-10-09T08:00:00Z"),
                    Span { from: early.to, to: gap.from },
                    Span { from: gap.to, to: now() },
                ],
            ),
            replica(
                "mcp-proxy-5d9c7b-b",
                2,
                0,
                true,
                vec![
                    span("2026-10-12T09:00:00Z", "2026-11-03T02:10:00Z"),
                    span("2026-11-03T05:20:00Z", "2026-11-21T12:00:00Z"),
                ],
            ),
            replica("mcp-proxy-5d9c7b-c", 1, 0, false, vec![span("2026-11-05T00:00:00Z", "2026-11-14T18:00:00Z")]),
        ],
    }
}

fn open() -> Client {
    Client {
        family: "cursor".to_owned(),
        fix: "cursor",
        moves: Moves::Config,
        seen_as: vec!["Cursor (via mcp-remote 0.1.31) 1.0.0".to_owned(), "node".to_owned()],
        principals: 3,
        addresses: ["c1f09a", "77be02", "0d41aa"].map(|address| format!("hmac:{address}")).to_vec(),
        movement: Some(Movement::Both),
        modern: Some(Modern {
            first: at("2026-11-05T07:10:00Z"),
            last: at("2026-11-21T08:00:00Z"),
            days: 13,
            upgrades: 13,
            first_upgrade: Some(at("2026-11-05T07:10:00Z")),
            last_upgrade: Some(at("2026-11-21T08:00:00Z")),
        }),
        sessions: 212,
        open_sessions: 1,
        rhythm: Rhythm::Weekdays,
        state: State::Open,
        ..client("Cursor via mcp-remote", by_day(|place, day| if is_working(day) { 4 + place as u64 % 9 } else { 0 }))
    }
}

fn weekly() -> Client {
    Client {
        identity: "client_id:reporting".to_owned(),
        source: "client_id".to_owned(),
        is_principal: true,
        family: "python-sdk".to_owned(),
        fix: "python-sdk",
        moves: Moves::Code,
        seen_as: vec!["mcp 0.1.0, python-httpx/0.28.1".to_owned()],
        last_use: Some(at("2026-11-17T05:00:12Z")),
        due: Some(at("2026-12-17T05:00:12Z")),
        longest_gap_s: 7 * DAY_S,
        rhythm: Rhythm::Weekly,
        evidence: Some("mcp-proxy-5d9c7b-b/5e0c9a31/90233".to_owned()),
        ..client("reporting", by_day(|_, day| if day.weekday() == Weekday::Tuesday { 31 } else { 0 }))
    }
}

fn turned_away() -> Client {
    Client {
        last_use: Some(at("2026-10-30T16:20:00Z")),
        last_attempt: Some(at("2026-11-20T09:00:00Z")),
        due: Some(at("2026-12-20T09:00:00Z")),
        refused: 21,
        rhythm: Rhythm::Irregular,
        ..client("n8n", by_day(|place, _| if place < 38 && place % 5 < 2 { 2 } else { 0 }))
    }
}

fn waived() -> Client {
    Client {
        identity: "name:Legacy Dashboard".to_owned(),
        state: State::Waived,
        rhythm: Rhythm::Daily,
        waiver: Some(Waiver {
            client: "name:Legacy*".to_owned(),
            owner: "dashboards@example.com".to_owned(),
            reason: "Is switched off with the old portal.".to_owned(),
            expires: "2026-12-31".parse().expect("a day"),
        }),
        ..client("Legacy Dashboard", by_day(|_, _| 3))
    }
}

fn looked() -> Client {
    Client {
        identity: "client_id:audit".to_owned(),
        is_principal: true,
        engagement: Engagement::Discovery,
        last_use: None,
        due: None,
        evidence: None,
        rhythm: Rhythm::Never,
        movement: None,
        state: State::Looked,
        ..client("audit", by_day(|_, _| 0))
    }
}

fn quiet() -> Client {
    Client {
        last_use: Some(at("2026-10-02T10:00:00Z")),
        last_seen: at("2026-10-02T10:00:00Z"),
        due: Some(at("2026-11-01T10:00:00Z")),
        rhythm: Rhythm::OneOff,
        movement: Some(Movement::NotMeasured),
        state: State::Quiet,
        ..client("claude-code", by_day(|place, _| if place == 9 { 6 } else { 0 }))
    }
}

fn crawler() -> Client {
    Client {
        principals: 41,
        sessions: 5017,
        state: State::Noise,
        engagement: Engagement::Handshake,
        ..looked_like("mcp-registry-crawler")
    }
}

fn monitor() -> Client {
    Client { sessions: 86_400, state: State::Noise, engagement: Engagement::Connect, ..looked_like("Go-http-client") }
}

fn looked_like(name: &str) -> Client {
    Client {
        movement: None,
        last_use: None,
        due: None,
        evidence: None,
        rhythm: Rhythm::Never,
        ..client(name, by_day(|_, _| 0))
    }
}

/// A client in the way, with `by_day` uses.
fn client(name: &str, by_day: Vec<u64>) -> Client {
    Client {
        identity: format!("name:{name}"),
        name: name.to_owned(),
        source: "client_info".to_owned(),
        is_principal: false,
        family: "other".to_owned(),
        seen_as: vec![format!("{name} 1.0.0")],
        principals: 1,
        addresses: vec!["hmac:4f1d22".to_owned()],
        engagement: Engagement::Use,
        first_seen: at("2026-09-23T06:31:00Z"),
        last_seen: at("2026-11-21T11:58:00Z"),
        last_use: Some(at("2026-11-21T11:58:00Z")),
        last_attempt: None,
        last_attempt_in: None,
        active_days: by_day.iter().filter(|uses| **uses > 0).count(),
        sessions: 60,
        open_sessions: 0,
        uses: by_day.iter().sum(),
        refused: 0,
        refused_in: RefusedIn::new(),
        would_be_refused: WouldBeRefused::new(),
        longest_gap_s: 3 * DAY_S,
        rhythm: Rhythm::Daily,
        due: Some(at("2026-12-21T11:58:00Z")),
        state: State::Blocking,
        waiver: None,
        moves: Moves::Unknown,
        fix: "other",
        movement: Some(Movement::LegacyOnly),
        modern: None,
        by_day,
        evidence: Some("mcp-proxy-5d9c7b-a/3c9d71f0/118204".to_owned()),
    }
}

/// Nothing was read.
pub(crate) fn empty() -> Report {
    Report {
        verdict: Verdict::Unknown,
        reason: "there is no evidence: no record was found".to_owned(),
        earliest_safe: None,
        next: "Start the proxy with --traffic-log PATH and come back in 30 days.".to_owned(),
        notes: Vec::new(),
        days: Vec::new(),
        uses: Vec::new(),
        ..judge(&Evidence::default(), Input::default(), &Policy::at(now().as_millisecond()))
    }
}

/// Nobody needs SSE any more.
pub(crate) fn safe(verdict: Verdict) -> Report {
    let clients = vec![quiet(), crawler()];
    let mut coverage = coverage();
    coverage.ratio = 1.0;
    coverage.replicas.truncate(1);
    for replica in &mut coverage.replicas {
        replica.spans = vec![Span { from: at("2026-09-23T06:30:00Z"), to: now() }];
    }
    coverage.gaps.clear();
    coverage.gap_count = 0;
    coverage.missing_records = 0;
    coverage.holes.clear();
    coverage.missing_boots.clear();
    Report {
        verdict,
        reason: "nobody has used the server over SSE for 50 days".to_owned(),
        next: "sse-sunset sunset tombstone --dry-run".to_owned(),
        totals: Totals { users: 1, noise: 1, sessions: 5077, uses: 6, ..Totals::default() },
        days: days(),
        uses: clients[0].by_day.clone(),
        clients,
        coverage,
        canary: Canary { runs: 30, last: Some(at("2026-11-21T06:00:00Z")) },
        ..empty()
    }
}

/// Names that try to be something else.
pub(crate) const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "abc\u{202e}fdp.exe\u{200b}\u{7}",
    "</style><style>*{display:none}</style>",
    "👩‍💻 emoji 🧪 名前 اسم",
];

/// The same with strings of strangers wherever there can be some.
pub(crate) fn hostile() -> Report {
    let mut report = rich();
    let long = "x".repeat(512);
    let names: Vec<String> = HOSTILE.iter().map(|&name| name.to_owned()).chain([long]).collect();
    report.clients = names
        .iter()
        .map(|name| Client {
            family: name.clone(),
            seen_as: names.clone(),
            addresses: names.clone(),
            evidence: Some(format!("{name}/{name}/{name}")),
            ..client(name, by_day(|_, _| 1))
        })
        .collect();
    report.reason = names.join(" ");
    report.next = format!("sse-sunset {}", names.join(" "));
    report.notes.clone_from(&names);
    report.coverage.holes.clone_from(&names);
    report.coverage.missing_boots.clone_from(&names);
    for (replica, name) in report.coverage.replicas.iter_mut().zip(names.iter().rev()) {
        replica.instance.clone_from(name);
    }
    report.input.problems = names;
    report
}
