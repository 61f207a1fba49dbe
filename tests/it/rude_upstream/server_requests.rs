//! What a server asks of the client in the middle of things, and what must not come out of a server at all.
//!
//! The trap: servers count their ids from 0, as clients do (UPSTREAMS §0, 10). mcp-go takes a request with an id that it
//! knows for its own answer.

use serde_json::{Value, json};

use super::stage::{Stage, answer};
use crate::support::script::{Fate, Gate, Got, Script, Step, chunk, event, last_chunk, reply, stream, stream_head};

fn asks(id: &str, method: &str) -> String {
    event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#))
}

fn is_answer(got: &Got) -> bool {
    got.method == "POST" && got.rpc().is_empty()
}

/// Answers to the server, in the order of their ids' JSON forms.
async fn answers(stage: &Stage, count: usize) -> Vec<Value> {
    let found = |all: &[Got]| {
        let answers: Vec<Value> = all.iter().filter(|got| is_answer(got)).map(|got| got.body.clone()).collect();
        (answers.len() >= count).then_some(answers)
    };
    let mut answers = stage.upstream.until("answers to the server", found).await;
    assert_eq!(answers.len(), count);
    answers.sort_by_key(|answer| answer["id"].to_string());
    answers
}

/// Trap: 0 is falsy in half of the languages, and 101 is the id of the very call; types must be kept (E 11).
#[tokio::test]
async fn server_requests_get_ids_of_ours_and_their_answers_theirs() {
    let theirs = ["0", "101", "\"101\"", "-7", "\"\"", "9007199254740993"];
    let mut stage = Stage::open(move |got| {
        let questions: String = theirs.iter().map(|id| asks(id, "sampling/createMessage")).collect();
        got.calls("rude").then(|| stream(questions + &event(&answer(&got.id()))))
    })
    .await;
    let messages = stage.ask_for_all().await;
    assert_eq!(messages.len(), theirs.len() + 1, "{messages:?}");
    let mut ours: Vec<&str> =
        messages[..theirs.len()].iter().map(|asked| asked["id"].as_str().expect("a string")).collect();
    for (number, id) in ours.iter().enumerate() {
        stage.client.post(json!({"jsonrpc": "2.0", "id": id, "result": {"number": number}})).await;
    }
    ours.sort_unstable();
    ours.dedup();
    assert_eq!(ours.len(), theirs.len(), "each its own");
    let mut expected: Vec<Value> = theirs
        .iter()
        .enumerate()
        .map(|(number, id)| {
            let id: Value = serde_json::from_str(id).expect("JSON");
            json!({"jsonrpc": "2.0", "id": id, "result": {"number": number}})
        })
        .collect();
    expected.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!(answers(&stage, theirs.len()).await, expected);
    // Once: what is answered again is nobody's.
    stage.client.post(json!({"jsonrpc": "2.0", "id": messages[0]["id"], "result": {}})).await;
    stage.still_works().await;
    assert_eq!(stage.end().await.count(is_answer), theirs.len());
}

