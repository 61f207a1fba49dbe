//! A legacy client that shows every event as it came.

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use sse_sunset::sse::{Decoder, Event};

use super::{Proxy, http_client, within};

/// What a POST was answered with.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

/// What a client has left that lost its stream.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) endpoint: String,
    pub(crate) last_event_id: Option<String>,
}

/// An open stream and where it is posted to.
pub(crate) struct LegacyClient {
    http: Client,
    stream: Response,
    decoder: Decoder,
    /// Everything that came, byte for byte.
    pub(crate) raw: Vec<u8>,
    pub(crate) endpoint: String,
    base: String,
    headers: Vec<(&'static str, String)>,
}

impl LegacyClient {
    /// Opens a stream with `headers`, which are sent on every POST too, and reads the endpoint event.
    pub(crate) async fn connect(proxy: &Proxy, headers: &[(&'static str, &str)]) -> Self {
        Self::connect_to(&proxy.url(""), headers).await
    }

    /// The same for a proxy that is only known by its URL.
    pub(crate) async fn connect_to(base: &str, headers: &[(&'static str, &str)]) -> Self {
        Self::connect_by(http_client(), base, headers).await
    }

    /// The same by an HTTP client of one's own: several streams may then share a connection.
    pub(crate) async fn connect_by(http: Client, base: &str, headers: &[(&'static str, &str)]) -> Self {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut request = http.get(format!("{base}/sse")).header("accept", "text/event-stream");
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        let stream = within("the stream", request.send()).await.expect("a stream");
        assert_eq!(stream.status(), 200);
        let (decoder, base) = (Decoder::new(64 << 20), base.to_owned());
        let mut client =
            LegacyClient { http, stream, decoder, raw: Vec::new(), endpoint: String::new(), base, headers };
        let endpoint = client.event().await.expect("an endpoint event");
        assert_eq!(endpoint.kind.as_deref(), Some(&b"endpoint"[..]));
        client.endpoint = String::from_utf8(endpoint.data.to_vec()).expect("utf-8");
        client
    }

    /// The id of the last event that came.
    pub(crate) fn last_event_id(&self) -> String {
        String::from_utf8(self.decoder.last_id().expect("an event with an id").to_vec()).expect("utf-8")
    }

    /// From now on its POSTs come to `proxy`, as a balancer may have it.
    pub(crate) fn post_to(&mut self, proxy: &Proxy) {
        self.base = proxy.url("");
    }

    /// Loses its stream, as when the network breaks; what it may post to stays.
    pub(crate) fn lose_stream(self) -> Lost {
        Lost {
            endpoint: self.endpoint.clone(),
            last_event_id: self.decoder.last_id().map(|id| String::from_utf8_lossy(id).into_owned()),
        }
    }

    pub(crate) fn stream_headers(&self) -> &reqwest::header::HeaderMap {
        self.stream.headers()
    }

    /// The next event; `None` when the stream is over. Comments are no events, and do not make the wait any longer.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        within("an event", async {
            loop {
                if let Some(event) = self.decoder.next_event().expect("small events") {
                    return Some(event);
                }
                let chunk = self.stream.chunk().await.ok().flatten()?;
                self.raw.extend_from_slice(&chunk);
                self.decoder.feed(&chunk);
            }
        })
        .await
    }

    /// Reads on until `text` stands in what came, with or without an event.
    pub(crate) async fn read_until(&mut self, text: &str) {
        within(text, async {
            while !String::from_utf8_lossy(&self.raw).contains(text) {
                let chunk = self.stream.chunk().await.expect("an open stream").expect("more of it");
                self.raw.extend_from_slice(&chunk);
                self.decoder.feed(&chunk);
            }
        })
        .await;
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Value {
        let event = self.event().await.expect("a message before the end of the stream");
        assert_eq!(event.kind.as_deref(), Some(&b"message"[..]), "messages are named");
        serde_json::from_slice(&event.data).expect("JSON")
    }

    /// The messages up to the answer to `id`, which comes last.
    pub(crate) async fn until_answer(&mut self, id: impl Into<Value>) -> Vec<Value> {
        let id = id.into();
        let mut messages = Vec::new();
        loop {
            let message = self.message().await;
            let is_it = message["id"] == id && message.get("method").is_none();
            messages.push(message);
            if is_it {
                return messages;
            }
        }
    }

    pub(crate) async fn answer(&mut self, id: impl Into<Value>) -> Value {
        self.until_answer(id).await.pop().expect("the answer is the last")
    }

    /// POSTs a text with headers of its own.
    pub(crate) async fn post_text(&self, text: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Posted {
        let mut request = self.http.post(format!("{}{}", self.base, self.endpoint)).body(text);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in self.headers.iter().map(|(name, value)| (*name, value.as_str())) {
            if !headers.iter().any(|(other, _)| *other == name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = within("an answer to the POST", request.send()).await.expect("an answer");
        let (status, headers) = (answer.status(), answer.headers().clone());
        Posted { status, headers, body: answer.text().await.expect("a text") }
    }

    /// POSTs a message and expects that it is taken.
    pub(crate) async fn post(&self, message: Value) {
        let posted = self.post_text(message.to_string(), &[]).await;
        assert_eq!((posted.status.as_u16(), posted.body.as_str()), (202, "Accepted"), "{message}");
    }

    /// The handshake, with an ordinary client's `initialize`.
    pub(crate) async fn initialize(&mut self) -> Value {
        self.post(initialize("it-client")).await;
        let answer = self.answer(0).await;
        self.post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, id: impl Into<Value>, tool: &str, arguments: Value) {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}});
        self.post(json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": params})).await;
    }
}

fn initialize(name: &str) -> Value {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {"sampling": {}, "roots": {}},
        "clientInfo": {"name": name, "version": "1.0"}});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
}
