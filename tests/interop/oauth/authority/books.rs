//! What the authorization server remembers: clients, codes, tokens, and what happened.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::{Counts, Policy, Tokens};

/// How long a renewed token lasts.
const RENEWED: Duration = Duration::from_secs(3600);

/// What a client is told less than a token lasts.
const SLACK: Duration = Duration::from_secs(2);

/// The scope of who names none.
const DEFAULT_SCOPE: &str = "mcp";

/// A client that registered.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) name: String,
    pub(super) redirect_uris: Vec<String>,
}

/// What somebody logged in for.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) audience: String,
    pub(super) scope: String,
}

/// An authorization that was not turned into a token yet.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

#[derive(Debug, Clone)]
struct Token {
    grant: Grant,
    expires: SystemTime,
}

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) issuer: String,
    pub(super) policy: Option<Policy>,
    pub(super) clients: HashMap<String, Registered>,
    pub(super) codes: HashMap<String, Code>,
    pub(super) secrets: Vec<String>,
    access: HashMap<String, Token>,
    refresh: HashMap<String, Grant>,
    expiries: HashMap<String, SystemTime>,
    audiences: Vec<(String, String)>,
    counts: HashMap<String, Counts>,
}

impl Books {
    pub(super) fn policy(&self) -> &Policy {
        self.policy.as_ref().expect("a policy before the first client")
    }

    pub(super) fn name(&self, client_id: &str) -> String {
        self.clients.get(client_id).map_or_else(String::new, |client| client.name.clone())
    }

    pub(super) fn register(&mut self, client: Registered) -> String {
        let id = random();
        self.clients.insert(id.clone(), client);
        id
    }

    pub(super) fn note_request(&mut self, client_id: &str) {
        let name = self.name(client_id);
        self.counts.entry(name).or_default().requests += 1;
    }

    pub(super) fn add_code(&mut self, code: Code) -> String {
        let value = self.secret();
        self.codes.insert(value.clone(), code);
        value
    }

    /// The tokens of a login.
    pub(super) fn log_in(&mut self, grant: Grant) -> Value {
        self.counts.entry(self.name(&grant.client_id)).or_default().logins += 1;
        let lifetime = self.policy().lifetime;
        self.issue(grant, lifetime)
    }

    /// New tokens for a refresh token, which is worth nothing from then on.
    pub(super) fn renew(&mut self, client_id: &str, refresh: &str) -> Option<Value> {
        let grant = self.refresh.remove(refresh).filter(|grant| grant.client_id == client_id)?;
        self.counts.entry(self.name(client_id)).or_default().refreshes += 1;
        Some(self.issue(grant, RENEWED))
    }

    /// What a server is told of a token.
    pub(super) fn introspect(&self, token: &str) -> Value {
        match self.access.get(token).filter(|token| token.expires > SystemTime::now()) {
            None => json!({ "active": false }),
            Some(Token { grant, expires }) => {
                let mut claims = self.claims(grant, *expires);
                claims["active"] = json!(true);
                claims
            }
        }
    }

    pub(super) fn revoke(&mut self, name: &str) {
        let clients = &self.clients;
        let is_theirs = |grant: &Grant| clients.get(&grant.client_id).is_some_and(|client| client.name == name);
        self.access.retain(|_, token| !is_theirs(&token.grant));
        self.refresh.retain(|_, grant| !is_theirs(grant));
    }

    pub(super) fn counts(&self, name: &str) -> Counts {
        self.counts.get(name).copied().unwrap_or_default()
    }

    pub(super) fn audiences(&self, name: &str) -> Vec<String> {
        self.audiences.iter().filter(|(client, _)| client == name).map(|(_, audience)| audience.clone()).collect()
    }

    pub(super) fn expiry(&self, name: &str) -> Option<SystemTime> {
        self.expiries.get(name).copied()
    }

    fn issue(&mut self, grant: Grant, lifetime: Duration) -> Value {
        let expires = SystemTime::now() + lifetime;
        let name = self.name(&grant.client_id);
        self.expiries.insert(name.clone(), expires);
        let seen = (name, grant.audience.clone());
        if !self.audiences.contains(&seen) {
            self.audiences.push(seen);
        }
        let access = match self.policy().tokens {
            Tokens::Opaque => self.secret(),
            Tokens::Jwt => self.jwt(&grant, expires),
        };
        let refresh = self.secret();
        let answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": lifetime.saturating_sub(SLACK).as_secs(),
            "refresh_token": refresh, "scope": grant.scope,
        });
        self.access.insert(access, Token { grant: grant.clone(), expires });
        self.refresh.insert(refresh, grant);
        answer
    }

    fn claims(&self, grant: &Grant, expires: SystemTime) -> Value {
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_secs();
        json!({
            "iss": self.issuer, "sub": format!("user of {}", self.name(&grant.client_id)), "aud": grant.audience,
            "client_id": grant.client_id, "scope": grant.scope, "exp": expires,
        })
    }

    fn jwt(&mut self, grant: &Grant, expires: SystemTime) -> String {
        let mut claims = self.claims(grant, expires);
        claims["jti"] = json!(random());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "at+jwt" })), part(&claims));
        // Nobody checks it: servers ask. It has to look like one.
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.issuer.as_bytes()), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        self.secrets.push(token.clone());
        token
    }

    fn secret(&mut self) -> String {
        let value = random();
        self.secrets.push(value.clone());
        value
    }
}

/// The scope that somebody who asks for `asked` gets.
pub(super) fn scope(asked: Option<&String>) -> String {
    asked.filter(|asked| !asked.is_empty()).map_or_else(|| DEFAULT_SCOPE.to_owned(), Clone::clone)
}

fn random() -> String {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}
