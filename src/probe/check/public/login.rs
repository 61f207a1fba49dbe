//! Logging in through the public URL: which generations of legacy clients find their way, by the documents that are there.
//!
//! Only what can be known is said: the documents are fetched as clients fetch them, and what each generation wants of them
//! was seen in its source and run (SECURITY §2.1 and §2.2). Whether the server takes the tokens shows only with a token.

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde_json::Value;

use super::super::finding::{Advice, On};
use super::super::http::Http;
use super::super::text::{location, quote};
use super::Way;
use crate::auth::oauth::challenge;

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const SERVERS: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
/// Most of a document that is read, in bytes.
const MOST: usize = 64 << 10;
/// Where the facade of the proxy stands, below the stream.
const FACADE: &str = "/oauth";

/// Metadata of a protected resource, as far as clients look into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Resource {
    name: String,
    servers: Vec<String>,
}

/// What is where.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// The URL of the stream.
    stream: String,
    /// What the challenge leads to, if it names it in the form that old TypeScript reads.
    of_challenge: Option<Resource>,
    /// At the path of the stream.
    of_path: Option<Resource>,
    /// At the root.
    of_root: Option<Resource>,
    /// Metadata of an authorization server at the root of the public origin.
    server_at_origin: bool,
    /// At the root of the first authorization server that is named, and at any of its places.
    server_at_its_root: bool,
    server_anywhere: bool,
}

/// Says who can log in, where the stream asks for it.
pub(super) async fn look(on: &mut On<'_, '_>, way: &Way<'_>) {
    let options = way.options;
    let Ok(http) = Http::new(way.client.url().clone(), options.headers.clone(), &options.trust, options.patience)
    else {
        return;
    };
    let Ok(head) = http.anonymous().head(Method::GET, &way.signature(None), &Value::Null).await else { return };
    if head.status.is_success() {
        return on.ok("login", "no credential is asked for");
    }
    if head.status != StatusCode::UNAUTHORIZED {
        return;
    }
    let fields: Vec<HeaderValue> = head.headers.get_all(header::WWW_AUTHENTICATE).iter().cloned().collect();
    let named = challenge::named_metadata(&fields);
    if let Some(named) = &named {
        on.ok("login", format!("GET without a credential: 401, metadata at {}", quote(named)));
    } else {
        let remedy = "whoever runs the server: publish protected resource metadata (RFC 9728); the proxy then serves its \
                          own (see --oauth-resource). Clients that have tokens or keys need none of it";
        let seen = "GET without a credential: 401, and the challenge names no metadata";
        on.warning("login", seen, Advice::new("clients cannot log in by themselves", remedy));
    }
    if fields.is_empty() {
        return;
    }
    let facts = gather(&http, named.as_deref(), &fields).await;
    clients(on, &facts);
    resource(on, &facts);
}

async fn gather(http: &Http, named: Option<&str>, fields: &[HeaderValue]) -> Facts {
    let stream = &http.url;
    let at = |path: &str| {
        let mut url = stream.clone();
        url.set_query(None);
        url.set_path(path);
        url
    };
    let mut facts = Facts { stream: location(stream), ..Facts::default() };
    if let Some(named) = named.filter(|_| is_readable(fields)).and_then(|named| Url::parse(named).ok()) {
        facts.of_challenge = resource_at(http, &named).await;
    }
    facts.of_path = resource_at(http, &at(&format!("{RESOURCE}{}", stream.path()))).await;
    facts.of_root = resource_at(http, &at(RESOURCE)).await;
    let [oauth, openid] = SERVERS;
    facts.server_at_origin = has_server(http, &at(oauth)).await;
    let found = [&facts.of_challenge, &facts.of_path, &facts.of_root].into_iter().flatten().next();
    let issuer = found.and_then(|found| found.servers.first()).and_then(|issuer| Url::parse(issuer).ok());
    if let Some(issuer) = issuer {
        let at = |path: String| {
            let mut url = issuer.clone();
            url.set_path(&path);
            url
        };
        let path = issuer.path().trim_end_matches('/');
        facts.server_at_its_root = has_server(http, &at(oauth.to_owned())).await;
        facts.server_anywhere = facts.server_at_its_root;
        for form in [format!("{oauth}{path}"), format!("{openid}{path}"), format!("{path}{openid}")] {
            facts.server_anywhere = facts.server_anywhere || has_server(http, &at(form)).await;
        }
    }
    facts
}

