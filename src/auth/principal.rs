//! Whom a session is bound to.
//!
//! Whoever has a session's id could post into it; so a session belongs to the principal that opened it, and anybody else
//! meets what there is under an id that does not exist. A bearer JWT is read and not verified: that is safe because the
//! binding only ever denies, and the upstream verifies the very same token on the very same request. Trap: nothing may be
//! *given* to somebody for what an unverified token says.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, header};

use super::credential::{Credential, CredentialHeaders, Hash, keyed_hash};
use super::{Claims, claims};

/// Whom a session is bound to: the first of these that a request tells. Only keyed hashes of names are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Named by a client certificate, or by a header of a proxy that the operator trusts.
    Verified([u8; 32]),
    /// Named by a bearer JWT: issuer, subject and client.
    Token([u8; 32]),
    /// Whoever shows this credential, which says nothing and may be another one tomorrow.
    Opaque([u8; 32]),
    /// Nobody in particular.
    Anonymous,
}

impl Principal {
    /// One word for diagnostics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Principal::Verified(_) => "verified",
            Principal::Token(_) => "token",
            Principal::Opaque(_) => "opaque",
            Principal::Anonymous => "anonymous",
        }
    }

    /// What tells it from others of its kind, for as long as the process lives.
    #[must_use]
    pub fn hash(&self) -> Option<&[u8; 32]> {
        match self {
            Principal::Verified(hash) | Principal::Token(hash) | Principal::Opaque(hash) => Some(hash),
            Principal::Anonymous => None,
        }
    }
}

impl fmt::Debug for Principal {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.kind())
    }
}

/// What is known of a request's sender by the word of somebody who is trusted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vouched<'a> {
    /// SHA-256 of the public key (SPKI) of the certificate that the client showed.
    pub certificate: Option<&'a [u8; 32]>,
    /// The name that a trusted proxy gave it.
    pub name: Option<&'a [u8]>,
}

/// Who a request is from, as far as sessions have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// What it authenticates with.
    pub credential: Credential,
    /// Whom that is taken for.
    pub principal: Principal,
    /// The client's address, as far as trusted proxies tell.
    pub address: IpAddr,
}

impl Sender {
    /// The sender of a request with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap, names: &CredentialHeaders, vouched: Vouched<'_>, address: IpAddr) -> Self {
        let credential = names.credential(headers);
        Sender { credential, principal: principal(headers, names, credential, vouched), address }
    }
}

fn principal(
    headers: &HeaderMap,
    names: &CredentialHeaders,
    credential: Credential,
    vouched: Vouched<'_>,
) -> Principal {
    let Vouched { certificate, name } = vouched;
    if certificate.is_some() || name.is_some() {
        // Both where there are both: one certificate of a balancer may stand for many names.
        let parts = [certificate.map_or(&[][..], |certificate| certificate), name.unwrap_or_default()];
        return Principal::Verified(keyed_hash(parts));
    }
    let Some(shown) = credential.hash() else { return Principal::Anonymous };
    match bearer_claims(headers) {
        Some(claims) => Principal::Token(hash_of(&claims, names.beside_authorization(headers))),
        None => Principal::Opaque(*shown),
    }
}

/// The claims of the one bearer JWT of a request, if they name a person. A token without a subject may be anybody's of its
/// client: it counts as one that says nothing.
fn bearer_claims(headers: &HeaderMap) -> Option<Claims> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let claims = scheme.eq_ignore_ascii_case("bearer").then(|| claims(token.trim())).flatten()?;
    claims.sub.as_ref().is_some_and(|subject| !subject.is_empty()).then_some(claims)
}

