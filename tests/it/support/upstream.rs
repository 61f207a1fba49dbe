//! A Streamable HTTP server of the session era that does as it is told.
//!
//! Its tools are what the tests need: `echo`, `progress`, `ask` (a request to the client in the middle of the call),
//! `hang` (until cancelled), `browse` (an error that speaks of another session), `flood` (32 MB of log messages), `quit` (the stream ends without an answer), `stray` (an answer with another id first).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::within;

/// Messages of 64 KiB that `flood` sends.
pub(crate) const FLOOD: usize = 500;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// Gives session ids, and refuses requests without them.
    pub(crate) sessions: bool,
    /// Answers requests with event streams.
    pub(crate) sse: bool,
    /// The only token it accepts; `narrow` lacks a scope and `banned` is forbidden.
    pub(crate) token: Option<&'static str>,
}

/// One request the server saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The same as it came.
    pub(crate) text: Bytes,
}

/// How a server says that it does not know a session (UPSTREAMS A.1 and A.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disguise {
    /// 404 and a text: Go, rmcp, mcp-go.
    NotFound,
    /// 404 and a JSON-RPC error with a null id: TypeScript, Cloudflare.
    NotFoundRpc,
    /// 404 and one with the request's id: C#.
    NotFoundWithId,
    /// 400 and one without an id: server-everything.
    BadRequest,
    /// 401 and a text: old rmcp.
    Unauthorized,
    /// 200 and an error.
    Ok,
}

impl Disguise {
    pub(crate) const ALL: [Disguise; 6] = [
        Disguise::NotFound,
        Disguise::NotFoundRpc,
        Disguise::NotFoundWithId,
        Disguise::BadRequest,
        Disguise::Unauthorized,
        Disguise::Ok,
    ];

    fn answer(self, id: &Value) -> Response<Body> {
        let error = |code: i64, text: &str| json!({"code": code, "message": text});
        let json = |status, message: Value| whole(status, "application/json", message.to_string());
        let not_found = error(-32001, "Session not found");
        match self {
            Disguise::NotFound => whole(404, "text/plain", "session not found"),
            Disguise::NotFoundRpc => json(404, json!({"jsonrpc": "2.0", "id": null, "error": not_found})),
            Disguise::NotFoundWithId => json(404, json!({"jsonrpc": "2.0", "id": id, "error": not_found})),
            Disguise::BadRequest => {
                let text = "Bad Request: No valid session ID provided";
                json(400, json!({"jsonrpc": "2.0", "error": error(-32000, text)}))
            }
            Disguise::Unauthorized => whole(401, "text/plain", "Unauthorized: Session not found"),
            Disguise::Ok => json(200, json!({"jsonrpc": "2.0", "id": id, "error": not_found})),
        }
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// The sessions that were opened.
    sessions: Vec<String>,
    /// Those that are not known any more, and how that is said.
    forgotten: HashMap<String, Disguise>,
    /// `initialize` is turned away with this status.
    closed: Option<u16>,
    /// A credential that is no good any more.
    expired: Option<&'static str>,
    /// Tools that ran, with their arguments.
    ran: Vec<Value>,
    /// The open GET stream of each session.
    listeners: HashMap<String, mpsc::Sender<Bytes>>,
    /// Answers to our requests, awaited by tools.
    asked: HashMap<String, mpsc::Sender<Value>>,
    next: u64,
}

/// The server.
pub(crate) struct FakeUpstream {
    url: String,
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

struct Shared {
    behaviour: Behaviour,
    state: Mutex<State>,
    /// Counts what was seen, for those who wait for it.
    count: watch::Sender<usize>,
    /// Bytes that `flood` got rid of.
    flooded: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}

/// What the server speaks beneath.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// TLS, under the name `localhost`.
    pub(crate) tls: Option<TlsAcceptor>,
    /// HTTP/2 and nothing else.
    pub(crate) http2: bool,
}

impl FakeUpstream {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::start_over(Way::default(), behaviour).await
    }

