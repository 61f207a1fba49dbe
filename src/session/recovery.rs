//! Another upstream session in place of the one that was lost, or for a client that never made a handshake here: when it is
//! asked for, and what becomes of those who wait for it. How it is made is told in `revival`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::credential::Taker;
use super::exchange::{Outgoing, OutgoingKind, Source};
use super::inbound::{accept, reject};
use super::keepsake::Keepsake;
use super::revival::{Attempt, Failure, Plan, Revived};
use super::task::{Handshake, Task};
use crate::auth::Sender;
use crate::mcp::{RpcError, code};
use crate::upstream::{Fault, Item};

/// How long `initialize` may take, of which the client knows nothing.
const INITIALIZE: Duration = Duration::from_secs(60);
/// How long calls of the lost session that the upstream has not even begun to answer may still be turned away by it, so that
/// they can be sent again.
const STRAGGLERS: Duration = Duration::from_secs(5);
/// Bounds of the wait before an idle session tries again.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// The golden ratio's part after the point, of 2^32.
const GOLDEN: u32 = 0x9E37_79B9;
/// The version of a handshake for a client of which none is known (MCP 2024-11-05 is the last with HTTP+SSE), and the newest
/// of the session era.
const OLDEST: &str = "2024-11-05";
const NEWEST: &str = "2025-11-25";

/// How the upstream session stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is there, or there was never one.
    Sound,
    /// Another is being made.
    Reviving(Attempt),
    /// It is lost, and another could not be made. The next message tries again, or time does.
    Lost { again: Option<Instant>, attempts: u32 },
}

impl Task {
    /// Has an upstream session made, at once if the client waits for it.
    pub(super) fn stand_up(&mut self, is_urgent: bool) {
        if let Standing::Reviving(attempt) = &self.standing {
            if is_urgent {
                attempt.hurry();
            }
            return;
        }
        let attempt = Attempt::default();
        if is_urgent {
            attempt.hurry();
        }
        self.attempts = match self.standing {
            Standing::Lost { attempts, .. } => attempts,
            _ => 0,
        };
        let waiting = self.waiting.front().map(|outgoing| (outgoing.sent.headers.clone(), Some(outgoing.sent.sender)));
        let known = || (self.credentials.headers(), self.credentials.accepted().copied());
        let (headers, sender) = waiting.unwrap_or_else(known);
        (self.reviving_with, self.reviving_as) = (headers.clone(), sender);
        let plan = Plan {
            link: self.context.upstream.link(),
            keepsake: self.keepsake.clone(),
            headers,
            silence: INITIALIZE.min(self.context.config.call_silence),
            spread: self.spread(),
        };
        self.revival = Some(attempt.clone().make(self.context.gate.clone(), plan).boxed());
        self.standing = Standing::Reviving(attempt);
    }

    /// A session without a handshake is asked for something: its client had one before, and goes on without (WIRE, Stream
    /// 6). The handshake is made for it, and only its result is kept back.
    pub(super) fn make_handshake(&mut self) {
        if matches!(self.standing, Standing::Sound) {
            self.context.books.metrics.handshakes_made.inc();
            self.keepsake = Keepsake::made(handshake(self.version.as_deref()));
        }
        self.stand_up(true);
    }

    pub(super) fn on_revival(&mut self, outcome: Result<Box<Revived>, Failure>) {
        let headers = std::mem::take(&mut self.reviving_with);
        let sender = self.reviving_as.take();
        match outcome {
            Ok(revived) => {
                if let Some(sender) = sender {
                    self.accept_credential(&sender, &headers, Taker::of(revived.is_servers));
                }
                self.on_revived(*revived);
            }
            Err(failure) => {
                self.context.books.metrics.revivals_failed.inc();
                self.on_revival_failed(failure, sender);
            }
        }
    }

    fn on_revived(&mut self, revived: Revived) {
        let Revived { link, answer, version, aside, is_servers: _ } = revived;
        self.context.books.metrics.upstream_sessions_revived.inc();
        self.link = link;
        self.generation += 1;
        self.standing = Standing::Sound;
        let is_first = std::mem::replace(&mut self.handshake, Handshake::Done) != Handshake::Done;
        self.ping_at = Instant::now() + self.context.config.ping;
        self.membership.settle(&version);
        // Clients keep lists until they hear of a change, and only those listen whose server had announced any: to one that
        // made its handshake elsewhere it had, to one whose own has failed here nothing was said.
        let told = self.keepsake.lists();
        self.keepsake.note_lists(&answer);
        let lists = if is_first && !self.has_begun { self.keepsake.lists() } else { told };
        for notification in lists.notifications() {
            self.outbox.push(&notification);
        }
        self.calls.hurry_those_without_head(Instant::now() + STRAGGLERS);
        self.start_listening();
        self.warn();
        for message in aside {
            self.on_item(Source::Listen, Item::Message(message));
        }
    }

