//! Sessions that go on: clients that come back, credentials that run out, streams that are shared.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::stage::{Client, NEWEST, Stage, accepted, everything, gathered, start, text};
use crate::support::modern::{Legacy, Manner, Modern, RESOURCE};
use crate::support::{LegacyClient, Proxy};

const LINGER: (&str, &str) = ("linger", "15s");

async fn lingering() -> (Modern, Proxy, Client) {
    let (upstream, proxy) = start(Manner::default(), &[LINGER]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    (upstream, proxy, client)
}

/// The client loses its stream and comes back with the id of its last event.
async fn comes_back(proxy: &Proxy, client: Client) -> Client {
    let last = client.inner.last_event_id();
    let inner = LegacyClient::connect(proxy, &[("last-event-id", &last)]).await;
    assert_eq!(inner.endpoint, client.inner.endpoint, "its own session");
    client.with_stream(inner)
}

#[tokio::test]
async fn client_that_comes_back_answers_what_it_was_asked_before() {
    let (upstream, proxy, mut client) = lingering().await;
    let id = client.begin_call("elicit", json!({})).await;
    let question = client.question("elicitation/create").await;
    let mut client = comes_back(&proxy, client).await;
    client.reply(&question, accepted("bob")).await;
    assert_eq!(gathered(&client.answer(id).await), json!({"who": accepted("bob")}));
    drop(client);
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn client_that_comes_back_still_hears_of_changes() {
    let (upstream, proxy, mut client) = lingering().await;
    client.ask("resources/subscribe", json!({"uri": RESOURCE})).await;
    let mut client = comes_back(&proxy, client).await;
    assert_eq!(upstream.updated(RESOURCE).await, 1);
    assert_eq!(client.message().await["params"]["uri"], RESOURCE);
    drop(client);
    proxy.stop().await;
    drop(upstream);
}

/// As TypeScript does: a new stream, and on with the calls (WIRE, Stream 6).
#[tokio::test]
async fn client_that_goes_on_without_a_handshake_gets_one_made() {
    for legacy in [Legacy::Unsupported, Legacy::Strict] {
        let (upstream, proxy) = start(Manner { legacy, ..Manner::default() }, &[]).await;
        let mut client = Client::connect_with(&proxy, NEWEST, &[("mcp-protocol-version", NEWEST)]).await;
        assert_eq!(client.echo_of_another_server("x").await, "x");
        let call = upstream.wait_for("the call", |seen| seen.calls("echo")).await;
        assert!(call.meta("clientInfo").is_object() && call.meta("clientCapabilities").is_object());
        drop(client);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn credential_that_runs_out_is_renewed_by_the_client() {
    let (upstream, proxy) = start(Manner { token: Some("old"), ..Manner::default() }, &[]).await;
    let mut client = Client::connect_with(&proxy, NEWEST, &[("authorization", "Bearer old")]).await;
    client.handshake(everything(NEWEST)).await;
    client.still_works().await;
    upstream.change(|manner| manner.token = Some("new"));
    let call = |id: u64| {
        let params = json!({"name": "echo", "arguments": {"text": "x"}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let posted = client.inner.post_text(call(1), &[]).await;
    assert_eq!(
        (posted.status.as_u16(), &posted.headers["www-authenticate"]),
        (401, &"Bearer".parse().expect("a value"))
    );
    client.expect(&json!(1), "tools/call");
    let posted = client.inner.post_text(call(1), &[("authorization", "Bearer new")]).await;
    assert_eq!(posted.status, 202);
    assert_eq!(text(&client.answer(1).await), "x");
    drop(client);
    proxy.stop().await;
    assert_eq!(upstream.count(|seen| seen.rpc() == "initialize"), 1);
}

fn bearer(subject: &str) -> String {
    let claims = format!(r#"{{"iss":"https://as.example","sub":"{subject}","client_id":"it"}}"#);
    format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// Who the server is is known: `initialize` is answered here, and nobody has looked at the token that came with it.
#[tokio::test]
async fn session_is_not_anybodys_by_what_is_answered_here() {
    let (ann, ben): (&str, &'static str) = (&bearer("ann"), bearer("ben").leak());
    let token = ben.strip_prefix("Bearer ").expect("a bearer token");
    let (upstream, proxy) =
        start(Manner { ttl_ms: 3_600_000, cache_scope: "public", ..Manner::default() }, &[("opaque-rotation", "deny")])
            .await;
    let mut first = Client::connect(&proxy, NEWEST).await;
    first.handshake(everything(NEWEST)).await;
    upstream.change(|manner| manner.token = Some(token));
    let list = json!({"jsonrpc": "2.0", "id": "list", "method": "tools/list"}).to_string();
    for expired in [Some(ann), None] {
        // TypeScript shows its token on POST only.
        let mut client = Client::connect(&proxy, NEWEST).await;
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": NEWEST,
            "capabilities": {}, "clientInfo": {"name": "it-client", "version": "1.0"}}});
        let headers: Vec<_> = expired.map(|token| ("authorization", token)).into_iter().collect();
        client.expect(&json!(0), "initialize");
        assert_eq!(client.inner.post_text(initialize.to_string(), &headers).await.status, 202);
        assert!(client.message().await["result"].is_object());
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        assert_eq!(client.inner.post_text(initialized, &headers).await.status, 202);
        assert_eq!(client.inner.post_text(list.clone(), &headers).await.status, 401, "{expired:?}");
        client.expect(&json!("list"), "tools/list");
        let logged_in = [("authorization", ben)];
        assert_eq!(client.inner.post_text(list.clone(), &logged_in).await.status, 202, "{expired:?}");
        assert!(client.message().await["result"].is_object());
        // Now it is.
        let stranger = [("authorization", ann)];
        assert_eq!(client.inner.post_text(list.clone(), &stranger).await.status, 404, "{expired:?}");
        drop(client);
    }
    assert_eq!(upstream.count(|seen| seen.rpc() == "server/discover"), 1, "the others were answered here");
    drop(first);
    proxy.stop().await;
}

/// Nor by the handshake that is made here for a client that had one before.
#[tokio::test]
async fn session_is_not_anybodys_by_a_handshake_that_was_made_here() {
    let (ann, ben): (&str, &'static str) = (&bearer("ann"), bearer("ben").leak());
    let token = ben.strip_prefix("Bearer ").expect("a bearer token");
    let manner = Manner { ttl_ms: 3_600_000, cache_scope: "public", ..Manner::default() };
    let (upstream, proxy) = start(manner, &[]).await;
    let mut first = Client::connect(&proxy, NEWEST).await;
    first.handshake(everything(NEWEST)).await;
    upstream.change(|manner| manner.token = Some(token));
    let mut client = Client::connect_with(&proxy, NEWEST, &[("mcp-protocol-version", NEWEST)]).await.inner;
    let list = json!({"jsonrpc": "2.0", "id": "list", "method": "tools/list"}).to_string();
    assert_eq!(client.post_text(list.clone(), &[("authorization", ann)]).await.status, 401);
    assert_eq!(client.post_text(list.clone(), &[("authorization", ben)]).await.status, 202);
    assert!(client.answer("list").await["result"].is_object());
    assert_eq!(upstream.count(|seen| seen.rpc() == "server/discover"), 1, "the handshake was made here");
    drop((first, client));
    proxy.stop().await;
}

#[tokio::test]
async fn credential_renewed_in_the_middle_of_a_conversation_is_used_for_the_rest() {
    let (upstream, proxy) = start(Manner { token: Some("old"), ..Manner::default() }, &[]).await;
    let mut client = Client::connect_with(&proxy, NEWEST, &[("authorization", "Bearer old")]).await;
    client.handshake(everything(NEWEST)).await;
    let id = client.begin_call("elicit", json!({})).await;
    let question = client.question("elicitation/create").await;
    upstream.change(|manner| manner.token = Some("new"));
    let reply = json!({"jsonrpc": "2.0", "id": question["id"], "result": accepted("bob")}).to_string();
    assert_eq!(client.inner.post_text(reply, &[("authorization", "Bearer new")]).await.status, 202);
    assert_eq!(gathered(&client.answer(id).await), json!({"who": accepted("bob")}));
    drop(client);
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn credential_that_runs_out_in_the_middle_of_a_conversation_ends_the_call() {
    let (upstream, proxy) = start(Manner { token: Some("old"), ..Manner::default() }, &[]).await;
    let mut client = Client::connect_with(&proxy, NEWEST, &[("authorization", "Bearer old")]).await;
    client.handshake(everything(NEWEST)).await;
    let id = client.begin_call("elicit", json!({})).await;
    let question = client.question("elicitation/create").await;
    upstream.change(|manner| manner.token = Some("new"));
    client.reply(&question, accepted("bob")).await;
    let answer = client.answer(id).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["data"]["reason"]),
        (&json!(-32001), &json!("unauthorized"))
    );
    assert!(!answer.to_string().contains("Bearer"), "{answer}");
    // By the challenge of the next POST the client learns how to renew it.
    let call = json!({"jsonrpc": "2.0", "id": "next", "method": "tools/list"}).to_string();
    let posted = client.inner.post_text(call, &[]).await;
    assert_eq!(posted.status, 401);
    assert_eq!(posted.headers["www-authenticate"], "Bearer");
    drop(client);
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn sessions_of_one_credential_share_what_they_listen_to_and_those_of_others_do_not() {
    for (tokens, most) in [(["a", "a", "a"], 2), (["a", "b", "c"], 4)] {
        let (upstream, proxy) = start(Manner::default(), &[]).await;
        let mut clients = Vec::new();
        for token in tokens {
            let token = format!("Bearer {token}");
            let mut client = Client::connect_with(&proxy, NEWEST, &[("authorization", &token)]).await;
            client.handshake(everything(NEWEST)).await;
            clients.push(client);
        }
        let different = if tokens[0] == tokens[1] { 1 } else { 3 };
        upstream.wait_listeners(different).await;
        assert!(upstream.most_listeners() <= most, "{}", upstream.most_listeners());
        upstream.list_changed("tools").await;
        for client in &mut clients {
            assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
        }
        let listens: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.rpc() == "subscriptions/listen").collect();
        assert!(listens.iter().all(|seen| seen.headers.contains_key("authorization")));
        // One goes; the others still hear.
        clients.pop();
        upstream.list_changed("prompts").await;
        for client in &mut clients {
            assert_eq!(client.message().await["method"], "notifications/prompts/list_changed");
        }
        drop(clients);
        proxy.stop().await;
        upstream.wait_listeners(0).await;
    }
}

#[tokio::test]
async fn many_calls_of_many_clients_go_their_own_ways() {
    let (upstream, proxy) = start(Manner::default(), &[]).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(everything(NEWEST)).await;
        clients.push((number, client));
    }
    for (number, client) in &mut clients {
        let mut begun = Vec::new();
        for turn in 0..5 {
            begun.push((client.begin_call("echo", json!({"text": format!("{number}-{turn}")})).await, turn));
        }
        let mut answers: Vec<Value> = Vec::new();
        for _ in 0..5 {
            answers.push(client.message().await);
        }
        for (id, turn) in begun {
            let answer = answers.iter().find(|answer| answer["id"] == id).expect("an answer");
            assert_eq!(text(answer), format!("{number}-{turn}"));
        }
    }
    drop(clients);
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn server_that_restarts_is_called_again_without_ado() {
    let mut stage = Stage::open().await;
    stage.client.still_works().await;
    stage.upstream.change(|manner| manner.broken = Some(502));
    assert!(stage.client.call("echo", json!({"text": "x"})).await["error"].is_object());
    stage.upstream.change(|manner| manner.broken = None);
    stage.client.still_works().await;
    assert_eq!(stage.seen("initialize").len(), 1, "there is no session that could be lost");
    stage.end().await;
}
