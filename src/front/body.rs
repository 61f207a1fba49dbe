//! The body of any answer.
//!
//! Why an enum and no box: every event of every stream goes through here.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;

use super::upgrade::Said;
use crate::passthrough::{Broken, Passed};
use crate::session::EventStream;

/// What follows the head of an answer.
pub enum Body {
    /// A text, or nothing.
    Text(Full<Bytes>),
    /// The stream of a legacy session.
    Events(EventStream),
    /// What the upstream says, as it comes.
    Through(Passed),
    /// What it says to a client that was upgraded, as far as it had to be looked at. Seldom, so it may be apart.
    Said(Box<Said>),
}

impl Body {
    /// A body of these bytes.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Body::Text(Full::new(text.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let never = |never: Infallible| match never {};
        match self.get_mut() {
            Body::Text(text) => Pin::new(text).poll_frame(cx).map_err(never),
            Body::Events(stream) => Pin::new(stream).poll_frame(cx).map_err(never),
            Body::Through(passed) => Pin::new(passed).poll_frame(cx),
            Body::Said(said) => Pin::new(said).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Text(text) => text.is_end_stream(),
            Body::Events(stream) => stream.is_end_stream(),
            Body::Through(passed) => passed.is_end_stream(),
            Body::Said(said) => said.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Text(text) => text.size_hint(),
            Body::Events(stream) => stream.size_hint(),
            Body::Through(passed) => passed.size_hint(),
            Body::Said(said) => said.size_hint(),
        }
    }
}
