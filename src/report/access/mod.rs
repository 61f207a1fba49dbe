//! Lines of the access logs that the old server, or what stood before it, wrote: evidence for the first day.
//!
//! Promise: any bytes are read without a panic, each line by itself; no query leaves this module, because that of a
//! legacy POST holds the session id; texts come printable and capped, as our own log has them.
//!
//! Traps, which is why this evidence is of a lower grade:
//! - A stream that is still open stands in no access log: most servers write the line when the response ends.
//! - [`Access::at`] is that end in nginx, Caddy and ALB, and the beginning in Apache, so a long stream may have been
//!   in use long before or after.
//! - A POST may be a use or a `ping`: the log does not hold the message. An ALB logs on a best-effort basis only.

mod alb;
mod combined;
mod json;
mod text;
mod time;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

/// One request that the old server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access<'a> {
    /// The format of the line.
    pub kind: Kind,
    /// The time that the line names; of the end of the response or of the beginning of the request, see the module.
    pub at: Timestamp,
    /// The method as it came; empty where the request line is no request line.
    pub method: Cow<'a, str>,
    /// The path without query, host and fragment; empty where the request line is no request line.
    pub path: Cow<'a, str>,
    /// The status that the client got; 0 where the log says that it got none.
    pub status: u16,
    /// The user-agent, if there was one.
    pub user_agent: Option<Cow<'a, str>>,
    /// The client's address, or its name where the server looks names up.
    pub address: Cow<'a, str>,
    /// How long it took, where the line says so.
    pub duration: Option<Duration>,
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// nginx's and Apache's combined format, or the common one, with whatever stands behind it.
    Combined,
    /// Caddy's JSON.
    Caddy,
    /// An AWS Application Load Balancer's own format.
    Alb,
    /// The same in JSON, as exports make it.
    AlbJson,
}

impl Kind {
    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Combined => "nginx/Apache combined",
            Kind::Caddy => "Caddy JSON",
            Kind::Alb => "ALB",
            Kind::AlbJson => "ALB JSON",
        }
    }
}

/// Reads a line; `None` when it is in none of the formats.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Access<'_>> {
    if line.first() == Some(&b'{') {
        return json::parse(line);
    }
    alb::parse(line).or_else(|| combined::parse(line))
}

/// Where the old server served HTTP+SSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Of the stream.
    stream: Vec<String>,
    /// Of the messages.
    messages: Vec<String>,
}

impl Paths {
    /// These paths; a slash at the end makes no difference (Python servers have `/messages/`).
    #[must_use]
    pub fn new(stream: &[&str], messages: &[&str]) -> Self {
        let owned = |paths: &[&str]| paths.iter().map(|path| bare(path).to_owned()).collect();
        Paths { stream: owned(stream), messages: owned(messages) }
    }
}

impl Default for Paths {
    /// Those of the official SDKs' examples.
    fn default() -> Self {
        Paths::new(&["/sse"], &["/messages", "/message"])
    }
}

/// What a legacy client did, as far as an access log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LegacyKind {
    /// It got a stream.
    Stream,
    /// It posted a message, which was taken.
    Post,
    /// It tried either and was turned away, or got no answer. Evidence that it still comes, never of silence.
    Refused,
}

/// What the request was, if it was a legacy client's. A POST on the stream's path is none: it is Streamable HTTP.
#[must_use]
pub fn legacy(access: &Access<'_>, paths: &Paths) -> Option<LegacyKind> {
    let path = bare(&access.path);
    let is_among = |paths: &[String]| paths.iter().any(|known| known == path);
    match (access.method.as_ref(), access.status) {
        ("GET", status) if is_among(&paths.stream) => {
            Some(if status == 200 { LegacyKind::Stream } else { LegacyKind::Refused })
        }
        ("POST", status) if is_among(&paths.messages) => {
            Some(if (200..300).contains(&status) { LegacyKind::Post } else { LegacyKind::Refused })
        }
        _ => None,
    }
}

fn bare(path: &str) -> &str {
    path.trim_end_matches('/')
}

#[cfg(test)]
mod tests;
