//! How exchanges end that are passed through: whoever leaves takes the other side along, nobody stands still for ever, and
//! the end of the process is the end of all of them.

use std::time::{Duration, Instant};

use super::bare::{Bare, value};
use super::{all, asking, both, get};
use crate::support::{Proxy, RawClient, http_client, pass, within};

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn client_that_leaves_takes_the_upstreams_connection_with_it() {
    let (upstream, proxy) = all().await;
    // Before the head.
    let client = asking(&proxy, &get("/x")).await;
    let (conn, _) = upstream.request().await;
    drop(client);
    conn.hung_up().await;
    // In the midst of a stream.
    let mut client = asking(&proxy, &get("/x")).await;
    let (mut conn, _) = upstream.request().await;
    conn.send(STREAM).await;
    client.read_until("\r\n\r\n").await;
    drop(client);
    conn.hung_up().await;
    // In the midst of its own request.
    let mut client = asking(&proxy, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").await;
    client.send("half.").await;
    let (mut conn, _) = upstream.request().await;
    conn.read_until("half.").await;
    drop(client);
    conn.hung_up().await;
    proxy.stop().await;
}

/// While bytes behind a request lie in its buffer, hyper reads no more, and does not see the client go.
#[tokio::test]
async fn client_that_leaves_bytes_behind_its_request_is_missed_all_the_same() {
    let (upstream, proxy) = all().await;
    for behind in ["X".to_owned(), "X".repeat(20_000)] {
        let mut client = asking(&proxy, &(get("/x") + &behind)).await;
        let (mut conn, _) = upstream.request().await;
        conn.send(STREAM).await;
        client.read_until("\r\n\r\n").await;
        drop(client);
        for _ in 0..3 {
            pass(Duration::from_secs(16)).await;
            // What the timers set going has happened when others were served.
            drop(RawClient::open_stream(&proxy).await);
        }
        conn.hung_up().await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn upstream_that_breaks_off_never_looks_like_one_that_was_done() {
    let (upstream, proxy) = all().await;
    let heads = [STREAM, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"];
    for head in heads {
        let mut client = asking(&proxy, &get("/x")).await;
        let (mut conn, _) = upstream.request().await;
        conn.send(head).await;
        conn.send("5\r\nhello\r\n").await;
        client.read_until("hello").await;
        drop(conn);
        let text = client.read_to_end().await;
        assert!(text.ends_with("hello\r\n"), "no last chunk: {text}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn upstream_that_does_not_answer_is_named_as_the_one_at_fault() {
    let (upstream, proxy) = all().await;
    let mut client = asking(&proxy, &get("/x")).await;
    let (conn, _) = upstream.request().await;
    drop(conn);
    client.read_until("may have run").await;
    assert!(client.text().starts_with("HTTP/1.1 502 "), "{}", client.text());
    let mut client = asking(&proxy, &get("/x")).await;
    let (mut conn, _) = upstream.request().await;
    conn.send("nonsense\r\n\r\n").await;
    client.read_until("the server behind this proxy").await;
    assert!(client.text().starts_with("HTTP/1.1 502 "), "{}", client.text());
    drop(upstream);
    let refused = within("an answer", http_client().get(proxy.url("/x")).send()).await.expect("an answer");
    assert_eq!(refused.status(), 502);
    let text = refused.text().await.expect("a text");
    assert!(text.contains("cannot be reached") && text.contains("nothing was sent"), "{text}");
    proxy.stop().await;
}

#[tokio::test]
async fn connection_that_takes_too_long_is_given_up() {
    let silent = Bare::start().await;
    let url = format!("https://{}/mcp", silent.authority());
    let proxy = Proxy::start(&url, &[("passthrough", "mcp"), ("connect-timeout", "50ms")]);
    let answer = within("an answer", http_client().get(proxy.url("/mcp")).send()).await.expect("an answer");
    assert_eq!(answer.status(), 504);
    assert!(answer.text().await.expect("a text").contains("no connection within 0.05 s"));
    proxy.stop().await;
}

#[tokio::test]
async fn head_may_take_as_long_as_it_likes() {
    let (upstream, proxy) = both(&[("passthrough", "mcp"), ("body-timeout", "20ms"), ("stall", "20ms")]).await;
    let mut client = asking(&proxy, &get("/mcp")).await;
    let (mut conn, _) = upstream.request().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    conn.send(STREAM).await;
    client.read_until("\r\n\r\n").await;
    // And so may what comes after it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    conn.send("5\r\nhello\r\n").await;
    client.read_until("hello").await;
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_stops_sending_is_told_so() {
    let (upstream, proxy) = both(&[("passthrough", "all"), ("body-timeout", "50ms")]).await;
    let mut client = asking(&proxy, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf.").await;
    let (conn, _) = upstream.request().await;
    let text = client.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("connection: close"), "{text}");
    conn.hung_up().await;
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_stops_taking_is_disconnected_and_nothing_piles_up_meanwhile() {
    let (upstream, proxy) = both(&[("passthrough", "all"), ("stall", "1s")]).await;
    let client = asking(&proxy, &get("/x")).await;
    let (mut conn, _) = upstream.request().await;
    conn.send("HTTP/1.1 200 OK\r\n\r\n").await;
    let began = Instant::now();
    let sent = conn.flood(&vec![b'x'; 64 << 10]).await;
    assert!(sent < 64 << 20, "the client takes nothing, and the proxy took {sent} bytes");
    conn.hung_up().await;
    assert!(began.elapsed() < Duration::from_secs(15));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn exchanges_outlast_the_beginning_of_the_end() {
    let (upstream, mut proxy) = all().await;
    let mut client = asking(&proxy, &get("/x")).await;
    let (mut conn, _) = upstream.request().await;
    conn.send(STREAM).await;
    client.read_until("\r\n\r\n").await;
    proxy.begin_stop();
    proxy.metrics_show(|metrics| metrics.exposition(sse_sunset::metrics::Format::Classic).contains("draining 1")).await;
    // New ones are served too, and told to come back on another connection once the balancers had time to notice.
    within("a process that leaves", async {
        loop {
            let mut late = asking(&proxy, &get("/late")).await;
            let (mut served, _) = upstream.request().await;
            served.answer("connection: close\r\n", "served").await;
            late.read_until("served").await;
            if late.text().contains("connection: close") {
                break;
            }
        }
    })
    .await;
    conn.send("5\r\nhello\r\n0\r\n\r\n").await;
    client.read_until("0\r\n\r\n").await;
    within("the end, as nothing is under way any more", proxy.ended()).await;
}

#[tokio::test]
async fn deadline_of_the_drain_cuts_what_is_left() {
    let (upstream, mut proxy) = both(&[("passthrough", "all"), ("drain", "200ms")]).await;
    let mut streaming = asking(&proxy, &get("/stream")).await;
    let (mut conn, _) = upstream.request().await;
    conn.send(STREAM).await;
    streaming.read_until("\r\n\r\n").await;
    let mut waiting = asking(&proxy, &get("/wait")).await;
    let (unanswered, head) = upstream.request().await;
    assert!(value(&head, "host").is_some());
    let began = Instant::now();
    proxy.begin_stop();
    let text = waiting.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 1"), "{text}");
    let text = streaming.read_to_end().await;
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    conn.hung_up().await;
    unanswered.hung_up().await;
    within("the end", proxy.ended()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
