//! `subscriptions/listen`: what the legacy client gets without ever having heard of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Client, NEWEST, Stage, everything, start};
use crate::support::modern::{Ending, Goodbye, Listening, Manner, RESOURCE};
use crate::support::pass;

const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

fn lists() -> Value {
    json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true})
}

fn lists_and(uris: &[&str]) -> Value {
    let mut filter = lists();
    filter["resourceSubscriptions"] = json!(uris);
    filter
}

/// The methods of the next `count` messages, in alphabetical order.
async fn methods(client: &mut Client, count: usize) -> Vec<String> {
    let mut methods = Vec::new();
    for _ in 0..count {
        methods.push(client.message().await["method"].as_str().expect("a notification").to_owned());
    }
    methods.sort();
    methods
}

#[tokio::test]
async fn lists_that_change_are_announced() {
    let mut stage = Stage::open().await;
    stage.upstream.wait_listening(&lists()).await;
    for kind in LISTS {
        assert_eq!(stage.upstream.list_changed(kind).await, 1);
        let message = stage.client.message().await;
        assert_eq!(message["method"], format!("notifications/{kind}/list_changed"));
        assert!(message["params"].get("_meta").is_none(), "{message}");
    }
    stage.end().await;
}

#[tokio::test]
async fn only_what_the_server_advertises_is_listened_to() {
    let capabilities = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": false}, "resources": {}});
    let stage = Stage::manner(Manner { capabilities, ..Manner::default() }).await;
    stage.upstream.wait_listening(&json!({"toolsListChanged": true})).await;
    stage.end().await;
}

#[tokio::test]
async fn server_that_advertises_no_changes_is_not_listened_to() {
    let capabilities = json!({"tools": {}, "resources": {}});
    let mut stage = Stage::manner(Manner { capabilities, ..Manner::default() }).await;
    stage.client.still_works().await;
    let answer = stage.client.ask("resources/subscribe", json!({"uri": RESOURCE})).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    assert!(stage.seen("subscriptions/listen").is_empty());
    stage.end().await;
}

#[tokio::test]
async fn resource_is_subscribed_to_by_a_new_stream_before_the_old_one_is_closed() {
    let mut stage = Stage::open().await;
    stage.upstream.wait_listening(&lists()).await;
    assert_eq!(stage.client.ask("resources/subscribe", json!({"uri": RESOURCE})).await["result"], json!({}));
    stage.upstream.wait_listening(&lists_and(&[RESOURCE])).await;
    let listens = stage.seen("subscriptions/listen");
    assert_eq!(listens.len(), 2);
    assert_eq!(stage.upstream.ending(&listens[0]).await, Ending::Abandoned);
    assert_eq!(stage.upstream.most_listeners(), 2, "for a moment both were open: no gap");
    assert_eq!(stage.upstream.updated(RESOURCE).await, 1);
    let message = stage.client.message().await;
    assert_eq!(
        (&message["method"], &message["params"]),
        (&json!("notifications/resources/updated"), &json!({"uri": RESOURCE}))
    );

    assert_eq!(stage.client.ask("resources/unsubscribe", json!({"uri": RESOURCE})).await["result"], json!({}));
    stage.upstream.wait_listening(&lists()).await;
    assert_eq!(stage.upstream.updated(RESOURCE).await, 0);
    stage.end().await;
}

#[tokio::test]
async fn subscribing_twice_is_one_subscription() {
    let mut stage = Stage::open().await;
    for _ in 0..2 {
        assert_eq!(stage.client.ask("resources/subscribe", json!({"uri": RESOURCE})).await["result"], json!({}));
    }
    stage.upstream.wait_listening(&lists_and(&[RESOURCE])).await;
    assert!(stage.seen("subscriptions/listen").len() <= 2);
    let answer = stage.client.ask("resources/unsubscribe", json!({"uri": "file:///other"})).await;
    assert_eq!(answer["result"], json!({}));
    assert_eq!(stage.upstream.updated(RESOURCE).await, 1);
    assert_eq!(methods(&mut stage.client, 1).await, ["notifications/resources/updated"]);
    stage.end().await;
}

