//! Certificates: trusted, from nobody known, expired, about to expire.

use futures_util::FutureExt as _;
use sse_sunset::probe::check::Status::{Failure, Ok, Skipped, Warning};
use sse_sunset::probe::check::Trust;

use super::server::{Server, forward};
use super::{Found, SESSIONS, checked, options};
use crate::support::FakeUpstream;
use crate::support::tls::Authority;

const DAY: i64 = 24 * 3600;

/// What is found at a server whose certificate is good for `seconds` more.
async fn found_at(seconds: i64, is_trusted: bool) -> Found {
    let authority = Authority::new();
    let upstream = FakeUpstream::start(SESSIONS).await;
    let base = upstream.url().trim_end_matches("/mcp").to_owned();
    let server = Server::over(Some(authority.acceptor_for(seconds)), move |asked| {
        let base = base.clone();
        async move { forward(&base, asked).await }.boxed()
    })
    .await;
    let mut options = options(Some(&server.url("/mcp")), None);
    if is_trusted {
        options.trust = Trust::with_pem(authority.pem().as_bytes()).expect("a certificate");
    }
    checked(&options).await
}

#[tokio::test]
async fn good_certificate_is_ok_with_its_days() {
    let found = found_at(90 * DAY + DAY / 2, true).await;
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
    assert!(found.is("upstream.tls", Ok).seen.starts_with("TLS 1.3"), "{found:#?}");
    assert!(found.is("upstream.certificate", Ok).seen.contains("(90 days)"), "{found:#?}");
    found.is("upstream.delete", Ok);
}

#[tokio::test]
async fn certificate_that_expires_soon_is_a_warning() {
    let found = found_at(20 * DAY + DAY / 2, true).await;
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
    assert!(found.is("upstream.certificate", Warning).seen.ends_with("in 20 days"), "{found:#?}");
    found.is("upstream.era", Ok);
}

#[tokio::test]
async fn expired_and_unknown_certificates_are_failures_with_their_reason() {
    let found = found_at(-DAY, true).await;
    assert!(found.is("upstream.certificate", Failure).seen.contains("expired on"), "{found:#?}");
    found.is("upstream.era", Skipped);
    let found = found_at(90 * DAY, false).await;
    assert!(found.is("upstream.certificate", Failure).seen.contains("no authority"), "{found:#?}");
}

#[tokio::test]
async fn server_without_tls_behind_https_is_a_failure() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let found = checked(&options(Some(&upstream.url().replace("http:", "https:")), None)).await;
    assert_eq!(found.all(Failure), ["upstream.tls"], "{found:#?}");
}
