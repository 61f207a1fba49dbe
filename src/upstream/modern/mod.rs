//! The modern era (2026-07-28), as the proxy speaks it for clients of older revisions.
//!
//! To the session's task a [`Session`] is a server of the session era: it takes what the client posts, answers, asks, and
//! has a stream for what happens outside of calls. Toward the upstream it holds nothing: every request says again who
//! asks and what it can do. What changes on the way, message by message, is UPSTREAMS part C.

mod call;
mod discover;
mod headers;
mod input;
mod listen;
mod params;
mod request;
mod rounds;
pub mod shape;
mod subscriptions;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::{Notify, oneshot};

use super::transport::{Content, Messages};
use super::{Answer, End, Fault, Item, Upstream};
use crate::mcp::{self, Message, MessageKind, Object, RequestId, RpcError, code, error_response};
use call::Call;
use input::Reaction;
use params::ToolHeaders;
use request::{Facts, Request};
use subscriptions::Subscriptions;

pub(super) use discover::{Discovered, Discoveries, Discovery, ask, discover, is_refusal, question};
pub(super) use listen::Hub;
pub(crate) use listen::Key;
pub(super) use request::Facts as ClientFacts;

/// Sessions so far.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// Pages of `tools/list` that are read to find one tool.
const MAX_PAGES: usize = 32;
/// The levels of RFC 5424 §6.2.1, as MCP names them.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// One session's dealings with a server that knows no sessions.
#[derive(Debug, Clone)]
pub(super) struct Session {
    shared: Arc<Shared>,
}

/// What its requests have in common.
#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    facts: Facts,
    discovery: Arc<Discovery>,
    /// The level that the client set: without one the server logs nothing.
    level: Mutex<Option<String>>,
    /// Tools with arguments that go in headers too.
    tools: Mutex<HashMap<String, Arc<ToolHeaders>>>,
    /// Running requests by the client's id.
    calls: Mutex<HashMap<RequestId, Arc<Notify>>>,
    /// The server's questions that the client has not answered.
    asked: Mutex<HashMap<RequestId, oneshot::Sender<Reaction>>>,
    last_asked: AtomicU64,
    /// Tells it from the other sessions of the process.
    number: u64,
    subscriptions: Subscriptions,
}

/// What a message came to.
#[derive(Debug)]
pub(super) enum Reply {
    Answer(Answer),
    /// The server has been replaced by one of the session era; nothing ran.
    Outdated,
}

/// Tools whose definition was found wanting, so that each is complained of once and not for every session.
#[derive(Debug, Default)]
pub(super) struct Warned {
    names: Mutex<BTreeSet<String>>,
}

/// Names that are remembered.
const MAX_WARNED: usize = 1000;

impl Warned {
    fn warn(&self, name: &str, reason: &str) {
        let mut names = lock(&self.names);
        if names.len() < MAX_WARNED && names.insert(name.to_owned()) {
            tracing::warn!(
                tool = name,
                reason,
                "a tool is kept from clients: its x-mcp-header is invalid (MCP 2026-07-28, streamable-http §Schema Extension)"
            );
        }
    }
}

impl Session {
    /// A session for the client of `facts` with the server of `discovery`.
    pub(super) fn new(upstream: Upstream, facts: Facts, discovery: Arc<Discovery>) -> Self {
        Session {
            shared: Arc::new(Shared {
                upstream,
                facts,
                discovery,
                level: Mutex::default(),
                tools: Mutex::default(),
                calls: Mutex::default(),
                asked: Mutex::default(),
                last_asked: AtomicU64::new(0),
                number: SESSIONS.fetch_add(1, Ordering::Relaxed) + 1,
                subscriptions: Subscriptions::default(),
            }),
        }
    }

    /// The answer to the client's `initialize`: the server's own word if it was `asked_now`, under the client's credential.
    pub(super) fn greet(&self, id: &RequestId, asked_now: bool) -> Answer {
        let Shared { upstream, facts, discovery, .. } = &*self.shared;
        let mut answer = result(id, &discovery.initialize_result(facts.profile.version(), upstream.host()));
        if let Content::Messages(messages) = &mut answer.body {
            messages.is_servers = asked_now;
        }
        answer
    }

