//! What is too large, and what never ends: the session lives on, and the upstream is cut off.
//!
//! Memory is measured by what the upstream got rid of before it was cut off: more than the cap and what sockets hold
//! cannot be in the proxy.

use super::stage::{Stage, Want, check, row};
use crate::support::script::{
    Fate, Script, Step, chunk, document, event, last_chunk, reply, send, stream, stream_head,
};

/// The cap on one event and on one document (SECURITY §5).
const CAP: usize = 16 << 20;
/// What the kernel may hold on the way, on loopback, in both directions.
const IN_SOCKETS: usize = 16 << 20;

const TOO_LARGE: Want = Want::Error("upstream_message_too_large", "more than 16777216 bytes");

fn frame(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"pad":""}}}}"#)
}

/// An answer of exactly `size` bytes.
fn sized(id: &str, size: usize) -> String {
    let frame = frame(id);
    frame.replace("\"\"", &format!("\"{}\"", "x".repeat(size - frame.len())))
}

/// One call whose answer has exactly the size of the cap.
async fn passes(script: fn(String) -> Script) {
    let mut stage = Stage::open(move |got| got.calls("rude").then(|| script(sized(&got.id(), CAP)))).await;
    let got = stage.ask().await;
    let pad = got["result"]["pad"].as_str().unwrap_or_else(|| panic!("{}", got["error"])).len();
    assert_eq!(pad, CAP - frame(&got["id"].to_string()).len());
    stage.still_works().await;
    stage.end().await;
}

/// Wherever the line end falls: what is read before it is more than the cap by the name of the field.
#[tokio::test]
async fn event_of_16_mib_passes() {
    passes(|text| vec![stream_head(), chunk(format!("data: {text}")), chunk("\n\n"), last_chunk()]).await;
}

#[tokio::test]
async fn document_of_16_mib_passes() {
    passes(|text| vec![document(text)]).await;
}

#[tokio::test]
async fn message_over_16_mib_is_one_error() {
    check(vec![
        row("event", |id| stream(event(&sized(id, CAP + 1))), TOO_LARGE),
        row("document", |id| vec![document(sized(id, CAP + 1))], TOO_LARGE),
        // The line ends of joined data count.
        row("event in two lines", |id| stream(event(&sized(id, CAP).replacen('{', "{\ndata: ", 1))), TOO_LARGE),
    ])
    .await;
}

/// Cut off at the cap, not at the end of memory.
async fn is_cut_off(head: Step, flood: &str, want: &str) {
    let Step::Send(bytes) = chunk(flood.repeat(1 + (64 << 10) / flood.len())) else { unreachable!("bytes") };
    let flood = Step::Flood(bytes);
    let mut stage = Stage::open(move |got| got.calls("rude").then(|| vec![head.clone(), flood.clone()])).await;
    let answer = stage.ask().await;
    assert_eq!(answer["error"]["data"]["reason"], want, "{answer}");
    stage.still_works().await;
    stage.upstream.wait_for("the end of the flood", |got| got.fate == Fate::Abandoned).await;
    let sent = stage.end().await.flooded();
    assert!(sent < CAP + IN_SOCKETS, "{sent} bytes went into the proxy");
}

#[tokio::test]
async fn endless_line_is_cut_off() {
    is_cut_off(stream_head(), "data: and so on", "upstream_message_too_large").await;
}

#[tokio::test]
async fn endless_event_is_cut_off() {
    is_cut_off(stream_head(), &format!("data: {}\n", "x".repeat(1000)), "upstream_message_too_large").await;
}

#[tokio::test]
async fn endless_document_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    is_cut_off(send(head), "{\"and\":[\"so\",\"on\",", "upstream_message_too_large").await;
}

/// The limit of the HTTP client is its own; what matters is one answer, and that the session lives.
#[tokio::test]
async fn huge_response_head_is_one_answer() {
    let heads: Vec<Vec<(String, String)>> = vec![
        (0..101).map(|number| (format!("x-{number}"), "x".to_owned())).collect(),
        (0..5000).map(|number| (format!("x-{number}"), "x".to_owned())).collect(),
        vec![("x-huge".to_owned(), "x".repeat(1 << 20))],
    ];
    let rows = heads.into_iter().map(|head| {
        let script = move |id: &str| {
            let head: Vec<(&str, &str)> = head.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            vec![reply(200, &head, super::stage::answer(id))]
        };
        row("huge", script, Want::Error("upstream_connection_lost", "may have run"))
    });
    check(rows.collect()).await;
}

/// Headers of 64 KiB and more, few of them.
#[tokio::test]
async fn long_response_header_is_one_answer() {
    let mut stage = Stage::open(|got| {
        let long = "x".repeat(65 << 10);
        got.calls("rude").then(|| vec![reply(200, &[("x-long", &long)], super::stage::answer(&got.id()))])
    })
    .await;
    stage.ask().await;
    stage.still_works().await;
    stage.end().await;
}

/// More chunks and more comments than anybody needs.
#[tokio::test]
async fn thousands_of_empty_events_cost_nothing() {
    check(vec![row(
        "noise",
        |id| {
            let mut script = vec![stream_head()];
            script.extend((0..2000).map(|_| chunk(": keepalive\n\nid: 1\ndata:\n\nretry: 1\n\nevent: x\ndata: x\n\n")));
            script.extend([chunk(event(&super::stage::answer(id))), last_chunk()]);
            script
        },
        Want::Answer,
    )])
    .await;
}

/// Reading what is no message must not keep the session from its other work. Two threads, so that the flood can come
/// while it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_without_messages_does_not_hold_up_the_session() {
    for noise in [": keepalive\n\n", "data: {nonsense\n\n", "event: x\ndata: x\n\n"] {
        let Step::Send(bytes) = chunk(noise.repeat(1000)) else { unreachable!("bytes") };
        let flood = Step::Flood(bytes);
        let mut stage = Stage::open(move |got| got.calls("rude").then(|| vec![stream_head(), flood.clone()])).await;
        stage.begin().await;
        stage.upstream.wait_for("the call", |got| got.calls("rude")).await;
        for _ in 0..10 {
            stage.still_works().await;
        }
        assert!(stage.upstream.flooded() > 0, "it is read");
        drop(stage.client);
        stage.proxy.logged("legacy.end", 1).await;
        stage.proxy.stop().await;
    }
}
