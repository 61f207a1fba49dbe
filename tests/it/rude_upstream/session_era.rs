//! The traps of the session era (UPSTREAMS §0 and E): headers, session ids, late answers, ids that collide, endings.
//!
//! The doc comment of each test names its trap.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Stage, answer, refusal};
use crate::support::pass;
use crate::support::script::{
    Fate, Gate, Got, Script, Step, chunk, document, event, last_chunk, reply, stream, stream_head,
};

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// An answer to `initialize` with this version and these headers.
fn initialized(got: &Got, version: &Value, headers: &[(&str, &str)]) -> Script {
    let result = json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s", "version": ""}});
    let text = json!({"jsonrpc": "2.0", "id": got.body["id"], "result": result}).to_string();
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    vec![reply(200, &all, text)]
}

/// Trap: TypeScript, Python 1 and rmcp answer 406 to `*/*`, Go 400; compressed answers grow; Python, Go, rmcp and mcp-go
/// refuse a foreign `Host` (E 1). The client's own headers of the kind must not shine through.
#[tokio::test]
async fn media_types_encoding_and_host_are_exact() {
    let mut stage = Stage::open(|_| None).await;
    let foreign =
        [("accept", "*/*"), ("accept-encoding", "gzip"), ("last-event-id", "7"), ("mcp-protocol-version", "1")];
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    assert_eq!(stage.client.post_text(call, &foreign).await.status, 202);
    stage.client.answer(1).await;
    stage.upstream.wait_for("the GET", |got| got.method == "GET").await;
    let upstream = stage.end().await;
    let host = upstream.url().trim_start_matches("http://").split('/').next().expect("an authority").to_owned();
    for got in upstream.got() {
        assert_eq!(got.header("accept-encoding").as_deref(), Some("identity"), "{got:?}");
        assert_eq!(got.header("host").as_ref(), Some(&host), "{got:?}");
        assert_eq!(got.header("last-event-id"), None, "{got:?}");
        let (accept, content) = (got.header("accept"), got.header("content-type"));
        match got.method.as_str() {
            "POST" => {
                assert_eq!(accept.as_deref(), Some("application/json, text/event-stream"), "{got:?}");
                assert_eq!(content.as_deref(), Some("application/json"), "{got:?}");
            }
            "GET" => assert_eq!((accept.as_deref(), content), (Some("text/event-stream"), None), "{got:?}"),
            _ => assert_eq!(content, None, "{got:?}"),
        }
    }
}

/// Trap: rmcp and C# refuse a version header on `initialize`; before 2025-06-18 there was none (E 2).
#[tokio::test]
async fn version_header_is_sent_after_initialize_and_where_it_exists() {
    let versions = [
        (json!("2024-11-05"), None),
        (json!("2025-03-26"), None),
        (json!("2025-06-18"), Some("2025-06-18")),
        (json!("2025-11-25"), Some("2025-11-25")),
        // No version at all.
        (json!(""), None),
        (json!(7), None),
        (Value::Null, None),
    ];
    for (version, sent) in versions {
        let stated = version.clone();
        let mut stage =
            Stage::closed(move |got| (got.rpc() == "initialize").then(|| initialized(got, &stated, &[(SESSION, "s")])))
                .await;
        stage.client.initialize().await;
        stage.still_works().await;
        let upstream = stage.end().await;
        for got in upstream.got() {
            let wanted = sent.filter(|_| got.rpc() != "initialize");
            assert_eq!(got.header(VERSION).as_deref(), wanted, "{version} {got:?}");
        }
    }
}

