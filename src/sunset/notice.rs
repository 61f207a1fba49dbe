//! What clients, their users and whoever looks with `curl` are told of the end of HTTP+SSE.
//!
//! Promise: every text names the URL to use instead. An error's text is all that most clients show of it, so it has to say
//! everything within [`LONGEST`] characters, and `data` says the same to programs.

use http::header::{HeaderName, HeaderValue, LINK};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::phase::Phase;
use crate::mcp::{RpcError, code};

/// Longest text of an error: clients cut, or show one line.
pub const LONGEST: usize = 200;
/// Longest URL that leaves room for the rest.
pub const LONGEST_URL: usize = 80;
/// RFC 9745.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");
/// RFC 9457 §3.
pub const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// Where Streamable HTTP is spoken.
    pub new_url: Option<String>,
    /// A page for people that says more.
    pub info_url: Option<String>,
    /// From when HTTP+SSE is deprecated.
    pub deprecation: Option<Timestamp>,
    /// From when nobody is served any more.
    pub sunset: Option<Timestamp>,
}

impl Notice {
    /// The headers of every answer on the legacy paths: `Deprecation` (RFC 9745 §2.1, a structured date), `Sunset` (RFC 8594
    /// §3, an HTTP date) and the links that go with them (RFC 5829 §3.5, RFC 9745 §3, RFC 8594 §6).
    #[must_use]
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let deprecation = self.deprecation.map(|date| (DEPRECATION, format!("@{}", date.as_second())));
        let sunset = self.sunset.and_then(|date| Some((SUNSET, http_date(date)?)));
        let links = self.links().into_iter().map(|link| (LINK, link));
        let all = deprecation.into_iter().chain(sunset).chain(links);
        all.filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
    }

    /// The values of `Link`.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let successor = self.new_url.iter().map(|url| format!("<{url}>; rel=\"successor-version\""));
        let info = self.info_url.iter().flat_map(|url| {
            ["deprecation", "sunset"].map(|relation| format!("<{url}>; rel=\"{relation}\"; type=\"text/html\""))
        });
        successor.chain(info).collect()
    }

    /// The body of a 410 (RFC 9457), which is no JSON-RPC: it answers no message.
    #[must_use]
    pub fn problem(&self) -> Value {
        let problem = json!({
            // Without a page of its own the status says what it is (RFC 9457 §4.2.1).
            "type": self.info_url.as_deref().unwrap_or("about:blank"),
            "title": if self.info_url.is_some() { "HTTP+SSE was switched off" } else { "Gone" },
            "status": 410,
            "detail": self.text(Phase::Gone, None),
            "reason": reason(Phase::Gone),
        });
        let members = [("successor", self.new_url.clone()), ("sunset", self.sunset.map(|date| date.to_string()))];
        let Value::Object(mut problem) = problem else { return problem };
        for (name, value) in members {
            problem.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        Value::Object(problem)
    }

    /// The one answer of a session that is refused in `phase`, which lasts `until` then.
    #[must_use]
    pub fn refusal(&self, phase: Phase, until: Option<Timestamp>) -> RpcError {
        let mut error = RpcError::new(code::SUNSET, reason(phase), self.text(phase, until)).with("phase", phase.name());
        let members = [
            ("url", self.new_url.clone()),
            ("info", self.info_url.clone()),
            ("sunset", self.sunset.map(|date| date.to_string())),
            ("until", until.map(|date| date.to_string())),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                error = error.with(name, value);
            }
        }
        error
    }

    /// What people read.
    #[must_use]
    pub fn text(&self, phase: Phase, until: Option<Timestamp>) -> String {
        let end = self.sunset.map(iso);
        let happened = match (phase, until.map(iso), end) {
            (Phase::Observe | Phase::Announce, _, Some(end)) => format!("HTTP+SSE ends on {end}."),
            (Phase::Observe | Phase::Announce, _, None) => "HTTP+SSE is deprecated here and will end.".to_owned(),
            (Phase::Freeze, _, Some(end)) => format!("HTTP+SSE takes no new clients and ends on {end}."),
            (Phase::Freeze, _, None) => "HTTP+SSE takes no new clients and will end.".to_owned(),
            (Phase::Brownout, Some(until), Some(end)) => format!("HTTP+SSE is off until {until} and ends on {end}."),
            (Phase::Brownout, Some(until), None) => format!("HTTP+SSE is off until {until} and will end."),
            (Phase::Brownout, None, Some(end)) => format!("HTTP+SSE is off for a while and ends on {end}."),
            (Phase::Brownout, None, None) => "HTTP+SSE is off for a while and will end.".to_owned(),
            (Phase::Tombstone | Phase::Gone, _, Some(end)) => format!("HTTP+SSE was switched off on {end}."),
            (Phase::Tombstone | Phase::Gone, _, None) => "HTTP+SSE was switched off.".to_owned(),
        };
        match &self.new_url {
            Some(url) => format!("{happened} Set the server's URL to {url} (Streamable HTTP)."),
            None => format!("{happened} Ask its operator for the URL of Streamable HTTP."),
        }
    }

    /// The line that stands before the endpoint event from `announce` on, for whoever looks with `curl -N`. After that event
    /// go-sdk would lose bytes, and a blank line of its own some clients take for an event (WIRE, Stream 1 and 4).
    #[must_use]
    pub fn comment(&self, phase: Phase, until: Option<Timestamp>) -> String {
        format!(": {}\n", self.text(phase, until))
    }
}

