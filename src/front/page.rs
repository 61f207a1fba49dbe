//! What a person sees who opens the SSE URL in a browser: that it is for programs, and which URL to configure.
//!
//! Why: a browser would show an empty page that loads for ever, and the visit would stand in the log as a legacy client
//! that connected. It is neither that nor a refusal, so nothing is logged of it.
//!
//! Promise: nothing of the request stands in the page, and the page loads nothing from anywhere. The trap: some HTTP
//! libraries of programs ask for HTML too when nobody told them what to ask for; see [`asks_for_page`].

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use maud::{DOCTYPE, PreEscaped, html};
use ring::digest::{SHA256, digest};

use super::{Body, Config};
use crate::mcp;
use crate::sunset::{Phase, Rules};

const STYLE: &str = include_str!("page.css");
/// Where the transports are described, the older one too.
const TRANSPORTS: &str = "https://modelcontextprotocol.io/specification/2025-11-25/basic/transports";

/// The style above by its hash and the empty icon, and nothing else.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

/// Whether a browser asks, for a person. A stream that is resumed, and one of a session, are a program's.
pub(super) fn is_wanted<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    matches!(*request.method(), Method::GET | Method::HEAD)
        && !headers.contains_key(mcp::SESSION_ID)
        && !headers.contains_key(mcp::LAST_EVENT_ID)
        && asks_for_page(headers)
}

/// Whether `Accept` names HTML, and would rather have it than an event stream (RFC 9110 §12.5.1).
///
/// A bare `*` is no media range: Java's `HttpURLConnection` sends one behind `text/html` when a program says nothing.
fn asks_for_page(headers: &HeaderMap) -> bool {
    let (mut page, mut stream) = (None, (0, 0));
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in accepted.flat_map(|value| value.split(',')).map(str::trim).filter(|range| !range.is_empty()) {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        let (media, weight) = (media.trim().to_ascii_lowercase(), weight(parameters));
        // The closest range counts, wherever it stands.
        let closeness = match media.as_str() {
            "*" => return false,
            "text/html" => {
                page = Some(weight);
                continue;
            }
            "text/event-stream" => 3,
            "text/*" => 2,
            "*/*" => 1,
            _ => continue,
        };
        stream = stream.max((closeness, weight));
    }
    page.is_some_and(|page| page > 0 && (page > stream.1 || stream.0 < 3 && page >= stream.1))
}

/// The weight among the parameters of a media range, in thousandths.
fn weight(parameters: &str) -> u16 {
    let named = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().to_owned())
    };
    let Some(value) = parameters.split(';').find_map(named) else { return 1000 };
    let (whole, fraction) = value.split_once('.').unwrap_or((&value, ""));
    match whole {
        "0" => format!("{fraction:0<3}").get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0),
        "1" => 1000,
        _ => 0,
    }
}

/// The page.
pub(super) fn answer(config: &Config, rules: &Rules) -> Response<Body> {
    let mut answer = Response::new(Body::text(document(config, rules)));
    if rules.phase == Phase::Gone {
        *answer.status_mut() = StatusCode::GONE;
    }
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // The same URL is a stream to others.
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Some(policy) = &*POLICY {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    answer
}

fn document(config: &Config, rules: &Rules) -> String {
    let modern_url = rules.notice().new_url.as_deref().or(config.modern_url.as_deref());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { "An MCP endpoint, for programs" }
                // Without it browsers ask the server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "This address is for programs" }
                    p {
                        "An MCP server (Model Context Protocol) is reached here by the assistants and tools that use it. \
                         It works; there is only nothing to see in a browser."
                    }
                    (advice(modern_url))
                    h2 { "Programs that still use this address" }
                    p.soft {
                        code { (config.public_path) (config.sse_path) }
                        " is the endpoint of the older transport, HTTP+SSE, which Streamable HTTP replaced in March 2025. \
                         "
                        (fate(rules))
                    }
                    p.soft { a href=(TRANSPORTS) rel="noreferrer" { "The transports of MCP" } " describes both." }
                }
            }
        }
    };
    page.into_string()
}

/// What becomes of programs that use the old address.
fn fate(rules: &Rules) -> String {
    match rules.phase {
        Phase::Observe => "Programs that are configured with it go on working for now.".to_owned(),
        Phase::Announce | Phase::Freeze | Phase::Brownout => rules.text(Phase::Announce),
        Phase::Tombstone | Phase::Gone => rules.text(Phase::Gone),
    }
}

/// What to configure instead.
fn advice(modern_url: Option<&str>) -> maud::Markup {
    html! {
        h2 { "To connect a program" }
        @if let Some(url) = modern_url {
            p { "Give it this URL, with the transport " strong { "Streamable HTTP" } " (in many programs: " code { "http" } "):" }
            pre { (url) }
        } @else {
            p {
                "Give it the server’s URL for " strong { "Streamable HTTP" } " (in many programs: " code { "http" }
                "). Whoever runs this server knows it; it often ends in " code { "/mcp" } "."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(method: Method, headers: &[(&'static str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/sse");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_wanted(&request.body(()).expect("a request"))
    }

    fn asks(accept: &str) -> bool {
        wanted(Method::GET, &[("accept", accept)])
    }

    #[test]
    fn browsers_are_told_from_programs_by_what_they_accept() {
        for browser in [
            // Chrome, Firefox, Safari, a text browser.
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html, text/plain, text/sgml, text/css, */*;q=0.01",
            "text/html",
            "TEXT/HTML;q=0.5, text/event-stream;q=0.4",
            "text/html, */*",
        ] {
            assert!(asks(browser), "{browser}");
        }
        for program in [
            "text/event-stream",
            "application/json, text/event-stream",
            "*/*",
            "",
            "text/event-stream, text/html",
            "text/html;q=0.5, text/event-stream",
            "text/html;q=0.5, */*",
            "text/html;q=0",
            "text/html;q=2",
            // `HttpURLConnection`.
            "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        ] {
            assert!(!asks(program), "{program}");
        }
        assert!(!wanted(Method::GET, &[]));
    }

    #[test]
    fn streams_of_a_session_and_other_methods_are_not_for_a_person() {
        let html = ("accept", "text/html");
        assert!(wanted(Method::HEAD, &[html]));
        assert!(!wanted(Method::POST, &[html]));
        assert!(!wanted(Method::GET, &[html, ("mcp-session-id", "x")]));
        assert!(!wanted(Method::GET, &[html, ("last-event-id", "x")]));
    }

    #[test]
    fn texts_of_the_operator_are_never_markup() {
        assert!(!advice(Some("https://a/<script>")).into_string().contains("<script>"));
    }
}