/// Trap: two streams may ask under the same id at the same time (E 11: an id belongs to its stream).
#[tokio::test]
async fn server_requests_with_one_id_on_two_streams_are_both_answered() {
    let mut stage = Stage::open(|got| {
        let asking = got.calls("one") || got.calls("two");
        asking.then(|| stream(asks("0", "roots/list") + &event(&answer(&got.id()))))
    })
    .await;
    let mut asked = Vec::new();
    for (id, tool) in [(1, "one"), (2, "two")] {
        stage.client.call(id, tool, json!({})).await;
        let messages = stage.client.until_answer(id).await;
        assert_eq!(messages.len(), 2, "{messages:?}");
        asked.push(messages[0]["id"].clone());
    }
    assert_ne!(asked[0], asked[1]);
    for id in asked {
        stage.client.post(json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    }
    assert!(answers(&stage, 2).await.iter().all(|answer| answer["id"] == 0));
    stage.still_works().await;
    stage.end().await;
}

/// Trap: Java pings to keep its streams alive and ends them without an answer (WIRE, Toward the upstream 9; E 18).
#[tokio::test]
async fn ping_of_the_server_is_answered_here() {
    let mut stage = Stage::open(|got| {
        if got.method == "GET" {
            return Some(vec![stream_head(), chunk(asks("\"on-get\"", "ping")), Step::Hold]);
        }
        got.calls("rude").then(|| stream(asks("0", "ping") + &asks("101", "ping") + &event(&answer(&got.id()))))
    })
    .await;
    assert!(stage.ask().await["result"].is_object(), "the client sees no ping");
    let expected = [json!("on-get"), json!(0), json!(101)].map(|id| json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    assert_eq!(answers(&stage, 3).await, expected);
    stage.still_works().await;
    stage.end().await;
}

/// Trap: `cancelled` of a server names its own id; the client knows another.
#[tokio::test]
async fn server_request_that_is_given_up_is_cancelled_under_the_clients_id() {
    let cancelled = event(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#);
    let mut stage = Stage::open(move |got| {
        got.calls("rude")
            .then(|| stream(asks("0", "elicitation/create") + &cancelled + &cancelled + &event(&answer(&got.id()))))
    })
    .await;
    let messages = stage.ask_for_all().await;
    assert_eq!(messages.len(), 3, "a cancellation of nothing is dropped: {messages:?}");
    assert_eq!(messages[1]["params"]["requestId"], messages[0]["id"]);
    stage.client.post(json!({"jsonrpc": "2.0", "id": messages[0]["id"], "result": {}})).await;
    stage.still_works().await;
    assert_eq!(stage.end().await.count(is_answer), 0, "nobody waits for it");
}

/// Trap: a client that never answers, and a server that never stops asking, must not cost memory without end.
#[tokio::test]
async fn server_requests_without_answers_are_bounded() {
    let questions: String = (0..300).map(|id| asks(&id.to_string(), "roots/list")).collect();
    let mut stage =
        Stage::open(move |got| got.calls("rude").then(|| stream(questions.clone() + &event(&answer(&got.id()))))).await;
    let messages = stage.ask_for_all().await;
    assert_eq!(messages.len(), 256 + 1);
    let refused = answers(&stage, 300 - 256).await;
    assert!(refused.iter().all(|answer| answer["error"]["data"]["reason"] == "too_many_unanswered"), "{refused:?}");
    stage.still_works().await;
    stage.end().await;
}

/// Trap: every answer of ours takes a connection; a server that pings without end and takes none of the answers must
/// not use up the proxy's.
#[tokio::test]
async fn flood_of_pings_costs_a_bounded_number_of_connections() {
    let pings: String = (0..500).map(|id| asks(&id.to_string(), "ping")).collect();
    let mut stage = Stage::open(move |got| {
        if is_answer(got) {
            return Some(vec![Step::Hold]);
        }
        got.calls("rude").then(|| stream(pings.clone() + &event(&answer(&got.id()))))
    })
    .await;
    assert!(stage.ask().await["result"].is_object());
    for _ in 0..20 {
        stage.still_works().await;
    }
    assert!(connections(&stage) < 150, "{} connections", connections(&stage));
    stage.end().await;
}

fn connections(stage: &Stage) -> usize {
    stage.upstream.got().iter().map(|got| got.connection).max().unwrap_or_default()
}

/// The same from the other side: progress of a client goes up unordered. What does not fit waits, and is refused then.
#[tokio::test]
async fn flood_of_progress_costs_a_bounded_number_of_connections() {
    let gate = Gate::default();
    let waits = gate.clone();
    let is_progress = |got: &Got| got.rpc() == "notifications/progress";
    let mut stage =
        Stage::open(move |got| is_progress(got).then(|| vec![Step::Wait(waits.clone()), reply(202, &[], "")])).await;
    let progress =
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1}}).to_string();
    let mut taken = 0;
    for _ in 0..300 {
        let posted = stage.client.post_text(progress.clone(), &[]).await;
        assert!([202, 503].contains(&posted.status.as_u16()), "{posted:?}");
        taken += usize::from(posted.status == 202);
    }
    assert!(connections(&stage) < 150, "{} connections", connections(&stage));
    gate.open();
    let all_there = |all: &[Got]| (all.iter().filter(|got| is_progress(got)).count() == taken).then_some(());
    stage.upstream.until("all that was taken", all_there).await;
    stage.still_works().await;
    stage.end().await;
}

