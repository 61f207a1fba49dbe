//! `check`: both sides of the proxy before the cutover, line by line.
//!
//! Promise: it leaves nothing behind (every session that it opens is ended), changes nothing, and says of each thing what it
//! saw, what that means for legacy clients, and what to do about it, in whose hands.

mod finding;
mod http;
mod network;
mod public;
mod render;
mod text;
mod tls;
mod upstream;

use std::time::Duration;

use ::http::HeaderMap;
use ::http::header::HeaderValue;
use reqwest::Url;

pub use finding::{Finding, Report, Side, Status};
pub use render::{Style, json, line, summary};
pub use tls::Trust;

use crate::auth::Signer;
use finding::Findings;

/// What to look at, and with what.
#[derive(Debug, Clone)]
pub struct Options {
    /// The MCP endpoint of the upgraded server.
    pub upstream: Option<Url>,
    /// The URL of the event stream that clients know.
    pub public: Option<Url>,
    /// Sent to both sides, as a client would: a credential.
    pub headers: HeaderMap,
    /// The `Host` that the proxy sends to the server, where it is not that of the URL.
    pub upstream_host: Option<HeaderValue>,
    /// Who may vouch for the servers.
    pub trust: Trust,
    /// The bound for every single wait.
    pub patience: Duration,
    /// For how long streams through the public URL are watched; zero leaves that out.
    pub watch: Duration,
    /// Signs the streams, so that the proxy knows them and keeps its keep-alive comments to itself.
    pub signer: Option<Signer>,
}

/// Looks at everything that `options` name, and tells `tell` of each finding as it comes.
pub async fn run(options: &Options, tell: &mut (dyn FnMut(&Finding) + Send)) -> Report {
    let mut findings = Findings::new(tell);
    let mut direct = None;
    if let Some(url) = &options.upstream {
        direct = upstream::look(options, url, &mut findings).await;
    }
    if let Some(url) = &options.public {
        public::look(options, url, direct, &mut findings).await;
    }
    findings.into_report()
}
