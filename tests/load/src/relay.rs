//! What could stand in the proxy's place and do nothing but pass bytes: the floor under every figure.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// Copies bytes both ways.
pub(crate) async fn raw(listener: TcpListener, to: String) -> Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let to = to.clone();
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(&to).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// A plain streaming reverse proxy of hyper's parts, as everybody would write it: the floor of our stack.
pub(crate) async fn hyper(listener: TcpListener, to: String) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let authority: Authority = to.parse()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, authority) = (client.clone(), authority.clone());
        let service = service_fn(move |request| {
            let (client, authority) = (client.clone(), authority.clone());
            async move { Ok::<_, Infallible>(pass(&client, authority, request).await) }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn pass(
    client: &Client<HttpConnector, Incoming>,
    authority: Authority,
    mut request: Request<Incoming>,
) -> Response<BoxBody<Bytes, hyper::Error>> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
    let sent = match http::Uri::from_parts(parts) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            client.request(request).await.ok()
        }
        Err(_) => None,
    };
    if let Some(answer) = sent {
        return answer.map(Incoming::boxed);
    }
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
    answer
}
