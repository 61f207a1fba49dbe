//! The ids of our events: which session, and where in it (WIRE, Stream 5).
//!
//! A client that was cut off names the last one it got by `Last-Event-ID`. The key in it finds the session; it is not the
//! session id, because headers like that one stand in many a log, and whoever has the session id can post.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

/// Where an event stands in its session; the first is 1.
pub(super) type Position = u64;

/// Characters of a key: 128 random bits.
const KEY_LEN: usize = 32;

/// Names a session in the ids of its events.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ResumeKey(Arc<str>);

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeKey(…)")
    }
}

impl ResumeKey {
    pub(super) fn random() -> Self {
        ResumeKey(crate::traffic::random_hex(KEY_LEN / 2).into())
    }

    /// The id of the event at `position`.
    pub(super) fn at(&self, position: Position) -> String {
        format!("{}-{position}", self.0)
    }
}

/// Reads a `Last-Event-ID`; `None` when it is none of ours.
pub(super) fn read(id: &HeaderValue) -> Option<(ResumeKey, Position)> {
    let (key, position) = id.to_str().ok()?.split_once('-')?;
    let is_key = key.len() == KEY_LEN && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_position = position.len() <= 19 && position.bytes().all(|byte| byte.is_ascii_digit());
    (is_key && is_position).then(|| Some((ResumeKey(key.into()), position.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_an_event_is_read_back_and_others_are_not_ours() {
        let key = ResumeKey::random();
        let id = HeaderValue::from_str(&key.at(42)).expect("a header");
        assert_eq!(read(&id), Some((key.clone(), 42)));
        let long = key.at(u64::MAX);
        for other in ["", "7", "a-1", "-1", long.as_str(), &key.at(1)[1..], "deadbeefdeadbeefdeadbeefdeadbeef-+1"] {
            assert_eq!(read(&HeaderValue::from_str(other).expect("a header")), None, "{other}");
        }
    }
}
