//! Whether a `GET /sse` is the operator's own probe, and what its answer says to that.
//!
//! Anything but a valid signature is ordinary traffic, served and logged as such. The answer says why, so that a canary that
//! goes wrong can tell whose clock or key it is; whoever has no key learns from it that there is one, and nothing else.

use http::{HeaderValue, Request};

use crate::auth::{ACCEPTED, SignedProbe, Verifier};
use crate::mcp;

/// What a request says of being a probe.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// It is one, by proof.
    pub(super) signed: Option<SignedProbe>,
    /// What the answer says.
    pub(super) answer: Option<HeaderValue>,
}

impl Probe {
    /// Uses the signature up, if there is one and someone to verify it.
    pub(super) fn of<B>(request: &Request<B>, verifier: Option<&Verifier>) -> Self {
        let headers = request.headers();
        let ignored =
            |why| Probe { signed: None, answer: HeaderValue::try_from(format!("ignored; reason={why}")).ok() };
        match verifier.and_then(|verifier| verifier.verify(headers)) {
            None => Probe::default(),
            Some(Err(rejected)) => {
                tracing::debug!(reason = rejected.word(), "a probe with a bad signature counts as a client");
                ignored(rejected.word())
            }
            // It would be given the session of a client.
            Some(Ok(_)) if headers.contains_key(mcp::LAST_EVENT_ID) || headers.contains_key(mcp::PROTOCOL_VERSION) => {
                ignored("resumes")
            }
            Some(Ok(signed)) => Probe { signed: Some(signed), answer: Some(HeaderValue::from_static(ACCEPTED)) },
        }
    }
}
