//! What is the upstream's own: passed through as it is.

use http::header::{self, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;

use super::reply::Refused;
use super::visitor::Visitor;
use super::{Answered, Body, Shared, oauth};
use crate::drain::Phase;
use crate::net::Ender;
use crate::passthrough::{Content, Failure, Outgoing, Target};

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it says.
    AsAsked,
    /// To the MCP endpoint.
    Mcp,
}

/// Passes a request through.
///
/// While the process drains that goes on, new requests included: a client that is refused has no other way to go (a
/// balancer that has noticed sends none any more), and one that is answered can be told to come back on another
/// connection.
pub(super) async fn pass(
    shared: &Shared,
    visitor: &Visitor,
    request: Request<Incoming>,
    ender: Ender,
    place: Place,
) -> Answered {
    let (head, body) = request.into_parts();
    let target = match (place, head.uri.path_and_query()) {
        (Place::AsAsked, Some(asked)) => Target::Same(asked),
        (Place::AsAsked, None) => return Err(Refused::Through(Failure::Target)),
        (Place::Mcp, _) => Target::Mcp,
    };
    let outgoing = Outgoing {
        method: head.method,
        target,
        headers: &head.headers,
        content: Content::Stream(body),
        hop: visitor.hop(),
        ender,
    };
    let answer = shared.passthrough.pass(outgoing).await.map_err(Refused::Through)?;
    let mut answer = answer.map(Body::Through);
    if place == Place::Mcp {
        oauth::mind(shared, visitor, &head.headers, &mut answer).await?;
    }
    Ok(leaving(shared, answer))
}

/// A process that leaves says so: the next request goes elsewhere.
pub(super) fn leaving(shared: &Shared, mut answer: Response<Body>) -> Response<Body> {
    if shared.drain.phase() >= Phase::Closing {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
