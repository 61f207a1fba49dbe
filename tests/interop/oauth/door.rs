//! The public name: one address that sends each path to the proxy or to the server, as the balancer of a deployment does.
//!
//! Promise: bytes stream both ways, `Host` stays what the client said, and a client that goes away is gone for what is
//! behind too. It is there before what it leads to, because that has to know its own public address when it starts.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::{Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;

use super::http::{Body, Listening, plain, send};

/// Who gets what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routing {
    /// The legacy paths and `/.well-known/` go to the proxy, the rest to the server.
    SameHost,
    /// Everything goes to the proxy.
    OwnHost,
    /// The legacy paths go to the proxy, the rest, `/.well-known/` too, to the server.
    WithoutWellKnown,
    /// Everything goes to the server: there is no proxy.
    ServerOnly,
}

impl Routing {
    fn is_proxys(self, path: &str) -> bool {
        let legacy = path == "/sse" || path.starts_with("/sse/") || path.starts_with("/messages");
        match self {
            Routing::SameHost => legacy || path.starts_with("/.well-known/"),
            Routing::OwnHost => true,
            Routing::WithoutWellKnown => legacy,
            Routing::ServerOnly => false,
        }
    }
}

/// What is behind, as soon as it is there.
#[derive(Debug, Default)]
struct Behind {
    proxy: OnceLock<SocketAddr>,
    server: OnceLock<SocketAddr>,
}

/// The public address.
pub(super) struct Door {
    listening: Listening,
    behind: Arc<Behind>,
}

impl Door {
    pub(super) fn open(routing: Routing) -> Self {
        let behind = Arc::new(Behind::default());
        let leads_to = Arc::clone(&behind);
        let listening = Listening::start(move |request| {
            let leads_to = Arc::clone(&leads_to);
            async move { pass(routing, &leads_to, request).await }
        });
        Door { listening, behind }
    }

    pub(super) fn origin(&self) -> String {
        self.listening.origin()
    }

    pub(super) fn proxy_is(&self, address: SocketAddr) {
        self.behind.proxy.set(address).expect("one proxy");
    }

    pub(super) fn server_is(&self, address: SocketAddr) {
        self.behind.server.set(address).expect("one server");
    }
}

async fn pass(routing: Routing, behind: &Behind, request: Request<Incoming>) -> Response<Body> {
    let to = if routing.is_proxys(request.uri().path()) { &behind.proxy } else { &behind.server };
    let Some(to) = to.get() else {
        return plain(StatusCode::NOT_FOUND, "nothing is behind this path");
    };
    match send(*to, request.map(Either::Right)).await {
        Ok(response) => response.map(Either::Right),
        Err(_) => plain(StatusCode::BAD_GATEWAY, "what is behind this path does not answer"),
    }
}
