//! An MCP server (stateless, JSON) that takes tokens of certain audiences.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Asked, json as answer, serve, text};

/// How the server is protected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Protection {
    /// Audiences that it takes; `None`: it asks for no credential.
    pub(crate) audiences: Option<Vec<String>>,
    /// What it takes in the header `x-api-key`.
    pub(crate) api_key: Option<&'static str>,
    /// The challenge; `{origin}` stands for its own.
    pub(crate) challenge: Option<String>,
    /// The documents that it publishes.
    pub(crate) documents: Vec<(String, Value)>,
    /// Says 401 to sessions that it does not know, as old rmcp does.
    pub(crate) disguises: bool,
    /// What requests are answered with instead.
    pub(crate) status: Option<u16>,
    /// A tool call that needs a scope which nobody has.
    pub(crate) narrow: bool,
    /// Tools want a credential, and nothing else does.
    pub(crate) guards_tools: bool,
}

/// The server.
pub(crate) struct ProtectedServer {
    pub(crate) origin: String,
    state: Arc<Mutex<State>>,
    running: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    protection: Protection,
    asked: Vec<Asked>,
}

impl ProtectedServer {
    /// One that takes whatever it is told later.
    pub(crate) async fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let serving = Arc::clone(&state);
        let (origin, running) = serve(move |asked| {
            let serving = Arc::clone(&serving);
            async move { serving.lock().expect("no panic").answer(&asked) }
        })
        .await;
        ProtectedServer { origin, state, running }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    pub(crate) fn protect(&self, protection: Protection) {
        self.state.lock().expect("no panic").protection = protection;
    }

    /// Takes tokens for `audience`, names `resource` at the path of its endpoint, and `servers` beside it.
    pub(crate) fn demand(&self, audience: &str, resource: &str, servers: &[&str]) {
        let document = json!({"resource": resource, "authorization_servers": servers, "scopes_supported": ["mcp"],
            "signed_metadata": "e30.e30.x"});
        self.protect(Protection {
            audiences: Some(vec![audience.to_owned()]),
            challenge: Some(
                "Bearer error=\"invalid_token\", scope=\"mcp\", \
                 resource_metadata=\"{origin}/.well-known/oauth-protected-resource/mcp\""
                    .to_owned(),
            ),
            documents: vec![("/.well-known/oauth-protected-resource/mcp".to_owned(), document)],
            ..Protection::default()
        });
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().expect("no panic").asked.clone()
    }

    /// How many requests named `method` came.
    pub(crate) fn count(&self, method: &str) -> usize {
        let names =
            |asked: &Asked| serde_json::from_str::<Value>(&asked.body).is_ok_and(|body| body["method"] == method);
        self.asked().iter().filter(|asked| names(asked)).count()
    }
}

impl Drop for ProtectedServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Response<Bytes> {
        self.asked.push(asked.clone());
        let origin = format!("http://{}", asked.headers["host"].to_str().expect("text"));
        if let Some((_, document)) = self.protection.documents.iter().find(|(path, _)| path == asked.path()) {
            return answer(200, document);
        }
        if let Some(status) = self.protection.status {
            return text(status, "as told");
        }
        if asked.path() != "/mcp" {
            return text(404, "nothing");
        }
        if !self.admits(asked) {
            let mut refusal = answer(401, &json!({"error": "invalid_token"}));
            if let Some(challenge) = &self.protection.challenge {
                let challenge = challenge.replace("{origin}", &origin);
                refusal.headers_mut().insert("www-authenticate", challenge.parse().expect("a header"));
            }
            return refusal;
        }
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        match body["method"].as_str() {
            Some("initialize") => {
                let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
                answer(200, &json!({"jsonrpc": "2.0", "id": body["id"], "result": result}))
            }
            Some("tools/call") if self.protection.guards_tools => {
                let mut refusal = answer(401, &json!({"error": "invalid_token"}));
                refusal.headers_mut().insert("www-authenticate", "Bearer".parse().expect("a header"));
                refusal
            }
            Some("tools/call") if self.protection.narrow => {
                let mut refusal = answer(403, &json!({"error": "insufficient_scope"}));
                let challenge = "Bearer error=\"insufficient_scope\", scope=\"write\"";
                refusal.headers_mut().insert("www-authenticate", challenge.parse().expect("a header"));
                refusal
            }
            _ if self.protection.disguises && asked.headers.contains_key("mcp-session-id") => {
                text(401, "Unauthorized: Session not found")
            }
            Some(_) if body.get("id").is_some() => {
                answer(200, &json!({"jsonrpc": "2.0", "id": body["id"], "result": {}}))
            }
            Some(_) => text(202, ""),
            None => text(405, "no stream"),
        }
    }

    fn admits(&self, asked: &Asked) -> bool {
        let sent = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
        if self.protection.api_key.is_some() && sent("x-api-key") == self.protection.api_key {
            return true;
        }
        let Some(audiences) = &self.protection.audiences else { return self.protection.api_key.is_none() };
        let payload = sent("authorization").and_then(|text| text.strip_prefix("Bearer ")?.split('.').nth(1));
        let claims = payload.and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: Value = claims.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        claims["aud"].as_str().is_some_and(|audience| audiences.iter().any(|known| known == audience))
    }
}
