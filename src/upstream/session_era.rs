//! One session with an upstream of the session era (revisions 2025-03-26 to 2025-11-25).
//!
//! Messages pass as they are; this adds what the transport wants beside them: the session id, the negotiated version,
//! and exact media types (TypeScript refuses `*/*`, Go answers 400).

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;

use super::transport::{ACCEPT_BOTH, EVENT_STREAM, IDENTITY, JSON};
use super::{Answer, Exchange, Sending, Transport};
use crate::mcp;

/// One upstream session, from before its `initialize` to its DELETE.
#[derive(Debug)]
pub struct Link {
    transport: Arc<dyn Transport>,
    /// Taken from the 2xx answer to `initialize`, and from nowhere else.
    session_id: Option<HeaderValue>,
    /// The negotiated version, where requests have to name it.
    version: Option<HeaderValue>,
}

impl Link {
    /// A link on which nothing was sent yet.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Link { transport, session_id: None, version: None }
    }

    /// Whether the server holds a session for this link. Servers that do not have no GET stream and nothing to delete.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.session_id.is_some()
    }

    /// Takes the session id from the answer to `initialize`.
    pub fn adopt(&mut self, answer: &Answer) {
        if answer.status.is_success() {
            self.session_id = answer.session_id().cloned();
        }
    }

    /// Notes the version that `initialize` settled. Requests name it from 2025-06-18 on; before, the header did not
    /// exist and some servers refuse it.
    pub fn negotiated(&mut self, version: &str) {
        self.version = HeaderValue::from_str(version).ok().filter(|_| version >= mcp::VERSION_HEADER_SINCE);
    }

    /// POSTs a message; `headers` are those of the client's own request. On `initialize` there is neither session nor
    /// version yet (rmcp and C# refuse a version header there).
    #[must_use]
    pub fn post(&self, body: Bytes, headers: &HeaderMap) -> Sending {
        let mut headers = self.headers(headers);
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(header::CONTENT_TYPE, JSON);
        self.transport.send(Exchange { method: Method::POST, headers, body })
    }

    /// Opens the GET stream, after `last_event_id` if it was open before.
    #[must_use]
    pub fn listen(&self, headers: &HeaderMap, last_event_id: Option<&HeaderValue>) -> Sending {
        let mut headers = self.headers(headers);
        headers.insert(header::ACCEPT, EVENT_STREAM);
        if let Some(id) = last_event_id {
            headers.insert(mcp::LAST_EVENT_ID, id.clone());
        }
        self.transport.send(Exchange { method: Method::GET, headers, body: Bytes::new() })
    }

    /// Ends the session (MCP 2025-03-26, transports §Session Management 5); `None` when the server holds none.
    #[must_use]
    pub fn delete(&self, headers: &HeaderMap) -> Option<Sending> {
        self.session_id.as_ref()?;
        let headers = self.headers(headers);
        Some(self.transport.send(Exchange { method: Method::DELETE, headers, body: Bytes::new() }))
    }

    fn headers(&self, client: &HeaderMap) -> HeaderMap {
        let mut headers = client.clone();
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        if let Some(session_id) = &self.session_id {
            headers.insert(mcp::SESSION_ID, session_id.clone());
        }
        if let Some(version) = &self.version {
            headers.insert(mcp::PROTOCOL_VERSION, version.clone());
        }
        headers
    }
}
