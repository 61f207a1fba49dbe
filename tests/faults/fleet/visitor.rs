//! A legacy client of the test's own, which opens its stream at one replica and posts to whichever it likes.

use std::time::{Duration, Instant};

use reqwest::{Client, Response};
use serde_json::{Value, json};
use sse_sunset::sse::Decoder;
use tokio::time::timeout;

use super::stage::Stage;
use crate::wait::seconds;

/// Longer than anything here takes.
const LIMIT: Duration = seconds(20);

/// A client with a session.
pub(super) struct Visitor<'a> {
    stage: &'a Stage,
    name: String,
    client: Client,
    stream: Response,
    decoder: Decoder,
    /// Path and query to post to.
    endpoint: String,
    calls: u64,
}

/// What became of a POST.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) status: u16,
    pub(super) retry_after: bool,
    pub(super) took: Duration,
}

fn client() -> Client {
    // Fails only if a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().retry(reqwest::retry::never()).pool_max_idle_per_host(0).build().expect("a client")
}

/// Status and text of a page.
pub(super) fn get(url: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let asking = async {
        let answer = client().get(url).send().await?;
        Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
    };
    let answered = runtime.block_on(async { timeout(LIMIT, asking).await });
    answered.unwrap_or_else(|_| panic!("{url}: no answer")).unwrap_or_else(|error| panic!("{url}: {error}"))
}

impl<'a> Visitor<'a> {
    pub(super) fn connect(stage: &'a Stage, name: &str, place: usize) -> Self {
        let (client, base) = (client(), stage.replicas[place].port.base());
        let opening =
            client.get(format!("{base}/sse")).header("host", stage.host()).header("accept", "text/event-stream");
        let stream = stage.runtime.block_on(async { timeout(LIMIT, opening.send()).await });
        let stream = stream.expect("in time").expect("an answer");
        assert_eq!(stream.status(), 200);
        let name = name.to_owned();
        let decoder = Decoder::new(1 << 20);
        let mut visitor = Visitor { stage, name, client, stream, decoder, endpoint: String::new(), calls: 0 };
        visitor.endpoint = visitor.event();
        let info = json!({"name": visitor.name, "version": "1"});
        let params = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info});
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        assert_eq!(visitor.post(place, &hello).status, 202);
        assert_eq!(visitor.message()["id"], 0);
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(visitor.post(place, &initialized).status, 202);
        visitor
    }

    /// Data of the next event.
    fn event(&mut self) -> String {
        self.stage.runtime.block_on(async {
            loop {
                if let Some(event) = self.decoder.next_event().expect("events") {
                    return String::from_utf8(event.data.to_vec()).expect("text");
                }
                let read = timeout(LIMIT, self.stream.chunk()).await;
                let read = read.unwrap_or_else(|_| panic!("{}: nothing comes", self.name));
                let chunk = read.expect("a stream").unwrap_or_else(|| panic!("{}: the stream ended", self.name));
                self.decoder.feed(&chunk);
            }
        })
    }

    fn message(&mut self) -> Value {
        serde_json::from_str(&self.event()).expect("JSON")
    }

    fn post(&self, place: usize, message: &Value) -> Posted {
        let url = format!("{}{}", self.stage.replicas[place].port.base(), self.endpoint);
        let request = self.client.post(url).header("host", self.stage.host());
        let request = request.header("content-type", "application/json").body(message.to_string());
        let since = Instant::now();
        let answer = self.stage.runtime.block_on(async { timeout(LIMIT, request.send()).await });
        let answer = answer.unwrap_or_else(|_| panic!("{}: the POST is not answered", self.name)).expect("an answer");
        let retry_after = answer.headers().contains_key("retry-after");
        Posted { status: answer.status().as_u16(), retry_after, took: since.elapsed() }
    }

    /// Posts a call to the replica of this place, and gives its id and what became of the POST.
    pub(super) fn begin(&mut self, place: usize) -> (u64, Posted) {
        self.calls += 1;
        let arguments = json!({"token": self.token(self.calls)});
        let params = json!({"name": "count", "arguments": arguments});
        let call = json!({"jsonrpc": "2.0", "id": self.calls, "method": "tools/call", "params": params});
        (self.calls, self.post(place, &call))
    }

    /// Reads until the answer to `id` comes, which must be the right one. Answers to calls before it may come: of those it is not
    /// known whether they were taken.
    pub(super) fn answer(&mut self, id: u64) {
        loop {
            let message = self.message();
            let answered = message["id"].as_u64().unwrap_or_else(|| panic!("{}: {message}", self.name));
            let text = format!("counted {}", self.token(answered));
            assert_eq!(message["result"]["content"][0]["text"], text, "{}: {message}", self.name);
            assert!(answered <= id, "{}: {message} while waiting for {id}", self.name);
            if answered == id {
                return;
            }
        }
    }

    /// A call that has to succeed, through the replica of this place.
    pub(super) fn call(&mut self, place: usize) {
        let (id, posted) = self.begin(place);
        assert_eq!(posted.status, 202, "{} at {place}: {posted:?}", self.name);
        self.answer(id);
    }

    /// A call that the replica of this place cannot hand on: told so in time.
    pub(super) fn refused(&mut self, place: usize) {
        let (_, posted) = self.begin(place);
        assert_eq!(posted.status, 503, "{} at {place}: {posted:?}", self.name);
        assert!(posted.retry_after, "{posted:?}");
        assert!(posted.took < Duration::from_millis(2_500), "{posted:?}");
    }

    /// Whether a call is taken through the replica of this place; if so, it is answered.
    pub(super) fn is_served(&mut self, place: usize) -> bool {
        let (id, posted) = self.begin(place);
        let is_served = posted.status == 202;
        if is_served {
            self.answer(id);
        } else {
            assert_eq!(posted.status, 503, "{} at {place}: {posted:?}", self.name);
        }
        is_served
    }

    fn token(&self, call: u64) -> String {
        format!("{}-{call}", self.name)
    }
}