    fn on_revival_failed(&mut self, failure: Failure, sender: Option<Sender>) {
        tracing::debug!(session = self.evidence.label(), %failure, "an upstream session could not be opened");
        let attempts = self.attempts;
        let backoff = SHORTEST_BACKOFF.saturating_mul(1 << attempts.min(5)).min(LONGEST_BACKOFF);
        let again = Instant::now() + backoff + SHORTEST_BACKOFF.mul_f64(self.spread());
        // A credential that was turned down is not tried again, and none is worse: only the client can say another.
        let again = (!matches!(failure, Failure::Rejected(_))).then_some(again);
        self.standing = match self.handshake {
            Handshake::Done => Standing::Lost { again, attempts: attempts + 1 },
            _ => Standing::Sound,
        };
        let error = failure.to_rpc();
        for outgoing in std::mem::take(&mut self.waiting) {
            let has_another = matches!(failure, Failure::Rejected(_))
                && sender.is_none_or(|sender| outgoing.sent.sender.credential != sender.credential);
            if has_another || matches!(outgoing.kind, OutgoingKind::Initialize(_)) {
                // What it asks is not settled by this.
                self.waiting.push_back(outgoing);
            } else {
                self.turn_away(outgoing, &failure, &error);
            }
        }
        if let (Failure::Rejected(rejection), Some(sender)) = (failure, sender) {
            self.reject_credential(&sender, &rejection);
        }
    }

    fn turn_away(&mut self, outgoing: Outgoing, failure: &Failure, error: &RpcError) {
        let Outgoing { kind, sent, verdict, .. } = outgoing;
        let id = match kind {
            OutgoingKind::Initialize(id) | OutgoingKind::Request(id) => Some(id),
            _ => None,
        };
        let verdict = verdict.filter(|verdict| !verdict.is_closed());
        match (failure, verdict) {
            // The client is told by HTTP, so that it renews its token and posts again.
            (Failure::Rejected(rejection), Some(verdict)) => {
                if let Some(id) = id {
                    self.defer(id, &sent.body);
                }
                reject(Some(verdict), rejection.clone());
            }
            (_, verdict) => {
                accept(verdict);
                if let Some(id) = id {
                    self.answer_error(&id, error);
                }
            }
        }
    }

    /// From 0 to 1, different for each session, so that a restarted upstream does not see all at once. Multiples of the golden
    /// ratio lie evenly however many there are, and are the same in every run of a simulation.
    pub(super) fn spread(&self) -> f64 {
        f64::from(self.evidence.number().wrapping_mul(GOLDEN)) / f64::from(u32::MAX)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Rejected(rejection) => {
                write!(f, "the upstream rejected the credential (HTTP {})", rejection.status)
            }
            Failure::Refused(text) => {
                write!(f, "the upstream refused the handshake: {}", Fault::quote(text.as_bytes()))
            }
            Failure::Fault(fault) => fault.fmt(f),
        }
    }
}

impl Failure {
    /// What those are told who wait for the session.
    fn to_rpc(&self) -> RpcError {
        let error = match self {
            Failure::Rejected(rejection) => {
                let error = RpcError::new(code::UNAUTHORIZED, "unauthorized", String::new());
                error.with("status", rejection.status.as_u16())
            }
            Failure::Refused(_) => RpcError::new(code::INTERNAL_ERROR, "upstream_refused_session", String::new()),
            Failure::Fault(fault) => fault.to_rpc(),
        };
        // Whatever the handshake came to, this request never left.
        let what = self.to_string();
        let what = what.strip_suffix("; the call may have run").unwrap_or(&what);
        RpcError { message: format!("no session with the upstream: {what}; the request did not run"), ..error }
    }
}

/// The `initialize` for a client that has made its own elsewhere. What it can do is not known, so nothing is promised.
fn handshake(version: Option<&str>) -> Bytes {
    let version = version.filter(|version| (OLDEST..=NEWEST).contains(version)).unwrap_or_else(|| match version {
        Some(newer) if newer > NEWEST => NEWEST,
        _ => OLDEST,
    });
    let ours = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":"sse-sunset-initialize","method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"sse-sunset","version":"{ours}"}}}}}}"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_names_a_version_that_servers_with_sessions_know() {
        for (named, asked) in [
            (None, OLDEST),
            (Some("2025-06-18"), "2025-06-18"),
            (Some("2026-07-28"), NEWEST),
            (Some("2024-10-07"), OLDEST),
        ] {
            let message = crate::mcp::parse(&handshake(named)).expect("a message").remove(0);
            assert_eq!(message.method(), Some("initialize"));
            assert!(String::from_utf8_lossy(message.bytes()).contains(asked), "{named:?}");
        }
    }

    #[test]
    fn those_who_wait_are_told_that_nothing_was_sent() {
        let error = Failure::Fault(Fault::Broken("reset".into())).to_rpc();
        assert!(error.message.ends_with("(reset); the request did not run"), "{}", error.message);
        let retry_after = Some("7".to_owned());
        let error = Failure::Fault(Fault::NotRpc { status: 503, text: "busy".into(), retry_after }).to_rpc();
        assert_eq!((error.data["status"].clone(), error.data["retry_after"].clone()), (503.into(), "7".into()));
    }
}