/// TypeScript up to 1.21 reads a challenge that begins with `Bearer` and quotes the URL.
fn is_readable(fields: &[HeaderValue]) -> bool {
    let joined: Vec<&str> = fields.iter().filter_map(|field| field.to_str().ok()).collect();
    let joined = joined.join(", ");
    joined.split(' ').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
        && joined.contains("resource_metadata=\"")
}

async fn document(http: &Http, url: &Url) -> Option<Value> {
    // Others have no claim to what was given for this server.
    let mut at = if url.origin() == http.url.origin() { http.anonymous() } else { http.bare() };
    at.url = url.clone();
    let accepts = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
    let head = at.head(Method::GET, &accepts, &Value::Null).await.ok().filter(|head| head.status == StatusCode::OK)?;
    serde_json::from_slice(&head.document(MOST, at.patience).await.ok()?).ok()
}

async fn resource_at(http: &Http, url: &Url) -> Option<Resource> {
    let document = document(http, url).await?;
    let servers = document.get("authorization_servers").and_then(Value::as_array);
    let servers: Vec<String> = servers.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Resource { name: document.get("resource")?.as_str()?.to_owned(), servers })
}

async fn has_server(http: &Http, url: &Url) -> bool {
    let found = document(http, url).await;
    found.is_some_and(|found| ["authorization_endpoint", "token_endpoint"].iter().all(|name| found.get(name).is_some()))
}

impl Facts {
    /// The generations of clients, and what each lacks.
    fn lacks(&self) -> Vec<(&'static str, Option<&'static str>)> {
        let (header, path, root) = (self.of_challenge.as_ref(), self.of_path.as_ref(), self.of_root.as_ref());
        let equal = |found: &Resource| found.name == self.stream;
        let prefix = |found: &Resource| covers(&found.name, &self.stream);
        let any = |_: &Resource| true;
        let wants = |found: Option<&Resource>, fits: &dyn Fn(&Resource) -> bool, is_found: bool| match found {
            None => Some("protected resource metadata"),
            Some(found) if !fits(found) => Some("a resource that is the public URL"),
            Some(_) if !is_found => Some("metadata of the authorization server"),
            Some(_) => None,
        };
        let origin = (!self.server_at_origin).then_some("metadata of the authorization server at the public origin");
        let (at_root, anywhere) = (self.server_at_its_root, self.server_anywhere);
        let python_10 = if root.is_some() { wants(root, &any, anywhere) } else { origin };
        vec![
            ("TypeScript to 1.11", origin),
            ("TypeScript 1.12", wants(root, &any, at_root)),
            ("TypeScript 1.13.0", wants(root, &equal, at_root)),
            ("TypeScript 1.13.3 to 1.15", wants(header.or(root), &prefix, anywhere)),
            ("TypeScript 1.16 and later", wants(header.or(path).or(root), &prefix, anywhere)),
            ("Python 1.10 and 1.11", python_10),
            ("Python 1.12 to 1.20", wants(header.or(root), &any, anywhere)),
            ("Python 1.22 to 1.26", wants(header.or(path).or(root), &any, anywhere)),
            ("Python 1.27 and later", wants(header.or(path).or(root), &prefix, anywhere)),
        ]
    }

    fn first(&self) -> Option<&Resource> {
        self.of_challenge.as_ref().or(self.of_path.as_ref()).or(self.of_root.as_ref())
    }
}

/// The same origin, and a path above: the rule of TypeScript since 1.13.3 and Python since 1.27.
fn covers(resource: &str, stream: &str) -> bool {
    let (Ok(resource), Ok(stream)) = (Url::parse(resource), Url::parse(stream)) else { return false };
    let slashed = |path: &str| format!("{}/", path.trim_end_matches('/'));
    resource.origin() == stream.origin() && slashed(stream.path()).starts_with(&slashed(resource.path()))
}

