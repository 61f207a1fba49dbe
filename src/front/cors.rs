//! What pages in browsers may do (SECURITY §4).
//!
//! An allowed origin is echoed, never `*`: the endpoint event is a secret, and with `*` any page could read it
//! (CVE-2026-34237). Errors carry the headers too, or a page could not tell one from a dead network.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::Body;
use crate::mcp;

/// What clients send across origins: TypeScript's browser client asks even for `GET /sse`, as it sends `Authorization`.
const ALWAYS_ALLOWED: &str = "authorization, content-type, mcp-protocol-version, last-event-id, cache-control";
/// What a page may read of an answer: without it, it could not find the authorization server.
const EXPOSED: HeaderValue = HeaderValue::from_static("WWW-Authenticate, Retry-After, Deprecation, Sunset, Link");
/// And what it needs of an answer of Streamable HTTP.
const EXPOSED_OF_UPSTREAM: HeaderValue =
    HeaderValue::from_static("Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After");
/// What MCP's transport does.
const FOR_UPSTREAM: &str = "GET, POST, DELETE";
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const VARIES: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Whether the request asks whether another may be made (Fetch, CORS-preflight request).
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    let asks = |name| request.headers().contains_key(name);
    *request.method() == Method::OPTIONS && asks(header::ORIGIN) && asks(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Yes: `methods`, with the headers that clients send and `further` ones.
pub(super) fn permission(methods: &'static str, further: &[HeaderName]) -> Response<Body> {
    let names = further.iter().fold(ALWAYS_ALLOWED.to_owned(), |names, name| format!("{names}, {name}"));
    let mut answer = Response::new(Body::text(""));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    if let Ok(names) = HeaderValue::try_from(names) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(header::VARY, VARIES);
    answer
}

/// Yes, to what is the upstream's own: what MCP's transport does, with the headers that the page wants to send. Which of them
/// it understands is the upstream's to say.
pub(super) fn permission_for_upstream<B>(request: &Request<B>) -> Response<Body> {
    let mut answer = permission(FOR_UPSTREAM, &[]);
    if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    answer
}

/// Lets the page of `origin`, which is allowed, read an answer.
pub(super) fn let_read(origin: HeaderValue, answer: &mut Response<Body>) {
    let exposed = match answer.body() {
        Body::Through(_) | Body::Said(_) => EXPOSED_OF_UPSTREAM,
        Body::Text(_) if answer.headers().contains_key(mcp::SESSION_ID) => EXPOSED_OF_UPSTREAM,
        Body::Text(_) | Body::Events(_) => EXPOSED,
    };
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    let varies = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = varies.flat_map(|value| value.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case("origin")) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
