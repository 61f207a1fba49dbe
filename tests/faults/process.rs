//! Faults of the proxy's own process: told to end, killed, short of descriptors.

use serde_json::json;

use crate::driver::{Driver, Outcome};
use crate::port::Port;
use crate::proxy::{Launch, Proxy};
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("client-{i}")).collect()
}

#[test]
fn proxy_that_is_told_to_end_under_load_answers_everything_first() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let mut proxy = Proxy::start(&server.mcp_url(), &["--drain", "20s", "--drain-delay", "1s"]);
    let (typescript, python) = (Driver::typescript(), Driver::python());
    typescript.connect_all(&names(30), &proxy.sse_url(), |_| None);
    let slow = python.connect("python", &proxy.sse_url(), None);
    typescript.ask(json!({"do": "load", "pause": 100}));
    let running = slow.begin_with("count", &json!({"token": "python", "ms": 3000}));
    server.await_entry("run python", seconds(10));
    wait::until("the load is on", seconds(20), || server.count("run") > 300);

    let status = proxy.terminate(seconds(30));
    assert_eq!(status.code(), Some(0));
    assert_eq!(running.outcome(), Outcome::Text("counted python".to_owned()));
    typescript.ask(json!({"do": "stop"}));
    typescript.ledger().assert_kept(&server);
    python.ledger().assert_kept(&server);
    assert_eq!(proxy.ends().len(), 31, "every session has its end in the log");
    assert_eq!(proxy.records("proxy.stop").len(), 1);
    wait::until("every session was deleted", seconds(5), || server.count("deleted") == 31);
}

/// A call that outlasts the drain gets an error, not silence.
#[test]
fn proxy_that_is_told_to_end_gives_calls_that_outlast_it_an_error() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let mut proxy = Proxy::start(&server.mcp_url(), &["--drain", "2s", "--drain-delay", "0s"]);
    let both = crate::both::Both::connect(&proxy.sse_url());
    let held = both.clients().map(|client| client.begin("hold", client.name));
    for client in both.clients() {
        server.await_entry(&format!("run {}", client.name), seconds(10));
    }
    assert_eq!(proxy.terminate(seconds(30)).code(), Some(0));
    for call in held {
        let outcome = call.outcome();
        assert_eq!(outcome.reason(), "proxy_draining", "{outcome:?}");
        assert!(outcome.message().contains("may have run"), "{outcome:?}");
    }
    wait::until("the server is told", seconds(5), || server.count("cancelled") == 2);
    both.assert_kept(&server);
}

/// TypeScript comes back by itself and goes on; Python is told that its connection is closed, and comes back as anew.
#[test]
fn proxy_that_is_killed_is_found_again_by_clients_that_come_back() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let port = Port::reserve();
    let mut proxy = Proxy::start_on(port.address, &server.mcp_url(), &[]);
    let (typescript, python) = (Driver::typescript(), Driver::python());
    let anonymous = typescript.connect("anonymous", &proxy.sse_url(), None);
    let known = typescript.connect("known", &proxy.sse_url(), Some("a-token"));
    let held = python.connect("python", &proxy.sse_url(), None).begin("hold", "held");
    server.await_entry("run held", seconds(10));
    for client in [anonymous, known] {
        client.must_count(&format!("{}-before", client.name));
    }
    proxy.child.kill();
    let outcome = held.outcome();
    assert_eq!(outcome.message(), "Connection closed", "{outcome:?}");

    let proxy = Proxy::start_on(port.address, &server.mcp_url(), &[]);
    for client in [anonymous, known] {
        client.await_stream(2, seconds(15));
        client.must_count(&format!("{}-after", client.name));
    }
    python.connect("again", &proxy.sse_url(), None).must_count("again");
    typescript.ledger().assert_kept(&server);
    python.ledger().assert_kept_but(&server, |_, request| request.token.as_deref() == Some("held"));
}

#[test]
fn proxy_without_descriptors_does_not_spin_harms_no_session_and_recovers() {
    const DESCRIPTORS: u32 = 64;
    let mut server = Server::start(Sdk::TypeScript, &[]);
    let listen = ([127, 0, 0, 1], 0).into();
    let upstream = server.mcp_url();
    let launch = Launch { upstream: &upstream, listen, options: &["--linger", "0s"], descriptors: Some(DESCRIPTORS) };
    let proxy = Proxy::launch(&launch);
    let (old, mut crowd) = (Driver::typescript(), Driver::typescript());
    let first = names(4);
    old.connect_all(&first, &proxy.sse_url(), |_| None);
    let held: Vec<_> = first.iter().map(|name| old.client(name).begin("hold", name)).collect();
    wait::until("their calls run", seconds(10), || server.count("run") == first.len());

    let crowding: Vec<_> = (0..60).map(|i| crowd.begin_connect(&format!("crowd-{i}"), &proxy.sse_url())).collect();
    wait::until("descriptors run out", seconds(20), || proxy.child.said().contains("cannot accept a connection"));
    let (ticks, since) = (proxy.child.ticks(), std::time::Instant::now());
    wait::until("it was short of descriptors for two seconds", seconds(5), || since.elapsed() > seconds(2));
    let busy = proxy.child.ticks() - ticks;
    assert!(busy < 100, "it used {busy} of 200 ticks to wait");
    server.tell("release");
    for (call, name) in held.iter().zip(&first) {
        assert_eq!(call.outcome(), Outcome::Text(format!("held {name}")), "its answer needs no new descriptor");
    }
    drop(crowding);
    crowd.kill();
    for name in &first {
        old.client(name).must_count(&format!("{name}-after"));
        assert_eq!(old.client(name).streams(), 1);
    }
    old.connect("later", &proxy.sse_url(), None).must_count("later");
    old.ledger().assert_kept(&server);
}
