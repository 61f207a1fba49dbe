//! The client's end of a session: the body of the answer to `GET /sse`.
//!
//! hyper polls it while the client takes bytes, and drops it when the client is gone. It says the endpoint first, then
//! whatever its session owes. A stream can be lent: a client that came back without saying to which session gets the events
//! of the one that is surely its own, until its first POST tells (`reunion`).
//!
//! The trap: hyper does not poll a body while its write buffer is full, so "not polled for long" is how a stalled client
//! shows, and ending the body then closes nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::Closer;
use super::face::{Attachment, Face, Taken};
use super::position::Position;
use crate::metrics::Counter;
use crate::sse;
use crate::traffic::{Client, Connection};

/// The client's end: the body of the answer to `GET /sse`.
#[derive(Debug)]
pub struct EventStream {
    /// The endpoint event, until it was taken.
    endpoint: Option<Bytes>,
    /// It was taken, and has to leave before anything else: go-sdk loses bytes that arrive with it.
    flushes: bool,
    line: Arc<Line>,
    /// Where the events come from.
    source: Source,
    /// The session that was opened for this stream, where that is another one.
    home: Option<Source>,
    /// A part of an event was taken: nothing but its rest may follow.
    amid_event: bool,
    keep_alive: Option<KeepAlive>,
    /// Where its bytes are counted.
    bytes: Counter,
}

/// A place in a session's queue.
#[derive(Debug, Clone)]
pub(super) struct Source {
    face: Face,
    attachment: Attachment,
    /// What was taken before.
    since: Position,
}

/// Where a stream can be told from outside to take its events from another session.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Something stands in `switch`.
    moved: AtomicBool,
    switch: Mutex<Switch>,
}

#[derive(Debug, Default)]
struct Switch {
    /// The session whose events the stream is lent to.
    lent: Option<Source>,
    /// The stream is gone.
    dropped: bool,
}

/// A stream that came to a session which had one before.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) client: Client,
    pub(super) connection: Connection,
    pub(super) closer: Arc<Closer>,
    /// Events that it asked for and that are not kept any more.
    pub(super) lost: u64,
    /// Another stream was still there.
    pub(super) superseded: bool,
    /// It came by its session's own endpoint, and is no loan.
    pub(super) is_resume: bool,
}

#[derive(Debug)]
struct KeepAlive {
    interval: Duration,
    /// Fires at or before the time a comment is due; moving it at every event would cost more than waking up early.
    timer: Pin<Box<Sleep>>,
    last_frame: Instant,
}

impl EventStream {
    /// A stream that says `endpoint` and then takes what `face` owes. A comment goes out after `keep_alive` of silence, if
    /// given.
    pub(super) fn new(endpoint: Bytes, face: Face, attachment: Attachment, keep_alive: Option<Duration>) -> Self {
        let keep_alive = keep_alive.map(|interval| KeepAlive {
            interval,
            timer: Box::pin(tokio::time::sleep(interval)),
            last_frame: Instant::now(),
        });
        EventStream {
            endpoint: Some(endpoint),
            flushes: false,
            line: Arc::default(),
            source: Source { face, attachment, since: 0 },
            home: None,
            amid_event: false,
            keep_alive,
            bytes: Counter::default(),
        }
    }

    /// The same; `bytes` counts what it gives to its connection.
    pub(super) fn counted(mut self, bytes: Counter) -> Self {
        self.bytes = bytes;
        self
    }

    pub(super) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(endpoint) = self.endpoint.take() {
            self.flushes = true;
            return Poll::Ready(Some(endpoint));
        }
        if std::mem::take(&mut self.flushes) {
            // hyper writes out what it has when there is nothing more for now.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if self.line.moved.swap(false, Ordering::Acquire) {
                self.follow();
                if self.amid_event {
                    // The rest of that event is another's now: the client has to come again.
                    return Poll::Ready(None);
                }
            }
            match self.source.face.take(self.source.attachment, cx) {
                Taken::Event(event, ends) => {
                    self.amid_event = !ends;
                    return Poll::Ready(Some(event));
                }
                // Moved between the look and the registration: nobody would wake us for it.
                _ if self.line.moved.load(Ordering::Acquire) => {}
                Taken::Nothing => return Poll::Pending,
                Taken::Over => return Poll::Ready(None),
            }
        }
    }

    /// Takes its events from where the line says.
    fn follow(&mut self) {
        let lent = lock(&self.line.switch).lent.clone();
        match (lent, self.home.take()) {
            (Some(other), home) => {
                let before = std::mem::replace(&mut self.source, other);
                self.home = Some(home.unwrap_or(before));
            }
            (None, Some(home)) => self.source = home,
            (None, None) => {}
        }
    }
}

fn lock(switch: &Mutex<Switch>) -> MutexGuard<'_, Switch> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Lends the stream, which takes from `home` so far, to the session of `source`.
    pub(super) fn lend(&self, home: &Face, face: Face, attachment: Attachment) {
        let mut switch = lock(&self.switch);
        if switch.dropped {
            return face.detach(attachment);
        }
        let since = face.last_taken();
        switch.lent = Some(Source { face, attachment, since });
        drop(switch);
        self.moved.store(true, Ordering::Release);
        home.wake_stream();
    }

    /// Takes the stream back: the session it was lent to has none any more.
    pub(super) fn take_back(&self) {
        let Some(lent) = lock(&self.switch).lent.take() else { return };
        self.moved.store(true, Ordering::Release);
        lent.face.wake_stream();
        lent.face.undo(lent.attachment, lent.since);
    }
}

impl KeepAlive {
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.last_frame + self.interval;
            let now = Instant::now();
            if due <= now {
                self.last_frame = now;
                self.timer.as_mut().reset(now + self.interval);
                // Registers the timer again before the comment goes out.
                let _ = self.timer.as_mut().poll(cx);
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.poll_event(cx) {
            Poll::Ready(Some(event)) => {
                self.bytes.inc_by(event.len() as u64);
                if let Some(keep_alive) = &mut self.keep_alive {
                    keep_alive.last_frame = Instant::now();
                }
                Poll::Ready(Some(Ok(Frame::data(event))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match &mut self.keep_alive {
                Some(keep_alive) => {
                    let due = keep_alive.poll_due(cx);
                    if due.is_ready() {
                        self.source.face.tidy();
                        self.bytes.inc_by(sse::KEEP_ALIVE.len() as u64);
                    }
                    due.map(|()| Some(Ok(Frame::data(sse::KEEP_ALIVE))))
                }
                None => Poll::Pending,
            },
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let lent = {
            let mut switch = lock(&self.line.switch);
            switch.dropped = true;
            switch.lent.take()
        };
        for source in [Some(&self.source), self.home.as_ref(), lent.as_ref()].into_iter().flatten() {
            source.face.detach(source.attachment);
        }
    }
}

#[cfg(test)]
mod tests;
