//! The verdict cannot be fooled: histories by chance are read from files as an operator gives them, and held against a
//! model that is slow and obvious (`model`), and against themselves with something added, missing or in another order.
//!
//! `VERDICT_SEEDS=7..8` plays other histories; a failure names its seed.

mod history;
mod log;
mod model;
mod rules;

use std::collections::BTreeMap;
use std::ops::Range;

use sse_sunset::report::evidence::Evidence;
use sse_sunset::report::judge;
use sse_sunset::report::outcome::{Movement, Moves, Moving, Report, State, Verdict};
use sse_sunset::report::policy::Policy;

use crate::simulation::chance::Chance;
use history::{History, Kind};
use log::{BEAT, End, File, HOUR, MINUTE, NOW, Who};
use model::{Answer, Question};

/// Few, because each is read many times; thousands more were played, and can be.
const SEEDS: Range<u64> = 0..40;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("VERDICT_SEEDS") else { return SEEDS };
    let (start, end) = text.split_once("..").expect("VERDICT_SEEDS is START..END");
    start.parse().expect("a number")..end.parse().expect("a number")
}

/// Runs `holds` for every seed, and tells of all that fail.
fn for_every_seed(holds: impl Fn(u64) -> Result<(), String>) {
    let failed: Vec<String> = seeds().filter_map(|seed| Some(format!("seed {seed}: {}", holds(seed).err()?))).collect();
    assert!(
        failed.is_empty(),
        "{} of them fail:\n{}",
        failed.len(),
        failed.iter().take(3).cloned().collect::<Vec<_>>().join("\n")
    );
}

fn policy(history: &History) -> Policy {
    Policy { waivers: history.waivers.clone(), ..log::policy(NOW, history.window) }
}

fn ask(files: &[File], history: &History) -> Answer {
    model::answer(files, &Question { until: NOW, window: history.window, waivers: &history.waivers })
}

fn is_safe(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Safe | Verdict::SafeWithNotes)
}

/// What a report says, in the model's terms.
fn essence(report: &Report) -> (Verdict, BTreeMap<String, i64>, Option<i64>) {
    let blocking = report.clients.iter().filter(|row| row.state.is_blocking());
    let due = |row: &sse_sunset::report::outcome::Client| row.due.expect("a date").as_millisecond();
    let blocking = blocking.map(|row| (row.identity.clone(), due(row))).collect();
    (report.verdict, blocking, report.earliest_safe.map(jiff::Timestamp::as_millisecond))
}

/// Where those who used SSE have moved to, as a report says.
fn movement(report: &Report) -> BTreeMap<String, Movement> {
    let users = report.clients.iter().filter(|row| row.due.is_some());
    users.map(|row| (row.identity.clone(), row.movement.expect("it used SSE"))).collect()
}

fn differ(what: &str, files: &[File], report: &Report, answer: &Answer) -> String {
    if let Ok(dir) = std::env::var("VERDICT_KEEP") {
        std::fs::create_dir_all(&dir).expect("a folder");
        log::write(std::path::Path::new(&dir), files);
    }
    let (verdict, blocking, earliest) = essence(report);
    format!(
        "{what}\nreport: {verdict:?} {blocking:?} {earliest:?} {}\nmodel:  {:?} {:?} {:?} {:?}",
        report.reason, answer.verdict, answer.blocking, answer.earliest, answer.doubts
    )
}

#[test]
fn verdict_is_that_of_the_model() {
    for_every_seed(|seed| {
        let history = history::history(seed, Kind { has_odd_clocks: false, has_gaps: seed.is_multiple_of(3) });
        let mut files = history::files(&history, &mut Chance::new(seed, 1));
        let report = log::report(&files, &policy(&history));
        let answer = ask(&files, &history);
        if essence(&report) != (answer.verdict, answer.blocking.clone(), answer.earliest) {
            return Err(differ("", &files, &report, &answer));
        }
        if movement(&report) != answer.movement {
            return Err(format!("moved: {:?}\nmodel: {:?}", movement(&report), answer.movement));
        }
        // Pieces in another order, and some of them twice.
        files.reverse();
        files.push(files[0].clone());
        let again = log::report(&files, &policy(&history));
        same(&report, &again)
    });
}

