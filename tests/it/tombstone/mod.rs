//! What `tombstone` prints, in the real servers: the same 410, nothing else touched, Streamable HTTP passed on.

mod gateway;

use std::process::Stdio;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use sse_sunset::sunset::Notice;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::script::{Gate, Got, Scripted, Step, chunk, event, last_chunk, reply, stream_head};
use crate::support::tls::Authority;
use crate::support::{Behaviour, FakeUpstream, Proxy, http_client, within};

/// As nasty as URLs may be: each of these characters is syntax to one of the servers.
const NEW_URL: &str = "https://a.example/it's/$host/%25%20%[x]/{$HOME}{{.}}^|;mcp";
const INFO_URL: &str = "https://example.com/it's?$request_uri=%%&a={}&b={host}{$HOME}{{.}}&c=^|;`";
const DEPRECATION: &str = "2020-12-01";
const SUNSET: &str = "2020-12-20T09:30:00Z";

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.arg("tombstone").args(words).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What the binary prints for `server`.
async fn printed(server: &str, more: &[&str]) -> String {
    let words = ["--for", server, "--info-url", INFO_URL, "--deprecation", DEPRECATION, "--sunset", SUNSET];
    let output = within("the end", command(&words).args(["--new-url", NEW_URL]).args(more).output());
    let output = output.await.expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What is told, with the URLs as RFC 3986 writes them.
fn notice() -> Notice {
    let new_url = "https://a.example/it's/$host/%25%20%[x]/%7B$HOME%7D%7B%7B.%7D%7D%5E%7C;mcp";
    let info_url =
        "https://example.com/it's?$request_uri=%%&a=%7B%7D&b=%7Bhost%7D%7B$HOME%7D%7B%7B.%7D%7D&c=%5E%7C;%60";
    Notice {
        new_url: Some(new_url.to_owned()),
        info_url: Some(info_url.to_owned()),
        deprecation: Some("2020-12-01T00:00:00Z".parse().expect("a time")),
        sunset: Some(SUNSET.parse().expect("a time")),
    }
}

async fn ask(method: &Method, url: String, headers: &[(&str, &str)]) -> Response {
    let mut request = http_client().request(method.clone(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if *method == Method::POST {
        request = request.header("content-type", "application/json").body(r#"{"jsonrpc":"2.0","method":"x"}"#);
    }
    within("an answer", request.send()).await.expect("an answer")
}

/// Fails unless `answer` is what the proxy gives; Traefik alone has `Gone` for a body.
async fn assert_gone(server: &str, method: &Method, answer: Response) {
    let what = format!("{server} {method} {}", answer.url());
    assert_eq!(answer.status(), 410, "{what}");
    let mut expected = vec![("cache-control".to_owned(), "no-store".to_owned())];
    for (name, value) in notice().headers() {
        let value = value.to_str().expect("visible").to_owned();
        match expected.last_mut().filter(|(last, _)| server == "traefik" && *last == name.as_str()) {
            Some((_, values)) => *values = format!("{values}, {value}"),
            None => expected.push((name.to_string(), value)),
        }
    }
    let told = |name: &str| -> Vec<String> {
        answer.headers().get_all(name).iter().map(|value| value.to_str().expect("visible").to_owned()).collect()
    };
    for name in ["cache-control", "deprecation", "sunset", "link"] {
        let wanted: Vec<&String> = expected.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect();
        assert_eq!(told(name).iter().collect::<Vec<_>>(), wanted, "{what} {name}");
    }
    let kind = told("content-type");
    let body = within("a body", answer.text()).await.expect("a body");
    let has_own = server == "traefik" && !kind.contains(&"application/problem+json".to_owned());
    if has_own {
        assert!(kind.iter().all(|kind| kind.starts_with("text/plain")), "{what} {kind:?}");
    } else {
        assert_eq!(kind, ["application/problem+json"], "{what}");
    }
    match (method, has_own) {
        (&Method::HEAD, _) => assert_eq!(body, "", "{what}"),
        (_, true) => assert_eq!(body, "Gone", "{what}"),
        (_, false) => {
            let told: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{what}: {error}: {body}"));
            assert_eq!(told, notice().problem(), "{what}");
        }
    }
}

/// What all others are compared with is what the proxy gives.
#[tokio::test]
async fn proxy_that_is_gone_answers_so() {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let told = [("new-url", NEW_URL), ("info-url", INFO_URL), ("deprecation", DEPRECATION)];
    let proxy = Proxy::start(upstream.url(), &[&told[..], &[("gone", SUNSET), ("force", "gone")]].concat());
    for (method, path) in [
        (Method::GET, "/sse"),
        (Method::POST, "/messages"),
        (Method::POST, "//messages?sessionId=x"),
        (Method::POST, "/gw/gw/messages/?x=1&session_id=x"),
    ] {
        let answer = ask(&method, proxy.url(path), &[]).await;
        assert_gone("the proxy", &method, answer).await;
    }
}

/// Without `--upgrade-to`: all of the legacy endpoints answer as the proxy does, and the rest is the operator's.
async fn gives_the_same_410(server: &str) {
    let gateway = gateway::start(server, &printed(server, &[]).await).await;
    for (method, path) in [
        (Method::GET, "/sse"),
        (Method::GET, "/sse?x=1"),
        (Method::HEAD, "/sse"),
        (Method::POST, "/sse"),
        (Method::POST, "/messages"),
        (Method::POST, "/messages/"),
        (Method::POST, "/messages?sessionId=x"),
        (Method::POST, "//messages?sessionId=x"),
        (Method::POST, "/gw/gw/messages/?x=1&session_id=x"),
    ] {
        let answer = ask(&method, gateway.url(path), &[]).await;
        assert_gone(server, &method, answer).await;
    }
    let answer =
        ask(&Method::GET, gateway.url("/sse"), &[("mcp-session-id", "s"), ("authorization", "Bearer x")]).await;
    assert_gone(server, &Method::GET, answer).await;
    for (method, path) in [
        (Method::GET, "/messages?sessionId=x"),
        (Method::POST, "/api/messages"),
        (Method::POST, "/api/messages?x=sessionId"),
        (Method::POST, "/messages/x?sessionId=x"),
        (Method::POST, "/mcp"),
        (Method::GET, "/sse/x"),
        (Method::GET, "/ssex"),
        (Method::GET, "/gw/ssex"),
        (Method::GET, "/.sse-sunset-gone"),
    ] {
        let answer = ask(&method, gateway.url(path), &[]).await;
        assert_eq!(answer.status(), 404, "{server} {method} {path}");
        let body = answer.text().await.expect("a body");
        let own = ["traefik", "nginx"].contains(&server) || body == "mine";
        assert!(own && !body.contains("sse_gone"), "{server} {method} {path}: {body}");
    }
}

/// An upstream whose streams stop after the first event until the gate of their method is open.
async fn upstream(gates: [(Method, Gate); 2]) -> (Scripted, String) {
    let play = move |got: &Got| -> Option<Vec<Step>> {
        let Some((_, gate)) = gates.iter().find(|(method, _)| method.as_str() == got.method) else {
            return Some(vec![reply(204, &[], "")]);
        };
        let (first, second) = (chunk(event(r#"{"first":true}"#)), chunk(event(r#"{"second":true}"#)));
        Some(vec![stream_head(), first, Step::Wait(gate.clone()), second, last_chunk()])
    };
    let upstream = Scripted::start(play).await;
    let url = upstream.url().split('?').next().expect("a URL").to_owned();
    (upstream, url)
}

/// With `--upgrade-to`, below a prefix: Streamable HTTP goes on, byte by byte as it comes, and the rest is gone.
async fn passes_streamable_http_on(server: &str) {
    let gates = [Method::POST, Method::GET].map(|method| (method, Gate::default()));
    let (upstream, url) = upstream(gates.clone()).await;
    let text = printed(server, &["--upgrade-to", &url, "--public-path", "/gw/"]).await;
    let gateway = gateway::start(server, &text).await;
    let session = [("mcp-session-id", "s"), ("authorization", "Bearer x"), ("accept", "text/event-stream")];
    for (method, gate) in gates {
        let mut answer = ask(&method, gateway.url("/gw/sse?q=1"), &session).await;
        assert_eq!(answer.status(), 200, "{server} {method}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream", "{server}");
        let mut came = Vec::new();
        for (word, is_last) in [("first", false), ("second", true)] {
            while !String::from_utf8_lossy(&came).contains(word) {
                let piece = within(word, answer.chunk()).await.expect("an open stream").expect("more");
                came.extend_from_slice(&piece);
            }
            assert!(is_last || !String::from_utf8_lossy(&came).contains("second"), "{server}");
            // Only now: what was sent before has come through while the answer was not at its end.
            gate.open();
        }
    }
    assert_eq!(ask(&Method::DELETE, gateway.url("/gw/sse"), &session).await.status(), 204, "{server}");
    let got = upstream.got();
    let asked: Vec<(&str, &str)> = got.iter().map(|got| (got.method.as_str(), got.target.as_str())).collect();
    assert_eq!(asked, [("POST", "/mcp?q=1"), ("GET", "/mcp?q=1"), ("DELETE", "/mcp")], "{server}");
    assert_eq!(got[0].body, json!({"jsonrpc": "2.0", "method": "x"}), "{server}");
    for got in &got {
        assert_eq!(got.header("mcp-session-id").as_deref(), Some("s"), "{server}");
        assert_eq!(got.header("authorization").as_deref(), Some("Bearer x"), "{server}");
        assert_eq!(got.header("host").as_deref(), url.split('/').nth(2), "{server}");
    }
    for (method, path) in [
        (Method::GET, "/gw/sse"),
        (Method::HEAD, "/gw/sse"),
        (Method::POST, "/gw/messages?sessionId=x"),
        (Method::POST, "/gw/gw/messages?sessionId=x"),
    ] {
        let answer = ask(&method, gateway.url(path), &[]).await;
        assert_gone(server, &method, answer).await;
    }
    assert_eq!(
        ask(&Method::POST, gateway.url("/sse"), &[]).await.status().as_u16() / 100,
        4,
        "{server}: not below the prefix"
    );
    assert_eq!(upstream.got().len(), 3, "{server}");
}

/// With `--upgrade-to https://…`: an upstream whose certificate nobody vouches for is not told anything.
async fn wants_a_certificate(server: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = Authority::new().acceptor(false, false);
    let (tell, mut connections) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut told = Vec::new();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_to_end(&mut told).await;
            }
            let _ = tell.send(told).await;
        }
    });
    let url = format!("https://localhost:{port}/mcp");
    let gateway = gateway::start(server, &printed(server, &["--upgrade-to", &url]).await).await;
    let answer = ask(&Method::POST, gateway.url("/sse"), &[]).await;
    assert!(answer.status().is_server_error(), "{server}: {}", answer.status());
    let told = within("a connection", connections.recv()).await.expect("a connection");
    assert_eq!(String::from_utf8_lossy(&told), "", "{server}");
    let answer = ask(&Method::GET, gateway.url("/sse"), &[]).await;
    assert_gone(server, &Method::GET, answer).await;
}

/// Each subject with each server, as tests of their own.
macro_rules! with_each_server {
    ($($subject:ident)*) => {$(
        mod $subject {
            #[tokio::test]
            async fn nginx() { super::$subject("nginx").await; }
            #[tokio::test]
            async fn haproxy() { super::$subject("haproxy").await; }
            #[tokio::test]
            async fn caddy() { super::$subject("caddy").await; }
            #[tokio::test]
            async fn envoy() { super::$subject("envoy").await; }
            #[tokio::test]
            async fn traefik() { super::$subject("traefik").await; }
        }
    )*};
}

with_each_server!(gives_the_same_410 passes_streamable_http_on wants_a_certificate);

#[tokio::test]
async fn traefik_has_the_body_too_where_another_server_has_it() {
    let text = printed("traefik", &[]).await;
    let body = text.lines().find_map(|line| line.trim_start_matches(['#', ' ']).strip_prefix('{')).expect("the line");
    let body = format!("{{{body}");
    let files = Scripted::start(move |got| {
        assert_eq!((got.method.as_str(), got.target.as_str()), ("GET", "/sse-gone.json"));
        Some(vec![reply(200, &[("content-type", "application/json")], &body)])
    })
    .await;
    let origin = files.url().split("/mcp").next().expect("a URL").to_owned();
    let taken: Vec<String> = text
        .lines()
        .map(|line| if line.ends_with("#body") { line.replacen('#', "", 1) } else { line.to_owned() })
        .collect();
    let text = taken.join("\n").replace("http://127.0.0.1:8000", &origin);
    let gateway = gateway::start("traefik", &text).await;
    for (method, path) in [(Method::GET, "/sse"), (Method::POST, "/messages?sessionId=x")] {
        let answer = ask(&method, gateway.url(path), &[]).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_gone("traefik", &method, answer).await;
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_a_usage_error_that_names_the_option() {
    let new_url = ["--new-url", "https://a/mcp"];
    for (words, part) in [
        (vec!["--for", "nginx"], "--new-url"),
        ([&["--for", "apache"], &new_url[..]].concat(), "apache"),
        (vec!["--for", "nginx", "--new-url", "/mcp"], "--new-url"),
        (vec!["--for", "nginx", "--new-url", "https://a/mcp?key=k"], "must not have a query"),
        ([&["--for", "nginx", "--upgrade-to", "http://a/mcp?code=c"], &new_url[..]].concat(), "must not have a query"),
        ([&["--for", "nginx", "--sse-path", "/$host"], &new_url[..]].concat(), "--sse-path"),
        ([&["--for", "nginx", "--messages-path", "/sse/"], &new_url[..]].concat(), "must differ"),
        (
            [&["--for", "nginx", "--deprecation", "2026-12-02", "--sunset", "2026-12-01"], &new_url[..]].concat(),
            "is before --deprecation",
        ),
    ] {
        let output = within("the end", command(&words).output()).await.expect("an end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(part) && output.stdout.is_empty(), "{words:?}: {said}");
    }
}
