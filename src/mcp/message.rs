//! Reads the envelope of a message and leaves the rest as it came.
//!
//! Promise: [`parse`] never changes a byte, splits batches (JSON-RPC 2.0 §6; no legacy client parses an array, most
//! servers refuse one), and refuses what two parsers could read differently: doubled envelope keys and keys that differ
//! from an envelope key in case only (CVE-2026-27896).

use bytes::{Bytes, BytesMut};
use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::RequestId;
use super::envelope::{Envelope, Subjects};

/// A byte range within a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// Where `part` stands in `whole`; both must come from one parse.
    fn of(part: &str, whole: &str) -> Span {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Span { start, end: start + part.len() }
    }
}

/// One JSON-RPC message: its bytes and what its envelope says.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    kind: MessageKind,
    id: Option<Span>,
    params: Option<Span>,
    result: Option<Span>,
    error: Option<Span>,
    close: usize,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// Wants exactly one answer.
    Request {
        /// The sender's id for it.
        id: RequestId,
        /// The method.
        method: Box<str>,
    },
    /// Wants none.
    Notification {
        /// The method.
        method: Box<str>,
    },
    /// Answers a request of the receiver. Broken servers leave the id out or send `null`.
    Response {
        /// The receiver's id, if the answer names one.
        id: Option<RequestId>,
        /// Whether it carries `error` instead of `result`.
        is_error: bool,
    },
}

/// Why a text is no JSON-RPC message, worded for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not UTF-8.
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// Not JSON, or an envelope two parsers could read differently.
    #[error("the message is not a valid JSON-RPC object: {0}")]
    NotJson(String),
    /// JSON, but neither request, notification nor response.
    #[error("the message is neither a request, a notification nor a response: {0}")]
    NotRpc(&'static str),
    /// `[]`.
    #[error("the batch is empty")]
    EmptyBatch,
}

impl Malformed {
    /// The same without a word of the message itself, for the log.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Malformed::NotUtf8 => "not UTF-8",
            Malformed::NotJson(_) => "not a JSON object, or an ambiguous one",
            Malformed::NotRpc(what) => what,
            Malformed::EmptyBatch => "an empty batch",
        }
    }
}

/// Reads one message or a batch, in order.
///
/// # Errors
/// When any part of it is malformed; nothing of it is usable then.
pub fn parse(bytes: &Bytes) -> Result<Vec<Message>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(vec![Message::read(text, bytes)?]);
    }
    let parts: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    if parts.is_empty() {
        return Err(Malformed::EmptyBatch);
    }
    parts
        .into_iter()
        .map(|part| {
            let span = Span::of(part.get(), text);
            Message::read(part.get(), &bytes.slice(span.start..span.end))
        })
        .collect()
}

fn not_json(error: &serde_json::Error) -> Malformed {
    Malformed::NotJson(error.to_string())
}

