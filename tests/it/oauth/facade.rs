//! The facade: clients ask for the public URL and get tokens for the upstream's own (SECURITY §2.3).

use serde_json::{Value, json};

use super::{PUBLIC, SERVERS, STREAM, WELL_KNOWN, deployed, document, get, knock, request};
use crate::support::LegacyClient;
use crate::support::Proxy;
use crate::support::oauth::{AuthorizationServer, Dialect, ProtectedServer};

const UPSTREAM: &str = "https://internal.example/mcp";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn with_facade() -> (ProtectedServer, AuthorizationServer, Proxy) {
    deployed(UPSTREAM, UPSTREAM, &[("oauth-resource", "facade")]).await
}

/// The path of one of our URLs.
fn path(url: &Value) -> String {
    url.as_str().expect("a URL").strip_prefix(PUBLIC).expect("ours").to_owned()
}

#[tokio::test]
async fn client_logs_in_for_the_public_url_and_the_server_takes_its_token() {
    let (_server, issuer, proxy) = with_facade().await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    let resource = document(&proxy, &format!("{WELL_KNOWN}/sse")).await;
    assert_eq!(resource["resource"], STREAM);
    let name = path(&resource["authorization_servers"][0]);
    let metadata = document(&proxy, &format!("{SERVERS}{name}")).await;
    assert_eq!(metadata["issuer"], resource["authorization_servers"][0]);
    assert_eq!(document(&proxy, &format!("{name}/.well-known/openid-configuration")).await, metadata);
    let registered = request(
        &proxy,
        "POST",
        &path(&metadata["registration_endpoint"]),
        &[("content-type", "application/json")],
        r#"{"client_name":"x"}"#,
    )
    .await;
    assert_eq!(
        (registered.status().as_u16(), registered.headers()["cache-control"].to_str().ok()),
        (201, Some("no-store"))
    );
    let query = "response_type=code&client_id=registered&code_challenge=abc&state=s%2B1&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Fcb";
    let asked =
        format!("{}?{query}&resource=https%3A%2F%2Fmcp.example.com%2Fsse", path(&metadata["authorization_endpoint"]));
    let sent_on = get(&proxy, &asked, &[]).await;
    assert_eq!(sent_on.status(), 302);
    let location = sent_on.headers()["location"].to_str().expect("text").to_owned();
    let expected = format!("{}/authorize?{query}&resource=https%3A%2F%2Finternal.example%2Fmcp", issuer.origin);
    assert_eq!(location, expected, "and nothing else has changed");
    assert!(!sent_on.headers().contains_key("set-cookie"));
    let form = "grant_type=authorization_code&code=Y29kZQ&code_verifier=v~v&client_id=registered&resource=https://mcp.example.com/sse";
    let headers = [FORM, ("authorization", "Basic c2VjcmV0"), ("cookie", "a=b"), ("x-api-key", "k")];
    let answer = request(&proxy, "POST", &path(&metadata["token_endpoint"]), &headers, form).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["access-control-allow-origin"].to_str().ok()),
        (200, Some("*"))
    );
    let tokens: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
    let asked = issuer.asked("/token").pop().expect("one request");
    assert_eq!((asked.method.as_str(), asked.parameter("resource").as_deref()), ("POST", Some(UPSTREAM)));
    assert!(
        asked.body.starts_with("grant_type=authorization_code&code=Y29kZQ&code_verifier=v~v&client_id=registered&")
    );
    assert_eq!(asked.headers["authorization"], "Basic c2VjcmV0", "client_secret_basic");
    assert!(!asked.headers.contains_key("cookie") && !asked.headers.contains_key("x-api-key"));
    let sent = format!("Bearer {}", tokens["access_token"].as_str().expect("a token"));
    let mut client = LegacyClient::connect(&proxy, &[("authorization", &sent)]).await;
    client.initialize().await;
    let revoked = request(&proxy, "POST", &path(&metadata["revocation_endpoint"]), &[FORM], "token=x").await;
    assert_eq!(revoked.status(), 200);
    assert_eq!(issuer.asked("/revoke")[0].body, "token=x", "revocation names no resource");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn clients_that_know_only_the_origin_find_the_facade_there() {
    let (_server, _issuer, proxy) = with_facade().await;
    let metadata = document(&proxy, SERVERS).await;
    assert_eq!(metadata["issuer"], PUBLIC);
    assert_eq!(metadata["token_endpoint"], "https://mcp.example.com/sse/oauth/token");
    // They name no resource.
    let answer = get(&proxy, "/sse/oauth/authorize?client_id=x", &[]).await;
    assert!(
        answer.headers()["location"]
            .to_str()
            .expect("text")
            .ends_with("&resource=https%3A%2F%2Finternal.example%2Fmcp")
    );
    proxy.stop().await;
}

