//! What happens to a connection before its first request.
//!
//! ```text
//! accepted -> seat (limit) -> PROXY header (of trusted proxies) -> seat (address) -> TLS -> HTTP/1.1 | HTTP/2
//! ```
//!
//! Promise: every step has an end, none waits for another connection, and what is turned away is counted by its reason. A
//! connection that is turned away is reset, not answered: clients try again after that, while an answer would be final.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::certificate::ClientCertificate;
use super::connection::{Caller, Peer, serve_http1};
use super::patience::Limits;
use super::proxy_header::{self, Source};
use super::seats::{Seat, Seats};
use super::seldom::Seldom;
use super::tls::Tls;
use super::wire::{Socket, reset_on_drop};
use super::{http2, listener};
use crate::drain::{Phase, Tasks, Watch};
use crate::metrics::Metrics;

/// How often it is said that connections are turned away.
const TOLD: Duration = Duration::from_secs(10);

/// The networks whose word on the client is taken (`--trusted-proxy`).
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

/// How clients are let in.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long they may take.
    pub limits: Limits,
    /// How many there may be at once.
    pub max_connections: usize,
    /// How many from one address.
    pub max_per_address: Option<usize>,
    /// TLS, unless something in front speaks it.
    pub tls: Option<Tls>,
    /// Who may speak for others.
    pub trusted: TrustedProxies,
    /// Whether these begin their connections with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Lets clients in. Clones count together.
#[derive(Debug, Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    seats: Arc<Seats>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    drain: Watch,
    told: Seldom,
}

/// Why a connection did not come to a request.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    ProxyHeader(#[from] proxy_header::Bad),
    #[error("its address has all the connections it may have")]
    Address,
    #[error("not a byte came in time")]
    Silent,
    #[error("its TLS handshake took too long")]
    SlowHandshake,
    #[error("its TLS handshake failed: {0}")]
    Handshake(std::io::Error),
}

impl Lost {
    /// The word for the metric; one of [`crate::metrics::LOST_CONNECTIONS`].
    fn reason(&self) -> &'static str {
        match self {
            Lost::ProxyHeader(_) => "proxy_header",
            Lost::Address => "address_limit",
            Lost::Silent => "silent",
            Lost::SlowHandshake => "tls_timeout",
            Lost::Handshake(_) => "tls",
        }
    }
}

impl Acceptor {
    /// Connections and their streams run as `tasks`.
    #[must_use]
    pub fn new(config: Config, metrics: Arc<Metrics>, tasks: Tasks, drain: Watch) -> Self {
        let seats = Seats::new(config.max_connections, config.max_per_address, metrics.connections_active.clone());
        Acceptor { shared: Arc::new(Shared { config, seats, metrics, tasks, drain, told: Seldom::new(TOLD) }) }
    }

    /// Accepts connections for ever and has `service` answer their requests. Cancel safe.
    pub async fn listen<S, F, B>(&self, listener: &TcpListener, service: S)
    where
        S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let lost = &self.shared.metrics.connections_lost;
        let exhausted = || {
            lost.of("descriptors").inc();
        };
        listener::listen_counting(listener, |stream, address| self.take(stream, address, service.clone()), exhausted)
            .await;
    }

    fn take<S, F, B>(&self, stream: TcpStream, address: SocketAddr, service: S)
    where
        S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let shared = Arc::clone(&self.shared);
        let Some(mut seat) = shared.seats.take() else {
            reset_on_drop(&stream);
            shared.metrics.connections_lost.of("limit").inc();
            if shared.told.may() {
                let limit = shared.config.max_connections;
                tracing::warn!(limit, "all connections there may be (--max-connections) are there; more are reset");
            }
            return;
        };
        self.shared.tasks.spawn(async move {
            let mut drain = shared.drain.clone();
            let meeting = tokio::select! {
                biased;
                () = drain.reached(Phase::Over) => return,
                meeting = shared.meet(stream, address, &mut seat) => meeting,
            };
            match meeting {
                Ok((socket, caller, false)) => {
                    serve_http1(socket, caller, shared.config.limits.clone(), drain, service).await;
                }
                Ok((socket, caller, true)) => {
                    let tasks = shared.tasks.clone();
                    Box::pin(http2::serve(socket, caller, shared.config.limits.clone(), drain, tasks, service)).await;
                }
                Err(lost) => {
                    shared.metrics.connections_lost.of(lost.reason()).inc();
                    tracing::debug!(reason = %lost, "a connection came to no request");
                }
            }
            drop(seat);
        });
    }
}

impl Shared {
    /// Learns who is there. With whether HTTP/2 was agreed on.
    async fn meet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        seat: &mut Seat,
    ) -> Result<(Socket, Caller, bool), Lost> {
        let Config { limits, trusted, .. } = &self.config;
        let mut caller = Caller::plain(address);
        if self.config.proxy_protocol && trusted.trusts(address.ip()) {
            let read = timeout(limits.first_byte, proxy_header::read(&stream)).await;
            match read.map_err(|_| Lost::Silent)?? {
                Source::Proxy => {}
                Source::Unknown => caller.is_unnamed = true,
                Source::Client(client) => caller.client = client,
            }
        }
        let client = caller.client.ip();
        if !trusted.trusts(client) && !seat.take_for(client) {
            reset_on_drop(&stream);
            return Err(Lost::Address);
        }
        let Some(tls) = &self.config.tls else { return Ok((Socket::Plain(stream), caller, false)) };
        // A look at the byte, as a socket may be called readable that is not.
        let first = timeout(limits.first_byte, stream.peek(&mut [0])).await.map_err(|_| Lost::Silent)?;
        first.map_err(Lost::Handshake)?;
        let hands = timeout(limits.handshake, Box::pin(tls.acceptor().accept(stream))).await;
        let stream = hands.map_err(|_| Lost::SlowHandshake)?.map_err(Lost::Handshake)?;
        let (_, session) = stream.get_ref();
        caller.tls = true;
        let shown = session.peer_certificates().and_then(<[_]>::first);
        caller.certificate = shown.and_then(|shown| ClientCertificate::of(shown)).map(Arc::new);
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        Ok((Socket::Tls(Box::new(stream)), caller, is_http2))
    }
}
