//! The public URL, as legacy clients will meet it: from the GET to the answer on the stream, and what the way does to
//! streams that stay open.
//!
//! Whatever stands between (balancer, gateway, tunnel) shows only by what it does, so each finding is about that, and names
//! the usual setting.

mod gateway;
mod login;
mod routing;
mod stream;
mod watch;

use std::time::Duration;

use http::HeaderMap;
use reqwest::Url;

use super::Options;
use super::finding::{Advice, Findings, On, Side};
use super::network;
use crate::auth::{ACCEPTED, KeepAlive, PROBE_HEADER};
use crate::probe::{SseClient, Target};
use gateway::Gateway;

/// What comes after the way there.
const NAMES: &[&str] = &[
    "stream",
    "http-version",
    "probe-key",
    "endpoint",
    "first-event",
    "routing",
    "buffering",
    "latency",
    "compression",
    "idle-timeout",
    "stream-limit",
];

/// How the public side is reached.
struct Way<'a> {
    client: SseClient,
    options: &'a Options,
    /// What answers there, as far as it tells.
    gateway: Gateway,
}

impl Way<'_> {
    /// The signature for one GET, if there is a key.
    fn signature(&self, keep_alive: Option<KeepAlive>) -> HeaderMap {
        let signer = self.options.signer.as_ref();
        signer.map(|signer| (PROBE_HEADER, signer.sign(keep_alive))).into_iter().collect()
    }
}

/// Looks at the event stream at `url`; `direct` is what a ping takes without the way through it.
pub(super) async fn look(options: &Options, url: &Url, direct: Option<Duration>, findings: &mut Findings<'_>) {
    let mut on = findings.on(Side::Public);
    let on = &mut on;
    if !network::look(on, url, &options.trust, options.patience).await {
        on.skipped(NAMES, "not reached");
        return;
    }
    let client = SseClient::new(target(options, url));
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            let remedy = "install the certificates of the authorities on this machine, or name them with --ca";
            on.failure("stream", error, Advice::new("no request can be made from here", remedy));
            on.skipped(NAMES, "no client");
            return;
        }
    };
    let mut way = Way { client, options, gateway: Gateway::Unknown };
    let opened = stream::open(on, &mut way).await;
    // Whoever gets in with nothing in hand has nowhere to log in.
    if opened.is_none() || options.headers.contains_key(http::header::AUTHORIZATION) {
        login::look(on, &way).await;
    }
    let Some(mut stream) = opened else {
        on.skipped(NAMES, "no event stream");
        return;
    };
    let is_known = probe_key(on, &way, stream.head().headers.get(PROBE_HEADER).is_some_and(|said| said == ACCEPTED));
    let Some(endpoint) = stream::endpoint(on, &way, &mut stream).await else {
        on.skipped(NAMES, "no endpoint");
        return;
    };
    routing::look(on, &way, &mut stream, &endpoint, direct).await;
    drop(stream);
    stream::compression(on, &way).await;
    watch::look(on, &way, is_known).await;
}

fn target(options: &Options, url: &Url) -> Target {
    Target {
        url: url.clone(),
        headers: options.headers.clone(),
        authorities: options.trust.for_client(),
        connect_timeout: options.patience,
    }
}

/// Whether the proxy knows these streams for what they are.
fn probe_key(on: &mut On<'_, '_>, way: &Way<'_>, accepted: bool) -> bool {
    if accepted {
        on.ok("probe-key", "the proxy knows this check by its signature; it is not counted as a client");
    } else if way.options.signer.is_some() {
        let meaning = "what answers is not sse-sunset, or has another key, or its clock differs by more than five \
                       minutes, or something on the way takes the header away; this check counts as a client in its \
                       log";
        let remedy =
            "give serve and this command the same --probe-key-file, and let the header Sse-Sunset-Probe through";
        on.warning("probe-key", "the signature is not recognised", Advice::new(meaning, remedy));
    } else {
        on.skipped(&["probe-key"], "no --probe-key-file: this check counts as a client in the log, without use");
    }
    accepted
}
