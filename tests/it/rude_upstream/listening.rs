//! The upstream's GET stream: servers that have none, that are slow to open it, that end it.
//!
//! The trap: never two at a time. mcp-go splits the messages between them, rmcp leaves one empty (UPSTREAMS A.1).

use std::time::Duration;

use serde_json::json;

use super::stage::{Stage, answer};
use crate::support::pass;
use crate::support::script::{Fate, Gate, Got, Script, Step, chunk, event, last_chunk, reply, stream, stream_head};

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

fn is_get(got: &Got) -> bool {
    got.method == "GET"
}

/// Waits until this many GET streams were asked for, and checks that there was never more than one open.
async fn gets(stage: &Stage, count: usize) -> Vec<Got> {
    let all = stage.upstream.until("GET streams", |all| {
        let gets: Vec<Got> = all.iter().filter(|got| is_get(got)).cloned().collect();
        (gets.len() >= count).then_some(gets)
    });
    let all = all.await;
    assert_eq!(all.len(), count);
    assert!(all[..count - 1].iter().all(|get| get.fate != Fate::Running), "two at a time: {all:?}");
    all
}

/// Enough for the proxy to have dealt with what it got.
async fn settle(stage: &mut Stage) {
    for _ in 0..5 {
        stage.still_works().await;
    }
}

/// A stage whose GETs are answered by these scripts in turn, then held open.
async fn listening(scripts: Vec<Script>) -> Stage {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    Stage::open(move |got| {
        is_get(got).then(|| {
            let number = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            scripts.get(number).cloned().unwrap_or_else(|| vec![stream_head(), chunk(event(NOTE)), Step::Hold])
        })
    })
    .await
}

/// WIRE, Toward the upstream 5: four statuses mean "none here", and that is no failure.
#[tokio::test]
async fn server_without_a_get_stream_is_asked_once() {
    for status in [400, 404, 405, 501] {
        let mut stage = listening(vec![vec![reply(status, &[("content-type", "text/plain")], "no")]]).await;
        gets(&stage, 1).await;
        settle(&mut stage).await;
        pass(Duration::from_secs(3600)).await;
        settle(&mut stage).await;
        gets(&stage, 1).await;
        stage.end().await;
    }
}

/// A page under 200 is no stream either.
#[tokio::test]
async fn page_instead_of_a_get_stream_is_asked_once() {
    for page in [reply(200, &[("content-type", "text/html")], "<h1>It works</h1>"), reply(204, &[], "")] {
        let mut stage = listening(vec![vec![page]]).await;
        gets(&stage, 1).await;
        settle(&mut stage).await;
        pass(Duration::from_secs(3600)).await;
        settle(&mut stage).await;
        gets(&stage, 1).await;
        stage.end().await;
    }
}

/// A server that did not take `initialized` has nobody to send anything to yet.
#[tokio::test]
async fn get_stream_is_not_opened_when_initialized_was_refused() {
    let mut stage =
        Stage::open(|got| (got.rpc() == "notifications/initialized").then(|| vec![reply(400, &[], "no")])).await;
    settle(&mut stage).await;
    pass(Duration::from_secs(3600)).await;
    settle(&mut stage).await;
    assert_eq!(stage.end().await.count(is_get), 0);
}

/// 409: the server still holds an old one. 429, 500 and a lost connection may pass as well.
#[tokio::test]
async fn get_stream_that_is_refused_for_now_is_opened_later() {
    let refusals =
        [vec![reply(409, &[], "conflict")], vec![reply(500, &[], "")], vec![reply(429, &[], "")], vec![Step::Close]];
    for refusal in refusals {
        let mut stage = listening(vec![refusal.clone(), refusal]).await;
        gets(&stage, 1).await;
        settle(&mut stage).await;
        gets(&stage, 1).await;
        pass(Duration::from_millis(1600)).await;
        gets(&stage, 2).await;
        settle(&mut stage).await;
        // Later each time.
        pass(Duration::from_millis(1600)).await;
        settle(&mut stage).await;
        gets(&stage, 2).await;
        pass(Duration::from_secs(2)).await;
        gets(&stage, 3).await;
        assert_eq!(stage.client.message().await["method"], "notifications/tools/list_changed");
        stage.end().await;
    }
}

