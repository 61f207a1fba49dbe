//! Faults of the upstream: down, killed, restarted, silent, cut off.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::both::Both;
use crate::driver::Outcome;
use crate::fault_proxy::{FaultProxy, Manner};
use crate::proxy::Proxy;
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

#[test]
fn upstream_that_is_down_is_an_error_and_is_found_when_it_comes_up() {
    let mut server = Server::not_started(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let both = Both::start();
    for driver in [&both.typescript, &both.python] {
        // Its process has started when it answers.
        driver.ledger();
        let asked = Instant::now();
        let outcome = driver.begin_connect("too-early", &proxy.sse_url()).outcome();
        assert!(asked.elapsed() < seconds(6), "{:?}", asked.elapsed());
        assert_eq!((outcome.code(), outcome.reason()), (-32002, "upstream_unavailable"), "{outcome:?}");
        assert!(outcome.message().contains("not sent"), "{outcome:?}");
    }
    server.restart();
    for driver in [&both.typescript, &both.python] {
        driver.connect("later", &proxy.sse_url(), None);
    }
    both.typescript.client("later").must_count("typescript");
    both.python.client("later").must_count("python");
    both.assert_kept(&server);
}

#[test]
fn upstream_that_is_killed_mid_call_is_one_error_that_says_it_may_have_run() {
    for (sdk, options) in [(Sdk::TypeScript, &[][..]), (Sdk::TypeScript, &["--json"]), (Sdk::Python, &[])] {
        let mut server = Server::start(sdk, options);
        let proxy = Proxy::start(&server.mcp_url(), &[]);
        let both = Both::connect(&proxy.sse_url());
        let held = both.clients().map(|client| client.begin("hold", client.name));
        for client in both.clients() {
            server.await_entry(&format!("run {}", client.name), seconds(10));
        }
        server.kill();
        for call in &held {
            let outcome = call.outcome();
            assert_eq!(outcome.reason(), "upstream_connection_lost", "{sdk:?} {options:?}: {outcome:?}");
            assert!(outcome.message().contains("the call may have run"), "{outcome:?}");
        }
        // What is asked while nobody listens was not sent, and says so.
        for client in both.clients() {
            let outcome = client.count(&format!("{}-down", client.name));
            assert_eq!(outcome.reason(), "upstream_unavailable", "{outcome:?}");
        }
        both.assert_streams_stayed();
        both.assert_kept(&server);
    }
}

/// What clients declared and chose is known to the server's next life, and they are told that lists may have changed.
#[test]
fn upstream_that_restarts_is_shaken_hands_with_again() {
    for options in [&[][..], &["--json"]] {
        let mut server = Server::start(Sdk::TypeScript, options);
        let proxy = Proxy::start(&server.mcp_url(), &[]);
        let both = Both::connect(&proxy.sse_url());
        both.typescript.client("typescript").set_level("warning");
        for client in both.clients() {
            client.must_count(&format!("{}-before", client.name));
        }
        server.kill();
        server.restart();
        for client in both.clients() {
            client.must_count(&format!("{}-after", client.name));
            assert!(client.tools().contains(&"count".to_owned()), "{}", client.name);
        }
        let initialized: Vec<String> = of(&server, "initialize");
        let mut twice = initialized.clone();
        twice.sort();
        assert_eq!(twice[0], twice[1], "each client's own, again: {initialized:?}");
        assert_eq!((twice.len(), twice[2] == twice[3]), (4, true), "{initialized:?}");
        assert_eq!(of(&server, "level"), ["warning", "warning"]);
        assert_eq!(server.count("initialized"), 4);
        for driver in [&both.typescript, &both.python] {
            wait::until("the client is told that the tools may have changed", seconds(5), || {
                let told = driver.ledger().clients.into_values().flat_map(|account| account.notifications);
                told.filter(|method| method == "notifications/tools/list_changed").count() == 1
            });
        }
        both.assert_streams_stayed();
        both.assert_kept(&server);
    }
}

#[test]
fn upstream_of_python_that_restarts_is_shaken_hands_with_again() {
    let mut server = Server::start(Sdk::Python, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let both = Both::connect(&proxy.sse_url());
    let held = both.clients().map(|client| client.begin("hold", &format!("{}-held", client.name)));
    for client in both.clients() {
        server.await_entry(&format!("run {}-held", client.name), seconds(10));
    }
    server.kill();
    server.restart();
    for (client, held) in both.clients().into_iter().zip(held) {
        assert_eq!(held.outcome().reason(), "upstream_connection_lost");
        client.must_count(&format!("{}-after", client.name));
    }
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

/// The server forgets its sessions and stays up, as with eviction: nothing breaks, so only its 404 tells.
#[test]
fn session_that_the_upstream_forgets_is_made_again_and_running_calls_end() {
    let mut server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let both = Both::connect(&proxy.sse_url());
    let held = both.clients().map(|client| client.begin("hold", &format!("{}-held", client.name)));
    for client in both.clients() {
        server.await_entry(&format!("run {}-held", client.name), seconds(10));
    }
    server.tell("forget");
    for (client, held) in both.clients().into_iter().zip(held) {
        client.must_count(&format!("{}-after", client.name));
        let outcome = held.outcome();
        assert_eq!(outcome.reason(), "session_lost", "{outcome:?}");
    }
    assert!(server.count("unknown-session tools/call") >= 2, "its refusal made the proxy shake hands again");
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

/// Before the head (`--json`) and within the stream; the other call of the same session goes on.
#[test]
fn upstream_that_is_silent_is_an_error_at_the_deadline_and_the_call_is_cancelled() {
    for options in [&[][..], &["--json"]] {
        let server = Server::start(Sdk::TypeScript, options);
        let proxy = Proxy::start(&server.mcp_url(), &["--call-timeout", "2s"]);
        let both = Both::connect(&proxy.sse_url());
        let held = both.clients().map(|client| client.begin("hold", client.name));
        for client in both.clients() {
            client.must_count(&format!("{}-meanwhile", client.name));
        }
        for (client, held) in both.clients().into_iter().zip(held) {
            let outcome = held.outcome();
            assert_eq!(outcome.reason(), "upstream_timeout", "{options:?}: {outcome:?}");
            assert!(outcome.message().contains("the call may have run"), "{outcome:?}");
            server.await_entry(&format!("cancelled {}", client.name), seconds(5));
            client.must_count(&format!("{}-after", client.name));
        }
        both.assert_streams_stayed();
        both.assert_kept(&server);
    }
}

/// SIGSTOP: the kernel goes on accepting connections and acknowledging, and nobody answers.
#[test]
fn upstream_that_is_stopped_is_an_error_at_the_deadline_and_goes_on_where_it_was() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &["--call-timeout", "2s"]);
    let both = Both::connect(&proxy.sse_url());
    server.signal("STOP");
    let calls = both.clients().map(|client| client.begin("count", &format!("{}-stopped", client.name)));
    for call in calls {
        let outcome = call.outcome();
        assert_eq!(outcome.reason(), "upstream_timeout", "{outcome:?}");
    }
    server.signal("CONT");
    for client in both.clients() {
        client.must_count(&format!("{}-after", client.name));
    }
    assert_eq!(server.count("initialize"), 2, "the sessions are the old ones");
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

#[test]
fn stream_that_is_cut_mid_call_is_resumed_where_the_server_keeps_events() {
    let server = Server::start(Sdk::TypeScript, &["--resumable"]);
    let between = FaultProxy::start(server.port().address);
    let proxy = Proxy::start(&between.mcp_url(), &[]);
    let both = Both::connect(&proxy.sse_url());
    // Progress is what brings event ids.
    let held = both.clients().map(|client| client.begin_with("count", &json!({"token": client.name, "ms": 2000})));
    for client in both.clients() {
        server.await_entry(&format!("run {}", client.name), seconds(10));
    }
    wait::until("progress of both calls", seconds(10), || {
        let ledgers = [both.typescript.ledger(), both.python.ledger()];
        ledgers.iter().all(|ledger| ledger.has_notified("notifications/progress"))
    });
    assert!(between.cut_all() > 0);
    for (client, held) in both.clients().into_iter().zip(held) {
        assert_eq!(held.outcome(), Outcome::Text(format!("counted {}", client.name)));
    }
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

#[test]
fn stream_that_is_cut_mid_call_is_one_error_where_it_cannot_be_resumed() {
    for sdk in [Sdk::TypeScript, Sdk::Python] {
        let server = Server::start(sdk, &[]);
        let between = FaultProxy::start(server.port().address);
        let proxy = Proxy::start(&between.mcp_url(), &[]);
        let both = Both::connect(&proxy.sse_url());
        let held = both.clients().map(|client| client.begin("hold", client.name));
        for client in both.clients() {
            server.await_entry(&format!("run {}", client.name), seconds(10));
        }
        assert!(between.cut_all() > 0);
        for (client, held) in both.clients().into_iter().zip(held) {
            let outcome = held.outcome();
            assert_eq!(outcome.reason(), "upstream_connection_lost", "{sdk:?}: {outcome:?}");
            client.must_count(&format!("{}-after", client.name));
        }
        assert_eq!(server.count("initialize"), if sdk == Sdk::TypeScript { 2 } else { 0 }, "the sessions lived on");
        both.assert_streams_stayed();
        both.assert_kept(&server);
    }
}

/// Nothing moves and nothing is closed, as when a firewall forgets a connection.
#[test]
fn way_to_the_upstream_that_is_a_black_hole_is_an_error_at_the_deadline() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let between = FaultProxy::start(server.port().address);
    let proxy = Proxy::start(&between.mcp_url(), &["--call-timeout", "2s"]);
    let both = Both::connect(&proxy.sse_url());
    between.set(Manner::Blackhole);
    let calls = both.clients().map(|client| client.begin("count", &format!("{}-lost", client.name)));
    for call in calls {
        let outcome = call.outcome();
        assert_eq!(outcome.reason(), "upstream_timeout", "{outcome:?}");
    }
    between.cut_all();
    between.set(Manner::Pass);
    for client in both.clients() {
        client.must_count(&format!("{}-after", client.name));
    }
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

#[test]
fn way_to_the_upstream_that_is_slow_and_cuts_into_pieces_changes_nothing() {
    let server = Server::start(Sdk::TypeScript, &[]);
    let between = FaultProxy::start(server.port().address);
    let proxy = Proxy::start(&between.mcp_url(), &[]);
    let both = Both::connect(&proxy.sse_url());
    for (manner, name) in [(Manner::Slice, "sliced"), (Manner::Delay(Duration::from_millis(100)), "late")] {
        between.set(manner);
        let calls: Vec<_> = both
            .clients()
            .into_iter()
            .flat_map(|client| (0..20).map(move |i| (client, format!("{name}-{}-{i}", client.name))))
            .map(|(client, token)| (client.begin("count", &token), token))
            .collect();
        for (call, token) in calls {
            assert_eq!(call.outcome(), Outcome::Text(format!("counted {token}")));
        }
    }
    both.assert_streams_stayed();
    both.assert_kept(&server);
}

/// What stands in the journal behind `entry`.
fn of(server: &Server, entry: &str) -> Vec<String> {
    let journal = server.journal();
    let found = journal.iter().filter_map(|line| line.strip_prefix(entry)?.strip_prefix(' '));
    found.map(str::to_owned).collect()
}
