//! A small legacy client that measures: `GET /sse`, the endpoint event, POSTs, and the time at which each thing came.
//!
//! Promise: nothing is smoothed over. Redirects are not followed, environment proxies not used, answers not decompressed,
//! and everything that a probe could want to show (status, headers, certificate, arrival of every chunk) is kept.
//!
//! The trap: an answer may arrive on the stream before the POST that asked for it is answered, so both are awaited together.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Version};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::fault::{AskFault, EndpointFault, Fault};
use crate::mcp::{self, Message, MessageKind, RequestId};
use crate::sse::{Decoder, Event};
use crate::upstream::{client_builder, root_cause};

/// Largest event that is read, in bytes.
const MAX_EVENT: usize = 16 << 20;
/// How much of a text that nobody expected is read, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// How long such a text may take.
const TEXT_TIME: Duration = Duration::from_secs(2);
/// What probes call themselves.
pub(super) const USER_AGENT: &str = concat!("sse-sunset/", env!("CARGO_PKG_VERSION"));

/// Where a probe goes, and with what.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL of the event stream.
    pub url: Url,
    /// Sent with the GET and with every POST; values that are credentials should be marked sensitive.
    pub headers: HeaderMap,
    /// Authorities that may vouch for the server, besides those of the system.
    pub authorities: Vec<reqwest::Certificate>,
    /// Time for making a connection, TLS included.
    pub connect_timeout: Duration,
}

/// A client for one [`Target`]. Clones share their connections.
#[derive(Debug, Clone)]
pub struct SseClient {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

/// The head of the answer to `GET /sse`, whatever it is.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The version of HTTP that was spoken.
    pub version: Version,
    /// The headers, as they came.
    pub headers: HeaderMap,
    /// Who answered.
    pub address: Option<SocketAddr>,
    /// The server's certificate (DER), under TLS.
    pub certificate: Option<Bytes>,
    /// When it came, since the request.
    pub at: Duration,
}

/// An answer to `GET /sse` that is being read. Dropping it ends the session.
#[derive(Debug)]
pub struct SseStream {
    client: SseClient,
    head: Head,
    response: reqwest::Response,
    decoder: Decoder,
    comments: CommentCounter,
    /// Events that came with others and have not been taken.
    waiting: VecDeque<(Duration, Event)>,
    since: Instant,
    asked: u64,
}

/// What came at once.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When, since the request for the stream.
    pub at: Duration,
    /// How many bytes.
    pub bytes: usize,
    /// Comments that began in it: keep-alives.
    pub comments: usize,
    /// Events that it completed.
    pub events: Vec<Event>,
}

/// Where messages are posted to. Whoever has it can post into the session: it is not for output.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL, resolved against that of the stream as legacy SDKs do.
    pub url: Url,
    /// The event's data, as it came.
    pub data: String,
    /// When it came, since the request for the stream.
    pub at: Duration,
}

/// The answer to a POST.
#[derive(Debug, Clone)]
pub struct Posted {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, as text.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer itself; it may be an error.
    pub message: Message,
    /// From the POST to the answer on the stream.
    pub took: Duration,
    /// How the POST was answered, if it was by then.
    pub posted: Option<Posted>,
}

/// Counts lines that start with a colon, under every split.
#[derive(Debug)]
struct CommentCounter {
    at_line_start: bool,
}

impl CommentCounter {
    fn count(&mut self, chunk: &[u8]) -> usize {
        let mut comments = 0;
        for byte in chunk {
            comments += usize::from(self.at_line_start && *byte == b':');
            self.at_line_start = matches!(byte, b'\n' | b'\r');
        }
        comments
    }
}

impl SseClient {
    /// Makes the client; no connection is opened.
    ///
    /// # Errors
    /// What keeps TLS from being set up.
    pub fn new(target: Target) -> Result<Self, String> {
        let client = client_builder(&target.url, target.authorities, target.connect_timeout).tls_info(true);
        let http = client.build().map_err(|error| root_cause(&error))?;
        let mut headers = target.headers;
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        Ok(SseClient { http, url: target.url, headers })
    }

