//! The switch-off at the door: what every answer on the legacy paths says, and who gets no further.
//!
//! Promise: everyone who is refused leaves a record, and one that tries in a loop leaves one a minute, with all attempts in
//! the metrics. Nothing here asks for a credential: what is gone is gone for everybody.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, LINK};
use http::{Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::Instant;

use super::probe::Probe;
use super::reply::Refused;
use super::route::Route;
use super::visitor::Visitor;
use super::{Body, Shared, cors};
use crate::mcp;
use crate::sunset::{Phase, Rules};

/// How long one that was refused leaves no further record.
const QUIET: Duration = Duration::from_secs(60);
/// Clients that are remembered for that.
const MOST: usize = 10_000;
/// When to come again where nobody knows when that is of use.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Who was refused lately.
#[derive(Debug, Default)]
pub(super) struct Lately {
    hasher: RandomState,
    clients: Mutex<HashMap<u64, Instant>>,
}

impl Lately {
    /// Whether `client` was not refused lately. It is from now on.
    fn is_news(&self, client: &impl std::hash::Hash) -> bool {
        let (key, now) = (self.hasher.hash_one(client), Instant::now());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = clients.get(&key).is_none_or(|at| *at + QUIET <= now);
        if is_news {
            if clients.len() >= MOST {
                clients.retain(|_, at| *at + QUIET > now);
            }
            // With more than that at once, each attempt leaves a record: nothing is lost, and the log is what it takes.
            if clients.len() < MOST {
                clients.insert(key, now);
            }
        }
        is_news
    }
}

/// Turns away whoever wants what is not there any more, or not now.
pub(super) async fn admit(
    shared: &Shared,
    rules: &Rules,
    visitor: &Visitor,
    route: &Route,
    request: &Request<Incoming>,
    probe: &Probe,
) -> Result<(), Refused> {
    let (headers, is_preflight) = (request.headers(), cors::is_preflight(request));
    let (phase, refused) = match route {
        // Whatever the method, but for what a browser asks first: 405 would send some clients down a wrong path.
        Route::Stream | Route::Message | Route::Method { .. } if rules.phase == Phase::Gone && !is_preflight => {
            (Phase::Gone, Refused::Gone(rules.notice().problem().to_string()))
        }
        Route::Stream if probe.signed.is_none() && !comes_back(headers) => {
            let account = shared.books.account(&visitor.client());
            let Some(phase) = rules.refuses_by_http(&account) else { return Ok(()) };
            let wait = rules.until.filter(|_| phase == Phase::Brownout);
            let wait = wait.and_then(|until| Duration::try_from(until.duration_since(Timestamp::now())).ok());
            let text = rules.text(phase);
            (phase, Refused::SwitchedOff { text, wait: wait.unwrap_or(A_DAY).max(Duration::from_secs(1)) })
        }
        _ => return Ok(()),
    };
    if probe.signed.is_none() {
        note(shared, visitor, phase, &refused).await;
    }
    Err(refused)
}

/// One that had a session may find it again, and is judged when it says something: an HTTP error would make TypeScript
/// clients give it up for ever.
fn comes_back(headers: &HeaderMap) -> bool {
    let version = headers.get(mcp::PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
    headers.contains_key(mcp::LAST_EVENT_ID) || version.is_some_and(|version| version > "2024-11-05")
}

async fn note(shared: &Shared, visitor: &Visitor, phase: Phase, refused: &Refused) {
    let client = visitor.client();
    let key = (&client.principal, &client.user_agent, client.address);
    if !shared.lately.is_news(&key) {
        shared.books.metrics.refused.of(phase.name()).inc();
        return;
    }
    let connection = visitor.connection(&shared.books);
    let label = crate::traffic::random_hex(4);
    shared.books.refuse(&label, &client, connection, phase.name(), refused.status().as_u16()).await;
}

/// Why there is no such session, as far as that is why: clients show this text until they have a stream again.
pub(super) fn told(refused: Refused, rules: &Rules) -> Refused {
    match refused {
        Refused::UnknownSession if rules.phase.hits_users() => Refused::EndedSession(rules.text(rules.phase)),
        refused => refused,
    }
}

/// Says on an answer of a legacy path that HTTP+SSE ends (RFC 9745, RFC 8594).
pub(super) fn sign(rules: &Rules, answer: &mut Response<Body>) {
    for (name, value) in rules.headers() {
        // One of several relations, which go beside those of others.
        if *name == LINK {
            answer.headers_mut().append(name.clone(), value.clone());
        } else {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_tries_in_a_loop_is_news_once_a_minute() {
        let lately = Lately::default();
        assert!(lately.is_news(&"a"));
        assert!(!lately.is_news(&"a"));
        assert!(lately.is_news(&"b"));
        tokio::time::advance(QUIET).await;
        assert!(lately.is_news(&"a"));
    }

    #[test]
    fn one_that_comes_back_is_told_from_a_newcomer() {
        let headers = |name: &str, value: &str| {
            let name: http::HeaderName = name.parse().expect("a name");
            HeaderMap::from_iter([(name, value.parse().expect("a value"))])
        };
        assert!(comes_back(&headers("last-event-id", "x")));
        assert!(comes_back(&headers("mcp-protocol-version", "2025-06-18")));
        assert!(!comes_back(&headers("mcp-protocol-version", "2024-11-05")), "Java always names that one");
        assert!(!comes_back(&HeaderMap::new()));
    }
}
