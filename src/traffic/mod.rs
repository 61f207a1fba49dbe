//! The legacy-traffic log: the evidence that says who still comes (EVIDENCE, The legacy-traffic log).
//!
//! Promise: a record is one line and one `write`; `log.seq` counts every record made, so that a hole tells of a
//! loss; a sink that is stuck or full never stalls a session for longer than a second.

mod family;
mod hearsay;
mod identity;
mod phase;
mod pseudonym;
mod record;
mod writer;

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

pub use family::{BROWSER, FAMILIES, OTHER, family};
pub use hearsay::client_info;
pub(crate) use identity::printable;
pub use identity::{Client, ClientInfo, Identity, IdentitySource, Principal};
pub use phase::{Phase as PhaseRecord, PhaseBy};
pub use pseudonym::{AddressForm, Pseudonyms};
pub use record::{
    Canary, Client as ClientRecord, Connect, Connection, End, Engagement, FleetRefused, Heartbeat, Identify, Modern,
    Record, Refused, Start, Stop, Survival, Upgrade, Use,
};
pub use writer::{Health, Target};

use crate::clock;
use writer::{Command, Writer};

/// Records that may wait for the sink.
const QUEUE: usize = 4096;
/// How long a producer waits for room before its record counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the sink to take what is queued.
const FLUSH: Duration = Duration::from_secs(2);

/// The schema that every record names.
pub const SCHEMA: &str = "sse-sunset/1";

/// Writes records. Clones write to the same log.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Command>,
    instance: String,
    boot: String,
    /// The next `log.seq`.
    seq: AtomicU64,
    health: Arc<Health>,
    observer: Option<Observer>,
}

/// Sees every line that is handed to the writer. Called in the midst of sessions' work: must be quick.
#[derive(Clone)]
pub struct Observer(Arc<Observe>);

type Observe = dyn Fn(&[u8]) + Send + Sync;

impl Observer {
    /// Calls `observe` with each line.
    pub fn new(observe: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Observer(Arc::new(observe))
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// What every record starts with.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    #[serde(rename = "event.name")]
    name: &'static str,
    schema: &'static str,
    #[serde(rename = "service.instance.id")]
    instance: &'a str,
    #[serde(rename = "boot.id")]
    boot: &'a str,
    #[serde(rename = "log.seq")]
    seq: u64,
    #[serde(flatten)]
    record: &'a Record,
}

impl Log {
    /// Opens the sink and starts its writer. `instance` names this replica in every record; `observer` sees them all.
    ///
    /// # Errors
    /// When the sink cannot be opened.
    pub fn open(target: Target, instance: String, observer: Option<Observer>) -> std::io::Result<Log> {
        let (queue, commands) = mpsc::channel(QUEUE);
        let health = Arc::new(Health::default());
        Writer::start(target, commands, Arc::clone(&health))?;
        let boot = random_hex(8);
        Ok(Log { shared: Arc::new(Shared { queue, instance, boot, seq: AtomicU64::new(0), health, observer }) })
    }

    /// Hands a record to the writer. Waits at most a second for room; after that the record is lost and the hole in
    /// `log.seq` says so.
    ///
    /// No async fn: the record would lie in the task of everyone who writes one, for as long as the task lives.
    #[must_use = "a record that finds no room waits only while it is awaited"]
    #[expect(clippy::needless_pass_by_value, reason = "a record is made to be written")]
    pub fn write(&self, record: Record) -> Written {
        let shared = &self.shared;
        let line = Line {
            timestamp: clock::now(),
            name: record.name(),
            schema: SCHEMA,
            instance: &shared.instance,
            boot: &shared.boot,
            seq: shared.seq.fetch_add(1, Ordering::Relaxed),
            record: &record,
        };
        let mut bytes = serde_json::to_vec(&line).expect("records are made of strings and numbers");
        if let Some(Observer(observe)) = &shared.observer {
            observe(&bytes);
        }
        bytes.push(b'\n');
        let (line, shared) = match shared.queue.try_send(Command::Line(bytes)) {
            Ok(()) => return Either::Left(ready(())),
            Err(TrySendError::Full(line) | TrySendError::Closed(line)) => (line, Arc::clone(shared)),
        };
        // Dropped before the record is handed over, it counts as lost too: its number is gone.
        let loss = Loss(Some(Arc::clone(&shared.health)));
        Either::Right(Box::pin(async move {
            if shared.queue.send_timeout(line, PATIENCE).await.is_ok() {
                loss.undo();
            }
        }))
    }

    /// Opens the sink again, as after a rotation. Standard output stays what it is.
    ///
    /// # Errors
    /// When the file cannot be opened (the old one stays in use), or when the sink is stuck.
    pub async fn reopen(&self) -> std::io::Result<()> {
        let stuck = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the traffic log is stuck in a write");
        let (done, reopened) = oneshot::channel();
        self.shared.queue.send_timeout(Command::Reopen(done), PATIENCE).await.map_err(|_| stuck())?;
        tokio::time::timeout(FLUSH, reopened)
            .await
            .map_or_else(|_| Err(stuck()), |said| said.unwrap_or_else(|_| Err(stuck())))
    }

    /// Waits, for two seconds at most, until everything handed over so far is with the sink.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.shared.queue.send(Command::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = tokio::time::timeout(FLUSH, flush).await;
    }

    /// How the sink does.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Names this start of the process.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.shared.boot
    }
}

/// A record on its way to the writer.
pub type Written = Either<Ready<()>, BoxFuture<'static, ()>>;

/// Counts a lost record when it is dropped.
struct Loss(Option<Arc<Health>>);

impl Loss {
    fn undo(mut self) {
        self.0 = None;
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        if let Some(health) = &self.0 {
            health.lose_one();
        }
    }
}

/// `bytes` random bytes in hexadecimal, for labels (which are not secret).
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).expect("the operating system has random numbers");
    hex(&random)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
