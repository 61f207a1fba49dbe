//! The public URL, as clients will meet it.

use reqwest::Url;

use super::Options;
use super::finding::{Findings, Side};
use super::network;

/// Looks at the event stream at `url`.
pub(super) async fn look(options: &Options, url: &Url, findings: &mut Findings<'_>) {
    let mut on = findings.on(Side::Public);
    network::look(&mut on, url, &options.trust, options.patience).await;
}
