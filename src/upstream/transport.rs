//! The seam to the upstream: one HTTP exchange.
//!
//! Two implementations: hyper over sockets, and a simulated server, so that the session's task can be driven through
//! any interleaving without a network.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::{Fault, Item};
use crate::{mcp, sse};

/// What a POST accepts: both, exactly (MCP 2025-03-26, transports §Sending Messages 2).
pub(super) const ACCEPT_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(super) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Never compressed: a compressed answer could grow without bound, and event streams would be held back.
pub(super) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The bytes of an answer, as they come. Dropping it gives the exchange up.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// An exchange under way, until the head of the answer is in.
pub type Sending = BoxFuture<'static, Result<Answer, Fault>>;

/// What is sent. Target and host are the transport's own.
#[derive(Debug)]
pub struct Exchange {
    /// POST, GET or DELETE.
    pub method: Method,
    /// All headers but `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// Empty unless POST.
    pub body: Bytes,
}

/// The head of an answer, and its body to come.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Content,
}

/// What an answer holds.
pub enum Content {
    /// Bytes that a server sent, still to be read.
    Bytes(Body),
    /// Messages made here out of what it sent.
    Messages(Messages),
}

/// Messages of an answer, as they come; [`Item::End`] comes last and always. Dropping them gives the exchange up.
pub struct Messages {
    /// The messages.
    pub items: Pin<Box<dyn Stream<Item = Item> + Send>>,
    /// Bytes that were read for them and have not become one.
    pub held: Arc<AtomicUsize>,
    /// The server itself took the request. What is answered here says nothing of the credential.
    pub is_servers: bool,
}

impl From<Body> for Content {
    fn from(body: Body) -> Self {
        Content::Bytes(body)
    }
}

impl Answer {
    /// The upstream session's id, if the server named one.
    #[must_use]
    pub fn session_id(&self) -> Option<&HeaderValue> {
        self.headers.get(mcp::SESSION_ID)
    }

    /// Whether the credential was turned down in the way that makes clients get another: 401, or 403 with
    /// `insufficient_scope` (MCP 2025-06-18, authorization §Scope Challenge Handling).
    #[must_use]
    pub fn rejects_credential(&self) -> bool {
        match self.status {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN => self
                .challenges()
                .any(|challenge| challenge.to_str().is_ok_and(|text| text.contains("insufficient_scope"))),
            _ => false,
        }
    }

    /// The `WWW-Authenticate` headers.
    pub fn challenges(&self) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(header::WWW_AUTHENTICATE).iter()
    }

    /// Whether it is the server's word on the request, and was not made here.
    #[must_use]
    pub fn is_servers(&self) -> bool {
        match &self.body {
            Content::Bytes(_) => true,
            Content::Messages(messages) => messages.is_servers,
        }
    }

    /// Whether the body is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        sse::is_event_stream(&self.headers)
    }
}

impl fmt::Debug for Answer {
    /// Without headers: they may name the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// One HTTP exchange with the upstream.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends `exchange`. The future does not borrow from the transport, and dropping it gives the exchange up.
    fn send(&self, exchange: Exchange) -> Sending;
}
