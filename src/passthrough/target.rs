//! Where requests go: the upstream's origin, and the path and query of the request as they stand.
//!
//! Why not `Url`: it normalises, and `/a%2Fb`, `//a` and `/a/../b` are paths of their own to a server that says so.

use std::borrow::Cow;

use http::Uri;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The path and query of the request.
    Same(&'a PathAndQuery),
    /// The MCP endpoint, wherever it is.
    Mcp,
}

/// The upstream's origin, and its MCP endpoint.
#[derive(Debug)]
pub(super) struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// What the server is called instead, where the operator says so.
    alias: Option<Authority>,
    /// The MCP endpoint, with the query that the operator gave.
    mcp: PathAndQuery,
}

/// Where a `Location` leads.
enum Led<'a> {
    /// To a path of the upstream, whatever it calls itself; the path may name its query.
    Here(&'a str),
    Elsewhere,
}

impl Origin {
    /// Of the URL of the MCP endpoint; `host` is what its server is called instead.
    pub(super) fn of(url: &str, host: Option<&HeaderValue>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("--upstream cannot be requested: {error}"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority), Some(mcp)) = (parts.scheme, parts.authority, parts.path_and_query) else {
            return Err("--upstream is no URL with a scheme, a host and a path".to_owned());
        };
        let alias = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        Ok(Origin { scheme, authority, alias, mcp })
    }

    /// The URI of what was asked for; `None` when it is none.
    pub(super) fn same(&self, asked: &PathAndQuery) -> Option<Uri> {
        let bare = |path: &'_ str| path.strip_suffix('/').unwrap_or(path).to_owned();
        let is_mcp = bare(asked.path()) == bare(self.mcp.path());
        let path = if is_mcp { self.with_query(asked)? } else { asked.clone() };
        // `*` of OPTIONS asks about the server itself, which is the proxy here.
        Some(path).filter(|path| path.as_str().starts_with('/')).and_then(|path| self.uri(path))
    }

    /// The URI of the MCP endpoint, which is at `url` now.
    pub(super) fn endpoint(&self, url: &str) -> Option<Uri> {
        self.uri(url.parse::<Uri>().ok()?.into_parts().path_and_query?)
    }

    fn uri(&self, path: PathAndQuery) -> Option<Uri> {
        Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path).build().ok()
    }

    /// The MCP endpoint may need the query that the operator gave (Azure: `?code=`): it goes before the client's own, unless
    /// that has it already.
    fn with_query(&self, asked: &PathAndQuery) -> Option<PathAndQuery> {
        let (Some(ours), theirs) = (self.mcp.query(), asked.query().unwrap_or_default()) else {
            return Some(asked.clone());
        };
        match theirs.strip_prefix(ours) {
            Some(rest) if rest.is_empty() || rest.starts_with('&') => Some(asked.clone()),
            _ if theirs.is_empty() => format!("{}?{ours}", asked.path()).parse().ok(),
            _ => format!("{}?{ours}&{theirs}", asked.path()).parse().ok(),
        }
    }

    /// A redirect to the upstream's own address leads nowhere outside: it becomes one to the same path here. Starlette
    /// redirects `/mcp` to `/mcp/` so, and repeats the query, in which the operator's secret is not for clients.
    ///
    /// Whether that stood in it, and may stand in the body too.
    pub(super) fn hide(&self, headers: &mut HeaderMap) -> bool {
        let Some(location) = headers.get(header::LOCATION).and_then(|location| location.to_str().ok()) else {
            return false;
        };
        let led: Cow<'_, str> = match self.led(location) {
            Led::Here(path) if path.starts_with('/') => path.into(),
            Led::Here(path) => format!("/{path}").into(),
            Led::Elsewhere => location.into(),
        };
        let bare = self.without_query(&led);
        let held_query = bare.is_some();
        let shown = bare.unwrap_or_else(|| led.into_owned());
        // An empty one would lead to the very query that was asked with.
        let shown = if shown.is_empty() { "?".to_owned() } else { shown };
        if shown != location
            && let Ok(shown) = HeaderValue::try_from(shown)
        {
            headers.insert(header::LOCATION, shown);
        }
        held_query
    }

    /// The path to which a `Location` of the MCP endpoint leads, if the upstream has it.
    pub(super) fn moved(&self, location: &HeaderValue) -> Option<String> {
        let Led::Here(path) = self.led(location.to_str().ok()?) else { return None };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        path.starts_with('/').then(|| path.to_owned())
    }

    /// A server that does not know who stands before it often gets its own scheme wrong (uvicorn takes ours from
    /// `X-Forwarded-Proto`), so the authority decides.
    fn led<'a>(&self, location: &'a str) -> Led<'a> {
        let at = |scheme: &str| {
            let is_so = location.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
            is_so.then_some(scheme.len())
        };
        let Some(start) = at("http://").or_else(|| at("https://")).or_else(|| at("//")) else {
            let is_path = location.starts_with('/');
            return if is_path { Led::Here(location) } else { Led::Elsewhere };
        };
        let rest = location.get(start..).unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let is_ours = authority.parse::<Authority>().is_ok_and(|authority| {
            let names = [Some(&self.authority), self.alias.as_ref()];
            names.into_iter().flatten().any(|ours| is_same(ours, &authority))
        });
        // `//b` at its start would name another host.
        if is_ours && !path.starts_with("//") { Led::Here(path) } else { Led::Elsewhere }
    }

    /// The same without the operator's query, if that stands in it.
    fn without_query(&self, location: &str) -> Option<String> {
        let ours: Vec<&str> = self.mcp.query()?.split('&').filter(|pair| !pair.is_empty()).collect();
        let (rest, fragment) = location.split_once('#').map_or((location, None), |(rest, after)| (rest, Some(after)));
        let (path, query) = rest.split_once('?')?;
        let theirs: Vec<&str> = query.split('&').filter(|pair| !ours.contains(pair)).collect();
        if theirs.len() == query.split('&').count() {
            return None;
        }
        let query = if theirs.is_empty() { String::new() } else { format!("?{}", theirs.join("&")) };
        let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
        Some(format!("{path}{query}{fragment}"))
    }
}

