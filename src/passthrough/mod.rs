//! What is not for legacy clients: passed through to the upstream as it is, so that the proxy can stand in front of the
//! whole server.
//!
//! Promise: the raw path and query go up, every byte of a body goes on as it comes, both ways, and whoever leaves, client or
//! upstream, takes the exchange with it. A client cannot tell that the proxy is there, but for what names the hop (`Via`,
//! `Forwarded`).
//!
//! ```text
//! request -> target -> headers (upstream::passed_up) -> connect -> head (headers, Location) -> Passed -> client
//!                        Upload (body, as it comes)   ^ exchange: stalls, the end of the process ^
//! ```
//!
//! Bodies have no limit of size here: nothing of them is held, and what is too large for the server the server says. The
//! trap is a client that stands still; see `exchange`.

mod body;
mod connect;
mod exchange;
mod fault;
mod target;

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body as _;

pub use body::{Broken, Content, Passed, Tap};
pub use exchange::{Limits, Ticket};
pub use fault::Failure;
pub use target::Target;

use crate::drain::{Phase, Tasks, Watch};
use crate::net::Ender;
use crate::upstream::{self, Hop, HttpTransport, passed_on, passed_up};
use body::Upload;
use connect::Through;
use exchange::Exchanges;
use target::Origin;

/// A request to be passed through.
pub struct Outgoing<'a> {
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub target: Target<'a>,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Its body.
    pub content: Content,
    /// Who hears it.
    pub tap: Option<Tap>,
    /// What is known of the client's side.
    pub hop: &'a Hop,
    /// Ends its connection.
    pub ender: Ender,
}

/// Passes requests through. Clones are the same.
#[derive(Clone)]
pub struct Passthrough {
    shared: Arc<Shared>,
}

struct Shared {
    client: Through,
    origin: Origin,
    /// Knows the path that the server has redirected sessions to.
    transport: HttpTransport,
    /// The `Host` to name, where it is not that of the origin.
    host: Option<HeaderValue>,
    /// What goes with every request, instead of the client's own.
    headers: Vec<(HeaderName, HeaderValue)>,
    exchanges: Arc<Exchanges>,
}

impl Passthrough {
    /// A way to `upstream`, to which sessions go by `transport`; nothing is opened yet. The end of `tasks` waits for what is
    /// passed through.
    ///
    /// # Errors
    /// What keeps TLS from being set up.
    pub fn new(
        upstream: &upstream::Config,
        transport: HttpTransport,
        limits: Limits,
        tasks: Tasks,
    ) -> Result<Self, String> {
        Ok(Passthrough {
            shared: Arc::new(Shared {
                client: connect::client(upstream)?,
                origin: Origin::of(upstream.url.as_str())?,
                transport,
                host: upstream.host.clone(),
                headers: upstream.headers.clone(),
                exchanges: Arc::new(Exchanges::new(limits, tasks)),
            }),
        })
    }

    /// How many exchanges run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.exchanges.len()
    }

    /// Begins an exchange of the connection that `ender` ends, for whoever passes it on by other means.
    ///
    /// # Errors
    /// When the deadline of the drain has passed.
    pub fn begin(&self, ender: Ender) -> Result<Ticket, Failure> {
        self.shared.exchanges.begin(ender).ok_or(Failure::Ending)
    }

    /// Passes a request through, and gives the answer once its head is in. Dropping either closes what is open upstream.
    ///
    /// # Errors
    /// When there is no answer to pass on.
    pub async fn pass(&self, outgoing: Outgoing<'_>) -> Result<Response<Passed>, Failure> {
        let shared = &self.shared;
        let ticket = self.begin(outgoing.ender)?;
        let mut request = Request::new(Upload::new(outgoing.content, outgoing.tap, Arc::clone(ticket.exchange())));
        *request.method_mut() = outgoing.method;
        let uri = match outgoing.target {
            Target::Same(asked) => shared.origin.same(asked),
            Target::Mcp => shared.origin.endpoint(&shared.transport.endpoint()),
        };
        *request.uri_mut() = uri.ok_or(Failure::Target)?;
        let is_sized = outgoing.headers.contains_key(header::CONTENT_LENGTH);
        *request.headers_mut() = shared.headers(outgoing.headers, outgoing.hop);
        // A body that is known to be empty has no frames to tell so, and some servers want to be told (411).
        if is_sized && request.body().is_end_stream() {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let answer = ticket.unless_cut(shared.client.request(request)).await?.map_err(|error| Failure::of(&error))?;
        let (head, body) = answer.into_parts();
        if head.status.is_informational() {
            // Nothing was asked that 101 could be an answer to.
            return Err(Failure::Broken("it switched to another protocol, which nobody asked for".to_owned()));
        }
        let mut answer = Response::new(Passed::new(body, ticket));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        passed_on(answer.headers_mut());
        shared.origin.hide(answer.headers_mut());
        Ok(answer)
    }

    /// Looks after the exchanges: cuts those whose client stands still, and all of them at the end of the drain. Never ends.
    pub async fn watch(&self, mut drain: Watch) {
        let exchanges = &self.shared.exchanges;
        let mut tick = tokio::time::interval(exchanges.pace());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => exchanges.cut_stalled(),
                () = drain.reached(Phase::Over) => break,
            }
        }
        exchanges.end();
        std::future::pending::<()>().await;
    }
}

impl Shared {
    fn headers(&self, mut headers: HeaderMap, hop: &Hop) -> HeaderMap {
        passed_up(&mut headers, hop);
        for (name, _) in &self.headers {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(host) = &self.host {
            headers.insert(header::HOST, host.clone());
        }
        headers
    }
}

impl fmt::Debug for Passthrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passthrough")
    }
}
