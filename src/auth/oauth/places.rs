//! Where clients look for documents, and what each place holds (SECURITY §2.1).
//!
//! Places come from configuration and never from a `Host` header: a client that could choose them could have other clients
//! sent elsewhere. The trap: an outer proxy may strip the public prefix or not, and `/.well-known` comes before the path of
//! what it describes, so that the prefix stands in the middle.

use crate::upstream::Url;

/// RFC 9728 §3.
const RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// RFC 8414 §3, and `OpenID` Connect Discovery 1.0 §4.
const SERVERS: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
/// What stands behind the event stream's path where only queries get through.
const QUERY: &str = "mcp-prm=1";
/// What stands behind it for the facade.
const FACADE: &str = "/oauth";

/// Where the challenge sends clients for the metadata (`--oauth-metadata-at`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataAt {
    /// `/.well-known/oauth-protected-resource` and the path of the event stream, as RFC 9728 has it.
    #[default]
    WellKnown,
    /// Below the event stream's own path, for where `/.well-known` does not lead here.
    SsePath,
    /// The event stream's own path with a query, for where nothing else leads here.
    Query,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Metadata of the event stream as a protected resource.
    Resource,
    /// That of the whole origin.
    RootResource,
    /// That of the server's own endpoint.
    ServerResource,
    /// Metadata of the authorization server, where clients look that know nothing but our origin.
    AuthorizationServer,
    /// Metadata of the facade, under its own name.
    Facade,
    /// An endpoint of the facade.
    Endpoint(Endpoint),
}

/// Endpoints of the facade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Where browsers are sent; they are sent on.
    Authorize,
    /// Where codes and refresh tokens become tokens.
    Token,
    /// RFC 7591.
    Register,
    /// RFC 7009.
    Revoke,
}

impl Endpoint {
    /// All of them.
    pub(super) const ALL: [Endpoint; 4] = [Endpoint::Authorize, Endpoint::Token, Endpoint::Register, Endpoint::Revoke];

    /// Its last path segment.
    pub(super) fn name(self) -> &'static str {
        match self {
            Endpoint::Authorize => "authorize",
            Endpoint::Token => "token",
            Endpoint::Register => "register",
            Endpoint::Revoke => "revoke",
        }
    }

    /// What metadata calls it.
    pub(super) fn member(self) -> &'static str {
        match self {
            Endpoint::Authorize => "authorization_endpoint",
            Endpoint::Token => "token_endpoint",
            Endpoint::Register => "registration_endpoint",
            Endpoint::Revoke => "revocation_endpoint",
        }
    }
}

/// The places of one proxy.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The URL that clients have: of the event stream.
    pub(super) stream: String,
    /// The same without a slash at its end: what stands below it begins with one.
    base: String,
    /// Scheme, host and port of it.
    pub(super) origin: String,
    /// What stands before our paths in it, empty or starting with `/`.
    prefix: String,
    /// The path of the event stream, without a slash at its end.
    sse_path: String,
    /// The path of the upstream's endpoint.
    mcp_path: String,
    at: MetadataAt,
}

impl Places {
    /// For clients that know the proxy at the origin of `base`, with `prefix` before our paths.
    pub(super) fn new(base: &Url, prefix: &str, sse_path: &str, upstream: &Url, at: MetadataAt) -> Self {
        let (origin, prefix) = (base.origin().ascii_serialization(), prefix.trim_end_matches('/').to_owned());
        let stream = format!("{origin}{prefix}{sse_path}");
        let sse_path = sse_path.trim_end_matches('/').to_owned();
        let mcp_path = upstream.path().trim_end_matches('/').to_owned();
        Places { base: format!("{origin}{prefix}{sse_path}"), stream, origin, prefix, sse_path, mcp_path, at }
    }

    /// Where the challenge sends clients.
    pub(super) fn metadata(&self) -> String {
        match self.at {
            MetadataAt::WellKnown => format!("{}{RESOURCE}{}{}", self.origin, self.prefix, self.sse_path),
            MetadataAt::SsePath => format!("{}{RESOURCE}", self.base),
            MetadataAt::Query => format!("{}?{QUERY}", self.stream),
        }
    }

    /// Whether `resource` is on the host that clients know the proxy under.
    pub(super) fn is_home_of(&self, resource: &str) -> bool {
        Url::parse(resource).is_ok_and(|url| url.origin().ascii_serialization() == self.origin)
    }

    /// The name of the facade.
    pub(super) fn facade(&self) -> String {
        format!("{}{FACADE}", self.base)
    }

