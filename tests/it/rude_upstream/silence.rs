//! Connections that break, close at the wrong time, say nothing, or never stop.
//!
//! The trap on our side: an exchange that nobody waits for any more must not keep its connection; on theirs: a response
//! stream that is broken off costs the session (Java, UPSTREAMS §0, 8), so what may still end is read to its end.

use std::time::Duration;

use serde_json::json;

use super::stage::{Row, Stage, Want, answer, check, row};
use crate::support::pass;
use crate::support::script::{Fate, Gate, Got, Script, Step, chunk, document, event, last_chunk, send, stream_head};

const LOST: Want = Want::Error("upstream_connection_lost", "may have run");

/// A row that ends the connection after these bytes, in each of the three ways there are.
fn cut_off(name: &'static str, before: &'static str) -> [Row; 3] {
    [Step::Close, Step::Reset, Step::HalfClose].map(|end| {
        let script = move |_: &str| match before {
            "" => vec![end.clone()],
            before => vec![send(before), end.clone()],
        };
        row(name, script, LOST)
    })
}

/// Whether a call ran cannot be known then, so nothing is sent again.
#[tokio::test]
async fn connection_lost_before_the_head_is_one_error() {
    let rows = [cut_off("at once", ""), cut_off("half a head", "HTTP/1.1 200 OK\r\ncontent-type: appl")];
    check(rows.into_iter().flatten().collect()).await;
}

#[tokio::test]
async fn connection_lost_within_the_body_is_one_error() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\"";
    const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                          8\r\ndata: {}\r\n";
    const FRAMING: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n";
    let rows = [
        cut_off("a document", HEAD),
        cut_off("events, after the head", EVENTS.split_at(EVENTS.find("8\r\n").expect("a chunk")).0),
        cut_off("events, between chunks", EVENTS),
        cut_off("events, broken framing", FRAMING),
    ];
    check(rows.into_iter().flatten().collect()).await;
}

/// The answer was whole: how the connection ended afterwards is no concern of the client.
#[tokio::test]
async fn connection_lost_after_the_answer_is_no_error() {
    let then = |end: Step| move |id: &str| vec![stream_head(), chunk(event(&answer(id))), end.clone()];
    check(vec![
        row("closed", then(Step::Close), Want::Answer),
        row("half closed", then(Step::HalfClose), Want::Answer),
        row("a document, closed", |id| vec![document(answer(id)), Step::Close], Want::Answer),
        row("a document, half closed", |id| vec![document(answer(id)), Step::HalfClose], Want::Answer),
    ])
    .await;
}

#[tokio::test]
async fn refused_connection_is_one_error_that_says_nothing_was_sent() {
    // Nothing is kept alive, so that every request needs a connection of its own.
    let mut stage = Stage::open(|got| {
        (got.rpc() == "notifications/initialized")
            .then(|| vec![send("HTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n"), Step::Close])
    })
    .await;
    stage.upstream.wait_for("initialized", |got| got.rpc() == "notifications/initialized").await;
    stage.upstream.stop();
    // `initialize` had a connection of its own, which may be idle in the pool: past its time there.
    pass(Duration::from_secs(5)).await;
    for _ in 0..2 {
        let answer = stage.ask().await;
        assert_eq!(answer["error"]["data"]["reason"], "upstream_unavailable", "{answer}");
        assert!(answer["error"]["message"].as_str().expect("a text").contains("was not sent"), "{answer}");
    }
    stage.end().await;
}

/// Node and uvicorn close idle connections after 5 s. A request that nobody read may go out again; one that was read
/// may have run, and must not.
#[tokio::test]
async fn kept_alive_connection_that_closes_under_a_request_is_no_replay() {
    let mut stage = Stage::open(|got| got.calls("rude").then(|| vec![Step::Close])).await;
    stage.still_works().await;
    let before = stage.upstream.got().len();
    let answer = stage.ask().await;
    assert_eq!(answer["error"]["data"]["reason"], "upstream_connection_lost", "{answer}");
    let reused = stage.upstream.got()[before].clone();
    assert!(stage.upstream.got()[..before].iter().any(|got| got.connection == reused.connection), "a kept connection");
    stage.still_works().await;
    assert_eq!(stage.end().await.count(|got| got.calls("rude")), 1);
}

