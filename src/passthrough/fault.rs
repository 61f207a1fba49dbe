//! Why a request could not be passed through, and whose fault that is.

use http::StatusCode;

use super::body::Unsent;
use super::exchange::Cut;
use crate::upstream::{Fault, TooSlow, root_cause};

/// There is no answer to pass on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection was made.
    #[error("the server behind this proxy cannot be reached ({0}); nothing was sent to it")]
    Unreachable(String),
    /// It took too long to make one.
    #[error("the server behind this proxy cannot be reached ({0}); nothing was sent to it")]
    Slow(String),
    /// The upstream broke off before the head of its answer.
    #[error("the server behind this proxy broke off without an answer ({0}); the request may have run")]
    Broken(String),
    /// What came is no answer, in the words of whoever saw that.
    #[error("the server behind this proxy failed: {0}")]
    Fault(String),
    /// The client broke off.
    #[error("the body ended before it was whole")]
    Incomplete,
    /// The client stopped sending.
    #[error("the body stopped coming; the request was given up")]
    Stalled,
    /// The process ends.
    #[error("this proxy is being restarted; the request may have run, try again")]
    Ending,
    /// More is passed through than descriptors are there for.
    #[error("this proxy passes as many requests on as it may (--max-connections); try again later")]
    Crowded,
    /// A body of unknown length with a method that has none: hyper would leave it out.
    #[error("a request of this method may have a body only if Content-Length says how long it is")]
    Unsized,
    /// The MCP endpoint has moved, and the request cannot be sent there a second time.
    #[error("the server behind this proxy has its endpoint under another path; the request did not run, send it again")]
    Moved,
    /// The target is no path.
    #[error("the target of the request is no path")]
    Target,
}

impl Failure {
    /// What kept a request from being answered.
    pub(super) fn of(error: &hyper_util::client::legacy::Error) -> Self {
        if is_caused_by::<Unsent>(error) {
            return Failure::Incomplete;
        }
        let cause = root_cause(error);
        match error.is_connect() {
            true if is_caused_by::<TooSlow>(error) => Failure::Slow(cause),
            true => Failure::Unreachable(cause),
            false => Failure::Broken(cause),
        }
    }

    /// What the client is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Failure::Unreachable(_) | Failure::Broken(_) | Failure::Fault(_) | Failure::Moved => {
                StatusCode::BAD_GATEWAY
            }
            Failure::Slow(_) => StatusCode::GATEWAY_TIMEOUT,
            Failure::Incomplete | Failure::Target => StatusCode::BAD_REQUEST,
            Failure::Stalled => StatusCode::REQUEST_TIMEOUT,
            Failure::Unsized => StatusCode::LENGTH_REQUIRED,
            Failure::Ending | Failure::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreachable(cause) => Failure::Unreachable(cause),
            Fault::Broken(cause) => Failure::Broken(cause),
            other => Failure::Fault(other.to_string()),
        }
    }
}

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Stalled => Failure::Stalled,
            Cut::Over => Failure::Ending,
        }
    }
}

fn is_caused_by<E: std::error::Error + 'static>(error: &dyn std::error::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<E>() {
            return true;
        }
        cause = inner.source();
    }
    false
}
