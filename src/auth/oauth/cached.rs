//! One thing that is fetched now and then: for five minutes it is good, then one caller fetches it anew while the others
//! take the old one; while fetching fails, the old one goes on.
//!
//! Fetching is part of a caller's own request and dies with it: the next one takes over. The trap is the first time, when
//! there is no old one: all wait for the one that fetches, and a failure is theirs too for a few seconds. Some callers have
//! a POST waiting (WIRE, POST 2): with an old one in hand they fetch for a second and leave the rest to others.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// How long what was fetched is good.
const GOOD: Duration = Duration::from_secs(300);
/// How long a failure stands.
const FAILED: Duration = Duration::from_secs(5);
/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(8);
/// And one in a hurry, for something newer than what there is.
const HURRY: Duration = Duration::from_secs(1);

/// Why there is nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Problem(pub(super) String);

#[derive(Debug)]
pub(super) struct Cached<T> {
    state: Mutex<State<T>>,
    flight: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State<T> {
    value: Option<Arc<T>>,
    problem: Option<Problem>,
    until: Option<Instant>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        let state = State { value: None, problem: None, until: None };
        Cached { state: Mutex::new(state), flight: tokio::sync::Mutex::default() }
    }
}

impl<T> Cached<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, however old.
    pub(super) fn known(&self) -> Option<Arc<T>> {
        self.state().value.clone()
    }

    /// It may have changed.
    pub(super) fn expire(&self) {
        self.state().until = None;
    }

    /// What is known if it is good, or what `fetch` gives.
    pub(super) async fn get<F>(&self, fetch: impl FnOnce() -> F) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        self.get_within(PATIENCE, fetch).await
    }

    /// The same for a caller in a hurry: what is known is better than to wait.
    pub(super) async fn get_soon<F>(&self, fetch: impl FnOnce() -> F) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        self.get_within(HURRY, fetch).await
    }

    /// `patience` counts only where there is something.
    async fn get_within<F>(&self, patience: Duration, fetch: impl FnOnce() -> F) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        if let Some(good) = self.good() {
            return good;
        }
        let _turn = match (self.known(), self.flight.try_lock()) {
            (_, Ok(turn)) => turn,
            // Another fetches it.
            (Some(old), Err(_)) => return Ok(old),
            (None, Err(_)) => match timeout(PATIENCE, self.flight.lock()).await {
                Ok(turn) => turn,
                Err(_) => return Err(silence()),
            },
        };
        if let Some(good) = self.good() {
            return good;
        }
        let old = self.known();
        let fetched = match (timeout(if old.is_some() { patience } else { PATIENCE }, fetch()).await, old) {
            (Ok(fetched), _) => fetched,
            // Not a failure: the next one who has time for it may have it.
            (Err(_), Some(old)) if patience < PATIENCE => return Ok(old),
            (Err(_), _) => Err(silence()),
        };
        let mut state = self.state();
        match fetched {
            Ok(value) => {
                let value = Arc::new(value);
                *state = State { value: Some(Arc::clone(&value)), problem: None, until: Some(Instant::now() + GOOD) };
                Ok(value)
            }
            Err(problem) => {
                state.until = Some(Instant::now() + FAILED);
                state.problem = Some(problem.clone());
                state.value.clone().ok_or(problem)
            }
        }
    }

    fn good(&self) -> Option<Result<Arc<T>, Problem>> {
        let state = self.state();
        state.until.filter(|until| *until > Instant::now())?;
        match (&state.value, &state.problem) {
            (Some(value), _) => Some(Ok(Arc::clone(value))),
            (None, Some(problem)) => Some(Err(problem.clone())),
            (None, None) => None,
        }
    }
}

fn silence() -> Problem {
    Problem(format!("no answer within {} s", PATIENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    async fn get(cached: &Cached<u8>, value: Result<u8, &str>) -> Result<u8, Problem> {
        let value = value.map_err(|text| Problem(text.to_owned()));
        cached.get(|| ready(value)).await.map(|value| *value)
    }

    #[tokio::test(start_paused = true)]
    async fn value_is_good_for_five_minutes_and_longer_while_fetching_fails() {
        let cached = Cached::default();
        assert_eq!(get(&cached, Ok(1)).await, Ok(1));
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!(get(&cached, Ok(2)).await, Ok(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(get(&cached, Err("down")).await, Ok(1));
        assert_eq!(get(&cached, Ok(3)).await, Ok(1), "not asked again at once");
        tokio::time::advance(FAILED).await;
        assert_eq!(get(&cached, Ok(3)).await, Ok(3));
        cached.expire();
        assert_eq!(get(&cached, Ok(4)).await, Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn first_failure_is_everybodys_for_a_few_seconds() {
        let cached = Cached::default();
        assert!(get(&cached, Err("down")).await.is_err());
        assert!(get(&cached, Ok(1)).await.is_err());
        tokio::time::advance(FAILED).await;
        assert_eq!(get(&cached, Ok(1)).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_fetches_while_others_take_the_old_one_or_wait() {
        let cached: Cached<u8> = Cached::default();
        let mut first = Box::pin(cached.get(pending));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(get(&cached, Ok(2)));
        assert!(second.as_mut().now_or_never().is_none(), "there is nothing to take");
        drop(first);
        assert_eq!(second.await, Ok(2), "whoever fetched has left");
        cached.expire();
        let mut third = Box::pin(cached.get(pending));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(get(&cached, Ok(4)).await, Ok(2));
        assert_eq!(third.await.map(|value| *value), Ok(2), "and who waits too long as well");
    }

    #[tokio::test(start_paused = true)]
    async fn caller_in_a_hurry_takes_the_old_one_after_a_second_and_another_may_fetch() {
        let cached: Cached<u8> = Cached::default();
        let begun = Instant::now();
        assert!(cached.get_soon(pending).await.is_err(), "there is nothing to take");
        assert_eq!(begun.elapsed(), PATIENCE);
        tokio::time::advance(FAILED).await;
        assert_eq!(get(&cached, Ok(1)).await, Ok(1));
        cached.expire();
        let begun = Instant::now();
        assert_eq!(cached.get_soon(pending).await.map(|value| *value), Ok(1));
        assert_eq!(begun.elapsed(), HURRY);
        assert_eq!(get(&cached, Ok(2)).await, Ok(2));
    }
}
