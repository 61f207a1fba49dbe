//! What stands before the proxy, as far as its answers tell, and which of its settings matter.

use http::HeaderMap;
use http::header;

use super::super::http::header_text;

/// Balancers, gateways and networks that say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gateway {
    Nginx,
    Cloudflare,
    CloudFront,
    Elb,
    Envoy,
    Caddy,
    Apache,
    Google,
    Unknown,
}

impl Gateway {
    /// Reads it off the headers of an answer.
    pub(super) fn of(headers: &HeaderMap) -> Gateway {
        let text = |name| header_text(headers, &name).unwrap_or_default().to_ascii_lowercase();
        let (server, via) = (text(header::SERVER), text(header::VIA));
        let has = |name: &str| headers.contains_key(name);
        let tests = [
            (has("cf-ray") || server == "cloudflare", Gateway::Cloudflare),
            (has("x-amz-cf-id"), Gateway::CloudFront),
            (server.contains("nginx") || server.contains("openresty"), Gateway::Nginx),
            (server.contains("envoy") || has("x-envoy-upstream-service-time"), Gateway::Envoy),
            (server.contains("awselb"), Gateway::Elb),
            (server.contains("caddy") || via.contains("caddy"), Gateway::Caddy),
            (server.contains("apache"), Gateway::Apache),
            (via.contains("google"), Gateway::Google),
        ];
        tests.into_iter().find(|(is_it, _)| *is_it).map_or(Gateway::Unknown, |(_, gateway)| gateway)
    }

    /// What makes it pass events on at once.
    pub(super) fn unbuffered(self) -> &'static str {
        match self {
            Gateway::Nginx => "nginx: proxy_buffering off and gzip off for this location, proxy_http_version 1.1",
            Gateway::Cloudflare => {
                "Cloudflare: response buffering and compression off for this path (Configuration Rules)"
            }
            Gateway::CloudFront => "CloudFront: compression off and caching disabled for this path",
            Gateway::Caddy => "Caddy: flush_interval -1 in reverse_proxy, and no encode for this path",
            Gateway::Apache => "Apache: ProxyPass with flushpackets=on, and no mod_deflate for this path",
            Gateway::Envoy | Gateway::Elb | Gateway::Google | Gateway::Unknown => {
                "whoever runs what stands between: response buffering and compression off for this path (nginx: \
                 proxy_buffering off, and let X-Accel-Buffering through; Caddy: flush_interval -1; Envoy: no buffer \
                 or compressor filter; AWS API Gateway and Lambda in front of it cannot stream, so go around them)"
            }
        }
    }

    /// What makes it leave silent streams alone.
    pub(super) fn patient(self) -> &'static str {
        match self {
            Gateway::Nginx => "nginx: proxy_read_timeout 1h (60 s is its default)",
            Gateway::Elb => "AWS load balancer: raise idle_timeout.timeout_seconds (60 s is its default)",
            Gateway::Envoy => "Envoy: stream_idle_timeout and the route's idle_timeout to 1h or more",
            Gateway::Apache => "Apache: ProxyTimeout 3600",
            Gateway::Cloudflare | Gateway::CloudFront | Gateway::Caddy | Gateway::Google | Gateway::Unknown => {
                "whoever runs what stands between: raise the timeout for silent connections (nginx: \
                 proxy_read_timeout; HAProxy: timeout client and timeout server; AWS load balancer: idle_timeout; \
                 Envoy: stream_idle_timeout)"
            }
        }
    }

    /// What makes it leave long streams alone.
    pub(super) fn lasting(self) -> &'static str {
        match self {
            Gateway::Envoy => "Envoy: timeout: 0s on the route (15 s is its default), and no max_stream_duration",
            Gateway::Google => {
                "Google Cloud: raise the backend service's timeout (30 s is its default), or that of Cloud Run"
            }
            _ => {
                "whoever runs what stands between: no limit for the length of a response on this path (Envoy: \
                 timeout 0s on the route; Google Cloud: the backend service's timeout; serverless platforms have \
                 limits of their own)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn of(name: &'static str, value: &'static str) -> Gateway {
        Gateway::of(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]))
    }

    #[test]
    fn gateways_are_told_by_what_they_add() {
        assert_eq!(of("server", "nginx/1.28.0"), Gateway::Nginx);
        assert_eq!(of("cf-ray", "8f"), Gateway::Cloudflare);
        assert_eq!(of("via", "1.1 google"), Gateway::Google);
        assert_eq!(of("via", "1.1 Caddy"), Gateway::Caddy);
        assert_eq!(of("server", "uvicorn"), Gateway::Unknown);
    }
}
