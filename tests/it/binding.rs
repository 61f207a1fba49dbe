//! Whose a session is: whoever has its id and is somebody else meets what there is under an id that does not exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::script::{Gate, Scripted, Step, document, reply};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Posted, Proxy, http_client, pass, within};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const PEERS: (&str, &str) = ("trusted-proxy", "127.0.0.0/8");

/// A bearer token that names its subject. Nothing here checks signatures.
fn jwt(subject: &str, more: &str) -> String {
    let claims = format!(r#"{{"iss":"https://as.example","sub":"{subject}","client_id":"it"{more}}}"#);
    format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

async fn both(options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}

async fn client(proxy: &Proxy, headers: &[(&'static str, &str)]) -> LegacyClient {
    let mut client = LegacyClient::connect(proxy, headers).await;
    let answer = client.initialize().await;
    assert!(answer["result"].is_object(), "{answer}");
    client
}

fn list(id: impl Into<Value>) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/list"}).to_string()
}

/// A POST of somebody who has `endpoint` and nothing of its session's headers.
async fn post(proxy: &Proxy, endpoint: &str, headers: &[(&str, &str)], body: &str) -> Posted {
    let mut request = http_client().post(proxy.url(endpoint)).body(body.to_owned());
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = within("an answer", request.send()).await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    Posted { status, headers, body: answer.text().await.expect("a text") }
}

/// All that can be told from an answer.
fn shown(posted: &Posted) -> (u16, String, Vec<String>) {
    let mut headers: Vec<String> = posted.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.retain(|header| !header.starts_with("date:"));
    headers.sort();
    (posted.status.as_u16(), posted.body.clone(), headers)
}

/// The session works, and nothing came that was not owed.
async fn is_unharmed(client: &mut LegacyClient) {
    client.call("unharmed", "echo", json!({"text": "mine"})).await;
    let messages = client.until_answer("unharmed").await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["result"]["content"][0]["text"], "mine");
}

#[tokio::test]
async fn foreign_post_meets_an_unknown_session_and_the_victim_notices_nothing() {
    let (upstream, proxy) = both(&[PEERS]).await;
    let ann = jwt("ann", "");
    let mut victim = client(&proxy, &[("authorization", &ann), ("x-forwarded-for", "192.0.2.1")]).await;
    victim.call("runs", "ask", json!({})).await;
    let question = victim.message().await;
    let before = upstream.seen().len();
    let unknown = format!("/messages?sessionId={}", "0".repeat(64));
    let ben = jwt("ben", "");
    let strangers: [&[(&str, &str)]; 4] = [
        &[("authorization", &ben), ("x-forwarded-for", "192.0.2.1")],
        &[("authorization", "Bearer opaque"), ("x-forwarded-for", "192.0.2.1")],
        &[("authorization", &ann), ("x-api-key", "k")],
        &[],
    ];
    let said = [
        list("stolen"),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "runs"}}).to_string(),
        json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "forged"}}).to_string(),
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string(),
        "no message".to_owned(),
    ];
    for headers in strangers {
        for body in &said {
            let foreign = post(&proxy, &victim.endpoint, headers, body).await;
            assert_eq!(foreign.status, 404, "{headers:?} {body}");
            assert_eq!(shown(&foreign), shown(&post(&proxy, &unknown, headers, body).await), "{headers:?} {body}");
        }
        let text: Vec<_> = headers.iter().copied().chain([("content-type", "text/plain")]).collect();
        let foreign = post(&proxy, &victim.endpoint, &text, "x").await;
        assert_eq!(shown(&foreign), shown(&post(&proxy, &unknown, &text, "x").await));
    }
    assert_eq!(upstream.seen().len(), before, "the upstream saw nothing of it");
    victim.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "own"}})).await;
    assert_eq!(victim.answer("runs").await["result"]["content"][0]["text"], "own");
    is_unharmed(&mut victim).await;
    proxy.metrics_show(|metrics| metrics.foreign_posts.get() == 24).await;
    drop(victim);
    proxy.stop().await;
}

