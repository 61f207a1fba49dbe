//! OAuth: a fake authorization server, a fake server that it protects, and the proxy between it and legacy clients.

mod breaker;
mod documents;
mod facade;
mod guard;
mod probe;
mod secrets;

use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::support::oauth::{AuthorizationServer, Dialect, ProtectedServer};
use crate::support::{Proxy, http_client, within};

/// The URL that clients know, and what it is called as a resource.
const PUBLIC: &str = "https://mcp.example.com";
const STREAM: &str = "https://mcp.example.com/sse";
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const SERVERS: &str = "/.well-known/oauth-authorization-server";

/// A server that takes tokens for `audience` and calls itself `resource`, its authorization server, and the proxy.
async fn deployed(
    audience: &str,
    resource: &str,
    options: &[(&'static str, &str)],
) -> (ProtectedServer, AuthorizationServer, Proxy) {
    let server = ProtectedServer::start().await;
    let issuer = AuthorizationServer::start(Dialect::default()).await;
    server.demand(audience, resource, &[&issuer.origin]);
    let proxy = before(&server, options);
    (server, issuer, proxy)
}

fn before(server: &ProtectedServer, options: &[(&'static str, &str)]) -> Proxy {
    let mut all = vec![("public-url", PUBLIC), ("oauth-resource", "auto")];
    all.extend(options);
    Proxy::start(&server.url(), &all)
}

async fn get(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> Response {
    request(proxy, "GET", path, headers, "").await
}

async fn request(proxy: &Proxy, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let _ = http_client();
    let http = http.build().expect("a client");
    let mut request = http.request(method.parse().expect("a method"), proxy.url(path)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within("an answer", request.send()).await.expect("an answer")
}

async fn document(proxy: &Proxy, path: &str) -> Value {
    let answer = get(proxy, path, &[]).await;
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
}

/// What `GET /sse` is answered with, and its challenge.
async fn knock(proxy: &Proxy, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let answer = get(proxy, "/sse", headers).await;
    (answer.status(), challenge(&answer))
}

fn challenge(answer: &Response) -> String {
    answer.headers().get("www-authenticate").map_or(String::new(), |value| value.to_str().expect("ASCII").to_owned())
}
