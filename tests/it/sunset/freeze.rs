//! Who was seen before goes on, whatever happens to the process and its files; others are told where to go.

use serde_json::json;

use super::{Stage, greet, records, set, stands, status, text, use_once};
use crate::support::{LegacyClient, Proxy};

/// Waits until newcomers are refused.
async fn frozen(proxy: &Proxy) -> u64 {
    let status = stands(proxy, |status| status["frozen"]["seen"].is_u64()).await;
    status["frozen"]["seen"].as_u64().expect("a number")
}

async fn is_served(proxy: &Proxy, name: &str) -> bool {
    let mut client = proxy.client().await;
    let answer = greet(&mut client, name).await;
    if let Some(error) = answer.get("error") {
        assert_eq!(error["data"]["reason"], "sse_frozen", "{answer}");
    }
    answer.get("result").is_some()
}

#[tokio::test]
async fn those_who_were_seen_go_on_and_newcomers_do_not_also_after_a_restart() {
    let stage = Stage::new().await;
    let proxy = stage.remembering(&[]);
    use_once(&proxy, "old-hand").await;
    set(&proxy, "freeze").await;
    assert!(frozen(&proxy).await >= 1);
    assert!(is_served(&proxy, "old-hand").await);
    assert!(!is_served(&proxy, "newcomer").await);
    let log = proxy.stop().await;
    let refused = records(&log, "legacy.refused");
    assert_eq!((refused.len(), &refused[0]["legacy.refused.reason"]), (1, &json!("freeze")));
    let proxy = stage.remembering(&[]);
    let known = frozen(&proxy).await;
    assert_eq!(status(&proxy).await["phase"], "freeze", "what was set by hand holds");
    assert!(known >= 1);
    assert!(is_served(&proxy, "old-hand").await);
    assert!(!is_served(&proxy, "newcomer").await, "who was refused was not seen before");
    proxy.stop().await;
}

#[tokio::test]
async fn list_is_made_again_from_the_logs_when_the_state_is_lost() {
    let stage = Stage::new().await;
    let log = stage.path("kept.log");
    let options = [("traffic-log", text(&log))];
    let first = stage.remembering(&options);
    let mut client = first.client().await;
    greet(&mut client, "old-hand").await;
    drop(client);
    crate::support::within("the end of the session", async {
        while !std::fs::read_to_string(&log).expect("a log").contains("legacy.end") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut first = first;
    first.begin_stop();
    first.ended().await;
    // Rotated, and everything but the key is lost.
    std::fs::rename(&log, stage.path("kept.log.1")).expect("renamed");
    for file in std::fs::read_dir(stage.path("state")).expect("a folder").flatten() {
        if file.file_name().to_string_lossy().ends_with(".json") {
            std::fs::remove_file(file.path()).expect("removed");
        }
    }
    let mut proxy = stage.remembering(&options);
    set(&proxy, "freeze").await;
    frozen(&proxy).await;
    assert!(is_served(&proxy, "old-hand").await);
    assert!(!is_served(&proxy, "newcomer").await);
    proxy.begin_stop();
    proxy.ended().await;
}

#[tokio::test]
async fn one_that_comes_back_without_a_word_is_judged_by_its_address() {
    let stage = Stage::new().await;
    let proxy = stage.remembering(&[("trusted-proxy", "127.0.0.1/32")]);
    let mut old = LegacyClient::connect(&proxy, &[("x-forwarded-for", "192.0.2.1")]).await;
    greet(&mut old, "old-hand").await;
    drop(old);
    proxy.logged("legacy.end", 1).await;
    set(&proxy, "freeze").await;
    frozen(&proxy).await;
    for (address, served) in [("192.0.2.1", true), ("192.0.2.2", false)] {
        let headers = [("x-forwarded-for", address), ("mcp-protocol-version", "2025-06-18")];
        let mut back = LegacyClient::connect(&proxy, &headers).await;
        back.post(json!({"jsonrpc": "2.0", "id": 9, "method": "tools/list"})).await;
        assert_eq!(back.answer(9).await.get("result").is_some(), served, "{address}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn freeze_without_a_memory_is_refused_with_what_to_do() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    let answer = super::say(&proxy, json!({"action": "set", "phase": "freeze", "why": "x"})).await;
    assert_eq!(answer.status(), 409);
    assert!(answer.text().await.expect("a text").contains("--state-dir"));
    assert_eq!(status(&proxy).await["phase"], "observe");
    proxy.stop().await;
}
