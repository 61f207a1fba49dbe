//! Replicas behind any balancer (WIRE, Replicas): what one process needs of the others.
//!
//! ```text
//! session ids (sealed, each names its owner) | calls (a request to the owner of a session, its answer)
//! words (to everybody)                       | the board (what all have to agree on, or to know of each other)
//! ```
//!
//! [`Fleet`] is the one seam. Alone, a process owns every session and the board is its own memory (`solo`); with
//! `--fleet` the same goes through Redis (`redis`). What is carried is opaque here: the front knows what a call says, the
//! switch-off what stands on the board.
//!
//! Promise: a session's own replica never waits for anything here. What cannot be had for want of Redis is said at once or
//! within [`PATIENCE`], and everything is taken up again when Redis is back.

mod board;
mod id;
mod keys;
mod redis;
mod solo;
#[cfg(test)]
pub(crate) mod staged;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

pub use board::{Board, Entry};
pub use id::Boot;
pub use keys::{KeyError, KeyFile, Keyring};
pub use redis::{Config, Server};
pub use trust::{FAULTS, Fault};

use crate::drain::Tasks;
use crate::metrics::Metrics;
use crate::traffic::Log;

/// How long a caller waits for the owner of a session (WIRE, Replicas).
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Whose a session is, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It would be this process's own: if it does not know the session, nobody does.
    Ours,
    /// It is another process's.
    Of(Boot),
    /// The id was never given out, or by nobody who is trusted here.
    Nobody,
}

/// What a call comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// The owner's answer.
    Answered(Bytes),
    /// There is no such process any more, and so no session of its.
    Gone,
    /// It cannot be reached now, and has surely not got the call.
    Unreachable,
    /// No answer came in time. It may have got the call.
    Unanswered,
}

/// Every outcome of a call, as metrics name it.
pub const CALLS: &[&str] = &["answered", "gone", "unreachable", "unanswered"];

/// Who answers calls and hears words.
pub trait Handler: fmt::Debug + Send + Sync {
    /// Answers a call of another process, which gives up at `deadline`.
    fn call(&self, request: Bytes, deadline: Instant) -> BoxFuture<'static, Bytes>;

    /// Hears what another process tells everybody. Does not block.
    fn hear(&self, word: Bytes);
}

/// Why something could not be put on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unshared {
    /// What stands there is not what was expected; by now the board shows it.
    #[error("another replica was first")]
    Conflict,
    /// The others cannot be reached.
    #[error("Redis cannot be reached")]
    Unreachable,
}

/// Why a process cannot take part in a fleet.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There are no keys.
    #[error("the keys of the fleet: {0}")]
    Keys(KeyError),
    /// The log names starts of the process in a way that replicas cannot.
    #[error("{0:?} is no boot.id")]
    Boot(String),
}

/// Another process of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its `service.instance.id`.
    pub instance: String,
    /// Its `boot.id`.
    pub boot: Boot,
    /// Changes with what it was told about the switch-off.
    pub config_hash: String,
}

/// What both implementations do. Unless said otherwise, what a process does that is alone.
trait Backend: fmt::Debug + Send + Sync {
    fn new_id(&self) -> String;
    fn whose(&self, id: &str) -> Whose;
    fn call(&self, owner: Boot, request: Bytes) -> BoxFuture<'_, Called>;
    fn tell(&self, word: Bytes);
    fn board(&self) -> watch::Receiver<Arc<Board>>;
    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), Unshared>>;
    fn replace(&self, name: &str, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, Result<u64, Unshared>>;
    fn peers(&self) -> Vec<Peer>;
    fn is_shared(&self) -> bool;

    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }

    fn status(&self) -> Value {
        Value::Null
    }

    fn key_of(&self, _id: &str) -> Option<String> {
        None
    }

    fn reload(&self) {}

    fn run<'a>(&'a self, _handler: Arc<dyn Handler>, _log: &'a Log) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// The fleet, as one of its processes sees it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Fleet {
    backend: Arc<dyn Backend>,
}

impl Fleet {
    /// A process that is alone.
    #[must_use]
    pub fn solo() -> Self {
        Fleet { backend: Arc::new(solo::Solo::new()) }
    }

    /// One of several processes, called `instance`; `boot` is the log's name for this start. Nothing is sent before it runs.
    ///
    /// # Errors
    /// When there are no keys.
    pub fn join(
        config: Config,
        instance: &str,
        boot: &str,
        metrics: Arc<Metrics>,
        tasks: Tasks,
    ) -> Result<Self, JoinError> {
        let boot = boot.parse().map_err(|_| JoinError::Boot(boot.to_owned()))?;
        let member = redis::Member::new(config, instance, boot, metrics, tasks)?;
        Ok(Fleet { backend: Arc::new(member) })
    }

    /// A new session id, which names this process as its owner.
    #[must_use]
    pub fn new_id(&self) -> String {
        self.backend.new_id()
    }

    /// Whose the session is that is called `id` and is not known here. Ids that lead nowhere are counted and logged here.
    #[must_use]
    pub fn whose(&self, id: &str) -> Whose {
        self.backend.whose(id)
    }

    /// Asks the process that owns something. Never goes further than to it, and comes back within [`PATIENCE`].
    pub async fn call(&self, owner: Boot, request: Bytes) -> Called {
        self.backend.call(owner, request).await
    }

    /// Tells all other processes, as far as they can be reached now.
    pub fn tell(&self, word: Bytes) {
        self.backend.tell(word);
    }

    /// Sees what stands on the board, as far as it is known here.
    #[must_use]
    pub fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.backend.board()
    }

    /// Puts what is this process's own on the board, in place of what stood there under `name`, in which there is a slash. It is
    /// put there again whenever it gets lost, as long as the process lives.
    ///
    /// # Errors
    /// When nobody can be reached.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Unshared> {
        self.backend.put(name, bytes).await
    }

    /// Puts what is everybody's on the board, under a name without a slash, if the entry there is still the one of version `expected` (none: no entry).
    /// Gives the new version.
    ///
    /// # Errors
    /// When it is not, or nobody can be reached.
    pub async fn replace(&self, name: &str, expected: Option<u64>, bytes: Bytes) -> Result<u64, Unshared> {
        self.backend.replace(name, expected, bytes).await
    }

    /// The other processes that are there now.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.backend.peers()
    }

    /// Whether there may be other processes at all.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.backend.is_shared()
    }

    /// What does not work, in sentences for operators.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        self.backend.degraded()
    }

    /// How it stands, for operators; null for a process that is alone.
    #[must_use]
    pub fn status(&self) -> Value {
        self.backend.status()
    }

    /// The name of the key that a session id was sealed under; none where ids are not sealed.
    #[must_use]
    pub fn key_of(&self, id: &str) -> Option<String> {
        self.backend.key_of(id)
    }

    /// Reads the keys again. Blocks.
    pub fn reload(&self) {
        self.backend.reload();
    }

    /// Takes part for ever: answers calls by `handler`, tells `log` of what is not to be trusted.
    pub async fn run(&self, handler: Arc<dyn Handler>, log: &Log) {
        self.backend.run(handler, log).await;
    }

    /// Says that this process is going, so that nobody waits for it.
    pub async fn leave(&self) {
        self.backend.leave().await;
    }
}
