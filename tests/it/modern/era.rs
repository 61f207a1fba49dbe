//! Which era a server is of: found by what it answers to the client's own `initialize`, told to operators, or set by them.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::stage::{Client, NEWEST, Stage, everything, start, text};
use crate::support::modern::{Era, Legacy, Manner, Modern};
use crate::support::script::{Got, Script, Scripted, Step, document, reply, stream};
use crate::support::{Behaviour, FakeUpstream, Proxy, http_client, within};

fn legacy(legacy: Legacy) -> Manner {
    Manner { legacy, ..Manner::default() }
}

/// What the server got but for subscriptions, which come when they come.
fn methods(upstream: &Modern) -> Vec<String> {
    upstream.methods().into_iter().filter(|method| method != "subscriptions/listen").collect()
}

async fn end(client: Client, proxy: Proxy) {
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn server_that_refuses_initialize_is_modern_at_the_price_of_one_request() {
    for manner in [Legacy::Unsupported, Legacy::Unknown, Legacy::InvalidParams, Legacy::HeaderMismatch] {
        let mut stage = Stage::manner(legacy(manner)).await;
        assert_eq!(text(&stage.client.call("echo", json!({"text": "x"})).await), "x");
        assert_eq!(methods(&stage.upstream), ["initialize", "server/discover", "tools/call"], "{manner:?}");
        stage.end().await;
    }
}

#[tokio::test]
async fn server_that_only_pretends_to_initialize_never_sees_a_request_of_that_era() {
    let (upstream, proxy) = start(legacy(Legacy::Strict), &[]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    let result = client.initialize(everything(NEWEST)).await["result"].clone();
    assert_eq!(result["serverInfo"]["name"], "dual", "answered by the server at once");
    client.notify("notifications/initialized", None).await;
    // At once: whatever is found out about the server is found out before.
    assert_eq!(text(&client.call("echo", json!({"text": "x"})).await), "x");
    let methods = methods(&upstream);
    assert_eq!(methods.iter().filter(|method| *method == "server/discover").count(), 1, "{methods:?}");
    assert_eq!(upstream.count(|seen| seen.rpc() == "tools/call"), 1);
    end(client, proxy).await;
}

#[tokio::test]
async fn server_of_both_eras_without_sessions_is_modern_after_initialize() {
    let (upstream, proxy) = start(legacy(Legacy::Stateless), &[]).await;
    for _ in 0..2 {
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(everything(NEWEST)).await;
        assert_eq!(text(&client.call("echo", json!({"text": "x"})).await), "x", "not by the session era");
        drop(client);
    }
    assert_eq!(upstream.count(|seen| seen.rpc() == "initialize"), 1, "the second knows");
    proxy.stop().await;
}

#[tokio::test]
async fn server_of_both_eras_with_sessions_keeps_them_at_no_price() {
    let (upstream, proxy) = start(legacy(Legacy::Stateful), &[]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    assert_eq!(text(&client.call("echo", json!({"text": "x"})).await), "session era: x");
    end(client, proxy).await;
    assert_eq!(upstream.count(|seen| seen.rpc() == "server/discover"), 0);
}

#[tokio::test]
async fn server_of_sessions_is_asked_nothing_else() {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    client.still_works().await;
    end(client, proxy).await;
    assert_eq!(upstream.methods(), ["initialize", "notifications/initialized", "tools/call"]);
}

#[tokio::test]
async fn server_without_sessions_is_asked_once_and_left_alone() {
    let upstream = FakeUpstream::start(Behaviour { sessions: false, sse: false, token: None }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    for _ in 0..2 {
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(everything(NEWEST)).await;
        client.still_works().await;
        drop(client);
    }
    proxy.stop().await;
    let asked = upstream.methods().iter().filter(|method| *method == "server/discover").count();
    assert_eq!(asked, 1, "{:?}", upstream.methods());
}

#[tokio::test]
async fn era_that_is_set_is_not_looked_for() {
    let (upstream, proxy) = start(Manner::default(), &[("era", "modern")]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    client.still_works().await;
    assert_eq!(methods(&upstream), ["server/discover", "tools/call"]);
    end(client, proxy).await;
    drop(upstream);

    let (upstream, proxy) = start(legacy(Legacy::Stateless), &[("era", "session")]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    assert_eq!(text(&client.call("echo", json!({"text": "x"})).await), "session era: x");
    assert_eq!(methods(&upstream), ["initialize", "notifications/initialized", "tools/call"]);
    end(client, proxy).await;
    drop(upstream);

    let (upstream, proxy) = start(Manner::default(), &[("era", "session")]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    let answer = client.initialize(json!({})).await;
    assert_eq!(answer["error"]["code"], -32022, "{answer}");
    assert_eq!(methods(&upstream), ["initialize"]);
    end(client, proxy).await;
}

#[tokio::test]
async fn preference_decides_where_a_server_offers_both() {
    for (prefer, expected) in [("modern", "x"), ("session", "session era: x")] {
        let (upstream, proxy) = start(legacy(Legacy::Stateful), &[("prefer", prefer)]).await;
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(everything(NEWEST)).await;
        assert_eq!(text(&client.call("echo", json!({"text": "x"})).await), expected);
        end(client, proxy).await;
        drop(upstream);
    }
}

#[tokio::test]
async fn preference_for_what_a_server_does_not_offer_does_no_harm() {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let proxy = Proxy::start(upstream.url(), &[("prefer", "modern")]);
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(everything(NEWEST)).await;
    client.still_works().await;
    end(client, proxy).await;
}

#[tokio::test]
async fn failures_are_no_evidence() {
    for status in [403, 429, 500, 503] {
        let (upstream, proxy) = start(Manner { broken: Some(status), ..Manner::default() }, &[]).await;
        let mut client = Client::connect(&proxy, NEWEST).await;
        let answer = client.initialize(json!({})).await;
        assert!(answer["error"]["message"].as_str().expect("a text").contains(&status.to_string()), "{answer}");
        assert_eq!(upstream.methods(), ["initialize"], "{status}");
        upstream.change(|manner| manner.broken = None);
        drop(client);
        let mut client = Client::connect(&proxy, NEWEST).await;
        client.handshake(json!({})).await;
        client.still_works().await;
        end(client, proxy).await;
    }
}

#[tokio::test]
async fn credential_that_is_turned_down_is_no_evidence() {
    let (upstream, proxy) = start(Manner { token: Some("good"), ..Manner::default() }, &[]).await;
    let client = Client::connect_with(&proxy, NEWEST, &[("authorization", "Bearer bad")]).await;
    let params = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
    let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let posted = client.inner.post_text(message.to_string(), &[]).await;
    assert_eq!(
        (posted.status.as_u16(), &posted.headers["www-authenticate"]),
        (401, &"Bearer".parse().expect("a value"))
    );
    assert_eq!(upstream.methods(), ["initialize"]);
    end(client, proxy).await;
}

/// What a client is told by a server that is scripted, in answer to `initialize`.
async fn told(play: impl Fn(&Got) -> Option<Script> + Send + Sync + 'static) -> (Value, Vec<String>) {
    let upstream = Scripted::start(play).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::connect(&proxy, NEWEST).await;
    let answer = client.initialize(json!({})).await;
    end(client, proxy).await;
    let asked = upstream.got().iter().map(|got| format!("{} {}", got.method, got.rpc())).collect();
    (answer, asked)
}

#[tokio::test]
async fn server_that_speaks_sse_itself_is_told_to_the_operator() {
    let (answer, asked) = told(|got| {
        Some(match got.method.as_str() {
            "GET" => stream("event: endpoint\ndata: /messages?sessionId=1\n\n"),
            _ => vec![reply(405, &[("content-type", "text/plain")], "Method Not Allowed")],
        })
    })
    .await;
    let message = answer["error"]["message"].as_str().expect("a text");
    assert!(message.contains("HTTP+SSE"), "{message}");
    assert_eq!(asked, ["POST initialize", "POST server/discover", "GET "]);
}

#[tokio::test]
async fn error_that_is_about_the_client_is_passed_on() {
    let (answer, _) = told(|got| {
        let error = |code: i64, message: &str| {
            let body = json!({"jsonrpc": "2.0", "id": got.body["id"], "error": {"code": code, "message": message}});
            vec![reply(400, &[("content-type", "application/json")], body.to_string())]
        };
        match got.rpc() {
            "initialize" => Some(error(-32602, "this client is too old")),
            "server/discover" => Some(error(-32000, "Bad Request: Server not initialized")),
            _ => None,
        }
    })
    .await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["message"]),
        (&json!(-32602), &json!("this client is too old"))
    );
}

#[tokio::test]
async fn discovery_that_never_comes_does_not_hold_up_the_client() {
    let upstream = Scripted::start(|got| {
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": got.body["id"], "result": result}).to_string();
        match got.rpc() {
            "initialize" => Some(vec![document(result(json!({"protocolVersion": NEWEST, "capabilities": {},
                "serverInfo": {"name": "s", "version": "1"}})))]),
            "server/discover" => Some(vec![Step::Hold]),
            _ => None,
        }
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(json!({})).await;
    client.still_works().await;
    end(client, proxy).await;
}

/// What operators are told.
async fn status(proxy: &Proxy) -> Value {
    let answer = within("the status", http_client().get(proxy.admin_url("/status")).send()).await.expect("an answer");
    serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
}

#[tokio::test]
async fn status_tells_the_era_and_what_was_set() {
    let admin = ("admin", "127.0.0.1:0");
    let (upstream, proxy) = start(Manner::default(), &[admin]).await;
    let before = status(&proxy).await;
    assert_eq!(
        (&before["era"], &before["era_option"], &before["prefer"]),
        (&json!("unknown"), &json!("auto"), &json!("session"))
    );
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(json!({})).await;
    assert_eq!(status(&proxy).await["era"], "modern");
    end(client, proxy).await;
    drop(upstream);

    let manner = Manner { legacy: Legacy::Stateful, era: Era::Foreign, ..Manner::default() };
    let (upstream, proxy) = start(manner, &[admin, ("prefer", "modern")]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    client.handshake(json!({})).await;
    let told = status(&proxy).await;
    assert_eq!((&told["era"], &told["prefer"]), (&json!("session"), &json!("modern")));
    end(client, proxy).await;
    drop(upstream);

    let (upstream, proxy) = start(Manner::default(), &[admin, ("era", "modern")]).await;
    let told = status(&proxy).await;
    assert_eq!((&told["era"], &told["era_option"]), (&json!("modern"), &json!("modern")), "before anybody came");
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn banner_tells_the_era_that_was_set() {
    for (options, expected) in [
        (&[][..], "era auto, prefers session"),
        (&["--era", "modern"][..], "era modern"),
        (&["--prefer", "modern"][..], "era auto, prefers modern"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        command.env("SSE_SUNSET_ADMIN", "off").kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped());
        command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(["--log-format", "human"]).args(options).spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = within("the line", async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("a line");
                if line.starts_with("  upstream ") {
                    return line;
                }
            }
        })
        .await;
        assert!(line.contains(expected), "{line}");
    }
}

#[tokio::test]
async fn era_that_is_none_is_refused_at_the_start() {
    for option in [["--era", "bronze"], ["--prefer", "auto"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        command.env("SSE_SUNSET_ADMIN", "off").stdin(Stdio::null());
        command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0"]).args(option);
        let output = within("the end", command.output()).await.expect("the binary");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(option[0]) && said.contains("modern"), "{said}");
    }
}
