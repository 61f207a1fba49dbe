//! A new upstream session in place of one that was lost, or that there never was.
//!
//! One future makes it: `initialize`, `initialized`, log level, subscriptions, in the order in which a client would. It
//! owns the new link until it is done, so that a session half made is deleted again. Many sessions that lose theirs at once
//! (a server restarted) must not trample it: `Gate` lets in 64, those first whose clients wait (WIRE, Upstream 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::keepsake::Keepsake;
use crate::auth::Rejection;
use crate::mcp::{Message, MessageKind, RequestId};
use crate::upstream::{Answer, Fault, Item, Link, Replies};

/// Handshakes of this kind that may be under way at once, over all sessions.
const AT_ONCE: usize = 64;
/// Idle sessions wait up to this long before they ask for a place.
const JITTER: Duration = Duration::from_secs(2);
/// And then ask again and again, while those are served whose clients wait.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long one step may take; `initialize` may take as long as a call of the client.
const STEP: Duration = Duration::from_secs(10);
/// How long the end of the answer to `initialize` is awaited: a broken response stream may cost the session.
const TRAILING: Duration = Duration::from_secs(1);
/// Messages beside the answers that are passed on to the client.
const MAX_ASIDE: usize = 64;

/// Lets so many in at once, and nobody who can wait before somebody who cannot.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
}

/// One attempt, as the session sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt {
    shared: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Something went upstream: a session may be there.
    begun: AtomicBool,
    /// A client waits.
    hurry: Notify,
    is_urgent: AtomicBool,
    /// Nobody needs the session any more.
    given_up: Notify,
}

/// How to make the session.
pub(super) struct Plan {
    pub(super) link: Link,
    pub(super) keepsake: Keepsake,
    pub(super) headers: Arc<HeaderMap>,
    /// Bound for the answer to `initialize`.
    pub(super) silence: Duration,
    /// Spreads idle sessions: from 0 to 1, different for each.
    pub(super) spread: f64,
}

/// A session that stands.
pub(super) struct Revived {
    pub(super) link: Link,
    /// The answer to `initialize`.
    pub(super) answer: Message,
    /// The version it settled.
    pub(super) version: String,
    /// What the server said besides.
    pub(super) aside: Vec<Message>,
    /// The server itself took the handshake, and with it the credential. One of 2026-07-28 that is known has none.
    pub(super) is_servers: bool,
}

