//! Connections to the upstream, of sessions and for what is passed through: hyper's client, with the operator's names,
//! certificates and times. It does what it is told and nothing else: follows no redirect, takes no proxy from the environment.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http_body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use super::http::{CONNECTION_WINDOW, KEEP_ALIVE, POOL_IDLE, STREAM_WINDOW, USER_TIMEOUT};
use super::{Config, HttpVersion, Resolver, client_tls};

/// Bytes of an answer that hyper reads at once, and the most that the head of one may have. It would read 400 KiB for a
/// client that takes nothing.
const READ_AHEAD: usize = 32 << 10;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// A client whose requests have bodies `B`.
pub type UpstreamClient<B> = Client<Connector, B>;

/// Makes the client; no connection is opened. Clones share their connections.
///
/// # Errors
/// What keeps TLS from being set up: a key that does not fit its certificate, no authorities on this system.
pub fn client<B>(upstream: &Config) -> Result<UpstreamClient<B>, String>
where
    B: Body<Data: Send> + Send,
{
    let mut http = HttpConnector::new_with_resolver(Names(Arc::new(Resolver::new())));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEP_ALIVE));
    http.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let tls = client_tls(upstream)?;
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE).http1_max_buf_size(READ_AHEAD);
    let https = match upstream.version {
        HttpVersion::Http1 => https.enable_http1().wrap_connector(http),
        HttpVersion::Http2 => {
            client.http2_only(true);
            client.http2_initial_stream_window_size(STREAM_WINDOW);
            client.http2_initial_connection_window_size(CONNECTION_WINDOW);
            https.enable_http2().wrap_connector(http)
        }
    };
    let shared = Arc::new(Settings { https, timeout: upstream.connect_timeout });
    Ok(client.build(Connector { shared }))
}

/// Opens connections, TLS included, in time or not at all.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Apart: the client is cloned for every request, and seldom connects.
    shared: Arc<Settings>,
}

#[derive(Debug)]
struct Settings {
    https: HttpsConnector<HttpConnector<Names>>,
    timeout: Duration,
}

/// No connection in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", .0.as_secs_f64())]
pub struct TooSlow(Duration);

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Boxed<Self::Response, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (mut https, limit) = (self.shared.https.clone(), self.shared.timeout);
        Box::pin(async move {
            let connecting = async {
                poll_fn(|cx| https.poll_ready(cx)).await?;
                https.call(to).await
            };
            tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(Box::new(TooSlow(limit))))
        })
    }
}

/// Names to addresses, as for sessions.
#[derive(Debug, Clone)]
pub(super) struct Names(Arc<Resolver>);

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Boxed<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.0.addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(addresses.await?.into_iter()) })
    }
}