/// Trap: Python answers 400 with a fresh session id (A.1, "no SID"), and some servers send ids with every answer (E 2).
#[tokio::test]
async fn session_id_is_taken_from_a_2xx_initialize_alone() {
    let mut stage = Stage::closed(|got| match got.rpc() {
        "initialize" if got.body["id"] == "refused" => {
            let headers = [(SESSION, "from-a-400"), ("content-type", "application/json")];
            Some(vec![reply(400, &headers, refusal(&got.id()))])
        }
        "initialize" => Some(initialized(got, &json!("2025-06-18"), &[(SESSION, "right/+=~")])),
        "tools/call" => Some(vec![reply(200, &[(SESSION, "from-a-call")], answer(&got.id()))]),
        "" => None,
        _ => Some(vec![reply(202, &[(SESSION, "from-a-202")], "")]),
    })
    .await;
    stage.client.post(json!({"jsonrpc": "2.0", "id": "refused", "method": "initialize", "params": {}})).await;
    assert_eq!(stage.client.answer("refused").await["error"]["code"], -32042);
    stage.client.initialize().await;
    for _ in 0..3 {
        stage.ask().await;
    }
    let upstream = stage.end().await;
    let got = upstream.got();
    // What was refused is asked what it is, without a session.
    let begin = got.iter().rposition(|got| got.rpc() == "initialize").expect("a second handshake");
    for (place, got) in got.iter().enumerate() {
        let wanted = Some("right/+=~").filter(|_| place > begin);
        assert_eq!(got.header(SESSION).as_deref(), wanted, "{got:?}");
    }
    assert_eq!(upstream.count(|got| got.method == "DELETE"), 1, "one session, one DELETE");
}

/// Trap: a server without sessions has nothing to listen to and nothing to delete (WIRE, Era).
#[tokio::test]
async fn server_without_session_ids_is_asked_for_no_stream_and_no_delete() {
    let mut stage =
        Stage::closed(|got| (got.rpc() == "initialize").then(|| initialized(got, &json!("2025-06-18"), &[]))).await;
    stage.client.initialize().await;
    stage.still_works().await;
    let upstream = stage.end().await;
    assert!(upstream.got().iter().all(|got| got.method == "POST" && got.header(SESSION).is_none()));
}

/// Trap: a session that was made although its `initialize` failed for the client, or that the client left for
/// another, has to be deleted too: Python and C# hold 10,000 of them (A.1, "session cap").
#[tokio::test]
async fn session_that_is_given_up_is_deleted() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let mut stage = Stage::closed(move |got| {
        if got.rpc() != "initialize" {
            return None;
        }
        let number = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let id = [(SESSION, number.as_str()), ("content-type", "application/json")];
        Some(match number.as_str() {
            "0" => vec![reply(200, &id, refusal(&got.id()))],
            "1" => vec![reply(200, &id, "garbage")],
            _ => initialized(got, &json!("2025-06-18"), &id[..1]),
        })
    })
    .await;
    for reason in [json!(null), json!("upstream_error")] {
        stage.client.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
        assert_eq!(stage.client.answer(0).await["error"]["data"]["reason"], reason);
    }
    for _ in 0..2 {
        assert!(stage.client.initialize().await["result"].is_object());
        stage.still_works().await;
    }
    let upstream = stage.end().await;
    let deleted: Vec<String> =
        upstream.got().iter().filter(|got| got.method == "DELETE").filter_map(|got| got.header(SESSION)).collect();
    assert_eq!(deleted, ["0", "1", "2", "3"]);
}

/// Trap: whatever happens to `initialize`, the session must be able to start again.
#[tokio::test]
async fn initialize_that_fails_is_one_error_and_can_be_repeated() {
    let failures: Vec<Script> = vec![
        vec![Step::Reset],
        vec![reply(500, &[], "boom")],
        vec![reply(202, &[], "")],
        vec![reply(302, &[("location", "/login")], "")],
        vec![reply(200, &[("content-encoding", "gzip")], b"\x1f\x8b")],
        stream(": nothing\n\n"),
        stream("data: {nonsense\n\n"),
        vec![document(refusal("null"))],
    ];
    let (count, turn) = (failures.len(), std::sync::atomic::AtomicUsize::new(0));
    let mut stage = Stage::closed(move |got| {
        let number = (got.rpc() == "initialize").then(|| turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed))?;
        failures.get(number).cloned()
    })
    .await;
    for _ in 0..count {
        stage.client.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
        let messages = stage.client.until_answer(0).await;
        assert!(messages.len() == 1 && messages[0]["error"].is_object(), "{messages:?}");
    }
    assert!(stage.client.initialize().await["result"].is_object());
    stage.still_works().await;
    stage.end().await;
}

