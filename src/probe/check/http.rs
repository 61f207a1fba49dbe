//! Requests of the check to the upgraded server, sent as the proxy sends them, and their answers with everything kept.
//!
//! Redirects are seen, not followed; environment proxies and decompression are off; every wait has its deadline, and no
//! more of an answer is read than one message.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::tls::Trust;
use crate::mcp::{self, Message, MessageKind, RequestId};
use crate::sse::Decoder;
use crate::upstream::{Answer, Content, Fault, Item, Replies, client_builder, root_cause};

/// What the proxy accepts (WIRE, Toward the upstream 1).
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Longest event that is read to learn its name, in bytes.
const LONGEST_FIRST: usize = 64 << 10;

/// A client for one server.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    /// Where requests go; changes when a redirect is followed.
    pub(super) url: Url,
    /// Goes with every request.
    pub(super) headers: HeaderMap,
    /// The bound for every single wait.
    pub(super) patience: Duration,
}

/// An answer: its head, and what its body said.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Until the answer was read, or its head where the body does not matter.
    pub(super) took: Duration,
    /// The JSON-RPC response in it, if there is one.
    pub(super) response: Option<Message>,
    /// What is said instead, shortened and printable.
    pub(super) text: String,
}

/// The head of an answer; the body comes as long as this is held.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    since: Instant,
    took: Duration,
    response: reqwest::Response,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no connection: {0}")]
    Unreachable(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("no answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
}

impl Http {
    /// # Errors
    /// What keeps TLS from being set up.
    pub(super) fn new(url: Url, headers: HeaderMap, trust: &Trust, patience: Duration) -> Result<Self, String> {
        let client = client_builder(&url, trust.for_client(), patience).http1_only();
        let client = client.build().map_err(|error| root_cause(&error))?;
        Ok(Http { client, url, headers, patience })
    }

    /// The same without the credential.
    pub(super) fn anonymous(&self) -> Http {
        let mut other = self.clone();
        other.headers.remove(header::AUTHORIZATION);
        other
    }

    /// The same without any of the headers that were given: for another server.
    pub(super) fn bare(&self) -> Http {
        let mut other = self.clone();
        let agent = other.headers.remove(header::USER_AGENT);
        other.headers = agent.map(|agent| (header::USER_AGENT, agent)).into_iter().collect();
        other
    }

    /// The same for another place on the same server.
    pub(super) fn at(&self, url: Url) -> Http {
        Http { url, ..self.clone() }
    }

    /// The same with another `name`.
    pub(super) fn with(&self, name: HeaderName, value: HeaderValue) -> Http {
        let mut other = self.clone();
        other.headers.insert(name, value);
        other
    }

    /// Sends, and waits for the head of the answer.
    pub(super) async fn head(&self, method: Method, extra: &HeaderMap, body: &Value) -> Result<Head, NoAnswer> {
        let mut headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, IDENTITY)]);
        let accepts = if method == Method::GET { HeaderValue::from_static("text/event-stream") } else { ACCEPT };
        headers.insert(header::ACCEPT, accepts);
        if !body.is_null() {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        for more in [extra, &self.headers] {
            headers.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        let mut request = reqwest::Request::new(method, self.url.clone());
        *request.headers_mut() = headers;
        if !body.is_null() {
            *request.body_mut() = Some(body.to_string().into());
        }
        let since = Instant::now();
        let sending = timeout(self.patience, self.client.execute(request)).await;
        let response = sending.map_err(|_| NoAnswer::Silent(self.patience))?.map_err(no_answer)?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Head { status, headers, since, took: since.elapsed(), response })
    }

    /// Posts a message and reads the answer: one message at most, and nothing of a 202.
    pub(super) async fn post(&self, extra: &HeaderMap, body: &Value) -> Result<Reply, NoAnswer> {
        let head = self.head(Method::POST, extra, body).await?;
        let id = body.get("id").and_then(Value::as_str).map(RequestId::text);
        head.read(id.as_ref(), self.patience).await
    }

    /// A `ping` in a session that nobody has: it shows whether the server lets us in, and leaves no session behind
    /// (without an id, the Python server would make one for each request).
    pub(super) async fn knock(&self) -> Result<Reply, NoAnswer> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| NoAnswer::Broken(error.to_string()))?;
        let bogus = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let bogus = HeaderValue::from_str(&bogus).map_err(|error| NoAnswer::Broken(error.to_string()))?;
        self.post(&HeaderMap::from_iter([(mcp::SESSION_ID, bogus)]), &request("ping", Value::Null)).await
    }
}

