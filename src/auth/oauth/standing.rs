//! What the upstream said of credentials: of none at all, and of each that came lately.
//!
//! Promise: a server that asks for no credential is asked once, and costs nothing after that. A credential is whatever a
//! request shows beside what describes its way ([`Shown`]): API keys have many names, and a client that has one must not be
//! told to log in. The trap: what is kept must neither be a credential nor let one be tried out offline, so keys are HMACs
//! under a key that dies with the process.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use ring::hmac;
use tokio::time::Instant;

use crate::auth::Rejection;
use crate::upstream::Shown;

/// How long an accepted credential is believed to be good.
const ACCEPTED: Duration = Duration::from_secs(60);
/// And a rejected one to be bad: its client may come again with the same one by mistake, its server may have been wrong.
const REJECTED: Duration = Duration::from_secs(5);
/// How long it is believed that a credential is asked for.
const ASKED_FOR: Duration = Duration::from_secs(300);
/// How long a server that did not say is left alone.
const SILENT: Duration = Duration::from_secs(5);
/// Credentials that are kept.
const KEPT: usize = 4096;

/// A credential, or a client, as it stands in maps.
pub(super) type Label = [u8; 32];

/// Labels things under a key of its own.
#[derive(Debug)]
pub(super) struct Labels(hmac::Key);

/// What is known before anybody is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It may pass.
    Good,
    /// It will be refused.
    Bad(Rejection),
    /// Nobody knows.
    Nothing,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Standing {
    labels: Labels,
    /// Even a server that asked for no credential is asked again.
    forgets: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests without a credential.
    without: (Known, Option<Instant>),
    /// A credential was turned down, so that those which come with one are worth asking for.
    judges: bool,
    credentials: HashMap<Label, (Known, Instant)>,
}

/// Hashes through the HMAC.
struct Feed(hmac::Context);

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Nobody takes it; the digest is what counts.
        0
    }
}

