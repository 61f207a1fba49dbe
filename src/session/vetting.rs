//! Messages that have an effect here before the upstream has seen their credential.
//!
//! An answer to the server, `cancelled` and another `initialize` change the session at once: a question is closed, a call
//! is given up, an upstream session is left. Whoever has the session's id and a forged token of its principal could do
//! that, and the upstream's 401 would come too late. So such a message under a credential that is not known waits until the
//! upstream has answered something harmless under it. Everything else goes up by itself and is judged there.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::credential::{Standing, Taker};
use super::delivery::{Delivery, Payload, Verdict};
use super::inbound::{accept, answer};
use super::outbound::may_be_loss;
use super::task::{Handshake, Task};
use crate::auth::{Credential, Rejection, Sender};
use crate::mcp::{MessageKind, RpcError, code};
use crate::upstream::{Replies, is_of_session};

/// How long the upstream may take. A POST is held for no longer in any case.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the rest of its answer is read.
const TRAILING: Duration = Duration::from_secs(1);

/// Who is being asked about, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Vetting {
    waiting: VecDeque<Box<Delivery>>,
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
    pub(super) fn take(&mut self) -> VecDeque<Box<Delivery>> {
        std::mem::take(&mut self.waiting)
    }
}

impl Task {
    /// Gives a message back that need not wait.
    pub(super) fn vet(&mut self, delivery: Box<Delivery>) -> Option<Box<Delivery>> {
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
            self.turn_away_unvetted(delivery);
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

    /// Too many wait already. What has an id is told on the stream: a 503 ends the Python client's writer (WIRE, POST 1).
    fn turn_away_unvetted(&mut self, delivery: Box<Delivery>) {
        let Payload::Message(message) = &delivery.payload else { return answer(delivery.verdict, Verdict::Busy) };
        let MessageKind::Request { id, .. } = message.kind() else { return answer(delivery.verdict, Verdict::Busy) };
        let text = "too many messages of this session wait for the upstream's word on their credential; try again";
        accept(delivery.verdict);
        self.answer_error(id, &RpcError::new(code::SESSION, "too_many_in_flight", text));
    }

    fn ask_about_next(&mut self) {
        let Some(next) = self.vetting.waiting.front() else { return };
        self.vetting.asked = Some(next.sender);
        let sending = self.link.vet(&next.headers);
        let asking = async move {
            let until = Instant::now() + PATIENCE;
            let Ok(Ok(head)) = timeout_at(until, sending).await else { return Word::None };
            if head.rejects_credential() {
                let rejection = Rejection::of(&head);
                // Without a challenge it may speak of the session; then it says so.
                let is_of_session = may_be_loss(&head) && timeout_at(until, is_of_session(head)).await.unwrap_or(true);
                return if is_of_session { Word::None } else { Word::Rejected(rejection) };
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
        let known: VecDeque<Box<Delivery>> = known;
        for delivery in known {
            self.on_delivery(delivery).await;
        }
        if self.asking.is_none() {
            self.ask_about_next();
        }
    }
}
