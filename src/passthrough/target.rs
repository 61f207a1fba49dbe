//! Where requests go: the upstream's origin, and the path and query of the request as they stand.
//!
//! Why not `Url`: it normalises, and `/a%2Fb`, `//a` and `/a/../b` are paths of their own to a server that says so.

use http::Uri;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
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
    /// The MCP endpoint, with the query that the operator gave.
    mcp: PathAndQuery,
    /// How redirects to itself begin: `http://127.0.0.1:3001`.
    prefix: String,
}

impl Origin {
    /// Of the URL of the MCP endpoint.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("--upstream cannot be requested: {error}"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority), Some(mcp)) = (parts.scheme, parts.authority, parts.path_and_query) else {
            return Err("--upstream is no URL with a scheme, a host and a path".to_owned());
        };
        let prefix = format!("{scheme}://{authority}");
        Ok(Origin { scheme, authority, mcp, prefix })
    }

    /// The URI of what was asked for; `None` when it is none.
    pub(super) fn same(&self, asked: &PathAndQuery) -> Option<Uri> {
        let path = if asked.path() == self.mcp.path() { self.with_query(asked)? } else { asked.clone() };
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
            _ if theirs.is_empty() => Some(self.mcp.clone()),
            _ => format!("{}?{ours}&{theirs}", self.mcp.path()).parse().ok(),
        }
    }

    /// A redirect to the upstream's own address leads nowhere outside: it becomes one to the same path here. Starlette
    /// redirects `/mcp` to `/mcp/` so.
    pub(super) fn hide(&self, headers: &mut HeaderMap) {
        let Some(location) = headers.get(header::LOCATION).and_then(|location| location.to_str().ok()) else { return };
        let Some(path) = location.strip_prefix(&self.prefix) else { return };
        let path = match path.bytes().next() {
            // `//b` at its start would name another host.
            Some(b'/') if !path.starts_with("//") => HeaderValue::from_str(path),
            None => HeaderValue::from_str("/"),
            _ => return,
        };
        if let Ok(path) = path {
            headers.insert(header::LOCATION, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(url).expect("an origin")
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
        assert_eq!(sent(&origin, "/other"), "https://a.example/other");
    }

    #[test]
    fn redirect_of_the_upstream_to_itself_stays_here() {
        let origin = origin("http://127.0.0.1:3001/mcp");
        for (location, expected) in [
            ("http://127.0.0.1:3001/mcp/", "/mcp/"),
            ("http://127.0.0.1:3001", "/"),
            ("http://127.0.0.1:30012/mcp/", "http://127.0.0.1:30012/mcp/"),
            ("http://127.0.0.1:3001//evil.example", "http://127.0.0.1:3001//evil.example"),
            ("https://login.example/", "https://login.example/"),
            ("/here", "/here"),
        ] {
            let location = HeaderValue::from_static(location);
            let mut headers = HeaderMap::from_iter([(header::LOCATION, location)]);
            origin.hide(&mut headers);
            assert_eq!(headers[header::LOCATION], expected);
        }
    }
}