/// Trap: a banner tells attackers what to try, a cookie binds the client to what it never asked for (SECURITY §3).
#[tokio::test]
async fn headers_of_the_upstream_never_reach_the_client() {
    const BANNERS: [(&str, &str); 9] = [
        ("server", "canary/1.0"),
        ("x-powered-by", "canary"),
        ("set-cookie", "canary=1; HttpOnly"),
        ("via", "1.1 canary"),
        ("x-canary", "canary"),
        ("mcp-session-id", "canary"),
        ("access-control-allow-origin", "https://canary.example"),
        ("retry-after", "canary"),
        ("content-type", "application/json; canary"),
    ];
    fn with(status: u16, more: &[(&str, &str)], body: &str) -> Script {
        let headers: Vec<(&str, &str)> = BANNERS.iter().chain(more).copied().collect();
        vec![reply(status, &headers, body)]
    }
    let mut stage = Stage::open_as("Bearer own", |got| {
        let canary = r#"{"error":"canary"}"#;
        match got.header("authorization").as_deref() {
            Some("Bearer bad") => {
                Some(with(401, &[("www-authenticate", "Bearer realm=\"r\""), ("www-authenticate", "Basic")], canary))
            }
            Some("Bearer narrow") => {
                Some(with(403, &[("www-authenticate", "Bearer error=\"insufficient_scope\"")], canary))
            }
            _ if got.calls("rude") => Some(with(200, &[], &answer(&got.id()))),
            _ if got.rpc() == "notifications/x" => Some(with(202, &[], "canary")),
            _ => None,
        }
    })
    .await;
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "tools/list"}).to_string();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/x"}).to_string();
    let mut posted = Vec::new();
    for (token, text) in
        [("Bearer bad", &ping), ("Bearer narrow", &ping), ("Bearer bad", &note), ("Bearer good", &note)]
    {
        posted.push(stage.client.post_text(text.clone(), &[("authorization", token)]).await);
    }
    assert_eq!(posted.iter().map(|posted| posted.status.as_u16()).collect::<Vec<_>>(), [401, 403, 401, 202]);
    assert_eq!(posted[0].headers.get_all("www-authenticate").iter().count(), 2);
    for posted in &posted {
        let shown = format!("{:?} {}", posted.headers, posted.body);
        assert!(!shown.contains("canary"), "{shown}");
    }
    stage.ask().await;
    stage.still_works().await;
    assert!(!format!("{:?}", stage.client.stream_headers()).contains("canary"));
    assert!(!String::from_utf8_lossy(&stage.client.raw).contains("canary"));
    stage.end().await;
}

/// Trap: a server may send requests and answers after its stream should be over; nothing of it comes twice.
#[tokio::test]
async fn question_after_the_answer_is_still_passed_on() {
    let gate = Gate::default();
    let waits = gate.clone();
    let mut stage = Stage::open(move |got| {
        got.calls("rude").then(|| {
            let late = asks("0", "roots/list") + &event(&answer(&got.id()));
            vec![stream_head(), chunk(event(&answer(&got.id()))), Step::Wait(waits.clone()), chunk(late), last_chunk()]
        })
    })
    .await;
    stage.ask().await;
    stage.still_works().await;
    gate.open();
    assert_eq!(stage.client.message().await["method"], "roots/list");
    stage.upstream.wait_for("the end of the stream", |got| got.calls("rude") && got.fate == Fate::Played).await;
    stage.still_works().await;
    stage.end().await;
}
