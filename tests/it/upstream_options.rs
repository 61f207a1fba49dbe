//! The way to the upstream as its operator wants it: headers, host, authorities, a client certificate, HTTP/2.

use std::path::PathBuf;

use http::Version;
use serde_json::{Value, json};
use sse_sunset::config::{self, Given, Origin, Raw};

use crate::support::tls::Authority;
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, Way, stuck};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

/// A folder with these files; the folder goes with the first of the pair.
fn files(texts: &[(&str, &str)]) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = texts.iter().map(|(name, text)| {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    });
    let paths = paths.collect();
    (folder, paths)
}

/// A whole conversation, the GET stream included.
async fn converse(upstream: &FakeUpstream, options: &[(&'static str, &str)]) {
    let proxy = Proxy::start(upstream.url(), options);
    let mut client = proxy.client().await;
    assert!(client.initialize().await["result"].is_object());
    client.call(1, "progress", json!({})).await;
    let messages = client.until_answer(1).await;
    assert!(messages.len() > 1 && messages.last().expect("an answer")["result"].is_object(), "{messages:?}");
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;
    assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
    drop(client);
    proxy.stop().await;
}

/// What a client is told by `initialize`.
async fn refused(upstream: &FakeUpstream, options: &[(&'static str, &str)]) -> Value {
    let proxy = Proxy::start(upstream.url(), options);
    let mut client = proxy.client().await;
    let answer = client.initialize().await;
    drop(client);
    proxy.stop().await;
    answer["error"].clone()
}

#[tokio::test]
async fn headers_of_the_operator_go_with_every_request_instead_of_the_clients() {
    let upstream = FakeUpstream::start(SSE).await;
    let (_folder, paths) = files(&[("key", "from a file\n")]);
    let header =
        format!("X-Functions-Key: @{}\nx-api-key: the operator's, with a comma\nx-twice: 1\nx-twice: 2", paths[0]);
    let values: Vec<&str> = header.split('\n').collect();
    let proxy = Proxy::start_with(upstream.url(), |raw: &mut Raw| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        raw.insert("upstream-header", Given { values, origin: Origin::Flag });
    });
    let mut client = LegacyClient::connect(&proxy, &[("x-api-key", "the client's"), ("x-other", "kept")]).await;
    client.initialize().await;
    upstream.wait_for("the GET stream", |seen| seen.method == http::Method::GET).await;
    drop(client);
    proxy.stop().await;
    let seen = upstream.seen();
    assert!(seen.len() >= 4, "{seen:?}");
    for seen in seen {
        assert_eq!(seen.headers["x-functions-key"], "from a file", "{seen:?}");
        assert_eq!(seen.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
        let keys: Vec<_> = seen.headers.get_all("x-api-key").iter().collect();
        assert_eq!(keys, ["the operator's, with a comma"]);
        assert_eq!(seen.headers["x-other"], "kept");
    }
}

#[tokio::test]
async fn host_can_be_named_for_servers_that_listen_to_some_only() {
    let upstream = FakeUpstream::start(SSE).await;
    converse(&upstream, &[("upstream-host", "mcp.example.com:8443")]).await;
    for seen in upstream.seen() {
        assert_eq!(seen.headers.get_all("host").iter().collect::<Vec<_>>(), ["mcp.example.com:8443"]);
    }
}

#[tokio::test]
async fn server_of_a_private_authority_is_trusted_when_the_authority_is() {
    let authority = Authority::new();
    let way = Way { tls: Some(authority.acceptor(false, false)), http2: false };
    let upstream = FakeUpstream::start_over(way, SSE).await;
    let (_folder, paths) = files(&[("ca.pem", &authority.pem()), ("other.pem", &Authority::new().pem())]);
    for options in [&[][..], &[("upstream-ca", &*paths[1])]] {
        let error = refused(&upstream, options).await;
        assert_eq!(error["data"]["reason"], "upstream_unavailable", "{error}");
        let text = error["message"].as_str().expect("a text");
        assert!(text.contains("certificate") && text.contains("was not sent"), "it says what is wrong: {text}");
    }
    assert!(upstream.seen().is_empty());
    converse(&upstream, &[("upstream-ca", &paths[0])]).await;
}

#[tokio::test]
async fn server_that_wants_a_client_certificate_gets_it() {
    let authority = Authority::new();
    let way = Way { tls: Some(authority.acceptor(true, false)), http2: false };
    let upstream = FakeUpstream::start_over(way, SSE).await;
    let (cert, key) = authority.identity("sse-sunset").pem();
    let (_folder, paths) = files(&[("ca.pem", &authority.pem()), ("cert.pem", &cert), ("key.pem", &key)]);
    let without = [("upstream-ca", &*paths[0])];
    assert!(refused(&upstream, &without).await.is_object());
    assert!(upstream.seen().is_empty());
    let with = [without[0], ("upstream-client-cert", &*paths[1]), ("upstream-client-key", &*paths[2])];
    converse(&upstream, &with).await;
}

#[tokio::test]
async fn http_2_is_spoken_when_the_operator_says_so() {
    let authority = Authority::new();
    let (_folder, paths) = files(&[("ca.pem", &authority.pem())]);
    for tls in [None, Some(authority.acceptor(false, true))] {
        let upstream = FakeUpstream::start_over(Way { tls, http2: true }, SSE).await;
        converse(&upstream, &[("upstream-http", "2"), ("upstream-ca", &paths[0])]).await;
        assert!(upstream.seen().iter().all(|seen| seen.version == Version::HTTP_2));
    }
    let upstream = FakeUpstream::start(SSE).await;
    converse(&upstream, &[]).await;
    assert!(upstream.seen().iter().all(|seen| seen.version == Version::HTTP_11));
}

/// All streams share one connection, and what stalled clients leave unread must not fill it.
#[tokio::test]
async fn http_2_connection_is_not_stopped_by_clients_that_do_not_read() {
    let upstream = FakeUpstream::start_over(Way { tls: None, http2: true }, SSE).await;
    let proxy = Proxy::start(upstream.url(), &[("upstream-http", "2")]);
    let mut stalled = Vec::new();
    for _ in 0..6 {
        let mut client = proxy.client().await;
        client.initialize().await;
        client.call("flood", "flood", json!({})).await;
        stalled.push(client);
    }
    let mut client = proxy.client().await;
    client.initialize().await;
    stuck(&upstream, &mut client).await;
    client.call(1, "echo", json!({"text": "x".repeat(1 << 20)})).await;
    assert!(client.answer(1).await["result"].is_object());
    drop((stalled, client));
    proxy.stop().await;
}

#[test]
fn mistakes_in_these_options_are_told_without_quoting_a_secret() {
    let problems = |name: &'static str, value: &str| -> String {
        let given = |value: &str| Given { values: vec![value.to_owned()], origin: Origin::Flag };
        let raw = Raw::from([("upstream", given("http://127.0.0.1:1/mcp")), (name, given(value))]);
        let problems = config::resolve(&raw, Vec::new(), "here").expect_err("something is wrong");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let (_folder, paths) = files(&[("empty.pem", "nothing")]);
    for (name, value, told) in [
        ("upstream-header", "hunter2", "is not NAME: VALUE"),
        ("upstream-header", "Host: hunter2", "names host, which the proxy sets itself"),
        ("upstream-header", "Mcp-Session-Id: hunter2", "names mcp-session-id"),
        ("upstream-header", "X-Key: hunter2\u{1}", "no header can have"),
        ("upstream-header", "X-Key: @/nowhere/key", "names the file /nowhere/key, which cannot be read"),
        ("upstream", "http://user:hunter2@127.0.0.1/mcp", "must not hold a user"),
        ("memory", "1MiB", "must be 32 MiB at least"),
        ("upstream-host", "http://a/b", "is not a host"),
        ("upstream-http", "3", "is neither 1.1 nor 2"),
        ("upstream-ca", &paths[0], "holds no certificate"),
        ("upstream-ca", "/nowhere", "cannot be read"),
        ("upstream-client-cert", &paths[0], "go together"),
    ] {
        let problems = problems(name, value);
        assert!(problems.contains(told), "{name} {value}: {problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let both = [("upstream-host", "a"), ("upstream-http", "2"), ("upstream", "http://127.0.0.1:1/mcp")];
    let raw = both.map(|(name, value)| (name, Given { values: vec![value.to_owned()], origin: Origin::Flag }));
    let problems = config::resolve(&Raw::from(raw), Vec::new(), "here").expect_err("they exclude each other");
    assert!(problems.iter().any(|problem| problem.to_string().contains("HTTP/1.1 only")));
}
