//! HTTP in, for operators: what balancers, scrapers and people ask (DESIGN, Front: `--admin`).
//!
//! ```text
//! connection -> seat (bounded) -> guard (host) -> route -> read | change (token, origin) -> every answer protected
//! ```
//!
//! Promise: it answers as long as the process does. Nothing here waits for the upstream or for a session, and the door
//! closes after everything else has ended, so that a drain can be watched to its end.
//!
//! The trap: it listens on a loopback address, and any page in a browser on this machine can reach that. Hence the guard.

mod answer;
mod door;
mod guard;
mod health;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

pub use answer::Body;
pub use door::{Door, Open};
pub use health::Vitals;
pub use token::Token;

use crate::metrics::Format;
use crate::report::outcome::Report;
use crate::report::render;
use crate::report::render::page::{self, Mode};
use crate::sunset::Order;
use answer::Refused;
use guard::Guard;

/// Where operators are served, and what they may do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What whoever changes something must show; without one nobody can.
    pub token: Option<Token>,
}

/// Answers operators. Clones answer the same.
#[derive(Debug, Clone)]
struct Admin {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    guard: Guard,
    token: Option<Token>,
    vitals: Vitals,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy)]
enum Route {
    Page,
    Fragment,
    Report,
    Status,
    Metrics,
    Livez,
    Readyz,
    Reopen,
    Sunset,
}

const READ: &str = "GET, HEAD";
const CHANGE: &str = "POST";
const BOTH: &str = "GET, HEAD, POST";

/// Every path, with the methods it takes.
const ROUTES: &[(&str, Route, &str)] = &[
    ("/", Route::Page, READ),
    ("/fragment", Route::Fragment, READ),
    ("/report.json", Route::Report, READ),
    ("/status", Route::Status, READ),
    ("/metrics", Route::Metrics, READ),
    ("/livez", Route::Livez, READ),
    ("/readyz", Route::Readyz, READ),
    ("/reopen", Route::Reopen, CHANGE),
    ("/sunset", Route::Sunset, BOTH),
];

/// Largest body that is read, in bytes.
const MAX_BODY: usize = 16 << 10;
/// How long it may take.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What a request comes to.
type Answered = Result<Response<Body>, Refused>;

impl Admin {
    fn new(config: &Config, vitals: Vitals) -> Self {
        let guard = Guard::new(config.listen.ip());
        Admin { shared: Arc::new(Shared { guard, token: config.token.clone(), vitals }) }
    }

    /// Answers one request. A body is only read of whoever may change something.
    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        answer::protected(self.route(request).await.unwrap_or_else(Refused::into_answer))
    }

    async fn route<B>(&self, request: Request<B>) -> Answered
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let shared = &self.shared;
        shared.guard.admit(&request)?;
        let path = request.uri().path();
        let (_, route, allow) = ROUTES.iter().find(|(known, ..)| *known == path).ok_or(Refused::Path)?;
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_change = *request.method() == Method::POST;
        if is_read && *allow == CHANGE || is_change && *allow == READ || !is_read && !is_change {
            return Err(Refused::Method { allow });
        }
        match route {
            Route::Livez => Ok(answer::text("alive\n")),
            Route::Readyz => Ok(shared.vitals.readiness()),
            Route::Status => Ok(answer::json(&shared.vitals.status(self.report(Arc::clone).await?.as_ref()))),
            Route::Metrics => Ok(self.metrics(&request)),
            Route::Page => Ok(answer::html(self.report(|report| page::document(report, Mode::Live)).await?)),
            Route::Fragment => {
                Ok(answer::fragment(request.headers(), self.report(|report| page::fragment(report)).await?))
            }
            Route::Report => Ok(answer::json_text(self.report(|report| render::json(report)).await?)),
            Route::Reopen => {
                shared.may_change(&request)?;
                shared.vitals.log.reopen().await.map_err(|error| Refused::Reopen(error.to_string()))?;
                Ok(answer::json(&shared.vitals.log_health()))
            }
            Route::Sunset if is_read => self.sunset().await,
            Route::Sunset => {
                shared.may_change(&request)?;
                let order = Order::read(&body(request).await?)?;
                shared.vitals.sunset.obey(order, &shared.vitals.log).await?;
                self.sunset().await
            }
        }
    }

    /// How far HTTP+SSE is switched off.
    async fn sunset(&self) -> Answered {
        let sunset = self.shared.vitals.sunset.clone();
        let status = tokio::task::spawn_blocking(move || sunset.status()).await;
        status.map(|status| answer::json(&status)).map_err(|_| Refused::NoReport)
    }

    /// Makes something of the report as it is now, beside the threads that serve clients: years of evidence take a while.
    async fn report<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Arc<Report>) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let shared = Arc::clone(&self.shared);
        let making = tokio::task::spawn_blocking(move || {
            let report = shared.vitals.live.report();
            shared.vitals.metrics.verdict.set(report.verdict.name());
            make(&report)
        });
        making.await.map_err(|_| Refused::NoReport)
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Body> {
        let accept: Vec<&str> =
            request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let format = Format::wanted(&accept.join(","));
        answer::typed(format.content_type(), self.shared.vitals.metrics.exposition(format))
    }
}

impl Shared {
    /// Whether the request may change something. A page of another site is turned away first: whoever has a token must
    /// not lend it to one.
    fn may_change<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        guard::own_origin(request)?;
        let token = self.token.as_ref().ok_or(Refused::NoToken)?;
        let shown = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        if shown.and_then(bearer).is_some_and(|shown| token.is(shown)) { Ok(()) } else { Err(Refused::WrongToken) }
    }
}

/// The body of a request that may change something: small, and there at once.
async fn body<B>(request: Request<B>) -> Result<Bytes, Refused>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Box::pin(Limited::new(request.into_body(), MAX_BODY));
    match timeout(BODY_TIME, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Refused::Body("the body is cut off, or has more than 16 KiB")),
        Err(_) => Err(Refused::Body("the body did not come within 5 s")),
    }
}

/// The token behind `Bearer`, whose case does not matter (RFC 9110 §11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