/// Trap: a call before the server has taken `initialized` is refused by strict ones (E 7).
#[tokio::test]
async fn nothing_passes_initialized() {
    let gate = Gate::default();
    let waits = gate.clone();
    let mut stage = Stage::open(move |got| {
        let initialized = got.rpc() == "notifications/initialized";
        initialized.then(|| vec![Step::Wait(waits.clone()), reply(202, &[], "")])
    })
    .await;
    stage.client.call(1, "echo", json!({})).await;
    stage.upstream.wait_for("initialized", |got| got.rpc() == "notifications/initialized").await;
    assert_eq!(stage.upstream.got().len(), 2, "neither call nor GET");
    gate.open();
    stage.client.answer(1).await;
    stage.upstream.wait_for("the GET", |got| got.method == "GET").await;
    stage.still_works().await;
    stage.end().await;
}

/// Trap: in JSON mode the head comes when the call is done, in Python after 15 s (E 15).
#[tokio::test]
async fn head_that_comes_after_minutes_is_an_answer() {
    let gate = Gate::default();
    let late = gate.clone();
    let mut stage =
        Stage::open(move |got| got.calls("rude").then(|| vec![Step::Wait(late.clone()), document(answer(&got.id()))]))
            .await;
    let id = stage.begin().await;
    stage.upstream.wait_for("the call", |got| got.calls("rude")).await;
    stage.still_works().await;
    pass(Duration::from_secs(590)).await;
    stage.still_works().await;
    gate.open();
    assert!(stage.client.answer(id).await["result"].is_object());
    stage.still_works().await;
    stage.end().await;
}

/// Cancels a call, lets the upstream say `late` in answer, and checks that the client hears nothing of it and that the
/// stream was read to its end.
async fn cancelled(late: fn(&str) -> String) {
    let gate = Gate::default();
    let waits = gate.clone();
    let mut stage = Stage::open(move |got| {
        // More than the sockets hold: it can only be written if it is read.
        let comments = format!(": {}\n", "x".repeat(1000)).repeat(12_000);
        got.calls("rude").then(|| {
            let rest = chunk(event(&late(&got.id())) + &comments);
            vec![stream_head(), chunk(": ok\n\n"), Step::Wait(waits.clone()), rest, last_chunk()]
        })
    })
    .await;
    let id = stage.begin().await;
    stage.upstream.wait_for("the call", |got| got.calls("rude")).await;
    stage
        .client
        .post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}))
        .await;
    stage.upstream.wait_for("the cancellation", |got| got.rpc() == "notifications/cancelled").await;
    stage.still_works().await;
    gate.open();
    let end = |all: &[Got]| all.iter().find(|got| got.calls("rude") && got.fate != Fate::Running).map(|got| got.fate);
    assert_eq!(stage.upstream.until("the end of the stream", end).await, Fate::Played, "read to its end");
    stage.still_works().await;
    stage.end().await;
}

/// Trap: Java removes the session when it cannot write (§0, 8), so the stream is drained, and the late answer dropped.
#[tokio::test]
async fn late_answer_of_a_cancelled_call_is_dropped_and_its_stream_drained() {
    cancelled(answer).await;
}

/// Trap: Python 2 answers a cancelled call with -32800, others with errors that have no id (A.2, E 8).
#[tokio::test]
async fn late_error_of_a_cancelled_call_is_dropped_and_its_stream_drained() {
    cancelled(refusal).await;
    cancelled(|_| refusal("null")).await;
}

