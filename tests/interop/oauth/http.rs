//! The little HTTP that these tests need of their own: something that listens, and something that asks.
//!
//! Promises: ports are the kernel's choice, everything is on loopback, bodies stream through (`door.rs` carries event
//! streams), and a request has a connection of its own, so that whoever gives it up is noticed at once.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// A whole body, or one that streams through.
pub(crate) type Body = Either<Full<Bytes>, Incoming>;

/// Where all that listens here runs.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// Something that answers on a port of its own until it is dropped.
pub(crate) struct Listening {
    pub(super) address: SocketAddr,
    running: JoinHandle<()>,
}

impl Listening {
    /// Answers with what `answer` makes of each request.
    pub(crate) fn start<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let running = RUNTIME.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                let connection = server::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { drop(connection.await) });
            }
        });
        Listening { address, running }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Sends `request` to `address` and gives what came back, its body still on the way.
///
/// # Errors
/// If nobody answers there.
pub(crate) async fn send(address: SocketAddr, request: Request<Body>) -> Result<Response<Incoming>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the exchange: nobody keeps the sender.
    RUNTIME.spawn(async move { drop(connection.await) });
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// What a GET of `url` brings: its status, where it leads, and the text.
pub(crate) async fn get(url: &str) -> Result<(StatusCode, Option<String>, String), String> {
    let uri: Uri = url.parse().map_err(|_| format!("no URL: {url}"))?;
    let authority = uri.authority().ok_or("no authority")?.as_str().to_owned();
    let address = authority.parse().map_err(|_| format!("no address of loopback: {authority}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request =
        Request::get(path).header(header::HOST, authority).body(text("")).map_err(|error| error.to_string())?;
    let response = send(address, request).await?;
    let (head, body) = response.into_parts();
    let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((head.status, location, String::from_utf8_lossy(&body).into_owned()))
}

/// A body of text.
pub(super) fn text(text: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(text.into()))
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(text(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer in plain text.
pub(crate) fn plain(status: StatusCode, words: &str) -> Response<Body> {
    let mut response = Response::new(text(words.to_owned()));
    *response.status_mut() = status;
    response
}
