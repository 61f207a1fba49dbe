//! Clients that are logging in.
//!
//! A client that was told 401 either gives up, and then has to get an error for its request (a Python client with a static
//! token would wait for ever), or logs in and posts it again, which takes as long as a person takes. Which of the two it does
//! shows: before it can log in it has to find out where, and reads the OAuth metadata that the challenge points to. So
//! whoever has asked for any since the 401 is waited for. Known by address and user agent: the requests carry nothing else.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// No login is waited for longer, and clients in a browser give up before.
pub(super) const LONGEST: Duration = Duration::from_secs(600);
/// Clients that are remembered. Beyond that the oldest is forgotten, whose requests get their error as if it had not asked.
const MAX: usize = 2_048;

/// When clients asked last how to log in.
#[derive(Debug, Default)]
pub(super) struct Logins {
    asked: Mutex<HashMap<(IpAddr, u64), Instant>>,
}

impl Logins {
    /// A client asked.
    pub(super) fn note(&self, address: IpAddr, user_agent: Option<&str>) {
        let (now, who) = (Instant::now(), (address, hash(user_agent)));
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= MAX && !asked.contains_key(&who) {
            asked.retain(|_, at| *at + LONGEST > now);
            let oldest = || asked.iter().min_by_key(|(_, at)| **at).map(|(who, _)| *who);
            if let Some(oldest) = (asked.len() >= MAX).then(oldest).flatten() {
                asked.remove(&oldest);
            }
        }
        asked.insert(who, now);
    }

    /// When such a client asked last.
    pub(super) fn last(&self, address: IpAddr, user_agent: Option<&str>) -> Option<Instant> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(&(address, hash(user_agent))).copied()
    }
}

fn hash(user_agent: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    user_agent.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_asked_are_known_and_the_oldest_is_forgotten_first() {
        let logins = Logins::default();
        let address = |number: usize| IpAddr::from((number as u128 + (1 << 64)).to_be_bytes());
        for number in 0..=MAX {
            logins.note(address(number), Some("node"));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(logins.last(address(0), Some("node")).is_none());
        assert!(logins.last(address(1), Some("node")).is_some());
        logins.note(address(MAX), Some("node"));
        assert!(logins.last(address(1), Some("node")).is_some(), "who asks again takes nobody's place");
        assert!(logins.last(address(1), None).is_none() && logins.last(address(1), Some("other")).is_none());
        tokio::time::advance(LONGEST).await;
        logins.note(address(0), None);
        assert!(logins.last(address(1), Some("node")).is_none(), "those of long ago go first");
    }
}
