//! A server of 2026-07-28 and nothing else, over real sockets, that is as strict as the specification lets servers be.
//!
//! Whatever a server should reject is rejected, and noted: a refusal that no test expected ([`Modern::expect_refusals`])
//! fails it when the server goes. What the server itself says is checked against the schema, too: a fake that lies proves
//! nothing. Its tools are in `tools`, what it asks in `input`, its subscriptions in `listen`, and what it does with the
//! requests of older revisions in `legacy`.

mod catalogue;
mod input;
mod legacy;
mod listen;
mod out;
mod strict;
mod tools;
mod wire;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use catalogue::{INVALID, RESOURCE};
pub(crate) use listen::{Goodbye, Listening};
use out::Out;
pub(crate) use tools::FLOOD;
use wire::{Body, Guard, document, stream, whole};

use super::schema::MODERN;
use super::within;

/// What the server does with `initialize` and everything else of older revisions (UPSTREAMS B.2 and D.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Legacy {
    /// 400 and -32022 that names what it speaks: TypeScript with `legacy: 'reject'`.
    Unsupported,
    /// 404 and -32601.
    Unknown,
    /// 400 and -32602.
    InvalidParams,
    /// 400 and -32020: the version header is missing.
    HeaderMismatch,
    /// `initialize` succeeds without a session id, everything after it gets 400 and -32602: rmcp.
    Strict,
    /// Serves it, without a session id.
    Stateless,
    /// Serves it, with a session id.
    Stateful,
}

/// What the server does with requests of 2026-07-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// Serves them.
    Served,
    /// 400 and -32022 that names older versions only: Go with sessions.
    Unsupported,
    /// 400 and -32000: TypeScript 1.
    Foreign,
    /// 400 and a text: what stands in front of a server says so.
    Text,
}

/// How the server behaves. It may change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// Answers requests with event streams.
    pub(crate) sse: bool,
    pub(crate) legacy: Legacy,
    pub(crate) era: Era,
    /// What `server/discover` says of it.
    pub(crate) capabilities: Value,
    pub(crate) ttl_ms: u64,
    pub(crate) cache_scope: &'static str,
    pub(crate) server_info: Option<Value>,
    pub(crate) listening: Listening,
    /// The suffix of the `Mcp-Param-*` header that the tool `region` wants.
    pub(crate) region_header: &'static str,
    pub(crate) tools_per_page: usize,
    /// Compares names without decoding them: Go.
    pub(crate) raw_names: bool,
    /// The only token it takes.
    pub(crate) token: Option<&'static str>,
    /// Answers everything with this status and a text.
    pub(crate) broken: Option<u16>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            sse: true,
            legacy: Legacy::Unsupported,
            era: Era::Served,
            capabilities: json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true}, "logging": {},
                "resources": {"listChanged": true, "subscribe": true}, "completions": {},
                "extensions": {"io.example/thing": {}}}),
            ttl_ms: 0,
            cache_scope: "private",
            server_info: Some(json!({"name": "modern", "version": "7"})),
            listening: Listening::All,
            region_header: "Region",
            tools_per_page: usize::MAX,
            raw_names: false,
            token: None,
            broken: None,
        }
    }
}

/// One request the server saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Counts requests, from 0.
    pub(crate) number: usize,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) raw: String,
}

impl Seen {
    /// The JSON-RPC method; empty where there is none.
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of visible characters"))
    }

    pub(crate) fn params(&self) -> &Value {
        &self.body["params"]
    }

    /// A reserved field of `_meta`, by the last part of its name.
    pub(crate) fn meta(&self, name: &str) -> &Value {
        &self.body["params"]["_meta"][format!("io.modelcontextprotocol/{name}")]
    }

    /// Whether it calls the tool `name`.
    pub(crate) fn calls(&self, name: &str) -> bool {
        self.rpc() == "tools/call" && self.params()["name"] == name
    }

    /// Whether it names the revision of 2026 in either of the two places.
    fn is_modern(&self) -> bool {
        let versions = [self.headers.get("mcp-protocol-version").and_then(|value| value.to_str().ok())];
        let newer = |version: &str| version >= MODERN;
        versions.into_iter().flatten().any(newer) || self.meta("protocolVersion").is_string()
    }
}

/// How the answer to a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything was said.
    Whole,
    /// The client closed it before: a cancellation.
    Abandoned,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// In the order in which they ended, with the numbers of their requests.
    endings: Vec<(usize, Ending)>,
    /// What was turned down, by its code, and why.
    refusals: Vec<(i64, String)>,
    /// Conversations about input that wait for their next round, by their state.
    legs: HashMap<String, input::Leg>,
    listeners: Vec<listen::Listener>,
    /// How many there were at once.
    most_listeners: usize,
    /// Counts states, which are never given twice.
    states: u64,
    sessions: Vec<String>,
    /// Messages that `flood` got rid of.
    flooded: usize,
}

