//! Every HTTP answer the front makes, in one place.
//!
//! Errors are plain text with a non-empty body (Java hangs on an empty one), never JSON-RPC (C# would take that for the
//! server's word and not fall back), never a redirect (WIRE, HTTP).

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::Body;
use super::foreign::Trouble;
use crate::auth::Rejection;
use crate::auth::oauth::challenge::named_scope;
use crate::passthrough::Failure;
use crate::sunset::notice::PROBLEM;

pub(super) const STREAM_ONLY: &str = "this is the legacy SSE endpoint: open it with GET. Clients that speak Streamable \
                                      HTTP use the server's own MCP URL";
pub(super) const STREAM_OR_UPGRADE: &str = "this is the legacy SSE endpoint: open it with GET. Clients that speak Streamable \
                                            HTTP POST to it first";
pub(super) const POST_ONLY: &str = "this is the legacy message endpoint: POST JSON-RPC messages to it, with the \
                                    sessionId that the endpoint event of GET /sse named";

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Why a request was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The `Host` is not ours.
    Host,
    /// The `Origin` may not ask.
    Origin,
    /// `CONNECT`.
    Tunnel,
    /// Not with this method.
    Method { allow: &'static str, text: &'static str },
    /// No such path; the paths there are.
    Path((String, String)),
    /// The session id is missing, doubled or not one.
    SessionId(&'static str),
    /// No such session.
    UnknownSession,
    /// No such session of Streamable HTTP.
    UnknownUpgrade,
    /// There are as many of these as there may be.
    Crowded,
    /// Not JSON, or encoded.
    MediaType(&'static str),
    /// The message cannot be read and has no id to answer under.
    Malformed(String),
    /// The body is too large and has no id to answer under.
    TooLarge(usize),
    /// The client did not send the whole body.
    Incomplete,
    /// The client took longer than this over the body.
    Slow(Duration),
    /// Nothing of the body came for this long.
    Stalled(Duration),
    /// The target is longer than this, in bytes.
    TargetTooLong(usize),
    /// The head is larger than it may be.
    HeadTooLarge { fields: usize, bytes: usize },
    /// A header cannot be passed on.
    Head(String),
    /// The request went through this proxy before.
    Loop,
    /// The session takes no more messages now.
    Busy,
    /// All sessions together hold as much as they may.
    Memory,
    /// The upstream turned the credential down.
    Credential(Rejection),
    /// The upstream turns every credential of the client down; the text is JSON.
    Loops(String),
    /// HTTP+SSE is gone; a problem document.
    Gone(String),
    /// Its session was ended, because HTTP+SSE is off; the text says so.
    EndedSession(String),
    /// HTTP+SSE is off, for so long.
    SwitchedOff { text: String, wait: Duration },
    /// The session is another replica's, which cannot be asked.
    Fleet(Trouble),
    /// A request could not be passed through.
    Through(Failure),
}

impl Refused {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Refused::Host => StatusCode::MISDIRECTED_REQUEST,
            Refused::Origin | Refused::Loops(_) => StatusCode::FORBIDDEN,
            Refused::Method { .. } | Refused::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Path(_) | Refused::UnknownSession | Refused::UnknownUpgrade | Refused::EndedSession(_) => {
                StatusCode::NOT_FOUND
            }
            Refused::SessionId(_) | Refused::Malformed(_) | Refused::Incomplete | Refused::Head(_) => {
                StatusCode::BAD_REQUEST
            }
            Refused::Slow(_) | Refused::Stalled(_) => StatusCode::REQUEST_TIMEOUT,
            Refused::TargetTooLong(_) => StatusCode::URI_TOO_LONG,
            Refused::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refused::Loop => StatusCode::LOOP_DETECTED,
            Refused::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refused::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Busy | Refused::Memory | Refused::Crowded | Refused::Fleet(_) | Refused::SwitchedOff { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Refused::Gone(_) => StatusCode::GONE,
            Refused::Credential(rejection) => rejection.status,
            Refused::Through(failure) => failure.status(),
        }
    }

    /// The word for the log.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refused::Host => "host",
            Refused::Origin => "origin",
            _ => "request",
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Refused::Host => {
                "the Host header names a host that this proxy does not serve; its operator can add it with \
                              --allowed-host or --public-url"
                    .to_owned()
            }
            Refused::Origin => "pages of this Origin may not use this proxy; its operator can add it with \
                                --allowed-origin"
                .to_owned(),
            Refused::Tunnel => "this is no forward proxy: it opens no tunnels".to_owned(),
            Refused::Method { text, .. } => (*text).to_owned(),
            Refused::Path((sse, messages)) => {
                format!("nothing is served here; legacy MCP clients use GET {sse} and POST {messages}")
            }
            Refused::SessionId(problem) => {
                format!("{problem}; post to the URL that the endpoint event of GET /sse named")
            }
            Refused::UnknownSession => {
                "there is no such session, or it has ended; open a new one with GET /sse".to_owned()
            }
            Refused::UnknownUpgrade => {
                "there is no such session, or it has ended; initialize a new one, without Mcp-Session-Id".to_owned()
            }
            Refused::Crowded => {
                "the proxy keeps as many sessions as it may (--max-sessions); try again later".to_owned()
            }
            Refused::MediaType(problem) => format!("{problem}; send the message as plain application/json"),
            Refused::Malformed(problem)
            | Refused::Head(problem)
            | Refused::Loops(problem)
            | Refused::Gone(problem)
            | Refused::EndedSession(problem)
            | Refused::SwitchedOff { text: problem, .. } => problem.clone(),
            Refused::TooLarge(limit) => format!("the message is larger than {limit} bytes, the limit of this proxy"),
            Refused::Incomplete => "the body ended before it was whole".to_owned(),
            Refused::Slow(limit) => {
                format!("the body did not come within {} s, the limit of this proxy", limit.as_secs())
            }
            Refused::Stalled(limit) => {
                format!("nothing more of the body came for {} s, the limit of this proxy", limit.as_secs())
            }
            Refused::TargetTooLong(limit) => format!("the URL is longer than {limit} bytes, the limit of this proxy"),
            Refused::HeadTooLarge { fields, bytes } => {
                format!("the request has more than {fields} headers or {bytes} bytes of them, the limits of this proxy")
            }
            Refused::Loop => {
                "this request went through this proxy before: its --upstream leads back to itself".to_owned()
            }
            Refused::Busy => "the session has too many messages waiting; send this one again later".to_owned(),
            Refused::Memory => {
                "the proxy holds as many bytes as it may (--memory); send this one again later".to_owned()
            }
            Refused::Fleet(trouble) => trouble.text().to_owned(),
            Refused::Credential(rejection) if rejection.is_of_scope() => too_narrow(rejection),
            Refused::Credential(_) => "the server behind this proxy did not accept the credential".to_owned(),
            Refused::Through(failure) => failure.to_string(),
        }
    }

    pub(super) fn into_answer(self) -> Response<Body> {
        let mut answer = text(self.status(), self.text());
        let headers = answer.headers_mut();
        match self {
            Refused::Method { allow, .. } => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Refused::Busy
            | Refused::Memory
            | Refused::Crowded
            | Refused::Fleet(_)
            | Refused::Through(Failure::Ending | Failure::Crowded) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Refused::Credential(rejection) => {
                for challenge in rejection.challenges {
                    headers.append(header::WWW_AUTHENTICATE, challenge);
                }
            }
            Refused::Gone(_) => {
                headers.insert(header::CONTENT_TYPE, PROBLEM);
                // The body of a POST was not read.
                headers.insert(header::CONNECTION, CLOSE);
            }
            Refused::SwitchedOff { wait, .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
            }
            Refused::Loops(_) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            // What is left of the body was not read: the next request would start in the middle of it.
            Refused::TooLarge(_)
            | Refused::Incomplete
            | Refused::Slow(_)
            | Refused::Stalled(_)
            | Refused::Through(Failure::Incomplete | Failure::Stalled)
            // Who sends such a head, or passes it on, may mean another end of it than ours.
            | Refused::Host
            | Refused::Head(_)
            | Refused::HeadTooLarge { .. }
            | Refused::TargetTooLong(_) => {
                headers.insert(header::CONNECTION, CLOSE);
            }
            // What follows would be the tunnel's.
            Refused::Tunnel => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
                headers.insert(header::CONNECTION, CLOSE);
            }
            _ => {}
        }
        answer
    }
}

/// The same answer, after which the connection ends: the rest of the body was not read.
pub(super) fn last(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(header::CONNECTION, CLOSE);
    answer
}

/// 202 with the body that old C# clients compare (WIRE, POST 1).
pub(super) fn accepted() -> Response<Body> {
    text(StatusCode::ACCEPTED, "Accepted")
}

/// A text.
pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    self::text(status, text)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Body::text(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, PLAIN);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
/// For people: TypeScript clients do not step up over HTTP+SSE, and show this text.
fn too_narrow(rejection: &Rejection) -> String {
    let scope = named_scope(&rejection.challenges);
    let wanted = scope.map_or_else(|| "a wider scope".to_owned(), |scope| format!("the scope {scope:?}"));
    format!("insufficient_scope: the server behind this proxy wants a credential with {wanted}")
}