/// The server closed while the connection was idle: the next call does not notice.
#[tokio::test]
async fn kept_alive_connection_that_closed_meanwhile_is_not_used() {
    let mut stage =
        Stage::open(|got| got.calls("rude").then(|| vec![document(answer(&got.id())), Step::HalfClose])).await;
    for _ in 0..20 {
        assert!(stage.ask().await["result"].is_object());
        // The half-closed connection is given up by the proxy, which is when it has noticed.
        stage
            .upstream
            .until("the end of all", |all| all.iter().all(|got| got.fate != Fate::Running).then_some(()))
            .await;
        stage.still_works().await;
    }
    stage.end().await;
}

/// What the proxy does when nothing comes for ten minutes: an error, `cancelled`, and the connection is given back.
async fn silent_call(script: fn() -> Script) {
    let mut stage = Stage::open(move |got| got.calls("rude").then(script)).await;
    let id = stage.begin().await;
    let call = stage.upstream.wait_for("the call", |got| got.calls("rude")).await;
    stage.still_works().await;
    pass(Duration::from_secs(601)).await;
    let messages = stage.client.until_answer(id).await;
    assert_eq!(
        (messages.len(), &messages[0]["error"]["data"]["reason"]),
        (1, &json!("upstream_timeout")),
        "{messages:?}"
    );
    stage.still_works().await;
    let cancelled = stage.upstream.wait_for("the cancellation", |got| got.rpc() == "notifications/cancelled").await;
    assert_eq!(cancelled.body["params"]["requestId"], id);
    let given_up = |got: &Got| got.calls("rude") && got.connection == call.connection && got.fate == Fate::Abandoned;
    stage.upstream.wait_for("the end of the connection", given_up).await;
    stage.end().await;
}

#[tokio::test]
async fn call_without_any_answer_is_one_error_and_gives_its_connection_back() {
    silent_call(|| vec![Step::Hold]).await;
}

#[tokio::test]
async fn call_with_half_a_head_is_one_error_and_gives_its_connection_back() {
    silent_call(|| vec![send("HTTP/1.1 200 OK\r\nx-slow: "), Step::Hold]).await;
}

#[tokio::test]
async fn call_with_a_head_alone_is_one_error_and_gives_its_connection_back() {
    silent_call(|| vec![stream_head(), Step::Hold]).await;
}

/// Comments keep connections alive; they are no sign of the call.
#[tokio::test]
async fn call_with_comments_alone_is_one_error_and_gives_its_connection_back() {
    silent_call(|| vec![stream_head(), chunk(": keepalive\n\n"), chunk("id: 1\ndata: \n\n"), Step::Hold]).await;
}

/// Neither is garbage, however much of it comes.
#[tokio::test]
async fn call_with_garbage_alone_is_one_error_and_gives_its_connection_back() {
    let Step::Send(garbage) = chunk("data: {nonsense\n\n") else { unreachable!("bytes") };
    let flood = Step::Flood(garbage);
    let late = Gate::default();
    let waits = late.clone();
    let mut stage = Stage::open(move |got| {
        got.calls("rude").then(|| vec![stream_head(), Step::Wait(waits.clone()), flood.clone()])
    })
    .await;
    let id = stage.begin().await;
    stage.upstream.wait_for("the call", |got| got.calls("rude")).await;
    pass(Duration::from_secs(590)).await;
    late.open();
    stage.still_works().await;
    pass(Duration::from_secs(300)).await;
    stage.still_works().await;
    pass(Duration::from_secs(400)).await;
    assert_eq!(stage.client.answer(id).await["error"]["data"]["reason"], "upstream_timeout");
    stage.upstream.wait_for("the end of the connection", |got| got.calls("rude") && got.fate == Fate::Abandoned).await;
    stage.still_works().await;
    stage.end().await;
}

