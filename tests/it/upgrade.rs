//! Clients that try Streamable HTTP on the legacy URL get it, whatever the server speaks, and those that do not stay legacy.

mod session;
mod translated;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Proxy, http_client, within};

/// A client of Streamable HTTP that was given the legacy URL.
struct Client<'a> {
    proxy: &'a Proxy,
    session: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl<'a> Client<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        Client { proxy, session: None, headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    async fn ask(&self, method: Method, body: Option<&Value>) -> Response {
        let accept = if method == Method::GET { "text/event-stream" } else { "application/json, text/event-stream" };
        let mut request = http_client().request(method, self.proxy.url("/sse")).header("accept", accept);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-06-18");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        within("an answer", request.send()).await.expect("an answer")
    }

    async fn post(&self, body: Value) -> Response {
        self.ask(Method::POST, Some(&body)).await
    }

    /// The handshake; the answer to `initialize`.
    async fn initialize(&mut self) -> Value {
        let answer = self.post(initialize()).await;
        assert_eq!(answer.status(), 200);
        self.session = answer.headers().get("mcp-session-id").map(|id| id.to_str().expect("visible").to_owned());
        let answer = message(answer).await;
        let told = self.post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        assert_eq!(told.status(), 202);
        answer
    }

    async fn call(&self, tool: &str, arguments: Value) -> Response {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}});
        self.post(json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})).await
    }
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {"elicitation": {}}, "clientInfo": {"name": "dual", "version": "1"}}})
}

/// The one message of an answer, be it a document or a stream.
async fn message(answer: Response) -> Value {
    let mut messages = messages(answer).await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

/// All messages of an answer.
async fn messages(answer: Response) -> Vec<Value> {
    let is_stream = answer.headers()["content-type"].to_str().expect("text").starts_with("text/event-stream");
    let text = within("the whole answer", answer.text()).await.expect("a body");
    if !is_stream {
        return vec![serde_json::from_str(&text).expect("JSON")];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn upgrades(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|record| record["event.name"] == "legacy.upgrade").collect()
}
