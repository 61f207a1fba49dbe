//! What still answers when the proxy is gone: configuration for the server in front that gives the 410 of phase `gone`.
//!
//! Promise: status, headers and body are those of [`Notice`], and nothing but the legacy endpoints is touched, so that what
//! is printed can be included in any configuration. The trap: every language has its own characters that it would
//! read as something else (`$`, `%`, `{`, quotes), and URLs may hold them.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod traefik;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;

use super::Notice;

/// Longest URL, in bytes: nginx takes no word of more than 4,096 and Envoy no such body.
pub const LONGEST_URL: usize = 512;
/// How long a stream to the upgraded server may be silent, as all of these servers write it.
const SILENCE: &str = "24h";

/// A server that can answer in the proxy's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// nginx, 1.22 or later.
    Nginx,
    /// Caddy, 2.6 or later.
    Caddy,
    /// Envoy, with the API of version 3.
    Envoy,
    /// `HAProxy`, 2.6 or later.
    Haproxy,
    /// Traefik, 3.1 or later.
    Traefik,
}

/// All that such a server has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// The path of the stream as clients ask for it, unreserved characters only.
    stream: String,
    /// The path of messages, likewise, without a slash at its end.
    messages: String,
    /// What is told.
    notice: Notice,
    /// Who serves Streamable HTTP on the path of the stream.
    upgrade: Option<Upgrade>,
}

/// Where Streamable HTTP is spoken, as the server in front reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    is_tls: bool,
    /// An IPv6 address stands in brackets.
    host: String,
    port: u16,
    /// Unreserved characters only.
    path: String,
}

impl Server {
    /// All of them.
    pub const ALL: [Server; 5] = [Server::Nginx, Server::Caddy, Server::Envoy, Server::Haproxy, Server::Traefik];

    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Server::Nginx => "nginx",
            Server::Caddy => "caddy",
            Server::Envoy => "envoy",
            Server::Haproxy => "haproxy",
            Server::Traefik => "traefik",
        }
    }
}

impl Farewell {
    /// For the public paths `stream` and `messages` (unreserved characters only).
    #[must_use]
    pub fn new(stream: &str, messages: &str, notice: &Notice, upgrade: Option<Upgrade>) -> Self {
        let notice = Notice {
            new_url: notice.new_url.as_deref().map(uri),
            info_url: notice.info_url.as_deref().map(uri),
            ..notice.clone()
        };
        let messages = messages.strip_suffix('/').unwrap_or(messages);
        Farewell { stream: stream.to_owned(), messages: messages.to_owned(), notice, upgrade }
    }

    /// The configuration.
    #[must_use]
    pub fn write(&self, server: Server) -> String {
        match server {
            Server::Nginx => nginx::write(self),
            Server::Caddy => caddy::write(self),
            Server::Envoy => envoy::write(self),
            Server::Haproxy => haproxy::write(self),
            Server::Traefik => traefik::write(self),
        }
    }

    /// The headers of the answer, but for `Content-Type`, which servers set in ways of their own.
    fn headers(&self) -> Vec<(String, String)> {
        let told = self.notice.headers().into_iter().filter_map(|(name, value)| {
            let mut name = name.to_string();
            name.get_mut(..1)?.make_ascii_uppercase();
            Some((name, value.to_str().ok()?.to_owned()))
        });
        std::iter::once(("Cache-Control".to_owned(), "no-store".to_owned())).chain(told).collect()
    }

    /// The body of the answer.
    fn body(&self) -> String {
        self.notice.problem().to_string()
    }

    /// The first comment, whose lines begin with `#` in every one of these languages. `place` says where it goes, and
    /// whatever else has to be known.
    fn comment(&self, place: &str) -> String {
        let Farewell { stream, messages, .. } = self;
        let mut text = format!(
            "What remains of HTTP+SSE when sse-sunset is gone: the same 410 for GET and HEAD {stream} and for POST {messages},\n\
             also on paths that end like it if they name a session. Everything else is left as it is.\n"
        );
        match &self.upgrade {
            Some(upgrade) => {
                let _ = write!(
                    text,
                    "POST and DELETE {stream}, and GET with Mcp-Session-Id, go on to {}: clients that have the old URL and\n\
                     try Streamable HTTP first (mcp-remote, VS Code, SDKs with a fallback) keep working.\n",
                    upgrade.url()
                );
            }
            None => {
                let _ = write!(
                    text,
                    "POST {stream} gets it too: clients that have the old URL and try Streamable HTTP first (mcp-remote, VS Code,\n\
                     SDKs with a fallback) were served there by the proxy and no longer are; --upgrade-to URL keeps them working.\n"
                );
            }
        }
        let _ = write!(
            text,
            "{place}Check:  curl -i https://HOST{stream}\n\
             Remove: once its access log shows none of these requests for longer than your rarest client is silent, say 30 days.\n"
        );
        text.lines().fold(String::new(), |all, line| all + "# " + line + "\n")
    }

    /// A regular expression for the whole path and query of a request to the stream.
    fn stream_pattern(&self) -> String {
        format!("{}([?].*)?", literal(&self.stream))
    }

    /// The same for a message: on its path, or on another that ends like it and names a session. Old Kotlin and Java double
    /// the slash or the prefix (WIRE, Stream 2), and a path of the operator's own may end like it too.
    fn messages_pattern(&self) -> String {
        let path = literal(&self.messages);
        format!("{path}/?([?].*)?|[^?]*{path}/?[?](.*&)?(sessionId|session_id)=.*")
    }
}

