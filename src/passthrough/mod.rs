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
mod exchange;
mod fault;
mod target;

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;

pub use body::{Broken, Content, Passed, Tap};
pub use exchange::{Limits, Ticket};
pub use fault::Failure;
pub use target::Target;

use crate::drain::{Phase, Tasks, Watch};
use crate::net::Ender;
use crate::upstream::{self, Fault, Hop, HttpTransport, UpstreamClient, passed_on, passed_up};
use body::Upload;
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
    client: UpstreamClient<Upload>,
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
                client: upstream::client(upstream)?,
                origin: Origin::of(upstream.url.as_str(), upstream.host.as_ref())?,
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
    /// When the deadline of the drain has passed, or as many run as may.
    pub fn begin(&self, ender: Ender) -> Result<Ticket, Failure> {
        self.shared.exchanges.begin(ender)
    }

    /// Passes a request through, and gives the answer once its head is in. Dropping either closes what is open upstream.
    ///
    /// # Errors
    /// When there is no answer to pass on.
    pub async fn pass(&self, outgoing: Outgoing<'_>) -> Result<Response<Passed>, Failure> {
        let shared = &self.shared;
        let Outgoing { method, target, headers, content, tap, hop, ender } = outgoing;
        if content.is_lost_with(&method) {
            return Err(Failure::Unsized);
        }
        let ticket = self.begin(ender)?;
        let is_sized = headers.contains_key(header::CONTENT_LENGTH);
        let mut sent = Sent { method, headers: shared.headers(headers, hop), is_sized };
        let answer = match target {
            Target::Same(asked) => {
                let request =
                    sent.take(shared.origin.same(asked), Upload::new(content, tap, Arc::clone(ticket.exchange())));
                shared.send(&ticket, request?).await?
            }
            Target::Mcp => shared.send_to_endpoint(&ticket, &mut sent, content, tap).await?,
        };
        let (head, body) = answer.into_parts();
        if head.status.is_informational() {
            // Nothing was asked that 101 could be an answer to.
            return Err(Failure::Broken("it switched to another protocol, which nobody asked for".to_owned()));
        }
        let mut answer = Response::new(Passed::new(body, ticket));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        passed_on(answer.headers_mut());
        if shared.origin.hide(answer.headers_mut()) {
            // Servers repeat in it where they redirect to.
            answer.headers_mut().remove(header::CONTENT_LENGTH);
            answer.body_mut().without_body();
        }
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

/// What goes up of a request, whatever its target and body.
struct Sent {
    method: Method,
    headers: HeaderMap,
    /// The client said how long its body is.
    is_sized: bool,
}

impl Sent {
    /// A request, for the last time.
    fn take(&mut self, uri: Option<Uri>, body: Upload) -> Result<Request<Upload>, Failure> {
        let headers = std::mem::take(&mut self.headers);
        self.request(uri, body, headers)
    }

    fn request(&self, uri: Option<Uri>, body: Upload, headers: HeaderMap) -> Result<Request<Upload>, Failure> {
        // A body that is known to be empty has no frames to tell so, and some servers want to be told (411).
        let is_empty = self.is_sized && body.is_end_stream();
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.ok_or(Failure::Target)?;
        *request.headers_mut() = headers;
        if is_empty {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }
}

impl Shared {
    async fn send(&self, ticket: &Ticket, request: Request<Upload>) -> Result<Response<Incoming>, Failure> {
        ticket.unless_cut(self.client.request(request)).await?.map_err(|error| Failure::of(&error))
    }

    /// Sends to the MCP endpoint for a client that knows nothing of where that is: no redirect is for it (WIRE, HTTP). One to
    /// another path of the upstream is followed, once, as the transport does it.
    async fn send_to_endpoint(
        &self,
        ticket: &Ticket,
        sent: &mut Sent,
        content: Content,
        tap: Option<Tap>,
    ) -> Result<Response<Incoming>, Failure> {
        let upload = |content, tap| Upload::new(content, tap, Arc::clone(ticket.exchange()));
        let again = content.again();
        let first =
            sent.request(self.origin.endpoint(&self.transport.endpoint()), upload(content, tap), sent.headers.clone())?;
        let answer = self.send(ticket, first).await?;
        let location = answer.headers().get(header::LOCATION).filter(|_| leads_elsewhere(answer.status()));
        let Some(location) = location.cloned() else {
            self.transport.reconsider(answer.status());
            return Ok(answer);
        };
        let keeps = matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let path = self.origin.moved(&location).filter(|_| keeps);
        let moved = path.and_then(|path| Some((self.transport.endpoint_at(&path)?, path)));
        let Some((url, path)) = moved else { return Err(Fault::Redirect(origin_of(&location)).into()) };
        let Some(content) = again else { return Err(Failure::Moved) };
        // The connection is free for the second request.
        drop(answer);
        let second = sent.take(self.origin.endpoint(&url), upload(content, None))?;
        let answer = self.send(ticket, second).await?;
        if leads_elsewhere(answer.status()) && answer.headers().contains_key(header::LOCATION) {
            return Err(Fault::Redirect(origin_of(&location)).into());
        }
        if answer.status().is_success() {
            self.transport.remember_path(&path);
        }
        Ok(answer)
    }

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

/// Whether a `Location` beside this status says where to go instead.
fn leads_elsewhere(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// As much of a `Location` as may be told: a path or query may hold secrets.
fn origin_of(location: &HeaderValue) -> String {
    let uri = location.to_str().ok().and_then(|location| location.parse::<Uri>().ok());
    let host = |authority: &Authority| authority.as_str().rsplit('@').next().map(str::to_owned);
    let origin = uri.and_then(|uri| Some(format!("{}://{}", uri.scheme()?, host(uri.authority()?)?)));
    origin.unwrap_or_else(|| "another path".to_owned())
}

impl fmt::Debug for Passthrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passthrough")
    }
}
