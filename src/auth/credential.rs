//! What a request authenticates with, and how the upstream turned it down.
//!
//! It is compared and passed on, never looked into, and never shown.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::upstream::Answer;

/// What a request authenticates with; `None` is a credential too: the upstream may want none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credential(Option<HeaderValue>);

impl Credential {
    /// The credential in a request's headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Credential(headers.get(header::AUTHORIZATION).map(|value| {
            let mut value = value.clone();
            value.set_sensitive(true);
            value
        }))
    }

    /// The header that carries it.
    #[must_use]
    pub fn header(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

/// How the upstream turned a credential down, to be passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// 401, or 403 with `insufficient_scope`.
    pub status: StatusCode,
    /// The `WWW-Authenticate` headers.
    pub challenges: Vec<HeaderValue>,
}

impl Rejection {
    /// 401 without a challenge.
    #[must_use]
    pub fn bare() -> Self {
        Rejection { status: StatusCode::UNAUTHORIZED, challenges: Vec::new() }
    }

    /// What `answer`, which rejects a credential, says.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        Rejection { status: answer.status, challenges: answer.challenges().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_never_shows_in_debug_output() {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer hunter2"))]);
        assert!(!format!("{:?}", Credential::of(&headers)).contains("hunter2"));
    }
}
