//! Tokens that expire, are revoked, or may too little, in the midst of sessions; and people who take their time to log in.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::script::{Gate, Got, Script, Scripted, Step, chunk, document, event, reply, stream_head};
use crate::support::{LegacyClient, Posted, Proxy, http_client, pass, within};

/// What a server that wants tokens says of one that is none of its.
const CHALLENGE: &str = r#"Bearer error="invalid_token", resource_metadata="https://mcp.example/prm""#;
const SCOPE: &str = r#"Bearer error="insufficient_scope", scope="write""#;

/// The tokens that the server takes now.
#[derive(Clone, Default)]
struct Good(Arc<Mutex<BTreeSet<&'static str>>>);

impl Good {
    fn only(&self, tokens: &[&'static str]) {
        *self.0.lock().expect("no panic") = tokens.iter().copied().collect();
    }

    fn takes(&self, got: &Got) -> bool {
        let token = got.header("authorization");
        let token = token.as_deref().and_then(|sent| sent.strip_prefix("Bearer "));
        token.is_some_and(|token| self.0.lock().expect("no panic").contains(token))
    }
}

struct Stage {
    good: Good,
    upstream: Scripted,
    proxy: Proxy,
}

impl Stage {
    /// A server that takes these tokens; of them `narrow` may not call the tool `write`.
    async fn open(tokens: &[&'static str]) -> Self {
        let good = Good::default();
        good.only(tokens);
        let judge = good.clone();
        let upstream = Scripted::start(move |got| judged(&judge, got)).await;
        let proxy = Proxy::start(upstream.url(), &[]);
        Stage { good, upstream, proxy }
    }

    async fn client(&self, token: &str) -> LegacyClient {
        let mut client = LegacyClient::connect(&self.proxy, &[("authorization", token)]).await;
        let answer = client.initialize().await;
        assert!(answer["result"].is_object(), "{answer}");
        client
    }

    /// How many requests the server got of this method.
    fn count(&self, rpc: &str) -> usize {
        self.upstream.count(|got| got.rpc() == rpc)
    }

    /// A client of this one's address and user agent reads how to log in.
    async fn asks_how_to_log_in(&self) {
        let url = self.proxy.url("/.well-known/oauth-protected-resource/sse");
        within("an answer", http_client().get(url).send()).await.expect("an answer");
    }

    async fn end(self, client: LegacyClient) -> Scripted {
        drop(client);
        self.proxy.stop().await;
        self.upstream
    }
}

fn judged(good: &Good, got: &Got) -> Option<Script> {
    if !good.takes(got) {
        return Some(vec![reply(401, &[("www-authenticate", CHALLENGE)], "no")]);
    }
    let is_narrow = got.header("authorization").as_deref() == Some("Bearer narrow");
    if is_narrow && got.calls("write") {
        return Some(vec![reply(403, &[("www-authenticate", SCOPE)], "no")]);
    }
    if got.calls("ask") {
        let question = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;
        return Some(vec![stream_head(), chunk(event(question)), Step::Hold]);
    }
    (got.calls("write") || got.calls("read"))
        .then(|| vec![document(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, got.id()))])
}

fn call(id: impl Into<Value>, tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool}}).to_string()
}

fn challenge(posted: &Posted) -> (u16, &str) {
    let challenge = posted.headers.get("www-authenticate").and_then(|value| value.to_str().ok());
    (posted.status.as_u16(), challenge.unwrap_or_default())
}

#[tokio::test]
async fn token_that_expires_is_renewed_and_the_session_goes_on() {
    let stage = Stage::open(&["old"]).await;
    let mut client = stage.client("Bearer old").await;
    stage.upstream.wait_for("the GET stream", |got| got.method == "GET").await;
    stage.good.only(&["new"]);
    assert_eq!(challenge(&client.post_text(call(2, "read"), &[]).await), (401, CHALLENGE));
    let seen = stage.upstream.count(|_| true);
    assert_eq!(challenge(&client.post_text(call(2, "read"), &[]).await), (401, CHALLENGE));
    assert_eq!(stage.upstream.count(|_| true), seen, "the next without another word of the server");
    let renewed = [("authorization", "Bearer new")];
    assert_eq!(client.post_text(call(2, "read"), &renewed).await.status, 202);
    assert!(client.answer(2).await["result"].is_object());
    pass(Duration::from_secs(31)).await;
    assert_eq!(client.post_text(call(3, "read"), &renewed).await.status, 202);
    assert_eq!(client.until_answer(3).await.len(), 1, "no error follows for what was asked again");
    let upstream = stage.end(client).await;
    assert_eq!(upstream.count(|got| got.rpc() == "initialize"), 1);
    let deletes =
        upstream.count(|got| got.method == "DELETE" && got.header("authorization").as_deref() == Some("Bearer new"));
    assert_eq!(deletes, 1, "under the token that was accepted last");
}