#[tokio::test]
async fn renewed_token_of_the_same_person_goes_on_from_anywhere() {
    let (_upstream, proxy) = both(&[PEERS]).await;
    let (old, new) = (jwt("ann", r#","exp":1"#), jwt("ann", r#","exp":2"#));
    let mut ann = client(&proxy, &[("authorization", &old), ("x-forwarded-for", "192.0.2.1")]).await;
    let headers = [("authorization", new.as_str()), ("x-forwarded-for", "198.51.100.7")];
    assert_eq!(ann.post_text(list(1), &headers).await.status, 202);
    assert!(ann.answer(1).await["result"].is_object());
    is_unharmed(&mut ann).await;
    drop(ann);
    proxy.stop().await;
}

#[tokio::test]
async fn opaque_token_is_followed_by_another_as_the_rule_says() {
    for (rule, at_home, elsewhere) in [("guarded", 202, 404), ("deny", 404, 404), ("allow", 202, 202)] {
        let (_upstream, proxy) = both(&[PEERS, ("opaque-rotation", rule)]).await;
        let home = ("x-forwarded-for", "192.0.2.1");
        for (address, status) in [("192.0.2.1", at_home), ("198.51.100.7", elsewhere)] {
            let mut own = client(&proxy, &[("authorization", "Bearer old"), home]).await;
            let next = [("authorization", "Bearer new"), ("x-forwarded-for", address)];
            assert_eq!(own.post_text(list(1), &next).await.status, status, "{rule} {address}");
            if status == 202 {
                assert!(own.answer(1).await["result"].is_object());
                // From now on the new one is its own, wherever it is.
                let moved = [("authorization", "Bearer new"), ("x-forwarded-for", "203.0.113.1")];
                assert_eq!(own.post_text(list(2), &moved).await.status, 202, "{rule} {address}");
                own.answer(2).await;
            }
            is_unharmed(&mut own).await;
        }
        proxy.stop().await;
    }
}

#[tokio::test]
async fn opaque_token_that_was_turned_down_may_be_followed_from_anywhere_for_ten_minutes() {
    let (upstream, proxy) = both(&[PEERS]).await;
    for (minutes, status) in [(9, 202), (11, 404)] {
        let own = client(&proxy, &[("authorization", "Bearer old"), ("x-forwarded-for", "192.0.2.1")]).await;
        upstream.expire("Bearer old");
        assert_eq!(own.post_text(list(1), &[]).await.status, 401);
        pass(std::time::Duration::from_secs(minutes * 60)).await;
        let next = [("authorization", "Bearer new"), ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(own.post_text(list(2), &next).await.status, status, "after {minutes} minutes");
        upstream.expire("Bearer nobody's");
        drop(own);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn session_without_a_credential_stays_nobodys_until_the_upstream_asks_for_one() {
    let asks = Arc::new(AtomicBool::new(false));
    let asking = Arc::clone(&asks);
    let upstream = Scripted::start(move |got| {
        let is_refused = asking.load(Ordering::Relaxed) && got.header("authorization").is_none();
        is_refused.then(|| vec![reply(401, &[("www-authenticate", "Bearer")], "no")])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[PEERS]);
    let (home, away) = (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "198.51.100.7"));
    let mine = ("authorization", "Bearer mine");
    let mut nobody = client(&proxy, &[home]).await;
    assert_eq!(nobody.post_text(list(1), &[mine]).await.status, 404);
    is_unharmed(&mut nobody).await;
    assert_eq!(upstream.count(|got| got.rpc() == "tools/list"), 0);
    asks.store(true, Ordering::Relaxed);
    assert_eq!(nobody.post_text(list(2), &[]).await.status, 202);
    assert_eq!(nobody.answer(2).await["error"]["data"]["reason"], "unauthorized");
    assert_eq!(nobody.post_text(list(2), &[]).await.status, 401);
    assert_eq!(nobody.post_text(list(3), &[mine, away]).await.status, 404, "not somebody from anywhere");
    assert_eq!(nobody.post_text(list(4), &[mine]).await.status, 202, "its person has logged in");
    assert!(nobody.answer(4).await["result"].is_object());
    assert_eq!(nobody.post_text(list(5), &[mine, away]).await.status, 202, "whose it is from now on");
    assert!(nobody.answer(5).await["result"].is_object());
    let other = ("authorization", "Bearer other");
    assert_eq!(nobody.post_text(list(6), &[other, away]).await.status, 404);
    drop(nobody);
    proxy.stop().await;
}

/// Old TypeScript clients show their token on POST only.
#[tokio::test]
async fn session_belongs_to_the_first_whose_initialize_was_accepted() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[PEERS]);
    let mut late = LegacyClient::connect(&proxy, &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let (bad, good) = ([("authorization", "Bearer bad")], [("authorization", "Bearer good")]);
    assert_eq!(late.post_text(initialize.clone(), &bad).await.status, 401, "that settles nothing");
    assert_eq!(late.post_text(initialize, &good).await.status, 202);
    assert!(late.answer(0).await["result"].is_object());
    for stranger in [&[][..], &[("authorization", "Bearer good"), ("x-api-key", "k"), ("x-forwarded-for", "192.0.2.9")]]
    {
        assert_eq!(post(&proxy, &late.endpoint, stranger, &list(1)).await.status, 404);
    }
    assert_eq!(late.post_text(list(2), &good).await.status, 202);
    assert!(late.answer(2).await["result"].is_object());
    drop(late);
    proxy.stop().await;
}

#[tokio::test]
async fn keys_in_other_headers_are_credentials_and_the_operator_names_more() {
    let (upstream, proxy) = both(&[PEERS, ("credential-header", "x-tenant-key")]).await;
    for name in ["x-api-key", "api-key", "x-tenant-key"] {
        let mut own = client(&proxy, &[(name, "own"), ("x-forwarded-for", "192.0.2.1")]).await;
        let other = [(name, "other"), ("x-forwarded-for", "192.0.2.2")];
        assert_eq!(post(&proxy, &own.endpoint, &other, &list(1)).await.status, 404, "{name}");
        is_unharmed(&mut own).await;
    }
    let seen = upstream.seen().len();
    let own = client(&proxy, &[("x-trace-thing", "1"), ("x-forwarded-for", "192.0.2.1")]).await;
    let other = [("x-trace-thing", "2"), ("x-forwarded-for", "192.0.2.2")];
    assert_eq!(post(&proxy, &own.endpoint, &other, &list(1)).await.status, 202, "no credential by any name");
    upstream.wait_for_several("the list", 1, |seen| seen.body["method"] == "tools/list").await;
    assert!(upstream.seen().len() > seen);
    drop(own);
    proxy.stop().await;
}

#[tokio::test]
async fn name_that_a_trusted_proxy_gives_comes_before_any_token() {
    let (_upstream, proxy) = both(&[PEERS, ("identity-header", "x-user"), ("linger", "15s")]).await;
    let token = ("authorization", "Bearer shared");
    let mut ann = client(&proxy, &[token, ("x-user", "ann")]).await;
    for stranger in [&[token, ("x-user", "ben")][..], &[token], &[("x-user", "ben")]] {
        assert_eq!(post(&proxy, &ann.endpoint, stranger, &list(1)).await.status, 404, "{stranger:?}");
    }
    let another = [("authorization", "Bearer renewed"), ("x-user", "ann")];
    assert_eq!(ann.post_text(list(2), &another).await.status, 202, "the same person under another token");
    ann.answer(2).await;
    is_unharmed(&mut ann).await;
    let (endpoint, last) = (ann.endpoint.clone(), ann.last_event_id());
    drop(ann);
    proxy.metrics_show(|metrics| metrics.sessions_lingering.get() == 1).await;
    let ben = LegacyClient::connect(&proxy, &[token, ("x-user", "ben"), ("last-event-id", &last)]).await;
    assert_ne!(ben.endpoint, endpoint, "an event that is another's, under the very same token");
    let back = LegacyClient::connect(&proxy, &[token, ("x-user", "ann"), ("last-event-id", &last)]).await;
    assert_eq!(back.endpoint, endpoint);
    drop((ben, back));
    proxy.stop().await;
}

/// What a proxy says of nobody is no name, and of two names one is the client's own word.
#[tokio::test]
async fn name_that_is_empty_or_one_of_several_names_nobody() {
    let (_upstream, proxy) = both(&[PEERS, ("identity-header", "x-user")]).await;
    let (ann, ben) = (jwt("ann", ""), jwt("ben", ""));
    let mut own = client(&proxy, &[("authorization", &ann), ("x-user", "")]).await;
    let other = [("authorization", ben.as_str()), ("x-user", "")];
    assert_eq!(post(&proxy, &own.endpoint, &other, &list(1)).await.status, 404, "both are nobody");
    is_unharmed(&mut own).await;
    let mut victim = client(&proxy, &[("authorization", &ann), ("x-user", "victim")]).await;
    let added = [("authorization", ben.as_str()), ("x-user", "victim"), ("x-user", "ben")];
    assert_eq!(post(&proxy, &victim.endpoint, &added, &list(1)).await.status, 404, "the proxy only added to it");
    is_unharmed(&mut victim).await;
    drop((own, victim));
    proxy.stop().await;
}

/// Anybody could write it.
#[tokio::test]
async fn name_that_somebody_gives_himself_is_not_believed() {
    let (_upstream, proxy) = both(&[("identity-header", "x-user")]).await;
    let (ann, ben) = (jwt("ann", ""), jwt("ben", ""));
    let mut own = client(&proxy, &[("authorization", &ann), ("x-user", "ann")]).await;
    let forged = [("authorization", ben.as_str()), ("x-user", "ann")];
    assert_eq!(post(&proxy, &own.endpoint, &forged, &list(1)).await.status, 404);
    is_unharmed(&mut own).await;
    drop(own);
    proxy.stop().await;
}

/// Somebody who has the id and knows the claims of a token can make one; the upstream does not take it.
#[tokio::test]
async fn forged_token_of_the_same_person_changes_nothing() {
    let ann: &'static str = jwt("ann", "").leak();
    let token = ann.strip_prefix("Bearer ").expect("a bearer token");
    let upstream = FakeUpstream::start(Behaviour { token: Some(token), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut victim = client(&proxy, &[("authorization", ann)]).await;
    victim.call("runs", "ask", json!({})).await;
    let question = victim.message().await;
    let forged = jwt("ann", r#","forged":1"#);
    for (what, body) in [
        ("a call", list("stolen")),
        (
            "a cancellation",
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "runs"}}).to_string(),
        ),
        ("an answer", json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "forged"}}).to_string()),
        ("a handshake", json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {}}).to_string()),
    ] {
        let posted = post(&proxy, &victim.endpoint, &[("authorization", &forged)], &body).await;
        assert_eq!(posted.status, 401, "{what}");
    }
    assert_eq!(upstream.methods().iter().filter(|method| *method == "initialize").count(), 1);
    victim.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "own"}})).await;
    assert_eq!(victim.answer("runs").await["result"]["content"][0]["text"], "own");
    is_unharmed(&mut victim).await;
    drop(victim);
    proxy.stop().await;
    let delete = upstream.seen().into_iter().rfind(|seen| seen.method == http::Method::DELETE).expect("a DELETE");
    assert_eq!(delete.headers["authorization"], ann);
}

