//! `sunset plan`, as an operator types it: what it takes, what it prints, how it ends.

use std::fs;
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::support::within;

async fn run(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.args(words).envs(variables.iter().copied());
    command.kill_on_drop(true).stdin(Stdio::null());
    within("the end", command.output()).await.expect("an end")
}

/// A file as `serve` reads it, with an option that says nothing about the switch-off, and wrongly.
const FILE: &str = r#"
upstream = "http://127.0.0.1:3001/mcp"
public-url = "https://mcp.example.com"
passthrough = "all"
keep-alive = "15"
announce = 2026-12-01
brownout = ["2027-01-04T09:00:00Z/1h", "2026-12-20T14:00:00Z/PT5M"]
tombstone = 2027-01-15
"#;

#[tokio::test]
async fn plan_prints_the_calendar_of_what_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sunset.toml");
    fs::write(&file, FILE).expect("written");
    let words = ["sunset", "plan", "--config", file.to_str().expect("a path"), "--tombstone", "2027-01-20"];
    let output = run(&words, &[("SSE_SUNSET_GONE", "2027-02-01T10:00:00+01:00")]).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(output.stderr.is_empty());
    for expected in [
        "2026-12-01 00:00  Tue  announce         19 days",
        "2026-12-20 14:00  Sun  brownout 1 of 2  5 min",
        "2026-12-20 14:05  Sun  announce         14 days  as before the brownout",
        "2027-01-20 00:00  Wed  tombstone ",
        "2027-02-01 09:00  Mon  gone ",
        "Headers   Deprecation: @1796083200\n          Sunset: Wed, 20 Jan 2027 00:00:00 GMT\n",
        "Link: <https://mcp.example.com/mcp>; rel=\"successor-version\"",
        "Guard     brownout, tombstone and gone are held back while",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

#[tokio::test]
async fn plan_goes_into_calendars_and_programs() {
    let common =
        ["sunset", "plan", "--announce", "2026-12-01", "--gone", "+100d", "--new-url", "https://a.example/mcp"];
    let output = run(&[&common[..], &["--brownout", "2026-12-10/5m", "--format", "ics"]].concat(), &[]).await;
    let file = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{file}");
    assert!(file.starts_with("BEGIN:VCALENDAR\r\n") && file.ends_with("END:VCALENDAR\r\n"), "{file}");
    assert_eq!(file.matches("BEGIN:VEVENT\r\n").count(), 3);
    assert!(file.contains("\r\nDTSTART:20261210T000000Z\r\nDTEND:20261210T000500Z\r\n"), "{file}");

    let output = run(&[&common[..], &["--format", "json"]].concat(), &[]).await;
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan["schema"], "sse-sunset-plan/1");
    assert_eq!(plan["steps"][1]["phase"], "gone");
}

#[tokio::test]
async fn plan_and_serve_refuse_the_same_mistakes_all_at_once() {
    let wrong = [
        ("--freeze", "2026-12-05", "freeze needs --state-dir"),
        ("--tombstone", "2026-12-01", "--tombstone 2026-12-01T00:00:00Z is not after --freeze 2026-12-05T00:00:00Z"),
        ("--brownout", "2026-12-01", "START/DURATION"),
        ("--share", "5", "needs a %, such as 5%"),
        ("--dry-run", "everything", "is none of observe"),
        ("--info-url", "nowhere", "is not an http:// or https:// URL"),
    ];
    let words: Vec<&str> = wrong.iter().flat_map(|(name, value, _)| [*name, *value]).collect();
    for command in [&["sunset", "plan"][..], &["serve", "--upstream", "http://127.0.0.1:9/mcp"]] {
        let output = run(&[command, &words].concat(), &[]).await;
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr);
        for expected in wrong.iter().map(|(.., expected)| *expected).chain(["give --new-url, or --public-url"]) {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert_eq!(text.lines().count(), wrong.len() + 1, "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn plan_without_a_date_says_how_one_begins_and_is_no_calendar() {
    let output = run(&["sunset", "plan"], &[]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--announce DATE begins"));
    let output = run(&["sunset", "plan", "--format", "ics"], &[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("give --announce DATE"));
}