/// A key beside the token is a part of who it is: many people may share the token of a gateway.
fn hash_of(claims: &Claims, beside: Credential) -> Hash {
    let text = |claim: &Option<String>| claim.clone().unwrap_or_default();
    let client = claims.client_id.as_ref().or(claims.azp.as_ref()).cloned().unwrap_or_default();
    let (issuer, subject) = (text(&claims.iss), text(&claims.sub));
    let beside = beside.hash().map_or(&[][..], |hash| hash);
    keyed_hash([issuer.as_bytes(), subject.as_bytes(), client.as_bytes(), beside])
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn principal_of(pairs: &[(&'static str, &str)], vouched: Vouched<'_>) -> Principal {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")));
        let address = "192.0.2.1".parse().expect("an address");
        Sender::of(&pairs.collect(), &CredentialHeaders::default(), vouched, address).principal
    }

    fn of(pairs: &[(&'static str, &str)]) -> Principal {
        principal_of(pairs, Vouched::default())
    }

    #[test]
    fn token_that_was_renewed_names_the_same_principal_and_anothers_does_not() {
        let token = |claims: &str| of(&[("authorization", &jwt(claims))]);
        let ann = token(r#"{"iss":"https://as","sub":"ann","client_id":"c","exp":1}"#);
        assert_eq!(ann.kind(), "token");
        assert_eq!(token(r#"{"iss":"https://as","sub":"ann","azp":"c","exp":2,"scope":"write"}"#), ann);
        for other in [
            r#"{"iss":"https://as","sub":"ben","client_id":"c"}"#,
            r#"{"iss":"https://as2","sub":"ann","client_id":"c"}"#,
            r#"{"iss":"https://as","sub":"ann","client_id":"d"}"#,
            r#"{"iss":"https://as","sub":"annc","client_id":""}"#,
        ] {
            assert_ne!(token(other), ann, "{other}");
        }
    }

    #[test]
    fn key_beside_a_token_tells_those_apart_who_share_the_token() {
        let token = jwt(r#"{"iss":"i","sub":"gateway"}"#);
        let with = |key: &str| of(&[("authorization", &token), ("x-api-key", key)]);
        assert_eq!(with("a"), with("a"));
        assert_ne!(with("a"), with("b"));
    }

    #[test]
    fn what_names_nobody_is_opaque_or_anonymous() {
        for authorization in ["Bearer hunter2", "Basic aHVudGVyMg==", &jwt(r#"{"iss":"i","client_id":"c"}"#), "hunter2"]
        {
            assert_eq!(of(&[("authorization", authorization)]).kind(), "opaque", "{authorization}");
        }
        let token = jwt(r#"{"iss":"i","sub":"ann"}"#);
        let twice = [("authorization", token.as_str()), ("authorization", "Bearer other")];
        assert_eq!(of(&twice).kind(), "opaque", "which of the two the upstream reads is not known");
        assert_eq!(of(&[("x-api-key", "k")]).kind(), "opaque");
        assert_eq!(of(&[("user-agent", "node")]), Principal::Anonymous);
    }

    #[test]
    fn trusted_word_comes_first_whatever_the_token_says() {
        let token = jwt(r#"{"iss":"i","sub":"ann"}"#);
        let named = |name: &str, token: &str| {
            let vouched = Vouched { certificate: None, name: Some(name.as_bytes()) };
            principal_of(&[("authorization", token)], vouched)
        };
        assert_eq!(named("team-a", &token).kind(), "verified");
        assert_eq!(named("team-a", &token), named("team-a", "Bearer other"));
        assert_ne!(named("team-a", &token), named("team-b", &token));
        let certificate = Vouched { certificate: Some(&[7; 32]), name: None };
        assert_eq!(principal_of(&[], certificate).kind(), "verified");
        assert_ne!(
            principal_of(&[], certificate),
            principal_of(&[], Vouched { certificate: Some(&[8; 32]), name: None })
        );
    }

    #[test]
    fn principal_shows_nothing_of_what_it_was_made_of() {
        assert_eq!(format!("{:?}", of(&[("authorization", "Bearer hunter2")])), "Principal(opaque)");
    }
}
