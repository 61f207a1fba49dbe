//! Streams of calls that end early and named an event: they are asked for again, once, or until the answer where the server
//! means to be polled.
//!
//! The trap: a `tools/call` may have run. What is sent again is a `GET` with `Last-Event-ID`, never the call.

use std::time::Duration;

use super::stage::{Stage, answer};
use crate::support::pass;
use crate::support::script::{Got, Script, Step, chunk, event, last_chunk, reply, stream_head};

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"half"}}"#;

fn resumes(got: &Got) -> bool {
    got.method == "GET" && got.header("last-event-id").is_some()
}

/// The start of a call's stream, up to the event `e1`, and `end`.
fn half(end: Vec<Step>) -> Script {
    let mut script = vec![stream_head(), chunk(format!("id: e1\n{}", event(NOTE)))];
    script.extend(end);
    script
}

/// A stage whose call `rude` gets half a stream, and whose resuming GET gets `rest`. The first call's id is 101.
async fn halved(end: Vec<Step>, rest: impl Fn() -> Script + Send + Sync + 'static) -> Stage {
    Stage::open(move |got| {
        if got.calls("rude") {
            return Some(half(end.clone()));
        }
        resumes(got).then(&rest)
    })
    .await
}

/// WIRE, Toward the upstream 6: whether it ends in order or breaks.
#[tokio::test]
async fn stream_that_ends_early_is_resumed_after_its_last_event() {
    for end in [vec![last_chunk()], vec![Step::Close], vec![Step::Reset]] {
        let mut stage =
            halved(end, || vec![stream_head(), chunk(format!("id: e2\n{}", event(&answer("101")))), last_chunk()])
                .await;
        let messages = stage.ask_for_all().await;
        assert_eq!(messages.len(), 2, "the event before the end, and the answer: {messages:?}");
        assert_eq!(messages[1]["result"]["ok"], "é");
        stage.still_works().await;
        let upstream = stage.end().await;
        assert_eq!(upstream.count(|got| got.calls("rude")), 1, "the call is not sent again");
        let asked: Vec<Got> = upstream.got().into_iter().filter(resumes).collect();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].header("last-event-id").as_deref(), Some("e1"));
        assert_eq!(asked[0].header("accept").as_deref(), Some("text/event-stream"));
        assert!(asked[0].header("mcp-session-id").is_some());
    }
}

/// A server that ends the resumed stream without anything new would be asked for ever.
#[tokio::test]
async fn stream_that_ends_again_without_news_is_one_error() {
    let mut stage = halved(vec![last_chunk()], || vec![stream_head(), last_chunk()]).await;
    let messages = stage.ask_for_all().await;
    assert_eq!(messages[1]["error"]["data"]["reason"], "upstream_no_answer");
    assert!(messages[1]["error"]["message"].as_str().expect("a text").contains("may have run"));
    stage.still_works().await;
    assert_eq!(stage.end().await.count(resumes), 1);
}

/// Each piece of news earns another try.
#[tokio::test]
async fn stream_that_breaks_again_after_news_is_resumed_again() {
    let mut stage = Stage::open(|got| {
        if got.calls("rude") {
            return Some(half(vec![Step::Close]));
        }
        Some(match got.header("last-event-id")?.as_str() {
            "e1" => vec![stream_head(), chunk(format!("id: e2\n{}", event(NOTE))), Step::Close],
            _ => vec![stream_head(), chunk(event(&answer("101"))), last_chunk()],
        })
    })
    .await;
    let messages = stage.ask_for_all().await;
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(stage.end().await.count(resumes), 2);
}

/// Python without an event store answers 500, Go 400, others something that is no stream.
#[tokio::test]
async fn server_that_does_not_resume_is_one_error() {
    for status in [200, 400, 404, 405, 500] {
        let refuse = move || vec![reply(status, &[("content-type", "text/plain")], "no event store")];
        let mut stage = halved(vec![last_chunk()], refuse).await;
        let messages = stage.ask_for_all().await;
        assert_eq!(messages[1]["error"]["data"]["reason"], "upstream_no_answer", "{status}");
        stage.still_works().await;
        assert_eq!(stage.end().await.count(resumes), 1, "{status}");
    }
}

/// Java never completes such a GET; what may take long is the first event, not the head.
#[tokio::test]
async fn server_that_never_says_whether_it_resumes_is_one_error() {
    let mut stage = halved(vec![last_chunk()], || vec![Step::Hold]).await;
    let id = stage.begin().await;
    stage.upstream.wait_for("the GET", resumes).await;
    pass(Duration::from_secs(6)).await;
    let messages = stage.client.until_answer(id).await;
    assert_eq!(messages[1]["error"]["data"]["reason"], "upstream_no_answer");
    stage.still_works().await;
    stage.end().await;
}

