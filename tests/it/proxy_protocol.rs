//! The PROXY protocol in front, and how many connections there may be.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Behaviour, FakeUpstream, Proxy, RawClient, pass};
use crate::tls::Secure;

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const ASK: &str = "GET /sse HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
/// The proxy is told that its peers are balancers that name their clients, and to write addresses as they are.
const TRUSTING: [(&str, &str); 3] =
    [("trusted-proxy", "127.0.0.0/8"), ("proxy-protocol", "v2"), ("client-address", "full")];

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// `192.0.2.LAST`, port 4660.
fn from(last: u8) -> Vec<u8> {
    header(0x21, 0x11, &[192, 0, 2, last, 10, 0, 0, 1, 0x12, 0x34, 0x1f, 0x90])
}

async fn both(options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}

/// Opens a stream behind `header` and gives what the log says of it.
async fn connect(proxy: &Proxy, header: &[u8], count: usize) -> (RawClient, Value) {
    let mut client = RawClient::connect(proxy).await;
    client.send(header).await;
    client.send(ASK).await;
    client.read_until("event: endpoint").await;
    let record = proxy.logged("legacy.connect", count).await.pop().expect("a record");
    (client, record)
}

#[tokio::test]
async fn header_names_the_client_however_it_is_cut() {
    let (_upstream, proxy) = both(&TRUSTING).await;
    let with_more = header(0x21, 0x11, &[&from(7)[16..], &[0x03, 0, 4, 1, 2, 3, 4]].concat());
    for (count, cut) in (1..with_more.len()).enumerate() {
        let mut client = RawClient::connect(&proxy).await;
        client.send(&with_more[..cut]).await;
        // Time for the first part to be read alone.
        tokio::task::yield_now().await;
        client.send([&with_more[cut..], ASK.as_bytes()].concat()).await;
        client.read_until("event: endpoint").await;
        let record = proxy.logged("legacy.connect", count + 1).await.pop().expect("a record");
        // Who sends the request is no trusted proxy: what it claims beside is not believed.
        assert_eq!(record["client.address"], "192.0.2.7", "{cut}");
        assert_eq!(record["network.peer.address"], "127.0.0.1");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn other_kinds_of_headers_name_nobody() {
    let (_upstream, proxy) = both(&TRUSTING).await;
    let mut v6 = [0; 36];
    (v6[0], v6[1], v6[15]) = (0x20, 0x01, 1);
    for (count, (header, address)) in [
        (header(0x21, 0x21, &v6), "2001::1"),
        // Someone whom the balancer does not name: not its word, either.
        (header(0x21, 0x00, &[]), "127.0.0.1"),
        // The balancer itself: it may speak for others.
        (header(0x20, 0x00, &[]), "6.6.6.6"),
        // As long as may be.
        (header(0x21, 0x11, &[&from(7)[16..], &[0; 4068]].concat()), "192.0.2.7"),
        // A trusted proxy behind the balancer.
        (header(0x21, 0x11, &[127, 0, 0, 9, 10, 0, 0, 1, 0, 1, 0, 2]), "6.6.6.6"),
    ]
    .into_iter()
    .enumerate()
    {
        let (_client, record) = connect(&proxy, &header, count + 1).await;
        assert_eq!(record["client.address"], address);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn connection_of_a_balancer_without_its_header_is_closed() {
    let (upstream, proxy) = both(&TRUSTING).await;
    let mut cut = from(7);
    cut[13] = 0x12;
    for bytes in [
        ASK.as_bytes(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 8080\r\nGET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\r\n\r\nGET",
        &cut,
        // One byte more than a header may have.
        &header(0x21, 0x11, &[0; 4081]),
    ] {
        let mut client = RawClient::connect(&proxy).await;
        client.send_while_taken(bytes).await;
        assert_eq!(client.read_to_end().await, "");
    }
    proxy.metrics_show(|metrics| metrics.connections_lost.of("proxy_header").get() == 5).await;
    let (mut half, mut silent) = (RawClient::connect(&proxy).await, RawClient::connect(&proxy).await);
    half.send(&from(7)[..20]).await;
    let (other, _) = connect(&proxy, &from(8), 1).await;
    pass(Duration::from_secs(11)).await;
    assert_eq!((half.read_to_end().await, silent.read_to_end().await), (String::new(), String::new()));
    proxy.metrics_show(|metrics| metrics.connections_lost.of("silent").get() == 2).await;
    assert!(upstream.seen().is_empty());
    drop(other);
    proxy.stop().await;
}

#[tokio::test]
async fn bytes_of_others_are_never_taken_for_a_header() {
    let (_upstream, proxy) = both(&[("trusted-proxy", "10.0.0.0/8"), TRUSTING[1], TRUSTING[2]]).await;
    let mut liar = RawClient::connect(&proxy).await;
    liar.send_while_taken(&[&from(7), ASK.as_bytes()].concat()).await;
    assert!(!liar.read_to_end().await.contains("200"));
    let (_client, record) = connect(&proxy, b"", 1).await;
    assert_eq!(record["client.address"], "127.0.0.1");
    proxy.stop().await;
}

#[tokio::test]
async fn tls_is_spoken_behind_the_header() {
    let secure = Secure::start(&TRUSTING).await;
    let mut client = RawClient::connect(&secure.proxy).await;
    client.send(from(7)).await;
    let stream = secure.authority.shake(client.into_stream(), "h2").await.expect("a handshake");
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("{}/sse", secure.proxy.https_url())).body(()).expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("a stream");
    assert_eq!(answer.await.expect("an answer").status(), 200);
    assert_eq!(secure.proxy.logged("legacy.connect", 1).await[0]["client.address"], "192.0.2.7");
    connection.abort();
    secure.proxy.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_are_reset_and_free_again_when_others_end() {
    let (_upstream, proxy) = both(&[("max-connections", "2")]).await;
    let (first, _) = RawClient::open_stream(&proxy).await;
    let (second, _) = RawClient::open_stream(&proxy).await;
    let mut third = RawClient::connect(&proxy).await;
    assert_eq!(third.read_to_end().await, "");
    proxy.metrics_show(|metrics| metrics.connections_lost.of("limit").get() == 1).await;
    drop(first);
    proxy.metrics_show(|metrics| metrics.connections_active.get() == 1).await;
    let (fourth, _) = RawClient::open_stream(&proxy).await;
    drop((second, fourth));
    proxy.stop().await;
}

#[tokio::test]
async fn connections_of_one_address_are_limited_and_the_balancers_own_are_not() {
    let options = [&TRUSTING[..], &[("max-connections-per-address", "2")]].concat();
    let (_upstream, proxy) = both(&options).await;
    let mut open = Vec::new();
    for (count, last) in [7, 7, 8].into_iter().enumerate() {
        open.push(connect(&proxy, &from(last), count + 1).await.0);
    }
    let mut third = RawClient::connect(&proxy).await;
    third.send_while_taken(&[&from(7), ASK.as_bytes()].concat()).await;
    assert_eq!(third.read_to_end().await, "");
    proxy.metrics_show(|metrics| metrics.connections_lost.of("address_limit").get() == 1).await;
    for count in 4..8 {
        open.push(connect(&proxy, &header(0x20, 0x00, &[]), count).await.0);
    }
    drop(open);
    proxy.stop().await;
}
