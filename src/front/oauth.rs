//! OAuth at the door: its documents, the 401 at `GET /sse`, and every refusal of the upstream that leaves.
//!
//! `GET /sse` answers 401 itself, because clients with a credential of their own hang for ever on a 401 to their first POST
//! (SECURITY §0, 7). The documents are for everybody, pages of any origin included; the `Host` has to be ours all the same.

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use super::guard;
use super::probe::Probe;
use super::reply::Refused;
use super::upgrade::MadeHere;
use super::visitor::Visitor;
use super::{Answered, Body, Shared};
use crate::auth::Rejection;
use crate::auth::oauth::{Asker, Endpoint, Oauth, Relayed, Turned, Wanted};
use crate::upstream::{Hop, LONGEST_DOCUMENT, forwarded_headers};

/// What a request of OAuth comes to; the request itself where it is none of ours after all.
pub(super) async fn serve(
    shared: &Shared,
    wanted: Wanted,
    request: Request<Incoming>,
) -> Result<Answered, Request<Incoming>> {
    let method = request.method();
    if *method == Method::OPTIONS {
        return Ok(Ok(whole(Oauth::permission(wanted))));
    }
    let host = guard::asked_host(&request).map(|host| host.to_string());
    let host = host.as_deref();
    let Wanted::Endpoint(endpoint) = wanted else {
        let document = if Oauth::takes(wanted, method) { shared.oauth.document(wanted, host).await } else { None };
        return document.map(|document| Ok(whole(document))).ok_or(request);
    };
    if !Oauth::takes(wanted, method) {
        return Ok(Ok(whole(Oauth::wrong_method(wanted))));
    }
    if endpoint == Endpoint::Authorize {
        return Ok(Ok(whole(shared.oauth.authorize(host, request.uri().query()).await)));
    }
    Ok(relay(shared, endpoint, host, request).await)
}

async fn relay(shared: &Shared, endpoint: Endpoint, host: Option<&str>, request: Request<Incoming>) -> Answered {
    let (head, body) = request.into_parts();
    let time = shared.config.body_time;
    let read = timeout(time, Limited::new(body, LONGEST_DOCUMENT).collect()).await.map_err(|_| Refused::Slow(time))?;
    let body = read.map_err(|error| {
        if error.is::<LengthLimitError>() { Refused::TooLarge(LONGEST_DOCUMENT) } else { Refused::Incomplete }
    })?;
    let relayed = Relayed { host, endpoint, headers: &head.headers, body: body.to_bytes() };
    Ok(whole(shared.oauth.relay(relayed).await))
}

/// Lets a stream open, or says how the upstream turns its client down.
pub(super) async fn admit<B>(
    shared: &Shared,
    visitor: &Visitor,
    request: &Request<B>,
    probe: &Probe,
) -> Result<(), Refused> {
    if shared.oauth.is_quiet() {
        return Ok(());
    }
    let headers = forwarded_headers(request.headers(), visitor.hop());
    let client = visitor.client();
    let asker = Asker::Newcomer(&client);
    let Err(rejection) = shared.oauth.admit(&headers).await else {
        shared.oauth.accepted(asker);
        return Ok(());
    };
    let refused = turned(shared.oauth.turned_down(asker, visitor.hop().host(), &headers, rejection).await);
    if probe.signed.is_none() {
        let (label, connection) = (crate::traffic::random_hex(4), visitor.connection(&shared.books));
        shared.books.refuse(&label, &client, connection, "auth", refused.status().as_u16()).await;
    }
    Err(refused)
}

/// How a client is told that posted to the session `id`, and whose credential the upstream turned down. Where that has to be
/// known by `latest` and it takes time to learn what our challenge is, none is better than the upstream's, which leads clients
/// to metadata of another URL.
pub(super) async fn refusal(
    shared: &Shared,
    hop: &Hop,
    headers: &HeaderMap,
    id: &str,
    rejection: Rejection,
    latest: Option<Instant>,
) -> Refused {
    let headers = forwarded_headers(headers, hop);
    let plain = Rejection { status: rejection.status, challenges: Vec::new() };
    let turning = shared.oauth.turned_down(Asker::Session(id), hop.host(), &headers, rejection);
    turned(match latest {
        Some(latest) => timeout_at(latest, turning).await.unwrap_or(Turned::Rejected(plain)),
        None => turning.await,
    })
}

/// The upstream took what was posted to the session `id`.
pub(super) fn accepted(shared: &Shared, id: &str) {
    shared.oauth.accepted(Asker::Session(id));
}

/// Changes an answer of the upstream that passes through on the path of the stream, so that its challenges lead to our
/// metadata; the error that the client gets in its place once it has tried enough. `sent` are the client's own headers.
pub(super) async fn mind(
    shared: &Shared,
    visitor: &Visitor,
    sent: &HeaderMap,
    answer: &mut Response<Body>,
) -> Result<(), Refused> {
    let is_servers = answer.extensions().get::<MadeHere>().is_none();
    let (status, answer) = (answer.status(), answer.headers_mut());
    if status.is_success() && is_servers && shared.oauth.counts() {
        shared.oauth.accepted(Asker::Newcomer(&visitor.client()));
    }
    let challenges: Vec<_> = answer.get_all(WWW_AUTHENTICATE).iter().cloned().collect();
    if status != StatusCode::UNAUTHORIZED && (status != StatusCode::FORBIDDEN || challenges.is_empty()) {
        return Ok(());
    }
    let (client, headers) = (visitor.client(), forwarded_headers(sent, visitor.hop()));
    let rejection = Rejection { status, challenges };
    match shared.oauth.turned_down(Asker::Newcomer(&client), visitor.hop().host(), &headers, rejection).await {
        Turned::Rejected(rejection) => {
            answer.remove(WWW_AUTHENTICATE);
            for challenge in rejection.challenges {
                answer.append(WWW_AUTHENTICATE, challenge);
            }
            Ok(())
        }
        Turned::Broken(text) => Err(Refused::Loops(text)),
    }
}

fn turned(turned: Turned) -> Refused {
    match turned {
        Turned::Rejected(rejection) => Refused::Credential(rejection),
        Turned::Broken(text) => Refused::Loops(text),
    }
}

fn whole(answer: Response<Bytes>) -> Response<Body> {
    answer.map(Body::text)
}