#[tokio::test]
async fn update_goes_to_those_who_subscribed_to_it() {
    let (upstream, proxy) = start(Manner::default(), &[]).await;
    let (mut one, mut two) = (Client::connect(&proxy, NEWEST).await, Client::connect(&proxy, NEWEST).await);
    one.handshake(everything(NEWEST)).await;
    two.handshake(everything(NEWEST)).await;
    one.ask("resources/subscribe", json!({"uri": RESOURCE})).await;
    two.ask("resources/subscribe", json!({"uri": "file:///other"})).await;
    upstream
        .until("both", |server| {
            let wanted = |uri: &str| {
                let has = |filter: &Value| {
                    filter["resourceSubscriptions"].as_array().is_some_and(|all| all.contains(&json!(uri)))
                };
                server.listening().values().any(has)
            };
            (wanted(RESOURCE) && wanted("file:///other")).then_some(())
        })
        .await;
    upstream.updated(RESOURCE).await;
    upstream.updated("file:///other").await;
    assert_eq!(one.message().await["params"]["uri"], RESOURCE);
    assert_eq!(two.message().await["params"]["uri"], "file:///other");
    one.still_works().await;
    two.still_works().await;
    drop((one, two));
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn subset_that_the_server_grants_is_all_there_is() {
    let allowed = json!({"toolsListChanged": true, "resourceSubscriptions": [RESOURCE]});
    let mut stage = Stage::manner(Manner { listening: Listening::Only(allowed), ..Manner::default() }).await;
    stage.upstream.wait_listening(&json!({"toolsListChanged": true})).await;
    assert_eq!(stage.client.ask("resources/subscribe", json!({"uri": RESOURCE})).await["result"], json!({}));
    let answer = stage.client.ask("resources/subscribe", json!({"uri": "file:///not-granted"})).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    stage.upstream.list_changed("tools").await;
    assert_eq!(methods(&mut stage.client, 1).await, ["notifications/tools/list_changed"]);
    stage.end().await;
}

#[tokio::test]
async fn server_that_grants_nothing_is_not_asked_again_and_again() {
    for listening in [Listening::Nothing, Listening::Unsupported] {
        let mut stage = Stage::manner(Manner { listening, ..Manner::default() }).await;
        stage.upstream.wait_for("the attempt", |seen| seen.rpc() == "subscriptions/listen").await;
        for _ in 0..3 {
            stage.client.still_works().await;
            pass(Duration::from_secs(120)).await;
        }
        stage.client.still_works().await;
        assert_eq!(stage.seen("subscriptions/listen").len(), 1);
        let answer = stage.client.ask("resources/subscribe", json!({"uri": RESOURCE})).await;
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        assert!(stage.seen("subscriptions/listen").len() <= 2);
        stage.end().await;
    }
}

#[tokio::test]
async fn stream_that_is_lost_is_opened_again_and_the_gap_announced() {
    for goodbye in [Goodbye::Nothing, Goodbye::Result, Goodbye::Cancelled] {
        let mut stage = Stage::open().await;
        stage.client.ask("resources/subscribe", json!({"uri": RESOURCE})).await;
        let first = stage.upstream.wait_listening(&lists_and(&[RESOURCE])).await;
        stage.upstream.end_listening(goodbye).await;
        let second = stage.upstream.wait_listening(&lists_and(&[RESOURCE])).await;
        assert!(second > first);
        let expected = [
            "notifications/prompts/list_changed",
            "notifications/resources/list_changed",
            "notifications/resources/updated",
            "notifications/tools/list_changed",
        ];
        assert_eq!(methods(&mut stage.client, 4).await, expected, "{goodbye:?}");
        stage.client.still_works().await;
        stage.end().await;
    }
}

#[tokio::test]
async fn server_that_cannot_be_listened_to_for_a_while_is_not_stormed() {
    let mut stage = Stage::open().await;
    stage.upstream.wait_listening(&lists()).await;
    stage.upstream.change(|manner| manner.listening = Listening::Limit(0));
    stage.upstream.end_listening(Goodbye::Nothing).await;
    for _ in 0..30 {
        pass(Duration::from_secs(1)).await;
        stage.client.still_works().await;
    }
    let attempts = stage.seen("subscriptions/listen").len();
    assert!((2..=15).contains(&attempts), "{attempts} attempts in half a minute");
    stage.upstream.change(|manner| manner.listening = Listening::All);
    pass(Duration::from_secs(120)).await;
    stage.upstream.wait_listening(&lists()).await;
    assert_eq!(methods(&mut stage.client, 3).await.len(), 3, "the gap is announced");
    stage.end().await;
}

#[tokio::test]
async fn sessions_of_one_server_find_room_where_that_is_scarce() {
    let manner = Manner { listening: Listening::Limit(2), ..Manner::default() };
    let (upstream, proxy) = start(manner, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(everything(NEWEST)).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.still_works().await;
    }
    assert!((1..=2).contains(&upstream.listening().len()));
    drop(clients);
    proxy.stop().await;
    upstream.wait_listeners(0).await;
}
