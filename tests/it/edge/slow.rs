//! Clients that are slow on purpose, in each phase of a request; without a byte and within a head they are in `rude_client`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Proxy, RawClient, pass, post, within};

use super::stage::both;

const MESSAGE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"a":"0123456789"}}"#;

/// Another client gets its answers; whatever was sent before has been read then.
async fn assert_others_are_served(proxy: &Proxy) {
    let mut other = proxy.client().await;
    other.initialize().await;
    other.call(1, "echo", json!({"text": "served"})).await;
    assert_eq!(other.answer(1).await["result"]["content"][0]["text"], "served");
}

/// Sends a POST up to `length` bytes of its body.
async fn begin(proxy: &Proxy, endpoint: &str, length: usize) -> RawClient {
    let request = post(endpoint, MESSAGE);
    let mut client = RawClient::connect(proxy).await;
    client.send(&request[..request.len() - MESSAGE.len() + length]).await;
    assert_others_are_served(proxy).await;
    client
}

#[tokio::test]
async fn body_that_stalls_is_given_up_after_five_seconds() {
    let (upstream, proxy) = both(&[]).await;
    let (mut stream, endpoint) = RawClient::open_stream(&proxy).await;
    for (length, status, text) in [(40, "202 Accepted", "Accepted"), (3, "408 Request Timeout", "for 5 s")] {
        let mut slow = begin(&proxy, &endpoint, length).await;
        pass(Duration::from_secs(4)).await;
        slow.send(&MESSAGE[length..=length]).await;
        assert_others_are_served(&proxy).await;
        pass(Duration::from_secs(4)).await;
        assert_others_are_served(&proxy).await;
        assert_eq!(slow.text(), "", "a byte came in between");
        pass(Duration::from_secs(2)).await;
        let answer = slow.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    stream.read_until("nothing more of the body came for 5 s").await;
    assert!(stream.text().contains(r#""id":7"#), "{}", stream.text());
    assert!(upstream.methods().iter().all(|method| method != "tools/list"));
    drop(stream);
    proxy.stop().await;
}

#[tokio::test]
async fn body_that_comes_byte_by_byte_is_given_up_after_half_a_minute() {
    let (upstream, proxy) = both(&[]).await;
    let (mut stream, endpoint) = RawClient::open_stream(&proxy).await;
    let mut slow = begin(&proxy, &endpoint, 40).await;
    for byte in MESSAGE.as_bytes()[40..].iter().take(7) {
        pass(Duration::from_secs(4)).await;
        assert_eq!(slow.text(), "", "28 s are not too long");
        slow.send([*byte]).await;
        assert_others_are_served(&proxy).await;
    }
    pass(Duration::from_secs(3)).await;
    let answer = slow.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("connection: close"), "{answer}");
    stream.read_until("did not come within 30 s").await;
    assert!(upstream.methods().iter().all(|method| method != "tools/list"));
    drop(stream);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_asks_on_and_on_and_reads_no_answer_is_ended() {
    /// What it would send.
    const ALL: usize = 200 << 20;
    let (_upstream, proxy) = both(&[]).await;
    let mut deaf = TcpStream::connect(proxy.address).await.expect("a connection");
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let writing = tokio::spawn(async move {
        let requests = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
        while counter.load(Ordering::Relaxed) < ALL {
            deaf.write_all(requests.as_bytes()).await?;
            counter.fetch_add(requests.len(), Ordering::Relaxed);
        }
        std::io::Result::Ok(())
    });
    let mut before = usize::MAX;
    while std::mem::replace(&mut before, taken.load(Ordering::Relaxed)) != taken.load(Ordering::Relaxed) {
        assert_others_are_served(&proxy).await;
    }
    // Two sockets' buffers, and no more than a little of the proxy's own.
    assert!(before < ALL / 4, "{before} bytes were taken of a client that takes none");
    pass(Duration::from_secs(121)).await;
    within("the end of the connection", writing).await.expect("no panic").expect_err("it was ended");
    proxy.stop().await;
}
