//! What stands where an answer should: garbage, halves, doubles, foreign ids, none.
//!
//! The trap: servers send the errors of their transport with `id: null`, `"server-error"` or no id at all (UPSTREAMS §0, 6).
//! Dropped, they leave a client waiting for ever; passed on as they are, they break it (WIRE, Stream 8).

use serde_json::json;

use super::stage::{Stage, Want, answer, check, refusal, row};
use crate::support::script::{Fate, Gate, Step, chunk, document, event, last_chunk, stream, stream_head};

const NO_ANSWER: Want = Want::Error("upstream_no_answer", "may have run");

#[tokio::test]
async fn garbage_before_the_answer_is_not_passed_on() {
    let after = |garbage: &'static [u8]| {
        move |id: &str| {
            let mut text = garbage.to_vec();
            text.extend_from_slice(event(&answer(id)).as_bytes());
            stream(text)
        }
    };
    check(vec![
        row("no JSON", after(b"data: {nonsense\n\n"), Want::Answer),
        row("no message", after(b"data: {}\n\ndata: 7\n\ndata: \"text\"\n\ndata: []\n\ndata: null\n\n"), Want::Answer),
        row("no version", after(b"data: {\"id\":1,\"result\":{}}\n\n"), Want::Answer),
        row("invalid UTF-8", after(b"data: {\"jsonrpc\":\"2.0\",\"method\":\"\xff\xfe\"}\n\n"), Want::Answer),
        row("deep", after(b"data: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n\n"), Want::Answer),
    ])
    .await;
}

/// Garbage in place of the answer is one error, which quotes it: it is the diagnosis (WIRE, Toward the upstream 3).
#[tokio::test]
async fn garbage_alone_is_one_error() {
    let alone = |garbage: &'static [u8]| move |_: &str| stream(garbage);
    let quoted = |text| Want::Error("upstream_error", text);
    let answers = check(vec![
        row("no JSON", alone(b"data: {nonsense\n\n"), quoted("HTTP 200: {nonsense")),
        row(
            "a lost session (keryx)",
            alone(b"data: {\"error\":\"Session not found\"}\n\ndata: {more\n\n"),
            quoted("HTTP 200: {\"error\":\"Session not found\"}"),
        ),
        row(
            "invalid UTF-8",
            alone(b"data: {\"jsonrpc\":\"2.0\",\"id\":101,\"result\":\"\xff\"}\n\n"),
            quoted("\u{fffd}"),
        ),
        row(
            "ambiguous id",
            alone(b"data: {\"jsonrpc\":\"2.0\",\"id\":101,\"ID\":101,\"result\":{}}\n\n"),
            quoted("\"ID\""),
        ),
        row("priming only", alone(b"id: 1\ndata: \n\nevent: prime\ndata:\n\n"), NO_ANSWER),
        row("comments only", alone(b": keepalive\n\n: keepalive\n\n"), NO_ANSWER),
        row("binary", alone(b"\x00\x01\x02\xff\xfe\r\n\r\n\x1b[2J"), NO_ANSWER),
    ])
    .await;
    for answer in answers {
        assert_eq!(answer["error"]["data"]["status"], 200, "{answer}");
    }
}

/// The format says so: an event without its blank line is discarded. It may have been cut anywhere.
#[tokio::test]
async fn half_an_event_at_the_end_is_one_error() {
    let cut = |keep: fn(&str) -> String| move |id: &str| stream(keep(&event(&answer(id))));
    check(vec![
        row("no blank line", cut(|event| event.trim_end().to_owned() + "\n"), NO_ANSWER),
        row("no line end", cut(|event| event.trim_end().to_owned()), NO_ANSWER),
        row("half the data", cut(|event| event[..event.len() / 2].to_owned()), NO_ANSWER),
        row("the name only", cut(|event| event[..10].to_owned()), NO_ANSWER),
    ])
    .await;
}

