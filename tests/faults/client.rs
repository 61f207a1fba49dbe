//! Faults of clients and of the way to them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::both::Both;
use crate::driver::{Driver, Outcome};
use crate::fault_proxy::{FaultProxy, Manner};
use crate::namespace;
use crate::proxy::Proxy;
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

const MIB: usize = 1 << 20;
/// Whoever waits longer for an answer that takes no time was not served beside the others. Far above what a busy machine
/// needs: how fast is not what is asked here.
const STARVED: Duration = seconds(20);

#[test]
fn client_that_half_closes_is_gone_and_its_call_is_cancelled() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &["--linger", "1s"]);
    let between = FaultProxy::start(proxy.address());
    let python = Driver::python();
    let client = python.connect("python", &between.sse_url(), None);
    let held = client.begin("hold", "held");
    server.await_entry("run held", seconds(10));
    between.half_close_all();
    let outcome = held.outcome();
    assert_eq!(outcome.message(), "Connection closed", "{outcome:?}");
    server.await_entry("cancelled held", seconds(10));
    server.await_entry("deleted", seconds(10));
    wait::until("the end of the session", seconds(10), || proxy.ends() == ["client_disconnect"]);
    python.ledger().assert_kept_but(&server, |_, request| request.token.as_deref() == Some("held"));
}

#[test]
fn clients_that_are_killed_leave_nothing_behind() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &["--linger", "1s"]);
    let mut both = Both::connect(&proxy.sse_url());
    let before = proxy.child.descriptors();
    for client in both.clients() {
        let _ = client.begin("hold", client.name);
        server.await_entry(&format!("run {}", client.name), seconds(10));
    }
    both.typescript.kill();
    both.python.kill();
    wait::until("both calls are cancelled", seconds(10), || server.count("cancelled") == 2);
    wait::until("both sessions are deleted", seconds(10), || server.count("deleted") == 2);
    wait::until("both sessions have ended", seconds(10), || proxy.ends().len() == 2);
    wait::until("their descriptors are closed", seconds(10), || proxy.child.descriptors() <= before - 2);
    assert!(server.runs().values().all(|times| *times == 1));
}

/// Neither FIN nor RST: only what is not acknowledged shows it.
#[test]
fn client_that_vanishes_without_a_word_is_reaped_within_a_minute() {
    namespace::inside("client::client_that_vanishes_without_a_word_is_reaped_within_a_minute", || {
        let server = Server::start(Sdk::TypeScript, &[]);
        let host = "127.0.0.2";
        let listen = format!("{host}:0").parse().expect("an address");
        let proxy = Proxy::start_on(
            listen,
            &server.mcp_url(),
            &["--linger", "1s", "--keep-alive", "5s", "--allowed-host", host],
        );
        let typescript = Driver::typescript();
        let _ = typescript.connect("typescript", &proxy.sse_url(), None).begin("hold", "held");
        server.await_entry("run held", seconds(10));
        namespace::lose(host);
        wait::until("the end of the session", seconds(60), || proxy.ends() == ["client_disconnect"]);
        server.await_entry("cancelled held", seconds(5));
        server.await_entry("deleted", seconds(5));
    });
}

/// Ten clients that ask for 960 MiB and take nothing of it.
#[test]
fn clients_that_do_not_read_are_closed_and_memory_stays_bounded() {
    const CLIENTS: usize = 10;
    const CALLS: usize = 48;
    let server = Server::start(Sdk::TypeScript, &["--json"]);
    let proxy = Proxy::start(&server.mcp_url(), &["--stall", "8s"]);
    let between = FaultProxy::start(proxy.address());
    let (deaf, others) = (Driver::typescript(), Both::connect(&proxy.sse_url()));
    let names: Vec<String> = (0..CLIENTS).map(|i| format!("deaf-{i}")).collect();
    deaf.connect_all(&names, &between.sse_url(), |_| None);
    let before_kib = proxy.child.rss_kib();

    between.set(Manner::Deaf);
    for (name, call) in names.iter().flat_map(|name| (0..CALLS).map(move |call| (name, call))) {
        let arguments = json!({"token": format!("{name}-{call}"), "length": 2 * MIB});
        let _ = deaf.client(name).begin_with("long", &arguments);
    }
    let mut most_kib = 0;
    let mut rounds = 0;
    wait::until("they are closed", seconds(30), || {
        most_kib = most_kib.max(proxy.child.rss_kib());
        rounds += 1;
        for client in others.clients() {
            let asked = Instant::now();
            client.must_count(&format!("{}-{rounds}", client.name));
            assert!(asked.elapsed() < STARVED, "others are served: {:?}", asked.elapsed());
        }
        proxy.ends().len() == CLIENTS
    });
    assert!(proxy.ends().iter().all(|reason| reason == "slow_consumer"), "{:?}", proxy.ends());
    // For each what fills the outbox and what did not fit; and what is being read, which is 4 MiB and one answer at most,
    // and what lies in the buffers of connections. All that was asked for would be six times as much.
    let bound_kib = (CLIENTS * 16 + 16) * MIB / 1024;
    let grown_kib = usize::try_from(most_kib - before_kib).expect("a size");
    assert!(grown_kib < bound_kib, "grew by {grown_kib} KiB, more than {bound_kib}");
    wait::until("their sessions are deleted", seconds(10), || server.count("deleted") == CLIENTS);
    others.assert_kept(&server);
}

