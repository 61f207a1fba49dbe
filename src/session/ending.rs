//! How a session ends: why, what pending calls are told, and the one exit.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::Payload;
use super::credential::Taker;
use super::exchange::{Errand, OutgoingKind};
use super::recovery::Standing;
use super::task::{Handshake, Task};
use crate::mcp::{self, MessageKind, RpcError, code, error_response};

/// How long the end of a session waits for the client to take what it is owed.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long it waits for the upstream to hear of it, all in all.
const FAREWELL: Duration = Duration::from_secs(5);
/// How much of that may go into cancelling calls, so that time is left for DELETE.
const CANCELS: Duration = Duration::from_secs(2);
/// A client whose connection ends after it took nothing for this long had stopped reading: the kernel's own limit
/// (`TCP_USER_TIMEOUT`, 45 s) comes before ours, and counts from the last byte that was acknowledged, not taken.
const STOPPED_READING: Duration = Duration::from_secs(20);

/// What the upstream is told of calls that nobody waits for.
pub(super) const NOBODY_WAITS: &str = "the client is gone";

/// `session.end.reason` of a session whose client left.
pub(super) const CLIENT_GONE: &str = "client_disconnect";

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client's connection ended.
    ClientGone,
    /// The client stopped reading.
    SlowConsumer,
    /// The process stops.
    Drained,
    /// The session was there to be refused, and that is done.
    Refused,
    /// HTTP+SSE is switched off, for running sessions too.
    SwitchedOff,
    /// Nothing was ever posted.
    Unused,
    /// It goes on as another session.
    Merged,
    /// A bug of ours.
    Panicked,
}

/// All that [`Ending::reason`] says.
pub(super) const REASONS: &[&str] =
    &["client_disconnect", "drain", "merged", "never_posted", "panic", "refused", "slow_consumer", "sunset"];

impl Ending {
    /// `session.end.reason`
    pub(super) fn reason(self) -> &'static str {
        match self {
            Ending::ClientGone => CLIENT_GONE,
            Ending::SlowConsumer => "slow_consumer",
            Ending::Drained => "drain",
            Ending::Refused => "refused",
            Ending::SwitchedOff => "sunset",
            Ending::Unused => "never_posted",
            Ending::Merged => "merged",
            Ending::Panicked => "panic",
        }
    }

    /// What pending calls are told.
    fn last_words(self) -> RpcError {
        match self {
            Ending::Panicked => RpcError::new(
                code::INTERNAL_ERROR,
                "proxy_failure",
                "the proxy failed in this session; the call may have run",
            ),
            Ending::Drained => RpcError::new(
                code::SESSION,
                "proxy_draining",
                "the proxy is shutting down; the call may have run, reconnect and try again",
            ),
            Ending::ClientGone
            | Ending::SlowConsumer
            | Ending::Refused
            | Ending::SwitchedOff
            | Ending::Unused
            | Ending::Merged => {
                RpcError::new(code::SESSION, "session_closed", "the session was closed; the call may have run")
            }
        }
    }
}

impl Task {
    /// What it means that the client's connection ended.
    pub(super) fn client_ending(&self) -> Ending {
        match self.outbox.was_stalled_since() {
            Some(since) if since.elapsed() >= STOPPED_READING => Ending::SlowConsumer,
            _ => Ending::ClientGone,
        }
    }

    /// The one exit: answers what is owed, ends the stream, takes leave of the upstream, closes the account.
    pub(super) async fn finish(mut self: Box<Self>, ending: Ending) {
        if let Some(merging) = self.merging.take() {
            return self.merge(merging).await;
        }
        self.context.registry.remove(&self.id);
        self.context.resumable.remove(&self.key);
        if !self.presence.is_here() {
            self.context.books.metrics.sessions_lingering.dec();
        }
        if ending == Ending::SlowConsumer {
            self.context.books.metrics.slow_consumers.inc();
        }
        self.answer_what_is_owed(ending);
        let gone = ending == Ending::SlowConsumer || timeout(LAST_WORDS, self.outbox.drained()).await.is_err();
        self.evidence.lost(self.outbox.len() as u64 + self.outbox.take_lost());
        if gone && let Some(closer) = self.closer.take() {
            closer.close();
        }
        if timeout(FAREWELL, self.leave_upstream()).await.is_err() {
            tracing::debug!("upstream did not hear of the end of a session in time");
        }
        let bytes_out = self.outbox.bytes_taken();
        self.evidence.close(ending.reason(), bytes_out).await;
    }

