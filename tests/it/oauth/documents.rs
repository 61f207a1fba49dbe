//! Where clients look, and what stands there: every deployment, every mode (SECURITY §2.3).

use std::time::Duration;

use serde_json::{Value, json};

use super::{PUBLIC, SERVERS, STREAM, WELL_KNOWN, before, challenge, deployed, document, get, knock, request};
use crate::support::oauth::{Dialect, ProtectedServer, Protection};
use crate::support::pass;

const ELSEWHERE: &str = "https://internal.example/mcp";
const SAME_HOST: &str = "https://mcp.example.com/mcp";

#[tokio::test]
async fn own_host_serves_every_place_where_a_client_looks() {
    let (_server, issuer, proxy) = deployed(STREAM, ELSEWHERE, &[]).await;
    let expected = json!({"resource": STREAM, "authorization_servers": [issuer.origin], "scopes_supported": ["mcp"]});
    for path in [WELL_KNOWN, &format!("{WELL_KNOWN}/sse"), &format!("/sse{WELL_KNOWN}"), "/sse?mcp-prm=1"] {
        assert_eq!(document(&proxy, path).await, expected, "{path}");
    }
    let servers_own = document(&proxy, &format!("{WELL_KNOWN}/mcp")).await;
    assert_eq!((&servers_own["resource"], &servers_own["signed_metadata"]), (&json!(ELSEWHERE), &json!("e30.e30.x")));
    for path in [
        SERVERS,
        &format!("{SERVERS}/sse"),
        "/.well-known/openid-configuration",
        "/sse/.well-known/openid-configuration",
    ] {
        let metadata = document(&proxy, path).await;
        assert_eq!(metadata["issuer"], issuer.origin, "{path}");
        assert_eq!(metadata["token_endpoint"], format!("{}/token", issuer.origin), "{path}");
    }
    for path in [&format!("{WELL_KNOWN}/other"), "/sse/oauth/token", &format!("{SERVERS}/sse/oauth")] {
        assert_eq!(get(&proxy, path, &[]).await.status(), 404, "{path}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn same_host_leaves_the_root_to_a_server_that_uses_it() {
    let (server, _issuer, proxy) = deployed(STREAM, SAME_HOST, &[]).await;
    assert_eq!(document(&proxy, WELL_KNOWN).await["resource"], STREAM, "the server has none there");
    assert_eq!(document(&proxy, &format!("{WELL_KNOWN}/mcp")).await["resource"], SAME_HOST);
    proxy.stop().await;
    let root = json!({"resource": SAME_HOST, "authorization_servers": ["https://as.example"], "root": true});
    server.protect(Protection {
        audiences: Some(vec![SAME_HOST.to_owned()]),
        documents: vec![(WELL_KNOWN.to_owned(), root.clone())],
        ..Protection::default()
    });
    let proxy = before(&server, &[]);
    assert_eq!(document(&proxy, WELL_KNOWN).await, root);
    assert_eq!(document(&proxy, &format!("{WELL_KNOWN}/sse")).await["resource"], STREAM);
    proxy.stop().await;
}

#[tokio::test]
async fn without_well_known_the_challenge_points_to_what_gets_through() {
    for (at, place) in [
        ("well-known", "https://mcp.example.com/.well-known/oauth-protected-resource/sse"),
        ("sse-path", "https://mcp.example.com/sse/.well-known/oauth-protected-resource"),
        ("query", "https://mcp.example.com/sse?mcp-prm=1"),
    ] {
        let (_server, _issuer, proxy) = deployed(STREAM, ELSEWHERE, &[("oauth-metadata-at", at)]).await;
        let (status, challenge) = knock(&proxy, &[]).await;
        assert_eq!(status, 401);
        assert_eq!(challenge, format!("Bearer resource_metadata=\"{place}\", error=\"invalid_token\", scope=\"mcp\""));
        let path = place.strip_prefix(PUBLIC).expect("ours");
        assert_eq!(document(&proxy, path).await["resource"], STREAM);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn resource_is_called_what_the_mode_says() {
    for (mode, resource, expected) in [
        ("auto", ELSEWHERE, STREAM),
        ("auto", STREAM, STREAM),
        ("exact", ELSEWHERE, STREAM),
        ("upstream", ELSEWHERE, ELSEWHERE),
        ("facade", ELSEWHERE, STREAM),
    ] {
        let (_server, issuer, proxy) = deployed(resource, resource, &[("oauth-resource", mode)]).await;
        let found = document(&proxy, &format!("{WELL_KNOWN}/sse")).await;
        assert_eq!(found["resource"], expected, "{mode}");
        let servers =
            if mode == "facade" { json!(["https://mcp.example.com/sse/oauth"]) } else { json!([issuer.origin]) };
        assert_eq!(found["authorization_servers"], servers, "{mode}");
        // What passes as it is passes with its signature.
        assert_eq!(found.get("signed_metadata").is_some(), resource == expected || mode == "upstream", "{mode}");
        proxy.stop().await;
    }
    let (server, _issuer, proxy) = deployed(STREAM, ELSEWHERE, &[("oauth-resource", "none")]).await;
    assert_eq!(get(&proxy, WELL_KNOWN, &[]).await.status(), 404);
    let client = proxy.client().await;
    assert!(server.asked().is_empty(), "no part of OAuth is done");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn server_that_names_the_public_url_itself_is_passed_through() {
    let (server, issuer, proxy) = deployed(STREAM, STREAM, &[]).await;
    let place = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
    server.protect(Protection {
        audiences: Some(vec![STREAM.to_owned()]),
        challenge: Some(format!("Bearer scope=x, resource_metadata={place}")),
        documents: vec![(
            format!("{WELL_KNOWN}/mcp"),
            json!({"resource": STREAM, "authorization_servers": [issuer.origin]}),
        )],
        ..Protection::default()
    });
    proxy.stop().await;
    let proxy = before(&server, &[]);
    assert_eq!(knock(&proxy, &[]).await.1, format!("Bearer scope=x, resource_metadata={place}"));
    assert_eq!(document(&proxy, &format!("{WELL_KNOWN}/mcp")).await["resource"], STREAM);
    proxy.stop().await;
}

#[tokio::test]
async fn server_without_metadata_keeps_its_challenges_and_has_no_documents() {
    let server = ProtectedServer::start().await;
    let challenge = Some("Bearer realm=\"keys\"".to_owned());
    server.protect(Protection { audiences: Some(Vec::new()), challenge, ..Protection::default() });
    let proxy = before(&server, &[]);
    assert_eq!(knock(&proxy, &[]).await.1, "Bearer realm=\"keys\"");
    for path in [WELL_KNOWN, SERVERS, "/sse?mcp-prm=2"] {
        let answer = get(&proxy, path, &[]).await;
        assert_eq!(answer.status().as_u16(), if path.starts_with("/sse") { 401 } else { 404 }, "{path}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn pages_of_every_origin_read_the_documents_and_hosts_are_ours_all_the_same() {
    let (_server, _issuer, proxy) = deployed(STREAM, ELSEWHERE, &[]).await;
    let path = format!("{WELL_KNOWN}/sse");
    let answer = get(&proxy, &path, &[("origin", "https://anywhere.example")]).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (200, &"*".parse().expect("a header"))
    );
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    let asks = [("origin", "https://anywhere.example"), ("access-control-request-method", "GET")];
    let answer = request(&proxy, "OPTIONS", &path, &asks, "").await;
    assert_eq!(answer.status(), 204);
    assert!(answer.headers()["access-control-allow-headers"].to_str().expect("text").contains("mcp-protocol-version"));
    let answer = request(&proxy, "HEAD", &path, &[], "").await;
    assert_eq!((answer.status().as_u16(), answer.text().await.expect("a text")), (200, String::new()));
    assert_eq!(request(&proxy, "POST", &path, &[], "").await.status(), 404);
    assert_eq!(get(&proxy, &path, &[("host", "evil.example")]).await.status(), 421);
    proxy.stop().await;
}

#[tokio::test]
async fn documents_outlive_a_failure_of_the_servers() {
    let (server, issuer, proxy) = deployed(STREAM, ELSEWHERE, &[]).await;
    document(&proxy, SERVERS).await;
    server.protect(Protection { documents: Vec::new(), status: Some(503), ..Protection::default() });
    issuer.change(Dialect { is_down: true, ..Dialect::default() });
    pass(Duration::from_secs(301)).await;
    assert_eq!(document(&proxy, SERVERS).await["issuer"], issuer.origin);
    proxy.stop().await;
    // The authorization server was never reached: nothing stands in for it.
    server.demand(STREAM, ELSEWHERE, &[&issuer.origin]);
    let proxy = before(&server, &[]);
    let answer = get(&proxy, SERVERS, &[]).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()), (503, Some("5")));
    issuer.change(Dialect { openid_only: true, ..Dialect::default() });
    pass(Duration::from_secs(6)).await;
    assert_eq!(document(&proxy, SERVERS).await["issuer"], issuer.origin, "found at its other place");
    proxy.stop().await;
}

#[tokio::test]
async fn loopback_without_a_public_url_is_known_by_its_address() {
    let (server, _issuer, first) = deployed(STREAM, ELSEWHERE, &[]).await;
    first.stop().await;
    let proxy = crate::support::Proxy::start(&server.url(), &[("oauth-resource", "auto")]);
    let path = format!("{WELL_KNOWN}/sse");
    assert_eq!(document(&proxy, &path).await["resource"], proxy.url("/sse"));
    // By the name that the client has for it: it compares.
    let port = proxy.address.port();
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"] {
        let sent = [("host", &*format!("{host}:{port}"))];
        let own = format!("http://{}:{port}", host.to_ascii_lowercase());
        let answer = get(&proxy, &path, &sent).await;
        let found: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
        assert_eq!(found["resource"], format!("{own}/sse"));
        assert!(knock(&proxy, &sent).await.1.contains(&format!("resource_metadata=\"{own}{path}\"")), "{host}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn loopback_behind_something_else_has_no_name_until_it_is_told_one() {
    let (server, _issuer, first) = deployed(STREAM, ELSEWHERE, &[]).await;
    first.stop().await;
    for option in [("trusted-proxy", "127.0.0.0/8"), ("allowed-host", "mcp.example.com")] {
        let proxy = crate::support::Proxy::start(&server.url(), &[("oauth-resource", "auto"), option]);
        let (status, challenge) = knock(&proxy, &[]).await;
        assert_eq!(status, 401);
        assert!(challenge.contains(&server.origin), "as the server said it: {challenge}");
        assert_eq!(get(&proxy, &format!("{WELL_KNOWN}/sse"), &[]).await.status(), 404);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn public_path_stands_before_the_stream_whatever_the_public_url_says() {
    let (_server, _issuer, proxy) = deployed(STREAM, ELSEWHERE, &[("public-path", "/gw")]).await;
    let path = format!("{WELL_KNOWN}/gw/sse");
    assert_eq!(document(&proxy, &path).await["resource"], format!("{PUBLIC}/gw/sse"));
    assert!(knock(&proxy, &[]).await.1.contains(&format!("resource_metadata=\"{PUBLIC}{path}\"")));
    proxy.stop().await;
}

#[tokio::test]
async fn stream_may_stand_at_the_root_or_end_in_a_slash() {
    for (sse_path, stream) in [("/", format!("{PUBLIC}/")), ("/sse/", format!("{STREAM}/"))] {
        let (_server, issuer, proxy) = deployed(STREAM, ELSEWHERE, &[("sse-path", sse_path)]).await;
        let challenge = challenge(&get(&proxy, sse_path, &[]).await);
        let place = challenge.split('"').nth(1).and_then(|place| place.strip_prefix(PUBLIC)).expect("ours").to_owned();
        assert_eq!(document(&proxy, &place).await["resource"], stream, "{place}");
        assert_eq!(document(&proxy, SERVERS).await["issuer"], issuer.origin, "{sse_path}");
        proxy.stop().await;
    }
}
