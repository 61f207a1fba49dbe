//! Clients that do what no client should: one test a rudeness. What they have in common: nobody else notices, every id
//! gets one answer, and what is kept for them is bounded.

use std::time::Duration;

use serde_json::json;

use crate::support::{Behaviour, FLOOD, FakeUpstream, Proxy, RawClient, pass, post, stuck};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

async fn both(options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}

/// Another client gets its answers.
async fn assert_others_are_served(proxy: &Proxy) {
    let mut other = proxy.client().await;
    other.initialize().await;
    other.call(1, "echo", json!({"text": "served"})).await;
    assert_eq!(other.answer(1).await["result"]["content"][0]["text"], "served");
}

#[tokio::test]
async fn connection_without_a_byte_ends_after_ten_seconds() {
    let (_upstream, proxy) = both(&[]).await;
    let mut silent = RawClient::connect(&proxy).await;
    assert_others_are_served(&proxy).await;
    pass(Duration::from_secs(11)).await;
    assert_eq!(silent.read_to_end().await, "");
    proxy.stop().await;
}

#[tokio::test]
async fn half_a_head_ends_ten_seconds_after_its_first_byte_however_slowly_it_goes_on() {
    let (_upstream, proxy) = both(&[]).await;
    let mut slow = RawClient::connect(&proxy).await;
    for piece in ["GET /s", "se HTTP/1.1\r\n", "Host: local"] {
        slow.send(piece).await;
        assert_others_are_served(&proxy).await;
        pass(Duration::from_secs(4)).await;
    }
    assert_eq!(slow.read_to_end().await, "");
    assert!(proxy.log().iter().all(|record| record["legacy.session"].is_null() || record["url.path"] != "/s"));
    proxy.stop().await;
}

#[tokio::test]
async fn idle_connection_is_kept_for_two_minutes_between_requests() {
    let (_upstream, proxy) = both(&[]).await;
    let mut idle = RawClient::connect(&proxy).await;
    let ask = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
    idle.send(ask).await;
    idle.read_until("nothing is served here").await;
    pass(Duration::from_secs(110)).await;
    idle.came.clear();
    idle.send(ask).await;
    idle.read_until("nothing is served here").await;
    assert_others_are_served(&proxy).await;
    pass(Duration::from_secs(121)).await;
    idle.came.clear();
    assert_eq!(idle.read_to_end().await, "");
    proxy.stop().await;
}

