//! The command as an operator types it.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use super::SESSIONS;
use crate::support::{Behaviour, FakeUpstream, within};

async fn check(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.arg("check").args(words).kill_on_drop(true).stdin(Stdio::null()).env_remove("SSE_SUNSET_PROBE_KEY_FILE");
    within("the end", command.output()).await.expect("an end")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[tokio::test]
async fn text_has_a_line_for_each_finding_and_the_remedy_below_what_is_wrong() {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let output = check(&["--upstream", upstream.url()]).await;
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "warnings are no failure: {text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("ok       upstream.dns "), "{text}");
    let at = lines.iter().position(|line| line.starts_with("warning  upstream.session-id ")).expect("a warning");
    assert!(lines[at + 1].starts_with("  means  "), "{text}");
    assert!(lines[at..].iter().any(|line| line.starts_with("     do  whoever runs the server")), "{text}");
    assert_eq!(lines.last(), Some(&"ready, with warnings: 16 ok, 1 warning, 0 failures, 4 skipped"));
    assert!(!text.contains('\x1b'), "no colour where there is no terminal");
}

#[tokio::test]
async fn json_holds_findings_and_summary_and_a_failure_is_exit_code_1() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SESSIONS }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    let header = format!("Authorization: @{}", token.display());
    for (value, code) in [("Bearer hunter2\n", 1), ("Bearer good\n", 0)] {
        std::fs::write(&token, value).expect("written");
        let words = ["--upstream", upstream.url(), "--header", &header, "--format", "json", "--timeout", "5s"];
        let output = check(&words).await;
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        assert_eq!(report["summary"]["ready"], code == 0);
        let findings = report["findings"].as_array().expect("a list");
        let auth = findings.iter().find(|finding| finding["id"] == "upstream.auth").expect("a finding");
        assert_eq!(auth["status"], if code == 0 { "ok" } else { "failure" });
        assert_eq!(auth["remedy"].is_string(), code == 1);
        assert!(!text(&output).contains(value.trim_start_matches("Bearer ").trim()), "credentials are never shown");
    }
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2_and_quotes_no_credential() {
    let cases: &[&[&str]] = &[
        &[],
        &["--upstream", "nonsense"],
        &["--upstream", "http://127.0.0.1:9/mcp", "--watch", "130"],
        &["--upstream", "http://127.0.0.1:9/mcp", "--header", "Authorization Bearer hunter2"],
        &["--upstream", "http://127.0.0.1:9/mcp", "--ca", "/dev/null"],
        &["--upstream", "http://127.0.0.1:9/mcp", "--probe-key-file", "/dev/null"],
        &["--upstream", "http://127.0.0.1:9/mcp", "--format", "xml"],
    ];
    for words in cases {
        let output = check(words).await;
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.is_empty() && !error.contains("hunter2"), "{words:?}: {error}");
    }
}