impl Head {
    /// Reads a whole document of `most` bytes at most.
    pub(super) async fn document(mut self, most: usize, patience: Duration) -> Result<Vec<u8>, NoAnswer> {
        let reading = async {
            let mut text = Vec::new();
            while let Some(chunk) = self.response.chunk().await.map_err(no_answer)? {
                text.extend_from_slice(&chunk);
                if text.len() > most {
                    return Err(NoAnswer::Broken(format!("it has more than {most} bytes")));
                }
            }
            Ok(text)
        };
        timeout(patience, reading).await.map_err(|_| NoAnswer::Silent(patience))?
    }

    /// What the first event is called.
    pub(super) async fn first_event(mut self, patience: Duration) -> Option<String> {
        let reading = async {
            let mut decoder = Decoder::new(LONGEST_FIRST);
            loop {
                decoder.feed(&self.response.chunk().await.ok()??);
                if let Some(event) = decoder.next_event().ok()? {
                    return event.kind.map(|kind| String::from_utf8_lossy(&kind).into_owned());
                }
            }
        };
        timeout(patience, reading).await.ok().flatten()
    }

    /// Reads the answer to `id`, or whatever text there is.
    pub(super) async fn read(self, id: Option<&RequestId>, patience: Duration) -> Result<Reply, NoAnswer> {
        let Head { status, headers, since, took, response } = self;
        let mut reply = Reply { status, headers: headers.clone(), took, response: None, text: String::new() };
        if status == StatusCode::ACCEPTED {
            return Ok(reply);
        }
        let body = stream::unfold(response, |mut response| async {
            let chunk = response.chunk().await.map_err(|error| Fault::Broken(no_answer(error).to_string()));
            chunk.transpose().map(|chunk| (chunk, response))
        });
        let mut replies = Replies::of(Answer { status, headers, body: Content::Bytes(Box::pin(body)) });
        let reading = async {
            while let Some(item) = replies.next().await {
                match item {
                    Item::Message(message) if is_answer(&message, id) => return (Some(message), String::new()),
                    Item::Message(_) | Item::Garbage(_) | Item::Waiting => {}
                    Item::End(end) => return (None, end.fault.map(describe).unwrap_or_default()),
                }
            }
            (None, String::new())
        };
        let Ok((response, text)) = timeout(patience, reading).await else { return Err(NoAnswer::Silent(patience)) };
        reply.took = since.elapsed();
        reply.text = response.as_ref().and_then(Message::error).map_or(text, |(code, said)| {
            if said.is_empty() { format!("error {code}") } else { super::text::quote(&said) }
        });
        reply.response = response;
        Ok(reply)
    }
}

impl Reply {
    /// The result of the answer.
    pub(super) fn result(&self) -> Option<Value> {
        self.response.as_ref()?.result()
    }

    /// The code of the answer's error.
    pub(super) fn error_code(&self) -> Option<i64> {
        Some(self.response.as_ref()?.error()?.0)
    }

    /// Status and text, for people.
    pub(super) fn said(&self) -> String {
        let status = self.status.as_u16();
        match (self.error_code(), self.text.is_empty()) {
            (Some(code), _) => format!("HTTP {status}, error {code}: {}", self.text),
            (None, true) => format!("HTTP {status}"),
            (None, false) => format!("HTTP {status}: {}", self.text),
        }
    }

    pub(super) fn media_type(&self) -> String {
        media_type(&self.headers)
    }
}

/// The media type, in lower case and without parameters; empty when there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = header_text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A header as text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A request of the check; its id is a text, which every server hands back as it is.
pub(super) fn request(method: &str, params: Value) -> Value {
    let mut request = json!({"jsonrpc": "2.0", "id": format!("sse-sunset-check-{method}"), "method": method});
    if let (false, Some(members)) = (params.is_null(), request.as_object_mut()) {
        members.insert("params".into(), params);
    }
    request
}

/// Servers leave the id out, or send null or one of their own, where they refuse a request before they read it.
fn is_answer(message: &Message, wanted: Option<&RequestId>) -> bool {
    match message.kind() {
        MessageKind::Response { id, is_error } => *is_error || id.as_ref() == wanted,
        MessageKind::Request { .. } | MessageKind::Notification { .. } => false,
    }
}

fn describe(fault: Fault) -> String {
    match fault {
        // Its status is told beside it.
        Fault::NotRpc { text, .. } => text,
        other => other.to_string(),
    }
}

fn no_answer(error: reqwest::Error) -> NoAnswer {
    let connect = error.is_connect();
    let text = root_cause(&error.without_url());
    if connect { NoAnswer::Unreachable(text) } else { NoAnswer::Broken(text) }
}