/// After a refusal for now, too, "none here" is the end of it.
#[tokio::test]
async fn server_that_turns_out_to_have_no_get_stream_is_asked_no_more() {
    let mut stage = listening(vec![vec![reply(409, &[], "conflict")], vec![reply(405, &[], "no")]]).await;
    gets(&stage, 1).await;
    settle(&mut stage).await;
    pass(Duration::from_secs(2)).await;
    gets(&stage, 2).await;
    for _ in 0..3 {
        settle(&mut stage).await;
        pass(Duration::from_secs(60)).await;
    }
    settle(&mut stage).await;
    gets(&stage, 2).await;
    stage.end().await;
}

/// Java sends no head before the first event (UPSTREAMS A.1): nothing may wait for it, and nothing may give it up.
#[tokio::test]
async fn get_stream_whose_head_comes_with_the_first_event_is_awaited() {
    let gate = Gate::default();
    let mut stage =
        listening(vec![vec![Step::Wait(gate.clone()), stream_head(), chunk(event(NOTE)), Step::Hold]]).await;
    gets(&stage, 1).await;
    stage.still_works().await;
    pass(Duration::from_secs(2 * 3600)).await;
    stage.still_works().await;
    gate.open();
    assert_eq!(stage.client.message().await["method"], "notifications/tools/list_changed");
    gets(&stage, 1).await;
    stage.still_works().await;
    stage.end().await;
}

/// Messages, questions with their answers, and answers to calls (mcp-go, Go in JSON mode) come on it.
#[tokio::test]
async fn messages_on_the_get_stream_reach_the_client() {
    let question = r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#;
    let called = Gate::default();
    let opens = called.clone();
    let mut stage = Stage::open(move |got| {
        if got.calls("rude") {
            opens.open();
            // Taken, without an answer here.
            return Some(vec![reply(202, &[], "")]);
        }
        is_get(got).then(|| {
            let first = format!(": ok\n\nid: 1\nretry: 5\ndata: \n\n{}{}", event(NOTE), event(question));
            let late = event(&answer("null")) + &event(&answer("4711")) + &event(&answer("101"));
            vec![stream_head(), chunk(first), Step::Wait(called.clone()), chunk(late), Step::Hold]
        })
    })
    .await;
    assert_eq!(stage.client.message().await["method"], "notifications/tools/list_changed");
    let asked = stage.client.message().await;
    assert_eq!(asked["method"], "roots/list");
    stage.client.post(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}})).await;
    let told = stage.upstream.wait_for("the answer", |got| got.body.get("result").is_some()).await;
    assert_eq!(told.body["id"], 0);
    // An answer without an id belongs to nobody here.
    assert_eq!(stage.ask().await["id"], 101);
    stage.still_works().await;
    stage.end().await;
}

/// A 202 to a request while the GET stream is open: the answer may come there, for as long as calls may be silent.
#[tokio::test]
async fn request_taken_without_an_answer_is_one_error_at_its_deadline() {
    let mut stage = Stage::open(|got| {
        if is_get(got) {
            return Some(vec![stream_head(), chunk(event(NOTE)), Step::Hold]);
        }
        got.calls("rude").then(|| vec![reply(202, &[], "")])
    })
    .await;
    stage.client.message().await;
    let id = stage.begin().await;
    stage.still_works().await;
    pass(Duration::from_secs(601)).await;
    assert_eq!(stage.client.answer(id).await["error"]["data"]["reason"], "upstream_timeout");
    stage.still_works().await;
    stage.end().await;
}

/// `retry` and the last id are the server's word on how to come back; the id goes on the GET and nowhere else.
#[tokio::test]
async fn get_stream_that_ends_is_opened_again_when_and_where_the_server_said() {
    let ended = stream(format!("retry: 7000\n\nid: seven\n{}", event(NOTE)));
    let mut stage = listening(vec![ended]).await;
    stage.client.message().await;
    settle(&mut stage).await;
    pass(Duration::from_secs(6)).await;
    settle(&mut stage).await;
    gets(&stage, 1).await;
    pass(Duration::from_secs(2)).await;
    let gets = gets(&stage, 2).await;
    assert_eq!(gets[0].header("last-event-id"), None);
    assert_eq!(gets[1].header("last-event-id").as_deref(), Some("seven"));
    stage.client.message().await;
    stage.still_works().await;
    let upstream = stage.end().await;
    assert_eq!(upstream.count(|got| got.method != "GET" && got.header("last-event-id").is_some()), 0);
}