/// What is over the limits is told at once, and nobody else has to wait for it.
#[test]
fn client_that_floods_is_answered_and_others_are_served() {
    const CALLS: usize = 400;
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let (flood, other) = (Driver::typescript(), Driver::python());
    let flooding = flood.connect("flood", &proxy.sse_url(), None);
    let calm = other.connect("calm", &proxy.sse_url(), None);
    let calls: Vec<_> =
        (0..CALLS).map(|i| flooding.begin_with("count", &json!({"token": format!("flood-{i}"), "ms": 300}))).collect();
    let mut rounds = 0;
    let mut slowest = Duration::ZERO;
    while !calls.iter().all(crate::driver::Pending::is_over) {
        let asked = Instant::now();
        calm.must_count(&format!("calm-{rounds}"));
        slowest = slowest.max(asked.elapsed());
        rounds += 1;
    }
    assert!(slowest < STARVED, "the other client waited {slowest:?}");
    let outcomes: Vec<_> = calls.iter().map(crate::driver::Pending::outcome).collect();
    let carried_out = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Text(_))).count();
    let refused = outcomes.iter().filter(|outcome| outcome.reason() == "too_many_in_flight").count();
    assert!(carried_out >= 64, "{carried_out}");
    assert_eq!(carried_out + refused, CALLS, "{outcomes:?}");
    flood.ledger().assert_kept(&server);
    other.ledger().assert_kept(&server);
}

#[test]
fn way_to_the_client_that_is_slow_and_cuts_into_pieces_changes_nothing() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let between = FaultProxy::start(proxy.address());
    let both = Both::connect(&between.sse_url());
    for (manner, name) in [(Manner::Slice, "sliced"), (Manner::Delay(Duration::from_millis(50)), "late")] {
        between.set(manner);
        for client in both.clients() {
            let tokens = (0..20).map(|i| format!("{name}-{}-{i}", client.name));
            let calls: Vec<_> = tokens.map(|token| (client.begin("count", &token), token)).collect();
            for (call, token) in calls {
                assert_eq!(call.outcome(), Outcome::Text(format!("counted {token}")));
            }
        }
    }
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

/// The client that waits for a running call posts nothing: what shows whose it is, is its credential.
#[test]
fn typescript_client_with_a_token_that_is_cut_off_gets_its_session_and_its_answer() {
    let mut server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let between = FaultProxy::start(proxy.address());
    let typescript = Driver::typescript();
    let clients = ["one", "two"].map(|name| typescript.connect(name, &between.sse_url(), Some(name)));
    let held = clients.map(|client| client.begin("hold", client.name));
    for client in clients {
        server.await_entry(&format!("run {}", client.name), seconds(10));
    }
    assert_eq!(between.cut_streams(), 2);
    // The answers come while nobody is there to take them.
    server.tell("release");
    for (client, held) in clients.into_iter().zip(held) {
        assert_eq!(held.outcome(), Outcome::Text(format!("held {}", client.name)));
        client.must_count(&format!("{}-after", client.name));
        assert_eq!(client.streams(), 2);
    }
    assert_eq!(server.count("initialize"), 2, "the sessions are the old ones");
    wait::until("the streams that came back are merged", seconds(5), || {
        proxy.ends().iter().filter(|reason| *reason == "merged").count() == 2
    });
    typescript.ledger().assert_kept(&server);
}

/// What it posts while it is away goes to the endpoint of a stream on which it never said a word.
#[test]
fn typescript_client_with_a_token_that_is_cut_off_twice_in_silence_is_served_while_it_is_away() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let between = FaultProxy::start(proxy.address());
    let typescript = Driver::typescript();
    let client = typescript.connect("typescript", &between.sse_url(), Some("a-token"));
    client.must_count("before");
    assert_eq!(between.cut_streams(), 1);
    client.must_count("away-once");
    assert_eq!(client.streams(), 2);
    // Once more with nothing said on the second stream, and on the third.
    for stream in 2..4 {
        assert_eq!(between.cut_streams(), 1);
        client.await_stream(stream + 1, seconds(10));
    }
    assert_eq!(between.cut_streams(), 1);
    client.must_count("away-again");
    assert_eq!((client.streams(), server.count("initialize")), (5, 1));
    typescript.ledger().assert_kept(&server);
}

/// Without a credential nothing shows whose a stream is: it gets a session, and the proxy makes its handshake.
#[test]
fn typescript_client_without_a_token_that_is_cut_off_goes_on_in_a_new_session() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &["--linger", "1s"]);
    let between = FaultProxy::start(proxy.address());
    let typescript = Driver::typescript();
    let client = typescript.connect("typescript", &between.sse_url(), None);
    client.must_count("before");
    between.set(Manner::Refuse);
    assert_eq!(between.cut_streams(), 1);
    wait::until("it comes back in vain", seconds(10), || client.failed_gets() > 0);
    between.set(Manner::Pass);
    client.await_stream(2, seconds(10));
    client.must_count("after");
    assert_eq!((server.count("initialize"), server.count("initialized")), (2, 2));
    server.await_entry("deleted", seconds(10));
    typescript.ledger().assert_kept(&server);
}

#[test]
fn python_client_that_is_cut_off_is_told_and_its_call_is_not_made_again() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &["--linger", "1s"]);
    let between = FaultProxy::start(proxy.address());
    let python = Driver::python();
    let held = python.connect("python", &between.sse_url(), None).begin("hold", "held");
    server.await_entry("run held", seconds(10));
    assert_eq!(between.cut_streams(), 1);
    let outcome = held.outcome();
    assert_eq!(outcome.message(), "Connection closed", "{outcome:?}");
    python.connect("again", &between.sse_url(), None).must_count("after");
    server.await_entry("cancelled held", seconds(10));
    server.await_entry("deleted", seconds(10));
    python.ledger().assert_kept_but(&server, |_, request| request.token.as_deref() == Some("held"));
}
