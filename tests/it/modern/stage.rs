//! A legacy client whose every message is checked, with a proxy and a strict server behind it.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::modern::{Manner, Modern, Seen};
use crate::support::{LegacyClient, Proxy, schema};

/// The newest version that legacy clients speak.
pub(super) const NEWEST: &str = "2025-11-25";

/// What a client of `version` can do, all of it.
pub(super) fn everything(version: &str) -> Value {
    match version {
        "2024-11-05" | "2025-03-26" => json!({"sampling": {}, "roots": {"listChanged": true}}),
        "2025-06-18" => json!({"sampling": {}, "roots": {"listChanged": true}, "elicitation": {}}),
        _ => json!({"sampling": {"tools": {}}, "roots": {"listChanged": true},
            "elicitation": {"form": {}, "url": {}}}),
    }
}

/// A client that looks at everything it gets through the schema of its version.
pub(super) struct Client {
    pub(super) inner: LegacyClient,
    version: &'static str,
    /// The methods of the requests that are not answered yet, by id in JSON.
    asked: HashMap<String, String>,
    last_id: u64,
}

impl Client {
    pub(super) async fn connect(proxy: &Proxy, version: &'static str) -> Self {
        Self::connect_with(proxy, version, &[]).await
    }

    pub(super) async fn connect_with(proxy: &Proxy, version: &'static str, headers: &[(&'static str, &str)]) -> Self {
        let inner = LegacyClient::connect(proxy, headers).await;
        Client { inner, version, asked: HashMap::new(), last_id: 100 }
    }

    /// The same client with another stream.
    pub(super) fn with_stream(mut self, inner: LegacyClient) -> Self {
        self.inner = inner;
        self
    }

    /// `initialize` and its answer.
    pub(super) async fn initialize(&mut self, capabilities: Value) -> Value {
        let params = json!({"protocolVersion": self.version, "capabilities": capabilities,
            "clientInfo": {"name": "it-client", "version": "1.0"}});
        self.ask("initialize", params).await
    }

    /// The whole handshake; the result of `initialize`.
    pub(super) async fn handshake(&mut self, capabilities: Value) -> Value {
        let answer = self.initialize(capabilities).await;
        self.notify("notifications/initialized", None).await;
        answer["result"].clone()
    }

    pub(super) async fn notify(&self, method: &str, params: Option<Value>) {
        let mut message = json!({"jsonrpc": "2.0", "method": method});
        if let Some(params) = params {
            message["params"] = params;
        }
        self.inner.post(message).await;
    }

    /// Sends a request and leaves the answer to come.
    pub(super) async fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.asked.insert(id.to_string(), method.to_owned());
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if !params.is_null() {
            message["params"] = params;
        }
        self.inner.post(message).await;
        id
    }

    /// Notes a request that is sent by other means.
    pub(super) fn expect(&mut self, id: &Value, method: &str) {
        self.asked.insert(id.to_string(), method.to_owned());
    }

    /// Calls a tool and leaves the answer to come.
    pub(super) async fn begin_call(&mut self, tool: &str, arguments: Value) -> u64 {
        let token = self.last_id + 1;
        self.begin("tools/call", json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token}})).await
    }

    /// The next message, which is one of this client's version.
    pub(super) async fn message(&mut self) -> Value {
        let message = self.inner.message().await;
        let is_answer = message.get("method").is_none();
        let answered = self.asked.remove(&message["id"].to_string()).filter(|_| is_answer);
        let wrong = schema::legacy_message(self.version, &message, answered.as_deref());
        assert!(wrong.is_empty(), "{wrong:#?} in {message}");
        message
    }

    /// The messages up to the answer to `id`, which comes last.
    pub(super) async fn until_answer(&mut self, id: u64) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.message().await);
            let last = messages.last().expect("just pushed");
            if last["id"] == id && last.get("method").is_none() {
                return messages;
            }
        }
    }

    /// The answer to `id`, which is the next message.
    pub(super) async fn answer(&mut self, id: u64) -> Value {
        let mut messages = self.until_answer(id).await;
        assert_eq!(messages.len(), 1, "{messages:#?}");
        messages.remove(0)
    }

    /// Sends a request and gives its answer, before which nothing else comes.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        self.answer(id).await
    }

    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin_call(tool, arguments).await;
        self.answer(id).await
    }

    /// Calls `echo`; before the answer the client may be told that lists have changed, as the server is another.
    pub(super) async fn echo_of_another_server(&mut self, words: &str) -> String {
        let id = self.begin_call("echo", json!({"text": words})).await;
        let messages = self.until_answer(id).await;
        let (answer, told) = messages.split_last().expect("the answer");
        let is_change =
            |message: &Value| message["method"].as_str().is_some_and(|method| method.ends_with("/list_changed"));
        assert!(told.iter().all(is_change), "{messages:#?}");
        text(answer).to_owned()
    }

    /// The next message, which is a request called `method`.
    pub(super) async fn question(&mut self, method: &str) -> Value {
        let question = self.message().await;
        assert_eq!(question["method"], method, "{question}");
        assert!(question["id"].is_string(), "an id that collides with none of the client's: {question}");
        question
    }

    /// Answers a request of the server.
    pub(super) async fn reply(&self, question: &Value, result: Value) {
        self.inner.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": result})).await;
    }

    /// Turns a request of the server down.
    pub(super) async fn refuse(&self, question: &Value, code: i64, message: &str) {
        let error = json!({"code": code, "message": message});
        self.inner.post(json!({"jsonrpc": "2.0", "id": question["id"], "error": error})).await;
    }

    /// The session works, and nothing came that was not owed.
    pub(super) async fn still_works(&mut self) {
        assert_eq!(text(&self.call("echo", json!({"text": "still here"})).await), "still here");
    }
}

