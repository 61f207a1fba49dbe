//! Clients that try Streamable HTTP on the legacy URL get it, whatever the server speaks, and those that do not stay legacy.

mod forged;
mod room;
mod session;
mod translated;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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

    /// The same in the very words of `text`.
    async fn post_text(&self, text: &str) -> Response {
        let mut request = http_client().post(self.proxy.url("/sse")).header("content-type", "application/json");
        for (name, value) in self.session.iter().map(|id| ("mcp-session-id", id)).chain(self.headers()) {
            request = request.header(name, value);
        }
        within("an answer", request.body(text.to_owned()).send()).await.expect("an answer")
    }

    fn headers(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.headers.iter().map(|(name, value)| (*name, value))
    }

    /// The same session in the hands of another, who shows this credential.
    fn taken_by(&self, authorization: &str) -> Self {
        Client { session: self.session.clone(), ..Client::new(self.proxy) }.with("authorization", authorization)
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

/// A JWT for `subject`; nobody here looks at its signature but the server.
fn jwt(subject: &str, signature: &str) -> String {
    let claims = json!({"iss": "https://as.example", "sub": subject}).to_string();
    format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims))
}

fn upgrades(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|record| record["event.name"] == "legacy.upgrade").collect()
}
