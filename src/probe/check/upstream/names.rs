//! The name that we call the server by: `Host`, and the page that a request comes from: `Origin`.
//!
//! The trap: a server may look for the session first and at the name afterwards (Python), so a refusal shows only within a
//! session, or at `initialize`.

use http::StatusCode;
use http::header::{self, HeaderValue};

use super::super::finding::{Advice, On};
use super::super::http::{Http, NoAnswer, Reply, header_text};
use super::version::{self, Session};

/// A name that no server has been told of.
const FOREIGN_HOST: HeaderValue = HeaderValue::from_static("sse-sunset-check.invalid");
const FOREIGN_ORIGIN: HeaderValue = HeaderValue::from_static("https://sse-sunset-check.invalid");

/// Whether an answer refuses the name in `Host` or the page in `Origin` (UPSTREAMS A.1: 421 Python, 403 the others).
pub(super) fn is_refusal(reply: &Reply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    let named = ["host", "origin", "rebinding"].iter().any(|word| text.contains(word));
    reply.status == StatusCode::MISDIRECTED_REQUEST
        || matches!(reply.status, StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) && named
}

/// The name that the proxy sends is refused: perhaps one of the usual ones is not.
pub(super) async fn find_other(on: &mut On<'_, '_>, http: Http, refusal: &Reply) -> Option<Http> {
    let sent = sent_host(&http);
    let port = http.url.port_or_known_default().unwrap_or_default();
    let candidates = [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "localhost".to_owned()];
    let mut taken = None;
    for candidate in candidates.into_iter().filter(|candidate| *candidate != sent) {
        let Ok(value) = HeaderValue::from_str(&candidate) else { continue };
        let other = http.with(header::HOST, value);
        if takes_us(&other).await {
            taken = Some((candidate, other));
            break;
        }
    }
    let allow = format!("whoever runs the server: add {sent} to its allowed hosts");
    let remedy = match &taken {
        Some((candidate, _)) => format!("give serve --upstream-host {candidate}, which it takes; or {allow}"),
        None => format!("{allow}, or give serve --upstream-host with a name that is there"),
    };
    let seen = format!("refuses the Host {sent}: {}", refusal.said());
    let meaning = "every call would be refused: the server answers to certain names only";
    on.failure("host", seen, Advice::new(meaning, remedy));
    taken.map(|(_, http)| http)
}

/// Whether a session can be opened, or fails for another reason than the name; it is ended at once.
async fn takes_us(http: &Http) -> bool {
    let Ok(reply) = version::initialize(http, version::LEGACY).await else { return false };
    version::end(http, &reply).await;
    !is_refusal(&reply)
}

/// What happens to other names, within a session.
pub(super) async fn look(on: &mut On<'_, '_>, http: &Http, session: &Session, is_renamed: bool) {
    if !is_renamed {
        let sent = sent_host(http);
        let seen = match ping(&http.with(header::HOST, FOREIGN_HOST), session).await {
            Ok(reply) if !reply.status.is_success() => {
                format!("takes {sent}, which the proxy will send; refuses unknown names ({})", reply.said())
            }
            Ok(_) => format!("takes {sent}, which the proxy will send, and any other name"),
            Err(error) => format!("takes {sent}, which the proxy will send; with an unknown name: {error}"),
        };
        on.ok("host", seen);
    }
    // The proxy never sends one: shown so that nobody looks for it there.
    let seen = match ping(&http.with(header::ORIGIN, FOREIGN_ORIGIN), session).await {
        Ok(reply) if !reply.status.is_success() => {
            format!("refuses foreign pages ({}); the proxy sends no Origin", reply.said())
        }
        Ok(_) => "takes any Origin; the proxy sends none".to_owned(),
        Err(error) => format!("with a foreign Origin: {error}; the proxy sends none"),
    };
    on.ok("origin", seen);
}

async fn ping(http: &Http, session: &Session) -> Result<Reply, NoAnswer> {
    http.post(&session.headers, &session.ping_request).await
}

fn sent_host(http: &Http) -> String {
    let of_url = || {
        let host = http.url.host_str().unwrap_or_default();
        http.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    header_text(&http.headers, &header::HOST).map_or_else(of_url, str::to_owned)
}
