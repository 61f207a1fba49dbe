//! The documents: what the upstream and its authorization server publish, and what becomes of it here (pure).
//!
//! Everything passes but what would contradict the place where it is served: `resource`, `signed_metadata` (it vouches for
//! the values of another place, RFC 9728 §2.2), and URLs that a client must not be sent to. The trap is CVE-2025-6514:
//! clients hand `authorization_endpoint` to the operating system, so nothing but `https` may pass, and nothing long.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::places::{Endpoint, Places};
use crate::upstream::{Url, is_safe_url};

/// Longest URL that clients are sent to, in bytes.
const LONGEST_URL: usize = 2048;
/// Says something about where it came from, and it is served elsewhere.
const SIGNED: &str = "signed_metadata";
/// RFC 9207: the facade's clients would compare the `iss` of the real server with the facade's name.
const ISS_PARAMETER: &str = "authorization_response_iss_parameter_supported";

/// Metadata of a protected resource (RFC 9728).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resource {
    /// As it came.
    pub(super) text: Bytes,
    members: Map<String, Value>,
    /// What tokens are for.
    pub(super) name: String,
    /// Who gives them out.
    pub(super) servers: Vec<String>,
}

/// Metadata of an authorization server (RFC 8414), without what clients must not be sent to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Server {
    members: Map<String, Value>,
}

impl Resource {
    /// Reads a document; `None` for what is none.
    pub(super) fn read(text: &Bytes) -> Option<Self> {
        let members: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let name = members.get("resource")?.as_str()?.to_owned();
        let servers = members.get("authorization_servers").and_then(Value::as_array);
        let servers = servers.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Resource { text: text.clone(), members, name, servers })
    }

    /// The document of another resource, with the same or other servers.
    pub(super) fn renamed(&self, name: &str, servers: Option<&[String]>) -> Bytes {
        let mut members = self.members.clone();
        members.remove(SIGNED);
        members.insert("resource".to_owned(), name.into());
        if let Some(servers) = servers {
            members.insert("authorization_servers".to_owned(), servers.into());
        }
        Value::Object(members).to_string().into()
    }
}

impl Server {
    /// Reads a document. One without a place to log in or to get tokens is none, and one whose place is no safe URL is as bad.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut members: Map<String, Value> = serde_json::from_slice(text).ok()?;
        members.remove(SIGNED);
        clean(&mut members);
        let server = Server { members };
        (server.endpoint(Endpoint::Authorize).is_some() && server.endpoint(Endpoint::Token).is_some()).then_some(server)
    }

    /// Where the real endpoint is.
    pub(super) fn endpoint(&self, endpoint: Endpoint) -> Option<Url> {
        Url::parse(self.members.get(endpoint.member())?.as_str()?).ok()
    }

    /// Whether its clients will be told by whom they were answered, and compare it (RFC 9207).
    pub(super) fn names_itself(&self) -> bool {
        self.members.get(ISS_PARAMETER).and_then(Value::as_bool) == Some(true)
    }

    /// For clients that look at our origin.
    pub(super) fn mirrored(&self) -> Bytes {
        Value::Object(self.members.clone()).to_string().into()
    }

    /// The facade's own, under the name `issuer`.
    pub(super) fn facade(&self, issuer: &str, places: &Places) -> Bytes {
        let mut members = self.members.clone();
        members.remove(ISS_PARAMETER);
        // They say who answers, or lead around the facade.
        for member in
            ["mtls_endpoint_aliases", "pushed_authorization_request_endpoint", "require_pushed_authorization_requests"]
        {
            members.remove(member);
        }
        members.insert("issuer".to_owned(), issuer.into());
        for endpoint in Endpoint::ALL {
            if let Some(member) = members.get_mut(endpoint.member()) {
                *member = places.endpoint(endpoint).into();
            }
        }
        Value::Object(members).to_string().into()
    }
}

/// Takes out the URLs that clients must not be sent to.
fn clean(members: &mut Map<String, Value>) {
    members.retain(|name, value| match value {
        Value::String(text) if is_place(name) => {
            text.len() <= LONGEST_URL && Url::parse(text).is_ok_and(|url| is_safe_url(&url) && is_plain(text))
        }
        Value::Object(inner) => {
            clean(inner);
            true
        }
        _ if is_place(name) => value.is_null(),
        _ => true,
    });
}