    pub(crate) async fn start_over(way: Way, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = match way.tls {
            Some(_) => format!("https://localhost:{port}/mcp"),
            None => format!("http://127.0.0.1:{port}/mcp"),
        };
        let shared = Arc::new(Shared {
            behaviour,
            state: Mutex::default(),
            count: watch::Sender::new(0),
            flooded: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let running = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                stream.set_nodelay(true).expect("an open socket");
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(answer(shared, request).await) }
                });
                let way = way.clone();
                tokio::spawn(async move {
                    match way.tls {
                        None => serve(stream, service, way.http2).await,
                        Some(tls) => {
                            // Else the proxy does not trust this server, or the server not the proxy.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, service, way.http2).await;
                            }
                        }
                    }
                });
            }
        });
        FakeUpstream { url, shared, running }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// The JSON-RPC methods of all POSTs so far, in order; answers are `-`.
    pub(crate) fn methods(&self) -> Vec<String> {
        let method = |seen: &Seen| seen.body["method"].as_str().unwrap_or("-").to_owned();
        self.seen().iter().filter(|seen| seen.method == Method::POST).map(method).collect()
    }

    /// Waits until a request is there that `wanted` picks.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut count = self.shared.count.subscribe();
        within(what, async {
            loop {
                if let Some(seen) = self.seen().into_iter().find(&wanted) {
                    return seen;
                }
                count.changed().await.expect("the server lives");
            }
        })
        .await
    }

    /// Sends `message` on the GET stream of the only session.
    pub(crate) async fn push(&self, message: &Value) {
        self.wait_for("the GET stream", |seen| seen.method == Method::GET).await;
        let listener = {
            let state = self.shared.state();
            let known = state.sessions.iter().find_map(|session| state.listeners.get(session)).cloned();
            known.expect("a GET stream")
        };
        listener.send(event(message)).await.expect("an open GET stream");
    }

    /// Forgets all sessions. Running calls go on, as in a server that evicts sessions.
    pub(crate) fn forget(&self, disguise: Disguise) {
        self.forget_quietly(disguise);
        self.shared.state().listeners.clear();
    }

    /// The same, and the open GET streams stay open.
    pub(crate) fn forget_quietly(&self, disguise: Disguise) {
        let mut state = self.shared.state();
        let sessions = std::mem::take(&mut state.sessions);
        state.forgotten.extend(sessions.into_iter().map(|session| (session, disguise)));
    }

    /// Waits until a session that is known has its GET stream.
    pub(crate) async fn wait_for_listener(&self) {
        let mut changes = self.shared.count.subscribe();
        let is_there = || {
            let state = self.shared.state();
            state.sessions.iter().any(|session| state.listeners.contains_key(session))
        };
        within("the GET stream of the session", async {
            while !is_there() {
                changes.changed().await.expect("the server lives");
            }
        })
        .await;
    }

    /// Answers 401 to this credential from now on, as middleware does: without a challenge.
    pub(crate) fn expire(&self, credential: &'static str) {
        self.shared.state().expired = Some(credential);
    }

    /// Turns every `initialize` away with `status`, or takes them again.
    pub(crate) fn close(&self, status: Option<u16>) {
        self.shared.state().closed = status;
    }

    /// The parameters of the tools that ran, in order.
    pub(crate) fn ran(&self) -> Vec<Value> {
        self.shared.state().ran.clone()
    }

    /// Waits until `count` requests are there that `wanted` picks.
    pub(crate) async fn wait_for_several(&self, what: &str, count: usize, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut changes = self.shared.count.subscribe();
        within(what, async {
            loop {
                let found: Vec<Seen> = self.seen().into_iter().filter(&wanted).collect();
                if found.len() >= count {
                    return found;
                }
                changes.changed().await.expect("the server lives");
            }
        })
        .await
    }

    /// Bytes that `flood` got rid of so far.
    pub(crate) fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::Relaxed)
    }

    /// Stops listening, so that connections are refused.
    pub(crate) fn stop(&self) {
        self.running.abort();
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve<S>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S, http2: bool)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let stream = TokioIo::new(stream);
    let _ = if http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
    } else {
        http1::Builder::new().serve_connection(stream, service).await
    };
}