impl Message {
    fn read(text: &str, bytes: &Bytes) -> Result<Message, Malformed> {
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        if envelope.jsonrpc.as_deref() != Some("2.0") {
            return Err(Malformed::NotRpc("\"jsonrpc\" must be \"2.0\""));
        }
        let id = match envelope.id {
            None => None,
            Some(raw) if raw.get() == "null" && envelope.method.is_none() => None,
            Some(raw) => Some(
                RequestId::from_raw(raw)
                    .ok_or(Malformed::NotRpc("\"id\" must be a string or a number, of 256 bytes at most"))?,
            ),
        };
        let answers = envelope.result.is_some() || envelope.error.is_some();
        let kind = match (envelope.method, id) {
            (Some(_), _) if answers => return Err(Malformed::NotRpc("\"method\" beside \"result\" or \"error\"")),
            (Some(method), Some(id)) => MessageKind::Request { id, method: method.into() },
            (Some(method), None) => MessageKind::Notification { method: method.into() },
            (None, id) if envelope.result.is_some() != envelope.error.is_some() => {
                MessageKind::Response { id, is_error: envelope.error.is_some() }
            }
            (None, _) => return Err(Malformed::NotRpc("one of \"method\", \"result\", \"error\" is needed")),
        };
        Ok(Message {
            bytes: bytes.clone(),
            kind,
            id: envelope.id.map(|raw| Span::of(raw.get(), text)),
            params: envelope.params.map(|raw| Span::of(raw.get(), text)),
            result: envelope.result.map(|raw| Span::of(raw.get(), text)),
            error: envelope.error.map(|raw| Span::of(raw.get(), text)),
            close: text.rfind('}').unwrap_or(text.len()),
        })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> &MessageKind {
        &self.kind
    }

    /// The bytes, as they came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The method of a request or notification.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            MessageKind::Request { method, .. } | MessageKind::Notification { method } => Some(method),
            MessageKind::Response { .. } => None,
        }
    }

    /// Its `params`, as they came.
    #[must_use]
    pub fn params_text(&self) -> Option<&str> {
        self.text(self.params?)
    }

    /// Its `result`, as it came.
    #[must_use]
    pub fn result_text(&self) -> Option<&str> {
        self.text(self.result?)
    }

    /// Its `error`, as it came.
    #[must_use]
    pub fn error_text(&self) -> Option<&str> {
        self.text(self.error?)
    }

    /// Its `params`, read as `T`; `None` when there are none or they do not fit.
    #[must_use]
    pub fn params<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        self.part(self.params?)
    }

    /// Its `result`, read as `T`; `None` when there is none or it does not fit.
    #[must_use]
    pub fn result<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        self.part(self.result?)
    }

    /// Code and text of its `error`; `None` when there is none. One that is no error object gives an empty text.
    #[must_use]
    pub fn error(&self) -> Option<(i64, String)> {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Failure {
            code: i64,
            message: String,
        }
        let Failure { code, message } = self.part(self.error?).unwrap_or_default();
        Some((code, message))
    }

    fn text(&self, span: Span) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(span.start..span.end)?).ok()
    }

    fn part<'a, T: Deserialize<'a>>(&'a self, span: Span) -> Option<T> {
        serde_json::from_slice(self.bytes.get(span.start..span.end)?).ok()
    }

    /// The key that `params` names its subject by (`name`, `uri`), if it stands there twice: who checks the one and
    /// who obeys the other could differ.
    #[must_use]
    pub fn doubled_subject(&self) -> Option<&'static str> {
        self.params::<Subjects>().and_then(|subjects| subjects.doubled)
    }

    /// The same message under another id; one is put in where none stands.
    #[must_use]
    pub fn with_id(&self, id: &RequestId) -> Bytes {
        match self.id {
            Some(span) => self.spliced(span, id.as_json()),
            None => self.spliced(Span { start: self.close, end: self.close }, &format!(",\"id\":{}", id.as_json())),
        }
    }

    /// The same answer under another id, with `value` for its result or error.
    #[must_use]
    pub fn with_answer(&self, id: &RequestId, value: &str) -> Bytes {
        let Some(span) = self.result.or(self.error).filter(|span| self.text(*span) != Some(value)) else {
            return self.with_id(id);
        };
        let changed = Message { bytes: self.spliced(span, value), ..self.clone() };
        // What stands behind the value has moved.
        let moved = |at: usize| if at < span.end { at } else { at - span.end + span.start + value.len() };
        let id_span = self.id.map(|id| Span { start: moved(id.start), end: moved(id.end) });
        Message { id: id_span, close: moved(self.close), ..changed }.with_id(id)
    }

    /// The same message with `params.requestId` naming another request; `None` when it names none.
    #[must_use]
    pub fn with_request_id_param(&self, id: &RequestId) -> Option<Bytes> {
        let named = self.params::<NamesRequest<'_>>()?.request_id.get();
        let start = named.as_ptr().addr() - self.bytes.as_ptr().addr();
        Some(self.spliced(Span { start, end: start + named.len() }, id.as_json()))
    }

    /// The request that a `notifications/cancelled` speaks of.
    #[must_use]
    pub fn request_id_param(&self) -> Option<RequestId> {
        RequestId::from_raw(self.params::<NamesRequest<'_>>()?.request_id)
    }

    fn spliced(&self, span: Span, replacement: &str) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.bytes.len() + replacement.len());
        bytes.extend_from_slice(self.bytes.get(..span.start).unwrap_or_default());
        bytes.extend_from_slice(replacement.as_bytes());
        bytes.extend_from_slice(self.bytes.get(span.end..).unwrap_or_default());
        bytes.freeze()
    }
}