/// Two reports say the same, but for what was read.
fn same(one: &Report, other: &Report) -> Result<(), String> {
    let text = |report: &Report| {
        let mut report = report.clone();
        report.input = sse_sunset::report::outcome::Input::default();
        serde_json::to_string_pretty(&report).expect("json")
    };
    let (one, other) = (text(one), text(other));
    let differing = one.lines().zip(other.lines()).find(|(a, b)| a != b);
    match differing {
        None if one.len() == other.len() => Ok(()),
        differing => Err(format!("the order or a duplicate changed something: {differing:?}")),
    }
}

#[test]
fn evidence_of_replicas_that_is_merged_in_any_order_judges_as_that_of_one_who_read_all() {
    for_every_seed(|seed| {
        let kind = Kind { has_odd_clocks: seed.is_multiple_of(2), has_gaps: seed.is_multiple_of(3) };
        let history = history::history(seed, kind);
        let mut files = files_of(&history);
        let (all, input) = log::evidence(&files);
        let whole = judge(&all, input.clone(), &policy(&history));
        let chance = &mut Chance::new(seed, 11);
        let turn = chance.index(files.len());
        files.rotate_left(turn);
        // As many replicas as there are starts, or fewer: then one holds several of them.
        let pieces = files.chunks(1 + chance.index(3)).map(|files| log::evidence(files).0);
        let merged = pieces.fold(Evidence::default(), |mut merged, piece| {
            merged.merge(&piece);
            merged
        });
        same(&whole, &judge(&merged, input, &policy(&history)))
    });
}

