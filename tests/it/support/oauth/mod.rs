//! An authorization server and a server that it protects, as small as they can be: loopback, no keys, all in one state.
//!
//! Tokens are JWTs without a signature whose audience is what was asked for; the protected server knows those that were
//! given out and takes the audiences it was told to. Nothing here depends on the rest of the tests' support.

mod authorization;
mod protected;

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) use authorization::{AuthorizationServer, Dialect, token};
pub(crate) use protected::{ProtectedServer, Protection};

/// One request, whole.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query or the form.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(self.body.as_bytes()));
        pairs.into_iter().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// Serves whole answers on a port of its own; its address.
async fn serve<F, A>(answer: F) -> (String, JoinHandle<()>)
where
    F: Fn(Asked) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Bytes>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let running = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                        let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
                        let body = String::from_utf8_lossy(&body).into_owned();
                        let asked = Asked { method: head.method, target, headers: head.headers, body };
                        Ok::<_, Infallible>(answer(asked).await.map(Full::new))
                    }
                });
                let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (origin, running)
}

fn json(status: u16, body: &serde_json::Value) -> Response<Bytes> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(body.to_string().into()).expect("an answer")
}

fn text(status: u16, body: &str) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).expect("an answer")
}