/// The `params` of `notifications/cancelled`.
#[derive(serde::Deserialize)]
struct NamesRequest<'a> {
    #[serde(rename = "requestId", borrow)]
    request_id: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(json: &str) -> Result<Message, Malformed> {
        parse(&Bytes::copy_from_slice(json.as_bytes())).map(|mut messages| messages.remove(0))
    }

    fn kind(json: &str) -> MessageKind {
        one(json).expect("well formed").kind
    }

    #[test]
    fn subject_named_twice_is_found_whatever_its_spelling() {
        let doubled = |params: &str| {
            let message = one(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#));
            message.expect("well formed").doubled_subject()
        };
        assert_eq!(doubled(r#"{"name":"a","arguments":{"name":"b","uri":1,"uri":2}}"#), None);
        assert_eq!(doubled(r#"{"name":"a","arguments":{},"name":"b"}"#), Some("name"));
        assert_eq!(doubled(r#"{"uri":"a","\u0075ri":"b"}"#), Some("uri"));
        assert_eq!(doubled("[]"), None);
    }

    #[test]
    fn envelope_tells_request_notification_and_response() {
        let id = RequestId::text("a");
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#),
            MessageKind::Request { id: id.clone(), method: "ping".into() }
        );
        assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"n"}"#), MessageKind::Notification { method: "n".into() });
        assert_eq!(
            kind(r#"{"result":{},"jsonrpc":"2.0","id":"a"}"#),
            MessageKind::Response { id: Some(id), is_error: false }
        );
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#),
            MessageKind::Response { id: None, is_error: true }
        );
    }

    #[test]
    fn batch_is_split_in_order_and_keeps_its_bytes() {
        let batch = Bytes::from_static(br#" [ {"jsonrpc":"2.0","method":"a"} , {"jsonrpc":"2.0", "method":"b"}]"#);
        let messages = parse(&batch).expect("a batch");
        let texts: Vec<&[u8]> = messages.iter().map(|message| message.bytes().as_ref()).collect();
        assert_eq!(texts, [&br#"{"jsonrpc":"2.0","method":"a"}"#[..], br#"{"jsonrpc":"2.0", "method":"b"}"#]);
    }

    #[test]
    fn envelope_that_two_parsers_read_differently_is_refused() {
        for json in [
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","Method":"n"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","method\u0000x":"n"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{},"params":{}}"#,
        ] {
            assert!(matches!(one(json), Err(Malformed::NotJson(_))), "{json}");
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        for json in [
            "",
            "{",
            "1",
            "[]",
            "[1]",
            r#"{"jsonrpc":"1.0","method":"m"}"#,
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#,
        ] {
            assert!(one(json).is_err(), "{json}");
        }
        assert_eq!(parse(&Bytes::from_static(b"\xff")).unwrap_err(), Malformed::NotUtf8);
    }

    #[test]
    fn error_is_read_and_an_odd_one_has_no_text() {
        let error = |json: &str| one(json).expect("well formed").error();
        assert_eq!(
            error(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":{}}}"#),
            Some((-1, "m".into()))
        );
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"error":"m"}"#), Some((0, String::new())));
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), None);
    }

    #[test]
    fn with_id_changes_the_id_and_nothing_else() {
        let id = RequestId::text("p1");
        let message = one(r#"{"jsonrpc":"2.0", "params":{"id":7},  "id" : 7 ,"method":"m"}"#).expect("request");
        assert_eq!(message.with_id(&id), r#"{"jsonrpc":"2.0", "params":{"id":7},  "id" : "p1" ,"method":"m"}"#);
        let without = one("{\"jsonrpc\":\"2.0\",\"error\":{\"a\":{}}}\n").expect("response");
        assert_eq!(without.with_id(&id), "{\"jsonrpc\":\"2.0\",\"error\":{\"a\":{}},\"id\":\"p1\"}\n");
    }

    #[test]
    fn with_answer_changes_id_and_value_wherever_they_stand() {
        let id = RequestId::text("p1");
        for (text, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":7, "result" : {"a":1} ,"x":[]}"#,
                r#"{"jsonrpc":"2.0","id":"p1", "result" : {} ,"x":[]}"#,
            ),
            (
                r#"{"result":{"a":1},"x":[], "id" : 7,"jsonrpc":"2.0"}"#,
                r#"{"result":{},"x":[], "id" : "p1","jsonrpc":"2.0"}"#,
            ),
            (r#"{"jsonrpc":"2.0","error":{"code":1}}"#, r#"{"jsonrpc":"2.0","error":{},"id":"p1"}"#),
            (r#"{"jsonrpc":"2.0","result":{},"id":7}"#, r#"{"jsonrpc":"2.0","result":{},"id":"p1"}"#),
        ] {
            assert_eq!(one(text).expect("an answer").with_answer(&id, "{}"), expected);
        }
    }

    #[test]
    fn with_request_id_param_changes_the_named_request() {
        let message =
            one(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"x","requestId":0}}"#)
                .expect("notification");
        assert_eq!(message.request_id_param().expect("an id").as_json(), "0");
        assert_eq!(
            message.with_request_id_param(&RequestId::text("p")).expect("an id"),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"x","requestId":"p"}}"#
        );
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&Bytes::from(bytes));
        }

        #[test]
        fn parse_of_near_messages_never_panics(text in r#"[{}\[\]"a-c:, 0-9\\]{0,60}"#) {
            let _ = parse(&Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#)));
        }

        #[test]
        fn bytes_pass_and_ids_splice_for_any_envelope(
            id in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "[a-z\"\\\\é]{0,8}".prop_map(|s| serde_json::Value::from(s).to_string())],
            extra in "[a-z ]{0,10}",
            order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
        ) {
            let members = [
                r#""jsonrpc":"2.0""#.to_owned(),
                format!(r#""id": {id}"#),
                r#""method":"tools/call""#.to_owned(),
                format!(r#""params":{{"id":"{extra}","x":[1,{{"id":2}}]}}"#),
            ];
            let text = format!("{{{}}}", order.iter().map(|&at| members[at].as_str()).collect::<Vec<_>>().join(" , "));
            let message = one(&text).expect("well formed");
            prop_assert_eq!(message.bytes(), text.as_bytes());
            let spliced = parse(&message.with_id(&RequestId::text("ours"))).expect("still well formed").remove(0);
            let back = spliced.with_id(&RequestId::from_raw(serde_json::from_str(&id).expect("id")).expect("id"));
            prop_assert_eq!(
                serde_json::from_slice::<serde_json::Value>(&back).expect("json"),
                serde_json::from_str::<serde_json::Value>(&text).expect("json")
            );
        }
    }
}
