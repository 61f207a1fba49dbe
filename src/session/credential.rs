//! Whether the credential in use is known to be good (WIRE, POST 2).
//!
//! Clients renew a token only when a POST is answered 401, so a POST must wait for the upstream's word while the
//! credential is unknown, and must not wait once it is good: Python sends its POSTs one at a time, and one that waits
//! for a tool would block the answer to the question the tool asks.
//!
//! Trap: 403 with `insufficient_scope` says nothing of the credential but that it may too little for one thing. It is good
//! for everything else, so only requests for that thing wait for the upstream's word from then on: by HTTP is the one way
//! in which a client hears that it has to step up.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;

use crate::auth::{Credential, Rejection, Sender};
use crate::mcp;

/// Credentials of one session that are known to be no good. More than one: a stranger's must not make the client's own
/// forgotten.
const REJECTED: usize = 4;
/// What one session's credentials are known to be too narrow for.
const NARROW: usize = 32;

/// What is known of one session's credentials.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    accepted: Option<Accepted>,
    rejected: VecDeque<(Credential, Rejection)>,
    narrow: VecDeque<(Credential, Subject)>,
}

#[derive(Debug)]
struct Accepted {
    sender: Sender,
    /// The headers it came with first: what the proxy sends of its own accord goes up under these.
    headers: Arc<HeaderMap>,
    /// The upstream itself took it. With a server of 2026-07-28 some things are answered here.
    is_proved: bool,
}

/// What a request asks for: its method, and the tool, prompt or resource that it names.
type Subject = u64;

/// Who took a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    Upstream,
    /// It was answered here: that says nothing of the credential.
    Proxy,
}

impl Taker {
    /// Who took it, as an answer says.
    pub(super) fn of(is_servers: bool) -> Self {
        if is_servers { Taker::Upstream } else { Taker::Proxy }
    }
}

/// What is known of one credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// The upstream took a message with it.
    Accepted,
    /// Nothing is known.
    Unknown,
    /// The upstream turned it down.
    Rejected(&'a Rejection),
}

impl Credentials {
    /// What is known of `credential`.
    #[must_use]
    pub(super) fn standing(&self, credential: Credential) -> Standing<'_> {
        if let Some((_, rejection)) = self.rejected.iter().find(|(rejected, _)| *rejected == credential) {
            return Standing::Rejected(rejection);
        }
        match &self.accepted {
            Some(accepted) if accepted.is_proved && accepted.sender.credential == credential => Standing::Accepted,
            _ => Standing::Unknown,
        }
    }

    /// Whether the upstream is known to take the request `body` under `credential`, as far as that can be known before.
    #[must_use]
    pub(super) fn are_good_for(&self, credential: Credential, body: &Bytes) -> bool {
        if self.standing(credential) != Standing::Accepted {
            return false;
        }
        let mut narrow = self.narrow.iter().filter(|(narrow, _)| *narrow == credential).peekable();
        narrow.peek().is_none() || {
            let subject = subject(body);
            narrow.all(|(_, denied)| *denied != subject)
        }
    }

    /// A message (2xx) was taken that came with these headers. Returns whether what was taken before was another's, or was
    /// turned down since.
    pub(super) fn accept(&mut self, sender: &Sender, headers: &Arc<HeaderMap>, taker: Taker) -> bool {
        let is_proved = taker == Taker::Upstream;
        if !is_proved && self.accepted.is_some() {
            return false;
        }
        let before = self.rejected.len();
        if is_proved {
            self.rejected.retain(|(rejected, _)| *rejected != sender.credential);
        }
        let was_rejected = self.rejected.len() < before;
        let is_new = self
            .accepted
            .as_ref()
            .is_none_or(|accepted| accepted.sender.credential != sender.credential || !accepted.is_proved);
        match &mut self.accepted {
            // What says who it is, is the same.
            Some(accepted) if !is_new => accepted.sender = *sender,
            // Copied: they are parts of what was read with them, all of which would be kept.
            accepted => {
                *accepted = Some(Accepted { sender: *sender, headers: Arc::new(mcp::copied(headers)), is_proved });
            }
        }
        is_new || was_rejected
    }

    /// The upstream turned `credential` down. What it took last is kept all the same: what goes up of the proxy's own accord
    /// goes up under that or fails, and never as nobody's.
    pub(super) fn reject(&mut self, credential: Credential, rejection: Rejection) {
        self.rejected.retain(|(rejected, _)| *rejected != credential);
        if self.rejected.len() == REJECTED {
            self.rejected.pop_front();
        }
        self.rejected.push_back((credential, rejection));
    }

    /// The upstream said that `credential` may too little for the request `body`.
    pub(super) fn note_narrow(&mut self, credential: Credential, body: &Bytes) {
        let entry = (credential, subject(body));
        if self.narrow.contains(&entry) {
            return;
        }
        if self.narrow.len() == NARROW {
            self.narrow.pop_front();
        }
        self.narrow.push_back(entry);
    }

    /// Who sent the last message that was taken.
    pub(super) fn accepted(&self) -> Option<&Sender> {
        self.accepted.as_ref().map(|accepted| &accepted.sender)
    }

    /// Whether the upstream has taken anything.
    pub(super) fn has_proved(&self) -> bool {
        self.accepted.as_ref().is_some_and(|accepted| accepted.is_proved)
    }

    /// Whether what the proxy sends of its own accord would be turned down: the credential it goes up under was.
    pub(super) fn are_spent(&self) -> bool {
        self.accepted().is_some_and(|sender| matches!(self.standing(sender.credential), Standing::Rejected(_)))
    }

    /// The headers of the last message that was taken; none before the first.
    #[must_use]
    pub(super) fn headers(&self) -> Arc<HeaderMap> {
        self.accepted.as_ref().map(|accepted| Arc::clone(&accepted.headers)).unwrap_or_default()
    }
}

