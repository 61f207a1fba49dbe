//! The accepting socket.
//!
//! One descriptor is kept in reserve: when all are in use, it makes room to accept whoever waits and to turn them away,
//! instead of leaving them without a word until their own patience ends.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::seldom::Seldom;
use super::wire::reset_on_drop;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Unacknowledged data ends a connection after this: a client that vanished without a word is noticed.
pub const USER_TIMEOUT: Duration = Duration::from_secs(45);
/// How long to wait when descriptors have run out, instead of spinning.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How many connections are turned away between two such waits.
const TURNED_AWAY: usize = 128;
/// How often that is said.
const TOLD: Duration = Duration::from_secs(10);

/// Binds `address`. A port that an earlier process left in `TIME_WAIT` can be had at once.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes `passed`, which somebody has bound already, or else binds `address`.
///
/// # Errors
/// When the address cannot be bound, or `passed` is no listener.
pub fn take(passed: Option<std::net::TcpListener>, address: SocketAddr) -> io::Result<TcpListener> {
    let Some(passed) = passed else { return bind(address) };
    if !SockRef::from(&passed).is_listener()? {
        let text = "the socket that was passed does not listen (a socket unit needs Accept=no)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    passed.set_nonblocking(true)?;
    TcpListener::from_std(passed)
}

/// Accepts connections for ever and hands each to `take`. Cancel safe.
pub async fn listen(listener: &TcpListener, take: impl FnMut(TcpStream, SocketAddr)) {
    listen_counting(listener, take, || {}).await;
}

/// The same; `exhausted` is told of each connection that was turned away because descriptors have run out.
pub(super) async fn listen_counting(
    listener: &TcpListener,
    mut take: impl FnMut(TcpStream, SocketAddr),
    mut exhausted: impl FnMut(),
) {
    let mut spare = spare();
    let told = Seldom::new(TOLD);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%error, "a connection was gone before it was taken");
                    continue;
                }
                take(stream, peer);
            }
            Err(error) => {
                // Out of descriptors, or the connection was gone again: sessions that live go on.
                if told.may() {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                if spare.take().is_some() {
                    turn_away(listener, &mut exhausted);
                }
                spare = self::spare();
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// A descriptor that nobody needs.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn turn_away(listener: &TcpListener, exhausted: &mut impl FnMut()) {
    for _ in 0..TURNED_AWAY {
        let Some(Ok((stream, _))) = listener.accept().now_or_never() else { break };
        reset_on_drop(&stream);
        exhausted();
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&probes.with_retries(4))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passed_socket_is_taken_and_one_that_does_not_listen_refused() {
        let nowhere = "192.0.2.1:1".parse().expect("an address");
        let passed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = passed.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(address).expect("a connection");
        let listener = take(Some(passed), nowhere).expect("taken");
        assert_eq!(listener.local_addr().expect("an address"), address);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let error = take(Some(socket.into()), nowhere).expect_err("no listener");
        assert!(error.to_string().contains("Accept=no"), "{error}");
        drop(client);
    }

    #[tokio::test]
    async fn accepted_connections_notice_a_peer_that_vanished() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (accepted, mut connections) = tokio::sync::mpsc::channel(1);
        let listening = listen(&listener, move |stream, _| accepted.try_send(stream).expect("one connection"));
        let stream = tokio::select! {
            stream = connections.recv() => stream.expect("a connection"),
            () = listening => unreachable!("it listens for ever"),
        };
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(USER_TIMEOUT));
        assert!(socket.keepalive().expect("an option") && stream.nodelay().expect("an option"));
        drop(client);
    }
}