/// Whether a member holds a URL that somebody will go to.
fn is_place(name: &str) -> bool {
    name == "issuer"
        || name == "service_documentation"
        || ["_endpoint", "_uri", "_url", "_iframe"].iter().any(|end| name.ends_with(end))
}

/// Shells and openers of URLs must find nothing in it to interpret.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'`<>\\^{|}$();".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::oauth::MetadataAt;

    fn value(text: &Bytes) -> Value {
        serde_json::from_slice(text).expect("JSON")
    }

    #[test]
    fn resource_is_renamed_and_the_rest_passes_but_for_the_signature() {
        let text = json!({"resource": "https://a/mcp", "authorization_servers": ["https://as"], "scopes_supported": ["r"],
            "resource_name": "A", "signed_metadata": "e30.e30.x", "x": {"y": [1.5, null]}});
        let resource = Resource::read(&text.to_string().into()).expect("a document");
        let renamed = value(&resource.renamed("https://a/sse", None));
        assert_eq!(
            renamed,
            json!({"resource": "https://a/sse", "authorization_servers": ["https://as"], "scopes_supported": ["r"],
                "resource_name": "A", "x": {"y": [1.5, null]}})
        );
        for bad in ["", "[]", "{}", r#"{"resource":1}"#, "<html>"] {
            assert_eq!(Resource::read(&bad.into()), None, "{bad}");
        }
    }

    #[test]
    fn clients_are_sent_nowhere_but_to_https_and_loopback() {
        let read = |endpoint: &str| {
            let text =
                json!({"issuer": "https://as", "authorization_endpoint": endpoint, "token_endpoint": "https://as/t"});
            Server::read(text.to_string().as_bytes())
        };
        for good in ["https://as/authorize", "https://as/a?b=c&d=%20", "http://127.0.0.1:9/a", "http://localhost:9/a"] {
            assert!(read(good).is_some(), "{good}");
        }
        for bad in [
            "http://as/authorize",
            "file:///c:/windows/system32/calc.exe",
            "a:$(cmd.exe /c whoami)",
            "javascript:alert(1)",
            "https://as/$(id)",
            "https://as/a;b",
            "https://as/`id`",
            &format!("https://as/{}", "a".repeat(3000)),
            "",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let text = json!({"authorization_endpoint": "https://as/a", "token_endpoint": "https://as/t", "jwks_uri": "http://as/k",
            "signed_metadata": "x", "mtls_endpoint_aliases": {"token_endpoint": "ftp://as"}, "registration_endpoint": ["x"]});
        let mirrored = value(&Server::read(text.to_string().as_bytes()).expect("a document").mirrored());
        assert_eq!(
            mirrored,
            json!({"authorization_endpoint": "https://as/a", "token_endpoint": "https://as/t", "mtls_endpoint_aliases": {}})
        );
    }

    #[test]
    fn facade_names_itself_and_offers_what_the_real_one_has() {
        let text = json!({"issuer": "https://as", "authorization_endpoint": "https://as/a", "token_endpoint": "https://as/t",
            "registration_endpoint": "https://as/r", "authorization_response_iss_parameter_supported": true,
            "code_challenge_methods_supported": ["S256"]});
        let server = Server::read(text.to_string().as_bytes()).expect("a document");
        assert!(server.names_itself());
        let base = Url::parse("https://mcp.example.com").expect("a URL");
        let places = Places::new(&base, "", "/sse", &base, MetadataAt::WellKnown);
        let facade = value(&server.facade(&places.facade(), &places));
        assert_eq!(
            facade,
            json!({"issuer": "https://mcp.example.com/sse/oauth",
                "authorization_endpoint": "https://mcp.example.com/sse/oauth/authorize",
                "token_endpoint": "https://mcp.example.com/sse/oauth/token",
                "registration_endpoint": "https://mcp.example.com/sse/oauth/register",
                "code_challenge_methods_supported": ["S256"]})
        );
    }
}
