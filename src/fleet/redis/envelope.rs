//! What replicas send each other, sealed as a whole: credentials travel in it.
//!
//! ```text
//! call:   direction and channel are bound | id (16) | attempt (1) | expires (8) | asker (8) | request
//! answer: direction and channel are bound | id (16) | answer
//! word:   direction and channel are bound | id (16) | 0 | expires (8) | sender (8) | word
//! ```
//!
//! Promise: an envelope is good for one place, one purpose and a few seconds, and once. It names its asker, so an answer can
//! be led nowhere else. Times are those of Redis, which all replicas share: their own clocks may differ.
//!
//! A caller that does not know whether its call arrived sends it again under the same id with the next attempt; the owner
//! does it once, and says again what came of it. The very same envelope a second time is somebody else's doing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::{Boot, Fault};

/// Names a call.
pub(super) type CallId = [u8; 16];

/// How long an envelope is good after its sender has given up: what the measure of the clocks may be wrong by.
pub(super) const TOLERANCE: Duration = Duration::from_millis(500);
/// How long it is remembered which ones came: longer than any is good, with what the clocks' measure lacks.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Envelopes that are remembered, at most, each for half of the time at least.
const MOST: usize = 200_000;

/// What stands before the text of a call or a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: CallId,
    pub(super) attempt: u8,
    /// Milliseconds since 1970, by the clock of Redis.
    pub(super) expires: i64,
    pub(super) from: Boot,
}

const HEAD: usize = 16 + 1 + 8 + 8;

/// A new name.
pub(super) fn new_id() -> CallId {
    let mut id = CallId::default();
    getrandom::fill(&mut id).expect("the operating system has random numbers");
    id
}

impl Head {
    /// The head and what it stands before.
    pub(super) fn write(&self, text: &[u8]) -> Vec<u8> {
        let mut written = Vec::with_capacity(HEAD + text.len());
        written.extend_from_slice(&self.id);
        written.push(self.attempt);
        written.extend_from_slice(&self.expires.to_be_bytes());
        written.extend_from_slice(&self.from.to_bytes());
        written.extend_from_slice(text);
        written
    }

    /// Reads what was written so.
    pub(super) fn read(written: Vec<u8>) -> Result<(Head, Bytes), Fault> {
        let head = written.first_chunk::<HEAD>().ok_or(Fault::ForgedEnvelope)?;
        let (id, rest) = head.split_first_chunk().ok_or(Fault::ForgedEnvelope)?;
        let ([attempt], rest) = rest.split_first_chunk().ok_or(Fault::ForgedEnvelope)?;
        let (expires, from) = rest.split_first_chunk().ok_or(Fault::ForgedEnvelope)?;
        let from = from.first_chunk().ok_or(Fault::ForgedEnvelope)?;
        let (expires, from) = (i64::from_be_bytes(*expires), Boot::from_bytes(*from));
        let head = Head { id: *id, attempt: *attempt, expires, from };
        Ok((head, Bytes::from(written).slice(HEAD..)))
    }
}

/// The calls and words that came lately, and what was answered.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The newer half.
    now: HashMap<CallId, Known>,
    /// The older half.
    before: HashMap<CallId, Known>,
    turned: Instant,
}

#[derive(Debug)]
struct Known {
    attempts: Attempts,
    answer: Option<Bytes>,
}

/// Which attempts came.
type Attempts = [u64; 4];

/// What an envelope is to those that came before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the first of its name.
    New,
    /// The caller asks again, and this was answered, if it was.
    Again(Option<Bytes>),
    /// The very same came before.
    Replay,
    /// There are too many to be remembered.
    Crowded,
}

impl Window {
    pub(super) fn new() -> Self {
        let state = State { now: HashMap::new(), before: HashMap::new(), turned: Instant::now() };
        Window { state: Mutex::new(state) }
    }

    /// Notes that an envelope came.
    pub(super) fn enter(&self, head: &Head) -> Arrival {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn();
        let state = &mut *state;
        let known = state.now.get_mut(&head.id).or_else(|| state.before.get_mut(&head.id));
        if let Some(known) = known {
            let is_new = note(&mut known.attempts, head.attempt);
            return if is_new { Arrival::Again(known.answer.clone()) } else { Arrival::Replay };
        }
        if state.now.len() >= MOST {
            return Arrival::Crowded;
        }
        let mut attempts = Attempts::default();
        note(&mut attempts, head.attempt);
        state.now.insert(head.id, Known { attempts, answer: None });
        Arrival::New
    }

    /// Notes what came of a call.
    pub(super) fn answered(&self, id: &CallId, answer: &Bytes) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if let Some(known) = state.now.get_mut(id).or_else(|| state.before.get_mut(id)) {
            known.answer = Some(answer.clone());
        }
    }
}

impl State {
    fn turn(&mut self) {
        let age = self.turned.elapsed();
        if age >= REMEMBERED {
            let now = std::mem::take(&mut self.now);
            // After two turns without anybody, nothing of it is good any more.
            self.before = if age < 2 * REMEMBERED { now } else { HashMap::new() };
            self.turned = Instant::now();
        }
    }
}

/// Notes an attempt; says whether it is new.
fn note(attempts: &mut Attempts, attempt: u8) -> bool {
    let (word, bit) = (usize::from(attempt / 64), 1 << (attempt % 64));
    let Some(word) = attempts.get_mut(word) else { return false };
    let is_new = *word & bit == 0;
    *word |= bit;
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(attempt: u8) -> Head {
        Head { id: [7; 16], attempt, expires: -5, from: "00000000000000ff".parse().expect("a boot") }
    }

    #[test]
    fn head_is_read_as_it_was_written_and_nothing_shorter_is() {
        let written = head(3).write(b"text");
        for end in 0..HEAD {
            assert_eq!(Head::read(written[..end].to_vec()), Err(Fault::ForgedEnvelope));
        }
        assert_eq!(Head::read(written), Ok((head(3), Bytes::from_static(b"text"))));
    }

    #[tokio::test(start_paused = true)]
    async fn call_is_done_once_and_answered_again() {
        let window = Window::new();
        assert_eq!(window.enter(&head(1)), Arrival::New);
        assert_eq!(window.enter(&head(2)), Arrival::Again(None), "it is under way");
        let answer = Bytes::from_static(b"done");
        window.answered(&head(1).id, &answer);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(window.enter(&head(200)), Arrival::Again(Some(answer)));
        for again in [1, 2, 200] {
            assert_eq!(window.enter(&head(again)), Arrival::Replay);
        }
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(window.enter(&head(1)), Arrival::New, "long after it was good");
    }
}
