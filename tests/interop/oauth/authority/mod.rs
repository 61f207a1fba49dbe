//! A small authorization server: metadata (RFC 8414), registration (RFC 7591), authorization code with PKCE S256, refresh
//! tokens that rotate, `resource` (RFC 8707) as audience, and introspection (RFC 7662) for the servers that it protects.
//!
//! Promises: it checks what a real one checks (redirect URI, challenge, single use of codes and refresh tokens), logs
//! everybody in at once, and keeps books that the tests read: who logged in, who renewed, for which audience, and every
//! secret that was ever handed out, so that logs can be searched for them.
//!
//! The trap: clients are told that a token lasts two seconds less than it does, because they start their clock when the
//! answer arrives; when the token has expired here, it has there.

mod books;
mod endpoints;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use self::books::Books;
use super::http::Listening;

/// What an access token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    /// Signed claims that everybody can read.
    Jwt,
    /// A random string.
    Opaque,
}

/// How it treats clients.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) tokens: Tokens,
    /// The resources that tokens are issued for; any, if none are named.
    pub(super) resources: Vec<String>,
    /// The audience of tokens for which no resource was named.
    pub(super) default_audience: String,
    /// How long the token of a login lasts; renewed ones last an hour.
    pub(super) lifetime: Duration,
}

/// What happened at the authorization server on behalf of one client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Codes turned into tokens.
    pub(super) logins: usize,
    /// Tokens renewed.
    pub(super) refreshes: usize,
    /// Requests of any kind that it sent.
    pub(super) requests: usize,
}

/// A running authorization server.
pub(super) struct Authority {
    books: Arc<Mutex<Books>>,
    listening: Listening,
}

impl Authority {
    pub(super) fn start() -> Self {
        let books = Arc::new(Mutex::new(Books::default()));
        let kept = Arc::clone(&books);
        let listening = Listening::start(move |request| endpoints::answer(Arc::clone(&kept), request));
        books.lock().expect("nobody panicked").issuer = listening.origin();
        Authority { books, listening }
    }

    /// What the metadata calls it.
    pub(super) fn issuer(&self) -> String {
        self.listening.origin()
    }

    pub(super) fn set_policy(&self, policy: Policy) {
        self.with(|books| books.policy = Some(policy));
    }

    /// What the client that registered under `name` did so far.
    pub(super) fn counts(&self, name: &str) -> Counts {
        self.with(|books| books.counts(name))
    }

    /// The audiences of the tokens that this client got, each once, in order.
    pub(super) fn audiences(&self, name: &str) -> Vec<String> {
        self.with(|books| books.audiences(name))
    }

    /// When the newest token of this client expires.
    pub(super) fn expiry(&self, name: &str) -> SystemTime {
        self.with(|books| books.expiry(name)).expect("a client that has logged in")
    }

    /// Takes back all that this client holds, so that it has to log in again.
    pub(super) fn revoke(&self, name: &str) {
        self.with(|books| books.revoke(name));
    }

    /// Every token, refresh token, code and verifier that there ever was.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.with(|books| books.secrets.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Books) -> T) -> T {
        act(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
