//! `GET /sse`: opens a session and its stream.

use http::header::{self, HeaderValue};
use http::{HeaderName, Response};
use http_body_util::Either;

use super::visitor::Visitor;
use super::{Answered, Shared};
use crate::net::Ender;
use crate::session::{Closer, Guest};

/// Opens a session. Nothing goes upstream before the first POST: mcp-remote opens two streams as probes and leaks them.
pub(super) async fn open(shared: &Shared, visitor: &Visitor, ender: Ender) -> Answered {
    let closer = ender.clone();
    let connection = visitor.connection(&shared.books);
    let guest = Guest { client: visitor.client(), connection, closer: Closer::new(move || closer.end()) };
    let endpoint = |id: &str| format!("{}{}?sessionId={id}", visitor.prefix(), shared.config.messages_path);
    let Some(stream) = shared.sessions.open(guest, endpoint).await else {
        // Far over the limit: no answer at all, so that TypeScript clients come back instead of giving up.
        ender.reset();
        return std::future::pending().await;
    };
    let mut answer = Response::new(Either::Right(stream));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // nginx would buffer the stream otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(answer)
}
