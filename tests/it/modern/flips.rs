//! Servers that change their era while clients are with them: an upgrade, or a step back from one.

use serde_json::json;

use super::stage::{Client, NEWEST, Stage, everything, start};
use crate::support::Proxy;
use crate::support::modern::{Era, Legacy, Manner, Modern};

/// A server of the session era, and a client with a session.
async fn before_the_upgrade(legacy: Legacy) -> (Modern, Proxy, Client) {
    let manner = Manner { legacy, era: Era::Foreign, ..Manner::default() };
    let (upstream, proxy) = start(manner, &[]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    assert_eq!(client.echo_of_another_server("x").await, "session era: x");
    (upstream, proxy, client)
}

fn upgrade(upstream: &Modern, legacy: Legacy) {
    upstream.change(|manner| {
        manner.legacy = legacy;
        manner.era = Era::Served;
    });
}

#[tokio::test]
async fn upgrade_is_noticed_by_the_refusal_of_a_request_which_is_sent_again() {
    for (legacy, code) in
        [(Legacy::Unsupported, -32022), (Legacy::HeaderMismatch, -32020), (Legacy::InvalidParams, -32602)]
    {
        let (upstream, proxy, mut client) = before_the_upgrade(Legacy::Stateless).await;
        upgrade(&upstream, legacy);
        assert_eq!(client.echo_of_another_server("y").await, "y", "{legacy:?}");
        upstream.expect_refusals(&[code]);
        assert_eq!(client.echo_of_another_server("z").await, "z");
        assert_eq!(upstream.count(|seen| seen.rpc() == "tools/call"), 4, "one was sent twice");
        drop(client);
        let initialized = upstream.count(|seen| seen.rpc() == "initialize");
        let mut other = Client::connect(&proxy, NEWEST).await;
        other.handshake(everything(NEWEST)).await;
        assert_eq!(other.echo_of_another_server("z").await, "z");
        assert_eq!(upstream.count(|seen| seen.rpc() == "initialize"), initialized, "later sessions know");
        drop(other);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn upgrade_under_a_session_with_an_id_is_noticed_where_the_server_names_the_version() {
    let (upstream, proxy, mut client) = before_the_upgrade(Legacy::Stateful).await;
    upgrade(&upstream, Legacy::Unsupported);
    assert_eq!(client.echo_of_another_server("y").await, "y");
    upstream.expect_refusals(&[-32022]);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn session_goes_on_with_input_and_subscriptions_after_the_upgrade() {
    let (upstream, proxy, mut client) = before_the_upgrade(Legacy::Stateless).await;
    upgrade(&upstream, Legacy::Unsupported);
    let id = client.begin_call("elicit", json!({})).await;
    assert_eq!(client.message().await["method"], "notifications/tools/list_changed", "the server is another");
    let question = client.question("elicitation/create").await;
    upstream.expect_refusals(&[-32022]);
    client.reply(&question, super::stage::accepted("bob")).await;
    client.answer(id).await;
    upstream.wait_listeners(1).await;
    upstream.list_changed("tools").await;
    assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn step_back_to_sessions_is_noticed_and_the_handshake_made_again() {
    for legacy in [Legacy::Stateless, Legacy::Stateful] {
        let mut stage = Stage::open().await;
        stage.client.still_works().await;
        stage.upstream.change(|manner| {
            manner.legacy = legacy;
            manner.era = Era::Unsupported;
        });
        assert_eq!(stage.client.echo_of_another_server("y").await, "session era: y", "{legacy:?}");
        assert_eq!(stage.client.echo_of_another_server("z").await, "session era: z");
        let handshakes = stage.seen("initialize");
        assert_eq!(handshakes.len(), 2, "the first was the client's own");
        assert_eq!(handshakes[0].params(), handshakes[1].params());
        assert_eq!(stage.seen("notifications/initialized").len(), 1);
        stage.end().await;
    }
}

#[tokio::test]
async fn refusals_that_are_no_json_are_a_step_back_too_once_the_server_was_asked() {
    let mut stage = Stage::open().await;
    stage.client.still_works().await;
    let discovered = stage.seen("server/discover").len();
    stage.upstream.change(|manner| {
        manner.legacy = Legacy::Stateless;
        manner.era = Era::Text;
    });
    assert_eq!(stage.client.echo_of_another_server("y").await, "session era: y");
    assert!(stage.seen("server/discover").len() > discovered, "one refusal alone proves nothing");
    stage.end().await;
}

#[tokio::test]
async fn server_that_refuses_both_eras_is_not_asked_for_ever() {
    let manner = Manner { era: Era::Unsupported, ..Manner::default() };
    let (upstream, proxy) = start(manner, &[]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    let answer = client.initialize(json!({})).await;
    assert_eq!(answer["error"]["code"], -32022, "{answer}");
    assert!(upstream.seen().len() <= 3, "{:?}", upstream.methods());
    drop(client);
    proxy.stop().await;
    // It may have been asked whether it speaks HTTP+SSE.
    upstream.change(|manner| manner.era = Era::Served);
    drop(upstream);

    let mut stage = Stage::open().await;
    stage.client.still_works().await;
    let before = stage.upstream.seen().len();
    stage.upstream.change(|manner| manner.era = Era::Unsupported);
    let answer = stage.client.call("echo", json!({"text": "y"})).await;
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    let asked = stage.upstream.seen().len() - before;
    assert!(asked <= 5, "{:?}", stage.upstream.methods());
    stage.upstream.change(|manner| manner.era = Era::Served);
    drop(stage.client);
    stage.proxy.stop().await;
}
