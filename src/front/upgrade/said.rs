//! An answer that came by the link: bytes of the server as they are, or messages that were translated for the client,
//! written as events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderValue;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::sessions::Usage;
use crate::mcp::{MessageKind, RequestId, error_response};
use crate::passthrough::{Broken, Ticket};
use crate::sse::{KEEP_ALIVE, passing_event};
use crate::upstream::{self, End, Fault, Item, Messages};

pub(super) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const NO_TRANSFORM: HeaderValue = HeaderValue::from_static("no-cache, no-transform");

/// The body of such an answer. Dropping it gives the exchange up.
pub struct Said {
    source: Source,
    ticket: Ticket,
    /// The session that it belongs to.
    _usage: Option<Usage>,
}

enum Source {
    Bytes(upstream::Body),
    Events(Events),
}

struct Events {
    messages: Messages,
    /// The request that is owed an answer.
    owed: Option<RequestId>,
    ready: VecDeque<Bytes>,
    is_over: bool,
    /// A comment goes out after this much silence.
    silence: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Said {
    /// Bytes as they come.
    pub(super) fn bytes(body: upstream::Body, ticket: Ticket) -> Self {
        Said::new(Source::Bytes(body), ticket)
    }

    /// Messages as events, after those that are `ready`; the request `owed` gets an error if they end without an answer to it.
    pub(super) fn events(
        messages: Messages,
        ready: &[Bytes],
        owed: Option<RequestId>,
        ticket: Ticket,
        silence: Duration,
    ) -> Self {
        let timer = Box::pin(tokio::time::sleep(silence));
        let ready = ready.iter().map(|message| passing_event(message)).collect();
        Said::new(Source::Events(Events { messages, owed, ready, is_over: false, silence, timer }), ticket)
    }

    fn new(source: Source, ticket: Ticket) -> Self {
        ticket.answered();
        Said { source, ticket, _usage: None }
    }

    /// The session is in use until the end of this.
    pub(super) fn of(self, usage: Usage) -> Self {
        Said { _usage: Some(usage), ..self }
    }
}

impl Events {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.timer.as_mut().reset(Instant::now() + self.silence);
                return Poll::Ready(Some(event));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match self.messages.items.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => self.take(item),
                Poll::Ready(None) => self.end(None),
                Poll::Pending => {
                    ready!(self.timer.poll_unpin(cx));
                    self.ready.push_back(KEEP_ALIVE);
                }
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Message(message) => {
                if matches!(message.kind(), MessageKind::Response { id, .. } if *id == self.owed) {
                    self.owed = None;
                }
                self.ready.push_back(passing_event(message.bytes()));
            }
            Item::End(End { fault, .. }) => self.end(fault),
            Item::Waiting | Item::Garbage(_) => {}
        }
    }

    fn end(&mut self, fault: Option<Fault>) {
        self.is_over = true;
        if let Some(id) = self.owed.take() {
            let fault = fault.unwrap_or(Fault::Unanswered { status: 200 });
            self.ready.push_back(passing_event(&error_response(&id, &fault.to_rpc())));
        }
    }
}

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Bytes(body) => body.as_mut().poll_next(cx).map_err(Broken::new),
            Source::Events(events) => events.poll(cx).map(|event| event.map(Ok)),
        };
        match &polled {
            Poll::Ready(Some(Ok(_))) => this.ticket.handed(),
            Poll::Ready(_) | Poll::Pending => this.ticket.asked(),
        }
        polled.map(|read| read.map(|data| data.map(Frame::data)))
    }
}
