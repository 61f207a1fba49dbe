//! What the tests stand on: a proxy in this process, a fake upstream, a raw legacy client.

mod client;
pub(crate) mod gateway;
mod http;
pub(crate) mod modern;
pub(crate) mod oauth;
#[path = "../../faults/port.rs"]
pub(crate) mod port;
mod proxy;
pub(crate) mod redis;
pub(crate) mod schema;
pub(crate) mod script;
pub(crate) mod tls;
mod upstream;
mod wire;

use std::time::Duration;

use serde_json::json;

pub(crate) use client::{LegacyClient, Lost, Posted};
pub(crate) use proxy::Proxy;
pub(crate) use upstream::{Behaviour, Disguise, FLOOD, FakeUpstream, Seen, Way};
pub(crate) use wire::{RawClient, post};

/// Longer than anything here may take; a test that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Awaits `future`, and fails the test, naming `what`, when it does not come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// An HTTP client that goes straight to where it is told.
pub(crate) fn http_client() -> reqwest::Client {
    // Fails only if a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Lets time pass for everything in this process without waiting for it. Only the timers move: what they set going
/// happens afterwards, in ordinary time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until the proxy is stuck on a client: until the upstream's flood goes nowhere while another client is served.
pub(crate) async fn stuck(upstream: &FakeUpstream, other: &mut LegacyClient) {
    let mut before = usize::MAX;
    while std::mem::replace(&mut before, upstream.flooded()) != upstream.flooded() {
        for _ in 0..50 {
            other.call(1, "echo", json!({"text": "x"})).await;
            other.answer(1).await;
        }
    }
}
