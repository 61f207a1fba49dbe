//! What a request authenticates with, and how the upstream turned it down.
//!
//! Of a credential only a keyed hash is kept: it is compared, and never looked into or shown. The headers themselves go up
//! with the message that they came with. Trap: whoever reads `Authorization` alone takes two clients with different API
//! keys for one; so there is one place that says which headers count ([`CredentialHeaders`]).

use std::fmt;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ring::hmac;

use crate::upstream::Answer;

/// The headers that carry credentials without being named by the operator.
static WELL_KNOWN: [HeaderName; 3] =
    [header::AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("api-key")];

/// The key of this process: a hash says nothing to whoever reads it elsewhere.
static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("the operating system has random numbers");
    hmac::Key::new(hmac::HMAC_SHA256, &key)
});

/// A keyed hash of what tells one from another.
pub(crate) type Hash = [u8; 32];

/// The keyed hash of `parts`, none of which can pass for the end of another.
pub(crate) fn keyed_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut context = hmac::Context::with_key(&KEY);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.sign().as_ref());
    hash
}

/// The names of the headers that carry credentials: `Authorization`, `x-api-key`, `api-key`, and those that the operator
/// names (`--credential-header`).
#[derive(Debug, Clone, Default)]
pub struct CredentialHeaders {
    more: Arc<[HeaderName]>,
}

impl CredentialHeaders {
    /// The well-known ones and `more`.
    #[must_use]
    pub fn new(more: Vec<HeaderName>) -> Self {
        CredentialHeaders { more: more.into() }
    }

    /// The credential in a request's headers.
    #[must_use]
    pub fn credential(&self, headers: &HeaderMap) -> Credential {
        read(WELL_KNOWN.iter().chain(self.more.iter()), headers)
    }

    /// What there is of it beside `Authorization`.
    pub(super) fn beside_authorization(&self, headers: &HeaderMap) -> Credential {
        read(WELL_KNOWN.iter().chain(self.more.iter()).filter(|name| **name != header::AUTHORIZATION), headers)
    }
}

fn read<'a>(names: impl Iterator<Item = &'a HeaderName>, headers: &HeaderMap) -> Credential {
    // Every value with its name: what stands in one header cannot pass for what stands in two.
    let mut shown: Vec<&[u8]> = Vec::new();
    for name in names {
        for value in headers.get_all(name) {
            shown.extend([name.as_str().as_bytes(), value.as_bytes()]);
        }
    }
    Credential((!shown.is_empty()).then(|| keyed_hash(shown)))
}

/// What a request authenticates with; none is a credential too: the upstream may want none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Credential(Option<Hash>);

impl Credential {
    /// That of a request which shows none.
    pub const NONE: Credential = Credential(None);

    /// The credential in a request's headers, where the operator has named no header.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        CredentialHeaders::default().credential(headers)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Its keyed hash, which tells it from others for as long as the process lives.
    #[must_use]
    pub fn hash(&self) -> Option<&[u8; 32]> {
        self.0.as_ref()
    }
}

impl fmt::Debug for Credential {
    /// Without the hash: what tells clients apart does not belong into diagnostics.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() { "Credential(…)" } else { "Credential(none)" })
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

    /// Whether the credential itself is good, and only may too little for what was asked (403).
    #[must_use]
    pub fn is_of_scope(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn credential_never_shows_in_debug_output() {
        let shown = format!("{:?}", Credential::of(&headers(&[("authorization", "Bearer hunter2")])));
        assert_eq!(shown, "Credential(…)");
    }

    #[test]
    fn every_header_that_carries_a_credential_counts() {
        let names = CredentialHeaders::new(vec![HeaderName::from_static("x-tenant-key")]);
        let none = names.credential(&headers(&[("user-agent", "node")]));
        assert_eq!(none, Credential::NONE);
        let mut seen = vec![none];
        for pairs in [
            &[("authorization", "Bearer a")][..],
            &[("authorization", "Bearer b")],
            &[("authorization", "Bearer a"), ("x-api-key", "k")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("x-api-key", "k")],
            &[("api-key", "k")],
            &[("x-tenant-key", "k")],
            &[("x-api-key", "x"), ("api-key", "y")],
            &[("x-api-key", "xapi-key"), ("api-key", "")],
        ] {
            let credential = names.credential(&headers(pairs));
            assert!(!seen.contains(&credential), "{pairs:?}");
            assert_eq!(credential, names.credential(&headers(pairs)));
            seen.push(credential);
        }
        let unnamed = Credential::of(&headers(&[("x-tenant-key", "k")]));
        assert_eq!(unnamed, Credential::NONE, "a header that the operator did not name");
    }
}