/// Python 1.12 with OAuth: also where the answer is there before the second post is.
#[tokio::test]
async fn client_that_posts_everything_twice_has_it_run_once() {
    let stage = Stage::open(&["own"]).await;
    let mut client = stage.client("Bearer own").await;
    let initialize = stage.upstream.wait_for("initialize", |got| got.rpc() == "initialize").await.body.to_string();
    assert_eq!(client.post_text(initialize, &[]).await.status, 202);
    for id in [1, 2] {
        for _ in 0..2 {
            assert_eq!(client.post_text(call(id, "read"), &[]).await.status, 202);
        }
        assert_eq!(client.until_answer(id).await.len(), 1);
    }
    assert_eq!((stage.count("initialize"), stage.count("tools/call")), (1, 2));
    stage.end(client).await;
}

/// The server may take its time, and the POST is not held for long under a token that was good so far.
#[tokio::test]
async fn late_401_is_told_under_the_id_and_the_next_post_gets_the_challenge() {
    let gate = Gate::default();
    let waits = gate.clone();
    let upstream = Scripted::start(move |got| {
        let late = [("www-authenticate", CHALLENGE)];
        got.calls("late").then(|| vec![Step::Wait(waits.clone()), reply(401, &late, "no")])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer old")]).await;
    client.initialize().await;
    assert_eq!(client.post_text(call(1, "late"), &[]).await.status, 202);
    assert_eq!(client.post_text(call("second", "late"), &[]).await.status, 202, "one is held up, not all of them");
    gate.open();
    let error = client.answer(1).await["error"].clone();
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-32001), &json!("unauthorized")));
    assert_eq!(challenge(&client.post_text(call(2, "read"), &[]).await), (401, CHALLENGE));
    assert_eq!(client.post_text(call(2, "read"), &[("authorization", "Bearer new")]).await.status, 202);
    assert!(client.answer(2).await["result"].is_object());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn poison_token_changes_nothing_for_the_client_whose_session_it_is() {
    let stage = Stage::open(&["own"]).await;
    let mut client = stage.client("Bearer own").await;
    for _ in 0..6 {
        assert_eq!(client.post_text(call("p", "read"), &[("authorization", "Bearer poison")]).await.status, 401);
    }
    client.post_text(call(1, "read"), &[]).await;
    assert!(client.answer(1).await["result"].is_object());
    let upstream = stage.end(client).await;
    assert_eq!(upstream.count(|got| got.header("authorization").as_deref() == Some("Bearer poison")), 1);
    assert_eq!(
        upstream.count(|got| got.method == "DELETE" && got.header("authorization").as_deref() == Some("Bearer own")),
        1
    );
}

/// The server takes tokens for another audience only: none that the client can get is ever good.
#[tokio::test]
async fn server_that_takes_no_token_at_all_is_told_by_401_each_time_and_one_error_each() {
    let stage = Stage::open(&[]).await;
    let mut client = LegacyClient::connect(&stage.proxy, &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    for token in ["Bearer a", "Bearer b", "Bearer c", "Bearer a"] {
        assert_eq!(
            challenge(&client.post_text(initialize.clone(), &[("authorization", token)]).await),
            (401, CHALLENGE)
        );
    }
    assert_eq!(stage.count("initialize"), 3, "each token is shown to the server once");
    pass(Duration::from_secs(31)).await;
    assert_eq!(client.until_answer(0).await.len(), 1);
    stage.end(client).await;
}

/// Python does not answer the server before its POST was answered; what it says again is still an answer to something.
#[tokio::test]
async fn answer_that_got_a_401_is_given_again_under_a_renewed_token() {
    let stage = Stage::open(&["old"]).await;
    let mut client = stage.client("Bearer old").await;
    client.call("runs", "ask", json!({})).await;
    let question = client.message().await;
    stage.good.only(&["new"]);
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "kept"}}).to_string();
    assert_eq!(client.post_text(call("probe", "read"), &[]).await.status, 401);
    assert_eq!(challenge(&client.post_text(answer.clone(), &[]).await), (401, CHALLENGE));
    assert_eq!(client.post_text(answer, &[("authorization", "Bearer new")]).await.status, 202);
    let given = stage.upstream.wait_for("the answer", |got| got.body["result"]["text"] == "kept").await;
    assert_eq!(given.header("authorization").as_deref(), Some("Bearer new"));
    stage.end(client).await;
}

