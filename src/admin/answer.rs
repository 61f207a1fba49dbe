//! Every HTTP answer for operators, in one place. What goes wrong is a problem document (RFC 9457) that says what to do.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use ring::digest;
use serde_json::{Value, json};

use super::ROUTES;
use crate::report::render::page::{self, Mode};
use crate::sunset::Denied;

/// The body of any answer.
pub type Body = Full<Bytes>;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
/// A problem that is what its status says (RFC 9457 §4.2.1).
const ANY: &str = "about:blank";
const TEXT: &str = "text/plain; charset=utf-8";

/// Of all that an answer could be, only the page is let do something: its own style and script by their hashes, and asking
/// this listener.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    HeaderValue::try_from(page::content_security_policy(Mode::Live)).expect("a policy is visible characters")
});

/// Why a request was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The `Host` is a name that an outsider may have made lead here.
    Host,
    /// The `Host` stands there twice, or contradicts the target.
    UnclearHost,
    /// No such path.
    Path,
    /// Not with this method.
    Method { allow: &'static str },
    /// A page of another site wants to change something.
    Origin,
    /// Nobody may change anything.
    NoToken,
    /// The token is missing or another.
    WrongToken,
    /// The report could not be made.
    NoReport,
    /// The traffic log could not be opened again.
    Reopen(String),
    /// The body cannot be taken.
    Body(&'static str),
    /// The switch-off is not changed so.
    Denied(Denied),
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Refused::Denied(denied)
    }
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Refused::Host => StatusCode::MISDIRECTED_REQUEST,
            Refused::Path => StatusCode::NOT_FOUND,
            Refused::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Origin | Refused::NoToken => StatusCode::FORBIDDEN,
            Refused::WrongToken => StatusCode::UNAUTHORIZED,
            Refused::NoReport => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Reopen(_) | Refused::Denied(Denied::Failed) => StatusCode::INTERNAL_SERVER_ERROR,
            Refused::UnclearHost | Refused::Body(_) | Refused::Denied(Denied::Order(_)) => StatusCode::BAD_REQUEST,
            Refused::Denied(_) => StatusCode::CONFLICT,
        }
    }

    fn detail(&self) -> String {
        let text = match self {
            Refused::Host => {
                "on a loopback address this listener answers to IP addresses and localhost only, because a foreign page \
                 can make a name of its own lead here; ask for http://127.0.0.1 or http://localhost with the port"
            }
            Refused::UnclearHost => "the request must name one host, in the Host header and in its target alike",
            Refused::Path => "nothing is served here; see paths",
            Refused::Method { allow } => return format!("this path takes {allow}"),
            Refused::Origin => "pages of another site may change nothing here; send the request without a browser",
            Refused::NoToken => {
                "nothing can be changed here, as there is no token; start with --admin-token-file FILE, which holds one of \
                 16 characters or more, and send it as Authorization: Bearer TOKEN"
            }
            Refused::WrongToken => {
                "changing something needs the token of --admin-token-file, as Authorization: Bearer TOKEN"
            }
            Refused::NoReport => {
                "the live report could not be made, which is a bug of sse-sunset; sse-sunset report makes one of the traffic log"
            }
            Refused::Body(problem) => problem,
            Refused::Denied(denied) => return denied.to_string(),
            Refused::Reopen(error) => {
                return format!("the traffic log could not be opened again ({error}); the old file stays in use");
            }
        };
        text.to_owned()
    }

    pub(super) fn into_answer(self) -> Response<Body> {
        let status = self.status();
        let (title, detail) = (status.canonical_reason(), self.detail());
        let problem = if let Refused::Denied(Denied::Guard(phase, outlook)) = &self {
            json!({
                "type": ANY, "title": title, "status": status.as_u16(), "detail": detail, "phase": phase.name(),
                "verdict": outlook.verdict, "in_use": outlook.in_use, "would_be_hit": outlook.count, "would_hit": outlook.would_hit,
            })
        } else if matches!(self, Refused::Path) {
            let paths: Vec<&str> = ROUTES.iter().map(|(path, ..)| *path).collect();
            json!({"type": ANY, "title": title, "status": status.as_u16(), "detail": detail, "paths": paths})
        } else {
            json!({"type": ANY, "title": title, "status": status.as_u16(), "detail": detail})
        };
        let mut answer = typed(PROBLEM, pretty(&problem));
        *answer.status_mut() = status;
        match self {
            Refused::Method { allow } => {
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Refused::WrongToken => {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        answer
    }
}

/// An answer of this type.
pub(super) fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(super) fn text(body: impl Into<Bytes>) -> Response<Body> {
    typed(TEXT, body)
}

pub(super) fn html(page: String) -> Response<Body> {
    typed(HTML, page)
}

pub(super) fn json(document: &Value) -> Response<Body> {
    typed(JSON, pretty(document))
}

/// A document that is written already.
pub(super) fn json_text(document: String) -> Response<Body> {
    typed(JSON, document)
}

/// For people with `curl`, who are most of the readers.
fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

/// A piece of the page, or 304 to whoever has it.
pub(super) fn fragment(asked: &HeaderMap, fragment: String) -> Response<Body> {
    let digest = digest::digest(&digest::SHA256, fragment.as_bytes());
    let hex = digest.as_ref().iter().take(12).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let tag = HeaderValue::try_from(format!("\"{hex}\"")).expect("hexadecimal digits are visible");
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // RFC 9110 §13.1.2: compared weakly.
    let is_known = known
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one.as_bytes() == tag.as_bytes());
    let mut answer = html(if is_known { String::new() } else { fragment });
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().remove(header::CONTENT_TYPE);
    }
    answer.headers_mut().insert(header::ETAG, tag);
    answer
}

/// What every answer says to browsers: keep nothing, guess nothing, show it in nobody's frame, tell nobody where you were.
pub(super) fn protected(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    let resource_policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(resource_policy, HeaderValue::from_static("same-origin"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragment_is_sent_once_to_whoever_names_it() {
        let first = fragment(&HeaderMap::new(), "<p>1</p>".to_owned());
        let tag = first.headers()[header::ETAG].clone();
        assert_eq!(first.status(), 200);
        for named in [tag.to_str().expect("text").to_owned(), format!("\"x\", W/{}", tag.to_str().expect("text"))] {
            let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, named.parse().expect("a header"))]);
            assert_eq!(fragment(&asked, "<p>1</p>".to_owned()).status(), 304, "{named}");
            assert_eq!(fragment(&asked, "<p>2</p>".to_owned()).status(), 200, "{named}");
        }
    }
}