    /// The URL of the stream.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Sends `GET` with `extra` headers and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is none within `time`. An answer that is no event stream is no error here: see [`SseStream::head`].
    pub async fn open(&self, extra: &HeaderMap, time: Duration) -> Result<SseStream, Fault> {
        let since = Instant::now();
        let mut headers = self.headers.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        let sending = self.http.get(self.url.clone()).headers(headers).send();
        let response = timeout(time, sending).await.map_err(|_| Fault::Silent(time))?.map_err(fault)?;
        let tls = response.extensions().get::<reqwest::tls::TlsInfo>();
        let head = Head {
            status: response.status(),
            version: response.version(),
            headers: response.headers().clone(),
            address: response.remote_addr(),
            certificate: tls.and_then(reqwest::tls::TlsInfo::peer_certificate).map(Bytes::copy_from_slice),
            at: since.elapsed(),
        };
        Ok(SseStream {
            client: self.clone(),
            head,
            response,
            decoder: Decoder::new(MAX_EVENT),
            comments: CommentCounter { at_line_start: true },
            waiting: VecDeque::new(),
            since,
            asked: 0,
        })
    }

    /// Posts `body` to `endpoint` and reads the answer.
    ///
    /// # Errors
    /// When the head of the answer does not come within `time`. Any status is an answer.
    pub async fn post(&self, endpoint: &Endpoint, body: impl Into<Bytes>, time: Duration) -> Result<Posted, Fault> {
        let since = Instant::now();
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let sending = self.http.post(endpoint.url.clone()).headers(headers).body(body.into()).send();
        let mut response = timeout(time, sending).await.map_err(|_| Fault::Silent(time))?.map_err(fault)?;
        let (took, status, headers) = (since.elapsed(), response.status(), response.headers().clone());
        Ok(Posted { status, headers, text: text_of(&mut response).await, took })
    }
}

impl Head {
    /// The media type, in lower case and without parameters; empty when there is none.
    #[must_use]
    pub fn media_type(&self) -> String {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether this is what a legacy client wants.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.status == StatusCode::OK && self.media_type() == "text/event-stream"
    }
}

impl SseStream {
    /// The head of the answer.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Time since the request for the stream.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What comes next; `None` at an orderly end. Cancel safe: what came is not lost.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no event stream.
    pub async fn next(&mut self) -> Result<Option<Arrival>, Fault> {
        let Some(chunk) = self.response.chunk().await.map_err(fault)? else { return Ok(None) };
        let (at, comments) = (self.since.elapsed(), self.comments.count(&chunk));
        self.decoder.feed(&chunk);
        let mut events = Vec::new();
        while let Some(event) =
            self.decoder.next_event().map_err(|too_large| Fault::Unreadable(too_large.to_string()))?
        {
            events.push(event);
        }
        Ok(Some(Arrival { at, bytes: chunk.len(), comments, events }))
    }

