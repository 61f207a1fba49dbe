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

/// Each of these leads to a server that would answer, so that it shows whether it is asked. Addresses of metadata services
/// lead nowhere in a test; that they count among the forbidden ones is told where they are listed.
#[tokio::test]
async fn authorization_servers_are_asked_over_tls_or_on_this_machine_only() {
    let issuer = AuthorizationServer::start(Dialect::default()).await;
    let port = issuer.origin.rsplit(':').next().expect("a port").to_owned();
    let secure = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    secure.set_nonblocking(true).expect("a socket");
    let secure_port = secure.local_addr().expect("an address").port();
    for (named, is_asked) in [
        (format!("http://127.0.0.1:{port}"), true),
        (format!("http://0.0.0.0:{port}"), false),
        (format!("http://user:pass@127.0.0.1:{port}"), false),
        (format!("https://0.0.0.0:{secure_port}"), false),
        (format!("https://user@127.0.0.1:{secure_port}"), false),
        ("file:///etc/passwd".to_owned(), false),
        ("nonsense".to_owned(), false),
    ] {
        let server = ProtectedServer::start().await;
        server.demand(STREAM, "https://internal.example/mcp", &[&named]);
        let proxy = before(&server, &[]);
        let before = issuer.asked(SERVERS).len();
        let status = get(&proxy, SERVERS, &[]).await.status().as_u16();
        assert_eq!(status == 200, is_asked, "{named}: {status}");
        assert_eq!(issuer.asked(SERVERS).len() > before, is_asked, "{named}");
        assert!(secure.accept().is_err(), "{named}: not even a connection");
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
