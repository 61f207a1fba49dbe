//! What a request asks for, by its method, path and the headers that tell legacy clients from others.

use http::{Method, Request};

use super::{Config, Through, page, reply, session_id};
use crate::mcp;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The stream of a legacy session.
    Stream,
    /// The page for people.
    Page,
    /// A message of one.
    Message,
    /// Streamable HTTP on the path of the stream.
    Upgrade,
    /// The upstream's own.
    Through {
        /// It is the MCP endpoint.
        is_mcp: bool,
    },
    /// Something that the path does not do.
    Method {
        allow: &'static str,
        text: &'static str,
    },
    Unknown,
}

impl Config {
    pub(super) fn route<B>(&self, request: &Request<B>) -> Route {
        let path = request.uri().path();
        if path == self.sse_path {
            return self.route_of_stream(request);
        }
        if self.is_messages(path, request.uri().query()) {
            return match *request.method() {
                Method::POST => Route::Message,
                _ => Route::Method { allow: "POST", text: reply::POST_ONLY },
            };
        }
        match self.passthrough {
            Through::Mcp | Through::All if self.is_mcp(path) => Route::Through { is_mcp: true },
            Through::All => Route::Through { is_mcp: false },
            Through::Off | Through::Mcp => Route::Unknown,
        }
    }

    /// `Mcp-Session-Id` on a GET is Streamable HTTP; `MCP-Protocol-Version` tells nothing (Java always sends it), and neither
    /// does `Accept` (VS Code falls back with a GET that has nothing else).
    fn route_of_stream<B>(&self, request: &Request<B>) -> Route {
        let bears_session = request.headers().contains_key(mcp::SESSION_ID);
        match *request.method() {
            _ if page::is_wanted(request) => Route::Page,
            Method::GET if !bears_session => Route::Stream,
            Method::GET | Method::DELETE if bears_session && self.upgrade => Route::Upgrade,
            Method::POST if self.upgrade => Route::Upgrade,
            _ if self.upgrade => Route::Method { allow: "GET, POST, DELETE", text: reply::STREAM_OR_UPGRADE },
            _ => Route::Method { allow: "GET", text: reply::STREAM_ONLY },
        }
    }

    /// Any path that ends in the message path: old Kotlin and Java double the slash or the prefix, Python's own servers
    /// have a slash at the end (WIRE, Stream 2). Where the upstream has paths of its own here, that could be one of them
    /// (`/api/messages`), unless it names a session.
    fn is_messages(&self, path: &str, query: Option<&str>) -> bool {
        let ours = self.messages_path.strip_suffix('/').unwrap_or(&self.messages_path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_free = match self.passthrough {
            Through::Off => true,
            Through::Mcp => !self.is_mcp(path),
            Through::All => false,
        };
        path == ours || path.ends_with(ours) && (is_free || session_id(query).is_ok())
    }

    /// The MCP endpoint; with a slash at its end and without: Starlette redirects from one to the other.
    fn is_mcp(&self, path: &str) -> bool {
        let bare = self.mcp_path.strip_suffix('/').unwrap_or(&self.mcp_path);
        path.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest == "/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route_with(change: impl FnOnce(&mut Config), method: &str, path: &str, headers: &[(&str, &str)]) -> Route {
        let mut config = Config {
            sse_path: "/sse".into(),
            messages_path: "/messages".into(),
            mcp_path: "/mcp".into(),
            max_body: 1,
            ..Config::default()
        };
        change(&mut config);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        config.route(&request.body(()).expect("a request"))
    }

    fn route(method: &str, path: &str, headers: &[(&str, &str)]) -> Route {
        route_with(|_| {}, method, path, headers)
    }

    #[test]
    fn messages_are_taken_on_any_path_that_ends_in_theirs() {
        for path in ["/messages", "/messages/", "//messages", "/gw/gw/messages", "/messages?sessionId=x"] {
            assert_eq!(route("POST", path, &[]), Route::Message, "{path}");
        }
        assert_eq!(route("POST", "/messages/x", &[]), Route::Unknown);
    }

    #[test]
    fn get_with_a_session_id_is_not_legacy_and_a_version_tells_nothing() {
        assert_eq!(route("GET", "/sse", &[("mcp-protocol-version", "2024-11-05")]), Route::Stream);
        assert_eq!(route("GET", "/sse", &[("accept", "text/event-stream")]), Route::Stream);
        assert!(matches!(route("GET", "/sse", &[("mcp-session-id", "x")]), Route::Method { allow: "GET", .. }));
        assert!(matches!(route("POST", "/sse", &[]), Route::Method { allow: "GET", .. }));
        assert!(matches!(route("GET", "/messages", &[]), Route::Method { allow: "POST", .. }));
        assert_eq!(route("GET", "/sse/.well-known/openid-configuration", &[]), Route::Unknown);
    }

    #[test]
    fn stream_path_is_streamable_http_for_those_who_speak_it() {
        let upgrade = |config: &mut Config| config.upgrade = true;
        for (method, headers, expected) in [
            ("POST", &[][..], Route::Upgrade),
            ("GET", &[("mcp-session-id", "x")][..], Route::Upgrade),
            ("DELETE", &[("mcp-session-id", "x")][..], Route::Upgrade),
            ("GET", &[("mcp-protocol-version", "2025-06-18")][..], Route::Stream),
        ] {
            assert_eq!(route_with(upgrade, method, "/sse", headers), expected, "{method}");
        }
        for method in ["DELETE", "PUT", "OPTIONS", "HEAD"] {
            let route = route_with(upgrade, method, "/sse", &[]);
            assert!(matches!(route, Route::Method { allow: "GET, POST, DELETE", .. }), "{method}");
        }
    }

    #[test]
    fn mcp_path_is_passed_through_and_nothing_else_of_the_server() {
        let mcp = |config: &mut Config| config.passthrough = Through::Mcp;
        for path in ["/mcp", "/mcp/", "/mcp?x=1"] {
            assert_eq!(route_with(mcp, "GET", path, &[]), Route::Through { is_mcp: true }, "{path}");
        }
        let with_slash = |config: &mut Config| {
            config.passthrough = Through::Mcp;
            config.mcp_path = "/mcp/".into();
        };
        for path in ["/mcp", "/mcp/"] {
            assert_eq!(route_with(with_slash, "GET", path, &[]), Route::Through { is_mcp: true }, "{path}");
        }
        for path in ["/mcpx", "/mcp/x", "//mcp", "/"] {
            assert_eq!(route_with(mcp, "GET", path, &[]), Route::Unknown, "{path}");
        }
        assert_eq!(route_with(mcp, "POST", "/gw/messages", &[]), Route::Message);
        let named_so = |config: &mut Config| {
            config.passthrough = Through::Mcp;
            config.mcp_path = "/api/messages".into();
        };
        assert_eq!(route_with(named_so, "POST", "/api/messages", &[]), Route::Through { is_mcp: true });
    }

    #[test]
    fn paths_of_the_server_that_end_like_ours_stay_its_own() {
        let all = |config: &mut Config| config.passthrough = Through::All;
        let is_its_own = |path: &str| route_with(all, "POST", path, &[]) == Route::Through { is_mcp: false };
        for path in ["/api/messages", "//messages", "/api/messages?x=sessionId", "/sse/", "/"] {
            assert!(is_its_own(path), "{path}");
        }
        for path in ["/messages", "/messages/", "//messages?session_id=x", "/gw/messages?sessionId=x"] {
            assert_eq!(route_with(all, "POST", path, &[]), Route::Message, "{path}");
        }
    }
}