struct Shared {
    manner: Mutex<Manner>,
    state: Mutex<State>,
    /// Changes whenever the state does.
    changes: watch::Sender<u64>,
    /// Whether tools that wait may go on.
    told: watch::Sender<bool>,
}

impl Shared {
    fn manner(&self) -> Manner {
        self.manner.lock().expect("no panic while locked").clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn refuse(&self, code: i64, reason: impl Into<String>) {
        self.state().refusals.push((code, reason.into()));
        self.changed();
    }
}

/// The server.
pub(crate) struct Modern {
    url: String,
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

impl Modern {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            told: watch::Sender::new(false),
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
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Modern { url, shared, running }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Changes how it behaves from now on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.shared.manner.lock().expect("no panic while locked"));
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// The methods of all POSTs so far, in order; those of other requests are their HTTP method.
    pub(crate) fn methods(&self) -> Vec<String> {
        let method =
            |seen: &Seen| if seen.method == Method::POST { seen.rpc().to_owned() } else { seen.method.to_string() };
        self.seen().iter().map(method).collect()
    }

    /// How many requests `wanted` picks.
    pub(crate) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.seen().iter().filter(|seen| wanted(seen)).count()
    }

    /// Waits until `found` finds something.
    pub(crate) async fn until<T>(&self, what: &str, found: impl Fn(&Self) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        within(what, async {
            loop {
                if let Some(found) = found(self) {
                    return found;
                }
                changes.changed().await.expect("the server lives");
            }
        })
        .await
    }

    /// Waits until a request is there that `wanted` picks.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        self.until(what, |server| server.seen().into_iter().find(&wanted)).await
    }

    /// Waits until the answer to a request has ended.
    pub(crate) async fn ending(&self, request: &Seen) -> Ending {
        self.until("the end of an answer", |server| {
            let state = server.shared.state();
            state.endings.iter().find(|(number, _)| *number == request.number).map(|(_, ending)| *ending)
        })
        .await
    }

    /// Messages that `flood` got rid of so far.
    pub(crate) fn flooded(&self) -> usize {
        self.shared.state().flooded
    }

    /// Lets the tools go on that wait for it.
    pub(crate) fn tell(&self) {
        self.shared.told.send_replace(true);
    }

    /// Takes the refusals that a test meant to happen.
    pub(crate) fn expect_refusals(&self, codes: &[i64]) {
        let refusals = std::mem::take(&mut self.shared.state().refusals);
        assert_eq!(refusals.iter().map(|(code, _)| *code).collect::<Vec<_>>(), codes, "{refusals:#?}");
    }
}

impl Drop for Modern {
    fn drop(&mut self) {
        self.running.abort();
        let refusals = std::mem::take(&mut self.shared.state().refusals);
        if !std::thread::panicking() {
            assert!(refusals.is_empty(), "the server had to refuse what nobody should send: {refusals:#?}");
        }
    }
}

/// Takes one request, notes it, and answers as the era of the request demands.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return whole(400, "text/plain", "half a body") };
    let raw = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let body = serde_json::from_str(&raw).unwrap_or_default();
    let seen = {
        let mut state = shared.state();
        let seen = Seen { number: state.seen.len(), method: head.method, headers: head.headers, body, raw };
        state.seen.push(seen.clone());
        seen
    };
    shared.changed();
    let manner = shared.manner();
    if let Some(status) = manner.broken {
        return whole(status, "text/plain", "out of order");
    }
    if manner.token.is_some_and(|token| seen.header("authorization") != Some(&format!("Bearer {token}"))) {
        let mut answer = whole(401, "text/plain", "who are you?");
        answer.headers_mut().insert("www-authenticate", "Bearer".parse().expect("a header"));
        return answer;
    }
    // What is neither POST nor of a session is refused as the modern era has it.
    if !seen.is_modern() && (seen.method == Method::POST || manner.legacy == Legacy::Stateful) {
        return legacy::answer(&shared, &manner, &seen);
    }
    match manner.era {
        Era::Served => serve(shared, manner, seen).await,
        era => legacy::turn_down(era, &seen),
    }
}

/// A request that names 2026-07-28, or a method that nothing but POST.
async fn serve(shared: Arc<Shared>, manner: Manner, seen: Seen) -> Response<Body> {
    if let Some(refused) = strict::refuse(&shared, &manner, &seen) {
        return refused;
    }
    let (sender, events) = mpsc::channel(64);
    let guard = Guard::new(Arc::clone(&shared), seen.number);
    let out = Out::new(Arc::clone(&shared), &seen, sender);
    if seen.rpc() == "subscriptions/listen" {
        return match listen::open(&shared, &manner, &seen, out).await {
            None => stream(events, guard),
            Some(refused) => {
                guard.whole();
                refused
            }
        };
    }
    if manner.sse {
        tokio::spawn(async move { tools::run(&shared, &manner, &seen, out).await });
        return stream(events, guard);
    }
    let ((), document) = tokio::join!(tools::run(&shared, &manner, &seen, out), document(events));
    guard.whole();
    document
}
