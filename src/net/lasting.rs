//! An answer that lasts: the body of an event stream, written without hyper once its head is out.
//!
//! Why: hyper keeps 8 KiB to read with and 8 KiB to write with for every connection, and a stream that waits for its next
//! event needs neither: 7 KiB of the 44 that an idle session cost (tests/load/README.md).
//!
//! hyper reads the request and writes the head, and takes from the body as long as that has something. At the first lull,
//! when all of it is written, the connection is taken from hyper; what comes later is framed here (chunks, RFC 9112 §7.1).
//! Afterwards hyper gets the connection back for the next request.
//!
//! The trap: hyper drops the body that it has when the connection is taken from it. So the body lies in the [`Loan`], and is
//! called in before; where it was not, it goes with hyper's [`Extract`], as the client has left.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite as _;

use super::connection::Asked;
use super::wire::Wire;
use crate::sse;

/// Bytes that are taken from the body before what was taken is written.
const AHEAD: usize = 64 << 10;
/// Chunks for one write, each of three parts.
const CHUNKS: usize = 16;
const PARTS: usize = 3 * CHUNKS;

const LINE_END: Bytes = Bytes::from_static(b"\r\n");
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// Where the body lies of the answer that lasts, for hyper's part and for what comes after.
pub(super) struct Loan<B>(Arc<Mutex<Option<Lasting<B>>>>);

/// The body as hyper has it.
pub(super) struct Extract<B>(Loan<B>);

/// The body, and what goes with it.
pub(super) struct Lasting<B> {
    body: B,
    asked: Asked,
    /// Another request may come on the connection.
    is_kept: bool,
}

/// What of a request tells whether its answer may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    may_last: bool,
    is_kept: bool,
}

impl Wish {
    /// HTTP/1.0 has no chunks; a body that was not read has to be read first.
    pub(super) fn of<B: Body>(request: &Request<B>) -> Self {
        let may_last =
            request.method() == Method::GET && request.version() == Version::HTTP_11 && request.body().is_end_stream();
        Wish { may_last, is_kept: may_last && !says_close(request.headers()) }
    }

    /// Whether `answer` is one that lasts.
    pub(super) fn is_granted<B>(self, answer: &Response<B>) -> bool {
        self.may_last
            && answer.status() == StatusCode::OK
            && sse::is_event_stream(answer.headers())
            && !answer.headers().contains_key(header::CONTENT_LENGTH)
            && !says_close(answer.headers())
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}

impl<B> Default for Loan<B> {
    fn default() -> Self {
        Loan(Arc::new(Mutex::new(None)))
    }
}

impl<B> Loan<B> {
    fn lock(&self) -> MutexGuard<'_, Option<Lasting<B>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the body of an answer here; hyper gets what is returned.
    pub(super) fn lend(&self, body: B, asked: Asked, wish: Wish) -> Extract<B> {
        *self.lock() = Some(Lasting { body, asked, is_kept: wish.is_kept });
        Extract(Loan(Arc::clone(&self.0)))
    }

    /// Takes the body from hyper.
    pub(super) fn call_in(&self) -> Option<Lasting<B>> {
        self.lock().take()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Extract<B> {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut lasting = self.0.lock();
        let Some(lasting) = &mut *lasting else { return Poll::Ready(None) };
        let frame = Pin::new(&mut lasting.body).poll_frame(cx);
        lasting.asked.control().lull.on_asked(frame.is_pending());
        frame
    }
}

impl<B> Drop for Extract<B> {
    fn drop(&mut self) {
        let lasting = self.0.lock().take();
        drop(lasting);
    }
}

/// Whether hyper has written everything that the body had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Lull {
    None,
    /// The body has no more for now, and hyper may still be writing.
    Taken,
    /// All is written.
    Written,
}

/// [`Lull`], of one connection.
#[derive(Debug, Default)]
pub(super) struct LullCell(std::sync::atomic::AtomicU8);

impl LullCell {
    fn is(&self, lull: Lull) -> bool {
        self.0.load(Ordering::Relaxed) == lull as u8
    }

    fn store(&self, lull: Lull) {
        self.0.store(lull as u8, Ordering::Relaxed);
    }

    /// The body was asked for more. hyper may ask once more when all is written, and does not flush again then.
    fn on_asked(&self, has_nothing: bool) {
        if !has_nothing {
            self.store(Lull::None);
        } else if self.is(Lull::None) {
            self.store(Lull::Taken);
        }
    }

    /// hyper has nothing left to write. Only then it flushes the socket.
    pub(super) fn on_flushed(&self) {
        if self.is(Lull::Taken) {
            self.store(Lull::Written);
        }
    }

    /// Whether the connection can be taken from hyper.
    pub(super) fn is_written(&self) -> bool {
        self.is(Lull::Written)
    }
}

/// How the rest of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// All of it is written, and another request may come.
    Kept,
    /// The connection is over: the client wanted no more or left, or the body broke off.
    Over,
}

/// Writes the rest of an answer.
pub(super) struct Writer<B> {
    lasting: Lasting<B>,
    /// What was taken and is not written: of each chunk its size, its data and the end of its line.
    parts: VecDeque<Bytes>,
    bytes: usize,
    is_over: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Writer<B> {
    pub(super) fn new(lasting: Lasting<B>) -> Self {
        lasting.asked.control().lull.store(Lull::None);
        Writer { lasting, parts: VecDeque::new(), bytes: 0, is_over: false }
    }

    /// Ready when the answer is over, one way or the other.
    pub(super) fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Rest> {
        if wire.poll_left(cx).is_ready() {
            return Poll::Ready(Rest::Over);
        }
        let written = self.poll_write(wire, cx);
        // Whatever came of that: a client that left while its next request lies unread is looked for there.
        let flushed = Pin::new(&mut *wire).poll_flush(cx);
        match (written, flushed) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Rest::Over),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) if self.lasting.is_kept => Poll::Ready(Rest::Kept),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Pin::new(wire).poll_shutdown(cx).map(|_| Rest::Over),
            _ => Poll::Pending,
        }
    }

    fn poll_write(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.take(cx)?;
            if self.parts.is_empty() {
                // Room for the next burst would be kept by every stream that ever had one.
                self.parts = VecDeque::new();
                return if self.is_over { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let mut slices = [IoSlice::new(&[]); PARTS];
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            let count = self.parts.len().min(PARTS);
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut *wire).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    /// Takes what the body has, as far as there is room.
    fn take(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.is_over && self.bytes < AHEAD && self.parts.len() + 3 <= PARTS {
            match Pin::new(&mut self.lasting.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.is_over = true;
                    self.push(LAST_CHUNK);
                }
                Poll::Ready(Some(Err(_))) => return Err(io::ErrorKind::BrokenPipe.into()),
                // An empty chunk would be the last one, and trailers were not announced.
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap_or_default();
                    if !data.is_empty() {
                        self.push(format!("{:x}\r\n", data.len()).into());
                        self.push(data);
                        self.push(LINE_END);
                    }
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, part: Bytes) {
        self.bytes += part.len();
        self.parts.push_back(part);
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(part) = self.parts.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