    /// The next event, with the time at which it came. Cancel safe.
    ///
    /// # Errors
    /// When the stream ends or fails before.
    pub async fn event(&mut self) -> Result<(Duration, Event), Fault> {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return Ok(next);
            }
            let arrival = self.next().await?.ok_or(Fault::Ended)?;
            self.waiting.extend(arrival.events.into_iter().map(|event| (arrival.at, event)));
        }
    }

    /// The endpoint event, which has to be the first.
    ///
    /// # Errors
    /// When it does not come within `time`, or names no place that legacy clients would post to.
    pub async fn endpoint(&mut self, time: Duration) -> Result<Endpoint, EndpointFault> {
        let (at, event) = timeout(time, self.event()).await.map_err(|_| Fault::Silent(time))??;
        let data = String::from_utf8_lossy(&event.data).into_owned();
        let kind = event.kind.map_or_else(|| "message".into(), |kind| String::from_utf8_lossy(&kind).into_owned());
        if kind != "endpoint" {
            return Err(EndpointFault::OtherEvent(kind));
        }
        let url = self.client.url.join(data.trim()).map_err(|_| EndpointFault::NotUrl(data.clone()))?;
        if url.origin() != self.client.url.origin() {
            return Err(EndpointFault::Foreign(url.origin().ascii_serialization()));
        }
        Ok(Endpoint { url, data, at })
    }

    /// Posts a request and waits for its answer on the stream. Other messages are passed over.
    ///
    /// # Errors
    /// When the POST fails or is refused, or no answer comes within `time`.
    pub async fn ask(
        &mut self,
        endpoint: &Endpoint,
        method: &str,
        params: Value,
        time: Duration,
    ) -> Result<Answer, AskFault> {
        self.asked += 1;
        let id = format!("sse-sunset-probe-{}", self.asked);
        let mut request = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if let (false, Some(request)) = (params.is_null(), request.as_object_mut()) {
            request.insert("params".into(), params);
        }
        let (id, since) = (RequestId::text(&id), Instant::now());
        let client = self.client.clone();
        let posting = Box::pin(client.post(endpoint, request.to_string(), time));
        let answering = Box::pin(timeout(time, self.answer_to(&id)));
        let answered = |outcome: Result<Result<Message, Fault>, _>, posted| match outcome {
            Ok(Ok(message)) => Ok(Answer { message, took: since.elapsed(), posted }),
            Ok(Err(fault)) => Err(AskFault::Stream(fault)),
            Err(_) => Err(AskFault::Stream(Fault::Silent(time))),
        };
        match futures_util::future::select(posting, answering).await {
            Either::Left((posted, answering)) => {
                let posted = posted.map_err(AskFault::Post)?;
                if !posted.status.is_success() {
                    return Err(AskFault::Refused(Box::new(posted)));
                }
                answered(answering.await, Some(posted))
            }
            Either::Right((answer, posting)) => {
                let mut answer = answered(answer, None)?;
                // Not given up: a POST that is broken off may close a connection that others use.
                answer.posted = posting.await.ok();
                Ok(answer)
            }
        }
    }

    /// Posts a notification.
    ///
    /// # Errors
    /// When the POST fails or is refused within `time`.
    pub async fn tell(&self, endpoint: &Endpoint, method: &str, time: Duration) -> Result<Posted, AskFault> {
        let message = json!({"jsonrpc": "2.0", "method": method}).to_string();
        let posted = self.client.post(endpoint, message, time).await.map_err(AskFault::Post)?;
        if posted.status.is_success() { Ok(posted) } else { Err(AskFault::Refused(Box::new(posted))) }
    }

    async fn answer_to(&mut self, id: &RequestId) -> Result<Message, Fault> {
        loop {
            let (_, event) = self.event().await?;
            let parsed = mcp::parse(&event.data).unwrap_or_default();
            let is_it = |message: &Message| matches!(message.kind(), MessageKind::Response { id: Some(theirs), .. } if theirs == id);
            if let Some(answer) = parsed.into_iter().find(is_it) {
                return Ok(answer);
            }
        }
    }

    /// The beginning of an answer that is no event stream, as text.
    pub async fn text(&mut self) -> String {
        text_of(&mut self.response).await
    }
}

/// The beginning of a body.
async fn text_of(response: &mut reqwest::Response) -> String {
    let mut text = Vec::new();
    let reading = async {
        while text.len() < MAX_TEXT {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            text.extend_from_slice(&chunk);
        }
    };
    let _ = timeout(TEXT_TIME, reading).await;
    text.truncate(MAX_TEXT);
    String::from_utf8_lossy(&text).into_owned()
}

fn fault(error: reqwest::Error) -> Fault {
    let is_connect = error.is_connect();
    let text = root_cause(&error.without_url());
    if is_connect { Fault::Unreachable(text) } else { Fault::Broken(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_counted_under_every_split() {
        let stream = b": k\nevent: endpoint\ndata: a:b\n\n: k\r\n:x\ndata: :\n\n";
        for cut in 0..=stream.len() {
            let mut counter = CommentCounter { at_line_start: true };
            assert_eq!(counter.count(&stream[..cut]) + counter.count(&stream[cut..]), 3, "{cut}");
        }
    }
}
