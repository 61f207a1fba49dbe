//! Ends loops of clients that get new tokens for ever and are refused with every one.
//!
//! TypeScript's SSE client answers a 401 by getting a token and sending again, without end: 4,000 requests in four seconds
//! where the upstream takes tokens of no such audience (SECURITY §0, 3). A 403 ends it with an error that people see. It
//! takes the place of a 401 and of nothing else, so a credential that is good is never refused here. What counts as one is
//! what the operator's and the well-known headers hold: a header of a balancer differs from request to request. The trap:
//! addresses are shared, and who may be broken by whom matters. A loop in a session is told by that session, which nobody
//! else knows; one of newcomers by the name in their tokens, or by an address that trusted proxies tell.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::standing::{Label, Labels};

/// What is counted is not older than this; and a breaker that has opened stays so for as long.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Different credentials that may be refused.
const MOST_CREDENTIALS: usize = 3;
/// Refusals in all.
const MOST_REFUSALS: usize = 10;
/// Clients that are kept.
const KEPT: usize = 4096;

/// What a refusal comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The client may try another credential.
    Passes,
    /// It has tried enough: the breaker opens now.
    Opens,
    /// It is open.
    IsOpen,
}

#[derive(Debug)]
pub(super) struct Breaker {
    labels: Labels,
    clients: Mutex<HashMap<Label, Account>>,
}

#[derive(Debug, Default)]
struct Account {
    /// When which credential was refused, oldest first; no more than it takes.
    refusals: VecDeque<(Instant, Label)>,
    open_until: Option<Instant>,
}

impl Account {
    fn forget_before(&mut self, now: Instant) {
        while self.refusals.front().is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.refusals.pop_front();
        }
        self.open_until = self.open_until.filter(|until| *until > now);
    }

    fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.open_until.is_none()
    }

    fn is_looping(&self) -> bool {
        let mut different: Vec<&Label> = self.refusals.iter().map(|(_, credential)| credential).collect();
        different.sort_unstable();
        different.dedup();
        different.len() > MOST_CREDENTIALS || self.refusals.len() > MOST_REFUSALS
    }
}

impl Breaker {
    pub(super) fn new() -> Self {
        Breaker { labels: Labels::new(), clients: Mutex::default() }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Label, Account>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upstream refused a `credential` of `client`.
    pub(super) fn refused(&self, client: &impl Hash, credential: &impl Hash) -> Refusal {
        let (client, credential, now) = (self.labels.of(client), self.labels.of(credential), Instant::now());
        let mut clients = self.clients();
        if clients.len() >= KEPT && !clients.contains_key(&client) {
            clients.retain(|_, account| {
                account.forget_before(now);
                !account.is_empty()
            });
            if clients.len() >= KEPT {
                // So many fail at once that it is not a client's loop.
                return Refusal::Passes;
            }
        }
        let account = clients.entry(client).or_default();
        account.forget_before(now);
        if account.open_until.is_some() {
            return Refusal::IsOpen;
        }
        account.refusals.push_back((now, credential));
        if !account.is_looping() {
            return Refusal::Passes;
        }
        account.refusals.clear();
        account.open_until = Some(now + WINDOW);
        Refusal::Opens
    }

    /// Whether there is anybody whose refusals count.
    pub(super) fn counts(&self) -> bool {
        !self.clients().is_empty()
    }

    /// The upstream took a credential of `client`: what came before was no loop.
    pub(super) fn accepted(&self, client: &impl Hash) {
        let mut clients = self.clients();
        if !clients.is_empty() {
            clients.remove(&self.labels.of(client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fourth_credential_in_a_minute_opens_it_for_a_minute() {
        let breaker = Breaker::new();
        for credential in 1..=3 {
            assert_eq!(breaker.refused(&"ann", &credential), Refusal::Passes);
        }
        assert_eq!(breaker.refused(&"ann", &4), Refusal::Opens);
        assert_eq!(breaker.refused(&"ann", &5), Refusal::IsOpen);
        assert_eq!(breaker.refused(&"ben", &1), Refusal::Passes, "others are none of its business");
        tokio::time::advance(WINDOW).await;
        assert_eq!(breaker.refused(&"ann", &6), Refusal::Passes);
    }

    #[tokio::test(start_paused = true)]
    async fn eleventh_refusal_of_one_credential_opens_it_too() {
        let breaker = Breaker::new();
        for _ in 0..10 {
            assert_eq!(breaker.refused(&"ann", &1), Refusal::Passes);
        }
        assert_eq!(breaker.refused(&"ann", &1), Refusal::Opens);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_are_old_or_led_to_a_good_credential_do_not_count() {
        let breaker = Breaker::new();
        for credential in 0..20 {
            assert_eq!(breaker.refused(&"slow", &credential), Refusal::Passes);
            tokio::time::advance(Duration::from_secs(21)).await;
        }
        for credential in 0..20 {
            assert_eq!(breaker.refused(&"short tokens", &credential), Refusal::Passes);
            breaker.accepted(&"short tokens");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_clients_takes_no_more_room_than_there_is() {
        let breaker = Breaker::new();
        for client in 0..KEPT + 10 {
            assert_eq!(breaker.refused(&client, &1), Refusal::Passes);
        }
        assert_eq!(breaker.clients().len(), KEPT);
        tokio::time::advance(WINDOW).await;
        assert_eq!(breaker.refused(&"later", &1), Refusal::Passes);
        assert_eq!(breaker.clients().len(), 1);
    }
}
