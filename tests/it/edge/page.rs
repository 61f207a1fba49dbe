//! What a person sees who opens the SSE URL in a browser.

use crate::support::FakeUpstream;

use super::stage::{answers, both, statuses};

/// What Firefox sends.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

#[tokio::test]
async fn browser_sees_a_page_that_needs_nothing_and_is_no_client() {
    let (upstream, proxy) = both(&[("sse-path", "/v1/events"), ("public-path", "/gw")]).await;
    let text = answers(&proxy, get("/v1/events?x=%3Cscript%3E", BROWSER)).await;
    let (head, page) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    for field in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "vary: Accept",
    ] {
        assert!(head.contains(field), "{field} in {head}");
    }
    assert!(page.contains("/gw/v1/events") && page.contains("Streamable HTTP"), "{page}");
    assert!(page.ends_with("</html>"), "whole");
    for foreign in ["<script", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign} in {page}");
    }
    assert!(upstream.seen().is_empty());
    let log = proxy.stop().await;
    assert!(log.iter().all(|record| !record["event.name"].as_str().expect("a name").starts_with("legacy.")), "{log:?}");
}

#[tokio::test]
async fn page_names_the_url_to_configure_where_the_proxy_serves_it() {
    let named = [("public-url", "https://mcp.example.com/gw/"), ("passthrough", "mcp")];
    let (upstream, proxy) = both(&named).await;
    let path = reqwest::Url::parse(upstream.url()).expect("a URL").path().to_owned();
    let page = answers(&proxy, get("/sse", BROWSER)).await;
    assert!(page.contains(&format!("<pre>https://mcp.example.com/gw{path}</pre>")), "{page}");
    proxy.stop().await;
}

#[tokio::test]
async fn head_of_the_page_has_its_length_and_no_body() {
    let (_upstream, proxy) = both(&[]).await;
    let page = answers(&proxy, get("/sse", BROWSER)).await;
    let head = answers(&proxy, get("/sse", BROWSER).replacen("GET", "HEAD", 1)).await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let length = |text: &str| text.lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
    assert_eq!(length(&head), length(&page));
    assert!(length(&head).is_some());
    assert_eq!(statuses(&answers(&proxy, get("/sse", "").replacen("GET", "HEAD", 1)).await), [405]);
    proxy.stop().await;
}

#[tokio::test]
async fn page_says_nothing_that_a_request_said() {
    let (_upstream, proxy) = both(&[("trusted-proxy", "127.0.0.0/8")]).await;
    let claims =
        "User-Agent: canary\r\nReferer: http://canary/\r\nX-Forwarded-Host: canary\r\nX-Forwarded-Prefix: /canary\r\n";
    let text = answers(&proxy, get("/sse?canary", &format!("{BROWSER}{claims}"))).await;
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("canary"), "{text}");
    proxy.stop().await;
}

#[tokio::test]
async fn page_is_guarded_as_the_stream_is_and_a_person_is_no_refused_client() {
    let (_upstream, proxy) = both(&[]).await;
    let foreign = get("/sse", BROWSER).replacen("localhost", "evil.example", 1);
    assert_eq!(statuses(&answers(&proxy, foreign).await), [421]);
    let from_elsewhere = get("/sse", &format!("{BROWSER}Origin: https://evil.example\r\n"));
    assert_eq!(statuses(&answers(&proxy, from_elsewhere).await), [403]);
    let log = proxy.stop().await;
    assert!(log.iter().all(|record| record["event.name"] != "legacy.refused"), "{log:?}");
}

#[tokio::test]
async fn programs_get_their_stream_whatever_they_accept_beside_it() {
    let upstream = FakeUpstream::start(crate::support::Behaviour::default()).await;
    let proxy = crate::support::Proxy::start(upstream.url(), &[]);
    let resumed = format!("{BROWSER}Last-Event-ID: x-1\r\n");
    // The last is what Java's `HttpURLConnection` sends when a program says nothing.
    for fields in [
        "Accept: text/event-stream\r\n",
        "Accept: text/event-stream, text/html\r\n",
        "Accept: */*\r\n",
        "",
        &resumed,
        "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2\r\n",
    ] {
        let mut client = crate::support::RawClient::connect(&proxy).await;
        client.send(get("/sse", fields).replacen("Connection: close\r\n", "", 1)).await;
        client.read_until("event: endpoint").await;
    }
    proxy.logged("legacy.end", 6).await;
    proxy.stop().await;
}
