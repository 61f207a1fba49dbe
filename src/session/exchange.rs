//! What goes up and what comes down: messages on their way, exchanges under way, answers that are being read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::stream::Abortable;
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use tokio::sync::oneshot;
use tokio::time::Instant;

#[cfg(test)]
use super::budget::Budget;
use super::budget::Hold;
use super::calls::Serial;
use super::delivery::{Delivery, Verdict};
use super::desk::Reading;
use super::keepsake::Effect;
#[cfg(test)]
use crate::auth::CredentialHeaders;
use crate::auth::Sender;
#[cfg(test)]
use crate::auth::Vouched;
use crate::mcp::RequestId;
use crate::upstream::Item;

/// A message on its way up.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) kind: OutgoingKind,
    pub(super) effect: Effect,
    pub(super) sent: Sent,
    /// It was turned away once for want of a session.
    pub(super) was_replayed: bool,
    /// Its POST waits for a moment, though the credential was good so far.
    pub(super) waits: bool,
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
}

/// A message with what goes up beside it.
#[derive(Debug)]
pub(super) struct Sent {
    /// Empty once it need not be kept any more.
    pub(super) body: Bytes,
    pub(super) headers: Arc<HeaderMap>,
    /// Who sent it.
    pub(super) sender: Sender,
    /// When the client sent it.
    pub(super) arrived: Instant,
    /// The memory it takes, of the session's share and of the whole.
    holds: Option<(Hold, Arc<Hold>)>,
}

/// Larger messages are not kept for sending them again once the upstream has begun to answer: they would take the room of
/// those that come.
const KEPT: usize = 64 << 10;

impl Sent {
    /// The message of `delivery`, which goes up as `body` and takes this `share` of the session's memory.
    pub(super) fn of(delivery: Box<Delivery>, body: Bytes, share: Hold) -> (Self, Option<oneshot::Sender<Verdict>>) {
        let Delivery { headers, sender, arrived, hold, verdict, .. } = *delivery;
        (Sent { body, headers, sender, arrived, holds: Some((share, hold)) }, verdict)
    }

    /// One that takes no room.
    #[cfg(test)]
    pub(super) fn new(body: Bytes, headers: Arc<HeaderMap>, budget: &Budget) -> Self {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let sender = Sender::of(&headers, &CredentialHeaders::default(), Vouched::default(), address);
        let arrived = Instant::now();
        Sent { body, headers, sender, arrived, holds: Some((budget.hold(), Arc::new(budget.hold()))) }
    }

    /// Whether it could be sent again.
    pub(super) fn is_whole(&self) -> bool {
        !self.body.is_empty()
    }

    /// The upstream took it.
    pub(super) fn was_taken(&mut self, effect: Effect) {
        if self.body.len() > KEPT && effect == Effect::None {
            self.forget();
        }
    }

    /// It was answered.
    pub(super) fn forget(&mut self) {
        self.body = Bytes::new();
        self.holds = None;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OutgoingKind {
    Initialize(RequestId),
    Request(RequestId),
    Initialized,
    /// A notification: those after it wait for its response head.
    Ordered,
    /// An answer to the server, likewise; it is nothing to any other session.
    Answer(Box<Answered>),
    /// `cancelled` and `progress`: nothing waits for them.
    Loose,
}

/// A request of the server that the client has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// The id that the client knows it by.
    pub(super) ours: RequestId,
    /// The server's.
    pub(super) theirs: RequestId,
    pub(super) method: Box<str>,
}

impl OutgoingKind {
    pub(super) fn is_request(&self) -> bool {
        matches!(self, OutgoingKind::Initialize(_) | OutgoingKind::Request(_))
    }
}

/// See [`Task::barrier`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Barrier {
    pub(super) number: u64,
    pub(super) until: Instant,
}

/// What an exchange is for.
#[derive(Debug)]
pub(super) enum Errand {
    /// A request of the client.
    Call { serial: Serial },
    /// Its notification, or its answer to the server.
    Message { barrier: Option<u64>, generation: u32, outgoing: Box<Outgoing> },
    /// The rest of a call's stream, which broke.
    Resume { serial: Serial },
    /// The GET stream.
    Listen,
    /// Something the proxy says of its own accord.
    Own,
}

/// What an answer that is being read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Call(Serial),
    Listen,
}

/// An answer that is being read.
pub(super) struct Tagged {
    pub(super) source: Source,
    pub(super) replies: Abortable<Reading>,
}

impl Stream for Tagged {
    type Item = (Source, Item);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let source = self.source;
        self.replies.poll_next_unpin(cx).map(|item| item.map(|item| (source, item)))
    }
}