/// Some gateways send no challenge with their 401.
#[tokio::test]
async fn forged_token_changes_nothing_where_it_is_turned_down_without_a_challenge() {
    let (ann, gate) = (jwt("ann", ""), Gate::default());
    let (good, open) = (ann.clone(), gate.clone());
    let upstream = Scripted::start(move |got| {
        if got.header("authorization").as_deref() != Some(good.as_str()) {
            return Some(vec![reply(401, &[], "invalid token")]);
        }
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, got.id());
        got.calls("wait").then(|| vec![Step::Wait(open.clone()), document(answer)])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut victim = client(&proxy, &[("authorization", &ann)]).await;
    victim.call("runs", "wait", json!({})).await;
    upstream.wait_for("the call", |got| got.calls("wait")).await;
    let forged = jwt("ann", r#","forged":1"#);
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "runs"}});
    let posted = post(&proxy, &victim.endpoint, &[("authorization", &forged)], &cancelled.to_string()).await;
    assert_eq!(posted.status, 401);
    gate.open();
    assert!(victim.answer("runs").await["result"].is_object());
    drop(victim);
    proxy.stop().await;
}

#[tokio::test]
async fn handshake_that_finds_no_place_to_wait_for_the_word_on_its_token_gets_an_error() {
    let (old, new) = (jwt("ann", r#","exp":1"#), jwt("ann", r#","exp":2"#));
    let renewed = new.clone();
    let upstream = Scripted::start(move |got| {
        let is_question = got.rpc() == "ping" && got.header("authorization").as_deref() == Some(renewed.as_str());
        is_question.then(|| vec![Step::Hold])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[("max-waiting", "1")]);
    let mut ann = client(&proxy, &[("authorization", &old)]).await;
    let headers = [("authorization", new.as_str())];
    let answer = json!({"jsonrpc": "2.0", "id": "nobody's", "result": {}}).to_string();
    let again = json!({"jsonrpc": "2.0", "id": "again", "method": "initialize", "params": {}}).to_string();
    let (waits, turned_away) = tokio::join!(ann.post_text(answer, &headers), async {
        upstream.wait_for("the question", |got| got.rpc() == "ping").await;
        ann.post_text(again, &headers).await
    });
    assert_eq!((waits.status.as_u16(), turned_away.status.as_u16()), (202, 202));
    assert_eq!(ann.answer("again").await["error"]["data"]["reason"], "too_many_in_flight");
    drop(ann);
    proxy.stop().await;
}

/// The first thing that a client says under its renewed token may be an answer: it is asked about first, and then taken.
#[tokio::test]
async fn answer_under_a_renewed_token_gets_through() {
    let (upstream, proxy) = both(&[]).await;
    let (old, new) = (jwt("ann", r#","exp":1"#), jwt("ann", r#","exp":2"#));
    let mut ann = client(&proxy, &[("authorization", &old)]).await;
    ann.call("runs", "ask", json!({})).await;
    let question = ann.message().await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "renewed"}}).to_string();
    assert_eq!(ann.post_text(answer, &[("authorization", &new)]).await.status, 202);
    assert_eq!(ann.answer("runs").await["result"]["content"][0]["text"], "renewed");
    let asked: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.body["method"] == "ping").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers["authorization"], new.as_str());
    drop(ann);
    proxy.stop().await;
}

#[tokio::test]
async fn sessions_of_one_person_count_together_whatever_their_tokens() {
    let (_upstream, proxy) = both(&[("max-sessions-per-principal", "1")]).await;
    let (one, two, other) = (jwt("ann", r#","jti":"1""#), jwt("ann", r#","jti":"2""#), jwt("ben", ""));
    let first = client(&proxy, &[("authorization", &one)]).await;
    let mut second = LegacyClient::connect(&proxy, &[("authorization", &two)]).await;
    assert_eq!(second.initialize().await["error"]["data"]["reason"], "too_many_sessions");
    let third = client(&proxy, &[("authorization", &other)]).await;
    drop((first, second, third));
    proxy.stop().await;
}
