//! A client's socket, with TLS or without, which tells when bytes come and how it ends.
//!
//! hyper owns it, so whether it ends with a reset is decided where it is dropped: a second descriptor for each connection
//! would cost a session a third of those it may have.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::connection::Control;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes within TLS. Boxed: it is ten times as large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// The socket as hyper has it.
pub(super) struct Wire {
    socket: Socket,
    control: Arc<Control>,
    /// The client was seen to have left.
    has_left: bool,
    /// What came and is still to be read, once hyper has the connection again.
    unread: Bytes,
}

/// Ends a connection so that its client gets RST when `stream` is dropped: unread and unsent bytes go with it.
pub(super) fn reset_on_drop(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Wire {
    pub(super) fn new(socket: Socket, control: Arc<Control>) -> Self {
        Wire { socket, control, has_left: false, unread: Bytes::new() }
    }

    /// Ends the connection of a client that left while hyper does not read. Not at first sight: hyper may be about to read
    /// the rest of what it sent, and would see by itself that nothing comes after it.
    fn look(&mut self) {
        let ready = self.socket.tcp().ready(Interest::READABLE).now_or_never();
        let has_left = ready.is_some_and(|ready| ready.is_ok_and(Ready::is_read_closed));
        if std::mem::replace(&mut self.has_left, has_left) && has_left {
            tracing::debug!("a client left while its request was being answered");
            self.control.ended.notify_one();
        }
    }

    /// `bytes` came, and nobody has read them.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        // A copy: hyper's buffer would stay with them.
        self.unread = Bytes::copy_from_slice(bytes);
    }

    /// Ready when the client has left, or its connection is broken. What else comes is the start of its next request, which
    /// has to wait; as with hyper, the client is then only looked for now and then.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.unread.is_empty() {
            return Poll::Pending;
        }
        let mut bytes = [MaybeUninit::uninit(); 256];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        let read = self.poll_socket(cx, &mut buffer);
        if ready!(self.noted(read)).is_err() || buffer.filled().is_empty() {
            return Poll::Ready(());
        }
        self.unread = Bytes::copy_from_slice(buffer.filled());
        Poll::Pending
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn written(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.control.patience.on_written();
        }
    }

    fn noted<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(&done, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut) {
            self.control.timed_out.store(true, Ordering::Relaxed);
        }
        done
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::Relaxed) {
            reset_on_drop(self.socket.tcp());
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = if self.unread.is_empty() {
            self.poll_socket(cx, buffer)
        } else {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(count));
            Poll::Ready(Ok(()))
        };
        if let Some(came @ [_, ..]) = buffer.filled().get(before..) {
            self.control.patience.on_bytes();
            if let Some(heads) = &self.control.heads {
                heads.feed(came);
            }
        }
        self.noted(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.written(&written);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        };
        self.written(&written);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    /// hyper flushes each time it is polled, whether there is something to flush or not.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.patience.is_to_look() {
            self.look();
        }
        let flushed = match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        if flushed.is_ready() {
            self.control.lull.on_flushed();
        }
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
