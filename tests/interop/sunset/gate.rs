//! Each client's own way to the proxy, as a balancer would be: it gives the client an address of its own, and counts.
//!
//! Promise: requests pass as they are, and whoever waits for one, or for the client's end, waits for nothing else. That a
//! client does not try again cannot be seen by waiting; that it has ended can.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;

use crate::oauth::http::{Body, Listening, plain, send};

/// How long a client may take for anything. Generous: machines with two busy cores, and a minute that one has to wait.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// A request, and how it was answered.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) path: String,
    /// Whether it is of a session of Streamable HTTP.
    is_of_a_session: bool,
    /// None as long as it is not, and where the client left before it heard: news on its stream may come sooner.
    pub(super) status: Option<StatusCode>,
}

impl Exchange {
    /// Whether it asked for the event stream of HTTP+SSE.
    pub(super) fn is_stream(&self) -> bool {
        self.method == Method::GET && self.path == "/sse" && !self.is_of_a_session
    }

    /// Whether it brought a message over HTTP+SSE.
    pub(super) fn is_message(&self) -> bool {
        self.method == Method::POST && self.path == "/messages"
    }

    /// The same, and it was taken.
    pub(super) fn is_message_taken(&self) -> bool {
        self.is_message() && self.status == Some(StatusCode::ACCEPTED)
    }
}

#[derive(Debug, Default)]
struct Book {
    exchanges: Vec<Exchange>,
    /// The client has ended.
    is_over: bool,
}

impl Book {
    fn streams(&self) -> usize {
        self.exchanges.iter().filter(|one| one.is_stream()).count()
    }
}

/// One client's way.
pub(super) struct Gate {
    listening: Listening,
    book: Arc<(Mutex<Book>, Condvar)>,
}

impl Gate {
    /// Leads to `proxy`, which is to see the client as `127.0.1.CLIENT`.
    pub(super) fn open(proxy: SocketAddr, client: u8) -> Self {
        let book: Arc<(Mutex<Book>, Condvar)> = Arc::default();
        let written = Arc::clone(&book);
        let listening = Listening::start(move |request| {
            let written = Arc::clone(&written);
            async move { pass(proxy, client, &written, request).await }
        });
        Gate { listening, book }
    }

    pub(super) fn sse_url(&self) -> String {
        format!("{}/sse", self.listening.origin())
    }

    /// To be called when the client has ended.
    pub(super) fn end(&self) -> impl FnOnce() + Send + 'static {
        let book = Arc::clone(&self.book);
        move || note(&book, |book| book.is_over = true)
    }

    /// Waits until what was exchanged, and the number of streams that were asked for, `is_enough`, or the client has ended;
    /// whether it is the latter. Panics when neither
    /// happens in time.
    pub(super) fn wait(&self, is_enough: impl Fn(&[Exchange], usize) -> bool) -> bool {
        let (book, news) = &*self.book;
        let book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |book: &mut Book| !book.is_over && !is_enough(&book.exchanges, book.streams());
        let (book, waited) = news.wait_timeout_while(book, DEADLINE, waits).unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the client neither ends nor does what is waited for: {:#?}", book.exchanges);
        book.is_over
    }

    /// How many streams were asked for so far.
    pub(super) fn streams(&self) -> usize {
        self.book.0.lock().unwrap_or_else(PoisonError::into_inner).streams()
    }

    /// What was exchanged so far.
    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.book.0.lock().unwrap_or_else(PoisonError::into_inner).exchanges.clone()
    }
}

fn note<T>(book: &(Mutex<Book>, Condvar), change: impl FnOnce(&mut Book) -> T) -> T {
    let changed = change(&mut book.0.lock().unwrap_or_else(PoisonError::into_inner));
    book.1.notify_all();
    changed
}

async fn pass(
    proxy: SocketAddr,
    client: u8,
    book: &(Mutex<Book>, Condvar),
    mut request: Request<Incoming>,
) -> Response<Body> {
    let address = HeaderValue::try_from(format!("127.0.1.{client}")).expect("an address is visible");
    request.headers_mut().insert("x-forwarded-for", address);
    let exchange = Exchange {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        is_of_a_session: request.headers().contains_key("mcp-session-id"),
        status: None,
    };
    let place = note(book, |book| {
        book.exchanges.push(exchange);
        book.exchanges.len() - 1
    });
    let answer = match send(proxy, request.map(Either::Right)).await {
        Ok(answer) => answer.map(Either::Right),
        Err(_) => plain(StatusCode::BAD_GATEWAY, "the proxy does not answer"),
    };
    let status = answer.status();
    note(book, |book| {
        if let Some(exchange) = book.exchanges.get_mut(place) {
            exchange.status = Some(status);
        }
    });
    answer
}
