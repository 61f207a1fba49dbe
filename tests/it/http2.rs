//! HTTP/2 in front: many streams on one connection, none of which harms another.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{LegacyClient, pass, stuck, within};
use crate::tls::Secure;

/// A connection of one's own, and what becomes of it.
struct Raw {
    requests: SendRequest<Bytes>,
    pings: h2::PingPong,
    end: JoinHandle<Result<(), h2::Error>>,
    base: String,
}

impl Raw {
    async fn connect(secure: &Secure) -> Self {
        let stream = secure.authority.dial(secure.proxy.address, "h2").await;
        let (requests, mut connection) = within("a connection", h2::client::handshake(stream)).await.expect("HTTP/2");
        let pings = connection.ping_pong().expect("pings");
        Raw { requests, pings, end: tokio::spawn(connection), base: secure.proxy.https_url() }
    }

    fn request(&self, method: &str, path: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request.header("content-type", "application/json").body(()).expect("a request")
    }

    /// Waits until the proxy has seen all that was sent.
    async fn seen(&mut self) -> Result<(), h2::Error> {
        within("a pong", self.pings.ping(h2::Ping::opaque())).await.map(|_| ())
    }

    async fn ready(&mut self) -> Result<(), h2::Error> {
        self.requests = within("room for a stream", self.requests.clone().ready()).await?;
        Ok(())
    }
}

async fn assert_is_served(client: &mut LegacyClient) {
    client.call(9, "echo", json!({"text": "served"})).await;
    assert_eq!(client.answer(9).await["result"]["content"][0]["text"], "served");
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let secure = Secure::start(&[]).await;
    let (http, base) = (secure.authority.client(true, None), secure.proxy.https_url());
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(LegacyClient::connect_by(http.clone(), &base, &[]).await);
    }
    for client in &mut clients {
        client.initialize().await;
    }
    secure.proxy.metrics_show(|metrics| metrics.connections_active.get() == 1).await;
    // One that leaves is noticed, and the others go on.
    drop(clients.pop());
    assert_eq!(secure.proxy.logged("legacy.end", 1).await[0]["session.end.reason"], "client_disconnect");
    for client in &mut clients {
        assert_is_served(client).await;
    }
    drop(clients);
    secure.proxy.stop().await;
}

/// Each holds a connection to the server, and a hundred of them fit on one of the client's.
#[tokio::test]
async fn requests_that_are_passed_on_have_a_limit_however_few_connections_they_come_on() {
    let secure = Secure::start(&[("passthrough", "mcp"), ("max-connections", "3")]).await;
    let mut raw = Raw::connect(&secure).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        raw.ready().await.expect("a stream");
        let request = raw.request("POST", "/mcp");
        open.push(raw.requests.send_request(request, false).expect("a stream"));
    }
    raw.seen().await.expect("a connection");
    secure
        .proxy
        .metrics_show(|metrics| metrics.exposition(sse_sunset::metrics::Format::Classic).contains("passed_through 3"))
        .await;
    let request = raw.request("GET", "/mcp");
    let (refused, _) = raw.requests.send_request(request, true).expect("a stream");
    let refused = within("an answer", refused).await.expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // Legacy clients do not suffer from it, and when one is done there is room.
    let mut legacy = secure.client(true).await;
    legacy.initialize().await;
    let (answer, mut body) = open.pop().expect("one");
    body.send_reset(Reason::CANCEL);
    drop(answer);
    secure
        .proxy
        .metrics_show(|metrics| metrics.exposition(sse_sunset::metrics::Format::Classic).contains("passed_through 2"))
        .await;
    let request = raw.request("GET", "/mcp");
    let (served, _) = raw.requests.send_request(request, true).expect("a stream");
    assert_ne!(within("an answer", served).await.expect("an answer").status(), 503);
    drop((open, legacy));
    raw.end.abort();
    secure.proxy.stop().await;
}

#[tokio::test]
async fn stream_that_takes_nothing_is_ended_alone() {
    let secure = Secure::start(&[]).await;
    let (http, base) = (secure.authority.client(true, None), secure.proxy.https_url());
    let mut stalled = LegacyClient::connect_by(http.clone(), &base, &[]).await;
    let mut other = LegacyClient::connect_by(http, &base, &[]).await;
    stalled.initialize().await;
    other.initialize().await;
    stalled.call("flood", "flood", json!({})).await;
    for _ in 0..20 {
        stuck(&secure.upstream, &mut other).await;
        if secure.proxy.log().iter().any(|record| record["event.name"] == "legacy.end") {
            break;
        }
        pass(Duration::from_secs(61)).await;
    }
    assert_eq!(secure.proxy.logged("legacy.end", 1).await[0]["session.end.reason"], "slow_consumer");
    assert_is_served(&mut other).await;
    secure.proxy.metrics_show(|metrics| metrics.connections_active.get() == 1).await;
    while stalled.event().await.is_some() {}
    drop((stalled, other));
    secure.proxy.stop().await;
}

