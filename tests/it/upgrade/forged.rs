//! What somebody can do who has the id of a session that is kept here, and no credential that the server accepts: nothing.

use reqwest::Method;
use serde_json::{Value, json};
use sse_sunset::sse::Decoder;

use super::translated::next;
use super::{Client, jwt, message};
use crate::support::Proxy;
use crate::support::modern::{Manner, Modern};

async fn server_of(token: &str) -> (Modern, Proxy) {
    let token: &'static str = token.to_owned().leak();
    let upstream = Modern::start(Manner { token: Some(token), ..Manner::default() }).await;
    let proxy = Proxy::start(upstream.url(), &[("trusted-proxy", "127.0.0.0/8")]);
    (upstream, proxy)
}

fn notification(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

fn request(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

#[tokio::test]
async fn token_that_only_says_whose_it_is_neither_hears_nor_changes_anything() {
    let right = jwt("ann", "c2ln");
    let (upstream, proxy) = server_of(&right).await;
    let mut owner = Client::new(&proxy).with("authorization", &format!("Bearer {right}"));
    owner.initialize().await;
    let mut stream = owner.ask(Method::GET, None).await;
    upstream.wait_for("the subscription", |seen| seen.rpc() == "subscriptions/listen").await;
    let (mut call, mut decoder) = (owner.call("elicit", json!({})).await, Decoder::new(1 << 20));
    let question = next(&mut call, &mut decoder).await;
    let forger = owner.taken_by(&format!("Bearer {}", jwt("ann", "Zm9yZ2Vk")));
    for method in [Method::GET, Method::DELETE] {
        let refused = forger.ask(method.clone(), None).await;
        assert_eq!(refused.status(), 401, "{method}");
        assert!(refused.headers().contains_key("www-authenticate"), "the server's own word");
    }
    for body in [
        json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}),
        notification("notifications/cancelled", &json!({"requestId": 7})),
        request("logging/setLevel", &json!({"level": "debug"})),
        request("resources/subscribe", &json!({"uri": "file:///a"})),
        request("resources/unsubscribe", &json!({"uri": "file:///a"})),
        request("tools/list", &json!({})),
    ] {
        assert_eq!(forger.post(body.clone()).await.status(), 401, "{body}");
    }
    // The owner notices nothing of it.
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    let answered = owner.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": answer})).await;
    assert_eq!(answered.status(), 202);
    assert_eq!(next(&mut call, &mut decoder).await["id"], 7);
    assert_eq!(upstream.list_changed("tools").await, 1);
    let change = next(&mut stream, &mut Decoder::new(1 << 20)).await;
    assert_eq!(change["method"], "notifications/tools/list_changed");
    drop((stream, call));
    proxy.stop().await;
}

#[tokio::test]
async fn token_that_was_renewed_is_asked_about_once_and_good_for_everything() {
    let right = jwt("ann", "c2ln");
    let (upstream, proxy) = server_of(&right).await;
    let mut owner = Client::new(&proxy).with("authorization", &format!("Bearer {right}"));
    owner.initialize().await;
    let renewed = jwt("ann", "bmV3");
    let token: &'static str = renewed.clone().leak();
    upstream.change(|manner| manner.token = Some(token));
    let renewed = owner.taken_by(&format!("Bearer {renewed}"));
    let asked = || upstream.count(|seen| seen.rpc() == "server/discover");
    let before = asked();
    for _ in 0..2 {
        let cancelled = notification("notifications/cancelled", &json!({"requestId": 7}));
        assert_eq!(renewed.post(cancelled).await.status(), 202);
    }
    assert_eq!(asked(), before + 1);
    assert_eq!(renewed.ask(Method::DELETE, None).await.status(), 200);
    proxy.stop().await;
}

/// As long as the server cannot say what it makes of somebody, the session is the one's whom it knows.
#[tokio::test]
async fn server_that_is_out_of_order_lets_nobody_in() {
    let right = jwt("ann", "c2ln");
    let (upstream, proxy) = server_of(&right).await;
    let mut owner = Client::new(&proxy).with("authorization", &format!("Bearer {right}"));
    owner.initialize().await;
    upstream.change(|manner| manner.broken = Some(500));
    let forger = owner.taken_by(&format!("Bearer {}", jwt("ann", "Zm9yZ2Vk")));
    assert_eq!(forger.ask(Method::GET, None).await.status(), 502);
    assert_eq!(owner.ask(Method::DELETE, None).await.status(), 200, "whom it knows, it knows");
    proxy.stop().await;
}

#[tokio::test]
async fn what_is_answered_here_makes_nobody_the_owner() {
    let (_upstream, proxy) = server_of("right").await;
    let mut owner = Client::new(&proxy).with("authorization", "Bearer right").with("x-forwarded-for", "192.0.2.1");
    owner.initialize().await;
    for worthless in ["Bearer a", "Bearer b"] {
        // From the owner's address another credential may be its next.
        let stranger = owner.taken_by(worthless).with("x-forwarded-for", "192.0.2.1");
        assert_eq!(stranger.post(request("ping", &json!({}))).await.status(), 200, "answered here");
    }
    let moved = owner.taken_by("Bearer right").with("x-forwarded-for", "192.0.2.2");
    let answer = message(moved.call("echo", json!({"text": "x"})).await).await;
    assert_eq!(answer["result"]["content"][0]["text"], "x");
    proxy.stop().await;
}