    /// An endpoint of the facade.
    pub(super) fn endpoint(&self, endpoint: Endpoint) -> String {
        format!("{}{FACADE}/{}", self.base, endpoint.name())
    }

    /// What a request for `path` asks for, if it is anything here.
    pub(super) fn wanted(&self, path: &str, query: Option<&str>) -> Option<Wanted> {
        let path = self.without_prefix(path);
        if path.trim_end_matches('/') == self.sse_path {
            return query.is_some_and(|query| query.split('&').any(|pair| pair == QUERY)).then_some(Wanted::Resource);
        }
        // Everything is below a stream at the root, so that comes last.
        if let Some(of) = path.strip_prefix(RESOURCE) {
            return match self.without_prefix(of.strip_suffix('/').unwrap_or(of)) {
                of if of == self.sse_path => Some(Wanted::Resource),
                "" => Some(Wanted::RootResource),
                of if of == self.mcp_path => Some(Wanted::ServerResource),
                _ => None,
            };
        }
        if let Some(of) = SERVERS.iter().find_map(|known| path.strip_prefix(known)) {
            let of = self.without_prefix(of.strip_suffix('/').unwrap_or(of));
            return match of.strip_prefix(&self.sse_path) {
                Some("") => Some(Wanted::AuthorizationServer),
                Some(FACADE) => Some(Wanted::Facade),
                _ => of.is_empty().then_some(Wanted::AuthorizationServer),
            };
        }
        Self::below_stream(path.strip_prefix(&self.sse_path)?)
    }

    fn below_stream(below: &str) -> Option<Wanted> {
        if below == RESOURCE {
            return Some(Wanted::Resource);
        }
        if SERVERS.contains(&below) {
            return Some(Wanted::AuthorizationServer);
        }
        let below = below.strip_prefix(FACADE)?;
        if SERVERS.contains(&below) {
            return Some(Wanted::Facade);
        }
        let named = |endpoint: &Endpoint| below.strip_prefix('/') == Some(endpoint.name());
        Endpoint::ALL.into_iter().find(named).map(Wanted::Endpoint)
    }

    /// `path`, whether an outer proxy has stripped the prefix or not.
    fn without_prefix<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(self.prefix.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
    }
}

/// Where the metadata of a protected resource at `url` is looked for, best first.
pub(super) fn resource_metadata(url: &Url) -> Vec<Url> {
    candidates(url, &[(RESOURCE, true), (RESOURCE, false)])
}

/// Where the metadata of the authorization server `issuer` is looked for (RFC 8414 §3.1 and §5, `OpenID` Connect Discovery).
pub(super) fn server_metadata(issuer: &Url) -> Vec<Url> {
    let [oauth, openid] = SERVERS;
    let mut places = candidates(issuer, &[(oauth, true), (openid, true)]);
    let mut appended = issuer.clone();
    appended.set_query(None);
    appended.set_path(&format!("{}{openid}", issuer.path().trim_end_matches('/')));
    if !places.contains(&appended) {
        places.push(appended);
    }
    places
}

