//! What replicas tell each other without being asked. Nobody answers, and a word that is lost is no harm.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::{Reader, Writer};

/// The kinds of words: what each begins with.
const LOGIN: u8 = 1;

/// Of one client no more is told for so long.
const QUIET: Duration = Duration::from_secs(1);
/// Clients that are told of in that time: whoever asks in a thousand names must not make every replica hear it.
const MOST: usize = 1_000;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// A client asked how to log in; its session may be anybody's.
    Login {
        /// Its address, as far as trusted proxies tell.
        address: IpAddr,
        /// What it calls itself.
        user_agent: Option<String>,
    },
}

impl Word {
    pub(super) fn write(&self) -> Bytes {
        match self {
            Word::Login { address, user_agent } => {
                let mut writer = Writer::new(LOGIN, 0);
                writer.address(*address);
                writer.option(user_agent.as_deref().map(str::as_bytes));
                writer.rest(&[])
            }
        }
    }

    /// What another replica told; `None` when it is no word that is known here.
    pub(super) fn read(bytes: Bytes) -> Option<Word> {
        let mut reader = Reader::new(LOGIN, bytes)?;
        let (address, user_agent) = (reader.address()?, reader.option()?);
        let user_agent = user_agent.map(|text| String::from_utf8(text.into())).transpose().ok()?;
        reader.rest().is_empty().then_some(Word::Login { address, user_agent })
    }
}

/// Who was told of lately.
#[derive(Debug, Default)]
pub(in crate::front) struct Pace {
    hasher: RandomState,
    told: Mutex<HashMap<u64, Instant>>,
}

impl Pace {
    /// Whether `subject` may be told of now. It was, then.
    pub(super) fn allows(&self, subject: &impl Hash) -> bool {
        let (key, now) = (self.hasher.hash_one(subject), Instant::now());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|at| *at + QUIET > now) {
            return false;
        }
        if told.len() >= MOST {
            told.retain(|_, at| *at + QUIET > now);
        }
        told.len() < MOST && told.insert(key, now).is_none_or(|at| at + QUIET <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn word_is_heard_as_it_was_told(address in any::<IpAddr>(), user_agent in any::<Option<String>>()) {
            let word = Word::Login { address, user_agent };
            prop_assert_eq!(Word::read(word.write()), Some(word));
        }

        #[test]
        fn garbage_is_no_word(garbage in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(Word::read([&[LOGIN + 1][..], &garbage].concat().into()).is_none());
            if let Some(word) = Word::read([&[LOGIN][..], &garbage].concat().into()) {
                prop_assert_eq!(&*word.write(), &[&[LOGIN][..], &garbage].concat());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_asks_in_a_loop_is_told_of_once_a_second() {
        let pace = Pace::default();
        assert!(pace.allows(&"a"));
        assert!(!pace.allows(&"a"));
        assert!(pace.allows(&"b"));
        tokio::time::advance(QUIET).await;
        assert!(pace.allows(&"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn crowd_is_told_of_up_to_a_bound() {
        let pace = Pace::default();
        assert_eq!((0..2 * MOST).filter(|name| pace.allows(name)).count(), MOST);
        tokio::time::advance(QUIET).await;
        assert!(pace.allows(&"another"));
    }
}
