//! Where clients are sent to log in (RFC 9728): fetched without a credential and without following redirects.

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method};
use reqwest::Url;
use serde_json::Value;

use super::super::Options;
use super::super::finding::{Advice, On};
use super::super::http::{Http, header_text};
use super::super::text::{location, quote};

/// Where the metadata of a whole origin stands.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Most of the document that is read, in bytes.
const MOST: usize = 256 << 10;
/// What to do where there is none, or no good one.
const REMEDY: &str = "if clients shall log in by themselves, whoever runs the server: publish protected resource \
                      metadata (RFC 9728) and name it in the challenge as resource_metadata";

/// Fetches the metadata that a challenge names, or that stands at the usual places, and says what is in it.
pub(super) async fn look(on: &mut On<'_, '_>, http: &Http, challenge: &HeaderMap, options: &Options) {
    let named = header_text(challenge, &header::WWW_AUTHENTICATE).and_then(named_in);
    let places = match named.as_deref().map(Url::parse) {
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") => vec![url],
        Some(_) => {
            let seen = "resource_metadata in the challenge is no URL";
            return on.failure("auth-metadata", seen, Advice::new("clients cannot log in by themselves", REMEDY));
        }
        None => usual_places(&http.url),
    };
    let mut problems = Vec::new();
    for place in &places {
        match fetch(http, place).await {
            Ok(document) => return judge(on, place, &document, options),
            Err(problem) => problems.push(format!("{}: {problem}", location(place))),
        }
    }
    let seen = problems.join("; ");
    if named.is_some() {
        on.failure("auth-metadata", seen, Advice::new("clients cannot log in by themselves", REMEDY));
    } else {
        let meaning = "fine where clients have tokens or keys of their own; no client can log in by itself";
        on.warning("auth-metadata", format!("none: {seen}"), Advice::new(meaning, REMEDY));
    }
}

/// The value of `resource_metadata="…"` in a challenge.
fn named_in(challenge: &str) -> Option<String> {
    let at = challenge.to_ascii_lowercase().find("resource_metadata=")?;
    let value = challenge.get(at + "resource_metadata=".len()..)?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().map(str::to_owned),
        None => value.split([',', ' ']).next().map(str::to_owned),
    }
}

/// With the path of the endpoint behind it, and at the root (MCP 2025-11-25, authorization §Protected Resource Metadata
/// Discovery Requirements).
fn usual_places(url: &Url) -> Vec<Url> {
    let at = |path: &str| {
        let mut place = url.clone();
        place.set_query(None);
        place.set_path(path);
        place
    };
    let mut places = vec![at(&format!("{WELL_KNOWN}{}", url.path().trim_end_matches('/'))), at(WELL_KNOWN)];
    places.dedup();
    places
}

async fn fetch(http: &Http, place: &Url) -> Result<Value, String> {
    // Headers may be credentials, and another origin has no claim to them.
    let mut at = if place.origin() == http.url.origin() { http.anonymous() } else { http.bare() };
    at.url = place.clone();
    let accepts = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
    let head = at.head(Method::GET, &accepts, &Value::Null).await.map_err(|error| error.to_string())?;
    if !head.status.is_success() {
        return Err(format!("HTTP {}", head.status.as_u16()));
    }
    let text = head.document(MOST, at.patience).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|_| "no JSON".to_owned())
}

fn judge(on: &mut On<'_, '_>, place: &Url, document: &Value, options: &Options) {
    let resource = document.get("resource").and_then(Value::as_str).unwrap_or_default();
    let servers = document.get("authorization_servers").and_then(Value::as_array);
    let servers: Vec<String> = servers.into_iter().flatten().filter_map(Value::as_str).map(quote).collect();
    let or_none = |text: String| if text.is_empty() { "(none)".to_owned() } else { text };
    let (said, asked) = (or_none(resource.to_owned()), or_none(servers.join(", ")));
    let seen = format!("{}: resource {}, authorization servers {asked}", location(place), quote(&said));
    if resource.is_empty() || servers.is_empty() {
        let advice = Advice::new("clients that log in by themselves need both", REMEDY);
        return on.failure("auth-metadata", seen, advice);
    }
    match &options.public {
        Some(public) if !covers(resource, public) => {
            let meaning = "clients compare the resource with the URL that they use, and it is not the public one: \
                           tokens that they have work, logging in through the proxy does not";
            let remedy = format!(
                "whoever runs the server: name {} (or its origin) as the resource, if clients shall log in by \
                 themselves",
                location(public)
            );
            on.warning("auth-metadata", seen, Advice::new(meaning, remedy));
        }
        _ => on.ok("auth-metadata", seen),
    }
}

/// Whether clients that use `url` take `resource` for theirs: the same origin, and a path above.
fn covers(resource: &str, url: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    let slashed = |path: &str| format!("{}/", path.trim_end_matches('/'));
    resource.origin() == url.origin() && slashed(url.path()).starts_with(&slashed(resource.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn metadata_is_found_in_the_challenge() {
        let challenge = r#"Bearer error="invalid_token", Resource_Metadata="https://a/.well-known/x", scope="y""#;
        assert_eq!(named_in(challenge).as_deref(), Some("https://a/.well-known/x"));
        assert_eq!(named_in("Bearer resource_metadata=https://a/b, x=y").as_deref(), Some("https://a/b"));
        assert_eq!(named_in("Bearer"), None);
    }

    #[test]
    fn usual_places_keep_no_query() {
        let places: Vec<String> = usual_places(&url("https://a/mcp?code=x")).iter().map(ToString::to_string).collect();
        let expected =
            ["https://a/.well-known/oauth-protected-resource/mcp", "https://a/.well-known/oauth-protected-resource"];
        assert_eq!(places, expected);
        assert_eq!(usual_places(&url("https://a/")).len(), 1);
    }

    #[test]
    fn resource_covers_what_lies_below_it() {
        for resource in ["https://a", "https://a/", "https://a/sse"] {
            assert!(covers(resource, &url("https://a/sse")), "{resource}");
        }
        for resource in ["https://b/sse", "http://a/sse", "https://a/mcp", "https://a/ss", "nonsense"] {
            assert!(!covers(resource, &url("https://a/sse")), "{resource}");
        }
    }
}
