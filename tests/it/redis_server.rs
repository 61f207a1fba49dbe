//! The Redis server of the tests does what tests ask of it: a test of faults proves nothing if the fault did not happen.

use redis::{Connection, ErrorKind, RedisResult, ServerErrorKind, Value};

use crate::support::DEADLINE;
use crate::support::redis::{Redis, Setup, User};
use crate::support::tls::Authority;

fn connect(url: &str) -> RedisResult<Connection> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(DEADLINE)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    Ok(connection)
}

fn order(connection: &mut Connection, words: &[&str]) -> RedisResult<Value> {
    redis::cmd(words[0]).arg(&words[1..]).query(connection)
}

#[test]
fn redis_that_is_stopped_refuses_connections_and_comes_back_empty_on_its_port() {
    assert!(Redis::is_installed());
    let mut server = Redis::start();
    let (url, mut connection) = (server.url(), connect(&server.url()).expect("a connection"));
    order(&mut connection, &["SET", "a", "b"]).expect("an answer");
    assert_eq!(server.text(&["GET", "a"]), "b");
    server.stop();
    assert!(order(&mut connection, &["PING"]).is_err(), "the connection is closed");
    assert!(connect(&url).is_err(), "and a new one refused");
    server.restart();
    assert_eq!(server.url(), url);
    let mut connection = connect(&url).expect("a connection");
    assert_eq!(order(&mut connection, &["GET", "a"]).expect("an answer"), Value::Nil);
}

#[test]
fn redis_that_is_paused_answers_nothing_until_it_goes_on() {
    let server = Redis::start();
    let mut connection = connect(&server.url()).expect("a connection");
    server.pause();
    connection.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("a limit");
    let silent = order(&mut connection, &["PING"]).expect_err("no answer");
    assert!(silent.is_timeout(), "{silent}");
    server.resume();
    let mut connection = connect(&server.url()).expect("a connection");
    order(&mut connection, &["PING"]).expect("an answer");
}

#[test]
fn redis_closes_the_connections_of_the_kind_that_is_named() {
    let server = Redis::start();
    let open = || connect(&server.url()).expect("a connection");
    let (mut normal, mut subscriber) = (open(), open());
    order(&mut normal, &["PING"]).expect("an answer");
    order(&mut subscriber, &["SUBSCRIBE", "c"]).expect("an answer");
    assert_eq!(server.kill_clients("pubsub"), 1);
    order(&mut normal, &["PING"]).expect("the other kind stays");
    assert!(order(&mut subscriber, &["SUBSCRIBE", "d"]).is_err());
    order(&mut open(), &["SUBSCRIBE", "c"]).expect("an answer");
    assert!(server.kill_clients("all") >= 1);
    assert!(order(&mut normal, &["PING"]).is_err());
}

#[test]
fn redis_with_a_user_takes_nobody_else_and_no_other_orders() {
    let rights = "~a:* &a:* -@all +get +set";
    let user = User { name: "one", password: "secret", rights };
    let server = Redis::start_with(Setup { user: Some(user), ..Setup::default() });
    let mut connection = connect(&server.url()).expect("a connection");
    order(&mut connection, &["SET", "a:1", "b"]).expect("allowed");
    for forbidden in [&["SET", "b:1", "b"][..], &["DEL", "a:1"]] {
        let error = order(&mut connection, forbidden).expect_err("forbidden");
        assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm), "{error}");
    }
    let mut anybody = connect(&format!("redis://{}", server.address())).expect("a connection");
    let error = order(&mut anybody, &["GET", "a:1"]).expect_err("forbidden");
    assert_eq!(error.code(), Some("NOAUTH"), "{error}");
    assert_eq!(server.text(&["GET", "a:1"]), "b", "operators still may");
}

#[test]
fn redis_with_a_certificate_speaks_tls_and_nothing_else() {
    let authority = Authority::new();
    let tls = Some(authority.identity("127.0.0.1").pem());
    let server = Redis::start_with(Setup { tls, ..Setup::default() });
    let trusting = |root: &str| {
        let root_cert = Some(root.as_bytes().to_vec());
        let certificates = redis::TlsCertificates { client_tls: None, root_cert };
        let client = redis::Client::build_with_tls(server.url(), certificates)?;
        let mut connection = client.get_connection_with_timeout(DEADLINE)?;
        order(&mut connection, &["PING"])
    };
    trusting(&authority.pem()).expect("an answer");
    trusting(&Authority::new().pem()).expect_err("nobody vouches for it");
    let plain = connect(&server.url().replace("rediss", "redis"));
    assert!(plain.is_err() || order(&mut plain.expect("a connection"), &["PING"]).is_err());
}

#[test]
fn replica_takes_over_with_what_was_there() {
    let mut primary = Redis::start();
    primary.command(&["SET", "a", "b"]);
    let replica = primary.replica();
    let mut connection = connect(&replica.url()).expect("a connection");
    order(&mut connection, &["SET", "a", "c"]).expect_err("it only follows");
    primary.stop();
    replica.promote();
    assert_eq!(replica.figure("replication", "role"), "master");
    assert_eq!(replica.text(&["GET", "a"]), "b");
    order(&mut connection, &["SET", "a", "c"]).expect("it leads");
}
