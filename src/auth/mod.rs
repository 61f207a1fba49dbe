//! What a request says about who sends it: its credential, the principal that sessions are bound to, and the signature of the operator's own probes (`signature`).
//!
//! A bearer JWT is decoded only as a label for the log. Nothing is verified here and nothing is allowed by it: the
//! upstream verifies the very same token on the very same request.

mod credential;
pub mod oauth;
mod principal;
mod signature;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

pub(crate) use credential::keyed_hash;
pub use credential::{Credential, CredentialHeaders, Rejection};
pub use principal::{Principal, Sender, Vouched};
pub use signature::{
    ACCEPTED, CLOCK_DIFFERENCE, KeepAlive, KeyError, PROBE_HEADER, ProbeKey, Rejected, SignedProbe, Signer, Verifier,
};

use crate::traffic::{self, printable};

/// Longest token that is looked into, in bytes.
const LONGEST_TOKEN: usize = 16 << 10;

/// The claims that name a principal.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    client_id: Option<String>,
    azp: Option<String>,
}

/// Reads how the log calls the principal; `identity_header` is a header that the operator trusts to name the client.
#[must_use]
pub fn principal(headers: &HeaderMap, identity_header: Option<&HeaderName>) -> traffic::Principal {
    let named = identity_header.and_then(|name| named_in(headers, name)).and_then(|value| value.to_str().ok());
    let mut principal = traffic::Principal { header: named.map(printable), ..traffic::Principal::default() };
    let Some(authorization) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return principal;
    };
    let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
    // A scheme is a token (RFC 9110 §11.1); a bare secret in its place must not reach the log.
    if token.is_empty() || scheme.len() > 20 {
        return principal;
    }
    let scheme = printable(&scheme.to_ascii_lowercase());
    if scheme == "bearer" {
        match claims(token.trim()) {
            Some(claims) => {
                principal.subject = claims.sub;
                principal.client_id = claims.client_id.or(claims.azp).map(|client_id| printable(&client_id));
            }
            None => principal.is_opaque = true,
        }
    }
    principal.scheme = Some(scheme);
    principal
}

/// Whom the header `name` names: nobody where it is empty, as proxies send it for those they do not know, nor where there are
/// several, of which one is the client's own.
#[must_use]
pub fn named_in<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    Some(only).filter(|value| !value.as_bytes().trim_ascii().is_empty())
}

/// What a bearer JWT says of whom it is for and who made it; unverified, for a diagnostic.
fn audience(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    #[derive(Deserialize)]
    struct Names {
        aud: Option<serde_json::Value>,
        iss: Option<String>,
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = authorization.and_then(|text| text.split_once(' ')).map(|(_, token)| token.trim());
    let Some(Names { aud, iss }) = token.and_then(payload) else { return (None, None) };
    let aud = aud.map(|aud| aud.as_str().map_or_else(|| aud.to_string(), str::to_owned));
    (aud, iss)
}

fn claims(token: &str) -> Option<Claims> {
    payload(token)
}

/// What a JWT holds.
fn payload<T: serde::de::DeserializeOwned>(token: &str) -> Option<T> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    if payload.len() > LONGEST_TOKEN {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(authorization: &str) -> traffic::Principal {
        let value = HeaderValue::from_str(authorization).expect("a header");
        principal(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]), None)
    }

    #[test]
    fn jwt_names_subject_and_client() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"alice","azp":"reporting","exp":1}"#);
        let principal = of(&format!("Bearer e30.{payload}.sig"));
        assert_eq!(principal.subject.as_deref(), Some("alice"));
        assert_eq!(principal.client_id.as_deref(), Some("reporting"));
        assert!(!principal.is_opaque);
    }

    #[test]
    fn opaque_token_is_marked_and_shown_nowhere() {
        for token in ["Bearer hunter2", "Bearer a.b.c", "Bearer hunter2.hunter2.hunter2"] {
            let principal = of(token);
            assert!(principal.is_opaque, "{token}");
            assert!(!format!("{principal:?}").contains("hunter2"));
        }
    }

    #[test]
    fn bare_secret_is_no_scheme() {
        assert_eq!(of("hunter2").scheme, None);
        assert_eq!(of("Basic aHVudGVyMg==").scheme.as_deref(), Some("basic"));
    }

    #[test]
    fn header_of_the_operator_names_the_client() {
        let name = HeaderName::from_static("x-team");
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("team-a"))]);
        assert_eq!(principal(&headers, Some(&name)).header.as_deref(), Some("team-a"));
        let of = |values: &[&'static str]| {
            let values = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
            let headers = values.fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
            principal(&headers, Some(&name)).header
        };
        for nobody in [&[""][..], &[" "], &["team-a", "team-b"], &["team-a", ""], &[]] {
            assert_eq!(of(nobody), None, "{nobody:?}");
        }
    }
}