impl Upgrade {
    fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    fn url(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// What it expects as `Host`.
    fn authority(&self) -> String {
        let usual = if self.is_tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Without brackets.
    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for Upgrade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "is not an http:// or https:// URL".to_owned())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("is not an http:// or https:// URL".to_owned()),
        };
        let host = uri.host().unwrap_or_default();
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err("needs a host of letters, digits, and -._".to_owned());
        }
        // HAProxy checks names only, and SNI knows no addresses (RFC 6066 §3).
        if is_tls && (host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()) {
            return Err("needs a host's name where it is https: the one in its certificate".to_owned());
        }
        if uri.query().is_some() {
            return Err("must not have a query: clients' own is passed on".to_owned());
        }
        if !uri.path().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)) {
            return Err("must have a path of letters, digits, and -._~".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Upgrade { is_tls, host: host.to_owned(), port, path: uri.path().to_owned() })
    }
}

/// A URL in the characters of RFC 3986. The standard of browsers leaves some as they are that `Link` must not hold (RFC
/// 8288 §3), and that Caddy could not write (`{$`).
#[must_use]
pub fn uri(url: &str) -> String {
    let mut uri = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                let _ = write!(uri, "%{:02X}", u32::from(c));
            }
            c => uri.push(c),
        }
    }
    uri
}

/// A path as a regular expression, in characters that mean the same in every quotation.
fn literal(path: &str) -> String {
    path.replace('.', "[.]")
}

/// A scalar of YAML, of which JSON's strings are a kind.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nasty as a URL may be, in the form that the standard of browsers gives it.
    pub(super) const NASTY: &str =
        "https://mcp.example.com/it's/mcp?a=$host&b=%25%20%[path]&c={host}{$HOME}{{.}}&d=\\`^|";

    pub(super) fn farewell(upgrade: Option<&str>) -> Farewell {
        let notice = Notice {
            new_url: Some(NASTY.to_owned()),
            info_url: Some("https://example.com/sse#why".to_owned()),
            deprecation: Some("2026-12-01T00:00:00Z".parse().expect("a time")),
            sunset: Some("2026-12-20T00:00:00Z".parse().expect("a time")),
        };
        Farewell::new("/sse", "/messages", &notice, upgrade.map(|url| url.parse().expect("a URL")))
    }

    #[test]
    fn urls_hold_only_what_rfc_3986_knows() {
        assert_eq!(
            uri(NASTY),
            "https://mcp.example.com/it's/mcp?a=$host&b=%25%20%[path]&c=%7Bhost%7D%7B$HOME%7D%7B%7B.%7D%7D&d=%5C%60%5E%7C"
        );
        let farewell = farewell(None);
        let links: Vec<_> = farewell.headers().into_iter().filter(|(name, _)| name == "Link").collect();
        assert_eq!(links[0].1, format!("<{}>; rel=\"successor-version\"", uri(NASTY)));
        assert!(farewell.body().contains(&uri(NASTY)));
    }

    #[test]
    fn headers_are_those_of_the_notice_and_nothing_is_kept() {
        let names: Vec<String> = farewell(None).headers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Cache-Control", "Deprecation", "Sunset", "Link", "Link", "Link"]);
    }

    #[test]
    fn upgrade_is_read_and_what_no_server_could_write_is_refused() {
        let upgrade: Upgrade = "http://127.0.0.1:3001/mcp".parse().expect("a URL");
        assert_eq!(
            (upgrade.url().as_str(), upgrade.authority().as_str()),
            ("http://127.0.0.1:3001/mcp", "127.0.0.1:3001")
        );
        let upgrade: Upgrade = "http://[::1]/".parse().expect("a URL");
        assert_eq!((upgrade.origin().as_str(), upgrade.bare_host(), upgrade.port), ("http://[::1]", "::1", 80));
        for wrong in [
            "/mcp",
            "ftp://a/mcp",
            "http://a/mcp?x=1",
            "http://a/m$cp",
            "http://a/%7B",
            "http://a;b/mcp",
            "x",
            "https://127.0.0.1/mcp",
            "https://[::1]/mcp",
        ] {
            assert!(wrong.parse::<Upgrade>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn comment_says_what_where_how_to_check_and_when_to_remove() {
        for server in Server::ALL {
            for upgrade in [None, Some("http://127.0.0.1:3001/mcp")] {
                let text = farewell(upgrade).write(server);
                let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with("# ")).collect();
                let comment = comment.join("\n");
                for part in
                    ["410", "Where: ", "Check:  curl -i https://HOST/sse", "Remove: ", "try Streamable HTTP first"]
                {
                    assert!(comment.contains(part), "{part}: {comment}");
                }
                assert_eq!(comment.contains("--upgrade-to"), upgrade.is_none(), "{comment}");
                assert_eq!(text.contains("/mcp;") || text.contains(":3001"), upgrade.is_some(), "{text}");
            }
        }
    }

    #[test]
    fn patterns_take_paths_literally() {
        let farewell = Farewell::new("/v1.0/sse", "/v1.0/messages/", &Notice::default(), None);
        assert_eq!(farewell.stream_pattern(), "/v1[.]0/sse([?].*)?");
        assert!(farewell.messages_pattern().starts_with("/v1[.]0/messages/?([?].*)?|"));
    }
}