#[tokio::test]
async fn another_resource_is_an_invalid_target_and_nothing_goes_on() {
    let (_server, issuer, proxy) = with_facade().await;
    let answer = get(&proxy, "/sse/oauth/authorize?resource=https://evil.example/sse", &[]).await;
    assert_eq!(answer.status(), 400);
    let body: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
    assert_eq!(body["error"], "invalid_target");
    let form = "grant_type=refresh_token&refresh_token=r&resource=https%3A%2F%2Fevil.example";
    assert_eq!(request(&proxy, "POST", "/sse/oauth/token", &[FORM], form).await.status(), 400);
    assert!(issuer.asked("/token").is_empty());
    for (method, path, status) in
        [("GET", "/sse/oauth/token", 405), ("POST", "/sse/oauth/authorize", 405), ("OPTIONS", "/sse/oauth/token", 204)]
    {
        assert_eq!(request(&proxy, method, path, &[], "").await.status().as_u16(), status, "{method} {path}");
    }
    assert_eq!(request(&proxy, "POST", "/sse/oauth/token", &[FORM], &"x".repeat(70 << 10)).await.status(), 413);
    proxy.stop().await;
}

#[tokio::test]
async fn errors_of_the_authorization_server_reach_the_client() {
    let (_server, issuer, proxy) = with_facade().await;
    let refused = request(&proxy, "POST", "/sse/oauth/token", &[FORM], "grant_type=x&resource=").await;
    assert_eq!(refused.status(), 400);
    document(&proxy, SERVERS).await;
    issuer.change(Dialect { is_down: true, ..Dialect::default() });
    let down = request(&proxy, "POST", "/sse/oauth/token", &[FORM], "grant_type=x").await;
    assert_eq!(down.status(), 503);
    drop(issuer);
    let gone = request(&proxy, "POST", "/sse/oauth/token", &[FORM], "grant_type=x").await;
    let status = gone.status().as_u16();
    assert_eq!((status, gone.text().await.expect("a text").contains("temporarily_unavailable")), (503, true));
    proxy.stop().await;
}

#[tokio::test]
async fn endpoint_of_the_real_server_keeps_its_own_query() {
    let (_server, issuer, proxy) = with_facade().await;
    let endpoint = format!("{}/authorize?tenant=t", issuer.origin);
    issuer.change(Dialect {
        members: json!({"authorization_endpoint": endpoint, "authorization_response_iss_parameter_supported": true}),
        ..Dialect::default()
    });
    let metadata = document(&proxy, SERVERS).await;
    assert!(metadata.get("authorization_response_iss_parameter_supported").is_none());
    let answer = get(&proxy, "/sse/oauth/authorize?state=1", &[]).await;
    assert_eq!(
        answer.headers()["location"],
        format!("{endpoint}&state=1&resource=https%3A%2F%2Finternal.example%2Fmcp")
    );
    proxy.stop().await;
}

/// On the public host, but behind another door of its balancer: at the upstream there is nothing of it.
#[tokio::test]
async fn authorization_server_on_the_public_host_is_asked_there_if_the_operator_says_so() {
    let server = ProtectedServer::start().await;
    let issuer = AuthorizationServer::start(Dialect::default()).await;
    server.demand(UPSTREAM, UPSTREAM, &[&issuer.origin]);
    let options = [("public-url", issuer.origin.as_str()), ("oauth-resource", "facade")];
    let proxy = Proxy::start(&server.url(), &options);
    assert_eq!(get(&proxy, SERVERS, &[]).await.status(), 404);
    proxy.stop().await;
    let proxy = Proxy::start(&server.url(), &[&options[..], &[("oauth-host", "127.0.0.1")]].concat());
    assert_eq!(document(&proxy, SERVERS).await["token_endpoint"], format!("{}/sse/oauth/token", issuer.origin));
    let form = "grant_type=authorization_code&code=Y29kZQ";
    assert_eq!(request(&proxy, "POST", "/sse/oauth/token", &[FORM], form).await.status(), 200);
    assert_eq!(issuer.asked("/token").len(), 1);
    proxy.stop().await;
}