#[tokio::test]
async fn token_that_may_too_little_for_one_tool_is_stepped_up_by_http_and_good_for_the_others() {
    let stage = Stage::open(&["narrow", "wide"]).await;
    let mut client = stage.client("Bearer narrow").await;
    assert_eq!(challenge(&client.post_text(call(3, "write"), &[]).await), (403, SCOPE));
    client.post_text(call(2, "read"), &[]).await;
    assert!(client.answer(2).await["result"].is_object(), "it is good for everything else");
    let refused = client.post_text(call(3, "write"), &[]).await;
    assert_eq!(challenge(&refused), (403, SCOPE));
    assert!(refused.body.starts_with("insufficient_scope: ") && refused.body.ends_with(r#"the scope "write""#));
    assert_eq!(client.post_text(call(3, "write"), &[("authorization", "Bearer wide")]).await.status, 202);
    assert!(client.answer(3).await["result"].is_object());
    pass(Duration::from_secs(31)).await;
    client.post_text(call(4, "read"), &[("authorization", "Bearer wide")]).await;
    assert_eq!(client.until_answer(4).await.len(), 1, "no error follows");
    stage.end(client).await;
}

/// A Python client logs in within its POST, which takes as long as a person takes, and then posts the same once more.
#[tokio::test]
async fn person_who_takes_minutes_to_log_in_loses_nothing() {
    let stage = Stage::open(&["new"]).await;
    let mut client = LegacyClient::connect(&stage.proxy, &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    assert_eq!(client.post_text(initialize.clone(), &[("authorization", "Bearer old")]).await.status, 401);
    stage.asks_how_to_log_in().await;
    for _ in 0..9 {
        pass(Duration::from_secs(61)).await;
    }
    assert_eq!(client.post_text(initialize, &[("authorization", "Bearer new")]).await.status, 202);
    let messages = client.until_answer(0).await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0]["result"].is_object(), "{messages:?}");
    stage.end(client).await;
}

#[tokio::test]
async fn person_who_never_comes_back_is_waited_for_ten_minutes() {
    let stage = Stage::open(&["new"]).await;
    let mut client = LegacyClient::connect(&stage.proxy, &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    assert_eq!(client.post_text(initialize.clone(), &[("authorization", "Bearer old")]).await.status, 401);
    stage.asks_how_to_log_in().await;
    for _ in 0..21 {
        pass(Duration::from_secs(30)).await;
    }
    assert_eq!(client.answer(0).await["error"]["data"]["reason"], "unauthorized");
    assert_eq!(client.post_text(initialize, &[("authorization", "Bearer new")]).await.status, 202);
    assert_eq!(
        stage.count("initialize"),
        1,
        "what comes later still must not run: the client was told that it had failed"
    );
    stage.end(client).await;
}

/// A Python client with a static token never posts again, and would wait for ever. That another logs in does not help it.
#[tokio::test]
async fn client_that_looks_for_no_way_to_log_in_gets_its_error_after_thirty_seconds() {
    let stage = Stage::open(&["new"]).await;
    stage.asks_how_to_log_in().await;
    pass(Duration::from_secs(1)).await;
    let mut client = LegacyClient::connect(&stage.proxy, &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    assert_eq!(client.post_text(initialize, &[("authorization", "Bearer static")]).await.status, 401);
    pass(Duration::from_secs(31)).await;
    assert_eq!(client.answer(0).await["error"]["data"]["reason"], "unauthorized");
    stage.end(client).await;
}

#[tokio::test]
async fn nothing_goes_up_by_itself_under_a_token_that_was_revoked() {
    let stage = Stage::open(&["old"]).await;
    let mut client = stage.client("Bearer old").await;
    stage.upstream.wait_for("the GET stream", |got| got.method == "GET").await;
    stage.good.only(&["new"]);
    assert_eq!(client.post_text(call(1, "read"), &[]).await.status, 401);
    let before = stage.upstream.count(|_| true);
    for _ in 0..20 {
        pass(Duration::from_secs(91)).await;
    }
    assert_eq!(stage.upstream.count(|_| true), before, "no ping, and no other stream");
    client.post_text(call(2, "read"), &[("authorization", "Bearer new")]).await;
    assert!(client.answer(2).await["result"].is_object(), "the session is there still");
    pass(Duration::from_secs(91)).await;
    stage.upstream.wait_for("a ping", |got| got.rpc() == "ping").await;
    stage.end(client).await;
}
