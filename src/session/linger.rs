//! A session whose client has lost its stream, and the ways in which the client finds it again.
//!
//! The session lingers, keeps what it owes within the bound of its outbox, and goes on reading from the upstream. A client
//! that names its last event gets the session back (`position`), one that does not gets it where no other can be meant
//! (`reunion`); what was opened for it meanwhile then ends as part of it.

use std::time::Duration;

use tokio::time::Instant;

use super::Payload;
use super::delivery::{Delivery, Handle};
use super::ending::Ending;
use super::face::Face;
use super::reunion::Decision;
use super::stream::Arrival;
use super::task::Task;
use crate::drain::Phase;
use crate::mcp::MessageKind;

/// How long a session lingers at most for a stream that might be its own and has not said so.
const LONGEST: Duration = Duration::from_secs(300);
/// How often it looks whether there is one.
const LOOK: Duration = Duration::from_secs(1);

/// Whether the client has its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    Away { since: Instant, until: Instant },
}

impl Presence {
    pub(super) fn is_here(self) -> bool {
        self == Presence::Here
    }
}

/// The session that this one turned out to be, and what was posted first.
pub(super) struct Merging {
    handle: Handle,
    face: Face,
    /// None when the client lost its stream again before it had posted anything.
    first: Option<Box<Delivery>>,
}

impl Task {
    /// Streams came, or the last one went. Returns how the session ends, if it does.
    pub(super) async fn on_coming_or_going(&mut self) -> Option<Ending> {
        let arrivals = self.outbox.take_arrivals();
        if arrivals.is_empty() {
            return self.on_client_gone();
        }
        self.on_arrivals(arrivals).await;
        None
    }

    /// The stream is gone. Returns how the session ends, unless it lingers.
    fn on_client_gone(&mut self) -> Option<Ending> {
        if self.is_lent()
            && let Decision::Merge(handle, face) = self.membership.decide(false)
        {
            // It was cut off again before it said a word. What it posts until it is back is still its session's.
            self.merging = Some(Merging { handle, face, first: None });
            return Some(Ending::Merged);
        }
        let ending = self.client_ending();
        // It waits from when the client was last there: one that vanished without a word is gone for longer.
        let absence = self.closer.take().map_or(Duration::ZERO, |closer| closer.absence());
        let linger = self.context.config.linger.saturating_sub(absence);
        let lingers = ending == Ending::ClientGone
            && self.phase < Phase::Closing
            && self.refusal.is_none()
            // It has gone its way.
            && !self.evidence.is_canary()
            && self.unused_until.is_none()
            && !linger.is_zero()
            && self.place.step_aside(self.context.config.max_sessions);
        if !lingers {
            return Some(ending);
        }
        self.context.books.metrics.sessions_lingering.inc();
        let now = Instant::now();
        self.presence = Presence::Away { since: now, until: now + linger };
        self.evidence.left();
        self.membership.step_out(absence);
        None
    }

    /// A stream takes the events again.
    async fn on_arrivals(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            if arrival.superseded
                && let Some(closer) = self.closer.take()
            {
                // What is left of the connection before: its client has given it up.
                closer.close();
            }
            if !self.presence.is_here() {
                self.context.books.metrics.sessions_lingering.dec();
                self.place.come_back();
                self.presence = Presence::Here;
            }
            self.membership.step_in();
            self.closer = Some(arrival.closer);
            if arrival.is_resume {
                self.context.books.metrics.streams_resumed.inc();
            }
            self.binding.moved(arrival.client.address);
            self.evidence.lost(arrival.lost);
            self.evidence.reconnected(arrival.client, arrival.connection).await;
        }
        if let Some(sender) = self.credentials.accepted() {
            // It may have come from another address.
            self.membership.rename(self.evidence.kin(sender));
        }
    }

    /// Whether the stream that was opened for this session takes the events of another.
    pub(super) fn is_lent(&mut self) -> bool {
        self.undecided && self.membership.is_lent()
    }

    /// Whether the client has been away for too long.
    pub(super) fn absence_over(&mut self, now: Instant) -> Option<Ending> {
        let Presence::Away { since, until } = self.presence else { return None };
        if self.phase >= Phase::Closing {
            // No stream is taken in any more: it has left for good.
            return Some(Ending::ClientGone);
        }
        if until > now || self.outbox.has_stream() {
            return None;
        }
        if since + LONGEST > now && self.membership.is_waited_for() {
            self.presence = Presence::Away { since, until: (now + LOOK).min(since + LONGEST) };
            return None;
        }
        Some(Ending::ClientGone)
    }

    /// The first POST of a client that came back tells whether it goes on with the session that its stream was lent to.
    /// Gives the message back if not.
    pub(super) fn decide(&mut self, delivery: Box<Delivery>) -> Option<Box<Delivery>> {
        if !std::mem::take(&mut self.undecided) {
            return Some(delivery);
        }
        match self.membership.decide(begins_anew(&delivery)) {
            Decision::Alone => Some(delivery),
            Decision::Merge(handle, face) => {
                self.merging = Some(Merging { handle, face, first: Some(delivery) });
                None
            }
        }
    }

    /// The one exit of a session that turned out to be another: that one takes over its name and what was posted.
    pub(super) async fn merge(mut self: Box<Self>, Merging { handle, face, first }: Merging) {
        if let Some(first) = first {
            handle.forward(first).await;
        }
        while let Ok(delivery) = self.inbox.try_recv() {
            handle.forward(delivery).await;
        }
        self.context.registry.insert(self.id.clone(), handle.clone());
        match face.add_alias(self.id.clone()) {
            Ok(Some(oldest)) => drop(self.context.registry.remove(&oldest)),
            Ok(None) => {}
            Err(()) => drop(self.context.registry.remove(&self.id)),
        }
        self.inbox.close();
        while let Ok(delivery) = self.inbox.try_recv() {
            handle.forward(delivery).await;
        }
        self.context.resumable.remove(&self.key);
        self.outbox.finish();
        self.evidence.close(Ending::Merged.reason(), 0).await;
    }
}

fn begins_anew(delivery: &Delivery) -> bool {
    match &delivery.payload {
        Payload::Message(message) => match message.kind() {
            MessageKind::Request { method, .. } => matches!(method.as_ref(), "initialize" | "server/discover"),
            MessageKind::Notification { .. } | MessageKind::Response { .. } => false,
        },
        Payload::UnreadableRequest(..) | Payload::UnreadableResponse(..) => false,
    }
}