fn candidates(url: &Url, forms: &[(&str, bool)]) -> Vec<Url> {
    let mut places: Vec<Url> = Vec::new();
    for (well_known, with_path) in forms {
        let mut place = url.clone();
        place.set_query(None);
        place.set_fragment(None);
        let path = if *with_path { url.path().trim_end_matches('/') } else { "" };
        place.set_path(&format!("{well_known}{path}"));
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn places(base: &str, at: MetadataAt) -> Places {
        Places::new(&url(base), url(base).path(), "/sse", &url("http://127.0.0.1:3001/mcp"), at)
    }

    #[test]
    fn every_place_where_clients_look_is_known() {
        let places = places("https://mcp.example.com", MetadataAt::WellKnown);
        for (path, wanted) in [
            ("/.well-known/oauth-protected-resource/sse", Wanted::Resource),
            ("/.well-known/oauth-protected-resource", Wanted::RootResource),
            ("/.well-known/oauth-protected-resource/", Wanted::RootResource),
            ("/.well-known/oauth-protected-resource/mcp", Wanted::ServerResource),
            ("/sse/.well-known/oauth-protected-resource", Wanted::Resource),
            ("/.well-known/oauth-authorization-server", Wanted::AuthorizationServer),
            ("/.well-known/oauth-authorization-server/sse", Wanted::AuthorizationServer),
            ("/.well-known/openid-configuration/sse", Wanted::AuthorizationServer),
            ("/sse/.well-known/openid-configuration", Wanted::AuthorizationServer),
            ("/.well-known/oauth-authorization-server/sse/oauth", Wanted::Facade),
            ("/sse/oauth/.well-known/openid-configuration", Wanted::Facade),
            ("/sse/oauth/authorize", Wanted::Endpoint(Endpoint::Authorize)),
            ("/sse/oauth/token", Wanted::Endpoint(Endpoint::Token)),
        ] {
            assert_eq!(places.wanted(path, None), Some(wanted), "{path}");
        }
        assert_eq!(places.wanted("/sse", Some("mcp-prm=1")), Some(Wanted::Resource));
        for (path, query) in [
            ("/sse", None),
            ("/sse", Some("mcp-prm=2")),
            ("/sse/oauth", None),
            ("/ssee/.well-known/oauth-protected-resource", None),
            ("/.well-known/oauth-protected-resource/other", None),
            ("/.well-known/oauth-protected-resourcex", None),
            ("/messages", None),
        ] {
            assert_eq!(places.wanted(path, query), None, "{path}");
        }
    }

    #[test]
    fn prefix_may_be_stripped_or_not() {
        let places = places("https://mcp.example.com/gw/", MetadataAt::WellKnown);
        assert_eq!(places.stream, "https://mcp.example.com/gw/sse");
        for path in [
            "/.well-known/oauth-protected-resource/gw/sse",
            "/.well-known/oauth-protected-resource/sse",
            "/gw/.well-known/oauth-protected-resource/sse",
            "/gw/sse/.well-known/oauth-protected-resource",
        ] {
            assert_eq!(places.wanted(path, None), Some(Wanted::Resource), "{path}");
        }
        assert_eq!(places.wanted("/gw/.well-known/oauth-protected-resource", None), Some(Wanted::RootResource));
        assert_eq!(places.wanted("/gwx/sse/.well-known/oauth-protected-resource", None), None);
    }

    #[test]
    fn stream_may_stand_at_the_root_or_end_in_a_slash() {
        let base = url("https://mcp.example.com");
        for (prefix, sse_path) in [("", "/"), ("", "/sse/"), ("/gw", "/"), ("/gw", "/sse/")] {
            for at in [MetadataAt::WellKnown, MetadataAt::SsePath, MetadataAt::Query] {
                let places = Places::new(&base, prefix, sse_path, &url("http://127.0.0.1:3001/mcp"), at);
                assert_eq!(places.stream, format!("https://mcp.example.com{prefix}{sse_path}"));
                let wanted = |place: &str| {
                    let place = url(place);
                    places.wanted(place.path(), place.query())
                };
                assert_eq!(wanted(&places.metadata()), Some(Wanted::Resource), "{}", places.metadata());
                let token = places.endpoint(Endpoint::Token);
                assert_eq!(wanted(&token), Some(Wanted::Endpoint(Endpoint::Token)), "{token}");
                for place in server_metadata(&url(&places.facade())) {
                    assert_eq!(wanted(place.as_str()), Some(Wanted::Facade), "{place}");
                }
                assert_eq!(wanted("https://mcp.example.com/.well-known/oauth-authorization-server"), {
                    Some(Wanted::AuthorizationServer)
                });
                assert_eq!(wanted(&places.stream), None);
                assert_eq!(wanted("https://mcp.example.com/messages"), None);
            }
        }
    }

    #[test]
    fn challenge_points_where_the_deployment_lets_clients_through() {
        let at = |at| places("https://mcp.example.com/gw", at).metadata();
        assert_eq!(at(MetadataAt::WellKnown), "https://mcp.example.com/.well-known/oauth-protected-resource/gw/sse");
        assert_eq!(at(MetadataAt::SsePath), "https://mcp.example.com/gw/sse/.well-known/oauth-protected-resource");
        assert_eq!(at(MetadataAt::Query), "https://mcp.example.com/gw/sse?mcp-prm=1");
    }

    #[test]
    fn metadata_of_others_is_looked_for_in_the_order_of_the_rfcs() {
        let texts = |places: Vec<Url>| places.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(resource_metadata(&url("https://a/mcp?code=x"))),
            ["https://a/.well-known/oauth-protected-resource/mcp", "https://a/.well-known/oauth-protected-resource"]
        );
        assert_eq!(
            texts(server_metadata(&url("https://as/tenant/"))),
            [
                "https://as/.well-known/oauth-authorization-server/tenant",
                "https://as/.well-known/openid-configuration/tenant",
                "https://as/tenant/.well-known/openid-configuration"
            ]
        );
        assert_eq!(server_metadata(&url("https://as")).len(), 2);
    }
}
