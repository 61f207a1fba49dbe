//! `GET /sse`: opens a session and its stream.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{HeaderMap, HeaderName, Request, Response};

use super::probe::Probe;
use super::visitor::Visitor;
use super::{Answered, Body, Shared, oauth};
use crate::auth::PROBE_HEADER;
use crate::mcp;
use crate::net::{self, Ender};
use crate::session::{Closer, Guest};

/// Opens a session. Nothing of it goes upstream before the first POST: mcp-remote opens two streams as probes and leaks
/// them. What may go is a knock, which leaves nothing there.
pub(super) async fn open<B>(
    shared: &Shared,
    visitor: &Visitor,
    request: &Request<B>,
    ender: Ender,
    probe: Probe,
) -> Answered {
    oauth::admit(shared, visitor, request, &probe).await?;
    let (closer, vanished) = (ender.clone(), ender.clone());
    let guest = Guest {
        client: visitor.client(),
        sender: visitor.sender(),
        connection: visitor.connection(&shared.books),
        closer: Closer::new(move || closer.end()).with_absence(move || absence(&vanished)),
        bears_comments: bears_comments(request.headers(), &shared.config.no_keep_alive),
        is_probe: is_probe(request.headers()),
        signed: probe.signed,
        last_event_id: request.headers().get(mcp::LAST_EVENT_ID).cloned(),
        version: version(request.headers()),
    };
    let endpoint = |id: &str| format!("{}{}?sessionId={id}", visitor.prefix(), shared.config.messages_path);
    let Some(stream) = shared.sessions.open(guest, endpoint).await else {
        // Far over the limit: no answer at all, so that TypeScript clients come back instead of giving up.
        ender.reset();
        return std::future::pending().await;
    };
    let mut answer = Response::new(Body::Events(stream));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // nginx would buffer the stream otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    if let Some(said) = probe.answer {
        headers.insert(PROBE_HEADER, said);
    }
    Ok(answer)
}

/// For how long a client whose connection ended had not been there.
fn absence(connection: &Ender) -> Duration {
    if connection.timed_out() { net::USER_TIMEOUT } else { Duration::ZERO }
}

/// Java's client of the SDK's 0.11.0 to 0.11.2 dies of any comment; nothing but its user agent tells it apart.
fn bears_comments(headers: &HeaderMap, no_keep_alive: &[String]) -> bool {
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !no_keep_alive.iter().any(|start| user_agent.starts_with(start.as_str()))
}

/// mcp-remote's two probes accept JSON too; no client that means to use the stream does.
fn is_probe(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| media.trim().starts_with("application/json"))
}

/// The protocol version that the request names. They are dates, and nothing else is one.
fn version(headers: &HeaderMap) -> Option<String> {
    let version = headers.get(mcp::PROTOCOL_VERSION)?.to_str().ok()?;
    let is_date = version.len() == 10
        && version
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    is_date.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn comments_are_spared_to_the_user_agents_that_were_named() {
        let java = ["Java-http-client/17".to_owned()];
        assert!(!bears_comments(&headers(header::USER_AGENT, "Java-http-client/17.0.15"), &java));
        assert!(bears_comments(&headers(header::USER_AGENT, "Java-http-client/21"), &java));
        assert!(bears_comments(&HeaderMap::new(), &java));
        assert!(bears_comments(&headers(header::USER_AGENT, "Java-http-client/17"), &[]));
    }

    #[test]
    fn version_is_a_date() {
        assert_eq!(version(&headers(mcp::PROTOCOL_VERSION, "2025-06-18")).as_deref(), Some("2025-06-18"));
        for odd in ["", "draft", "2025-06-1", "2025/06/18", "2025-06-18\u{ff}", "2025-06-18-1"] {
            let value = HeaderValue::from_bytes(odd.as_bytes()).expect("a header");
            assert_eq!(version(&HeaderMap::from_iter([(mcp::PROTOCOL_VERSION, value)])), None, "{odd}");
        }
    }

    #[test]
    fn stream_that_accepts_json_too_is_a_probe() {
        assert!(is_probe(&headers(header::ACCEPT, "application/json, text/event-stream")));
        assert!(!is_probe(&headers(header::ACCEPT, "text/event-stream")));
        assert!(!is_probe(&HeaderMap::new()));
    }
}
