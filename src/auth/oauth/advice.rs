//! What the operator is told of logging in: each thing once, when it is known.

use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;

use super::Effect;
use super::cached::Problem;
use super::metadata::Server;
use super::swap::is_same;
use crate::traffic::printable;

/// Longest `aud` or `iss` that is shown, in characters.
const SHOWN: usize = 200;

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct Advice {
    /// What clients of this upstream need.
    of_login: AtomicBool,
    /// Why they cannot have it.
    of_failure: AtomicBool,
}

fn is_first(said: &AtomicBool) -> bool {
    !said.swap(true, Ordering::Relaxed)
}

impl Advice {
    /// What clients need that log in: tokens for the `public` URL, while the server calls itself `upstream`.
    pub(super) fn on_login(&self, effect: Effect, upstream: &str, public: &str) {
        if !is_first(&self.of_login) {
            return;
        }
        let shown = printable(upstream);
        match effect {
            Effect::Exact if !is_same(upstream, public) => tracing::warn!(
                upstream = shown,
                public,
                "clients will get tokens for the public URL: the authorization server must allow this resource (or ignore \
                 it), and the upstream accept this audience. Where it takes its own URL only, start the proxy with \
                 --oauth-resource facade"
            ),
            Effect::Pass | Effect::Exact => {
                tracing::info!(upstream = shown, public, "the upstream wants clients to log in");
            }
            Effect::Facade => tracing::info!(
                upstream = shown,
                public,
                "clients log in through the facade, and get tokens for the upstream's own URL"
            ),
        }
    }

    /// There is no telling where clients come from.
    pub(super) fn on_unknown_name(&self) {
        if is_first(&self.of_failure) {
            tracing::warn!(
                "the upstream wants clients to log in, and under which URL they know this proxy is not known: they can not \
                 before --public-url says it"
            );
        }
    }

    /// What protects the upstream cannot be learnt.
    pub(super) fn on_unknown_protection(&self, problem: &Problem) {
        if is_first(&self.of_failure) {
            tracing::warn!(%problem, "what protects the upstream cannot be learnt; challenges pass as they are");
        }
    }
}

/// Whom the facade cannot help. `is_asked_at_upstream`: the authorization server has the name of the public host.
pub(super) fn on_facade(server: &Result<Option<Server>, Problem>, is_asked_at_upstream: bool) {
    match server {
        Ok(Some(server)) if server.names_itself() => tracing::warn!(
            "the authorization server names itself in its answers (RFC 9207): clients that compare the name refuse what \
             comes through the facade; legacy ones do not"
        ),
        Ok(Some(_)) => {}
        Ok(None) if is_asked_at_upstream => tracing::warn!(
            "the authorization server of the upstream is on the public host, and the upstream itself publishes no metadata \
             of it: the facade has nothing to offer. Where the server is another one behind that host, --oauth-host with \
             the name of the host has it asked there"
        ),
        Ok(None) => tracing::warn!(
            "the authorization server of the upstream publishes no metadata that can be used: the facade has nothing to offer"
        ),
        Err(problem) => tracing::warn!(%problem, "the authorization server of the upstream cannot be reached"),
    }
}

/// A client loops: what its token says of itself.
pub(super) fn on_loop(headers: &HeaderMap) {
    let (audience, issuer) = crate::auth::audience(headers);
    let cut = |text: Option<String>| -> String {
        text.as_deref().map(printable).unwrap_or_default().chars().take(SHOWN).collect()
    };
    tracing::error!(
        audience = cut(audience),
        issuer = cut(issuer),
        "the upstream rejects every token of a client that gets new ones again and again; it is answered 403 for a minute. \
         Have the upstream accept this audience, or start the proxy with --oauth-resource facade"
    );
}
