//! The authorization server: registration, authorization code, refresh; consent is given at once.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Asked, json as answer, serve, text};

/// What the server publishes beside the usual.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dialect {
    /// Members of its metadata that it has in addition, or in place of its own.
    pub(crate) members: Value,
    /// Its metadata stands at the place of `OpenID` only.
    pub(crate) openid_only: bool,
    /// Everything is answered 503.
    pub(crate) is_down: bool,
}

/// The server.
pub(crate) struct AuthorizationServer {
    pub(crate) origin: String,
    state: Arc<Mutex<State>>,
    running: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    dialect: Dialect,
    asked: Vec<Asked>,
    issued: u64,
}

impl AuthorizationServer {
    pub(crate) async fn start(dialect: Dialect) -> Self {
        let state = Arc::new(Mutex::new(State { dialect, ..State::default() }));
        let serving = Arc::clone(&state);
        let (origin, running) = serve(move |asked| {
            let serving = Arc::clone(&serving);
            async move { serving.lock().expect("no panic").answer(&asked) }
        })
        .await;
        AuthorizationServer { origin, state, running }
    }

    /// All requests so far to `path`.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().expect("no panic");
        state.asked.iter().filter(|asked| asked.path() == path).cloned().collect()
    }

    pub(crate) fn change(&self, dialect: Dialect) {
        self.state.lock().expect("no panic").dialect = dialect;
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Response<Bytes> {
        self.asked.push(asked.clone());
        if self.dialect.is_down {
            return text(503, "down");
        }
        let origin = format!("http://{}", asked.headers["host"].to_str().expect("text"));
        match asked.path() {
            "/.well-known/oauth-authorization-server" if !self.dialect.openid_only => {
                answer(200, &self.metadata(&origin))
            }
            "/.well-known/openid-configuration" if self.dialect.openid_only => answer(200, &self.metadata(&origin)),
            "/register" => {
                let mut client: Value = serde_json::from_str(&asked.body).unwrap_or_default();
                client["client_id"] = "registered".into();
                answer(201, &client)
            }
            "/authorize" => {
                let redirect = asked.parameter("redirect_uri").unwrap_or_default();
                let resource = asked.parameter("resource").unwrap_or_default();
                let state = asked.parameter("state").unwrap_or_default();
                let code = URL_SAFE_NO_PAD.encode(resource);
                let location = format!("{redirect}?code={code}&state={state}");
                Response::builder().status(302).header("location", location).body(Bytes::new()).expect("an answer")
            }
            "/token" => self.token(asked),
            "/revoke" => text(200, ""),
            _ => text(404, "nothing"),
        }
    }

    fn metadata(&self, origin: &str) -> Value {
        let mut metadata = json!({
            "issuer": origin, "authorization_endpoint": format!("{origin}/authorize"),
            "token_endpoint": format!("{origin}/token"), "registration_endpoint": format!("{origin}/register"),
            "revocation_endpoint": format!("{origin}/revoke"), "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"], "grant_types_supported": ["authorization_code", "refresh_token"],
        });
        for (name, value) in self.dialect.members.as_object().into_iter().flatten() {
            metadata[name] = value.clone();
        }
        metadata
    }

    /// The audience is what this request asks for, else what the code was for.
    fn token(&mut self, asked: &Asked) -> Response<Bytes> {
        let of_code = asked.parameter("code").and_then(|code| URL_SAFE_NO_PAD.decode(code).ok());
        let of_code = of_code.and_then(|resource| String::from_utf8(resource).ok());
        let Some(audience) = asked.parameter("resource").or(of_code) else {
            return answer(400, &json!({"error": "invalid_grant"}));
        };
        self.issued += 1;
        let token = token(&audience, self.issued);
        answer(200, &json!({"access_token": token, "token_type": "Bearer", "refresh_token": "secret-refresh"}))
    }
}

/// A token for `audience`, as the server gives it out.
pub(crate) fn token(audience: &str, number: u64) -> String {
    let payload =
        json!({"sub": "alice", "client_id": "registered", "iss": "https://as.example", "aud": audience, "jti": number});
    format!("e30.{}.secret-signature", URL_SAFE_NO_PAD.encode(payload.to_string()))
}
