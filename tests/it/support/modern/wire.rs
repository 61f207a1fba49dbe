//! Answers over HTTP, and who hung up.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Ending, Shared};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Notes how an answer ended: dropped before [`Guard::whole`], its client has hung up.
pub(super) struct Guard {
    shared: Arc<Shared>,
    number: usize,
    ending: Ending,
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> Self {
        Guard { shared, number, ending: Ending::Abandoned }
    }

    pub(super) fn whole(mut self) {
        self.ending = Ending::Whole;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A lock that a failed test has poisoned is of no interest to anybody.
        if let Ok(mut state) = self.shared.state.lock() {
            state.endings.push((self.number, self.ending));
        }
        self.shared.changed();
    }
}

pub(super) fn whole(status: u16, media: &str, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).boxed_unsync();
    Response::builder().status(status).header("content-type", media).body(body).expect("an answer")
}

pub(super) fn json(status: u16, message: &Value) -> Response<Body> {
    whole(status, "application/json", message.to_string())
}

/// Messages as they come, until the last sender is gone. One that begins with a line of its own is written as it is.
pub(super) fn stream(events: mpsc::Receiver<Message>, guard: Guard) -> Response<Body> {
    let frames = futures_util::stream::unfold((events, Some(guard)), |(mut events, mut guard)| async {
        let Some(message) = events.recv().await else {
            guard.take().expect("it is asked once only").whole();
            return None;
        };
        Some((Ok::<_, Infallible>(Frame::data(message.event())), (events, guard)))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).expect("an answer")
}

/// Something that is sent.
pub(super) enum Message {
    /// A message.
    Json(String),
    /// A line that is no event: a comment, or what Go writes.
    Line(String),
}

impl Message {
    fn event(self) -> Bytes {
        Bytes::from(match self {
            Message::Json(text) => format!("event: message\ndata: {text}\n\n"),
            Message::Line(text) => format!("{text}\n\n"),
        })
    }
}

/// The last of the messages as one JSON document: servers in JSON mode drop the others. The status is that of its error,
/// as Python, Go and mcp-go have it (UPSTREAMS B.4).
pub(super) async fn document(mut events: mpsc::Receiver<Message>) -> Response<Body> {
    let mut last = None;
    while let Some(message) = events.recv().await {
        if let Message::Json(text) = message {
            last = Some(text);
        }
    }
    let Some(last) = last else { return whole(500, "text/plain", "nothing to say") };
    let message: Value = serde_json::from_str(&last).expect("JSON");
    let status = match message["error"]["code"].as_i64() {
        Some(-32601) => 404,
        Some(-32602 | -32020 | -32021 | -32022) => 400,
        _ => 200,
    };
    whole(status, "application/json", last)
}
