//! The upgraded server, as the proxy will meet it.
//!
//! In order of what depends on what: the way there, whether we are let in, a session, its end. Every session that is
//! opened is deleted; what asks without a session does so under the id of one that nobody has, which leaves none behind.

mod door;
mod metadata;
mod names;
mod session;
mod version;

use std::time::Duration;

use http::HeaderMap;
use http::header::{self, HeaderValue};
use reqwest::Url;

use super::Options;
use super::finding::{Advice, Findings, Side};
use super::http::Http;
use super::network;
use crate::probe::sse_client::USER_AGENT;
use door::Door;

/// Looks at the server at `url`, and gives the median time of a ping.
pub(super) async fn look(options: &Options, url: &Url, findings: &mut Findings<'_>) -> Option<Duration> {
    let mut on = findings.on(Side::Upstream);
    let mut headers: HeaderMap = options.headers.clone();
    if let Some(host) = &options.upstream_host {
        headers.insert(header::HOST, host.clone());
    }
    if !network::look(&mut on, url, &options.trust, options.patience).await {
        on.skipped(&[door::NAMES, session::NAMES].concat(), "not reached");
        return None;
    }
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    let http = match Http::new(url.clone(), headers, &options.trust, options.patience) {
        Ok(http) => http,
        Err(error) => {
            let remedy = "install the certificates of the authorities on this machine, or name them with --ca";
            on.failure("http", error, Advice::new("no request can be made from here", remedy));
            on.skipped(&[door::NAMES, session::NAMES].concat(), "no client");
            return None;
        }
    };
    match door::knock(&mut on, http, options).await {
        Door::Open(entry) => Box::pin(session::look(&mut on, *entry)).await,
        Door::Shut(why) => {
            on.skipped(session::NAMES, why);
            None
        }
    }
}
