//! Whether the credential in use is known to be good (WIRE, POST 2).
//!
//! Clients renew a token only when a POST is answered 401, so a POST must wait for the upstream's word while the
//! credential is unknown, and must not wait once it is good: Python sends its POSTs one at a time, and one that waits
//! for a tool would block the answer to the question the tool asks.

use std::sync::Arc;

use http::HeaderMap;

use crate::auth::{Credential, Rejection};

/// What is known of one session's credentials.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    accepted: Option<Accepted>,
    rejected: Option<(Credential, Rejection)>,
}

#[derive(Debug)]
struct Accepted {
    credential: Credential,
    /// The headers it came with: what the proxy sends of its own accord goes up under these.
    headers: Arc<HeaderMap>,
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
    pub(super) fn standing(&self, credential: &Credential) -> Standing<'_> {
        if let Some((rejected, rejection)) = &self.rejected
            && rejected == credential
        {
            return Standing::Rejected(rejection);
        }
        match &self.accepted {
            Some(accepted) if accepted.credential == *credential => Standing::Accepted,
            _ => Standing::Unknown,
        }
    }

    /// The upstream took a message (2xx) that came with these headers. Returns whether what it took before was
    /// another, or was turned down since.
    pub(super) fn accept(&mut self, credential: &Credential, headers: &Arc<HeaderMap>) -> bool {
        let was_rejected = self.rejected.as_ref().is_some_and(|(rejected, _)| rejected == credential);
        if was_rejected {
            self.rejected = None;
        }
        let is_new = self.accepted.as_ref().is_none_or(|accepted| accepted.credential != *credential);
        self.accepted = Some(Accepted { credential: credential.clone(), headers: Arc::clone(headers) });
        is_new || was_rejected
    }

    /// The upstream turned `credential` down. What it took last is kept all the same: what goes up of the proxy's own accord
    /// goes up under that or fails, and never as nobody's.
    pub(super) fn reject(&mut self, credential: Credential, rejection: Rejection) {
        self.rejected = Some((credential, rejection));
    }

    /// The credential of the last message that the upstream took.
    pub(super) fn accepted(&self) -> Option<&Credential> {
        self.accepted.as_ref().map(|accepted| &accepted.credential)
    }

    /// The headers of the last message that the upstream took; none before the first.
    #[must_use]
    pub(super) fn headers(&self) -> Arc<HeaderMap> {
        self.accepted.as_ref().map(|accepted| Arc::clone(&accepted.headers)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    fn bearer(token: &'static str) -> (Credential, Arc<HeaderMap>) {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(token))]);
        (Credential::of(&headers), Arc::new(headers))
    }

    #[test]
    fn credential_is_unknown_then_accepted_then_rejected_and_another_is_unknown() {
        let ((old, old_headers), (new, _)) = (bearer("Bearer old"), bearer("Bearer new"));
        let rejection = Rejection { status: http::StatusCode::UNAUTHORIZED, challenges: Vec::new() };
        let mut credentials = Credentials::default();
        assert_eq!(credentials.standing(&old), Standing::Unknown);
        credentials.accept(&old, &old_headers);
        assert_eq!(credentials.standing(&old), Standing::Accepted);
        assert_eq!(credentials.headers(), old_headers);
        credentials.reject(old.clone(), rejection.clone());
        assert_eq!(credentials.standing(&old), Standing::Rejected(&rejection));
        assert_eq!(credentials.standing(&new), Standing::Unknown);
        assert_eq!(credentials.headers(), old_headers, "nothing goes up without a credential where there was one");
        credentials.accept(&old, &old_headers);
        assert_eq!(credentials.standing(&old), Standing::Accepted);
    }
}
