//! The state directory as operators meet it: what of it survives, and what is said when it fails.

use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use sse_sunset::report::render::page::{Mode, content_security_policy};

use super::{JSON, ask, get, json_of, shows, start};
use crate::support::{FakeUpstream, Proxy, pass, within};

async fn use_once(proxy: &Proxy) {
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[tokio::test]
async fn state_directory_that_fails_is_degraded_and_ready_and_heals() {
    let upstream = FakeUpstream::start(JSON).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (state, away) = (folder.path().join("state"), folder.path().join("away"));
    let proxy = start(&upstream, &[("state-dir", text(&state))]);
    assert_eq!(json_of(get(&proxy, "/status").await).await["state_dir"]["failing"], false);
    fs::rename(&state, &away).expect("renamed");
    use_once(&proxy).await;
    shows(&proxy, "sse_sunset_state_failing", 1.0).await;
    let ready = get(&proxy, "/readyz").await;
    assert_eq!(ready.status(), 200, "its clients are served");
    let ready = json_of(ready).await;
    assert_eq!((&ready["status"], ready["degraded"].as_array().map(Vec::len)), (&json!("degraded"), Some(1)));
    let named = ready["degraded"][0].as_str().expect("a reason");
    assert!(named.starts_with(&format!("state directory: {}/evidence-", text(&state))), "{named}");
    let status = json_of(get(&proxy, "/status").await).await;
    assert_eq!(status["state_dir"]["failing"], true, "{status}");
    assert!(status["state_dir"]["error"].is_string(), "{status}");
    fs::rename(&away, &state).expect("renamed");
    shows(&proxy, "sse_sunset_state_failing", 0.0).await;
    assert_eq!(json_of(get(&proxy, "/readyz").await).await, json!({"status": "ready", "degraded": []}));
    let status = json_of(get(&proxy, "/status").await).await;
    assert!(status["state_dir"]["saved"].as_str().expect("a time").ends_with('Z'), "{status}");
    proxy.stop().await;
}

#[tokio::test]
async fn process_without_a_state_directory_has_none_to_tell_of() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    assert_eq!(json_of(get(&proxy, "/status").await).await["state_dir"], Value::Null);
    proxy.stop().await;
}

#[tokio::test]
async fn what_could_not_be_saved_is_taken_from_the_log_after_a_restart() {
    let upstream = FakeUpstream::start(JSON).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (state, away, log) = (folder.path().join("state"), folder.path().join("away"), folder.path().join("kept.log"));
    let options = [("state-dir", text(&state)), ("traffic-log", text(&log))];
    let mut proxy = start(&upstream, &options);
    fs::rename(&state, &away).expect("renamed");
    use_once(&proxy).await;
    proxy.begin_stop();
    proxy.ended().await;
    fs::rename(&away, &state).expect("renamed");
    let mut again = start(&upstream, &options);
    let report = json_of(get(&again, "/report.json").await).await;
    assert_eq!((&report["verdict"], &report["totals"]["uses"]), (&json!("not_yet"), &json!(1)), "{report}");
    assert_eq!(report["coverage"]["missing_records"], 0, "{report}");
    again.begin_stop();
    again.ended().await;
}

#[tokio::test]
async fn fragment_in_which_nothing_happened_is_not_sent_again() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    use_once(&proxy).await;
    proxy.logged("legacy.end", 1).await;
    let minute = || jiff::Timestamp::now().as_second() / 60;
    // A report is at most a second old, by the clock of the process.
    pass(std::time::Duration::from_secs(2)).await;
    within("two reports within a minute", async {
        loop {
            let begun = minute();
            let tag = get(&proxy, "/fragment").await.headers()["etag"].clone();
            pass(std::time::Duration::from_secs(2)).await;
            let again = ask(&proxy, Method::GET, "/fragment", &[("if-none-match", tag.to_str().expect("text"))]).await;
            if minute() == begun {
                assert_eq!(again.status(), 304);
                assert_eq!(again.headers()["etag"], tag);
                return;
            }
        }
    })
    .await;
    use_once(&proxy).await;
    let tag = get(&proxy, "/fragment").await.headers()["etag"].clone();
    pass(std::time::Duration::from_secs(2)).await;
    let again = ask(&proxy, Method::GET, "/fragment", &[("if-none-match", tag.to_str().expect("text"))]).await;
    assert_eq!(again.status(), 200, "somebody came");
    proxy.stop().await;
}

#[tokio::test]
async fn every_answer_lets_only_the_pages_own_style_and_script_run() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let policy = content_security_policy(Mode::Live);
    assert!(!policy.contains("unsafe"), "{policy}");
    for path in ["/", "/fragment", "/report.json", "/nowhere"] {
        assert_eq!(get(&proxy, path).await.headers()["content-security-policy"], policy.as_str(), "{path}");
    }
    proxy.stop().await;
}