/// The text of a tool's result.
pub(super) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {answer}"))
}

/// The answers that a tool got to what it asked for.
pub(super) fn gathered(answer: &Value) -> Value {
    serde_json::from_str(text(answer)).expect("JSON")
}

/// What a client says to whom it trusts.
pub(super) fn accepted(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

/// What its model says.
pub(super) fn sampled() -> Value {
    json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "4"}, "stopReason": "endTurn"})
}

/// Its roots.
pub(super) fn rooted() -> Value {
    json!({"roots": [{"uri": "file:///home", "name": "home"}]})
}

/// A server, a proxy, and a client that has shaken hands.
pub(super) struct Stage {
    pub(super) upstream: Modern,
    pub(super) proxy: Proxy,
    pub(super) client: Client,
}

impl Stage {
    /// An ordinary server, and a client of the newest version that can do everything.
    pub(super) async fn open() -> Self {
        Self::with(Manner::default(), NEWEST, everything(NEWEST)).await
    }

    pub(super) async fn version(version: &'static str) -> Self {
        Self::with(Manner::default(), version, everything(version)).await
    }

    pub(super) async fn manner(manner: Manner) -> Self {
        Self::with(manner, NEWEST, everything(NEWEST)).await
    }

    /// A client that can do this and nothing else.
    pub(super) async fn capable(capabilities: Value) -> Self {
        Self::with(Manner::default(), NEWEST, capabilities).await
    }

    pub(super) async fn with(manner: Manner, version: &'static str, capabilities: Value) -> Self {
        let (upstream, proxy) = start(manner, &[]).await;
        let mut client = Client::connect(&proxy, version).await;
        client.handshake(capabilities).await;
        Stage { upstream, proxy, client }
    }

    /// The requests with this method that the server saw.
    pub(super) fn seen(&self, method: &str) -> Vec<Seen> {
        self.upstream.seen().into_iter().filter(|seen| seen.rpc() == method).collect()
    }

    /// Ends the session and the proxy, which checks the books; what is left upstream is no request too many.
    pub(super) async fn end(self) -> Vec<Value> {
        drop(self.client);
        let log = self.proxy.stop().await;
        self.upstream.wait_listeners(0).await;
        log
    }
}

/// A server and a proxy that was told where it is, and nothing else but `options`.
pub(super) async fn start(manner: Manner, options: &[(&'static str, &str)]) -> (Modern, Proxy) {
    let upstream = Modern::start(manner).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}
