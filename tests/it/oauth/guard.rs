//! What the proxy fetches, and what it does not whatever a server says (SECURITY §1, 12 and 25).

use serde_json::json;

use super::{SERVERS, STREAM, WELL_KNOWN, before, deployed, document, get, knock};
use crate::support::oauth::{AuthorizationServer, Dialect, ProtectedServer, Protection};

#[tokio::test]
async fn challenge_sends_the_proxy_nowhere_but_to_its_upstream() {
    let (server, elsewhere) = (ProtectedServer::start().await, ProtectedServer::start().await);
    let foreign = json!({"resource": "https://foreign.example", "authorization_servers": ["https://foreign.example"]});
    elsewhere.protect(Protection { documents: vec![("/prm".to_owned(), foreign)], ..Protection::default() });
    let own = json!({"resource": "https://internal.example/mcp", "authorization_servers": ["https://as.example"]});
    let challenge = format!("Bearer resource_metadata=\"{}/prm\"", elsewhere.origin);
    server.protect(Protection {
        audiences: Some(Vec::new()),
        challenge: Some(challenge),
        documents: vec![(format!("{WELL_KNOWN}/mcp"), own)],
        ..Protection::default()
    });
    let proxy = before(&server, &[]);
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    assert_eq!(document(&proxy, WELL_KNOWN).await["authorization_servers"], json!(["https://as.example"]));
    assert!(elsewhere.asked().is_empty());
    proxy.stop().await;
    let proxy = before(&server, &[("oauth-host", "127.0.0.1")]);
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    assert_eq!(document(&proxy, WELL_KNOWN).await["authorization_servers"], json!(["https://foreign.example"]));
    proxy.stop().await;
}

#[tokio::test]
async fn authorization_servers_are_asked_over_tls_only_and_never_at_metadata_addresses() {
    for issuer in [
        "http://169.254.169.254/latest",
        "https://169.254.169.254/latest",
        "http://[fd00:ec2::254]/",
        "http://as.example",
        "file:///etc/passwd",
        "nonsense",
    ] {
        let server = ProtectedServer::start().await;
        server.demand(STREAM, "https://internal.example/mcp", &[issuer]);
        let proxy = before(&server, &[]);
        let status = get(&proxy, SERVERS, &[]).await.status().as_u16();
        assert!(matches!(status, 404 | 503), "{issuer}: {status}");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn metadata_that_would_send_clients_astray_is_not_served() {
    let (_server, issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    proxy.stop().await;
    for (member, value) in [
        ("authorization_endpoint", "file:///c:/windows/system32/calc.exe"),
        ("authorization_endpoint", "http://as.example/authorize"),
        ("token_endpoint", "javascript:alert(1)"),
        ("filler", &"x".repeat(70 << 10)),
    ] {
        issuer.change(Dialect { members: json!({member: value}), ..Dialect::default() });
        let server = ProtectedServer::start().await;
        server.demand(STREAM, "https://internal.example/mcp", &[&issuer.origin]);
        let proxy = before(&server, &[]);
        let status = get(&proxy, SERVERS, &[]).await.status().as_u16();
        assert!(matches!(status, 404 | 503), "{member}: {status}");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn credentials_of_clients_and_of_the_operator_stay_with_the_upstream() {
    let (server, issuer, proxy) =
        deployed(STREAM, "https://internal.example/mcp", &[("upstream-header", "X-Gateway: secret")]).await;
    let sent = [("authorization", "Bearer x"), ("x-api-key", "k")];
    assert_eq!(knock(&proxy, &sent).await.0, 401);
    document(&proxy, SERVERS).await;
    let documents = server.asked().into_iter().filter(|asked| asked.path().starts_with("/.well-known"));
    let documents: Vec<_> = documents.collect();
    assert!(!documents.is_empty());
    for asked in &documents {
        assert!(!asked.headers.contains_key("authorization") && !asked.headers.contains_key("x-api-key"));
        assert_eq!(asked.headers["x-gateway"], "secret", "a gateway before the server wants it there as well");
    }
    let others = AuthorizationServer::asked(&issuer, SERVERS);
    assert!(!others.is_empty() && others.iter().all(|asked| !asked.headers.contains_key("x-gateway")));
    proxy.stop().await;
}
