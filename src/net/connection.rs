//! One client connection, served by hyper (HTTP/1.1 only: no h2c, no upgrades).
//!
//! Why an [`Ender`]: hyper does not poll a response body while its write buffer is full, so a client that stopped
//! reading can only be ended by dropping its connection; and a reset, not an answer, is what makes TypeScript clients
//! retry while the process drains.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::heads::Heads;
use super::patience::{Limits, Patience};
use crate::drain::{Phase, Watch};

/// Header fields and bytes that a request's head may have. Twice what the front allows: it says what is wrong, while
/// hyper's own 431 has no body.
const MAX_HEADERS: usize = 200;
const MAX_HEAD: usize = 64 << 10;

/// Ends a connection from outside.
#[derive(Debug, Clone)]
pub struct Ender {
    control: Arc<Control>,
}

/// What the parts of one connection share.
#[derive(Debug)]
struct Control {
    ended: Notify,
    reset: AtomicBool,
    /// The kernel has given the peer up: it acknowledged nothing for [`super::USER_TIMEOUT`].
    timed_out: AtomicBool,
    patience: Patience,
    heads: Heads,
}

/// What a connection knows of its other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer of the TCP connection.
    pub address: SocketAddr,
    /// Ends the connection.
    pub ender: Ender,
}

impl Control {
    fn noted<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(&done, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut) {
            self.timed_out.store(true, Ordering::Relaxed);
        }
        done
    }
}

impl Ender {
    /// Ends the connection wherever it is.
    pub fn end(&self) {
        self.control.ended.notify_one();
    }

    /// Whether it ended because its peer had vanished without a word, [`super::USER_TIMEOUT`] ago.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.control.timed_out.load(Ordering::Relaxed)
    }

    /// Ends it with a reset, so that the client sees no answer at all.
    pub fn reset(&self) {
        self.control.reset.store(true, Ordering::Relaxed);
        self.end();
    }
}

/// Serves one connection to its end, or until it is ended, or until its client takes too long over a request, or until
/// the process has drained and nothing is under way.
pub async fn serve<S, F, B>(stream: TcpStream, peer: SocketAddr, limits: Limits, mut drain: Watch, service: S)
where
    S: Fn(Request<Incoming>, Peer) -> F + Send,
    F: Future<Output = Response<B>> + Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let patience = Patience::new(limits);
    let control = Arc::new(Control {
        ended: Notify::new(),
        reset: AtomicBool::new(false),
        timed_out: AtomicBool::new(false),
        patience,
        heads: Heads::default(),
    });
    let peer = Peer { address: peer, ender: Ender { control: Arc::clone(&control) } };
    let stream = Wire { stream, control: Arc::clone(&control) };
    let answer = service_fn(|request| {
        control.patience.on_request();
        let answer = if control.heads.are_doubtful() { None } else { Some(service(request, peer.clone())) };
        let control = Arc::clone(&control);
        async move {
            let Some(answer) = answer else {
                tracing::debug!("a head with a line that ends without CR; the connection is ended");
                control.ended.notify_one();
                return std::future::pending().await;
            };
            Ok::<_, Infallible>(answer.await.map(|body| Answer { body, control }))
        }
    });
    let connection = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None::<Duration>)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = control.ended.notified() => break,
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
            // After the connection: what it does decides what is waited for.
            () = poll_fn(|cx| control.patience.poll_over(timer.as_mut(), cx)) => {
                tracing::debug!("a client took too long over a request");
                break;
            }
        }
    }
}

/// The client's socket, which tells when bytes come. hyper owns it, so whether it ends with a reset is decided where it is dropped: a second
/// descriptor for each connection would cost a session a third of those it may have.
struct Wire {
    stream: TcpStream,
    control: Arc<Control>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::Relaxed) {
            // Unread and unsent bytes go with it: the client gets RST.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(came @ [_, ..]) = buffer.filled().get(before..) {
            self.control.patience.on_bytes();
            self.control.heads.feed(came);
        }
        self.control.noted(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.control.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.control.noted(written)
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

/// The body of an answer; hyper drops it when it is written.
struct Answer<B> {
    body: B,
    control: Arc<Control>,
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.control.patience.on_answered();
        self.control.heads.await_next();
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