/// Cloudflare answers an error response with a stream that never ends (UPSTREAMS A.2, utils.ts:309): the head is the end.
#[tokio::test]
async fn endless_body_of_a_notification_is_cut_off_at_its_head() {
    for endless in [Step::Hold, Step::Flood(": keepalive\n\n".into())] {
        let mut stage = Stage::open(move |got| {
            let notification = got.rpc() == "notifications/rude";
            notification
                .then(|| vec![send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"), endless.clone()])
        })
        .await;
        for _ in 0..3 {
            stage.client.post(json!({"jsonrpc": "2.0", "method": "notifications/rude"})).await;
        }
        stage.still_works().await;
        let given_up = |all: &[Got]| {
            all.iter().filter(|got| got.rpc() == "notifications/rude" && got.fate == Fate::Abandoned).count() == 3
        };
        stage.upstream.until("the end of their connections", |all| given_up(all).then_some(())).await;
        stage.end().await;
    }
}

/// The same for the client's answer to a request of the server.
#[tokio::test]
async fn endless_body_of_a_response_is_cut_off_at_its_head() {
    let answered = Gate::default();
    let opens = answered.clone();
    let mut stage = Stage::open(move |got| {
        if got.method == "POST" && got.body.get("error").is_some() {
            opens.open();
            return Some(vec![stream_head(), Step::Hold]);
        }
        let question = event(r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{}}"#);
        got.calls("rude").then(|| {
            vec![
                stream_head(),
                chunk(question),
                Step::Wait(opens.clone()),
                chunk(event(&answer(&got.id()))),
                last_chunk(),
            ]
        })
    })
    .await;
    let id = stage.begin().await;
    let question = stage.client.message().await;
    stage.client.post(json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}})).await;
    assert!(stage.client.answer(id).await["result"].is_object());
    stage.still_works().await;
    stage
        .upstream
        .wait_for("the end of its connection", |got| got.body.get("error").is_some() && got.fate == Fate::Abandoned)
        .await;
    stage.end().await;
}

/// A notification is awaited to its head for 5 s, then the others go on (WIRE, POST 3); its exchange is bounded too.
#[tokio::test]
async fn notification_without_any_answer_holds_the_session_for_five_seconds() {
    let mut stage = Stage::open(|got| (got.rpc() == "notifications/rude").then(|| vec![Step::Hold])).await;
    stage.client.post(json!({"jsonrpc": "2.0", "method": "notifications/rude"})).await;
    stage.upstream.wait_for("the notification", |got| got.rpc() == "notifications/rude").await;
    let id = stage.begin().await;
    assert_eq!(stage.upstream.count(|got| got.calls("rude")), 0, "it waits its turn");
    pass(Duration::from_secs(6)).await;
    stage.client.answer(id).await;
    stage.still_works().await;
    pass(Duration::from_secs(601)).await;
    stage.upstream.wait_for("the end of its connection", |got| got.fate == Fate::Abandoned).await;
    stage.still_works().await;
    stage.end().await;
}

/// The answer is what the client waits for; a stream that goes on after it is read for a while and then cut off.
#[tokio::test]
async fn endless_body_after_the_answer_is_cut_off_later() {
    for endless in [Step::Hold, Step::Flood("c\r\n: keepalive\n\r\n".into())] {
        let mut stage = Stage::open(move |got| {
            got.calls("rude").then(|| vec![stream_head(), chunk(event(&answer(&got.id()))), endless.clone()])
        })
        .await;
        assert!(stage.ask().await["result"].is_object());
        stage.still_works().await;
        assert_eq!(stage.upstream.count(|got| got.calls("rude") && got.fate == Fate::Running), 1, "it is still read");
        pass(Duration::from_secs(31)).await;
        stage.upstream.wait_for("its end", |got| got.calls("rude") && got.fate == Fate::Abandoned).await;
        stage.still_works().await;
        stage.end().await;
    }
}

/// Express refuses a large body by its length and does not read it. What was not written of it must not hide the answer.
#[tokio::test]
async fn refusal_before_the_request_was_read_is_one_error() {
    let refused = "HTTP/1.1 413 Payload Too Large\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n<h1></h1>";
    for (script, want) in [(vec![send(refused)], Some(413)), (vec![send(refused), Step::Close], None)] {
        let mut stage = Stage::open(move |got| {
            let unread = got.method == "POST" && got.body.is_null();
            unread.then(|| script.clone())
        })
        .await;
        stage.client.call("large", "rude", json!({"pad": "x".repeat(3 << 20)})).await;
        let messages = stage.client.until_answer("large").await;
        assert_eq!(messages.len(), 1, "{messages:?}");
        // A connection that is reset may take the answer with it.
        let status = messages[0]["error"]["data"]["status"].as_u64();
        assert!(want.is_none() || status == want, "{messages:?}");
        stage.still_works().await;
        stage.end().await;
    }
}