/// The server's `retry` is how long its clients are to wait.
#[tokio::test]
async fn stream_is_resumed_when_the_server_said() {
    let mut stage = Stage::open(|got| {
        if got.calls("rude") {
            return Some(half(vec![chunk("retry: 20000\n\n"), last_chunk()]));
        }
        resumes(got).then(|| vec![stream_head(), chunk(event(&answer("101"))), last_chunk()])
    })
    .await;
    let id = stage.begin().await;
    stage.client.message().await;
    for _ in 0..5 {
        stage.still_works().await;
    }
    assert_eq!(stage.upstream.count(resumes), 0, "not yet");
    pass(Duration::from_secs(21)).await;
    assert!(stage.client.answer(id).await["result"].is_object());
    stage.end().await;
}

/// Nobody waits for it: not even its stream is asked for.
#[tokio::test]
async fn stream_of_a_cancelled_call_is_not_resumed() {
    let mut stage =
        Stage::open(|got| got.calls("rude").then(|| half(vec![chunk("retry: 20000\n\n"), last_chunk()]))).await;
    let id = stage.begin().await;
    stage.client.message().await;
    let cancel = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    assert_eq!(stage.client.post_text(cancel, &[]).await.status, 202);
    stage.upstream.wait_for("the cancellation", |got| got.rpc() == "notifications/cancelled").await;
    pass(Duration::from_secs(21)).await;
    for _ in 0..5 {
        stage.still_works().await;
    }
    assert_eq!(stage.end().await.count(resumes), 0);
}

/// An empty id takes back the one before, and one that no header can carry is of no use: a GET without an id would be
/// the session's second listening stream.
#[tokio::test]
async fn stream_without_an_id_to_go_on_from_is_not_resumed() {
    for line in ["id:\n", "id: \n", "id: a\u{1}b\n"] {
        let mut stage = Stage::open(move |got| {
            let end = chunk(format!("{line}{}", event(NOTE)));
            got.calls("rude").then(|| half(vec![end, last_chunk()]))
        })
        .await;
        stage.upstream.wait_for("the GET stream", |got| got.method == "GET").await;
        let messages = stage.ask_for_all().await;
        assert_eq!(messages.last().expect("an error")["error"]["data"]["reason"], "upstream_no_answer", "{line:?}");
        assert_eq!(stage.end().await.count(|got| got.method == "GET"), 1, "{line:?}");
    }
}

/// Garbage says nothing about what is to come.
#[tokio::test]
async fn stream_with_garbage_in_it_is_resumed() {
    let end = vec![chunk("data: {\"nonsense\": 1}\n\n"), last_chunk()];
    let mut stage = halved(end, || vec![stream_head(), chunk(event(&answer("101"))), last_chunk()]).await;
    assert!(stage.ask_for_all().await[1]["result"].is_object());
    stage.end().await;
}

/// MCP 2025-11-25: a server may end a call's stream again and again, and is asked again each time after `retry`, for as long
/// as the call may take.
#[tokio::test]
async fn stream_that_the_server_closes_to_be_polled_is_asked_for_until_the_answer() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let mut stage = Stage::open(move |got| {
        if got.calls("rude") {
            return Some(vec![stream_head(), chunk("id: e1\nretry: 10\ndata: \n\n"), last_chunk()]);
        }
        let number = resumes(got).then(|| turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed))?;
        let mut script = vec![stream_head()];
        if number == 7 {
            script.push(chunk(event(&answer("101"))));
        }
        script.push(last_chunk());
        Some(script)
    })
    .await;
    let answered = stage.ask_for_all().await;
    assert_eq!(answered.len(), 1, "{answered:?}");
    assert_eq!(answered[0]["result"]["ok"], "é");
    stage.still_works().await;
    let upstream = stage.end().await;
    assert_eq!(upstream.count(|got| got.calls("rude")), 1);
    let asked: Vec<_> = upstream.got().into_iter().filter(resumes).collect();
    assert_eq!(asked.len(), 8);
    assert!(asked.iter().all(|got| got.header("last-event-id").as_deref() == Some("e1")));
}

/// A server that is down for a moment has its events still.
#[tokio::test]
async fn stream_is_asked_for_again_when_the_server_is_back() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let mut stage = Stage::open(move |got| {
        if got.calls("rude") {
            return Some(half(vec![Step::Reset]));
        }
        let number = resumes(got).then(|| turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed))?;
        Some(match number {
            0 => vec![reply(503, &[], "starting")],
            1 => vec![Step::Close],
            _ => vec![stream_head(), chunk(event(&answer("101"))), last_chunk()],
        })
    })
    .await;
    let messages = stage.ask_for_all().await;
    assert_eq!(messages[1]["result"]["ok"], "é");
    stage.still_works().await;
    assert_eq!(stage.end().await.count(resumes), 3);
}