impl Labels {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system has random numbers");
        Labels(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(super) fn of(&self, thing: &impl Hash) -> Label {
        let mut feed = Feed(hmac::Context::with_key(&self.0));
        thing.hash(&mut feed);
        let mut label = [0; 32];
        for (byte, signed) in label.iter_mut().zip(feed.0.sign().as_ref()) {
            *byte = *signed;
        }
        label
    }
}

impl Standing {
    pub(super) fn new(forgets: bool) -> Self {
        let state = State { without: (Known::Nothing, None), judges: false, credentials: HashMap::new() };
        Standing { labels: Labels::new(), forgets, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of requests without a credential.
    pub(super) fn without(&self) -> Known {
        let state = self.state();
        match &state.without {
            (Known::Good, None) => Known::Good,
            (known, Some(until)) if *until > Instant::now() => known.clone(),
            _ => Known::Nothing,
        }
    }

    /// Whether the upstream was never seen to turn a credential down, nor to ask for one.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state();
        state.without == (Known::Good, None) && !state.judges
    }

    /// What is known of a credential itself.
    pub(super) fn of(&self, shown: &Shown) -> Known {
        if shown.is_empty() {
            return self.without();
        }
        let label = self.labels.of(shown);
        let state = self.state();
        let known = state.credentials.get(&label).filter(|(_, until)| *until > Instant::now());
        known.map_or(Known::Nothing, |(known, _)| known.clone())
    }

    /// The upstream let it pass.
    pub(super) fn accepted(&self, shown: &Shown) {
        if shown.is_empty() {
            self.state().without = (Known::Good, self.forgets.then(|| Instant::now() + ACCEPTED));
        } else {
            self.keep(shown, Known::Good, ACCEPTED);
        }
    }

    /// The upstream, asked about it, turned it down.
    pub(super) fn rejected(&self, shown: &Shown, rejection: Rejection) {
        if shown.is_empty() {
            // Only a 401 asks for a credential; a 403 may be a gateway's word on this one request.
            let asks = rejection.status == StatusCode::UNAUTHORIZED;
            let until = Instant::now() + if asks { ASKED_FOR } else { REJECTED };
            self.state().without = (Known::Bad(rejection), Some(until));
        } else {
            self.state().judges = true;
            self.keep(shown, Known::Bad(rejection), REJECTED);
        }
    }

    /// The upstream turned down a request that came with it. That may have been for the request, or for the session that it
    /// named (old rmcp), and it may be old news; so nobody is refused by it. But what was good is asked about again.
    pub(super) fn doubt(&self, shown: &Shown) {
        let label = self.labels.of(shown);
        let mut state = self.state();
        if !shown.is_empty() {
            state.judges = true;
            if state.credentials.get(&label).is_some_and(|(known, _)| *known == Known::Good) {
                state.credentials.remove(&label);
            }
        } else if state.without.0 == Known::Good {
            state.without = (Known::Nothing, None);
        }
    }

    /// The upstream did not say: whoever comes meanwhile is let through to find out.
    pub(super) fn silent(&self, shown: &Shown) {
        if shown.is_empty() {
            self.state().without = (Known::Good, Some(Instant::now() + SILENT));
        } else {
            self.keep(shown, Known::Good, SILENT);
        }
    }

    fn keep(&self, shown: &Shown, known: Known, time: Duration) {
        let (label, now) = (self.labels.of(shown), Instant::now());
        let mut state = self.state();
        if state.credentials.len() >= KEPT && !state.credentials.contains_key(&label) {
            state.credentials.retain(|_, (_, until)| *until > now);
            if state.credentials.len() >= KEPT {
                // Everything in it is good for a minute at most; what is asked again costs a ping.
                state.credentials.clear();
            }
        }
        state.credentials.insert(label, (known, now + time));
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    fn credential(token: &str) -> Shown {
        let value = HeaderValue::try_from(token).expect("a header");
        Shown::of(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
    }

    fn none() -> Shown {
        Shown::of(&HeaderMap::new())
    }

    #[tokio::test(start_paused = true)]
    async fn accepted_is_known_for_a_minute_and_rejected_for_five_seconds() {
        let standing = Standing::new(false);
        let (good, bad) = (credential("Bearer a"), credential("Bearer b"));
        standing.accepted(&good);
        standing.rejected(&bad, Rejection::bare());
        assert_eq!(standing.of(&good), Known::Good);
        assert_eq!(standing.of(&bad), Known::Bad(Rejection::bare()));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((standing.of(&good), standing.of(&bad)), (Known::Good, Known::Nothing));
        tokio::time::advance(Duration::from_secs(55)).await;
        assert_eq!(standing.of(&good), Known::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_wants_no_credential_is_known_until_it_wants_one() {
        let standing = Standing::new(false);
        assert!(!standing.is_open());
        standing.accepted(&none());
        tokio::time::advance(Duration::from_secs(100_000)).await;
        assert!(standing.is_open());
        standing.rejected(&credential("Bearer x"), Rejection::bare());
        assert!(!standing.is_open() && standing.without() == Known::Good, "it looks at those that come");
        standing.rejected(&none(), Rejection::bare());
        assert_eq!(standing.without(), Known::Bad(Rejection::bare()));
        tokio::time::advance(ASKED_FOR).await;
        assert_eq!(standing.without(), Known::Nothing);
        standing.rejected(&none(), Rejection { status: StatusCode::FORBIDDEN, ..Rejection::bare() });
        tokio::time::advance(REJECTED).await;
        assert_eq!(standing.without(), Known::Nothing);
        standing.silent(&none());
        assert!(standing.without() == Known::Good && !standing.is_open());
        tokio::time::advance(SILENT).await;
        assert_eq!(standing.without(), Known::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_makes_nothing_bad_and_nothing_last_longer() {
        let standing = Standing::new(false);
        let (good, bad, new) = (credential("Bearer a"), credential("Bearer b"), credential("Bearer c"));
        standing.accepted(&none());
        standing.doubt(&none());
        assert_eq!(standing.without(), Known::Nothing);
        standing.accepted(&none());
        standing.doubt(&new);
        assert!(standing.without() == Known::Good && !standing.is_open(), "those with a credential are looked at now");
        standing.rejected(&none(), Rejection::bare());
        standing.accepted(&good);
        standing.rejected(&bad, Rejection::bare());
        tokio::time::advance(Duration::from_secs(4)).await;
        for shown in [&none(), &good, &bad, &new] {
            standing.doubt(shown);
        }
        assert_eq!((standing.of(&good), standing.of(&new)), (Known::Nothing, Known::Nothing));
        assert_eq!(standing.of(&bad), Known::Bad(Rejection::bare()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(standing.of(&bad), Known::Nothing);
        tokio::time::advance(Duration::from_secs(295)).await;
        assert_eq!(standing.without(), Known::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_credentials_takes_no_more_room_than_there_is() {
        let standing = Standing::new(false);
        for number in 0..=(KEPT * 2) {
            standing.accepted(&credential(&format!("Bearer {number}")));
        }
        assert!(standing.state().credentials.len() <= KEPT);
        assert_eq!(standing.of(&credential(&format!("Bearer {}", KEPT * 2))), Known::Good);
    }
}
