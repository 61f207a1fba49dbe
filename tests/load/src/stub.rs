//! The server behind everything: one set of tools, spoken to as an upgraded server (Streamable HTTP) or as a legacy one
//! (HTTP+SSE), so that what differs between two measurements is only what stands in between.
//!
//! Its tools: `echo` gives `text` back, `progress` sends `count` notifications first, `flood` sends `megabytes` of them.
//! Whatever is sent waits for `milliseconds`, and a call that is `noted` leaves its name in the ledger: a file, because the
//! stub may be killed, and whoever did it wants to know what ran.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
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
const SESSION: &str = "mcp-session-id";
/// Bytes of one notification of `flood`.
const FLOOD_PIECE: usize = 64 << 10;

/// What the stub counts, as `GET /counts` tells it.
#[derive(Debug, Default, serde::Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) deletes: u64,
    /// GET streams opened.
    pub(crate) streams: u64,
    /// GET streams that are open now.
    pub(crate) listening: usize,
    pub(crate) calls: u64,
    /// Sessions that are open now.
    pub(crate) open: usize,
}

/// One line of the ledger.
#[derive(Debug, serde::Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The first word of the call's text.
    pub(crate) call: String,
    /// What the call came with; empty if it came with nothing.
    pub(crate) authorization: String,
}