    fn answer_what_is_owed(&mut self, ending: Ending) {
        self.inbox.close();
        let mut owed = self.calls.owed_ids();
        owed.extend(std::mem::take(&mut self.waiting).into_iter().filter_map(|outgoing| match outgoing.kind {
            OutgoingKind::Initialize(id) | OutgoingKind::Request(id) => Some(id),
            _ => None,
        }));
        let mut unread = self.vetting.take();
        while let Ok(delivery) = self.inbox.try_recv() {
            unread.push_back(delivery);
        }
        for delivery in unread {
            match &delivery.payload {
                Payload::Message(message) => {
                    if let MessageKind::Request { id, .. } = message.kind() {
                        owed.push(id.clone());
                    }
                }
                Payload::UnreadableRequest(id, _) => owed.push(id.clone()),
                Payload::UnreadableResponse(..) => {}
            }
        }
        owed.extend(self.deferred.ids());
        if let Some(parked) = self.parked.take() {
            self.outbox.push(&parked);
        }
        // Who was refused is told why.
        let refusal = self.refusal.as_ref().filter(|_| ending == Ending::SwitchedOff);
        let error = refusal.map_or_else(|| ending.last_words(), |refusal| refusal.error.clone());
        for id in owed {
            self.evidence.made_error();
            self.outbox.push(&error_response(&id, &error));
        }
        for alias in self.outbox.finish() {
            self.context.registry.remove(&alias);
        }
    }

    /// Cancels what runs and deletes the upstream session. The exchanges are kept until then: Java takes a broken
    /// response stream for the end of the session.
    async fn leave_upstream(&mut self) {
        if self.handshake == Handshake::Asked {
            self.await_session_id().await;
        }
        self.await_revival().await;
        if !self.link.has_session() {
            return;
        }
        let headers = self.credentials.headers();
        let cancels = self.calls.running().map(|id| self.link.post(mcp::cancelled(id, NOBODY_WAITS), &headers));
        let _ = timeout(CANCELS, join_all(cancels)).await;
        if let Some(delete) = self.link.delete(&headers) {
            match delete.await {
                Ok(answer) => tracing::debug!(status = answer.status.as_u16(), "upstream session deleted"),
                Err(fault) => tracing::debug!(%fault, "upstream session not deleted"),
            }
        }
    }

    /// A session that is made upstream while its client leaves must be deleted too, so its id has to be awaited.
    async fn await_session_id(&mut self) {
        while let Some((errand, answer)) = self.heads.next().await {
            if let (Errand::Call { serial }, Ok(_)) = (errand, answer)
                && let Some(call) = self.calls.get_mut(serial).filter(|call| call.is_initialize)
            {
                self.credentials.accept(&call.sent.sender, &call.sent.headers, Taker::Upstream);
                return;
            }
        }
    }

    /// The same for one that the proxy is making: what is left of its making would take longer than there is time.
    async fn await_revival(&mut self) {
        let Standing::Reviving(attempt) = &self.standing else { return };
        let Some(revival) = self.revival.take().filter(|_| attempt.has_begun()) else { return };
        attempt.give_up();
        if let Ok(revived) = revival.await {
            self.link = revived.link;
            if let Some(sender) = self.reviving_as.take() {
                self.credentials.accept(&sender, &self.reviving_with, Taker::Upstream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_the_list() {
        let endings = [
            Ending::ClientGone,
            Ending::Drained,
            Ending::Merged,
            Ending::Unused,
            Ending::Panicked,
            Ending::Refused,
            Ending::SlowConsumer,
            Ending::SwitchedOff,
        ];
        assert_eq!(endings.map(Ending::reason), REASONS);
    }
}