/// The word for programs.
#[must_use]
pub fn reason(phase: Phase) -> &'static str {
    match phase {
        Phase::Observe | Phase::Announce => "sse_deprecated",
        Phase::Freeze => "sse_frozen",
        Phase::Brownout => "sse_brownout",
        Phase::Tombstone => "sse_tombstone",
        Phase::Gone => "sse_gone",
    }
}

/// A date, with the time where it is not midnight; always UTC.
#[must_use]
pub fn iso(at: Timestamp) -> String {
    let at = at.to_zoned(TimeZone::UTC);
    let form = match (at.hour(), at.minute(), at.second()) {
        (0, 0, 0) => "%Y-%m-%d",
        (_, _, 0) => "%Y-%m-%dT%H:%MZ",
        _ => "%Y-%m-%dT%H:%M:%SZ",
    };
    at.strftime(form).to_string()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
#[must_use]
pub fn http_date(at: Timestamp) -> Option<String> {
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            new_url: Some("https://mcp.example.com/mcp".to_owned()),
            info_url: Some("https://example.com/sse".to_owned()),
            deprecation: Some("2026-12-01T00:00:00Z".parse().expect("a time")),
            sunset: Some("2026-12-20T09:30:00Z".parse().expect("a time")),
        }
    }

    #[test]
    fn headers_are_those_of_the_rfcs() {
        let headers: Vec<(String, String)> = notice()
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("visible").to_owned()))
            .collect();
        let expected = [
            ("deprecation", "@1796083200"),
            ("sunset", "Sun, 20 Dec 2026 09:30:00 GMT"),
            ("link", r#"<https://mcp.example.com/mcp>; rel="successor-version""#),
            ("link", r#"<https://example.com/sse>; rel="deprecation"; type="text/html""#),
            ("link", r#"<https://example.com/sse>; rel="sunset"; type="text/html""#),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(Notice::default().headers().is_empty());
    }

    #[test]
    fn every_text_names_the_url_and_is_short() {
        let long = format!("https://mcp.example.com/{}", "a".repeat(LONGEST_URL - 24));
        assert_eq!(long.len(), LONGEST_URL);
        let at = "2026-12-20T09:30:07Z".parse().expect("a time");
        let notice = Notice { new_url: Some(long.clone()), sunset: Some(at), ..notice() };
        for phase in Phase::ALL {
            for until in [None, Some(at)] {
                let error = notice.refusal(phase, until);
                assert!(error.message.contains(&long), "{}", error.message);
                assert!(error.message.chars().count() <= LONGEST, "{} {}", error.message.len(), error.message);
                assert!((-32019..=-32000).contains(&error.code));
                assert_eq!(error.data["reason"], reason(phase));
                assert_eq!(error.data["url"], long);
            }
        }
    }

    #[test]
    fn problem_has_the_members_of_the_rfc_and_where_to_go() {
        let problem = notice().problem();
        assert_eq!(problem["status"], 410);
        assert_eq!(problem["type"], "https://example.com/sse");
        assert_eq!(problem["successor"], "https://mcp.example.com/mcp");
        assert_eq!(problem["sunset"], "2026-12-20T09:30:00Z");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("https://mcp.example.com/mcp")));
        let bare = Notice::default().problem();
        assert_eq!((&bare["type"], &bare["title"]), (&json!("about:blank"), &json!("Gone")));
        assert!(bare.get("jsonrpc").is_none());
    }

    #[test]
    fn dates_are_iso_and_as_short_as_they_can_be() {
        let of = |text: &str| iso(text.parse().expect("a time"));
        assert_eq!(of("2026-12-20T00:00:00Z"), "2026-12-20");
        assert_eq!(of("2026-12-20T10:30:00+01:00"), "2026-12-20T09:30Z");
        assert_eq!(of("2026-12-20T09:30:07.5Z"), "2026-12-20T09:30:07Z");
    }

    #[test]
    fn comment_is_one_line() {
        let comment = notice().comment(Phase::Announce, None);
        assert!(comment.starts_with(": HTTP+SSE ends on 2026-12-20T09:30Z.") && comment.ends_with(").\n"), "{comment}");
        assert_eq!(comment.matches('\n').count(), 1);
    }
}
