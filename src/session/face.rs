//! The outside of a session: what streams take from, and where clients arrive that come back.
//!
//! One stream at a time takes the events; a later one supersedes it. All of it is done under the one lock of the session's
//! queue, so that a client comes back or does not, and the session hears of it afterwards.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::SessionId;
use super::outbox::{Shared, lock};
use super::position::Position;
use super::stream::Arrival;
use crate::auth::Credential;

/// Names under which a session can be posted to besides its own: those of the streams it adopted.
const MAX_ALIASES: usize = 16;

/// The outside of a session: what streams take from, and where clients arrive that come back. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Face {
    shared: Arc<Mutex<Shared>>,
}

/// Which stream it is that takes from a session; a later one supersedes it.
pub(super) type Attachment = u64;

/// What a stream finds.
pub(super) enum Taken {
    /// Bytes, and whether an event ends with them.
    Event(Bytes, bool),
    /// Nothing yet; the stream will be woken.
    Nothing,
    /// No more: the session is over, or another stream has taken this one's place.
    Over,
}

impl Face {
    pub(super) fn of(shared: Arc<Mutex<Shared>>) -> Self {
        Face { shared }
    }

    /// Lets a new stream take the events: those after `position`, or those that no stream took. The stream before it, if
    /// there is one, is over.
    ///
    /// # Errors
    /// Gives the arrival back when the session is over, or never was at that position.
    pub(super) fn attach(&self, position: Option<Position>, arrival: Arrival) -> Result<Attachment, Box<Arrival>> {
        let mut shared = lock(&self.shared);
        // One that names no event takes nobody's place.
        let is_taken = position.is_none() && shared.stream.is_some();
        if shared.finished || is_taken || position.is_some_and(|position| position > shared.queue.last()) {
            return Err(Box::new(arrival));
        }
        shared.queue.rewind();
        let lost = position.map_or(0, |position| shared.queue.go_back_to(position));
        shared.attachments += 1;
        let attachment = shared.attachments;
        let superseded = shared.stream.replace(attachment).is_some();
        shared.last_poll = Instant::now();
        shared.arrivals.push(Arrival { lost, superseded, ..arrival });
        let wakers = [shared.reader.take(), shared.writer.take()];
        drop(shared);
        wakers.into_iter().flatten().for_each(Waker::wake);
        Ok(attachment)
    }

    /// The first stream of a session takes its events: nobody has to be told.
    pub(super) fn attach_first(&self) -> Attachment {
        let mut shared = lock(&self.shared);
        shared.attachments += 1;
        shared.stream = Some(shared.attachments);
        shared.attachments
    }

    /// The stream takes no more.
    pub(super) fn detach(&self, attachment: Attachment) {
        self.let_go(attachment, None);
    }

    /// Where the stream that comes next will begin.
    pub(super) fn last_taken(&self) -> Position {
        lock(&self.shared).queue.last_taken()
    }

    /// The stream was not this session's client: what it took since `position` is owed still.
    pub(super) fn undo(&self, attachment: Attachment, position: Position) {
        self.let_go(attachment, Some(position));
    }

    fn let_go(&self, attachment: Attachment, back_to: Option<Position>) {
        let mut shared = lock(&self.shared);
        if shared.stream != Some(attachment) {
            return;
        }
        shared.stream = None;
        shared.queue.rewind();
        if let Some(position) = back_to {
            shared.lost += shared.queue.go_back_to(position);
        }
        if let Some(session) = shared.writer.take() {
            drop(shared);
            session.wake();
        }
    }

    /// The next bytes for the stream.
    pub(super) fn take(&self, attachment: Attachment, cx: &mut Context<'_>) -> Taken {
        let mut shared = lock(&self.shared);
        if shared.stream != Some(attachment) {
            return Taken::Over;
        }
        shared.last_poll = Instant::now();
        let piece = shared.queue.next_piece();
        let ends = !shared.queue.is_amid_event();
        let Some(piece) = piece else {
            if shared.finished {
                return Taken::Over;
            }
            if !shared.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                shared.reader = Some(cx.waker().clone());
            }
            return Taken::Nothing;
        };
        if let Some(session) = shared.writer.take() {
            drop(shared);
            session.wake();
        }
        Taken::Event(piece, ends)
    }

    /// Lets the stream that waits look again where its events come from.
    pub(super) fn wake_stream(&self) {
        if let Some(reader) = lock(&self.shared).reader.take() {
            reader.wake();
        }
    }

    /// Forgets what the client has by now; called when there is nothing else to do.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        lock(&self.shared).queue.forget_until(now);
    }

    /// Whether a client that comes back with `credential` may have the session. One that works under a credential is nobody's
    /// who has none.
    pub(super) fn belongs_to(&self, credential: Credential) -> bool {
        let shared = lock(&self.shared);
        let has_any = shared.credentials.iter().flatten().any(Credential::is_some);
        let is_one = shared.credentials.iter().flatten().any(|bound| *bound == credential);
        is_one && (credential.is_some() || !has_any)
    }

    /// Another name under which the session can be posted to. Gives back the oldest if there are too many.
    ///
    /// # Errors
    /// When the session is over.
    pub(super) fn add_alias(&self, id: SessionId) -> Result<Option<SessionId>, ()> {
        let mut shared = lock(&self.shared);
        if shared.finished {
            return Err(());
        }
        shared.aliases.push(id);
        Ok((shared.aliases.len() > MAX_ALIASES).then(|| shared.aliases.remove(0)))
    }
}
