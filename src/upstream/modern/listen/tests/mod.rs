//! Streams shared by sessions, against a server that does what each test tells it. Time is simulated: [`quiet`] passes
//! when nothing is left to be done.

mod endings;
mod sharing;
mod subscribing;

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::member::Changes;
use super::*;
use crate::mcp::{RpcError, code};
use crate::upstream::{Answer, Body, Exchange, Fault, Sending};

const ALL: Kinds = Kinds { tools: true, prompts: true, resources: true };
const TOOLS: Kinds = Kinds { tools: true, prompts: false, resources: false };
const NONE: Kinds = Kinds { tools: false, prompts: false, resources: false };
const TOOLS_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const UNKNOWN_METHOD: &str =
    r#"{"jsonrpc":"2.0","id":"listen-1","error":{"code":-32601,"message":"Method not found"}}"#;

/// Hands every request to the test.
#[derive(Debug)]
struct Line(mpsc::Sender<Asked>);

/// A request, until the test has answered it.
#[derive(Debug)]
struct Asked {
    exchange: Exchange,
    answer: oneshot::Sender<Result<Answer, Fault>>,
}

/// The server's end of an open stream.
struct Stream {
    id: Value,
    body: mpsc::Sender<Result<Bytes, Fault>>,
}

impl Transport for Line {
    fn send(&self, exchange: Exchange) -> Sending {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Asked { exchange, answer }).expect("the test reads its requests");
        Box::pin(async { answered.await.unwrap_or(Err(Fault::GivenUp)) })
    }
}

impl Asked {
    fn request(&self) -> Value {
        serde_json::from_slice(&self.exchange.body).expect("JSON")
    }

    fn filter(&self) -> Value {
        self.request()["params"]["notifications"].clone()
    }

    /// Opens the stream and honours `filter`.
    async fn acknowledge(self, filter: Value) -> Stream {
        let (body, chunks) = mpsc::channel(64);
        let id = self.request()["id"].clone();
        let chunks = futures_util::stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
        self.answer(StatusCode::OK, "text/event-stream", &[], Box::pin(chunks));
        let stream = Stream { id, body };
        stream.say("notifications/subscriptions/acknowledged", json!({ "notifications": filter })).await;
        stream
    }

    /// Honours all that was asked.
    async fn honour(self) -> Stream {
        let filter = self.filter();
        self.acknowledge(filter).await
    }

    fn json(self, status: u16, body: &'static str) {
        self.json_with(status, &[], body);
    }

    fn json_with(self, status: u16, headers: &[(HeaderName, &'static str)], body: &'static str) {
        let body = futures_util::stream::iter([Ok(Bytes::from_static(body.as_bytes()))]);
        self.answer(StatusCode::from_u16(status).expect("a status"), "application/json", headers, Box::pin(body));
    }

    fn answer(self, status: StatusCode, media: &'static str, more: &[(HeaderName, &'static str)], body: Body) {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media))]);
        for (name, value) in more {
            headers.append(name, HeaderValue::from_static(value));
        }
        // A request that was given up meanwhile is not answered.
        let _ = self.answer.send(Ok(Answer { status, headers, body: body.into() }));
    }
}

impl Stream {
    /// Sends a notification, marked as the specification wants it.
    async fn say(&self, method: &str, mut params: Value) {
        params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": self.id });
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
    }

    async fn updated(&self, uri: &str) {
        self.say("notifications/resources/updated", json!({ "uri": uri })).await;
    }

    async fn send(&self, message: &Value) {
        let event = format!("event: message\ndata: {message}\n\n");
        self.body.send(Ok(event.into())).await.expect("the stream is read");
    }

    fn is_closed(&self) -> bool {
        self.body.is_closed()
    }
}

/// The hub and its server.
struct Stage {
    hub: Hub,
    tasks: Tasks,
    requests: mpsc::Receiver<Asked>,
}

impl Stage {
    fn set() -> Stage {
        let (line, requests) = mpsc::channel(64);
        let tasks = Tasks::default();
        Stage { hub: Hub::new(Arc::new(Line(line)), tasks.clone()), tasks, requests }
    }

    fn join(&self, kinds: Kinds) -> Member {
        self.hub.join(&credential("a"), kinds)
    }

    async fn asked(&mut self) -> Asked {
        let asked = timeout(Duration::from_secs(3600), self.requests.recv()).await;
        asked.expect("a request within the hour").expect("the hub lives")
    }

    /// How many requests wait; they are left unanswered and given up.
    async fn asked_again(&mut self) -> usize {
        quiet().await;
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

fn credential(token: &str) -> HeaderMap {
    let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a header");
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

/// Passes when every task waits for something else than its turn.
async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}

/// What a session can take now.
async fn heard(changes: &mut Changes) -> Vec<String> {
    quiet().await;
    let mut heard = Vec::new();
    while let Some(Some(change)) = changes.next().now_or_never() {
        match change {
            // What the server wrote and what is made up differ in this alone.
            Change::Notification(text) => {
                heard.push(String::from_utf8(text.to_vec()).expect("UTF-8").replace(r#","params":{}"#, ""));
            }
            Change::Rejected(rejection) => panic!("{rejection:?}"),
        }
    }
    heard
}

fn updated(uri: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#)
}

/// A subscription under way.
fn subscribing(stage: &Stage, member: &Member, uri: &str) -> tokio::task::JoinHandle<Result<(), RpcError>> {
    stage.tasks.spawn(member.subscribe(uri))
}