#[test]
fn where_clients_came_by_streamable_http_changes_nothing_else() {
    for_every_seed(|seed| {
        let kind = Kind { has_odd_clocks: seed.is_multiple_of(2), has_gaps: seed.is_multiple_of(3) };
        let history = history::history(seed, kind);
        let files = files_of(&history);
        // The same lines at the same times, and nothing that tells of Streamable HTTP.
        let mute = |file: &File| {
            let silent =
                file.replace("\"legacy.upgrade\"", "\"legacy.dance\"").replace("\"modern.seen\"", "\"modern.dance\"");
            ["off", "mcp", "all"]
                .into_iter()
                .fold(silent, |text, way| text.replace(&format!(r#","passthrough":"{way}""#), ""))
        };
        let silent: Vec<File> = files.iter().map(mute).collect();
        let without = |files: &[File]| {
            let mut report = log::report(files, &policy(&history));
            report.moving = Moving::default();
            report.clients.sort_by(|a, b| a.identity.cmp(&b.identity));
            for row in &mut report.clients {
                (row.movement, row.modern, row.moves, row.fix) = (None, None, Moves::Unknown, "");
            }
            report
        };
        same(&without(&files), &without(&silent))
    });
}

#[test]
fn verdict_is_never_safer_than_the_model_whatever_happened_to_the_log() {
    for_every_seed(|seed| {
        let kind = Kind { has_odd_clocks: seed.is_multiple_of(2), has_gaps: seed.is_multiple_of(3) };
        let history = history::history(seed, kind);
        let mut chance = Chance::new(seed, 2);
        let mut files = history::files(&history, &mut chance);
        let mut damages = Vec::new();
        for _ in 0..chance.below(4) {
            damages.push(history::damage(&mut files, &mut chance));
        }
        let report = log::report(&files, &policy(&history));
        let answer = ask(&files, &history);
        let is_safer = is_safe(report.verdict) && !is_safe(answer.verdict)
            || answer.verdict == Verdict::NotYet && report.verdict != Verdict::NotYet;
        if is_safer { Err(differ(&format!("{kind:?} {damages:?}"), &files, &report, &answer)) } else { Ok(()) }
    });
}

/// A history without damage, and its files in one piece for each replica.
fn plain(seed: u64) -> (History, Vec<File>) {
    let history = history::history(seed, Kind { has_odd_clocks: false, has_gaps: seed.is_multiple_of(3) });
    let files = files_of(&history);
    (history, files)
}

fn files_of(history: &History) -> Vec<File> {
    history.boots.iter().map(|boot| log::file(&boot.lines())).collect()
}

#[test]
fn record_missing_within_the_window_is_never_safe() {
    for_every_seed(|seed| {
        let (history, mut files) = plain(seed);
        let mut chance = Chance::new(seed, 3);
        let place = chance.index(files.len());
        let start = NOW - history.window;
        // Not the last of a boot: nobody can tell that there was one more.
        let boot = &history.boots[place];
        let mut times: Vec<i64> = boot.records.iter().map(|record| record.at).collect();
        times.sort_unstable();
        let first = times.iter().position(|at| *at > start).unwrap_or(times.len()).saturating_sub(1);
        if first + 1 >= times.len() {
            return Ok(());
        }
        let dropped = first + chance.index(times.len() - 1 - first);
        let mut lines = boot.lines();
        let line = lines.remove(dropped);
        files[place] = log::file(&lines);
        let report = log::report(&files, &policy(&history));
        if is_safe(report.verdict) { Err(format!("safe without {line}")) } else { Ok(()) }
    });
}

#[test]
fn missing_file_of_a_boot_that_others_name_is_never_safe() {
    for_every_seed(|seed| {
        let (history, files) = plain(seed);
        for (place, boot) in history.boots.iter().enumerate() {
            let name = format!("\"{}/{}\"", boot.instance, boot.id);
            let others: Vec<File> =
                files.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, file)| file.clone()).collect();
            // A boot that was named before the window only may have been over by then.
            let start = NOW - history.window;
            let mut records = history.boots.iter().filter(|other| other.id != boot.id).flat_map(|other| &other.records);
            let is_named = records.any(|record| record.at >= start && record.more.contains(&name));
            if is_named && is_safe(log::report(&others, &policy(&history)).verdict) {
                return Err(format!("safe without {name}"));
            }
        }
        Ok(())
    });
}

#[test]
fn refusal_makes_nothing_safer_and_no_date_earlier() {
    for_every_seed(|seed| {
        let (mut history, files) = plain(seed);
        let before = log::report(&files, &policy(&history));
        let mut chance = Chance::new(seed, 4);
        let place = chance.index(history.boots.len());
        let boot = &mut history.boots[place];
        // Together with another record: by itself it would prove that its boot lived.
        let at = boot.records[chance.index(boot.records.len())].at;
        let identities = ["name:mcp", "name:Cursor", "ua:node", "ua:python-httpx", "client_id:c0", "client_id:c1"];
        let identity = chance.pick(&identities);
        let source = match identity.split_once(':') {
            Some(("name", _)) => "client_info",
            Some(("ua", _)) => "user_agent",
            _ => "client_id",
        };
        let who = Who::new(identity, source, &format!("a{}", chance.below(5)));
        boot.refuse(at, &who, chance.pick(&["limit", "host", "gone"]), chance.one_in(4));
        let after = log::report(&files_of(&history), &policy(&history));
        let (had, has) = (before.earliest_safe, after.earliest_safe);
        let is_earlier = match (had, has) {
            (Some(had), Some(has)) => has < had,
            // No date to a date; a date to none is either unknown for good or safe, and safer is told apart.
            (None, Some(_)) => !is_safe(before.verdict),
            _ => false,
        };
        if after.verdict < before.verdict || is_earlier {
            return Err(format!("{identity} refused: {:?} {had:?} became {:?} {has:?}", before.verdict, after.verdict));
        }
        Ok(())
    });
}

#[test]
fn waiver_concerns_its_client_only() {
    for_every_seed(|seed| {
        let (mut history, files) = plain(seed);
        history.waivers.clear();
        let before = log::report(&files, &policy(&history));
        for waived in &before.clients {
            let waiver = sse_sunset::report::outcome::Waiver {
                client: waived.identity.clone(),
                owner: "Ada".into(),
                reason: "moves".into(),
                expires: "2027-01-01".parse().expect("a date"),
            };
            let after = log::report(&files, &Policy { waivers: vec![waiver], ..policy(&history) });
            let blocking = |report: &Report| -> Vec<String> {
                report.clients.iter().filter(|row| row.state.is_blocking()).map(|row| row.identity.clone()).collect()
            };
            let mut expected = blocking(&before);
            if waived.state == State::Blocking {
                expected.retain(|identity| *identity != waived.identity);
            }
            let mut got = blocking(&after);
            expected.sort();
            got.sort();
            let is_clean = after.verdict != Verdict::Safe || waived.state != State::Blocking;
            if expected != got || !is_clean {
                return Err(format!("a waiver for {}: {got:?} instead of {expected:?}", waived.identity));
            }
        }
        Ok(())
    });
}

#[test]
fn earliest_safe_date_is_the_first_safe_one_if_nothing_happens() {
    for_every_seed(|seed| {
        let (mut history, files) = plain(seed);
        let report = log::report(&files, &policy(&history));
        let Some(earliest) = report.earliest_safe.map(jiff::Timestamp::as_millisecond) else { return Ok(()) };
        // Longer logs than this only take longer.
        if earliest > NOW + 2 * history.window {
            return Ok(());
        }
        go_on(&mut history, earliest);
        let files = files_of(&history);
        let at = |until: i64| {
            log::report(&files_until(&history, &files, until), &Policy { until, now: until, ..policy(&history) })
        };
        let then = at(earliest);
        if !is_safe(then.verdict) {
            return Err(format!(
                "{:?} at the earliest safe date of {}: {} (before: {})",
                then.verdict,
                report.earliest_safe.expect("a date"),
                then.reason,
                report.reason
            ));
        }
        // What was uncovered pushes the date out, and so does an open session, whose last use its end may tell: the
        // verdict may then be safe before that date.
        let is_pushed = report.coverage.gap_count > 0 || report.clients.iter().any(|row| row.state == State::Open);
        let minute_before = earliest - MINUTE;
        if minute_before > NOW && !is_pushed && is_safe(at(minute_before).verdict) {
            return Err(format!("safe a minute before {}: {}", report.earliest_safe.expect("a date"), report.reason));
        }
        Ok(())
    });
}

/// Nobody comes any more: open sessions end, and heartbeats go on to `until`.
fn go_on(history: &mut History, until: i64) {
    let last = |boot: &log::Boot| boot.records.iter().map(|record| record.at).max().unwrap_or(i64::MIN);
    let runs = |boot: &log::Boot| last(boot) == NOW && boot.records.iter().all(|record| record.name != "proxy.stop");
    for boot in history.boots.iter_mut().filter(|boot| runs(boot)) {
        for (label, who) in open_sessions(boot) {
            let end = End { reason: "client_closed", engagement: "connect", uses: 0, last_use: None };
            boot.end(NOW, &label, &who, &end);
        }
        boot.beats(NOW + 1, until + HOUR, BEAT);
    }
    if !history.boots.iter().any(|boot| last(boot) > until) {
        let latest = history.boots.iter().map(last).max().unwrap_or(NOW);
        // A silence that is none yet stays none.
        let from = if NOW - latest <= BEAT { latest } else { NOW };
        history.boots.push(log::Boot::alive("later", "later", from, until + HOUR));
    }
}

/// Sessions that did not end, and their clients, as the lines tell.
fn open_sessions(boot: &log::Boot) -> Vec<(String, Who)> {
    let mut open: BTreeMap<String, Who> = BTreeMap::new();
    for line in boot.lines() {
        let fields: serde_json::Value = serde_json::from_str(&line).expect("json");
        let text = |key: &str| fields[key].as_str().unwrap_or_default();
        let label = text("legacy.session").to_owned();
        match text("event.name") {
            "legacy.connect" | "legacy.identify" | "legacy.use" => {
                let source = match text("identity.source") {
                    "client_info" => "client_info",
                    "user_agent" => "user_agent",
                    _ => "client_id",
                };
                open.insert(label, Who::new(text("identity"), source, text("client.address")));
            }
            "legacy.end" => drop(open.remove(&label)),
            _ => {}
        }
    }
    open.into_iter().collect()
}

/// The lines that were written until then.
fn files_until(history: &History, files: &[File], until: i64) -> Vec<File> {
    let cut = |(boot, file): (&log::Boot, &File)| {
        let count = boot.records.iter().filter(|record| record.at <= until).count();
        file.split_inclusive('\n').take(count).collect()
    };
    history.boots.iter().zip(files).map(cut).collect()
}
