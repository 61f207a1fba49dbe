//! What is the upstream's own: passed through as it is.

use http::header::{self, HeaderValue};
use http::{Response, request};

use super::reply::Refused;
use super::visitor::Who;
use super::{Answered, Body, Shared};
use crate::drain::Phase;
use crate::mcp;
use crate::net::Ender;
use crate::passthrough::{Content, Failure, Outgoing, Target};
use crate::traffic::Connection;

/// Where a request goes, and what its coming shows.
#[derive(Debug)]
pub(super) enum Place {
    /// Where it says, which is not the MCP endpoint.
    Elsewhere,
    /// Where it says, which is the MCP endpoint.
    Endpoint,
    /// To the MCP endpoint: it came on the path of the legacy stream, over this connection if that shows a client that moves.
    Upgraded(Option<Box<Connection>>),
    /// The same, in a session that is kept here: the server does not know it.
    Kept,
}

/// Passes a request through.
///
/// While the process drains that goes on, new requests included: a client that is refused has no other way to go (a
/// balancer that has noticed sends none any more), and one that is answered can be told to come back on another
/// connection.
pub(super) async fn pass(
    shared: &Shared,
    who: &Who,
    mut head: request::Parts,
    content: Content,
    ender: Ender,
    place: Place,
) -> Answered {
    let (is_kept, is_upgraded) = (matches!(place, Place::Kept), matches!(place, Place::Upgraded(_) | Place::Kept));
    let witness = match place {
        Place::Elsewhere => None,
        Place::Endpoint | Place::Kept => shared.census.witness(&head, who, None),
        Place::Upgraded(moved) => shared.census.witness(&head, who, moved.map(|moved| *moved)),
    };
    if is_kept {
        head.headers.remove(mcp::SESSION_ID);
    }
    let target = match head.uri.path_and_query() {
        _ if is_upgraded => Target::Mcp,
        Some(asked) => Target::Same(asked),
        None => return Err(Refused::Through(Failure::Target)),
    };
    let outgoing = Outgoing {
        method: head.method,
        target,
        headers: head.headers,
        content,
        tap: witness.as_ref().and_then(super::census::Witness::tap),
        hop: who.hop(),
        ender,
    };
    let answer = shared.passthrough.pass(outgoing).await.map_err(Refused::Through)?;
    if let Some(witness) = witness.filter(|_| answer.status().is_success()) {
        witness.answered(answer.headers().get(mcp::SESSION_ID));
    }
    Ok(leaving(shared, answer.map(Body::Through)))
}

/// A process that leaves says so: the next request goes elsewhere.
pub(super) fn leaving(shared: &Shared, mut answer: Response<Body>) -> Response<Body> {
    if shared.drain.phase() >= Phase::Closing {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
