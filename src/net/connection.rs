//! One client connection, served by hyper: HTTP/1.1, or HTTP/2 where TLS agreed on it (`http2`). No h2c, no upgrades.
//!
//! Why an [`Ender`]: hyper does not poll a response body while its write buffer is full, so a client that stopped
//! reading can only be ended by dropping its connection (on HTTP/2 its stream); and a reset, not an answer, is what makes
//! TypeScript clients retry while the process drains.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::certificate::ClientCertificate;
use super::heads::Heads;
use super::http2::Stream;
use super::lasting::{Extract, Loan, LullCell, Rest, Wish, Writer};
use super::patience::{Limits, Patience};
use super::wire::{Socket, Wire};
use crate::drain::{Phase, Watch};

/// Header fields and bytes that a request's head may have. Twice what the front allows: it says what is wrong, while
/// hyper's own 431 has no body.
const MAX_HEADERS: usize = 200;
pub(super) const MAX_HEAD: usize = 64 << 10;

/// Ends what one request stands on, from outside: the connection, or on HTTP/2 its stream, as others go on beside it.
#[derive(Debug, Clone)]
pub struct Ender {
    control: Arc<Control>,
    stream: Option<Arc<Stream>>,
}

/// What the parts of one connection share.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) ended: Notify,
    pub(super) reset: AtomicBool,
    /// The kernel has given the peer up: it acknowledged nothing for [`super::USER_TIMEOUT`].
    pub(super) timed_out: AtomicBool,
    pub(super) patience: Patience,
    /// On HTTP/2: how many more requests were called off before their answer than were answered.
    pub(super) called_off: AtomicUsize,
    /// Those of HTTP/1, which are looked at.
    pub(super) heads: Option<Heads>,
    /// Whether the answer that lasts can be taken from hyper.
    pub(super) lull: LullCell,
}

/// What a connection knows of its other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer of the TCP connection.
    pub address: SocketAddr,
    /// Who sends the requests: the same, or whom a trusted proxy named in the header of the PROXY protocol.
    pub client: SocketAddr,
    /// A trusted proxy hands on the bytes of someone that it does not name: `client` is the proxy's address, and yet
    /// nothing in the requests is its word.
    pub is_unnamed: bool,
    /// Whether TLS is spoken on this connection.
    pub tls: bool,
    /// What it showed, and an authority of `--tls-client-ca` vouched for.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Ends the connection.
    pub ender: Ender,
}

impl Control {
    pub(super) fn new(limits: Limits, multiplexed: bool) -> Arc<Self> {
        Arc::new(Control {
            ended: Notify::new(),
            reset: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            patience: Patience::new(limits, multiplexed),
            called_off: AtomicUsize::new(0),
            heads: (!multiplexed).then(Heads::default),
            lull: LullCell::default(),
        })
    }
}

impl Ender {
    pub(super) fn of(control: Arc<Control>) -> Self {
        Ender { control, stream: None }
    }

    /// The same for one stream of the connection.
    pub(super) fn of_stream(&self, stream: Arc<Stream>) -> Self {
        Ender { control: Arc::clone(&self.control), stream: Some(stream) }
    }

    /// Ends it wherever it is.
    pub fn end(&self) {
        match &self.stream {
            Some(stream) => stream.end(),
            None => self.control.ended.notify_one(),
        }
    }

    /// Whether it ended because its peer had vanished without a word, [`super::USER_TIMEOUT`] ago.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.control.timed_out.load(Ordering::Relaxed)
    }

    /// Ends it with a reset, so that the client sees no answer at all. On HTTP/2 that says that nothing was done
    /// (`REFUSED_STREAM`, RFC 9113 §8.7), and the client may try again.
    pub fn reset(&self) {
        if let Some(stream) = &self.stream {
            stream.refuse();
        } else {
            self.control.reset.store(true, Ordering::Relaxed);
            self.control.ended.notify_one();
        }
    }
}

/// Who is there, before the first request.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) client: SocketAddr,
    pub(super) is_unnamed: bool,
    pub(super) tls: bool,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

impl Caller {
    /// Someone who says nothing of themselves.
    pub(super) fn plain(address: SocketAddr) -> Self {
        Caller { address, client: address, is_unnamed: false, tls: false, certificate: None }
    }

    pub(super) fn into_peer(self, control: &Arc<Control>) -> Peer {
        let Caller { address, client, is_unnamed, tls, certificate } = self;
        Peer { address, client, is_unnamed, tls, certificate, ender: Ender::of(Arc::clone(control)) }
    }
}

/// Serves one connection without TLS to its end, or until it is ended, or until its client takes too long over a request,
/// or until the process has drained and nothing is under way.
pub async fn serve<S, F, B>(stream: TcpStream, peer: SocketAddr, limits: Limits, drain: Watch, service: S)
where
    S: Fn(Request<Incoming>, Peer) -> F + Send,
    F: Future<Output = Response<B>> + Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    serve_http1(Socket::Plain(stream), Caller::plain(peer), limits, drain, service).await;
}