#[tokio::test]
async fn new_stream_while_closing_is_refused_alone() {
    let mut secure = Secure::start(&[]).await;
    let (http, base) = (secure.authority.client(true, None), secure.proxy.https_url());
    let mut busy = LegacyClient::connect_by(http.clone(), &base, &[]).await;
    busy.initialize().await;
    busy.call(1, "ask", json!({})).await;
    let question = busy.message().await;
    let mut idle = LegacyClient::connect_by(http, &base, &[]).await;
    let mut raw = Raw::connect(&secure).await;
    raw.seen().await.expect("a connection");
    secure.proxy.begin_stop();
    // The idle session ends as soon as the proxy closes: from then on new streams are turned away.
    assert!(idle.event().await.is_none());
    raw.ready().await.expect("an open connection");
    let (answer, _) = raw.requests.send_request(raw.request("GET", "/sse"), true).expect("a stream");
    let refused = within("the refusal", answer).await.expect_err("no answer");
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM), "{refused}");
    // The connection is as good as before, for what has to be said to sessions that run.
    raw.ready().await.expect("an open connection");
    let (answer, _) = raw.requests.send_request(raw.request("GET", "/nowhere"), true).expect("a stream");
    assert_eq!(within("an answer", answer).await.expect("an answer").status(), 404);
    busy.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "in time"}})).await;
    assert_eq!(busy.answer(1).await["result"]["content"][0]["text"], "in time");
    assert!(busy.event().await.is_none());
    drop((busy, idle));
    let end = within("the end of the connection", &mut raw.end).await.expect("no panic");
    assert!(end.is_ok(), "it ends in order: {end:?}");
    secure.proxy.stop().await;
}

/// CVE-2023-44487: requests that are called off as soon as they are sent.
#[tokio::test]
async fn flood_of_resets_ends_its_connection_and_no_other() {
    let secure = Secure::start(&[]).await;
    let mut other = secure.client(true).await;
    other.initialize().await;
    let mut raw = Raw::connect(&secure).await;
    // As many that are answered harm nobody.
    for _ in 0..100 {
        let (answer, _) = raw.requests.send_request(raw.request("GET", "/nowhere"), true).expect("a stream");
        assert_eq!(within("an answer", answer).await.expect("an answer").status(), 404);
        raw.ready().await.expect("an open connection");
    }
    for _ in 0..50 {
        let (_, mut stream) = raw.requests.send_request(raw.request("GET", "/nowhere"), true).expect("a stream");
        stream.send_reset(Reason::CANCEL);
    }
    let end = within("the end of the connection", raw.end).await.expect("no panic").expect_err("it is thrown out");
    assert_eq!(end.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{end}");
    assert_is_served(&mut other).await;
    drop(other);
    secure.proxy.stop().await;
}

/// The same at a pace at which each of them is begun.
#[tokio::test]
async fn client_that_does_little_but_call_requests_off_is_thrown_out() {
    let secure = Secure::start(&[]).await;
    let mut other = secure.client(true).await;
    other.initialize().await;
    let mut raw = Raw::connect(&secure).await;
    let mut sent = 0;
    while sent < 1_000 && raw.ready().await.is_ok() {
        // A message whose body does not come.
        let Ok((_, mut stream)) = raw.requests.send_request(raw.request("POST", &other.endpoint), false) else { break };
        sent += 1;
        if raw.seen().await.is_err() {
            break;
        }
        stream.send_reset(Reason::CANCEL);
        if raw.seen().await.is_err() {
            break;
        }
    }
    assert!((100..=103).contains(&sent), "{sent}");
    let _ = within("the end of the connection", raw.end).await.expect("no panic");
    assert_is_served(&mut other).await;
    drop(other);
    secure.proxy.stop().await;
}

#[tokio::test]
async fn connection_without_streams_is_told_to_go_after_two_minutes() {
    let secure = Secure::start(&[]).await;
    let mut raw = Raw::connect(&secure).await;
    let (answer, _) = raw.requests.send_request(raw.request("GET", "/nowhere"), true).expect("a stream");
    assert_eq!(within("an answer", answer).await.expect("an answer").status(), 404);
    pass(Duration::from_secs(100)).await;
    raw.seen().await.expect("it is there");
    pass(Duration::from_secs(21)).await;
    let end = within("the end of the connection", raw.end).await.expect("no panic");
    assert!(end.is_ok(), "it ends in order: {end:?}");

    let mut mute = Raw::connect(&secure).await;
    mute.seen().await.expect("it is there");
    pass(Duration::from_secs(11)).await;
    let _ = within("the end of a connection without a request", mute.end).await.expect("no panic");
    secure.proxy.stop().await;
}

#[tokio::test]
async fn limits_and_errors_are_answered_as_in_http_1() {
    let secure = Secure::start(&[("max-body", "1KiB")]).await;
    let client = secure.client(true).await;
    let (http, base) = (secure.authority.client(true, None), secure.proxy.https_url());
    let large = http.get(format!("{base}/sse")).header("x-large", "x".repeat(40 << 10)).send();
    let large = within("an answer", large).await.expect("an answer");
    assert_eq!((large.version(), large.status().as_u16()), (http::Version::HTTP_2, 431));
    assert!(large.text().await.expect("a text").contains("32768 bytes"));
    // What would end the connection in HTTP/1.1 ends the stream alone.
    let posted = client.post_text("x".repeat(100 << 10), &[]).await;
    assert_eq!(posted.status, 413);
    assert!(!posted.headers.contains_key("connection"));
    let foreign = http.get(format!("{base}/sse")).header("host", "evil.example").send();
    assert_eq!(within("an answer", foreign).await.expect("an answer").status(), 421);
    assert_eq!(client.post_text("{}", &[]).await.status, 400);
    drop(client);
    secure.proxy.stop().await;
}
