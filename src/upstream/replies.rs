//! Reads the messages out of whatever a server answers.
//!
//! Status and content type are not to be trusted: servers put JSON-RPC errors into 400s, 404s and `text/plain`, plain text
//! and HTML where an answer should be, and go-sdk a bare JSON line into an event stream. So every body is read, and
//! what is no message becomes a fault that quotes it (WIRE, Toward the upstream 3 and 4).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::transport::{Content, Messages};
use super::{Answer, Body, Fault};
use crate::mcp::{self, Malformed, Message, MessageKind};
use crate::sse::{Decoder, Event};

/// Largest event and largest body that is held, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// What a server's answer yields, in order; [`Item::End`] comes last and always.
#[derive(Debug)]
pub enum Item {
    /// A message.
    Message(Message),
    /// Something that should have been a message; the first of an answer only.
    Garbage(Malformed),
    /// Nothing yet, and that is not the server's fault: the client is being asked.
    Waiting,
    /// The answer is over.
    End(End),
}

/// How an answer ended.
#[derive(Debug)]
pub struct End {
    /// What went wrong, which matters if there was no answer; `None` when the stream simply ended.
    pub fault: Option<Fault>,
    /// The id of the last event, where a stream could be resumed; one that no header can carry is of no use.
    pub last_id: Option<HeaderValue>,
    /// How long the server wants its clients to wait before that.
    pub retry: Option<Duration>,
}

/// The stream of a server's messages.
pub struct Replies {
    form: Form,
    status: StatusCode,
    retry_after: Option<String>,
    /// The start of the first event that is no message: the diagnosis, if no answer comes.
    garbage: Option<String>,
    /// Items read but not yet taken.
    ready: VecDeque<Item>,
    ended: bool,
}

enum Form {
    /// One document, collected.
    Document(Body, BytesMut),
    /// An event stream.
    Events(Body, Decoder),
    /// Messages already.
    Messages(Messages),
    /// All of it is read.
    Over,
}

impl std::fmt::Debug for Replies {
    /// Without what it holds: arguments and results are nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Replies {
    /// Starts to read an answer.
    #[must_use]
    pub fn of(answer: Answer) -> Self {
        let is_event_stream = answer.is_event_stream();
        let text_of = |name| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let retry_after = text_of(header::RETRY_AFTER);
        let encoding = text_of(header::CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        let form = match answer.body {
            Content::Messages(messages) => Form::Messages(messages),
            Content::Bytes(body) if is_event_stream => Form::Events(body, Decoder::new(MAX_MESSAGE)),
            Content::Bytes(body) => Form::Document(body, BytesMut::new()),
        };
        let mut replies =
            Replies { form, status: answer.status, retry_after, garbage: None, ready: VecDeque::new(), ended: false };
        if let Some(encoding) = encoding {
            replies.end(Some(Fault::Encoded(encoding)));
        }
        replies
    }

    /// Bytes that were read and have not become a message.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.form {
            Form::Document(_, held) => held.len(),
            Form::Events(_, decoder) => decoder.held(),
            Form::Messages(messages) => messages.held.load(Ordering::Relaxed),
            Form::Over => 0,
        }
    }

    fn take(&mut self, chunk: &Bytes) {
        match &mut self.form {
            Form::Document(_, held) if held.len() + chunk.len() > MAX_MESSAGE => {
                self.end(Some(Fault::TooLarge { cap: MAX_MESSAGE }));
            }
            Form::Document(_, held) => held.extend_from_slice(chunk),
            Form::Events(_, decoder) => {
                decoder.feed(chunk);
                loop {
                    match decoder.next_event() {
                        Ok(Some(event)) => read_event(&event, &mut self.ready, &mut self.garbage),
                        Ok(None) => break,
                        Err(too_large) => {
                            self.end(Some(Fault::TooLarge { cap: too_large.cap }));
                            break;
                        }
                    }
                }
            }
            Form::Messages(_) | Form::Over => {}
        }
    }

    /// The body is over: what is left of it, then the end.
    fn close(&mut self) {
        match std::mem::replace(&mut self.form, Form::Over) {
            Form::Document(_, text) => {
                let fault = self.read_document(&text.freeze());
                self.end(fault);
            }
            Form::Events(_, decoder) => {
                let (last_id, retry) = (last_id(&decoder), decoder.retry());
                let stray = decoder.into_stray().and_then(|stray| mcp::parse(&stray).ok()).into_iter().flatten();
                self.ready.extend(stray.filter(is_answer).map(Item::Message));
                let fault = self.garbage.take().map(|text| self.not_rpc(text));
                self.ended = true;
                self.ready.push_back(Item::End(End { fault, last_id, retry }));
            }
            Form::Messages(_) | Form::Over => self.end(None),
        }
    }

    fn read_document(&mut self, text: &Bytes) -> Option<Fault> {
        if text.iter().all(u8::is_ascii_whitespace) && self.status.is_success() {
            return None;
        }
        if let Ok(messages) = mcp::parse(text) {
            self.ready.extend(messages.into_iter().map(Item::Message));
            return None;
        }
        Some(self.not_rpc(Fault::quote(text)))
    }

    fn not_rpc(&mut self, text: String) -> Fault {
        Fault::NotRpc { status: self.status.as_u16(), text, retry_after: self.retry_after.take() }
    }

    fn end(&mut self, fault: Option<Fault>) {
        let (last_id, retry) = match &self.form {
            Form::Events(_, decoder) => (last_id(decoder), decoder.retry()),
            Form::Document(..) | Form::Messages(_) | Form::Over => (None, None),
        };
        self.ended = true;
        self.ready.push_back(Item::End(End { fault, last_id, retry }));
    }
}

