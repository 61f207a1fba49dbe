//! What the switch-off means for one session: whether its client may have it, when it ends, what its client is told.
//!
//! Who a client is shows at `initialize` and not before; one that comes back without one is judged by its credential or its
//! address. A session that was let in goes on, unless running ones are to end.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Refusal;
use super::ending::Ending;
use super::task::{Handshake, Task};
use crate::mcp;
use crate::sunset::{Phase, Rules, Word};

/// What a session sees of the switch-off.
#[derive(Debug)]
pub(super) struct View {
    rules: watch::Receiver<Arc<Rules>>,
    /// It was said whom a rehearsed phase would have refused.
    is_rehearsed: bool,
    /// The client got its warning.
    is_warned: bool,
    /// The session refuses everything because of a phase.
    refuses: bool,
}

impl View {
    pub(super) fn new(mut rules: watch::Receiver<Arc<Rules>>) -> Self {
        // The rules may have changed since the request was let in.
        rules.mark_changed();
        View { rules, is_rehearsed: false, is_warned: false, refuses: false }
    }

    /// Waits until other rules hold. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.rules.changed().await.is_err() {
            // Nobody decides any more: the process ends.
            std::future::pending::<()>().await;
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }
}

impl Task {
    /// Has the session refuse everything if its client may have none now, which the first message shows that a handshake is due
    /// for.
    pub(super) async fn ask_for_leave(&mut self, method: &str) {
        if self.handshake != Handshake::None || self.refusal.is_some() || self.evidence.is_canary() {
            return;
        }
        // Answered here, or dropped where there is no handshake: they tell nothing of whoever sends them.
        let says_nothing = matches!(
            method,
            "ping"
                | "server/discover"
                | "notifications/initialized"
                | "notifications/cancelled"
                | "notifications/progress"
        );
        if says_nothing {
            return;
        }
        let rules = self.sunset.rules();
        match rules.judge(&self.evidence.account()) {
            Word::Served => {}
            Word::Rehearsed(phase) => self.note_rehearsal(phase).await,
            Word::Refused(phase) => self.refuse_for_good(&rules, phase).await,
        }
    }

    async fn note_rehearsal(&mut self, phase: Phase) {
        if !std::mem::replace(&mut self.sunset.is_rehearsed, true) {
            self.evidence.refused(phase.name(), true).await;
        }
    }

    async fn refuse_for_good(&mut self, rules: &Rules, phase: Phase) {
        self.evidence.refused(phase.name(), false).await;
        self.refusal = Some(Refusal { reason: phase.name(), error: rules.refusal(phase) });
        self.sunset.refuses = true;
        // It has from now on what a refused session has to go its way.
        self.since = Instant::now();
    }

    /// Other rules hold. Returns how the session ends, if it does.
    pub(super) async fn on_sunset(&mut self) -> Option<Ending> {
        let rules = self.sunset.rules();
        if rules.ends_some()
            && self.refusal.is_none()
            && (rules.phase == Phase::Gone || self.handshake != Handshake::None)
        {
            let account = self.evidence.account();
            if let Some(phase) = rules.ends(&account) {
                if !self.presence.is_here() {
                    // Nobody is there to be refused.
                    return Some(Ending::ClientGone);
                }
                self.refuse_for_good(&rules, phase).await;
                return Some(Ending::SwitchedOff);
            }
        }
        if self.sunset.refuses && !matches!(rules.judge(&self.evidence.account()), Word::Refused(_)) {
            // Paused, or over: a client that came back without a word goes on as if nothing had been.
            (self.refusal, self.sunset.refuses) = (None, false);
        }
        self.warn();
        None
    }

    /// Tells a client once that HTTP+SSE ends, by a log message of the server's kind, if that was wished for and its server
    /// has declared logging (MCP 2024-11-05, logging §Capabilities). It has a handshake.
    pub(super) fn warn(&mut self) {
        if self.sunset.is_warned || self.handshake != Handshake::Done || !self.keepsake.bears_warning() {
            return;
        }
        if let Some(text) = self.sunset.rules().warning() {
            self.sunset.is_warned = true;
            self.outbox.push(&mcp::warning(&text));
        }
    }
}