/// The same on any socket.
pub(super) async fn serve_http1<S, F, B>(socket: Socket, caller: Caller, limits: Limits, drain: Watch, service: S)
where
    S: Fn(Request<Incoming>, Peer) -> F + Send,
    F: Future<Output = Response<B>> + Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let control = Control::new(limits, false);
    let peer = caller.into_peer(&control);
    let loan = Loan::default();
    let mut wire = Wire::new(socket, Arc::clone(&control));
    loop {
        let answer = service_fn(|request| {
            let (asked, wish) = (Asked::new(&control), Wish::of(&request));
            let is_doubtful = asked.0.heads.as_ref().is_some_and(|heads| heads.are_doubtful(request.method()));
            // Boxed: hyper keeps room for it for as long as the connection lasts.
            let answer = (!is_doubtful).then(|| Box::pin(service(request, peer.clone())));
            let loan = &loan;
            async move {
                let Some(answer) = answer else {
                    tracing::debug!("a head with a line that ends, or may end, without CR; the connection is ended");
                    asked.0.ended.notify_one();
                    return std::future::pending().await;
                };
                let answer = answer.await;
                Ok::<_, Infallible>(if wish.is_granted(&answer) {
                    answer.map(|body| Answer::Lent(loan.lend(body, asked, wish)))
                } else {
                    answer.map(|body| Answer::new(body, asked, None))
                })
            }
        });
        let mut connection = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .header_read_timeout(None::<Duration>)
            .half_close(false)
            .serve_connection(TokioIo::new(wire), answer);
        if run(Pin::new(&mut connection), http1::Connection::graceful_shutdown, &control, drain.clone()).await
            == End::Over
        {
            return;
        }
        let Some(lasting) = loan.call_in() else { return };
        let parts = connection.into_parts();
        wire = parts.io.into_inner();
        wire.unread(&parts.read_buf);
        if last(Writer::new(lasting), &mut wire, &control).await == Rest::Over {
            return;
        }
    }
}

/// How hyper's part of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The connection is over.
    Over,
    /// The answer that lasts has nothing to say for now, and everything is written.
    Lull,
}

/// Runs a connection of hyper's to its end, or to the first lull of an answer that lasts; `close` has it end in order.
pub(super) async fn run<C>(
    mut connection: Pin<&mut C>,
    close: impl Fn(Pin<&mut C>),
    control: &Control,
    mut drain: Watch,
) -> End
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = control.ended.notified() => return End::Over,
            // Not before: a POST for a running session may come on this very connection, and one that meets a
            // close is lost.
            () = drain.reached(Phase::Over), if !draining => {
                draining = true;
                close(connection.as_mut());
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return End::Over;
            }
            // After the connection: what it does decides what is waited for.
            () = poll_fn(|cx| control.patience.poll_over(timer.as_mut(), cx)) => {
                if control.patience.may_say_farewell() {
                    close(connection.as_mut());
                    continue;
                }
                tracing::debug!("a client took too long over a request");
                return End::Over;
            }
            () = poll_fn(|_| if control.lull.is_written() { Poll::Ready(()) } else { Poll::Pending }) => return End::Lull,
        }
    }
}

/// Writes the rest of an answer that lasts, unless the connection is ended.
async fn last<B>(mut writer: Writer<B>, wire: &mut Wire, control: &Control) -> Rest
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    tokio::select! {
        biased;
        () = control.ended.notified() => Rest::Over,
        rest = poll_fn(|cx| writer.poll(wire, cx)) => rest,
        // It never is while an answer is under way; it has the socket looked at now and then.
        () = poll_fn(|cx| control.patience.poll_over(timer.as_mut(), cx)) => Rest::Over,
    }
}

/// A request that is being answered, for as long as this is there.
pub(super) struct Asked(Arc<Control>);

impl Asked {
    pub(super) fn control(&self) -> &Control {
        &self.0
    }

    pub(super) fn new(control: &Arc<Control>) -> Self {
        control.patience.on_request();
        Asked(Arc::clone(control))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.patience.on_answered();
        if let Some(heads) = &self.0.heads {
            heads.await_next();
        }
    }
}

/// The body of an answer; hyper drops it when it is written.
pub(super) enum Answer<B> {
    /// That of an answer which lasts.
    Lent(Extract<B>),
    Own {
        body: B,
        _asked: Asked,
        /// Its stream on HTTP/2, until it is known that the head of the answer is out.
        stream: Option<Arc<Stream>>,
    },
}

impl<B: http_body::Body> Answer<B> {
    pub(super) fn new(body: B, asked: Asked, stream: Option<Arc<Stream>>) -> Self {
        // hyper does not ask for a body that has nothing.
        let is_out = body.is_end_stream();
        let mut answer = Answer::Own { body, _asked: asked, stream };
        if is_out {
            answer.begun();
        }
        answer
    }

    fn begun(&mut self) {
        if let Answer::Own { stream, .. } = self
            && let Some(stream) = stream.take()
        {
            stream.on_answered();
        }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.begun();
        match &mut *self {
            Answer::Lent(extract) => extract.poll_frame(cx),
            Answer::Own { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Lent(_) => false,
            Answer::Own { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Lent(_) => SizeHint::default(),
            Answer::Own { body, .. } => body.size_hint(),
        }
    }
}
