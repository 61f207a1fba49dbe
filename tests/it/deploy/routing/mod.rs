//! What `deploy/routing` says, in the real balancers, between real clients, the proxy and a server.
//!
//! What is changed in each file is said in `balancer`. The load balancer of AWS cannot be had here: `alb` reads its files.

mod alb;
mod balancer;
mod clients;
mod outages;
mod readme;
mod switching;

use std::net::SocketAddr;

use balancer::{Balancer, Change, Kind, Plan, Route};

use crate::support::{FakeUpstream, Proxy};

const KINDS: [Kind; 5] = [Kind::Nginx, Kind::Haproxy, Kind::Caddy, Kind::Envoy, Kind::Traefik];

/// The address in a URL.
fn address(url: &str) -> SocketAddr {
    let rest = url.strip_prefix("http://").expect("HTTP");
    rest.split('/').next().and_then(|authority| authority.parse().ok()).expect("an address")
}

/// A proxy in front of `upstream`, as `deploy/routing/README.md` has it started for `route`.
fn proxy_for(route: Route, upstream: &FakeUpstream, more: &[(&'static str, &str)]) -> Proxy {
    let passthrough = if route == Route::All { "all" } else { "off" };
    let options = [("passthrough", passthrough), ("trusted-proxy", "127.0.0.1/32"), ("client-address", "full")];
    Proxy::start(upstream.url(), &[&options[..], more].concat())
}

/// Each subject with each balancer, as tests of their own.
macro_rules! with_each_balancer {
    ($($subject:ident)*) => {$(
        mod $subject {
            use crate::deploy::routing::balancer::Kind;

            #[tokio::test]
            async fn nginx() { super::$subject(Kind::Nginx).await; }
            #[tokio::test]
            async fn haproxy() { super::$subject(Kind::Haproxy).await; }
            #[tokio::test]
            async fn caddy() { super::$subject(Kind::Caddy).await; }
            #[tokio::test]
            async fn envoy() { super::$subject(Kind::Envoy).await; }
            #[tokio::test]
            async fn traefik() { super::$subject(Kind::Traefik).await; }
        }
    )*};
}
use with_each_balancer;
