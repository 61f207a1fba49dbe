//! The server behind everything: one set of tools, spoken to as an upgraded server (Streamable HTTP) or as a legacy one
//! (HTTP+SSE), so that what differs between two measurements is only what stands in between.
//!
//! Its tools: `echo` gives `text` back, `progress` sends `count` notifications first, `flood` sends `megabytes` of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Events that wait for a client; the stub is as patient as any server that awaits its socket.
const QUEUE: usize = 64;
/// Bytes of one notification of `flood`.
const FLOOD_PIECE: usize = 64 << 10;

/// What the stub counts, as `GET /counts` tells it.
#[derive(Debug, Default, serde::Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) deletes: u64,
    /// GET streams opened.
    pub(crate) streams: u64,
    pub(crate) calls: u64,
}

#[derive(Debug, Default)]
struct Stub {
    /// Answers to requests are event streams.
    sse: bool,
    sessions: AtomicU64,
    deletes: AtomicU64,
    streams: AtomicU64,
    calls: AtomicU64,
    /// The streams of legacy clients, by session id.
    legacy: Mutex<HashMap<String, mpsc::Sender<Bytes>>>,
}

/// A message as far as the stub looks into it.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    name: Option<&'a str>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Deserialize, Default)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    megabytes: usize,
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, sse: bool) -> Result<()> {
    let stub = Arc::new(Stub { sse, ..Stub::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let stub = Arc::clone(&stub);
        let service = service_fn(move |request| {
            let stub = Arc::clone(&stub);
            async move { Ok::<_, Infallible>(stub.answer(request).await) }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Stub {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return plain(400, "half a body") };
        let body = body.to_bytes();
        match (head.method, head.uri.path()) {
            (Method::GET, "/counts") => {
                let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
                let counts = Counts {
                    sessions: read(&self.sessions),
                    deletes: read(&self.deletes),
                    streams: read(&self.streams),
                    calls: read(&self.calls),
                };
                json(serde_json::to_vec(&counts).unwrap_or_default())
            }
            (Method::GET, "/sse") => self.open_legacy(),
            (Method::POST, "/messages") => self.legacy_message(head.uri.query().unwrap_or_default(), body),
            (Method::GET, "/mcp") => {
                self.streams.fetch_add(1, Ordering::Relaxed);
                let (sender, events) = mpsc::channel(1);
                // Open as long as the client likes.
                tokio::spawn(async move { sender.closed().await });
                stream(events, None)
            }
            (Method::DELETE, "/mcp") => {
                self.deletes.fetch_add(1, Ordering::Relaxed);
                plain(200, "")
            }
            (Method::POST, "/mcp") => self.message(&body),
            _ => plain(404, "no"),
        }
    }

    fn open_legacy(&self) -> Response<Body> {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(QUEUE);
        let id = format!("legacy-{number}");
        let endpoint = Bytes::from(format!("event: endpoint\ndata: /messages?sessionId={id}\n\n"));
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        stream(events, Some(endpoint))
    }

    fn legacy_message(self: Arc<Self>, query: &str, body: Bytes) -> Response<Body> {
        let id = query.strip_prefix("sessionId=").unwrap_or_default();
        let sender = self.legacy.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let Some(sender) = sender else { return plain(404, "no such session") };
        let id = id.to_owned();
        tokio::spawn(async move {
            if self.run(&body, &sender).await.is_err() {
                self.legacy.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        });
        plain(202, "Accepted")
    }

    fn message(self: Arc<Self>, body: &Bytes) -> Response<Body> {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else { return plain(400, "no message") };
        if message.id.is_none() || message.method.is_none() {
            return plain(202, "");
        }
        let is_initialize = message.method == Some("initialize");
        let streams =
            self.sse || matches!(message.params.as_ref().and_then(|params| params.name), Some("progress" | "flood"));
        let mut answer = if streams {
            let (sender, events) = mpsc::channel(QUEUE);
            let stub = Arc::clone(&self);
            let body = body.clone();
            tokio::spawn(async move { stub.run(&body, &sender).await });
            stream(events, None)
        } else {
            json(self.result(&message))
        };
        if is_initialize {
            let number = self.sessions.fetch_add(1, Ordering::Relaxed);
            if let Ok(id) = format!("session-{number}").parse() {
                answer.headers_mut().insert("mcp-session-id", id);
            }
        }
        answer
    }

    /// Sends everything that a message sets going, as events.
    async fn run(&self, body: &Bytes, events: &mpsc::Sender<Bytes>) -> Result<()> {
        let message: Message<'_> = serde_json::from_slice(body)?;
        if message.id.is_none() || message.method.is_none() {
            return Ok(());
        }
        let arguments = message.params.as_ref().and_then(|params| params.arguments.as_ref());
        for number in 0..arguments.map_or(0, |arguments| arguments.count) {
            let note = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p","progress":{number}}}}}"#
            );
            events.send(event(note.as_bytes())).await?;
        }
        let pieces = (arguments.map_or(0, |arguments| arguments.megabytes) << 20).div_ceil(FLOOD_PIECE);
        if pieces > 0 {
            let pad = "x".repeat(FLOOD_PIECE);
            let note = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{pad}"}}}}"#
            );
            let note = event(note.as_bytes());
            for _ in 0..pieces {
                events.send(note.clone()).await?;
            }
        }
        events.send(event(&self.result(&message))).await?;
        Ok(())
    }

    fn result(&self, message: &Message<'_>) -> Vec<u8> {
        let id = message.id.map_or("null", RawValue::get);
        let text =
            message.params.as_ref().and_then(|params| params.arguments.as_ref()?.text).map_or("\"\"", RawValue::get);
        if message.method == Some("initialize") {
            let info = r#"{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"stub","version":"1"}}"#;
            return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{info}}}"#).into_bytes();
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"#);
        [start.as_bytes(), text.as_bytes(), b"}]}}"].concat()
    }
}

fn event(message: &[u8]) -> Bytes {
    [b"event: message\ndata: ", message, b"\n\n"].concat().into()
}

fn plain(status: u16, text: &'static str) -> Response<Body> {
    whole(status, "text/plain", text)
}

fn json(text: impl Into<Bytes>) -> Response<Body> {
    whole(200, "application/json", text)
}

fn whole(status: u16, media: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Full::new(text.into()).boxed_unsync());
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static(media));
    answer
}

fn stream(events: mpsc::Receiver<Bytes>, first: Option<Bytes>) -> Response<Body> {
    let frames = futures_util::stream::unfold((events, first), |(mut events, first)| async move {
        let event = match first {
            Some(first) => first,
            None => events.recv().await?,
        };
        Some((Ok::<_, Infallible>(Frame::data(event)), (events, None)))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    answer
}
