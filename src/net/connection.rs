//! One client connection, served by hyper (HTTP/1.1 only: no h2c, no upgrades).
//!
//! Why an [`Ender`]: hyper does not poll a response body while its write buffer is full, so a client that stopped
//! reading can only be ended by dropping its connection; and a reset, not an answer, is what makes TypeScript clients
//! retry while the process drains.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::drain::{Phase, Watch};

/// Header fields a request may have; hyper answers 431 beyond.
const MAX_HEADERS: usize = 100;
/// Bytes a request's head may have; hyper answers 431 beyond.
const MAX_HEAD: usize = 32 << 10;

/// Ends a connection from outside.
#[derive(Debug, Clone, Default)]
pub struct Ender {
    ended: Arc<Notify>,
    reset: Arc<AtomicBool>,
}

/// What a connection knows of its other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer of the TCP connection.
    pub address: SocketAddr,
    /// Ends the connection.
    pub ender: Ender,
}

impl Ender {
    /// Ends the connection wherever it is.
    pub fn end(&self) {
        self.ended.notify_one();
    }

    /// Ends it with a reset, so that the client sees no answer at all.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        self.ended.notify_one();
    }
}

/// Serves one connection to its end, or until it is ended, or until the process has drained and nothing is under way.
pub async fn serve<S, F, B>(stream: TcpStream, peer: SocketAddr, mut drain: Watch, service: S)
where
    S: Fn(Request<Incoming>, Peer) -> F + Send,
    F: Future<Output = Response<B>> + Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let ender = Ender::default();
    let peer = Peer { address: peer, ender: ender.clone() };
    let stream = Wire { stream, reset: Arc::clone(&ender.reset) };
    let answer = service_fn(|request| {
        let answer = service(request, peer.clone());
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None::<Duration>)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = ender.ended.notified() => break,
            // Not before: a POST for a running session may come on this very connection, and one that meets a
            // close is lost.
            () = drain.reached(Phase::Over), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
        }
    }
}

/// The client's socket. hyper owns it, so whether it ends with a reset is decided where it is dropped: a second
/// descriptor for each connection would cost a session a third of those it may have.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Unread and unsent bytes go with it: the client gets RST.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