    /// Takes what the client says.
    pub(super) fn post(&self, body: &Bytes, headers: &HeaderMap) -> BoxFuture<'static, Result<Reply, Fault>> {
        // It was read once already on its way here.
        let Ok(Some(message)) = mcp::parse(body).map(|mut messages| messages.pop()) else { return answer(accepted()) };
        match message.kind() {
            MessageKind::Request { id, method } => self.request(id, method, &message, headers),
            MessageKind::Notification { method } => {
                if &**method == "notifications/cancelled" {
                    self.cancel(&message);
                }
                // There is nothing else that a client may notify of: its roots are read anew each time they are asked for,
                // and nobody listens to its progress.
                answer(accepted())
            }
            MessageKind::Response { id, .. } => {
                self.react(id.as_ref(), &message, headers);
                answer(accepted())
            }
        }
    }

    fn request(
        &self,
        id: &RequestId,
        method: &str,
        message: &Message,
        headers: &HeaderMap,
    ) -> BoxFuture<'static, Result<Reply, Fault>> {
        let params = message.params_text();
        match method {
            "ping" => answer(result(id, "{}")),
            "logging/setLevel" => answer(self.set_level(id, params)),
            "resources/subscribe" | "resources/unsubscribe" => {
                let session = Arc::clone(&self.shared);
                let (id, params, headers) = (id.clone(), params.map(str::to_owned), headers.clone());
                let begins = method == "resources/subscribe";
                async move {
                    let changed = subscriptions::change(&session, begins, params.as_deref(), &headers).await;
                    Ok(Reply::Answer(match changed {
                        Ok(()) => result(&id, "{}"),
                        Err(subscriptions::Refused::Rejected(answer)) => answer,
                        Err(subscriptions::Refused::Error(error)) => failure(&id, &error),
                    }))
                }
                .boxed()
            }
            // Spoken by us alone, or gone from the protocol.
            _ if method.starts_with("tasks/") || matches!(method, "initialize" | "subscriptions/listen") => {
                answer(failure(id, &unknown(method)))
            }
            _ => match Call::of(Arc::clone(&self.shared), id.clone(), method, params, headers.clone()) {
                Ok(call) => call.begin().boxed(),
                Err(error) => answer(failure(id, &error)),
            },
        }
    }

    /// The stream for what happens outside of calls.
    pub(super) fn listen(&self, headers: &HeaderMap) -> BoxFuture<'static, Result<Answer, Fault>> {
        subscriptions::listen(Arc::clone(&self.shared), headers.clone()).boxed()
    }

    fn set_level(&self, id: &RequestId, params: Option<&str>) -> Answer {
        if !self.shared.discovery.offers.logging {
            return failure(id, &not_offered("logging/setLevel"));
        }
        let level = params.and_then(Object::of).and_then(|params| params.get("level").map(str::to_owned));
        let level = level.and_then(|level| serde_json::from_str::<String>(&level).ok());
        let Some(level) = level.filter(|level| LEVELS.contains(&level.as_str())) else {
            let text = format!("params.level must be one of {} (sent by the client)", LEVELS.join(", "));
            return failure(id, &RpcError::new(code::INVALID_PARAMS, "invalid_params", text));
        };
        *lock(&self.shared.level) = Some(level);
        result(id, "{}")
    }

    fn cancel(&self, message: &Message) {
        let cancelled = message.request_id_param().and_then(|id| self.shared.calls().get(&id).cloned());
        if let Some(cancelled) = cancelled {
            cancelled.notify_one();
        }
    }

    /// The client answers a question.
    fn react(&self, id: Option<&RequestId>, message: &Message, headers: &HeaderMap) {
        let Some(waiting) = id.and_then(|id| self.shared.asked().remove(id)) else { return };
        let answer = message.result_text().ok_or(message.error_text().unwrap_or_default());
        let answer = answer.map(str::to_owned).map_err(str::to_owned);
        // The call may be over meanwhile.
        let _ = waiting.send(Reaction { answer, headers: headers.clone() });
    }
}

