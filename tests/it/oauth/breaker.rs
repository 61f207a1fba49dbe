//! A client that gets new tokens for ever, and is refused with every one (SECURITY §0, 3).

use std::time::Duration;

use serde_json::{Value, json};

use super::{STREAM, deployed, get, knock};
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
