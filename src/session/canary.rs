//! A session that opened under the operator's signature (`auth::signature`): synthetic, for as long as it only walks the path.
//!
//! Promise: such a session leaves no `legacy.*` record, and `canary.seen` once it went the whole way. The signature excludes
//! own traffic by proof and never excuses use: with the first message that is more than a handshake and a ping the session is
//! an ordinary one, and what was held back of it is written first.
//!
//! The trap: the rule is a list of what is borne. Whatever it does not name, a message that cannot be read included, is use as
//! far as can be known here.

use std::time::Duration;

use tokio::time::Instant;

use super::Payload;
use crate::mcp::{Message, MessageKind, RequestId};

/// How far a signed session has come, and what was not written of it.
#[derive(Debug)]
pub(super) struct Canary {
    since: Instant,
    handshake: Step,
    /// `initialized` was said.
    is_initialized: bool,
    ping: Step,
    /// The protocol version of its `initialize`, if that would be in the log.
    pub(super) version: Option<String>,
    /// Why the session is refused whatever it asks, if it is.
    pub(super) refused: Option<&'static str>,
}

#[derive(Debug)]
enum Step {
    Open,
    Asked(RequestId, Instant),
    Done(Duration),
}

/// How long the steps took of a session that went the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walked {
    /// From the endpoint event to the answer to `initialize`: once along the public path and back, and the upstream.
    pub(super) handshake: Duration,
    /// From the arrival of `ping` to its answer: the upstream alone.
    pub(super) ping: Duration,
}

impl Canary {
    pub(super) fn new() -> Self {
        Canary {
            since: Instant::now(),
            handshake: Step::Open,
            is_initialized: false,
            ping: Step::Open,
            version: None,
            refused: None,
        }
    }

    /// Whether a session that is posted this is still synthetic. A server's request is never answered by a canary: pings are
    /// answered by the proxy, and all others are work.
    pub(super) fn bears(payload: &Payload) -> bool {
        let Payload::Message(message) = payload else { return false };
        match message.kind() {
            MessageKind::Request { method, .. } => matches!(method.as_ref(), "initialize" | "ping"),
            MessageKind::Notification { method } => {
                matches!(method.as_ref(), "notifications/initialized" | "notifications/cancelled")
            }
            MessageKind::Response { .. } => false,
        }
    }

    /// It said something that is borne.
    pub(super) fn said(&mut self, message: &Message) {
        match message.kind() {
            MessageKind::Request { id, method } if method.as_ref() == "initialize" => self.handshake.ask(id),
            MessageKind::Request { id, .. } if matches!(self.handshake, Step::Done(_)) => self.ping.ask(id),
            MessageKind::Notification { method } if method.as_ref() == "notifications/initialized" => {
                self.is_initialized = true;
            }
            _ => {}
        }
    }

    /// The upstream answered `id`.
    pub(super) fn answered(&mut self, id: &RequestId, is_error: bool) {
        if is_error {
            return;
        }
        if self.handshake.is_asked(id) {
            self.handshake = Step::Done(self.since.elapsed());
        } else if let Step::Asked(asked, at) = &self.ping
            && asked == id
        {
            self.ping = Step::Done(at.elapsed());
        }
    }

    /// Whether it went the whole way.
    pub(super) fn walked(&self) -> Option<Walked> {
        match (&self.handshake, &self.ping) {
            (Step::Done(handshake), Step::Done(ping)) if self.is_initialized => {
                Some(Walked { handshake: *handshake, ping: *ping })
            }
            _ => None,
        }
    }
}

impl Step {
    fn ask(&mut self, id: &RequestId) {
        if matches!(self, Step::Open | Step::Asked(..)) {
            *self = Step::Asked(id.clone(), Instant::now());
        }
    }

    fn is_asked(&self, id: &RequestId) -> bool {
        matches!(self, Step::Asked(asked, _) if asked == id)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mcp::RpcError;

    fn message(text: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0",{text}}}"#);
        crate::mcp::parse(&Bytes::from(text)).expect("a message").remove(0)
    }

    #[test]
    fn only_a_handshake_and_pings_are_borne() {
        let bears = |text: &str| Canary::bears(&Payload::Message(message(text)));
        assert!(bears(r#""id":1,"method":"initialize""#));
        assert!(bears(r#""id":1,"method":"ping""#));
        assert!(bears(r#""method":"notifications/initialized""#));
        assert!(bears(r#""method":"notifications/cancelled""#));
        for more in [
            r#""id":1,"method":"tools/call""#,
            r#""id":1,"method":"tools/list""#,
            r#""id":1,"method":"server/discover""#,
            r#""id":1,"method":"initialize2""#,
            r#""method":"notifications/roots/list_changed""#,
            r#""method":"ping""#,
            r#""id":1,"result":{}"#,
        ] {
            assert!(!bears(more), "{more}");
        }
        let error = RpcError::new(-32600, "too_large", "too large");
        assert!(!Canary::bears(&Payload::UnreadableRequest(RequestId::text("1"), error)));
    }

    #[tokio::test(start_paused = true)]
    async fn whole_way_is_a_handshake_and_then_a_ping() {
        let mut canary = Canary::new();
        let id = |id: u8| RequestId::from_raw(&serde_json::value::to_raw_value(&id).expect("a number")).expect("an id");
        canary.said(&message(r#""id":7,"method":"ping""#));
        canary.answered(&id(7), false);
        canary.said(&message(r#""id":1,"method":"initialize""#));
        tokio::time::advance(Duration::from_millis(30)).await;
        canary.answered(&id(1), true);
        assert!(canary.walked().is_none());
        canary.answered(&id(1), false);
        canary.said(&message(r#""method":"notifications/initialized""#));
        canary.said(&message(r#""id":2,"method":"ping""#));
        assert!(canary.walked().is_none(), "the ping before the handshake says nothing of the upstream");
        tokio::time::advance(Duration::from_millis(5)).await;
        canary.answered(&id(2), false);
        let walked = Walked { handshake: Duration::from_millis(30), ping: Duration::from_millis(5) };
        assert_eq!(canary.walked(), Some(walked));
    }
}