/// go-sdk writes an error that comes late as a bare line into the event stream (UPSTREAMS §0, 6).
#[tokio::test]
async fn bare_json_line_in_a_stream_is_salvaged() {
    check(vec![
        row("with a line end", |id| stream(refusal(id) + "\n"), Want::Refusal),
        row("without", |id| stream(refusal(id)), Want::Refusal),
        row("CRLF", |id| stream(refusal(id) + "\r\n"), Want::Refusal),
        row(
            "after comments and priming",
            |id| stream(format!(": ok\n\nid: 1\ndata: \n\n{}\n", refusal(id))),
            Want::Refusal,
        ),
        row("with id null", |_| stream(refusal("null") + "\n"), Want::Refusal),
        row(
            "cut in two",
            |id| {
                let text = refusal(id);
                vec![stream_head(), chunk(&text[..20]), chunk(&text[20..]), last_chunk()]
            },
            Want::Refusal,
        ),
        row("half of it", |id| stream(&refusal(id)[..20]), NO_ANSWER),
        row("a request is no answer", |_| stream(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#), NO_ANSWER),
    ])
    .await;
}

#[tokio::test]
async fn document_may_end_or_begin_with_white_space_or_none() {
    check(vec![
        row("no final newline", |id| vec![document(answer(id))], Want::Answer),
        row("newlines around", |id| vec![document(format!("\r\n {}\r\n\n", answer(id)))], Want::Answer),
    ])
    .await;
}

#[tokio::test]
async fn doubled_answer_is_passed_on_once() {
    check(vec![
        row("twice", |id| stream(event(&answer(id)) + &event(&answer(id))), Want::Answer),
        row("then an error", |id| stream(event(&answer(id)) + &event(&refusal(id))), Want::Answer),
        row("then a nameless error", |id| stream(event(&answer(id)) + &event(&refusal("null"))), Want::Answer),
        row("in a batch", |id| vec![document(format!("[{},{}]", answer(id), refusal(id)))], Want::Answer),
        row("bare after an event", |id| stream(format!("{}{}\n", event(&answer(id)), refusal(id))), Want::Answer),
    ])
    .await;
}

/// An id of another type is another id (JSON-RPC 2.0 §5: the same value as in the request).
#[tokio::test]
async fn answer_with_a_foreign_id_is_nobodys() {
    let quoted = |id: &str| answer(&format!("\"{id}\""));
    check(vec![
        row("foreign, then ours", |id| stream(event(&answer("4711")) + &event(&answer(id))), Want::Answer),
        row("only foreign", |_| stream(event(&answer("4711"))), NO_ANSWER),
        row("only foreign, as a document", |_| vec![document(answer("4711"))], NO_ANSWER),
        row("a string for a number", move |id| stream(event(&quoted(id))), NO_ANSWER),
        row("a float for an integer", |id| stream(event(&answer(&format!("{id}.0")))), NO_ANSWER),
        row("structured", |id| stream(event(&answer(&format!("[{id}]")))), Want::Error("upstream_error", "\"id\":[")),
        row("true", |_| stream(event(&answer("true"))), Want::Error("upstream_error", "\"id\":true")),
    ])
    .await;
}

/// A client may use 1 and "1" side by side, in flight together.
#[tokio::test]
async fn ids_of_both_types_are_told_apart() {
    let mut stage = Stage::open(|got| got.calls("rude").then(|| stream(event(&answer(&got.id()))))).await;
    for id in [json!(1), json!("1"), json!(0), json!("0"), json!(-1), json!(9_007_199_254_740_993_u64), json!("é\"\\")]
    {
        stage.client.call(id.clone(), "rude", json!({})).await;
        let got = stage.client.until_answer(id.clone()).await;
        assert_eq!((got.len(), &got[0]["id"]), (1, &id));
    }
    stage.still_works().await;
    stage.end().await;
}

/// `null` is what TypeScript sends, `"server-error"` Python, nothing server-everything (UPSTREAMS A.1, "id in
/// transport-level errors").
#[tokio::test]
async fn answer_without_an_id_is_given_the_clients() {
    let absent = |id: &str| refusal(id).replace(&format!("\"id\":{id},"), "");
    let python = |_: &str| refusal("\"server-error\"");
    check(vec![
        row("null in an event", |_| stream(event(&refusal("null"))), Want::Refusal),
        row("null in a document", |_| vec![document(refusal("null"))], Want::Refusal),
        row("null with a result", |_| vec![document(answer("null"))], Want::Answer),
        row("server-error in an event", move |id| stream(event(&python(id))), Want::Refusal),
        row("server-error in a document", move |id| vec![document(python(id))], Want::Refusal),
        row("absent in an event", move |id| stream(event(&absent(id))), Want::Refusal),
        row("absent in a document", move |id| vec![document(absent(id))], Want::Refusal),
    ])
    .await;
}

/// Never forwarded as an array: no legacy client parses one.
#[tokio::test]
async fn batch_as_answer_is_split() {
    let note = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#;
    for wrap in [|batch: String| stream(event(&batch)), |batch| vec![document(batch)]] {
        let mut stage =
            Stage::open(move |got| got.calls("rude").then(|| wrap(format!("[{note}, {},{note}]", answer(&got.id())))))
                .await;
        let messages = stage.ask_for_all().await;
        assert_eq!((messages.len(), &messages[0]["method"]), (2, &json!("notifications/message")), "{messages:?}");
        assert_eq!(stage.client.message().await["method"], "notifications/message");
        stage.still_works().await;
        stage.end().await;
    }
}

/// JSON-RPC goes by ids: an answer counts wherever it comes, and the stream it should have come on may then end.
#[tokio::test]
async fn answer_on_another_calls_stream_reaches_its_request() {
    let (both, answered) = (Gate::default(), Gate::default());
    let (opens, ends) = (both.clone(), answered.clone());
    let mut stage = Stage::open(move |got| match &got.body["params"]["name"] {
        name if name == "first" => Some(vec![
            stream_head(),
            Step::Wait(opens.clone()),
            chunk(event(&answer("2")) + &event(&answer("1"))),
            last_chunk(),
        ]),
        name if name == "second" => {
            opens.open();
            Some(vec![stream_head(), Step::Wait(ends.clone()), last_chunk()])
        }
        _ => None,
    })
    .await;
    stage.client.call(1, "first", json!({})).await;
    stage.client.call(2, "second", json!({})).await;
    assert_eq!([stage.client.message().await["id"].clone(), stage.client.message().await["id"].clone()], [2, 1]);
    answered.open();
    stage
        .upstream
        .until("the end of both", |all| {
            all.iter().filter(|got| got.rpc() == "tools/call").all(|got| got.fate == Fate::Played).then_some(())
        })
        .await;
    stage.still_works().await;
    stage.end().await;
}
