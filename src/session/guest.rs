//! A client at the door: what its `GET` tells of it before it has a session, and the word that turns it away.
//!
//! The trap: what a client names says whether it had a session before, and every SDK names something else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::EventStream;
use super::reunion::{Kin, Newcomer};
use super::stream::Arrival;
use crate::auth::{KeepAlive, Sender, SignedProbe};
use crate::mcp::RpcError;
use crate::traffic::{Client, Connection};

/// A client at the door.
#[derive(Debug)]
pub struct Guest {
    /// Who it is, as far as its `GET` tells.
    pub client: Client,
    /// What its `GET` authenticated with, and whom it is taken for.
    pub sender: Sender,
    /// The connection, for the log.
    pub connection: Connection,
    /// Ends the client's TCP connection, even one that takes no more bytes.
    pub closer: Closer,
    /// Whether its stream may carry keep-alive comments.
    pub bears_comments: bool,
    /// Whether the stream may only be there to see whether there is one.
    pub is_probe: bool,
    /// It is the operator's own, by proof. Such a stream must neither name an event nor a version: it comes for the first time.
    pub signed: Option<SignedProbe>,
    /// The last event that it got, if it says so.
    pub last_event_id: Option<HeaderValue>,
    /// The protocol version that it names: a client that does so on `GET` had a handshake before.
    pub version: Option<String>,
}

impl Guest {
    /// The version of the session it had before, if it surely had one: TypeScript names it on `GET` from its second stream
    /// on. The oldest one tells nothing, because Java always names that.
    pub(super) fn came_back(&self) -> Option<&str> {
        self.version.as_deref().filter(|version| *version > "2024-11-05")
    }

    /// After how much silence on its stream a comment goes out, if ever.
    pub(super) fn keep_alive(&self, configured: Duration) -> Option<Duration> {
        match self.signed.and_then(|probe| probe.keep_alive) {
            Some(KeepAlive::Off) => None,
            Some(KeepAlive::Every(interval)) => Some(interval),
            None => self.bears_comments.then_some(configured),
        }
    }

    /// What its stream is to sessions that wait for their clients. One that names an event names its session: that it is not
    /// there any more makes no other its own.
    pub(super) fn newcomer(&self, stream: &EventStream, arrival: Arrival) -> Option<Newcomer> {
        let version = self.came_back().filter(|_| self.last_event_id.is_none())?.to_owned();
        Some(Newcomer { line: stream.line(), arrival: Some(Arrival { is_resume: false, ..arrival }), version })
    }

    pub(super) fn kin(&self) -> Option<Kin> {
        Kin::of(&self.sender, self.client.user_agent.as_deref(), self.client.address)
    }
}

/// Ends a connection from outside. hyper does not poll a body while its write buffer is full, so a client that has
/// stopped reading can only be ended by ending its connection.
#[derive(Clone)]
pub struct Closer {
    close: Arc<dyn Fn() + Send + Sync>,
    absence: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Closer {
    /// A closer that calls `close`.
    pub fn new(close: impl Fn() + Send + Sync + 'static) -> Self {
        Closer { close: Arc::new(close), absence: Arc::new(|| Duration::ZERO) }
    }

    /// The same; `absence` says of an ended connection how long its client had been gone by then.
    #[must_use]
    pub fn with_absence(self, absence: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Closer { absence: Arc::new(absence), ..self }
    }

    pub(super) fn close(&self) {
        (self.close)();
    }

    pub(super) fn absence(&self) -> Duration {
        (self.absence)()
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer")
    }
}

/// Why a session is served by refusing whatever it asks.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The word for the log.
    pub reason: &'static str,
    /// What the client is told.
    pub error: RpcError,
}
