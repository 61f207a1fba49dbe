//! Streamable HTTP on the path of the legacy stream, so that clients that try it first move over by themselves (WIRE, HTTP).
//!
//! What the server can do by itself is passed through raw. Kept here are only the sessions of servers that give no id: the
//! client gets one of ours, because nothing but that tells its GET from a legacy one; and where the server speaks 2026-07-28
//! only, they carry the translation.
//!
//! ```text
//! POST without an id: initialize -> Link -> 2xx with an id    -> as it is; the server's id from now on
//!                                        -> 2xx without one   -> our id (sessions); with other replicas: 405
//!                     else       -> raw
//! with an id of ours: settled in the session era -> raw, without the id;  else -> Link
//! with another id:    raw
//! ```

mod kept;
mod opening;
mod said;
mod sessions;

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, request};
use http_body::Body as _;
use hyper::body::Incoming;

pub use said::Said;
pub use sessions::UpgradeLimits;
pub(super) use sessions::Upgrades;

use super::reply::Refused;
use super::through::{self, Place};
use super::visitor::Visitor;
use super::{Answered, Body, Shared, oauth, post};
use crate::mcp;
use crate::net::Ender;
use crate::passthrough::{Content, Ticket};
use crate::session::Hold;
use crate::upstream::{self, Answer, passed_on};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Longest body that is read before it goes up, in bytes: it can be sent once more then, where the server redirects. Larger
/// ones go up as they come.
const REPLAYED: u64 = 256 << 10;

/// What the server would say of itself and keep with the client, and on the legacy URL does not (SECURITY §3).
const OF_THE_SERVER: [HeaderName; 3] = [header::SET_COOKIE, header::SERVER, HeaderName::from_static("x-powered-by")];

/// Marks an answer that was made here: that it is no refusal says nothing of the credential.
#[derive(Debug, Clone, Copy)]
pub(super) struct MadeHere;

/// Serves a request of Streamable HTTP. The challenges of the upstream lead to our metadata, because the URL is ours.
pub(super) async fn serve(
    shared: &Shared,
    visitor: &Visitor,
    mut request: Request<Incoming>,
    ender: Ender,
) -> Answered {
    request.headers_mut().remove(header::COOKIE);
    let sent = request.headers().clone();
    let mut answer = answer(shared, visitor, request, ender).await?;
    for name in OF_THE_SERVER {
        answer.headers_mut().remove(name);
    }
    oauth::mind(shared, visitor, &sent, &mut answer).await?;
    Ok(answer)
}

async fn answer(shared: &Shared, visitor: &Visitor, request: Request<Incoming>, ender: Ender) -> Answered {
    let (head, body) = request.into_parts();
    let place = match head.headers.get(mcp::SESSION_ID) {
        Some(id) if sessions::is_ours(id) => return kept::serve(shared, visitor, head, body, ender).await,
        // What its session does on another day shows nothing more than that it is a modern client.
        Some(_) => Place::Upgraded(None),
        None if may_initialize(&head) => return opening::serve(shared, visitor, head, body, ender).await,
        None => Place::Upgraded(Some(Box::new(visitor.connection(&shared.books)))),
    };
    let mut hold = shared.sessions.hold();
    let content = replayable(shared, &head, body, &mut hold).await?;
    through::pass(shared, visitor.who(), head, content, ender, place).await
}

/// The body of a request that goes up as it is: whole where it is small.
async fn replayable(
    shared: &Shared,
    head: &request::Parts,
    body: Incoming,
    hold: &mut Hold,
) -> Result<Content, Refused> {
    let length = body.size_hint().exact();
    let most = u64::try_from(shared.config.max_body).unwrap_or(u64::MAX).min(REPLAYED);
    let is_small = length.is_some_and(|length| (1..=most).contains(&length));
    Ok(if head.method == Method::POST && is_small {
        Content::Whole(post::whole(body, &shared.config, hold).await?)
    } else {
        Content::Stream(body)
    })
}

/// Whether it may be an `initialize`. A client of 2026-07-28 says on every request that it is one; the name of the method
/// alone says nothing, because mcp-remote names it in either era. What is no JSON is for the server to refuse.
fn may_initialize(head: &request::Parts) -> bool {
    let value = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_stateless = match value(mcp::METHOD) {
        Some("initialize") => false,
        Some(_) => true,
        None => value(mcp::PROTOCOL_VERSION).is_some_and(|version| version >= mcp::MODERN_VERSION),
    };
    head.method == Method::POST && !is_stateless && post::check_media_type(&head.headers).is_ok()
}

/// An answer of the link with the bytes that the server sent.
fn relayed(answer: Answer, ticket: Ticket, silence: Duration) -> Response<Body> {
    let (status, mut headers) = (answer.status, answer.headers);
    passed_on(&mut headers);
    let body = match answer.body {
        upstream::Content::Bytes(body) => Said::bytes(body, ticket),
        upstream::Content::Messages(messages) => {
            headers.insert(header::CONTENT_TYPE, said::EVENT_STREAM);
            headers.insert(header::CACHE_CONTROL, said::NO_TRANSFORM);
            Said::events(messages, &[], None, ticket, silence)
        }
    };
    let mut response = Response::new(Body::Said(Box::new(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
