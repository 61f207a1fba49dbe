//! How what was posted gets into a session, and what becomes of the POST.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::binding::Binding;
use super::{Hold, Sessions};
use crate::auth::{Rejection, Sender};
use crate::mcp::{Message, RequestId, RpcError};

/// How long a session may take to make room for what was posted to it under another name.
const FORWARD: Duration = Duration::from_secs(5);

/// The way into a session.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    /// Boxed: the channel makes room for 32 of them at once, in every session.
    pub(super) inbox: mpsc::Sender<Box<Delivery>>,
    /// Whose it is.
    pub(super) binding: Arc<Binding>,
}

/// One message on its way into a session.
#[derive(Debug)]
pub(super) struct Delivery {
    /// What was posted.
    pub payload: Payload,
    /// The headers that go up with it.
    pub headers: Arc<HeaderMap>,
    /// Who posted it.
    pub sender: Sender,
    /// The memory it takes.
    pub hold: Arc<Hold>,
    /// When it came.
    pub arrived: Instant,
    /// Told what becomes of the POST; none for the later messages of a batch.
    pub verdict: Option<oneshot::Sender<Verdict>>,
    /// Set where the credential was good so far: then the POST waits for a moment only.
    pub was_good: Arc<AtomicBool>,
}

/// What was posted.
#[derive(Debug)]
pub enum Payload {
    /// A message.
    Message(Message),
    /// A request that cannot be read, but whose id was found: it is owed an error.
    UnreadableRequest(RequestId, RpcError),
    /// An answer to a server's request that cannot be read: the server is owed an error.
    UnreadableResponse(RequestId, RpcError),
}

/// What a POST is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 202: the message is in hand; whatever becomes of it shows on the stream.
    Accepted,
    /// The upstream turned the credential down.
    Rejected(Rejection),
    /// 503: the session takes no more messages now, and this one has no id to answer under.
    Busy,
    /// 404: there is no such session any more.
    Gone,
}

impl Handle {
    /// Hands on what was posted to another session. If this one is over, so is whatever was posted to it.
    pub(super) async fn forward(&self, delivery: Box<Delivery>) {
        match timeout(FORWARD, self.inbox.reserve()).await {
            Ok(Ok(place)) => place.send(delivery),
            _ => {
                if let Some(verdict) = delivery.verdict {
                    let _ = verdict.send(Verdict::Gone);
                }
            }
        }
    }
}

impl Sessions {
    /// Hands messages of one POST to the session named `id`, in order, and waits for the verdict: at once where there is
    /// nothing to wait for, a moment where the credential was good so far, else until the upstream's response head is in,
    /// 2 s at most (WIRE, POST 2).
    pub async fn deliver(
        &self,
        id: &str,
        payloads: Vec<Payload>,
        headers: HeaderMap,
        sender: Sender,
        hold: Hold,
    ) -> Verdict {
        self.deliver_within(self.patience(), id, payloads, headers, sender, hold).await
    }

    /// How long a POST may wait for the upstream's word on a credential that is not known.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.context.config.verdict
    }

    /// The same with a `patience` of the caller's.
    pub async fn deliver_within(
        &self,
        patience: Duration,
        id: &str,
        payloads: Vec<Payload>,
        headers: HeaderMap,
        sender: Sender,
        hold: Hold,
    ) -> Verdict {
        let Some(mut handle) = self.find(id) else { return Verdict::Gone };
        let arrived = Instant::now();
        let deadline = arrived + patience;
        let (headers, hold, was_good) = (Arc::new(headers), Arc::new(hold), Arc::new(AtomicBool::new(false)));
        let (tell, verdict) = oneshot::channel();
        let mut tell = Some(tell);
        for payload in payloads {
            let delivery = Delivery {
                payload,
                headers: Arc::clone(&headers),
                sender,
                hold: Arc::clone(&hold),
                arrived,
                verdict: tell.take(),
                was_good: Arc::clone(&was_good),
            };
            match timeout_at(deadline, handle.inbox.send(Box::new(delivery))).await {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => {
                    // It may have turned out to be another session since it was looked up.
                    match self.find(id).filter(|other| !other.inbox.same_channel(&handle.inbox)) {
                        Some(other) => handle = other,
                        None => return Verdict::Gone,
                    }
                    if !matches!(timeout_at(deadline, handle.inbox.send(refused.0)).await, Ok(Ok(()))) {
                        return Verdict::Gone;
                    }
                }
                Err(_) => return Verdict::Busy,
            }
        }
        let mut verdict = pin!(verdict);
        let moment = arrived + self.context.config.moment;
        let mut told = timeout_at(moment.min(deadline), &mut verdict).await;
        if told.is_err() && !was_good.load(Ordering::Relaxed) {
            told = timeout_at(deadline, verdict).await;
        }
        match told {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Verdict::Gone,
            Err(_) => Verdict::Accepted,
        }
    }
}
