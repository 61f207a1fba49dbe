//! `initialize` from `server/discover`: what the client is told, and how often the server is asked.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Client, NEWEST, Stage, everything, start};
use crate::support::modern::Manner;
use crate::support::pass;
use crate::support::schema::LEGACY;

#[tokio::test]
async fn initialize_is_answered_with_the_clients_own_version() {
    for version in LEGACY {
        let (upstream, proxy) = start(Manner::default(), &[]).await;
        let mut client = Client::connect(&proxy, version).await;
        let result = client.initialize(everything(version)).await["result"].clone();
        assert_eq!(result["protocolVersion"], version);
        assert_eq!(result["serverInfo"], json!({"name": "modern", "version": "7"}));
        assert_eq!(result["instructions"], "be kind");
        client.notify("notifications/initialized", None).await;
        client.still_works().await;
        drop(client);
        proxy.stop().await;
        drop(upstream);
    }
}

#[tokio::test]
async fn initialize_with_a_version_nobody_knows_gets_the_newest_legacy_one() {
    for asked in ["2026-07-28", "1999-01-01"] {
        let (upstream, proxy) = start(Manner::default(), &[]).await;
        let mut client = Client::connect(&proxy, NEWEST).await;
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
        assert_eq!(client.ask("initialize", params).await["result"]["protocolVersion"], NEWEST);
        drop(client);
        proxy.stop().await;
        drop(upstream);
    }
}

#[tokio::test]
async fn capabilities_are_those_of_the_server_without_what_no_legacy_client_knows() {
    let manner = Manner {
        capabilities: json!({"tools": {"listChanged": true}, "completions": {}, "experimental": {"x": {}},
            "extensions": {"io.modelcontextprotocol/tasks": {}}, "tasks": {"list": {}}}),
        ..Manner::default()
    };
    let (upstream, proxy) = start(manner, &[]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    let told = client.handshake(json!({})).await["capabilities"].clone();
    assert_eq!(told, json!({"tools": {"listChanged": true}, "completions": {}, "experimental": {"x": {}}}));
    drop(client);
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn server_without_a_name_is_called_by_its_host() {
    for (info, name, version) in [
        (None, "127.0.0.1", Some("0")),
        // rmcp and Python leave the version empty.
        (Some(json!({"name": "n", "version": ""})), "n", None),
    ] {
        let (upstream, proxy) = start(Manner { server_info: info, ..Manner::default() }, &[]).await;
        let mut client = Client::connect(&proxy, NEWEST).await;
        let told = client.handshake(json!({})).await["serverInfo"].clone();
        assert!(told["name"].as_str().expect("a name").starts_with(name), "{told}");
        assert!(told["version"].is_string() && version.is_none_or(|version| told["version"] == version), "{told}");
        drop(client);
        proxy.stop().await;
        drop(upstream);
    }
}

#[tokio::test]
async fn server_is_told_who_the_client_is_and_what_it_can() {
    let mut stage = Stage::open().await;
    stage.client.still_works().await;
    let call = stage.seen("tools/call").remove(0);
    assert_eq!(call.meta("clientInfo"), &json!({"name": "it-client", "version": "1.0"}));
    let capabilities = call.meta("clientCapabilities");
    assert!(capabilities["sampling"].is_object() && capabilities["roots"].is_object(), "{capabilities}");
    assert!(capabilities["elicitation"]["form"].is_object(), "{capabilities}");
    stage.end().await;
}

/// How often the server is asked who it is, by clients with these tokens, one after the other.
async fn discoveries(ttl_ms: u64, cache_scope: &'static str, tokens: &[&'static str], between: Duration) -> usize {
    let (upstream, proxy) = start(Manner { ttl_ms, cache_scope, ..Manner::default() }, &[]).await;
    for token in tokens {
        let token = format!("Bearer {token}");
        let mut client = Client::connect_with(&proxy, NEWEST, &[("authorization", &token)]).await;
        client.handshake(json!({})).await;
        client.still_works().await;
        pass(between).await;
    }
    proxy.stop().await;
    upstream.count(|seen| seen.rpc() == "server/discover")
}

#[tokio::test]
async fn discovery_is_asked_for_once_while_it_is_fresh() {
    assert_eq!(discoveries(3_600_000, "public", &["a", "a", "a"], Duration::ZERO).await, 1);
    assert_eq!(discoveries(3_600_000, "public", &["a", "b"], Duration::ZERO).await, 1, "it is the same for everybody");
    assert_eq!(discoveries(3_600_000, "private", &["a", "a"], Duration::ZERO).await, 1);
}

#[tokio::test]
async fn discovery_that_is_stale_or_anothers_is_asked_for_again() {
    assert_eq!(discoveries(60_000, "public", &["a", "a"], Duration::from_secs(61)).await, 2);
    assert_eq!(
        discoveries(3_600_000, "private", &["a", "b"], Duration::ZERO).await,
        2,
        "what one may see, another may not"
    );
}

/// A key in another header is a credential as much as a token is.
#[tokio::test]
async fn private_discovery_of_one_api_key_is_not_shown_to_another() {
    let (upstream, proxy) = start(Manner { ttl_ms: 3_600_000, ..Manner::default() }, &[]).await;
    for (key, asked) in [("ann", 1), ("ann", 1), ("ben", 2), ("ann", 2)] {
        let mut client = Client::connect_with(&proxy, NEWEST, &[("x-api-key", key)]).await;
        client.handshake(json!({})).await;
        client.still_works().await;
        assert_eq!(upstream.count(|seen| seen.rpc() == "server/discover"), asked, "{key}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn second_session_costs_no_probe() {
    let (upstream, proxy) = start(Manner { ttl_ms: 3_600_000, ..Manner::default() }, &[]).await;
    for expected in [1, 1] {
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(json!({})).await;
        client.still_works().await;
        assert_eq!(upstream.count(|seen| seen.rpc() == "initialize"), expected, "the era is known by now");
    }
    let methods: Vec<Value> = upstream.methods().into_iter().map(Value::from).collect();
    let calls = methods.iter().filter(|method| **method == "tools/call").count();
    assert_eq!(calls, 2, "{methods:?}");
    proxy.stop().await;
}
