//! However an event stream is spelled and cut, the client gets the same one answer, in the one spelling that every
//! legacy client reads.
//!
//! The trap: what looks like an event to some parsers (priming, `event: close`, a bare `retry:`) kills Python, Java and
//! VS Code clients when it is passed on (UPSTREAMS A.3).

use super::stage::{Row, Stage, Want, answer, check, row};
use crate::support::script::{Script, Step, chunk, event, last_chunk, send, stream, stream_head};

/// A row whose stream is `template` with the answer in place of `ANSWER`.
fn spelled(name: &'static str, template: &'static str) -> Row {
    row(name, move |id| stream(template.replace("ANSWER", &answer(id))), Want::Answer)
}

/// WIRE, Toward the upstream 4. The proxy sees HTTP chunks one by one, so these cuts fall exactly.
#[tokio::test]
async fn event_cut_at_every_byte_is_one_answer() {
    let whole = |id: &str| format!("\u{feff}: hi\r\nid: 1\r\nevent: message\r\ndata: {}\r\n\r\n", answer(id));
    let cut = move |at: usize| {
        row(
            "cut",
            move |id: &str| {
                let text = whole(id).into_bytes();
                vec![stream_head(), chunk(&text[..at]), chunk(&text[at..]), last_chunk()]
            },
            Want::Answer,
        )
    };
    // Ids have three digits here. A chunk is never empty: that would be the end.
    check((1..whole("100").len()).map(cut).collect()).await;
}

/// The head and the framing of HTTP itself, in pieces of every size.
#[tokio::test]
async fn answer_in_tcp_pieces_of_every_size_is_one_answer() {
    let pieces = |size: usize| {
        move |id: &str| -> Script {
            let mut whole = Vec::new();
            for step in stream(event(&answer(id))) {
                let Step::Send(bytes) = step else { unreachable!("bytes only") };
                whole.extend_from_slice(&bytes);
            }
            whole.chunks(size).map(|piece| send(piece.to_vec())).collect()
        }
    };
    check([1, 2, 3, 5, 8, 13, 64].into_iter().map(|size| row("pieces", pieces(size), Want::Answer)).collect()).await;
}

#[tokio::test]
async fn line_ends_of_any_kind_separate_lines() {
    check(vec![
        spelled("LF", "event: message\ndata: ANSWER\n\n"),
        spelled("CRLF", "event: message\r\ndata: ANSWER\r\n\r\n"),
        spelled("CR", "event: message\rdata: ANSWER\r\r"),
        spelled("mixed", ": x\revent: message\r\ndata: ANSWER\n\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn byte_order_mark_comments_and_unknown_fields_do_not_matter() {
    check(vec![
        spelled("BOM", "\u{feff}data: ANSWER\n\n"),
        spelled("comments around and inside", ": ok\n\n:\ndata: ANSWER\n: keepalive 1\nevent: message\n\n: bye\n\n"),
        spelled("unknown fields", "foo: bar\ndata: ANSWER\nbaz\n\n"),
        spelled("no event name, no space", "data:ANSWER\n\n"),
    ])
    .await;
}

#[tokio::test]
async fn fields_come_in_any_order() {
    check(vec![
        spelled("data before event", "data: ANSWER\nevent: message\n\n"),
        spelled("id after data", "event: message\ndata: ANSWER\nid: 7_1\n\n"),
        spelled("retry last", "id: 7\ndata: ANSWER\nevent: message\nretry: 3000\n\n"),
    ])
    .await;
}

/// The client gets one line: httpx-sse and Java end the message at each line end.
#[tokio::test]
async fn data_in_several_lines_is_one_message() {
    let lines = |end: &'static str| {
        move |id: &str| {
            let pretty =
                serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&answer(id)).expect("JSON"))
                    .expect("text");
            stream(format!("data: {}{end}{end}", pretty.replace('\n', &format!("{end}data: "))))
        }
    };
    check(vec![row("LF", lines("\n"), Want::Answer), row("CRLF", lines("\r\n"), Want::Answer)]).await;
}

/// Priming of TypeScript, of rmcp (data before id) and of Go, Go's close, and events of other types.
#[tokio::test]
async fn events_without_a_message_are_skipped() {
    check(vec![
        spelled("TypeScript primes", "id: abc\ndata: \n\ndata: ANSWER\n\n"),
        spelled("rmcp primes", "data:\nid: 0\nretry: 3000\n\nid: 1/0\ndata: ANSWER\n\n"),
        spelled("Go primes", "event: prime\nid: 1_0\ndata: \n\nevent: message\ndata: ANSWER\n\n"),
        spelled("a primer with data", "event: prime\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\ndata: ANSWER\n\n"),
        spelled("Go closes", "data: ANSWER\n\nevent: close\nid: 1_2\nretry: 10\ndata: \n\n"),
        spelled("an endpoint", "event: endpoint\ndata: /elsewhere\n\ndata: ANSWER\n\n"),
        spelled("a ping", "event: ping\ndata: {}\n\ndata: ANSWER\n\n"),
        spelled("an error", "event: error\ndata: oops\n\ndata: ANSWER\n\n"),
    ])
    .await;
}

/// WIRE, Stream 3: never `retry:`, another event, an id of the upstream's, a comment of its.
#[tokio::test]
async fn fields_of_the_upstream_never_reach_the_client() {
    let mut stage = Stage::open(|got| {
        let text = format!(
            "retry: 1\n\nid: theirs\nretry: 2\ndata: \n\n: comment\nevent: prime\ndata: p\n\nid: theirs-too\nretry: 3\n\
             data: {}\n\nretry: 4\n\n",
            answer(&got.id())
        );
        got.calls("rude").then(|| stream(text))
    })
    .await;
    stage.ask().await;
    stage.still_works().await;
    let raw = String::from_utf8(stage.client.raw.clone()).expect("UTF-8");
    // Our own ids stand there, and none of theirs.
    let ours = |line: &str| line.strip_prefix("id: ").is_some_and(|id| id.len() > 32 && !id.contains("theirs"));
    let mut lines: Vec<&str> = raw.lines().filter(|line| !line.starts_with("data: ") && !ours(line)).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines, ["", "event: endpoint", "event: message"], "{raw}");
    assert_eq!(raw.matches("event: endpoint").count(), 1);
    stage.end().await;
}
