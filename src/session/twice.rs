//! Clients that post everything twice, which Python 1.12 and 1.13 with OAuth do (WIRE, POST 3).
//!
//! The second post of a message that is still under way is known by its id. One whose answer is there already would run
//! again, so the habit is learnt from `initialize`: whoever posts the same one again right after its answer posts
//! everything twice. Only with such a client are the messages remembered that were answered a moment ago; others may use an
//! id again as they like.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::timers::Posted;
use crate::mcp::RequestId;

/// How long after the answer the second post may come.
const AFTER: Duration = Duration::from_secs(2);

/// How many messages are remembered.
const REMEMBERED: usize = 64;

/// What is known of a client's habit.
#[derive(Debug, Default)]
pub(super) struct Twice {
    is_habit: bool,
    initialize: Option<(Posted, Instant)>,
    answered: VecDeque<(Posted, Instant)>,
}

impl Twice {
    /// `initialize` was posted again before it was answered.
    pub(super) fn note_habit(&mut self) {
        self.is_habit = true;
    }

    /// The request `body` with this id was answered.
    pub(super) fn note_answered(&mut self, id: &RequestId, body: &Bytes, is_initialize: bool, now: Instant) {
        if is_initialize {
            self.initialize = Some((Posted::of(id.clone(), body), now));
        } else if self.is_habit {
            if self.answered.len() == REMEMBERED {
                self.answered.pop_front();
            }
            self.answered.push_back((Posted::of(id.clone(), body), now));
        }
    }

    /// Whether the request `body` is the second post of one that was answered.
    pub(super) fn is_second(&mut self, id: &RequestId, body: &Bytes, is_initialize: bool, now: Instant) -> bool {
        if is_initialize {
            let is_second =
                self.initialize.as_ref().is_some_and(|first| first.1 + AFTER >= now && first.0.is(id, body));
            if is_second {
                // There is no third.
                self.initialize = None;
                self.is_habit = true;
            }
            return is_second;
        }
        if !self.is_habit {
            return false;
        }
        self.answered.retain(|answered| answered.1 + AFTER >= now);
        let second = self.answered.iter().position(|answered| answered.0.is(id, body));
        second.is_some_and(|at| self.answered.remove(at).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Bytes = Bytes::from_static(br#"{"method":"tools/call","id":1}"#);
    const INITIALIZE: Bytes = Bytes::from_static(br#"{"method":"initialize","id":0}"#);

    fn id(text: &str) -> RequestId {
        RequestId::text(text)
    }

    #[test]
    fn second_post_is_known_by_what_initialize_has_shown() {
        let (now, mut twice) = (Instant::now(), Twice::default());
        twice.note_answered(&id("0"), &INITIALIZE, true, now);
        assert!(twice.is_second(&id("0"), &INITIALIZE, true, now));
        assert!(!twice.is_second(&id("0"), &INITIALIZE, true, now), "a third one begins anew");
        assert!(!twice.is_second(&id("1"), &CALL, false, now), "not answered yet");
        twice.note_answered(&id("1"), &CALL, false, now);
        assert!(!twice.is_second(&id("1"), &INITIALIZE, false, now), "another message");
        assert!(twice.is_second(&id("1"), &CALL, false, now));
        assert!(!twice.is_second(&id("1"), &CALL, false, now), "there is no third");
        twice.note_answered(&id("1"), &CALL, false, now);
        assert!(!twice.is_second(&id("1"), &CALL, false, now + AFTER + AFTER), "so late it is a new one");
    }

    #[test]
    fn who_posts_once_may_use_an_id_again() {
        let (now, mut twice) = (Instant::now(), Twice::default());
        twice.note_answered(&id("0"), &INITIALIZE, true, now);
        twice.note_answered(&id("1"), &CALL, false, now);
        assert!(!twice.is_second(&id("1"), &CALL, false, now));
        assert!(!twice.is_second(&id("0"), &INITIALIZE, true, now + AFTER + AFTER));
    }
}
