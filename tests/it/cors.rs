//! What pages in browsers may do: nothing unless their origin was allowed, and then they can read errors too.

use reqwest::Method;
use serde_json::json;

use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

const APP: &str = "https://app.example.com";

async fn both(options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}

async fn ask(proxy: &Proxy, method: Method, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = http_client().request(method, proxy.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within("an answer", request.send()).await.expect("an answer")
}

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().expect("text"))
}

#[tokio::test]
async fn preflight_of_an_allowed_origin_is_granted_without_asking_anyone() {
    let (upstream, proxy) = both(&[("allowed-origin", APP), ("allowed-header", "x-api-key")]).await;
    for (path, methods) in [("/sse", "GET, POST, DELETE"), ("/messages?sessionId=x", "POST")] {
        let preflight = [("origin", APP), ("access-control-request-method", "POST")];
        let answer = ask(&proxy, Method::OPTIONS, path, &preflight).await;
        assert_eq!(answer.status().as_u16(), 204, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP));
        assert_eq!(header(&answer, "access-control-allow-methods"), Some(methods));
        let names = header(&answer, "access-control-allow-headers").expect("names");
        for name in ["authorization", "content-type", "mcp-protocol-version", "last-event-id", "x-api-key"] {
            assert!(names.split(", ").any(|allowed| allowed == name), "{name}: {names}");
        }
        assert_eq!(header(&answer, "access-control-max-age"), Some("600"));
        assert!(header(&answer, "vary").expect("vary").contains("Origin"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
    assert!(upstream.seen().is_empty());
    proxy.stop().await;
}

#[tokio::test]
async fn preflight_of_another_origin_is_refused() {
    let (_upstream, proxy) = both(&[("allowed-origin", APP)]).await;
    for origin in ["https://evil.example", "null"] {
        let preflight = [("origin", origin), ("access-control-request-method", "GET")];
        let answer = ask(&proxy, Method::OPTIONS, "/sse", &preflight).await;
        assert_eq!(answer.status().as_u16(), 403, "{origin}");
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
    }
    assert_eq!(ask(&proxy, Method::OPTIONS, "/sse", &[]).await.status().as_u16(), 405, "no page asks so");
    proxy.stop().await;
}

#[tokio::test]
async fn page_can_read_streams_posts_and_errors() {
    let (_upstream, proxy) = both(&[("allowed-origin", APP)]).await;
    let mut client = LegacyClient::connect(&proxy, &[("origin", APP)]).await;
    assert_eq!(client.stream_headers()["access-control-allow-origin"], APP);
    let posted = client.post_text(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string(), &[]).await;
    assert_eq!(posted.headers["access-control-allow-origin"], APP);
    client.answer(1).await;
    for (path, status) in [("/messages?sessionId=unknown", 404), ("/messages", 400), ("/nowhere", 404)] {
        let answer = ask(&proxy, Method::POST, path, &[("origin", APP)]).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP), "{path}");
        assert_eq!(
            header(&answer, "access-control-expose-headers"),
            Some("WWW-Authenticate, Retry-After, Deprecation, Sunset, Link"),
            "{path}"
        );
        assert_eq!(header(&answer, "vary"), Some("Origin"), "{path}");
    }
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn answer_without_an_origin_has_no_cors_headers() {
    let (_upstream, proxy) = both(&[("allowed-origin", APP)]).await;
    let answer = ask(&proxy, Method::GET, "/nowhere", &[]).await;
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
    proxy.stop().await;
}