fn event(message: &Value) -> Bytes {
    Bytes::from(format!("event: message\ndata: {message}\n\n"))
}

fn whole(status: u16, media: &str, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).boxed_unsync();
    Response::builder().status(status).header("content-type", media).body(body).expect("an answer")
}

fn stream(events: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = futures_util::stream::unfold(events, |mut events| async {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(event)), events))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).expect("an answer")
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return whole(400, "text/plain", "half a body") };
    let text = body.to_bytes();
    let body: Value = serde_json::from_slice(&text).unwrap_or_default();
    let (method, headers) = (head.method.clone(), head.headers.clone());
    let seen = Seen { method, version: head.version, headers, body: body.clone(), text };
    let session = head.headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    if seen.method == Method::POST {
        // Before it is answered: some never are.
        note(&shared, &seen);
        return respond(&shared, &seen, session).await;
    }
    let answer = respond(&shared, &seen, session).await;
    note(&shared, &seen);
    answer
}

fn note(shared: &Shared, seen: &Seen) {
    shared.state().seen.push(seen.clone());
    shared.count.send_modify(|count| *count += 1);
}

async fn respond(shared: &Arc<Shared>, seen: &Seen, session: Option<String>) -> Response<Body> {
    let behaviour = &shared.behaviour;
    let sent = seen.headers.get("authorization").and_then(|sent| sent.to_str().ok());
    if behaviour.token.is_some() && sent == Some("Bearer narrow") {
        let mut answer = whole(403, "application/json", r#"{"error":"insufficient_scope"}"#);
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"write\"".parse().expect("a header");
        answer.headers_mut().insert("www-authenticate", challenge);
        return answer;
    }
    if behaviour.token.is_some() && sent == Some("Bearer banned") {
        return whole(403, "text/plain", "banned here");
    }
    if let Some(token) = behaviour.token
        && seen.headers.get("authorization").is_none_or(|sent| sent != &format!("Bearer {token}"))
    {
        let mut answer = whole(401, "application/json", r#"{"error":"invalid_token"}"#);
        let challenge = "Bearer error=\"invalid_token\"".parse().expect("a header");
        answer.headers_mut().insert("www-authenticate", challenge);
        return answer;
    }
    if sent.is_some() && sent == shared.state().expired {
        let error = json!({"code": -32001, "message": "invalid token"});
        let body = json!({"jsonrpc": "2.0", "id": null, "error": error});
        return whole(401, "application/json", body.to_string());
    }
    let is_initialize = seen.body["method"] == "initialize";
    if behaviour.sessions && session.is_none() && !is_initialize {
        return whole(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#,
        );
    }
    if let Some(status) = shared.state().closed.filter(|_| is_initialize) {
        let mut answer = whole(status, "text/plain", "closed");
        answer.headers_mut().insert("retry-after", "7".parse().expect("a header"));
        return answer;
    }
    let disguise = session.as_ref().and_then(|session| shared.state().forgotten.get(session).copied());
    if let Some(disguise) = disguise {
        return disguise.answer(&seen.body["id"]);
    }
    if behaviour.sessions && session.as_ref().is_some_and(|session| !shared.state().sessions.contains(session)) {
        return Disguise::NotFound.answer(&seen.body["id"]);
    }
    match seen.method {
        Method::GET if behaviour.sessions => {
            let (sender, events) = mpsc::channel(64);
            shared.state().listeners.insert(session.unwrap_or_default(), sender);
            stream(events)
        }
        Method::DELETE if behaviour.sessions => {
            shared.state().listeners.remove(&session.unwrap_or_default());
            whole(200, "text/plain", "")
        }
        Method::POST if seen.body.get("method").is_none() => {
            let waiting = shared.state().asked.remove(&seen.body["id"].to_string());
            if let Some(waiting) = waiting {
                let _ = waiting.send(seen.body.clone()).await;
            }
            whole(202, "text/plain", "")
        }
        Method::POST if seen.body.get("id").is_none() => whole(202, "text/plain", ""),
        Method::POST => {
            let (sender, events) = mpsc::channel(64);
            let mut answer = if behaviour.sse {
                tokio::spawn(run(Arc::clone(shared), seen.body.clone(), sender));
                stream(events)
            } else {
                run(Arc::clone(shared), seen.body.clone(), sender).await;
                document(events).await
            };
            if is_initialize && behaviour.sessions {
                let id = {
                    let mut state = shared.state();
                    let id = format!("upstream-session-{}", state.seen.len());
                    state.sessions.push(id.clone());
                    id
                };
                answer.headers_mut().insert("mcp-session-id", id.parse().expect("a header"));
            }
            answer
        }
        _ => whole(405, "text/plain", "no"),
    }
}

/// The last of the events as one JSON document: servers in JSON mode drop the others.
async fn document(mut events: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut last = None;
    while let Some(event) = events.recv().await {
        last = Some(event);
    }
    let Some(last) = last else { return whole(202, "text/plain", "") };
    let text = last.slice("event: message\ndata: ".len()..last.len() - 2);
    whole(200, "application/json", text)
}

/// Runs one request and sends what the server says about it.
async fn run(shared: Arc<Shared>, request: Value, events: mpsc::Sender<Bytes>) {
    let id = request["id"].clone();
    let params = &request["params"];
    if request["method"] == "tools/call" {
        shared.state().ran.push(params.clone());
    }
    let result = match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({"protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {"listChanged": true}, "logging": {}, "resources": {"subscribe": true}},
            "serverInfo": {"name": "fake", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => json!({}),
        "tools/call" => match params["name"].as_str().unwrap_or_default() {
            "echo" => json!({"content": [{"type": "text", "text": params["arguments"]["text"]}]}),
            "progress" => {
                for progress in 1..=3 {
                    let params = json!({"progressToken": params["_meta"]["progressToken"], "progress": progress});
                    let _ = events
                        .send(event(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})))
                        .await;
                }
                json!({"content": []})
            }
            "ask" => {
                let answer = ask(&shared, &events).await;
                json!({"content": [{"type": "text", "text": answer["result"]["text"]}]})
            }
            "hang" => return events.closed().await,
            "quit" => return,
            "browse" => {
                let error = json!({"code": -32000, "message": "the browser session was not found"});
                let _ = events.send(event(&json!({"jsonrpc": "2.0", "id": id, "error": error}))).await;
                return;
            }
            "flood" => {
                let pad = "x".repeat(64 << 10);
                let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": pad}});
                let note = event(&note);
                for _ in 0..FLOOD {
                    shared.flooded.fetch_add(note.len(), Ordering::Relaxed);
                    if events.send(note.clone()).await.is_err() {
                        return;
                    }
                }
                json!({"content": []})
            }
            "stray" => {
                let other = json!({"jsonrpc": "2.0", "id": "nobody's", "result": {}});
                let _ = events.send(event(&other)).await;
                json!({"content": []})
            }
            other => {
                let error = json!({"code": -32602, "message": format!("unknown tool {other}")});
                let _ = events.send(event(&json!({"jsonrpc": "2.0", "id": id, "error": error}))).await;
                return;
            }
        },
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            let _ = events.send(event(&json!({"jsonrpc": "2.0", "id": id, "error": error}))).await;
            return;
        }
    };
    let _ = events.send(event(&json!({"jsonrpc": "2.0", "id": id, "result": result}))).await;
}

/// Asks the client, with an id that collides with those of clients: 0, 1, 2, …
async fn ask(shared: &Arc<Shared>, events: &mpsc::Sender<Bytes>) -> Value {
    let (sender, mut answers) = mpsc::channel(1);
    let id = {
        let mut state = shared.state();
        let id = state.next;
        state.next += 1;
        state.asked.insert(id.to_string(), sender);
        id
    };
    let _ = events
        .send(event(&json!({"jsonrpc": "2.0", "id": id, "method": "sampling/createMessage", "params": {}})))
        .await;
    answers.recv().await.unwrap_or_default()
}
