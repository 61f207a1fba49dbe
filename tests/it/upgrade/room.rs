//! How many sessions are kept, and which of them gives way to another.

use reqwest::Method;
use serde_json::json;

use super::{Client, initialize, jwt};
use crate::support::modern::{Manner, Modern};
use crate::support::{Behaviour, FakeUpstream, Proxy};

const STATELESS: Behaviour = Behaviour { sessions: false, sse: false, token: None };

/// Whether the session of `client` is still there.
async fn is_kept(client: &Client<'_>) -> bool {
    let status = client.call("echo", json!({"text": "x"})).await.status();
    assert!(status == 200 || status == 404, "{status}");
    status == 200
}

#[tokio::test]
async fn session_that_nobody_uses_gives_way_to_another() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let proxy = Proxy::start(upstream.url(), &[("max-sessions", "2")]);
    let (mut first, mut second) = (Client::new(&proxy), Client::new(&proxy));
    first.initialize().await;
    // Begun in vain: nothing follows.
    assert_eq!(Client::new(&proxy).post(initialize()).await.status(), 200);
    second.initialize().await;
    assert!(is_kept(&first).await, "the one goes that was never used");
    let mut third = Client::new(&proxy);
    third.initialize().await;
    assert!(!is_kept(&second).await, "then the one that was not used for the longest time");
    assert!(is_kept(&first).await && is_kept(&third).await);
    proxy.stop().await;
}

#[tokio::test]
async fn session_that_is_in_use_gives_way_to_none() {
    let upstream = Modern::start(Manner::default()).await;
    let proxy = Proxy::start(upstream.url(), &[("max-sessions", "1")]);
    let mut first = Client::new(&proxy);
    first.initialize().await;
    let stream = first.ask(Method::GET, None).await;
    assert_eq!(stream.status(), 200);
    let refused = Client::new(&proxy).post(initialize()).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(first.ask(Method::DELETE, None).await.status(), 200);
    Client::new(&proxy).initialize().await;
    drop(stream);
    proxy.stop().await;
}

#[tokio::test]
async fn client_has_as_many_as_one_client_may_and_leaves_those_of_others_alone() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let proxy = Proxy::start(upstream.url(), &[("max-sessions-per-principal", "1")]);
    let with = |subject: &str| Client::new(&proxy).with("authorization", &format!("Bearer {}", jwt(subject, "c2ln")));
    let (mut ann, mut ben, mut again) = (with("ann"), with("ben"), with("ann"));
    for client in [&mut ann, &mut ben, &mut again] {
        client.initialize().await;
    }
    assert!(!is_kept(&ann).await && is_kept(&ben).await && is_kept(&again).await);
    // Nobody in particular is many.
    let (mut one, mut two) = (Client::new(&proxy), Client::new(&proxy));
    one.initialize().await;
    two.initialize().await;
    assert!(is_kept(&one).await && is_kept(&two).await);
    proxy.stop().await;
}

#[tokio::test]
async fn address_has_as_many_as_one_address_may() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let options = [("max-sessions-per-address", "1"), ("trusted-proxy", "127.0.0.0/8")];
    let proxy = Proxy::start(upstream.url(), &options);
    let from = |address: &str| Client::new(&proxy).with("x-forwarded-for", address);
    let (mut one, mut other, mut again) = (from("2001:db8::1"), from("2001:db8:0:1::1"), from("2001:db8::2"));
    for client in [&mut one, &mut other, &mut again] {
        client.initialize().await;
    }
    assert!(!is_kept(&one).await && is_kept(&other).await && is_kept(&again).await);
    proxy.stop().await;
}
