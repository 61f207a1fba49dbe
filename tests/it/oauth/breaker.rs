//! A client that gets new tokens for ever, and is refused with every one (SECURITY §0, 3).

use std::time::Duration;

use serde_json::{Value, json};

use super::{STREAM, deployed, get, knock, request};
use crate::support::oauth::token;
use crate::support::{LegacyClient, pass};

const UPSTREAM: &str = "https://internal.example/mcp";

#[tokio::test]
async fn loop_at_the_stream_ends_with_an_error_that_says_why() {
    let (_server, _issuer, proxy) = deployed(UPSTREAM, UPSTREAM, &[("oauth-resource", "exact")]).await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    let sent = |number| format!("Bearer {}", token(STREAM, number));
    for number in 0..3 {
        assert_eq!(knock(&proxy, &[("authorization", &sent(number))]).await.0, 401, "{number}");
    }
    for number in 3..6 {
        let answer = get(&proxy, "/sse", &[("authorization", &sent(number))]).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].to_str().ok()),
            (403, Some("application/json"))
        );
        assert!(!answer.headers().contains_key("www-authenticate"), "there is nothing to log in for");
        let body: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
        assert_eq!(body["error"], "access_denied");
        assert!(body["error_description"].as_str().expect("a text").contains(&format!("tokens issued for {STREAM}")));
    }
    assert_eq!(knock(&proxy, &[]).await.0, 401, "who has no token yet may get one");
    let good = format!("Bearer {}", token(UPSTREAM, 1));
    drop(LegacyClient::connect(&proxy, &[("authorization", &good)]).await);
    pass(Duration::from_secs(61)).await;
    assert_eq!(knock(&proxy, &[("authorization", &sent(9))]).await.0, 401);
    proxy.stop().await;
}

#[tokio::test]
async fn loop_in_a_session_ends_and_other_sessions_go_on() {
    let (_server, _issuer, proxy) =
        deployed(UPSTREAM, UPSTREAM, &[("oauth-resource", "exact"), ("oauth-probe", "off")]).await;
    let (looping, other) = (proxy.client().await, proxy.client().await);
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let sent = |number| format!("Bearer {}", token(STREAM, number));
    let mut statuses = Vec::new();
    for number in 0..5 {
        let posted = looping.post_text(initialize.clone(), &[("authorization", &sent(number))]).await;
        statuses.push(posted.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 403, 403]);
    assert_eq!(other.post_text(initialize.clone(), &[("authorization", &sent(7))]).await.status, 401);
    let good = format!("Bearer {}", token(UPSTREAM, 1));
    assert_eq!(
        looping.post_text(initialize, &[("authorization", &good)]).await.status,
        202,
        "a good token is never refused"
    );
    drop((looping, other));
    proxy.stop().await;
}

/// They differ from request to request, and say nothing of who sent it.
#[tokio::test]
async fn headers_of_a_cdn_are_no_credentials() {
    let (server, _issuer, proxy) = deployed(UPSTREAM, UPSTREAM, &[]).await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    let asked = server.count("ping");
    for number in 0..6 {
        let (id, address) = (format!("8c1f{number}-FRA"), format!("192.0.2.{number}"));
        let sent = [
            ("cf-ray", id.as_str()),
            ("cf-connecting-ip", &address),
            ("cf-visitor", r#"{"scheme":"https"}"#),
            ("cdn-loop", "cloudflare"),
            ("x-amz-cf-id", &id),
            ("cloudfront-viewer-address", &address),
            ("true-client-ip", &address),
            ("x-scheme", "https"),
            ("x-original-forwarded-for", &address),
            ("fly-request-id", &id),
            ("x-azure-ref", &id),
        ];
        assert_eq!(knock(&proxy, &sent).await.0, 401, "{number}");
    }
    assert_eq!(server.count("ping"), asked, "nobody has anything that would have to be judged");
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for number in 0..12 {
        // One that nobody has heard of.
        let sent = [("x-edge-hop", &*number.to_string()), ("content-type", "application/json")];
        assert_eq!(request(&proxy, "POST", "/sse", &sent, list).await.status(), 401, "{number}");
        assert_eq!(knock(&proxy, &sent[..1]).await.0, 401, "{number}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn token_that_has_expired_is_one_credential_whatever_else_its_requests_show() {
    let (_server, _issuer, proxy) = deployed(UPSTREAM, UPSTREAM, &[("oauth-probe", "off")]).await;
    let client = proxy.client().await;
    let sent = format!("Bearer {}", token(STREAM, 1));
    for number in 0..6 {
        let list = json!({"jsonrpc": "2.0", "id": number, "method": "initialize", "params": {}}).to_string();
        let headers = [("authorization", sent.as_str()), ("x-edge-hop", &*number.to_string())];
        assert_eq!(client.post_text(list, &headers).await.status, 401, "{number}");
    }
    drop(client);
    proxy.stop().await;
}

/// Behind a balancer all clients have one address, and many have one user agent.
#[tokio::test]
async fn opaque_tokens_of_many_clients_are_no_loop_unless_it_is_known_where_they_come_from() {
    let (_server, _issuer, proxy) = deployed(UPSTREAM, UPSTREAM, &[]).await;
    for number in 0..12 {
        assert_eq!(knock(&proxy, &[("authorization", &format!("Bearer opaque{number}"))]).await.0, 401, "{number}");
    }
    proxy.stop().await;
    let (_server, _issuer, proxy) = deployed(UPSTREAM, UPSTREAM, &[("trusted-proxy", "127.0.0.0/8")]).await;
    let mut statuses = Vec::new();
    for number in 0..5 {
        let token = format!("Bearer opaque{number}");
        let sent = [("authorization", token.as_str()), ("x-forwarded-for", "192.0.2.1")];
        statuses.push(knock(&proxy, &sent).await.0.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 403, 403]);
    proxy.stop().await;
}