/// What `body` asks for, as a hash: names of tools may be long.
fn subject(body: &Bytes) -> Subject {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Named<'a> {
        #[serde(borrow)]
        name: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        uri: std::borrow::Cow<'a, str>,
    }
    let mut hasher = DefaultHasher::new();
    if let Some(message) = mcp::parse(body).ok().and_then(|mut messages| messages.pop()) {
        let named = message.params::<Named<'_>>().unwrap_or_default();
        (message.method(), &named.name, &named.uri).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode, header};

    use super::*;
    use crate::auth::{CredentialHeaders, Vouched};

    fn bearer(token: &'static str) -> (Sender, Arc<HeaderMap>) {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(token))]);
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        (Sender::of(&headers, &CredentialHeaders::default(), Vouched::default(), address), Arc::new(headers))
    }

    fn call(tool: &str) -> Bytes {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
        Bytes::from(text)
    }

    #[test]
    fn credential_is_unknown_then_accepted_then_rejected_and_another_is_unknown() {
        let ((old, old_headers), (new, _)) = (bearer("Bearer old"), bearer("Bearer new"));
        let rejection = Rejection { status: StatusCode::UNAUTHORIZED, challenges: Vec::new() };
        let mut credentials = Credentials::default();
        assert_eq!(credentials.standing(old.credential), Standing::Unknown);
        credentials.accept(&old, &old_headers, Taker::Upstream);
        assert_eq!(credentials.standing(old.credential), Standing::Accepted);
        assert_eq!(credentials.headers(), old_headers);
        credentials.reject(old.credential, rejection.clone());
        assert_eq!(credentials.standing(old.credential), Standing::Rejected(&rejection));
        assert!(credentials.are_spent());
        assert_eq!(credentials.standing(new.credential), Standing::Unknown);
        assert_eq!(credentials.headers(), old_headers, "nothing goes up without a credential where there was one");
        credentials.accept(&old, &old_headers, Taker::Upstream);
        assert_eq!(credentials.standing(old.credential), Standing::Accepted);
        assert!(!credentials.are_spent());
    }

    #[test]
    fn what_is_answered_here_proves_nothing_and_replaces_nothing() {
        let ((old, old_headers), (new, new_headers)) = (bearer("Bearer old"), bearer("Bearer new"));
        let mut credentials = Credentials::default();
        assert!(credentials.accept(&old, &old_headers, Taker::Proxy));
        assert_eq!(credentials.standing(old.credential), Standing::Unknown);
        assert_eq!(credentials.headers(), old_headers, "but there is something to go up under");
        assert!(credentials.accept(&old, &old_headers, Taker::Upstream), "that is news");
        assert!(!credentials.accept(&new, &new_headers, Taker::Proxy));
        assert_eq!(credentials.headers(), old_headers);
        assert_eq!(credentials.standing(new.credential), Standing::Unknown);
    }

    #[test]
    fn strangers_rejected_credential_does_not_make_the_clients_own_forgotten() {
        let (own, _) = bearer("Bearer own");
        let mut credentials = Credentials::default();
        credentials.reject(own.credential, Rejection::bare());
        for token in ["Bearer 1", "Bearer 2", "Bearer 3"] {
            credentials.reject(bearer(token).0.credential, Rejection::bare());
        }
        assert!(matches!(credentials.standing(own.credential), Standing::Rejected(_)));
    }

    #[test]
    fn credential_that_is_too_narrow_for_one_tool_is_good_for_the_others() {
        let (own, headers) = bearer("Bearer own");
        let mut credentials = Credentials::default();
        assert!(!credentials.are_good_for(own.credential, &call("read")));
        credentials.accept(&own, &headers, Taker::Upstream);
        credentials.note_narrow(own.credential, &call("write"));
        assert!(credentials.are_good_for(own.credential, &call("read")));
        assert!(!credentials.are_good_for(own.credential, &call("write")));
        assert_eq!(credentials.standing(own.credential), Standing::Accepted);
    }
}