/// Trap: an id may be used again once it is free; what the old stream says late is not the new call's answer.
#[tokio::test]
async fn late_answer_is_never_taken_for_that_of_a_new_call_under_the_same_id() {
    let (late, new) = (Gate::default(), Gate::default());
    let (first, second) = (late.clone(), new.clone());
    let mut stage = Stage::open(move |got| match &got.body["params"]["name"] {
        name if name == "old" => {
            Some(vec![stream_head(), Step::Wait(first.clone()), chunk(event(&refusal("7"))), last_chunk()])
        }
        name if name == "new" => {
            Some(vec![stream_head(), Step::Wait(second.clone()), chunk(event(&answer("7"))), last_chunk()])
        }
        _ => None,
    })
    .await;
    stage.client.call(7, "old", json!({})).await;
    stage.upstream.wait_for("the old call", |got| got.calls("old")).await;
    stage.client.post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})).await;
    stage.client.call(7, "new", json!({})).await;
    stage.upstream.wait_for("the new call", |got| got.calls("new")).await;
    late.open();
    stage.upstream.wait_for("the late answer", |got| got.calls("old") && got.fate == Fate::Played).await;
    stage.still_works().await;
    new.open();
    let messages = stage.client.until_answer(7).await;
    assert!(messages.len() == 1 && messages[0]["result"].is_object(), "{messages:?}");
    stage.end().await;
}

/// Trap: the same, as streams are kept until the session is deleted; a broken one would cost it before.
#[tokio::test]
async fn streams_are_kept_until_the_session_is_deleted() {
    let deleted = Gate::default();
    let waits = deleted.clone();
    let mut stage = Stage::open(move |got| match got.method.as_str() {
        "DELETE" => Some(vec![Step::Wait(waits.clone()), reply(200, &[], "")]),
        "GET" => Some(vec![stream_head(), Step::Hold]),
        _ => got.calls("rude").then(|| vec![stream_head(), Step::Hold]),
    })
    .await;
    stage.begin().await;
    stage.upstream.wait_for("the call", |got| got.calls("rude")).await;
    stage.upstream.wait_for("the GET", |got| got.method == "GET").await;
    drop(stage.client);
    stage.upstream.wait_for("the DELETE", |got| got.method == "DELETE").await;
    let held = |got: &Got| (got.method == "GET" || got.calls("rude")) && got.fate == Fate::Running;
    assert_eq!(stage.upstream.count(held), 2);
    deleted.open();
    let over = |all: &[Got]| all.iter().all(|got| got.fate != Fate::Running).then_some(());
    stage.upstream.until("the end of the streams", over).await;
    stage.proxy.stop().await;
}

/// Trap: 200, 202, 204, 404 and 405 are all fine (E 10), and so is anything else: the client is gone.
#[tokio::test]
async fn delete_may_be_answered_with_anything() {
    let mut answers: Vec<Script> =
        [200, 202, 204, 400, 401, 404, 405, 500].into_iter().map(|status| vec![reply(status, &[], "")]).collect();
    answers.extend([vec![Step::Reset], vec![Step::Close], vec![stream_head(), Step::Hold]]);
    for script in answers {
        let mut stage = Stage::open(move |got| (got.method == "DELETE").then(|| script.clone())).await;
        stage.still_works().await;
        drop(stage.client);
        let end = stage.proxy.logged("legacy.end", 1).await.remove(0);
        assert_eq!(end["session.end.reason"], "client_disconnect");
        stage.proxy.stop().await;
        assert_eq!(stage.upstream.count(|got| got.method == "DELETE"), 1);
    }
}

/// Trap: a DELETE that nobody answers must not keep the session's account open.
#[tokio::test]
async fn delete_without_any_answer_is_given_up() {
    let mut stage = Stage::open(|got| (got.method == "DELETE").then(|| vec![Step::Hold])).await;
    stage.still_works().await;
    drop(stage.client);
    stage.upstream.wait_for("the DELETE", |got| got.method == "DELETE").await;
    pass(Duration::from_secs(6)).await;
    stage.proxy.logged("legacy.end", 1).await;
    stage.upstream.wait_for("the end of its connection", |got| got.fate == Fate::Abandoned).await;
    stage.proxy.stop().await;
}
