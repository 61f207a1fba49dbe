//! A server that answers as a test says, and a relay that passes requests on with a trick of its own.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Collected, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sse_sunset::upstream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request whose body is here.
pub(super) type Asked = Request<Bytes>;

/// An answer whose body is to come.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: BoxStream<'static, Bytes>,
}

/// The server; dropping it stops it.
pub(super) struct Server {
    /// Its address as a URL without a path.
    pub(super) base: String,
    running: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start<F>(answer: F) -> Self
    where
        F: Fn(Asked) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    {
        Self::over(None, answer).await
    }

    /// Over TLS, under the name `localhost`.
    pub(super) async fn over<F>(tls: Option<TlsAcceptor>, answer: F) -> Self
    where
        F: Fn(Asked) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let base = if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        let answer = Arc::new(answer);
        let running = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (answer, tls) = (Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = Arc::clone(&answer);
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                            Ok::<_, Infallible>(respond(answer(Request::from_parts(head, body)).await))
                        }
                    });
                    let server = http1::Builder::new();
                    let _ = match tls {
                        None => server.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Server { base, running }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn respond(answer: Answer) -> Response<Body> {
    let frames = answer.body.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(answer.status).expect("a status");
    *response.headers_mut() = answer.headers;
    response
}

/// A whole answer.
pub(super) fn whole(status: u16, headers: &[(&'static str, &str)], text: impl Into<String>) -> Answer {
    let text = Bytes::from(text.into());
    let headers = headers.iter().map(|(name, value)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).expect("a value"))
    });
    Answer { status, headers: headers.collect(), body: futures_util::stream::iter([text]).boxed() }
}

/// A JSON document.
pub(super) fn json(status: u16, document: &Value) -> Answer {
    whole(status, &[("content-type", "application/json")], document.to_string())
}

/// Passes a request on to `base`, on a connection of its own, whose answer comes as it is.
pub(super) async fn forward(base: &str, asked: Asked) -> Answer {
    let (head, body) = asked.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = head.headers;
    headers.remove("host");
    // Without authorities, which take their time to load.
    upstream::install_tls_provider();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let request = client.request(head.method, format!("{base}{path}")).headers(headers).body(body);
    let response = request.send().await.expect("an answer of the server behind");
    let (status, mut headers) = (response.status().as_u16(), response.headers().clone());
    headers.remove("transfer-encoding");
    headers.remove("content-length");
    let body = futures_util::stream::unfold(response, |mut response| async {
        let chunk = response.chunk().await.ok()??;
        Some((chunk, response))
    });
    Answer { status, headers, body: body.boxed() }
}

/// The method of the message in a request.
pub(super) fn method(asked: &Asked) -> String {
    let message: Value = serde_json::from_slice(asked.body()).unwrap_or_default();
    message["method"].as_str().unwrap_or_default().to_owned()
}

/// The id of the message in a request.
pub(super) fn id(asked: &Asked) -> Value {
    serde_json::from_slice::<Value>(asked.body()).unwrap_or_default()["id"].clone()
}

/// A header of a request.
pub(super) fn header(asked: &Asked, name: &str) -> String {
    asked.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