#[tokio::test]
async fn body_that_does_not_come_is_given_up_after_half_a_minute() {
    let (upstream, proxy) = both(&[]).await;
    let (mut stream, endpoint) = RawClient::open_stream(&proxy).await;
    let whole = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"a":"b"}}"#;
    for (bytes, status) in [(40, "202 Accepted"), (3, "408 Request Timeout")] {
        let request = post(&endpoint, whole);
        let mut slow = RawClient::connect(&proxy).await;
        slow.send(&request[..request.len() - whole.len() + bytes]).await;
        assert_others_are_served(&proxy).await;
        pass(Duration::from_secs(31)).await;
        let answer = slow.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    }
    stream.read_until("message_too_slow").await;
    assert!(stream.text().contains(r#""id":7"#), "{}", stream.text());
    assert!(upstream.methods().iter().all(|method| method != "tools/list"));
    drop(stream);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_vanishes_within_a_post_leaves_nothing_behind() {
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    let request = post(&client.endpoint, r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#);
    for length in [request.len() - 1, request.len() - 20, 30] {
        let mut vanishing = RawClient::connect(&proxy).await;
        vanishing.send(&request[..length]).await;
        drop(vanishing);
    }
    client.call(1, "echo", json!({"text": "x"})).await;
    assert_eq!(client.until_answer(1).await.len(), 1);
    assert!(upstream.methods().iter().all(|method| method != "tools/list"));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn flood_of_requests_gets_one_answer_each_and_only_so_many_run() {
    let (upstream, proxy) = both(&[("max-in-flight", "4"), ("max-waiting", "4")]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    let mut flood = RawClient::connect(&proxy).await;
    let call = |id| {
        let params = json!({"name": "echo", "arguments": {"text": "x"}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let requests: String = (0..500).map(|id| post(&client.endpoint, &call(id))).collect();
    flood.send(requests).await;
    let mut answered = Vec::new();
    for _ in 0..500 {
        let message = client.message().await;
        assert!(
            message["result"].is_object() || message["error"]["data"]["reason"] == "too_many_in_flight",
            "{message}"
        );
        answered.push(message["id"].as_u64().expect("an id"));
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..500).collect::<Vec<_>>());
    assert!(upstream.seen().len() < 510);
    drop((client, flood));
    proxy.stop().await;
}

#[tokio::test]
async fn posted_bytes_that_the_upstream_does_not_take_are_bounded() {
    // Without event streams the upstream sends no head before the answer: it has taken nothing so far.
    let upstream = FakeUpstream::start(Behaviour { sse: false, ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    let pad = "x".repeat(3 << 20);
    for id in 0..8 {
        client.call(id, "hang", json!({"pad": pad})).await;
    }
    for id in 5..8 {
        assert_eq!(client.answer(id).await["error"]["data"]["reason"], "too_many_in_flight", "{id}");
    }
    // What is small passes all the same: a 503 would end a Python client.
    client.post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}})).await;
    upstream.wait_for("the cancellation", |seen| seen.body["params"]["requestId"] == 3).await;
    upstream.wait_for("what was taken", |seen| seen.body["id"] == 4).await;
    assert!(upstream.seen().iter().all(|seen| seen.body["id"].as_u64().unwrap_or(0) < 5));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn posts_beyond_the_memory_of_the_proxy_are_refused_and_taken_again_later() {
    let upstream = FakeUpstream::start(Behaviour { sse: false, ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[("memory", "32MiB")]);
    let (mut greedy, mut modest) = (Vec::new(), proxy.client().await);
    modest.initialize().await;
    for _ in 0..3 {
        let mut client = proxy.client().await;
        client.initialize().await;
        for id in 1..4 {
            client.call(id, "hang", json!({"pad": "x".repeat(3900 << 10)})).await;
        }
        greedy.push(client);
    }
    let large = json!({"text": "y".repeat(3 << 20)});
    modest.call(2, "echo", large.clone()).await;
    assert_eq!(modest.answer(2).await["error"]["data"]["reason"], "proxy_memory");
    modest.call(3, "echo", json!({"text": "small ones always pass"})).await;
    assert!(modest.answer(3).await["result"].is_object());
    // Nobody new is taken in while those who are here have so little left.
    let mut late = proxy.client().await;
    let refused = late.initialize().await;
    assert!(refused["error"]["message"].as_str().expect("a text").contains("--memory"), "{refused}");
    drop((greedy, late));
    proxy.logged("legacy.end", 4).await;
    modest.call(4, "echo", large).await;
    assert!(modest.answer(4).await["result"].is_object());
    drop(modest);
    proxy.stop().await;
}

#[tokio::test]
async fn odd_ids_are_refused_and_valid_ones_keep_their_form() {
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    for id in ["null", "{}", "[1]", "true", "nope", "\"a", &*format!("\"{}\"", "x".repeat(300))] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        assert_eq!(client.post_text(text, &[]).await.status, 400, "{id}");
    }
    for id in ["0", "-1", "9007199254740993", "1.5", "\"\"", "\"0\"", "\"\\u00e9\""] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo"}}}}"#);
        assert_eq!(client.post_text(text, &[]).await.status, 202, "{id}");
        let event = client.event().await.expect("an answer");
        let answer = String::from_utf8(event.data.to_vec()).expect("utf-8");
        assert!(answer.contains(&format!(r#""id":{id}"#)) || id.contains("u00e9"), "{id}: {answer}");
    }
    assert_eq!(upstream.methods().iter().filter(|method| *method == "tools/call").count(), 7);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn broken_json_is_answered_under_its_id_and_a_running_call_of_that_id_is_not_disturbed() {
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "hang", json!({})).await;
    upstream.wait_for("the call", |seen| seen.body["id"] == 1).await;
    for text in [r#"{"jsonrpc":"2.0","id":1,"method":"#, r#"{"jsonrpc":"2.0","id":2,"method":"m""#] {
        assert_eq!(client.post_text(text, &[]).await.status, 202, "{text}");
    }
    let messages = client.until_answer(2).await;
    assert_eq!(messages.last().expect("an answer")["error"]["code"], -32700);
    assert!(messages.iter().all(|message| message["id"] != 1), "{messages:?}");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn doubled_keys_are_refused_and_do_not_go_up() {
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    for (text, code) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list"}"#, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"Method":"x","method":"tools/list"}"#, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"hang"}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:a","uri":"b:b"}}"#, -32602),
    ] {
        assert_eq!(client.post_text(text, &[]).await.status, 202, "{text}");
        assert_eq!(client.answer(1).await["error"]["code"], code, "{text}");
    }
    assert_eq!(upstream.methods().len(), 2, "the handshake alone");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn message_of_four_mebibytes_passes_and_one_byte_more_is_answered_with_an_error() {
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    for (id, length) in [(1, 4 << 20), (2, (4 << 20) + 1)] {
        let shell = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": {"pad": ""}}).to_string();
        let pad = "x".repeat(length - shell.len());
        let text = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": {"pad": pad}}).to_string();
        assert_eq!(text.len(), length);
        assert_eq!(client.post_text(text, &[]).await.status, 202);
        let answers = client.until_answer(id).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0]["error"]["data"]["reason"] == "message_too_large", id == 2, "{}", answers[0]);
    }
    assert_eq!(upstream.methods().len(), 3);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn request_pipelined_behind_the_stream_waits_and_the_client_is_still_seen_to_leave() {
    let (upstream, proxy) = both(&[]).await;
    let (mut client, endpoint) = RawClient::open_stream(&proxy).await;
    client.send(post(&endpoint, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)).await;
    let mut other = RawClient::connect(&proxy).await;
    other.send(post(&endpoint, r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#)).await;
    client.read_until(r#""id":2"#).await;
    assert!(!client.text().contains(r#""id":1"#), "a stream has no end for another answer to stand behind");
    drop((client, other));
    // hyper does not read past the pipelined request: that the client is gone shows when a comment is sent.
    while proxy.log().iter().all(|record| record["event.name"] != "legacy.end") {
        pass(Duration::from_secs(16)).await;
        assert_others_are_served(&proxy).await;
    }
    assert!(upstream.methods().iter().all(|method| method != "tools/list"));
    proxy.stop().await;
}

#[tokio::test]
async fn tunnels_upgrades_and_other_protocols_are_not_spoken() {
    let (upstream, proxy) = both(&[]).await;
    let mut tunnel = RawClient::connect(&proxy).await;
    tunnel.send("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n").await;
    tunnel.read_until("no forward proxy").await;
    assert!(tunnel.text().starts_with("HTTP/1.1 405"), "{}", tunnel.text());

    let mut upgrade = RawClient::connect(&proxy).await;
    let headers =
        "Host: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n";
    upgrade.send(format!("GET /sse HTTP/1.1\r\n{headers}\r\n")).await;
    upgrade.read_until("event: endpoint").await;
    assert!(upgrade.text().starts_with("HTTP/1.1 200"), "served as if nothing had been offered: {}", upgrade.text());

    let mut h2c = RawClient::connect(&proxy).await;
    h2c.send_while_taken(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    assert!(!h2c.read_to_end().await.contains("200"));
    assert!(upstream.seen().is_empty());
    drop(upgrade);
    proxy.stop().await;
}

#[tokio::test]
async fn ambiguous_framing_is_not_guessed_at() {
    let (upstream, proxy) = both(&[]).await;
    let (client, endpoint) = RawClient::open_stream(&proxy).await;
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
    let start = format!("POST {endpoint} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    for (name, rest) in [
        ("two lengths", format!("Content-Length: 5\r\nContent-Length: 46\r\n\r\n{message}")),
        ("an odd encoding", format!("Transfer-Encoding: xchunked\r\n\r\n{message}")),
        ("a length that is none", format!("Content-Length: +46\r\n\r\n{message}")),
        ("a bad chunk", format!("Transfer-Encoding: chunked\r\n\r\nzz\r\n{message}\r\n0\r\n\r\n")),
        ("a space before the colon", format!("Content-Length : 46\r\n\r\n{message}")),
    ] {
        let mut smuggler = RawClient::connect(&proxy).await;
        smuggler.send_while_taken(format!("{start}{rest}").as_bytes()).await;
        let answer = smuggler.read_to_end().await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{name}: {answer}");
    }
    assert!(upstream.seen().is_empty());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn oversized_heads_are_told_their_limits() {
    let (_upstream, proxy) = both(&[]).await;
    let many: String = (0..150).fold(String::new(), |headers, n| headers + &format!("X-{n}: 1\r\n"));
    let large = format!("X-Large: {}\r\n", "x".repeat(40 << 10));
    let path = format!("/sse?{}", "x".repeat(9 << 10));
    for (path, headers, status, text) in [
        ("/sse", many, 431, "100 headers"),
        ("/sse", large, 431, "32768 bytes"),
        (&*path, String::new(), 414, "8192 bytes"),
    ] {
        let mut client = RawClient::connect(&proxy).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await;
        client.read_until(text).await;
        assert!(client.text().starts_with(&format!("HTTP/1.1 {status}")), "{}", client.text());
    }
    let mut huge = RawClient::connect(&proxy).await;
    huge.send_while_taken(format!("GET /sse HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(1 << 20)).as_bytes())
        .await;
    assert!(!huge.read_to_end().await.contains("200 OK"));
    proxy.stop().await;
}

#[tokio::test]
async fn stream_that_never_posts_is_closed_after_a_minute_if_it_is_a_probe_and_after_a_day_if_not() {
    let (upstream, proxy) = both(&[]).await;
    let quiet = proxy.client().await;
    let mut probe = RawClient::connect(&proxy).await;
    let accept = "application/json, text/event-stream";
    probe.send(format!("GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")).await;
    probe.read_until("event: endpoint").await;
    pass(Duration::from_secs(61)).await;
    let end = proxy.logged("legacy.end", 1).await.remove(0);
    assert_eq!(end["session.end.reason"], "never_posted");
    probe.read_until("\r\n0\r\n\r\n").await;
    assert_others_are_served(&proxy).await;
    for _ in 0..24 {
        assert_eq!(proxy.logged("legacy.end", 2).await.len(), 2, "the probe and the one that was served");
        pass(Duration::from_secs(3600)).await;
    }
    proxy.logged("legacy.end", 3).await;
    assert!(upstream.methods().iter().filter(|method| *method == "initialize").count() == 1);
    drop(quiet);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_bears_no_comments_gets_none() {
    let (_upstream, proxy) = both(&[("no-keep-alive", "Java-http-client/17")]).await;
    let mut clients = Vec::new();
    for user_agent in ["Java-http-client/17.0.15", "Java-http-client/21.0.1"] {
        let mut client = RawClient::connect(&proxy).await;
        client.send(format!("GET /sse HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {user_agent}\r\n\r\n")).await;
        client.read_until("\n\n").await;
        clients.push(client);
    }
    pass(Duration::from_secs(16)).await;
    let (mut bare, mut kept) = (clients.remove(0), clients.remove(0));
    kept.read_until(": k\n").await;
    let endpoint = bare.text().lines().find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).expect("one");
    let mut poster = RawClient::connect(&proxy).await;
    poster.send(post(&endpoint, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)).await;
    bare.read_until(r#""id":1"#).await;
    assert!(!bare.text().contains(": k"), "{}", bare.text());
    drop((bare, kept));
    proxy.stop().await;
}

#[tokio::test]
async fn message_larger_than_the_client_can_take_becomes_an_error() {
    let (_upstream, proxy) = both(&[("max-message-to-client", "1KiB")]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x".repeat(2000)})).await;
    let error = client.answer(1).await["error"].clone();
    assert_eq!(error["data"]["reason"], "message_too_large_for_client");
    assert_eq!(error["data"]["limit_bytes"], 1024);
    client.call(2, "echo", json!({"text": "small"})).await;
    assert!(client.answer(2).await["result"].is_object());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn header_bytes_that_are_not_ascii_and_doubled_credentials_are_refused() {
    let (upstream, proxy) = both(&[]).await;
    for (header, text) in [
        (&b"X-Name: caf\xe9\r\n"[..], "x-name"),
        (&b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"[..], "authorization stands there twice"),
    ] {
        let mut client = RawClient::connect(&proxy).await;
        client.send([b"GET /sse HTTP/1.1\r\nHost: localhost\r\n", header, b"\r\n"].concat()).await;
        client.read_until(text).await;
        assert!(client.text().starts_with("HTTP/1.1 400"), "{}", client.text());
    }
    assert!(upstream.seen().is_empty());
    proxy.stop().await;
}

/// Each holds a place among those that may be posted again.
#[tokio::test]
async fn flood_of_requests_under_a_rejected_credential_gets_one_error_each() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    let ask = |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {}}).to_string();
    for id in 0..100 {
        assert_eq!(client.post_text(ask(id), &[("authorization", "Bearer bad")]).await.status, 401);
    }
    // Of 64 the client may still change its mind; the others are told now.
    for id in 0..36 {
        assert_eq!(client.message().await["id"], id);
    }
    pass(Duration::from_secs(31)).await;
    for id in 36..100 {
        assert_eq!(client.message().await["id"], id);
    }
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_waits_gets_what_is_small_while_others_hold_all_memory() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[("memory", "32MiB"), ("outbox", "20MiB")]);
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.client().await;
        client.initialize().await;
        client.call("flood", "flood", json!({})).await;
        stalled.push(client);
    }
    let mut client = proxy.client().await;
    client.initialize().await;
    stuck(&upstream, &mut client).await;
    assert!(upstream.flooded() < 2 * FLOOD * (64 << 10), "the floods are stuck");
    client.call(2, "progress", json!({})).await;
    assert!(client.until_answer(2).await.len() > 1);
    drop((stalled, client));
    proxy.stop().await;
}

#[tokio::test]
async fn slow_client_is_not_told_that_the_upstream_was_silent() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[("call-timeout", "20s"), ("stall", "10m")]);
    let (mut client, mut other) = (proxy.client().await, proxy.client().await);
    client.initialize().await;
    other.initialize().await;
    client.call(1, "flood", json!({})).await;
    for _ in 0..4 {
        stuck(&upstream, &mut other).await;
        pass(Duration::from_secs(21)).await;
    }
    let messages = client.until_answer(1).await;
    assert_eq!(messages.len(), FLOOD + 1);
    assert!(messages[FLOOD]["result"].is_object(), "{}", messages[FLOOD]);
    drop((client, other));
    proxy.stop().await;
}
