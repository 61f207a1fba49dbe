//! A proxy in front of a fake upstream, a session to smuggle into, and what comes of bytes on a connection of their own.

use serde_json::json;

use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, RawClient, post};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

pub(super) async fn both(options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}

/// Sends `bytes` on a connection of their own and reads to its end.
pub(super) async fn answers(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> String {
    let mut client = RawClient::connect(proxy).await;
    client.send_while_taken(bytes.as_ref()).await;
    client.read_to_end().await
}

/// The statuses of all answers, in order.
pub(super) fn statuses(text: &str) -> Vec<u16> {
    let starts = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12));
    starts.map(|status| status.parse().expect("a status")).collect()
}

/// A session that others post into on connections of their own, each a message whose id is the name of the attempt.
pub(super) struct Stage {
    upstream: FakeUpstream,
    pub(super) proxy: Proxy,
    client: LegacyClient,
}

impl Stage {
    pub(super) async fn set() -> Self {
        Self::set_with(("passthrough", "off")).await
    }

    pub(super) async fn set_with(option: (&'static str, &str)) -> Self {
        // What is left open by mistake, and what waits for bytes that do not come, ends soon.
        let options = [("idle-timeout", "500ms"), ("header-timeout", "2s"), ("body-timeout", "500ms"), option];
        let (upstream, proxy) = both(&options).await;
        let mut client = proxy.client().await;
        client.initialize().await;
        Stage { upstream, proxy, client }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.client.endpoint
    }

    /// The start of a POST, up to the fields that say how long it is.
    pub(super) fn head(&self) -> String {
        let endpoint = self.endpoint();
        format!("POST {endpoint} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    }

    /// The path of the server's own endpoint.
    pub(super) fn mcp_path(&self) -> String {
        reqwest::Url::parse(self.upstream.url()).expect("a URL").path().to_owned()
    }

    /// What must never be seen as a request.
    pub(super) fn smuggled(&self) -> String {
        post(self.endpoint(), &message("smuggled"))
    }

    /// Makes all attempts, and sees that each is answered with its statuses and that those marked so, and no others, reached
    /// the server, once.
    pub(super) async fn play(mut self, attempts: &[Attempt]) {
        for attempt in attempts {
            let text = answers(&self.proxy, &attempt.bytes).await;
            assert_eq!(statuses(&text), attempt.statuses, "{}: {text}", attempt.name);
        }
        // Messages start in order: whatever of the attempts was to go up has gone.
        self.client.call("last", "echo", json!({"text": "x"})).await;
        self.client.answer("last").await;
        self.upstream.wait_for("the last", |seen| seen.body["id"] == "last").await;
        let seen = self.upstream.seen();
        for Attempt { name, goes_up, .. } in attempts {
            let count = seen.iter().filter(|seen| seen.body["id"] == *name).count();
            assert_eq!(count, usize::from(*goes_up), "{name} went up");
        }
        let whole = format!("{seen:?}");
        assert!(!whole.contains("smuggled") && !whole.contains("evil.example"), "{whole}");
        drop(self.client);
        self.proxy.stop().await;
    }
}

/// A message whose id is its name.
pub(super) fn message(name: &str) -> String {
    json!({"jsonrpc": "2.0", "id": name, "method": "tools/list"}).to_string()
}

/// One connection.
pub(super) struct Attempt {
    name: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
    goes_up: bool,
}

/// Bytes that are answered with `statuses`, of which nothing goes up.
pub(super) fn stays(name: &'static str, statuses: &'static [u16], bytes: impl Into<Vec<u8>>) -> Attempt {
    Attempt { name, bytes: bytes.into(), statuses, goes_up: false }
}

/// Bytes that are answered with `statuses`, and whose one message called `name` goes up.
pub(super) fn goes_up(name: &'static str, statuses: &'static [u16], bytes: impl Into<Vec<u8>>) -> Attempt {
    Attempt { goes_up: true, ..stays(name, statuses, bytes) }
}
