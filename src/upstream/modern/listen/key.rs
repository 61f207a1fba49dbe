//! Which sessions may share one stream: those that the server would take for one and the same.
//!
//! The trap is to share too much: what one credential may hear must not reach another. So a header that is not known to
//! describe merely the hop or the request counts as a credential (`x-api-key`, and names that nobody has heard of).

use std::fmt;

use ::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that say on which way, when or by which program a request came, and nothing of who sent it.
static OF_THE_WAY: [HeaderName; 21] = [
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_CHARSET,
    header::DATE,
    header::DNT,
    header::FORWARDED,
    header::MAX_FORWARDS,
    header::USER_AGENT,
    header::VIA,
    HeaderName::from_static("b3"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("sentry-trace"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("uber-trace-id"),
    HeaderName::from_static("x-amzn-trace-id"),
    HeaderName::from_static("x-cloud-trace-context"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-request-start"),
];
/// The same of content delivery networks and ingresses, which add them to every request. By name and not by their start:
/// `Cf-Access-Jwt-Assertion`, `Fly-Src` and `X-Azure-FDID` are what somebody is known by.
const OF_AN_EDGE: &[&str] = &[
    "cdn-loop",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ew-via",
    "cf-ipcountry",
    "cf-pseudo-ipv4",
    "cf-ray",
    "cf-visitor",
    "cf-warp-tag-id",
    "cf-worker",
    "cloudfront-forwarded-proto",
    "fastly-client-ip",
    "fly-client-ip",
    "fly-forwarded-port",
    "fly-forwarded-proto",
    "fly-forwarded-ssl",
    "fly-region",
    "fly-request-id",
    "rndr-id",
    "true-client-ip",
    "x-amz-cf-id",
    "x-azure-clientip",
    "x-azure-ref",
    "x-azure-requestchain",
    "x-azure-socketip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-uri",
    "x-original-url",
    "x-scheme",
    "x-timer",
    "x-varnish",
    "x-vercel-forwarded-for",
    "x-vercel-id",
];
/// Starts of such names.
const OF_THE_WAY_PREFIXES: &[&str] = &["x-forwarded-", "x-b3-", "x-datadog-", "cloudfront-is-", "cloudfront-viewer-"];
/// But not what starts like this: the client's own certificate.
const CERTIFICATE_PREFIX: &str = "cloudfront-viewer-cert-";
/// The program that asks for all who share a stream.
const OURS: HeaderValue = HeaderValue::from_static(concat!("sse-sunset/", env!("CARGO_PKG_VERSION")));

/// Equal for sessions that share a stream.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Key {
    /// Without what it holds: credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("headers", &self.0.len()).finish()
    }
}

impl Key {
    /// The key of a client's forwarded headers.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let counted = headers.iter().filter(|(name, _)| !Self::is_of_the_way(name));
        let mut counted: Vec<_> = counted.map(|(name, value)| (name.clone(), value.clone())).collect();
        // Stable: the values of one name keep their order, which may matter to a server.
        counted.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Key(counted)
    }

    /// Whether a header says nothing of who sent it.
    #[must_use]
    pub(crate) fn is_of_the_way(name: &HeaderName) -> bool {
        let text = name.as_str();
        OF_THE_WAY.contains(name)
            || OF_AN_EDGE.contains(&text)
            || OF_THE_WAY_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
                && !text.starts_with(CERTIFICATE_PREFIX)
    }

    /// Whether there is nothing among them that could be a credential.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What goes up for all who share it. `Via` goes with it, so that a loop is noticed.
    #[must_use]
    pub(super) fn headers(&self, client: &HeaderMap) -> HeaderMap {
        let hops = client.get_all(header::VIA).iter().map(|hop| (header::VIA, hop.clone()));
        let mut headers = HeaderMap::with_capacity(self.0.len() + 1);
        for (name, value) in self.0.iter().cloned().chain(hops) {
            headers.append(name, value);
        }
        // That of one client would be wrong for the others, and some gateways turn away requests without any.
        headers.insert(header::USER_AGENT, OURS);
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn key(pairs: &[(&'static str, &'static str)]) -> Key {
        Key::of(&headers(pairs))
    }

    #[test]
    fn key_knows_no_hop_and_no_request() {
        let first = [("authorization", "Bearer a"), ("x-forwarded-for", "1.1.1.1"), ("traceparent", "1"), ("via", "a")];
        let second = [("user-agent", "node"), ("accept-language", "de"), ("authorization", "Bearer a"), ("b3", "0")];
        assert_eq!(key(&first), key(&second));
    }

    #[test]
    fn key_knows_no_edge_but_whom_it_vouches_for() {
        for way in
            ["cf-ray", "x-amz-cf-id", "cloudfront-viewer-address", "x-scheme", "x-original-uri", "fly-request-id"]
        {
            assert!(key(&[(way, "1")]).is_empty(), "{way}");
        }
        for person in [
            "cf-access-jwt-assertion",
            "cf-access-client-id",
            "cf-cert-subject-dn",
            "cloudfront-viewer-cert-subject",
            "fly-src",
            "x-azure-fdid",
            "x-original-authorization",
            "x-amzn-oidc-identity",
        ] {
            assert_ne!(key(&[(person, "ann")]), key(&[(person, "ben")]), "{person}");
        }
    }

    #[test]
    fn key_counts_everything_else_as_a_credential() {
        let plain = key(&[("authorization", "Bearer a")]);
        for other in [
            &[("authorization", "Bearer b")][..],
            &[("authorization", "Bearer a"), ("x-api-key", "k")],
            &[("authorization", "Bearer a"), ("x-tenant", "t")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[],
        ] {
            assert_ne!(key(other), plain, "{other:?}");
        }
        assert_ne!(key(&[("x-a", "1"), ("x-a", "2")]), key(&[("x-a", "2"), ("x-a", "1")]));
        assert_eq!(key(&[("x-a", "1"), ("x-b", "2")]), key(&[("x-b", "2"), ("x-a", "1")]));
    }

    #[test]
    fn shared_request_has_the_headers_of_the_key_and_the_hops() {
        let client = headers(&[("authorization", "Bearer a"), ("x-forwarded-for", "1.1.1.1"), ("via", "1.1 us")]);
        let shared = Key::of(&client).headers(&client);
        assert_eq!(
            shared,
            headers(&[
                ("authorization", "Bearer a"),
                ("via", "1.1 us"),
                ("user-agent", concat!("sse-sunset/", env!("CARGO_PKG_VERSION")))
            ])
        );
    }

    #[test]
    fn key_shows_no_credential() {
        assert!(!format!("{:?}", key(&[("authorization", "Bearer secret")])).contains("secret"));
    }
}