impl Shared {
    fn level(&self) -> Option<String> {
        lock(&self.level).clone()
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<RequestId, Arc<Notify>>> {
        lock(&self.calls)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<RequestId, oneshot::Sender<Reaction>>> {
        lock(&self.asked)
    }

    /// An id for a question, and where its answer comes in.
    fn ask(&self) -> (RequestId, oneshot::Receiver<Reaction>) {
        let id = RequestId::text(&format!("q{}", self.last_asked.fetch_add(1, Ordering::Relaxed) + 1));
        let (sender, receiver) = oneshot::channel();
        self.asked().insert(id.clone(), sender);
        (id, receiver)
    }

    /// A name for an elicitation by URL, which no other has.
    fn elicitation_id(&self, question: &RequestId) -> String {
        format!("{}-{}", self.number, question.as_json().trim_matches('"'))
    }

    /// What a result says of tools is noted, and what no client may be given is left out of it.
    fn note_list<'a>(&self, method: &str, result: &'a str) -> Cow<'a, str> {
        if method != "tools/list" {
            return Cow::Borrowed(result);
        }
        let params::Noted { result: listed, headers: tools, dropped } = params::note_tools(result);
        for (name, reason) in dropped {
            self.upstream.warned().warn(&name, &reason);
        }
        let mut known = lock(&self.tools);
        for (name, headers) in tools {
            known.insert(name, Arc::new(headers));
        }
        listed
    }

    /// The headers that repeat arguments of a call.
    fn tool_headers(&self, method: &str, request: &Request) -> Vec<(HeaderName, HeaderValue)> {
        if method != "tools/call" {
            return Vec::new();
        }
        let tool = request.name().and_then(|name| lock(&self.tools).get(name).cloned());
        tool.map(|tool| tool.values(request.arguments().as_deref())).unwrap_or_default()
    }

    /// Lists the tools until the one named is found, for the headers that it wants now.
    async fn learn_tool(&self, name: &str, headers: &HeaderMap) {
        lock(&self.tools).remove(name);
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let params = cursor.as_ref().map(|cursor| format!(r#"{{"cursor":{cursor}}}"#));
            let Ok(request) = Request::of("tools/list", params.as_deref(), &self.facts, None) else { return };
            let (_, exchange) = request.exchange_with(None, headers, &[]);
            let Ok(answer) = self.upstream.transport().send(exchange).await else { return };
            let mut replies = super::Replies::of(answer);
            let mut result = None;
            while let Some(item) = replies.next().await {
                if let Item::Message(message) = item
                    && let Some(text) = message.result_text()
                {
                    result = Some(text.to_owned());
                }
            }
            let Some(result) = result else { return };
            self.note_list("tools/list", &result);
            let next = Object::of(&result).and_then(|result| result.get("nextCursor").map(str::to_owned));
            cursor = next.filter(|next| next != "null");
            if cursor.is_none() || lock(&self.tools).contains_key(name) {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(method: &str) -> RpcError {
    let text =
        format!("Method not found: {method} (the upstream speaks {}, which has no such method)", mcp::MODERN_VERSION);
    RpcError::new(code::METHOD_NOT_FOUND, "method_not_found", text)
}

/// What the server does not offer is answered here, in the words in which it would turn it down.
fn not_offered(method: &str) -> RpcError {
    let text = format!("Method not found: {method} (the upstream does not offer it)");
    RpcError::new(code::METHOD_NOT_FOUND, "method_not_found", text)
}

fn answer(answer: Answer) -> BoxFuture<'static, Result<Reply, Fault>> {
    futures_util::future::ready(Ok(Reply::Answer(answer))).boxed()
}

/// 202, as to any notification or response.
fn accepted() -> Answer {
    of_items(StatusCode::ACCEPTED, Vec::new())
}

fn result(id: &RequestId, result: &str) -> Answer {
    said(&mcp::result_response(id, result))
}

fn failure(id: &RequestId, error: &RpcError) -> Answer {
    said(&error_response(id, error))
}

fn said(text: &Bytes) -> Answer {
    let messages = mcp::parse(text).unwrap_or_default();
    of_items(StatusCode::OK, messages.into_iter().map(Item::Message).collect())
}

fn of_items(status: StatusCode, mut items: Vec<Item>) -> Answer {
    items.push(Item::End(End { fault: None, last_id: None, retry: None }));
    let messages = Messages { items: stream::iter(items).boxed(), held: Arc::default(), is_servers: false };
    Answer { status, headers: HeaderMap::new(), body: Content::Messages(messages) }
}
