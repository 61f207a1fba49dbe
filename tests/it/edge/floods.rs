//! More of everything than anybody needs.

use serde_json::json;

use crate::support::RawClient;

use super::stage::{answers, both, statuses};

/// Far more than any buffer on the way holds.
const FLOOD: usize = 64 << 20;

#[tokio::test]
async fn heads_over_the_limits_are_refused_and_end_their_connection() {
    let (upstream, proxy) = both(&[]).await;
    let head = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n";
    let pad = |length| "x".repeat(length);
    let many = |count: usize| (0..count).fold(head.to_owned(), |head, n| head + &format!("X-{n}: 1\r\n"));
    let behind = "\r\nGET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (name, head, status) in [
        ("a field of 33 KiB", format!("{head}X: {}\r\n", pad(33 << 10)), &[431][..]),
        ("a hundred and more fields", many(120), &[431]),
        ("a name of 33 KiB", format!("{head}{}: 1\r\n", pad(33 << 10)), &[431]),
        ("fields of 100 KB", format!("{head}X: {}\r\n", pad(100_000)), &[431]),
        ("ten thousand fields", many(10_000), &[431]),
        ("a target of 9 KiB", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n", pad(9 << 10)), &[414]),
        ("a target of 100 KB", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n", pad(100_000)), &[414]),
    ] {
        let text = answers(&proxy, head + behind).await;
        // hyper refuses what does not fit into its own buffer, in the same way and without a word.
        assert_eq!(statuses(&text), status, "{name}: {text}");
        assert!(text.contains("connection: close"), "{name}: {text}");
    }
    assert!(upstream.seen().is_empty());
    proxy.stop().await;
}

#[tokio::test]
async fn heads_without_end_are_not_read_without_end() {
    let (_upstream, proxy) = both(&[]).await;
    let x = "x".repeat(FLOOD);
    let fields = "X: y\r\n".repeat(FLOOD / 6);
    for (name, start, flood) in [
        ("a target", "GET /", &x),
        ("a method", "", &x),
        ("a field", "GET / HTTP/1.1\r\nX: ", &x),
        ("a name", "GET / HTTP/1.1\r\n", &x),
        ("fields", "GET / HTTP/1.1\r\n", &fields),
        ("empty lines", "", &"\r\n".repeat(FLOOD / 2)),
    ] {
        let mut client = RawClient::connect(&proxy).await;
        client.send(start).await;
        // It ends long before all of it is taken: a client that is written to with so much would notice at once.
        let taken = client.count_taken(flood.as_bytes()).await;
        assert!(taken < FLOOD / 4, "{name}: {taken} bytes were taken");
        let statuses = statuses(&client.read_to_end().await);
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{name}: {statuses:?}");
    }
    let mut other = proxy.client().await;
    other.initialize().await;
    drop(other);
    proxy.stop().await;
}

/// Whoever reads a message with a function that calls itself has no stack left.
#[tokio::test]
async fn depth_of_a_message_costs_nothing() {
    const DEPTH: usize = 1 << 20;
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    for (id, (open, close)) in [("[", "]"), ("{\"a\":", "}")].into_iter().enumerate() {
        let (open, close) = (open.repeat(DEPTH / 4), close.repeat(DEPTH / 4));
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{open}"#);
        assert_eq!(client.post_text(text.clone(), &[]).await.status, 202);
        assert_eq!(client.answer(id).await["error"]["code"], -32700);
        let whole = format!(r#"{text}1{close},"method":"x"}}"#);
        assert_eq!(client.post_text(whole, &[]).await.status, 202);
        assert_eq!(client.answer(id).await["error"]["code"], -32700, "doubled keys are found behind it");
    }
    client.call(9, "echo", json!({"text": "x"})).await;
    client.answer(9).await;
    assert!(upstream.methods().iter().all(|method| method != "tools/list"));
    drop(client);
    proxy.stop().await;
}
