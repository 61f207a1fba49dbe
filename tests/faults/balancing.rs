//! The proxy behind real balancers: restarted, killed, replaced, idle.

use crate::balancer::{Balancer, Kind};
use crate::driver::{Client, Driver, Outcome};
use crate::port::Port;
use crate::proxy::Proxy;
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

const HOUR_S: u64 = 3600;
/// TypeScript comes back after 3 s, and again after 3 s.
const RETURN: std::time::Duration = seconds(20);

/// How a proxy is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Told,
    Killed,
}

/// One proxy is ended and started again; TypeScript clients go on by themselves.
fn assert_clients_go_on(kind: Kind, end: End) {
    let server = Server::start(Sdk::TypeScript, &[]);
    let port = Port::reserve();
    let options = ["--drain-delay", "1s", "--drain", "10s"];
    let mut proxy = Proxy::start_on(port.address, &server.mcp_url(), &options);
    let balancer = Balancer::start(kind, &[port.address], HOUR_S);
    let typescript = Driver::typescript();
    let connect = |name, token| typescript.connect(name, &balancer.sse_url(), token);
    let clients = [connect("one", Some("one")), connect("two", Some("two")), connect("anonymous", None)];
    for client in clients {
        client.must_count(&format!("{}-before", client.name));
    }
    match end {
        End::Told => assert_eq!(proxy.terminate(seconds(30)).code(), Some(0)),
        End::Killed => proxy.child.kill(),
    }
    // Nobody is there when they come back first: the balancer must not tell them so.
    for client in clients {
        wait::until("a GET that gets no answer", RETURN, || client.failed_gets() > 0);
    }
    let _proxy = Proxy::start_on(port.address, &server.mcp_url(), &options);
    for client in clients {
        client.await_stream(2, RETURN);
        client.must_count(&format!("{}-after", client.name));
        assert!(client.tools().contains(&"count".to_owned()));
    }
    typescript.ledger().assert_kept(&server);
}

#[test]
fn clients_behind_nginx_go_on_after_the_proxy_was_restarted() {
    assert_clients_go_on(Kind::Nginx, End::Told);
}

#[test]
fn clients_behind_nginx_go_on_after_the_proxy_was_killed() {
    assert_clients_go_on(Kind::Nginx, End::Killed);
}

#[test]
fn clients_behind_haproxy_go_on_after_the_proxy_was_restarted() {
    assert_clients_go_on(Kind::Haproxy, End::Told);
}

#[test]
fn clients_behind_haproxy_go_on_after_the_proxy_was_killed() {
    assert_clients_go_on(Kind::Haproxy, End::Killed);
}

/// While the old proxy drains, its sessions work there to their end and clients that come back find the new one.
#[test]
fn clients_behind_nginx_move_from_a_draining_proxy_to_the_next() {
    let mut server = Server::start(Sdk::TypeScript, &[]);
    let mut old = Proxy::start(&server.mcp_url(), &["--drain-delay", "1s", "--drain", "25s"]);
    let new = Proxy::start(&server.mcp_url(), &[]);
    let balancer = Balancer::start(Kind::Nginx, &[old.address(), new.address()], HOUR_S);
    let (typescript, python) = (Driver::typescript(), Driver::python());
    let idle = typescript.connect("idle", &balancer.sse_url(), None);
    let busy = python.connect("busy", &balancer.sse_url(), None);
    idle.must_count("idle-before");
    let held = busy.begin("hold", "busy-held");
    server.await_entry("run busy-held", seconds(10));
    // What a client has been told may not have been written yet.
    let connects = |proxy: &Proxy| proxy.records("legacy.connect").len();
    wait::until("both streams at the old one", seconds(10), || connects(&old) == 2);
    assert_eq!(connects(&new), 0);

    old.child.signal("TERM");
    idle.await_stream(2, RETURN);
    wait::until("the new stream at the new one", seconds(10), || connects(&new) == 1);
    assert!(!old.child.has_ended(), "it still owes an answer");
    idle.must_count("idle-meanwhile");
    busy.must_count("busy-meanwhile");
    server.tell("release");
    assert_eq!(held.outcome(), Outcome::Text("held busy-held".to_owned()));
    assert_eq!(old.child.ended(seconds(30)).code(), Some(0));
    assert_eq!(connects(&old), 2, "the old one takes no new streams");

    idle.must_count("idle-after");
    python.connect("again", &balancer.sse_url(), None).must_count("again");
    typescript.ledger().assert_kept(&server);
    python.ledger().assert_kept(&server);
}

/// A balancer that cuts what is silent for two seconds: comments keep the stream, and without them it is cut.
fn assert_comments_keep_the_stream(kind: Kind) {
    let server = Server::start(Sdk::TypeScript, &[]);
    let kept = Proxy::start(&server.mcp_url(), &["--keep-alive", "1s"]);
    let cut = Proxy::start(&server.mcp_url(), &["--keep-alive", "1h"]);
    let typescript = Driver::typescript();
    let before_kept = Balancer::start(kind, &[kept.address()], 2);
    let before_cut = Balancer::start(kind, &[cut.address()], 2);
    let calm: Client<'_> = typescript.connect("calm", &before_kept.sse_url(), None);
    let control = typescript.connect("control", &before_cut.sse_url(), None);
    control.await_stream(2, seconds(15));
    assert_eq!(calm.streams(), 1, "{kind:?}");
    calm.must_count("calm");
    typescript.ledger().assert_kept(&server);
}

#[test]
fn idle_stream_behind_nginx_is_kept_by_comments() {
    assert_comments_keep_the_stream(Kind::Nginx);
}

#[test]
fn idle_stream_behind_haproxy_is_kept_by_comments() {
    assert_comments_keep_the_stream(Kind::Haproxy);
}
