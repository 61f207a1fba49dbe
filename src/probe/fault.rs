//! What can go wrong between a probe and the public path, as data: `remedy` says what it means.

use std::time::Duration;

use super::sse_client::Posted;

/// What went wrong below HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection could be made: name, network or TLS.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing came in time.
    #[error("nothing came within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The stream ended in order.
    #[error("the stream ended")]
    Ended,
    /// What came is no event stream that could be read.
    #[error("{0}")]
    Unreadable(String),
}

/// Why there is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// The stream failed before.
    #[error(transparent)]
    Stream(#[from] Fault),
    /// The first event is another.
    #[error("the first event is {0:?}, not \"endpoint\"")]
    OtherEvent(String),
    /// Its data is no URL.
    #[error("its data {0:?} is no URL")]
    NotUrl(String),
    /// It names another origin; most clients refuse that.
    #[error("it names another origin than that of the stream: {0}")]
    Foreign(String),
}

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskFault {
    /// The POST was refused.
    #[error("the POST was answered with {}", .0.status)]
    Refused(Box<Posted>),
    /// The POST could not be made.
    #[error("the POST failed: {0}")]
    Post(Fault),
    /// The stream failed before the answer came.
    #[error("the stream failed: {0}")]
    Stream(Fault),
}
