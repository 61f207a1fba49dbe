//! HTTP/2, where TLS agreed on it (ALPN): many requests on one connection, each on a stream of its own.
//!
//! Promise: what one stream does harms no other. hyper hands every stream to the executor, which is ours ([`Streams`]):
//! so a stream can be ended alone, by dropping what serves it. h2 then says `RST_STREAM` and gives up what was still to be
//! sent on it; that works even for a stream whose window is empty and whose body hyper does not poll any more.
//!
//! The trap: resets are cheap for who sends them (CVE-2023-44487 and its kin). h2 counts those of streams that nobody has
//! looked at yet; those of streams that were begun are counted here, against the ones that were answered.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::connection::{Answer, Asked, Caller, Control, MAX_HEAD, Peer, run};
use super::patience::Limits;
use super::wire::{Socket, Wire};
use crate::drain::{Tasks, Watch};

/// Streams that may be open at once; a client that wants more waits.
const MAX_STREAMS: u32 = 100;
/// What a client may send ahead on one stream, and on all of them: what is received and not read waits in memory.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What waits in memory to be sent on one stream.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that the client reset before anyone looked at them.
const MAX_RESETS_UNSEEN: usize = 20;
/// Streams that had to be reset for errors of the client.
const MAX_RESETS_FOR_ERRORS: usize = 100;
/// Requests that were called off before their answer, less those that were answered.
const MAX_CALLED_OFF: usize = 100;
/// How often a silent client is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(20);

tokio::task_local! {
    /// The stream that a task serves.
    static STREAM: Arc<Stream>;
}

/// Ends one stream from outside.
#[derive(Debug, Default)]
pub(super) struct Stream {
    ended: Notify,
    refused: Notify,
    is_refused: AtomicBool,
    /// The head of its answer is out.
    answered: AtomicBool,
}

impl Stream {
    /// Resets it (`CANCEL`).
    pub(super) fn end(&self) {
        self.ended.notify_one();
    }

    /// The head of its answer is out. An answer alone says little: one is also made for a request whose client is gone.
    pub(super) fn on_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Resets it so that the client knows that nothing was done; too late for that once an answer has begun.
    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
        if self.answered.load(Ordering::Relaxed) { self.end() } else { self.refused.notify_one() }
    }
}

/// Runs the streams of one connection, each as a task.
#[derive(Debug, Clone)]
struct Streams {
    tasks: Tasks,
    control: Arc<Control>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, serving: F) {
        let stream = Arc::new(Stream::default());
        let (control, seen) = (Arc::clone(&self.control), Arc::clone(&stream));
        self.tasks.spawn(STREAM.scope(stream, async move {
            tokio::select! {
                biased;
                () = seen.ended.notified() => {}
                () = serving => count(&control, &seen),
            }
        }));
    }
}

/// Ends a connection whose client does little but begin requests and call them off.
fn count(control: &Control, stream: &Stream) {
    let called_off = &control.called_off;
    if stream.answered.load(Ordering::Relaxed) || stream.is_refused.load(Ordering::Relaxed) {
        let _ = called_off.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    } else if called_off.fetch_add(1, Ordering::Relaxed) >= MAX_CALLED_OFF {
        tracing::debug!("a client began requests and called them off, again and again; its connection ends");
        control.ended.notify_one();
    }
}

/// Serves one connection until it is ended, or has been idle for too long, or until the process has drained and nothing is
/// under way. Its streams are `tasks`.
pub(super) async fn serve<S, F, B>(
    socket: Socket,
    caller: Caller,
    limits: Limits,
    drain: Watch,
    tasks: Tasks,
    service: S,
) where
    S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let control = Control::new(limits, true);
    let peer = caller.into_peer(&control);
    let wire = Wire::new(socket, Arc::clone(&control));
    let shared = Arc::clone(&control);
    let answer = service_fn(move |request| {
        let asked = Asked::new(&shared);
        answer(service.clone(), request, peer.clone(), asked)
    });
    let connection = http2::Builder::new(Streams { tasks, control: Arc::clone(&control) })
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_RESETS_UNSEEN)
        .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(wire), answer);
    run(std::pin::pin!(connection), http2::Connection::graceful_shutdown, &control, drain).await;
}

/// One answer. An error of h2 is how hyper is told with which code to reset a stream.
async fn answer<S, F, B>(
    service: S,
    request: Request<Incoming>,
    peer: Peer,
    asked: Asked,
) -> Result<Response<Answer<B>>, h2::Error>
where
    S: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body,
{
    let stream = STREAM.with(Arc::clone);
    let peer = Peer { ender: peer.ender.of_stream(Arc::clone(&stream)), ..peer };
    let answer = tokio::select! {
        biased;
        () = stream.refused.notified() => return Err(Reason::REFUSED_STREAM.into()),
        answer = service(request, peer) => answer,
    };
    Ok(answer.map(|body| Answer::new(body, asked, Some(stream))))
}