#[derive(Debug, Default)]
struct Stub {
    /// Answers to requests are event streams.
    sse: bool,
    ledger: Option<Mutex<File>>,
    /// Names the sessions of this process, so that none of them is taken for one of the process before.
    boot: u128,
    open: Mutex<HashSet<String>>,
    sessions: AtomicU64,
    deletes: AtomicU64,
    streams: AtomicU64,
    listening: AtomicUsize,
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
    #[serde(rename = "protocolVersion")]
    version: Option<&'a str>,
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
    #[serde(default)]
    milliseconds: u64,
    #[serde(default)]
    noted: bool,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, sse: bool, ledger: Option<File>) -> Result<()> {
    let boot = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let stub = Arc::new(Stub { sse, boot, ledger: ledger.map(Mutex::new), ..Stub::default() });
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
                    listening: self.listening.load(Ordering::Relaxed),
                    calls: read(&self.calls),
                    open: lock(&self.open).len(),
                };
                json(serde_json::to_vec(&counts).unwrap_or_default())
            }
            (Method::GET, "/sse") => self.open_legacy(),
            (Method::POST, "/messages") => self.legacy_message(head.uri.query().unwrap_or_default(), body),
            (Method::GET | Method::DELETE, "/mcp") if !self.knows(&head.headers) => no_session(),
            (Method::GET, "/mcp") => {
                self.streams.fetch_add(1, Ordering::Relaxed);
                let (sender, events) = mpsc::channel(1);
                self.listening.fetch_add(1, Ordering::Relaxed);
                // Open as long as the client likes.
                tokio::spawn(async move {
                    sender.closed().await;
                    self.listening.fetch_sub(1, Ordering::Relaxed);
                });
                stream(events, None)
            }
            (Method::DELETE, "/mcp") => {
                self.deletes.fetch_add(1, Ordering::Relaxed);
                lock(&self.open).remove(text_of(&head.headers, SESSION));
                plain(200, "")
            }
            (Method::POST, "/mcp") => self.message(&head.headers, body).await,
            _ => plain(404, "no"),
        }
    }

    /// Whether a request names a session of this process.
    fn knows(&self, headers: &HeaderMap) -> bool {
        lock(&self.open).contains(text_of(headers, SESSION))
    }

    fn open_legacy(&self) -> Response<Body> {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(QUEUE);
        let id = format!("legacy-{number}");
        let endpoint = Bytes::from(format!("event: endpoint\ndata: /messages?sessionId={id}\n\n"));
        lock(&self.legacy).insert(id, sender);
        stream(events, Some(endpoint))
    }

    fn legacy_message(self: Arc<Self>, query: &str, body: Bytes) -> Response<Body> {
        let id = query.strip_prefix("sessionId=").unwrap_or_default();
        let sender = lock(&self.legacy).get(id).cloned();
        let Some(sender) = sender else { return plain(404, "no such session") };
        let id = id.to_owned();
        tokio::spawn(async move {
            if self.run(&body, "", &sender).await.is_err() {
                lock(&self.legacy).remove(&id);
            }
        });
        plain(202, "Accepted")
    }

    async fn message(self: Arc<Self>, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else { return plain(400, "no message") };
        let is_initialize = message.method == Some("initialize");
        if !is_initialize && !self.knows(headers) {
            return no_session();
        }
        if message.id.is_none() || message.method.is_none() {
            return plain(202, "");
        }
        let authorization = text_of(headers, "authorization");
        let streams =
            self.sse || matches!(message.params.as_ref().and_then(|params| params.name), Some("progress" | "flood"));
        let mut answer = if streams {
            let (sender, events) = mpsc::channel(QUEUE);
            let (stub, body, authorization) = (Arc::clone(&self), body.clone(), authorization.to_owned());
            tokio::spawn(async move { stub.run(&body, &authorization, &sender).await });
            stream(events, None)
        } else {
            self.note(&message, authorization);
            pause(&message).await;
            json(self.result(&message))
        };
        if is_initialize {
            let number = self.sessions.fetch_add(1, Ordering::Relaxed);
            let id = format!("session-{:x}-{number}", self.boot);
            if let Ok(value) = id.parse() {
                lock(&self.open).insert(id);
                answer.headers_mut().insert(SESSION, value);
            }
        }
        answer
    }

    /// Enters a call into the ledger, before it does anything.
    fn note(&self, message: &Message<'_>, authorization: &str) {
        let arguments = message.params.as_ref().and_then(|params| params.arguments.as_ref());
        let (Some(arguments), Some(ledger)) = (arguments, &self.ledger) else { return };
        if !arguments.noted {
            return;
        }
        let text = arguments.text.and_then(|text| serde_json::from_str::<String>(text.get()).ok()).unwrap_or_default();
        let call = text.split(' ').next().unwrap_or_default().to_owned();
        let entry = Entry { call, authorization: authorization.to_owned() };
        let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
        // In one write: the process may be killed at any time.
        if let Err(error) = lock(ledger).write_all(line.as_bytes()) {
            eprintln!("the ledger cannot be written: {error}");
        }
    }

    /// Sends everything that a message sets going, as events.
    async fn run(&self, body: &Bytes, authorization: &str, events: &mpsc::Sender<Bytes>) -> Result<()> {
        let message: Message<'_> = serde_json::from_slice(body)?;
        if message.id.is_none() || message.method.is_none() {
            return Ok(());
        }
        self.note(&message, authorization);
        let arguments = message.params.as_ref().and_then(|params| params.arguments.as_ref());
        for number in 0..arguments.map_or(0, |arguments| arguments.count) {
            let note = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p","progress":{number}}}}}"#
            );
            pause(&message).await;
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
        pause(&message).await;
        events.send(event(&self.result(&message))).await?;
        Ok(())
    }

    fn result(&self, message: &Message<'_>) -> Vec<u8> {
        let id = message.id.map_or("null", RawValue::get);
        let text =
            message.params.as_ref().and_then(|params| params.arguments.as_ref()?.text).map_or("\"\"", RawValue::get);
        if message.method == Some("initialize") {
            let version = message.params.as_ref().and_then(|params| params.version).unwrap_or("2024-11-05");
            let info = r#""capabilities":{"tools":{}},"serverInfo":{"name":"stub","version":"1"}"#;
            let result = format!(r#"{{"protocolVersion":"{version}",{info}}}"#);
            return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into_bytes();
        }
        if message.method == Some("tools/list") {
            // Whoever is no mere proxy wants to know them before it passes a call.
            let tool = |name| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
            let tools = ["echo", "progress", "flood"].map(tool).join(",");
            return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[{tools}]}}}}"#).into_bytes();
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"#);
        [start.as_bytes(), text.as_bytes(), b"}]}}"].concat()
    }
}

/// Waits as long as a call asks for.
async fn pause(message: &Message<'_>) {
    let arguments = message.params.as_ref().and_then(|params| params.arguments.as_ref());
    let milliseconds = arguments.map_or(0, |arguments| arguments.milliseconds);
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What a server says that has been started again, to those who were there before.
fn no_session() -> Response<Body> {
    whole(
        404,
        "application/json",
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#,
    )
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