/// A handshake that was made.
struct Made {
    answer: Message,
    version: String,
    aside: Vec<Message>,
    is_servers: bool,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Failure {
    /// The upstream does not accept the credential.
    Rejected(Rejection),
    /// It answered the handshake with an error.
    Refused(String),
    Fault(Fault),
}

impl Gate {
    pub(super) fn new() -> Self {
        Gate { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A place. Those who are not urgent take one only if nobody waits for it; those who are wait for `silence` at most.
    async fn enter(&self, attempt: &Attempt, spread: f64, silence: Duration) -> Option<OwnedSemaphorePermit> {
        let progress = &attempt.shared;
        let mut wait = JITTER.mul_f64(spread);
        while !progress.is_urgent.load(Ordering::Relaxed) {
            tokio::select! {
                () = progress.hurry.notified() => {}
                () = tokio::time::sleep(wait) => {
                    if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                        return Some(place);
                    }
                    wait = ASK_AGAIN;
                }
            }
        }
        timeout(silence, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()
    }
}

impl Attempt {
    /// A client waits now.
    pub(super) fn hurry(&self) {
        self.shared.is_urgent.store(true, Ordering::Relaxed);
        self.shared.hurry.notify_one();
    }

    /// Whether a session may have been made upstream.
    pub(super) fn has_begun(&self) -> bool {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// Nobody needs the session any more: once the upstream has named it, it is deleted.
    pub(super) fn give_up(&self) {
        self.shared.given_up.notify_one();
    }

    /// Makes the session, when it is its turn.
    pub(super) async fn make(self, gate: Gate, mut plan: Plan) -> Result<Box<Revived>, Failure> {
        // A server that hangs keeps the places: those who wait for one are not to wait for ever.
        let silence = plan.silence;
        let place = gate.enter(&self, plan.spread, silence).await;
        let Some(_place) = place else { return Err(Failure::Fault(Fault::Silent(silence))) };
        self.shared.begun.store(true, Ordering::Relaxed);
        match plan.carry_out(&self.shared.given_up).await {
            Ok(made) => {
                let Made { answer, version, aside, is_servers } = made;
                Ok(Box::new(Revived { link: plan.link, answer, version, aside, is_servers }))
            }
            Err(failure) => {
                // Half a session is no use to anybody, and counts against the server's limit.
                if let Some(delete) = plan.link.delete(&plan.headers) {
                    let _ = timeout(STEP, delete).await;
                }
                Err(failure)
            }
        }
    }
}

impl Plan {
    async fn carry_out(&mut self, given_up: &Notify) -> Result<Made, Failure> {
        let mut aside = Vec::new();
        let initialize = self.keepsake.initialize().cloned().unwrap_or_default();
        let (answer, is_servers) = self.initialize(&initialize, &mut aside).await?;
        if let Some((_, text)) = answer.error() {
            return Err(Failure::Refused(text));
        }
        let version = settled_version(&answer).unwrap_or_default();
        self.link.negotiated(&version);
        tokio::select! {
            restored = self.restore(&mut aside) => restored?,
            () = given_up.notified() => return Err(Failure::Fault(Fault::GivenUp)),
        }
        Ok(Made { answer, version, aside, is_servers })
    }

    /// What a client does after `initialize`.
    async fn restore(&self, aside: &mut Vec<Message>) -> Result<(), Failure> {
        let head = timeout(STEP, self.link.post(self.keepsake.initialized(), &self.headers)).await;
        let head = head.unwrap_or(Err(Fault::Silent(STEP))).map_err(Failure::Fault)?;
        if !head.status.is_success() {
            return Err(failure(head, aside).await);
        }
        let until = Instant::now() + STEP;
        for request in self.keepsake.requests() {
            // A server that lost what was subscribed to says so; the session stands all the same, and somebody may wait for
            // it.
            let left = until.saturating_duration_since(Instant::now());
            let asked = ask(self.link.post(request.clone(), &self.headers), request, left, aside).await;
            if let Err(fault) = asked {
                tracing::debug!(%fault, "a log level or subscription could not be restored");
                if matches!(fault, Fault::Silent(_) | Fault::Broken(_) | Fault::Unreachable(_)) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The answer, and whether it is the server's.
    async fn initialize(&mut self, request: &Bytes, aside: &mut Vec<Message>) -> Result<(Message, bool), Failure> {
        let until = Instant::now() + self.silence;
        let sending = timeout_at(until, self.link.post(request.clone(), &self.headers)).await;
        let head = sending.unwrap_or(Err(Fault::Silent(self.silence))).map_err(Failure::Fault)?;
        if head.rejects_credential() {
            return Err(Failure::Rejected(Rejection::of(&head)));
        }
        let (status, is_servers) = (head.status.as_u16(), head.is_servers());
        let mut replies = Replies::of(head);
        let read = timeout_at(until, answer_in(&mut replies, id_of(request).as_ref(), status, aside)).await;
        let answer = read.unwrap_or(Err(Fault::Silent(self.silence))).map_err(Failure::Fault)?;
        let _ = timeout(TRAILING, async {
            while let Some(item) = replies.next().await {
                set_aside(item, aside);
            }
        })
        .await;
        Ok((answer, is_servers))
    }
}

/// The version that an answer to `initialize` settles.
pub(super) fn settled_version(answer: &Message) -> Option<String> {
    #[derive(Deserialize)]
    struct InitializeResult {
        #[serde(rename = "protocolVersion")]
        protocol_version: String,
    }
    answer.result::<InitializeResult>().map(|result| result.protocol_version)
}

/// Asks something of our own accord, within `time`. What is said besides the answer is set aside.
///
/// # Errors
/// When there is no answer: then the fault says why.
pub(super) async fn ask(
    sending: crate::upstream::Sending,
    request: &Bytes,
    time: Duration,
    aside: &mut Vec<Message>,
) -> Result<(u16, Message), Fault> {
    let asking = async {
        let head = sending.await?;
        let status = head.status.as_u16();
        if head.challenges().next().is_some() {
            // It speaks of the credential, whatever else its text says.
            return Err(Fault::Unanswered { status });
        }
        let mut replies = Replies::of(head);
        let answer = answer_in(&mut replies, id_of(request).as_ref(), status, aside).await?;
        // A response stream that is broken off costs the session with some servers (Java).
        let _ = timeout(TRAILING, async { while replies.next().await.is_some() {} }).await;
        Ok((status, answer))
    };
    timeout(time, asking).await.unwrap_or(Err(Fault::Silent(time)))
}

async fn answer_in(
    replies: &mut Replies,
    id: Option<&RequestId>,
    status: u16,
    aside: &mut Vec<Message>,
) -> Result<Message, Fault> {
    while let Some(item) = replies.next().await {
        match item {
            Item::Message(message) => match message.kind() {
                // Errors of the transport come without an id, with null, or with "server-error" (Python).
                MessageKind::Response { id: theirs, is_error } if theirs.as_ref() == id || *is_error => {
                    return Ok(message);
                }
                _ => set_aside(Item::Message(message), aside),
            },
            Item::Garbage(_) | Item::Waiting => {}
            Item::End(end) => return Err(end.fault.unwrap_or(Fault::Unanswered { status })),
        }
    }
    Err(Fault::Unanswered { status })
}

fn set_aside(item: Item, aside: &mut Vec<Message>) {
    if let Item::Message(message) = item
        && aside.len() < MAX_ASIDE
        && !matches!(message.kind(), MessageKind::Response { .. })
    {
        aside.push(message);
    }
}

/// What an answer means that is none.
async fn failure(head: Answer, aside: &mut Vec<Message>) -> Failure {
    if head.rejects_credential() {
        return Failure::Rejected(Rejection::of(&head));
    }
    let status = head.status.as_u16();
    let mut replies = Replies::of(head);
    match timeout(TRAILING, answer_in(&mut replies, None, status, aside)).await {
        Ok(Ok(answer)) => Failure::Refused(answer.error().map(|(_, text)| text).unwrap_or_default()),
        Ok(Err(fault)) => Failure::Fault(fault),
        Err(_) => Failure::Fault(Fault::Unanswered { status }),
    }
}

fn id_of(request: &Bytes) -> Option<RequestId> {
    let message = crate::mcp::parse(request).ok()?.pop()?;
    match message.kind() {
        MessageKind::Request { id, .. } => Some(id.clone()),
        _ => None,
    }
}