/// Whether two authorities are the same server: the port may be left out where it is that of either scheme.
fn is_same(one: &Authority, other: &Authority) -> bool {
    let is_usual = |port: Option<u16>| matches!(port, None | Some(80 | 443));
    let (port, other_port) = (one.port_u16(), other.port_u16());
    one.host().eq_ignore_ascii_case(other.host()) && (port == other_port || is_usual(port) && is_usual(other_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(url, None).expect("an origin")
    }

    fn sent(origin: &Origin, target: &str) -> String {
        let asked: PathAndQuery = target.parse().expect("a path");
        origin.same(&asked).expect("a URI").to_string()
    }

    #[test]
    fn path_and_query_go_up_as_they_stand() {
        let origin = origin("http://127.0.0.1:3001/mcp");
        for raw in ["/a%2Fb", "//a", "/a/../b", "/a;b=c?d", "/mcp?x=%20&y", "/?", "/a|b"] {
            assert_eq!(sent(&origin, raw), format!("http://127.0.0.1:3001{raw}"));
        }
        assert!(origin.same(&PathAndQuery::from_static("*")).is_none());
    }

    #[test]
    fn query_of_the_endpoint_is_there_once() {
        let origin = origin("https://a.example/mcp?code=c");
        let moved = origin.endpoint("https://a.example/mcp/?code=c").expect("a URI");
        assert_eq!(moved.to_string(), "https://a.example/mcp/?code=c");
        assert_eq!(sent(&origin, "/mcp"), "https://a.example/mcp?code=c");
        assert_eq!(sent(&origin, "/mcp?x=1"), "https://a.example/mcp?code=c&x=1");
        assert_eq!(sent(&origin, "/mcp?code=c&x=1"), "https://a.example/mcp?code=c&x=1");
        assert_eq!(sent(&origin, "/mcp?code=cc"), "https://a.example/mcp?code=c&code=cc");
        assert_eq!(sent(&origin, "/mcp/"), "https://a.example/mcp/?code=c");
        assert_eq!(sent(&origin, "/mcp/?x=1"), "https://a.example/mcp/?code=c&x=1");
        assert_eq!(sent(&origin, "/other"), "https://a.example/other");
    }

    fn hidden(origin: &Origin, location: &'static str) -> String {
        let mut headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(location))]);
        origin.hide(&mut headers);
        headers[header::LOCATION].to_str().expect("a text").to_owned()
    }

    #[test]
    fn redirect_of_the_upstream_to_itself_stays_here() {
        let named = HeaderValue::from_static("mcp.internal");
        let origin = Origin::of("http://127.0.0.1:3001/mcp", Some(&named)).expect("an origin");
        for (location, expected) in [
            ("http://127.0.0.1:3001/mcp/", "/mcp/"),
            ("http://127.0.0.1:3001", "/"),
            ("http://127.0.0.1:3001?x=1", "/?x=1"),
            // uvicorn, told of the client's scheme; and one that knows none.
            ("https://127.0.0.1:3001/mcp/?x=1#y", "/mcp/?x=1#y"),
            ("HTTPS://127.0.0.1:3001/mcp/", "/mcp/"),
            ("//127.0.0.1:3001/mcp/", "/mcp/"),
            ("https://mcp.internal/mcp/", "/mcp/"),
            ("http://MCP.internal:80/mcp/", "/mcp/"),
            ("http://user@mcp.internal/mcp/", "/mcp/"),
            ("http://127.0.0.1:30012/mcp/", "http://127.0.0.1:30012/mcp/"),
            ("http://127.0.0.1/mcp/", "http://127.0.0.1/mcp/"),
            ("http://127.0.0.1:3001//evil.example", "http://127.0.0.1:3001//evil.example"),
            ("https://login.example/", "https://login.example/"),
            ("https://mcp.internal.example/", "https://mcp.internal.example/"),
            ("/here", "/here"),
            ("mcp/", "mcp/"),
        ] {
            assert_eq!(hidden(&origin, location), expected, "{location}");
        }
    }

    #[test]
    fn query_of_the_operator_never_comes_down() {
        let origin = origin("https://a.example/mcp?code=SECRET&v=2");
        for (location, expected) in [
            ("/mcp/?code=SECRET&v=2", "/mcp/"),
            ("https://a.example/mcp/?code=SECRET&v=2&x=1", "/mcp/?x=1"),
            ("http://a.example?v=2&code=SECRET#y", "/#y"),
            ("https://login.example/?code=SECRET&back=1", "https://login.example/?back=1"),
            ("?code=SECRET&v=2", "?"),
            // A code of somebody else's.
            ("/callback?code=other", "/callback?code=other"),
        ] {
            assert_eq!(hidden(&origin, location), expected, "{location}");
        }
    }

    #[test]
    fn endpoint_moves_only_within_the_upstream() {
        let origin = origin("https://a.example/mcp?code=c");
        let moved = |location: &'static str| origin.moved(&HeaderValue::from_static(location));
        for location in ["/mcp/", "/mcp/?code=c", "http://a.example/mcp/#x", "//a.example/mcp/"] {
            assert_eq!(moved(location).as_deref(), Some("/mcp/"), "{location}");
        }
        for location in ["https://b.example/mcp/", "//b.example/mcp/", "mcp/", "https://a.example"] {
            assert_eq!(moved(location), None, "{location}");
        }
    }
}
