//! Logging in through the public URL: what the check says of the proxy's own documents, in each mode.

use sse_sunset::probe::check::Status::{Ok, Skipped, Warning};

use super::{checked, options};
use crate::support::Proxy;
use crate::support::oauth::{AuthorizationServer, Dialect, ProtectedServer, Protection};

const UPSTREAM: &str = "https://internal.example/mcp";

#[tokio::test]
async fn generations_are_told_by_the_documents_that_they_would_find() {
    let server = ProtectedServer::start().await;
    let issuer = AuthorizationServer::start(Dialect::default()).await;
    server.demand(UPSTREAM, UPSTREAM, &[&issuer.origin]);
    for mode in ["exact", "facade", "upstream"] {
        let proxy = Proxy::start(&server.url(), &[("oauth-resource", mode)]);
        let found = checked(&options(None, Some(&proxy.url("/sse")))).await;
        assert!(found.is("public.login", Ok).seen.contains("/.well-known/oauth-protected-resource/sse"), "{found:#?}");
        match mode {
            "exact" => {
                found.is("public.login-clients", Ok);
                let advice = found.is("public.login-resource", Warning);
                assert!(advice.meaning.as_deref().is_some_and(|text| text.contains(&proxy.url("/sse"))), "{advice:#?}");
                assert!(advice.remedy.as_deref().is_some_and(|text| text.contains("--oauth-resource facade")));
            }
            "facade" => {
                found.is("public.login-clients", Ok);
                assert!(found.is("public.login-resource", Ok).seen.contains("facade"));
            }
            _ => {
                let clients = found.is("public.login-clients", Warning);
                assert!(clients.seen.contains("Python 1.27 and later") && !clients.seen.contains("TypeScript to 1.11"));
                found.is("public.login-resource", Ok);
            }
        }
        found.is("public.routing", Skipped);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn server_with_keys_only_lets_nobody_log_in() {
    let server = ProtectedServer::start().await;
    server.protect(Protection { audiences: Some(Vec::new()), ..Protection::default() });
    let proxy = Proxy::start(&server.url(), &[("oauth-resource", "auto")]);
    let found = checked(&options(None, Some(&proxy.url("/sse")))).await;
    assert!(found.is("public.login", Warning).seen.contains("names no metadata"), "{found:#?}");
    proxy.stop().await;
}