fn clients(on: &mut On<'_, '_>, facts: &Facts) {
    let lacks = facts.lacks();
    let cannot: Vec<String> =
        lacks.iter().filter_map(|(name, lack)| lack.map(|lack| format!("{name} (lacks {lack})"))).collect();
    if cannot.is_empty() {
        return on.ok("login-clients", "every generation of legacy clients finds its way to log in");
    }
    let remedy = "route /.well-known/oauth-protected-resource and /.well-known/oauth-authorization-server of this host to \
                  the proxy, with and without the path of the stream; where that cannot be, --oauth-metadata-at sse-path \
                  or query helps all but the oldest";
    let meaning = "the others log in; these do not find where, or refuse what they find";
    if cannot.len() == lacks.len() {
        let advice = Advice::new("no client can log in by itself", remedy);
        return on.failure("login-clients", format!("cannot log in: {}", cannot.join("; ")), advice);
    }
    on.warning("login-clients", format!("cannot log in: {}", cannot.join("; ")), Advice::new(meaning, remedy));
}

/// What their tokens are for, and what that asks of the servers.
fn resource(on: &mut On<'_, '_>, facts: &Facts) {
    let Some(found) = facts.first() else { return };
    let name = quote(&found.name);
    if found.servers.iter().any(|server| *server == format!("{}{FACADE}", facts.stream)) {
        return on.ok(
            "login-resource",
            format!("{name}; the facade asks the authorization server for the server's own URL"),
        );
    }
    if found.name != facts.stream {
        return on.ok("login-resource", format!("{name}, as the server says"));
    }
    let meaning = format!(
        "clients get tokens for {name}: the authorization server must allow this resource (or ignore it), and the server \
         accept it as an audience, or every login ends in a refusal"
    );
    let remedy = "whoever runs the authorization server: allow the resource; whoever runs the server: accept the audience. \
                  Where neither can be, start the proxy with --oauth-resource facade, which needs no change to either. A \
                  login with one client shows whether it is so";
    on.warning("login-resource", format!("{name}, the public URL itself"), Advice::new(meaning, remedy));
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "https://mcp.example.com/sse";

    fn named(name: &str) -> Resource {
        Resource { name: name.to_owned(), servers: vec!["https://as.example".to_owned()] }
    }

    fn able(facts: &Facts) -> Vec<&'static str> {
        facts.lacks().into_iter().filter(|(_, lack)| lack.is_none()).map(|(name, _)| name).collect()
    }

    /// The rows of SECURITY §2.2.
    #[test]
    fn generations_log_in_where_they_were_seen_to() {
        let servers =
            Facts { stream: STREAM.to_owned(), server_at_its_root: true, server_anywhere: true, ..Facts::default() };
        let everywhere = |name: &str| Facts {
            of_challenge: Some(named(name)),
            of_path: Some(named(name)),
            of_root: Some(named(name)),
            ..servers.clone()
        };
        let mirrored = Facts { server_at_origin: true, ..everywhere(STREAM) };
        assert_eq!(able(&mirrored).len(), 9, "K: all");
        assert_eq!(able(&everywhere(STREAM)).len(), 8, "B: all but those that know no metadata of resources");
        let passed = everywhere("https://mcp.example.com/mcp");
        assert_eq!(
            able(&passed),
            ["TypeScript 1.12", "Python 1.10 and 1.11", "Python 1.12 to 1.20", "Python 1.22 to 1.26"],
            "A: passed through"
        );
        let origin = everywhere("https://mcp.example.com/");
        assert!(
            able(&origin).contains(&"TypeScript 1.16 and later") && !able(&origin).contains(&"TypeScript 1.13.0"),
            "C"
        );
        let by_header = Facts {
            of_challenge: Some(named(STREAM)),
            of_root: Some(named("https://mcp.example.com/mcp")),
            ..servers.clone()
        };
        assert!(
            !able(&by_header).contains(&"TypeScript 1.13.0") && able(&by_header).contains(&"TypeScript 1.13.3 to 1.15"),
            "D"
        );
        let none = Facts { stream: STREAM.to_owned(), server_at_origin: true, ..Facts::default() };
        assert_eq!(able(&none), ["TypeScript to 1.11", "Python 1.10 and 1.11"], "E");
        let by_path = Facts { of_path: Some(named(STREAM)), ..servers };
        assert_eq!(able(&by_path), ["TypeScript 1.16 and later", "Python 1.22 to 1.26", "Python 1.27 and later"], "F");
    }

    #[test]
    fn challenge_has_to_be_one_that_old_clients_read() {
        let readable = |field| is_readable(&[HeaderValue::from_static(field)]);
        assert!(readable("Bearer resource_metadata=\"https://a\""));
        assert!(!readable("Bearer resource_metadata=https://a"));
        assert!(!readable("Basic realm=\"x\", Bearer resource_metadata=\"https://a\""));
    }
}
