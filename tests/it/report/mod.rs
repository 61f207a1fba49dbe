//! `sse-sunset report` as an operator runs it: the real program on logs as replicas leave them.

mod story;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use story::{AGENT, IDE, NIGHTLY, Story, WEEKLY, end};

/// The logs of the story in a folder: one replica's in rotated and packed pieces, in an odd order.
struct Logs {
    dir: TempDir,
    /// Every line of every replica.
    lines: Vec<String>,
}

impl Logs {
    fn of(story: &Story) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut lines = Vec::new();
        for replica in story.replicas() {
            let log = story.log(replica);
            lines.extend(log.lines().map(str::to_owned));
            write_pieces(dir.path(), replica, &log);
        }
        Logs { dir, lines }
    }

    fn pattern(&self) -> String {
        self.dir.path().join("*.log*").display().to_string()
    }

    fn paths(&self) -> Vec<PathBuf> {
        fs::read_dir(self.dir.path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// Replica `a` keeps one file, `b` a packed half (gzip) and a plain one, `c` the same with zstd.
fn write_pieces(dir: &Path, replica: &str, log: &str) {
    let middle = log[log.len() / 2..].find('\n').map_or(log.len(), |at| log.len() / 2 + at + 1);
    let (old, new) = if replica == "a" { ("", log) } else { log.split_at(middle) };
    fs::write(dir.join(format!("{replica}.log")), new).expect("written");
    match replica {
        "b" => {
            let file = fs::File::create(dir.join("b.log.1.gz")).expect("a file");
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(old.as_bytes()).expect("written");
            packed.finish().expect("written");
        }
        "c" => {
            let packed = zstd::encode_all(old.as_bytes(), 1).expect("packed");
            fs::write(dir.join("c.log.1.zst"), packed).expect("written");
        }
        _ => {}
    }
}

/// Runs the program at the end of the story.
fn report(words: &[&str]) -> Output {
    let until = end().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.arg("report").args(["--until", &until]).args(words).env_remove("NO_COLOR");
    command.output().expect("the program runs")
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(words: &[&str]) -> Value {
    let mut all = vec!["--format", "json"];
    all.extend(words);
    serde_json::from_str(&text(&report(&all))).expect("JSON")
}

fn client<'a>(report: &'a Value, identity: &str) -> &'a Value {
    let clients = report["clients"].as_array().expect("clients");
    clients.iter().find(|client| client["identity"] == identity).unwrap_or_else(|| panic!("{identity} is shown"))
}

#[test]
fn newcomer_learns_from_one_screen_what_blocks_until_when_and_what_to_do() {
    let logs = Logs::of(&Story::told());
    let output = report(&[&logs.pattern()]);
    assert_eq!(output.status.code(), Some(1));
    let screen: String = text(&output).lines().take(40).collect::<Vec<_>>().join("\n");
    for expected in [
        "NOT YET",
        "Weekly report via mcp-remote",
        // Turned away during the brownout on day 57, which is no silence: 30 days from then.
        "2026-12-17",
        "sse-sunset report",
        "--client",
        "weekly",
        "nightly-batch",
    ] {
        assert!(screen.contains(expected), "{expected}:\n{screen}");
    }
}

#[test]
fn every_number_can_be_traced_to_lines_of_the_log() {
    let logs = Logs::of(&Story::told());
    let report = json(&[&logs.pattern()]);
    assert_eq!(report["verdict"], "not_yet");
    let of = |identity: &str, event: &str| {
        let event = format!(r#""event.name":"{event}""#);
        let identity = format!(r#""identity":"{identity}""#);
        logs.lines.iter().filter(|line| line.contains(&event) && line.contains(&identity)).collect::<Vec<_>>()
    };
    let number = |line: &str, field: &str| {
        serde_json::from_str::<Value>(line).expect("a record")[field].as_u64().expect("a number")
    };
    for identity in [WEEKLY, NIGHTLY, IDE, AGENT, "name:mcp-crawler"] {
        let row = client(&report, identity);
        let ends = of(identity, "legacy.end");
        assert_eq!(row["sessions"], ends.len(), "{identity}");
        let uses: u64 = ends.iter().map(|line| number(line, "legacy.uses")).sum();
        assert_eq!(row["uses"], uses, "{identity}");
        let by_day: u64 = row["by_day"].as_array().expect("days").iter().filter_map(Value::as_u64).sum();
        assert_eq!(by_day, uses, "{identity}");
        assert_eq!(row["active_days"], of(identity, "legacy.use").len(), "{identity}");
        if let Some(place) = row["evidence"].as_str() {
            let mut parts = place.split('/');
            let mut field =
                |name: &str, quote: &str| format!(r#""{name}":{quote}{}{quote}"#, parts.next().expect("a part"));
            let wanted = [field("service.instance.id", "\""), field("boot.id", "\""), field("log.seq", "")];
            let line = logs
                .lines
                .iter()
                .find(|line| wanted.iter().all(|part| line.contains(part)))
                .expect("the line is there");
            let last = serde_json::from_str::<Value>(line).expect("a record")["legacy.last_use"].clone();
            assert_eq!(
                row["last_use"].as_str().map(|at| at.parse::<jiff::Timestamp>().ok()),
                last.as_str().map(|at| at.parse().ok())
            );
        }
    }
    assert_eq!(report["input"]["records"], logs.lines.len());
    assert_eq!(report["input"]["lines"], logs.lines.len());
    assert_eq!(report["canary"]["runs"], 30);
    // Everybody was away from 02:00 to 04:30 on day 43.
    let gap = &report["coverage"]["gaps"][0];
    assert_eq!(
        (gap["from"].as_str(), gap["to"].as_str()),
        (Some("2026-11-03T14:00:00Z"), Some("2026-11-03T16:30:00Z"))
    );
    assert_eq!(client(&report, NIGHTLY)["state"], "quiet");
    assert_eq!(client(&report, "name:mcp-crawler")["state"], "noise");
    assert_eq!(client(&report, WEEKLY)["rhythm"], "weekly");
}

#[test]
fn report_tells_who_moved_who_uses_both_and_who_vanished() {
    let logs = Logs::of(&Story::told());
    let report = json(&[&logs.pattern()]);
    let movement = |identity: &str| client(&report, identity)["movement"].as_str();
    // The IDE has not used SSE for 35 days, and the nightly job is seen nowhere.
    assert_eq!(
        [WEEKLY, AGENT, IDE, NIGHTLY, "name:mcp-crawler"].map(movement),
        [Some("legacy-only"), Some("both"), Some("modern-only"), Some("vanished"), None]
    );
    let of = |identity: &str, event: &str| {
        let (event, identity) = (format!(r#""event.name":"{event}""#), format!(r#""identity":"{identity}""#));
        logs.lines.iter().filter(|line| line.contains(&event) && line.contains(&identity)).count()
    };
    let ide = client(&report, IDE);
    assert_eq!(ide["modern"]["upgrades"], of(IDE, "legacy.upgrade"));
    assert_eq!(
        (ide["modern"]["first_upgrade"].as_str(), &ide["moves"]),
        (Some("2026-10-17T03:00:00Z"), &"auto".into())
    );
    assert_eq!(client(&report, AGENT)["modern"]["days"], of(AGENT, "modern.seen"));
    let moving = &report["moving"];
    let counted = ["legacy_only", "both", "modern_only", "vanished", "not_measured", "never_legacy"];
    assert_eq!(counted.map(|name| moving[name].as_u64().expect("a number")), [1, 1, 1, 1, 0, 1]);
    assert_eq!((&moving["measured"], &moving["replicas"]), (&"yes".into(), &3.into()));
    assert!(!report["clients"].to_string().contains("newcomer"), "it never came over SSE");
    assert_eq!(client(&json(&["--all", &logs.pattern()]), "client_id:newcomer")["state"], "modern");
}

#[test]
fn every_form_says_who_moved() {
    let logs = Logs::of(&Story::told());
    let summary = "4 clients: 1 on SSE only, 1 on both, 1 moved, 1 vanished; 1 other only by Streamable HTTP";
    for (format, cell) in [("text", "SSE only"), ("md", "| SSE only |"), ("html", ">SSE only<")] {
        let text = text(&self::report(&["--format", format, &logs.pattern()]));
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(summary) && text.contains(cell), "{format}:\n{text}");
    }
    let csv = text(&self::report(&["--format", "csv", &logs.pattern()]));
    let row = csv.lines().find(|line| line.starts_with("client_id:ide")).expect("a row");
    assert!(
        row.ends_with(
            ",modern-only,2026-10-17T03:00:00Z,2026-11-20T03:00:00Z,35,35,2026-10-17T03:00:00Z,2026-11-20T03:00:00Z,,0,0,0,0,0,"
        ),
        "{row}"
    );
}

#[test]
fn log_without_a_word_on_streamable_http_is_read_as_before() {
    let mut story = Story::new();
    story.lives("a", story::at(0, 0.0), end(), false);
    story.session("a", story::WHO_NIGHTLY, story::at(58, 3.0), 4);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.log");
    fs::write(&path, story.log("a").replace(r#","passthrough":"mcp""#, "")).expect("written");
    let log = path.display().to_string();
    let report = json(&[&log]);
    assert_eq!(
        (report["verdict"].as_str(), client(&report, NIGHTLY)["movement"].as_str()),
        (Some("not_yet"), Some("not-measured"))
    );
    let screen = text(&self::report(&[&log]));
    assert!(!screen.contains("MOVED?") && screen.contains("Moved     not measured"), "{screen}");
}

#[test]
fn refusal_in_a_brownout_counts_for_the_client_behind_it() {
    let logs = Logs::of(&Story::told());
    let report = json(&[&logs.pattern()]);
    let weekly = client(&report, WEEKLY);
    assert_eq!(weekly["last_attempt"], "2026-11-17T22:09:00Z");
    assert_eq!(weekly["due"], "2026-12-17T22:09:00Z");
    assert_eq!(weekly["last_attempt_in"], "brownout");
    let why = "Weekly report via mcp-remote was turned away 2 days ago (brownout), and a refusal is no silence";
    assert!(report["reason"].as_str().is_some_and(|reason| reason.starts_with(why)), "{}", report["reason"]);
    // Its name was not known then: the refusals stand with its door.
    assert_eq!(client(&report, "ua:node")["refused_in"], serde_json::json!({"brownout": 3}));
}

#[test]
fn switch_off_is_told_as_it_went_each_change_once() {
    let logs = Logs::of(&Story::told());
    let report = json(&[&logs.pattern()]);
    let phases = &report["phases"];
    assert_eq!(
        (&phases["now"], &phases["since"], &phases["left_out"]),
        (&"announce".into(), &"2026-11-17T22:15:00Z".into(), &0.into())
    );
    let told: Vec<[&str; 4]> = phases["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| ["at", "phase", "by", "dry_run"].map(|field| change[field].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        told,
        [
            ["2026-11-01T09:00:00Z", "announce", "operator", "-"],
            ["2026-11-14T12:00:00Z", "announce", "operator", "brownout"],
            ["2026-11-17T12:00:00Z", "announce", "operator", "-"],
            ["2026-11-17T21:45:00Z", "brownout", "plan", "-"],
            ["2026-11-17T22:15:00Z", "announce", "plan", "-"],
        ]
    );
    let whole = "Switching off";
    for (format, words) in [
        (
            "text",
            ["Phase     announce since 2026-11-17 22:15 UTC (plan)", "before: brownout 2026-11-17 21:45 UTC (plan)"],
        ),
        ("md", ["### Switching off", "- announce 2026-11-01 09:00 UTC (operator: all owners have been told)"]),
        ("html", [whole, "brownout from 2026-11-17 21:45 to 2026-11-17 22:15 UTC"]),
    ] {
        let text = text(&self::report(&["--format", format, &logs.pattern()]));
        for words in words {
            assert!(text.contains(words), "{format}: {words}\n{text}");
        }
    }
}

#[test]
fn dry_run_names_whom_it_would_have_hit_and_blocks_nobody() {
    let logs = Logs::of(&Story::told());
    let report = json(&[&logs.pattern()]);
    let run = &report["dry_run"][0];
    assert_eq!(
        [&run["phase"], &run["since"], &run["until"]].map(|value| value.as_str()),
        [Some("brownout"), Some("2026-11-14T12:00:00Z"), Some("2026-11-17T12:00:00Z")]
    );
    assert_eq!([&run["clients"], &run["users"], &run["times"]].map(Value::as_u64), [Some(2); 3]);
    // By the name that its session said later, and not by the door it came in.
    let names: Vec<&str> =
        run["listed"].as_array().expect("a list").iter().filter_map(|hit| hit["identity"].as_str()).collect();
    assert_eq!(names, [AGENT, WEEKLY]);
    let would = serde_json::json!({"brownout": {"times": 1, "last": "2026-11-17T09:00:00Z"}});
    assert_eq!(client(&report, WEEKLY)["would_be_refused"], would);
    assert_eq!((&client(&report, AGENT)["refused"], &report["totals"]["refused"]), (&0.into(), &3.into()));
    // Its last use is what it waits for, not its dry run a day later.
    assert_eq!(client(&report, AGENT)["last_attempt"], Value::Null);
    let sentence = "Dry run of brownout (2026-11-14 12:00 to 2026-11-17 12:00 UTC): would have turned away 2 clients (all \
                    of which used the server), 2 times";
    for format in ["text", "md", "html"] {
        let text = text(&self::report(&["--format", format, &logs.pattern()]));
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(sentence), "{format}:\n{text}");
    }
}

#[test]
fn log_without_a_word_on_the_switch_off_shows_nothing_of_it() {
    let mut story = Story::new();
    story.lives("a", story::at(0, 0.0), end(), false);
    story.session("a", story::WHO_NIGHTLY, story::at(58, 3.0), 4);
    let logs = Logs::of(&story);
    let report = json(&[&logs.pattern()]);
    assert_eq!((&report["phases"]["now"], &report["dry_run"]), (&Value::Null, &serde_json::json!([])));
    for (format, words) in [("text", "Phase"), ("md", "Switching off"), ("html", "Switching off")] {
        let text = text(&self::report(&["--format", format, &logs.pattern()]));
        assert!(!text.contains(words) && !text.contains("Dry run of"), "{format}:\n{text}");
    }
}

#[test]
fn pieces_in_any_order_and_twice_tell_the_same() {
    let logs = Logs::of(&Story::told());
    let mut paths: Vec<String> = logs.paths().iter().map(|path| path.display().to_string()).collect();
    paths.sort();
    let forward = json(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let copy = logs.dir.path().join("copy-of-a");
    fs::copy(logs.dir.path().join("a.log"), &copy).expect("copied");
    paths.reverse();
    paths.push(copy.display().to_string());
    let backward = json(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    for part in ["verdict", "clients", "coverage", "earliest_safe", "totals"] {
        assert_eq!(forward[part], backward[part], "{part}");
    }
    assert!(backward["input"]["duplicates"].as_u64() > Some(1000));
}

#[test]
fn missing_piece_is_told_and_never_silence() {
    let logs = Logs::of(&Story::told());
    let path = logs.dir.path().join("a.log");
    let whole = fs::read_to_string(&path).expect("a log");
    let kept: Vec<&str> = whole.lines().filter(|line| !line.contains("2026-11-12T")).collect();
    let missing = whole.lines().count() - kept.len();
    fs::write(&path, kept.join("\n") + "\n").expect("written");
    let report = json(&[&logs.pattern()]);
    assert_eq!(report["coverage"]["missing_records"], missing);
    let holes = report["coverage"]["holes"].to_string();
    assert!(holes.contains("a/a2") && holes.contains("2026-11-11T23:5"), "{holes}");
}

#[test]
fn standard_input_is_a_log_too() {
    let logs = Logs::of(&Story::told());
    let mut child = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
        .args(["report", "--format", "csv", "--until", &end().to_string(), "-"])
        .stdin(fs::File::open(logs.dir.path().join("a.log")).expect("a log"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_an_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let newer = path(
        "newer.log",
        &Story::told().log("a").lines().next().expect("a line").replace("sse-sunset/1", "sse-sunset/2"),
    );
    for (log, word) in [
        (newer.as_str(), "sse-sunset/2"),
        ("/nowhere/at-all.log", "no such file"),
        ("/nowhere/*.log", "matches no file"),
    ] {
        let output = report(&[log]);
        assert_eq!(output.status.code(), Some(4), "{log}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    let empty = report(&[&path("empty.log", "")]);
    assert_eq!(empty.status.code(), Some(3), "{empty:?}");
}

#[test]
fn usage_errors_say_what_to_do() {
    let log = "x.log";
    let wrong: [(&[&str], &str); 6] = [
        (&["--window", "12"], "30d"),
        (&["--window", "1h"], "from 1d"),
        (&["--since", "yesterday"], "2026-11-01"),
        (&["--format", "pdf"], "html"),
        (&["--waivers", "/nowhere"], "cannot read"),
        (&["--state-dir", "/nowhere"], "pseudonym.key"),
    ];
    for (words, expected) in wrong {
        let output = report(&[&[log], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(expected), "{words:?}: {stderr}");
    }
}

#[test]
fn waiver_lets_one_client_pass_and_says_who_answers() {
    let logs = Logs::of(&Story::told());
    let waivers = logs.dir.path().join("waivers.toml");
    let waiver = |client: &str| {
        format!(
            "[[waiver]]\nclient = \"{client}\"\nowner = \"Ada\"\nreason = \"moves in December\"\nexpires = \"2026-12-05\"\n"
        )
    };
    fs::write(&waivers, waiver("Weekly*") + &waiver(AGENT)).expect("written");
    let report = json(&["--waivers", &waivers.display().to_string(), &logs.pattern()]);
    assert_eq!(client(&report, WEEKLY)["state"], "waived");
    // What is left is the gap of day 43.
    assert_eq!((report["totals"]["blocking"].as_u64(), report["verdict"].as_str()), (Some(0), Some("unknown")));
    let notes = report["notes"].to_string();
    assert!(notes.contains("Ada") && notes.contains("moves in December"), "{notes}");
}

#[test]
fn client_and_who_choose_what_is_shown_and_never_what_decides() {
    let logs = Logs::of(&Story::told());
    let crawler = json(&["--client", "*crawler", &logs.pattern()]);
    assert_eq!((crawler["verdict"].as_str(), crawler["clients"].as_array().map(Vec::len)), (Some("not_yet"), Some(1)));
    let who = json(&["--who", "nightly-batch", &logs.pattern()]);
    assert_eq!(who["clients"][0]["identity"], NIGHTLY);
    assert_eq!(who["clients"].as_array().map(Vec::len), Some(1));
}

#[test]
fn access_log_of_the_old_server_gives_a_weaker_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("access.log");
    let line = |method: &str, path: &str, status: u16| {
        format!(
            "203.0.113.7 - - [19/Nov/2026:10:00:00 +0000] \"{method} {path} HTTP/1.1\" {status} 100 \"-\" \"python-httpx/0.28.1\"\n"
        )
    };
    fs::write(&path, line("GET", "/sse", 200) + &line("POST", "/messages/?session_id=secret", 202)).expect("written");
    let log = path.display().to_string();
    let report = json(&[&log]);
    assert_eq!((report["verdict"].as_str(), report["grade"].as_str()), (Some("not_yet"), Some("access_log")));
    assert_eq!(report["clients"][0]["identity"], "ua:python-httpx");
    assert!(!report.to_string().contains("secret"));
    // Without posts nobody blocks, and still nothing is proven.
    fs::write(&path, line("GET", "/sse", 200)).expect("written");
    assert_eq!(self::report(&[&log]).status.code(), Some(3));
}

#[test]
fn access_log_on_other_paths_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("access.log");
    let line = "203.0.113.7 - - [19/Nov/2026:10:00:00 +0000] \"POST /api/messages HTTP/1.1\" 202 1 \"-\" \"node\"\n";
    fs::write(&path, line).expect("written");
    let log = path.display().to_string();
    let lost = json(&[&log]);
    assert_eq!(lost["verdict"], "unknown");
    assert!(lost["reason"].as_str().is_some_and(|reason| reason.contains("--messages-path")), "{}", lost["reason"]);
    let found = json(&["--messages-path", "/api/messages", &log]);
    assert_eq!((found["verdict"].as_str(), found["totals"]["users"].as_u64()), (Some("not_yet"), Some(1)));
}

/// Replica `a` says who came, in full; what `spoil` makes of the log of `b` must not pass for silence.
fn with_spoilt_replica(spoil: impl Fn(&str) -> String) -> Value {
    let mut story = Story::new();
    for replica in ["a", "b"] {
        story.lives(replica, story::at(0, 0.0), end(), false);
    }
    story.session("b", story::WHO_NIGHTLY, story::at(58, 3.0), 4);
    for day in 0..story::DAYS {
        story.canary("a", story::at(day, 6.0));
    }
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.log"), story.log("a")).expect("written");
    fs::write(dir.path().join("b.log"), spoil(&story.log("b"))).expect("written");
    json(&[&dir.path().join("*").display().to_string()])
}

fn each_line(log: &str, change: impl Fn(&str) -> String) -> String {
    log.lines().map(change).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn replica_whose_log_is_in_another_shape_is_never_silent() {
    let whole = with_spoilt_replica(str::to_owned);
    assert_eq!(whole["verdict"], "not_yet");
    let docker = |log: &str| each_line(log, |line| serde_json::json!({"log": line}).to_string());
    let prefixed = |log: &str| each_line(log, |line| format!("2026-11-20T00:00:00Z stdout F {line}"));
    let one_line = |log: &str| log.replace('\n', "\r");
    let shapes: [&dyn Fn(&str) -> String; 3] = [&docker, &prefixed, &one_line];
    for (index, shape) in shapes.into_iter().enumerate() {
        let report = with_spoilt_replica(shape);
        assert_eq!(report["verdict"], "unknown", "{index}");
        assert!(report["reason"].as_str().is_some_and(|reason| reason.contains("b.log")), "{}", report["reason"]);
    }
    let empty = with_spoilt_replica(|_| String::new());
    assert_eq!(empty["verdict"], "safe_with_notes");
    assert!(empty["input"]["problems"].to_string().contains("b.log"), "{:#}", empty["input"]);
}

#[test]
fn replica_whose_log_just_ends_is_noted_by_name() {
    let report = with_spoilt_replica(|log| {
        let kept: Vec<&str> = log.lines().take_while(|line| !line.contains("2026-11-18T")).collect();
        kept.join(
            "
",
        ) + "
"
    });
    assert_eq!(report["verdict"], "safe_with_notes");
    assert!(report["notes"].to_string().contains("b did not say that it ended"), "{:#}", report["notes"]);
}

/// A replica that nobody came to, with a canary on each day before `canary_ends`, and everybody gone from `gone` on.
fn with_silence(canary_ends: i64, gone: Option<i64>) -> Value {
    let mut story = Story::new();
    story.lives("a", story::at(0, 0.0), end(), false);
    for day in 0..canary_ends {
        story.canary("a", story::at(day, 6.0));
    }
    if let Some(day) = gone {
        story.phase("a", story::at(day, 12.0), "gone", "tombstone", "");
    }
    json(&[&Logs::of(&story).pattern()])
}

#[test]
fn silence_without_a_canary_is_noted_and_in_gone_none_is_missed() {
    // Of 60 days; the last canary 18 hours before the end, 42 hours before, and never within the window.
    let verdict = |report: &Value| report["verdict"].as_str().expect("a verdict").to_owned();
    let fresh = with_silence(60, None);
    assert_eq!((verdict(&fresh), &fresh["notes"]), ("safe".to_owned(), &serde_json::json!([])));
    for (ends, note) in
        [(59, "along the public path since 2026-11-18T18:00:00Z: nothing shows"), (0, "path within the window: run")]
    {
        let late = with_silence(ends, None);
        assert_eq!(verdict(&late), "safe_with_notes", "{ends}");
        assert!(late["notes"].to_string().contains(note), "{:#}", late["notes"]);
    }
    let gone = with_silence(50, Some(49));
    assert_eq!((verdict(&gone), &gone["notes"]), ("safe".to_owned(), &serde_json::json!([])));
    assert_eq!(verdict(&with_silence(47, Some(49))), "safe_with_notes", "it had stopped before");
}

#[test]
fn past_is_judged_with_a_note_of_what_came_later() {
    let mut story = Story::new();
    story.lives("a", story::at(0, 0.0), end(), false);
    story.session("a", story::WHO_NIGHTLY, story::at(58, 3.0), 4);
    for day in 0..story::DAYS {
        story.canary("a", story::at(day, 6.0));
    }
    let logs = Logs::of(&story);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    let output =
        command.args(["report", "--strict", "--until", "2026-11-17"]).arg(logs.pattern()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("left out by --since or --until"), "{output:?}");
}

#[test]
fn next_command_can_be_pasted() {
    let logs = Logs::of(&Story::told());
    let screen = text(&report(&[&logs.pattern()]));
    let next = screen.lines().find_map(|line| line.strip_prefix("Next")).expect("a next step").trim().to_owned();
    let program = env!("CARGO_BIN_EXE_sse-sunset");
    let next = next.replacen("sse-sunset", &format!("'{program}'"), 1) + " --format json";
    let output = Command::new("sh").args(["-c", &next]).output().expect("a shell");
    let again: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(again["clients"][0]["identity"], WEEKLY, "{next}");
    assert_eq!(again["clients"].as_array().map(Vec::len), Some(1));
}
