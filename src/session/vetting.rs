//! Messages that have an effect here before the upstream has seen their credential.
//!
//! An answer to the server, `cancelled` and another `initialize` change the session at once: a question is closed, a call
//! is given up, an upstream session is left. Whoever has the session's id and a forged token of its principal could do
//! that, and the upstream's 401 would come too late. So such a message under a credential that is not known waits until the
//! upstream has answered something harmless under it. Everything else goes up by itself and is judged there.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;

use super::credential::{Standing, Taker};
use super::delivery::{Delivery, Payload, Verdict};
use super::inbound::answer;
use super::outbound::may_be_loss;
use super::task::{Handshake, Task};
use crate::auth::{Credential, Rejection, Sender};
use crate::mcp::MessageKind;
use crate::upstream::Replies;

/// How long the upstream may take. A POST is held for no longer in any case.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the rest of its answer is read.
const TRAILING: Duration = Duration::from_secs(1);

/// Who is being asked about, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Vetting {
    waiting: VecDeque<Delivery>,
    /// Whose message is the first of those.
    asked: Option<Sender>,
    /// The upstream did not say: its messages are let on, and judged as they go up.
    unsaid: Option<Credential>,
}

/// What the upstream said of a credential.
#[derive(Debug)]
pub(super) enum Word {
    Accepted,
    Rejected(Rejection),
    /// Nothing that could be held against anybody.
    None,
}

impl Vetting {
    /// What waits, when the session is over.
    pub(super) fn take(&mut self) -> VecDeque<Delivery> {
        std::mem::take(&mut self.waiting)
    }
}

impl Task {
    /// Gives a message back that need not wait.
    pub(super) fn vet(&mut self, delivery: Delivery) -> Option<Delivery> {
        let credential = delivery.sender.credential;
        let is_unknown = self.credentials.standing(credential) == Standing::Unknown;
        let needs_word = is_unknown
            && self.credentials.has_proved()
            && self.vetting.unsaid != Some(credential)
            && self.acts_at_once(&delivery.payload);
        if !needs_word {
            return Some(delivery);
        }
        if self.vetting.waiting.len() >= self.context.config.max_waiting {
            answer(delivery.verdict, Verdict::Busy);
            return None;
        }
        self.vetting.waiting.push_back(delivery);
        if self.asking.is_none() {
            self.ask_about_next();
        }
        None
    }

    fn acts_at_once(&self, payload: &Payload) -> bool {
        match payload {
            Payload::Message(message) => match message.kind() {
                MessageKind::Response { .. } => true,
                MessageKind::Notification { method } => &**method == "notifications/cancelled",
                MessageKind::Request { method, .. } => &**method == "initialize" && self.handshake != Handshake::None,
            },
            Payload::UnreadableResponse(..) => true,
            Payload::UnreadableRequest(..) => false,
        }
    }

    fn ask_about_next(&mut self) {
        let Some(next) = self.vetting.waiting.front() else { return };
        self.vetting.asked = Some(next.sender);
        let sending = self.link.vet(&next.headers);
        let asking = async move {
            let Ok(Ok(head)) = timeout(PATIENCE, sending).await else { return Word::None };
            if head.rejects_credential() {
                // Without a challenge it may speak of the session.
                return if may_be_loss(&head) { Word::None } else { Word::Rejected(Rejection::of(&head)) };
            }
            let word = if head.status.is_success() { Word::Accepted } else { Word::None };
            // A response stream that is broken off costs the session with some servers (Java).
            let mut replies = Replies::of(head);
            let _ = timeout(TRAILING, async { while replies.next().await.is_some() {} }).await;
            word
        };
        self.asking = Some(asking.boxed());
    }

    /// The upstream has said what it makes of the credential that was asked about.
    pub(super) async fn on_vetted(&mut self, word: Word) {
        let Some(sender) = self.vetting.asked.take() else { return };
        match word {
            Word::Accepted => {
                let headers = self.vetting.waiting.front().map(|first| first.headers.clone()).unwrap_or_default();
                self.accept_credential(&sender, &headers, Taker::Upstream);
            }
            Word::Rejected(rejection) if !rejection.is_of_scope() => self.reject_credential(&sender, &rejection),
            Word::Rejected(_) | Word::None => self.vetting.unsaid = Some(sender.credential),
        }
        let (known, others) =
            self.vetting.take().into_iter().partition(|waiting| waiting.sender.credential == sender.credential);
        self.vetting.waiting = others;
        let known: VecDeque<Delivery> = known;
        for delivery in known {
            self.on_delivery(delivery).await;
        }
        if self.asking.is_none() {
            self.ask_about_next();
        }
    }
}