fn last_id(decoder: &Decoder) -> Option<HeaderValue> {
    HeaderValue::from_bytes(decoder.last_id()?).ok()
}

fn is_answer(message: &Message) -> bool {
    matches!(message.kind(), MessageKind::Response { .. })
}

fn read_event(event: &Event, ready: &mut VecDeque<Item>, garbage: &mut Option<String>) {
    if !event.is_message() {
        return;
    }
    match mcp::parse(&event.data) {
        Ok(messages) => ready.extend(messages.into_iter().map(Item::Message)),
        // The first is enough to know: a server that sends nothing else must not fill the log, nor keep its call alive.
        Err(malformed) if garbage.is_none() => {
            *garbage = Some(Fault::quote(&event.data));
            ready.push_back(Item::Garbage(malformed));
        }
        Err(_) => {}
    }
}

impl Stream for Replies {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Some(item));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let body = match &mut self.form {
                Form::Document(body, _) | Form::Events(body, _) => body,
                Form::Messages(messages) => return messages.items.as_mut().poll_next(cx),
                Form::Over => return Poll::Ready(None),
            };
            match ready!(body.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => self.take(&chunk),
                Some(Err(fault)) => self.end(Some(fault)),
                None => self.close(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderMap;
    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    fn read(status: u16, content_type: &'static str, chunks: &[&'static str]) -> Vec<Item> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        let body: Body = Box::pin(stream::iter(chunks));
        let answer = Answer { status: StatusCode::from_u16(status).expect("a status"), headers, body: body.into() };
        Replies::of(answer).collect::<Vec<_>>().now_or_never().expect("all bytes are there")
    }

    fn fault(items: &[Item]) -> Option<&Fault> {
        match items.last() {
            Some(Item::End(end)) => end.fault.as_ref(),
            _ => panic!("the end comes last: {items:?}"),
        }
    }

    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#;

    #[test]
    fn json_is_read_whatever_the_status_and_type() {
        for (status, media) in [(200, "application/json"), (400, "text/plain"), (404, "application/json"), (500, "")] {
            let items = read(status, media, &[ANSWER]);
            assert!(matches!(&items[..], [Item::Message(_), Item::End(End { fault: None, .. })]), "{status} {items:?}");
        }
    }

    #[test]
    fn text_that_is_no_message_is_quoted_with_its_status() {
        let items = read(413, "text/html", &["<h1>Payload", " Too Large</h1>"]);
        let text = "<h1>Payload Too Large</h1>".to_owned();
        assert_eq!(fault(&items), Some(&Fault::NotRpc { status: 413, text, retry_after: None }));
    }

    #[test]
    fn empty_success_is_no_fault_and_empty_error_is() {
        assert_eq!(fault(&read(202, "text/plain", &[])), None);
        assert!(matches!(fault(&read(503, "text/plain", &[])), Some(Fault::NotRpc { status: 503, .. })));
    }

    #[test]
    fn events_of_other_kinds_are_skipped_and_garbage_is_named() {
        let items = read(
            200,
            "text/event-stream; charset=utf-8",
            &["event: prime\ndata: x\n\ndata: {nonsense\n\ndata: ", ANSWER, "\n\n"],
        );
        assert!(matches!(&items[..], [Item::Garbage(_), Item::Message(_), Item::End(_)]), "{items:?}");
    }

    #[test]
    fn bare_json_answer_at_the_end_of_a_stream_is_salvaged() {
        let items = read(200, "text/event-stream", &["data: {}\n\n", ANSWER, "\n"]);
        assert!(matches!(&items[..], [Item::Garbage(_), Item::Message(_), Item::End(_)]), "{items:?}");
    }

    #[test]
    fn batch_is_split() {
        let items = read(
            200,
            "application/json",
            &[r#"[{"jsonrpc":"2.0","method":"a"},"#, r#"{"jsonrpc":"2.0","id":1,"result":1}]"#],
        );
        assert!(matches!(&items[..], [Item::Message(_), Item::Message(_), Item::End(_)]), "{items:?}");
    }
}