/// However the stream ends, the next one comes after it, and not at once.
#[tokio::test]
async fn get_stream_is_never_open_twice() {
    let with = |end: Step| vec![stream_head(), chunk(event(NOTE)), end];
    let mut stage = listening(vec![
        with(last_chunk()),
        with(Step::Close),
        with(Step::HalfClose),
        with(Step::Reset),
        vec![stream_head(), chunk(event(NOTE)), chunk(format!("data: {}", "x".repeat(20 << 20))), Step::Hold],
    ])
    .await;
    for count in 1..=5 {
        gets(&stage, count).await;
        stage.client.message().await;
        let over = |all: &[Got]| all.iter().filter(|got| is_get(got)).all(|got| got.fate != Fate::Running);
        stage.upstream.until("the end of the stream", |all| over(all).then_some(())).await;
        settle(&mut stage).await;
        gets(&stage, count).await;
        pass(Duration::from_secs(31)).await;
    }
    gets(&stage, 6).await;
    stage.client.message().await;
    stage.still_works().await;
    stage.end().await;
}

/// `retry: 0` on a stream that ends at once would have the proxy spin.
#[tokio::test]
async fn get_stream_that_ends_at_once_is_not_opened_in_a_loop() {
    let mut stage = listening((0..50).map(|_| stream("retry: 0\n\n")).collect()).await;
    gets(&stage, 1).await;
    settle(&mut stage).await;
    pass(Duration::from_millis(600)).await;
    settle(&mut stage).await;
    gets(&stage, 1).await;
    for count in 2..5 {
        pass(Duration::from_secs(31)).await;
        gets(&stage, count).await;
        settle(&mut stage).await;
    }
    stage.end().await;
}

/// The old session's GET, whose head never came, goes with the old session: its head must not be taken for the new one's.
#[tokio::test]
async fn get_stream_of_a_former_handshake_is_given_up() {
    let gate = Gate::default();
    let late = gate.clone();
    let mut stage = listening(vec![
        vec![Step::Wait(late), reply(405, &[], "gone")],
        vec![Step::Wait(gate.clone()), stream_head(), chunk(event(NOTE)), Step::Hold],
    ])
    .await;
    gets(&stage, 1).await;
    stage.client.initialize().await;
    gets(&stage, 2).await;
    gate.open();
    assert_eq!(stage.client.message().await["method"], "notifications/tools/list_changed");
    stage.still_works().await;
    stage.end().await;
}

/// SECURITY §2: the credential that opens the stream is the last one the upstream accepted; the same one again would be
/// turned down again.
#[tokio::test]
async fn get_stream_that_is_turned_down_is_opened_under_the_next_credential() {
    let mut stage = Stage::open(|got| {
        let is_new = got.header("authorization").is_some_and(|sent| sent == "Bearer new");
        (is_get(got) && !is_new).then(|| vec![reply(401, &[("www-authenticate", "Bearer")], "no")])
    })
    .await;
    gets(&stage, 1).await;
    settle(&mut stage).await;
    pass(Duration::from_secs(3600)).await;
    settle(&mut stage).await;
    gets(&stage, 1).await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    assert_eq!(stage.client.post_text(ping, &[("authorization", "Bearer new")]).await.status, 202);
    stage.client.answer(1).await;
    let all = gets(&stage, 2).await;
    assert_eq!(all[1].header("authorization").as_deref(), Some("Bearer new"));
    stage.end().await;
}

/// Java sends no head before the first event, so the stream may be open without a sign of it.
#[tokio::test]
async fn answer_may_come_on_a_get_stream_whose_head_was_still_to_come() {
    let gate = Gate::default();
    let opened = gate.clone();
    let mut stage = Stage::open(move |got| match () {
        () if is_get(got) => {
            Some(vec![Step::Wait(opened.clone()), stream_head(), chunk(event(&answer("101"))), Step::Hold])
        }
        () if got.calls("rude") => Some(vec![reply(202, &[], "")]),
        () => None,
    })
    .await;
    gets(&stage, 1).await;
    let id = stage.begin().await;
    settle(&mut stage).await;
    gate.open();
    let messages = stage.client.until_answer(id).await;
    assert!(messages.len() == 1 && messages[0]["result"].is_object(), "{messages:?}");
    stage.end().await;
}
