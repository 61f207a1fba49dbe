//! The two bodies of an exchange: what goes up and what comes down, piece by piece as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::exchange::{Exchange, Ticket};

/// The upstream broke its answer off, and so must the connection to the client: a clean end would say that this was all.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke its answer off: {0}")]
pub struct Broken(Box<dyn std::error::Error + Send + Sync>);

impl Broken {
    /// Broken off for this reason.
    pub fn new(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Broken(reason.into())
    }
}

/// The client broke its request off.
#[derive(Debug, thiserror::Error)]
#[error("the client did not send its whole request: {0}")]
pub(super) struct Unsent(#[from] hyper::Error);

/// What a client sends.
#[derive(Debug)]
pub enum Content {
    /// As it comes.
    Stream(Incoming),
    /// It was read already.
    Whole(Bytes),
}

/// The body that goes up.
pub(super) struct Upload {
    content: Source,
    tap: Option<Tap>,
    exchange: Arc<Exchange>,
}

enum Source {
    Stream(Incoming),
    Whole(Full<Bytes>),
}

/// The body that comes down. Dropping it closes the stream of the upstream.
pub struct Passed {
    /// None where nothing of it may be shown.
    body: Option<Incoming>,
    ticket: Ticket,
    /// What lasts as long as this.
    kept: Option<Box<dyn Send>>,
}

type Tell = Box<dyn FnOnce(&[u8]) + Send>;

/// Hears the start of what goes up, beside the stream: what is passed on neither waits for it nor is held by it.
pub struct Tap {
    heard: BytesMut,
    most: usize,
    tell: Option<Tell>,
}

impl Tap {
    /// Hears `most` bytes, and tells them to `tell` once they are there, or all there is.
    pub fn new(most: usize, tell: impl FnOnce(&[u8]) + Send + 'static) -> Self {
        Tap { heard: BytesMut::new(), most, tell: Some(Box::new(tell)) }
    }

    fn hear(&mut self, data: &[u8]) {
        if self.tell.is_some() {
            let room = self.most - self.heard.len();
            self.heard.extend_from_slice(data.get(..room).unwrap_or(data));
            if self.heard.len() == self.most {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if let Some(tell) = self.tell.take() {
            tell(&std::mem::take(&mut self.heard));
        }
    }
}

impl Content {
    /// The same once more, where it is all there.
    pub(super) fn again(&self) -> Option<Content> {
        match self {
            Content::Whole(bytes) => Some(Content::Whole(bytes.clone())),
            Content::Stream(body) => body.is_end_stream().then(|| Content::Whole(Bytes::new())),
        }
    }

    /// Whether it comes in a way in which hyper's client sends nothing of it: as chunks, with a method that seldom has a body.
    pub(super) fn is_lost_with(&self, method: &Method) -> bool {
        match self {
            Content::Stream(body) if matches!(*method, Method::GET | Method::HEAD) => {
                !body.is_end_stream() && body.size_hint().exact().is_none()
            }
            Content::Stream(_) | Content::Whole(_) => false,
        }
    }
}

impl Upload {
    pub(super) fn new(content: Content, tap: Option<Tap>, exchange: Arc<Exchange>) -> Self {
        let mut tap = tap;
        let content = match content {
            Content::Stream(body) => Source::Stream(body),
            Content::Whole(bytes) => {
                if let Some(tap) = &mut tap {
                    tap.hear(&bytes);
                    tap.end();
                }
                Source::Whole(Full::new(bytes))
            }
        };
        Upload { content, tap, exchange }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Unsent;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unsent>>> {
        let this = self.get_mut();
        let body = match &mut this.content {
            Source::Whole(body) => return Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Source::Stream(body) => body,
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => this.exchange.wanted(),
            Poll::Ready(_) => this.exchange.came(),
        }
        if let (Some(tap), Poll::Ready(read)) = (&mut this.tap, &polled) {
            if let Some(Ok(frame)) = read
                && let Some(data) = frame.data_ref()
            {
                tap.hear(data);
            }
            // Whoever knows the length does not ask for the end.
            if read.is_none() || body_ended(&this.content) {
                tap.end();
            }
        }
        polled.map_err(Unsent)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Source::Stream(body) => body.is_end_stream(),
            Source::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Source::Stream(body) => body.size_hint(),
            Source::Whole(body) => body.size_hint(),
        }
    }
}

fn body_ended(content: &Source) -> bool {
    matches!(content, Source::Stream(body) if body.is_end_stream())
}

impl Drop for Upload {
    fn drop(&mut self) {
        // An upstream that has answered may want no more of it.
        self.exchange.came();
    }
}

impl Passed {
    pub(super) fn new(body: Incoming, ticket: Ticket) -> Self {
        ticket.exchange().answered();
        Passed { body: Some(body), ticket, kept: None }
    }

    /// Leaves the body out.
    pub(super) fn without_body(&mut self) {
        self.body = None;
    }

    /// Keeps `thing` until the end of the body.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + 'static) -> Self {
        self.kept = Some(Box::new(thing));
        self
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => this.ticket.exchange().handed(),
            Poll::Ready(_) | Poll::Pending => this.ticket.exchange().asked(),
        }
        polled.map_err(Broken::new)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
