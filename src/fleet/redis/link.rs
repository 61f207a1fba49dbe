//! A connection for commands, made again whenever it breaks.
//!
//! Promise: whoever asks hears within the time that the link was made with whether Redis did it; while there is no connection
//! that is said at once. Commands of many askers go over the one connection, one behind the other.
//!
//! The trap: that Redis refuses a command (it is full, the user may not) says nothing against the connection. Only what
//! broke it, or shows that another server is wanted, has it made anew.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::Counter;

/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// A connection that lasted for so long was a good one.
const LASTED: Duration = Duration::from_secs(5);
/// How long it is shown that a command was refused.
const SHOWN: Duration = Duration::from_secs(15);
/// Refusals that say that this is not the server any more, or not yet.
const OTHER_SERVER: [&str; 4] = ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH"];
/// Between two attempts to connect, at least and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Redis did not do it, or did not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Down;

/// A way to Redis for commands.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    /// How long an answer may take.
    patience: Duration,
    current: watch::Sender<Option<Current>>,
    /// The current connection is of no use.
    broken: Notify,
    trouble: Trouble,
    /// What was refused last, and when.
    refused: Mutex<Option<(String, Instant)>>,
    commands: Counter,
}

#[derive(Debug, Clone)]
struct Current {
    number: u64,
    connection: MultiplexedConnection,
}

/// What went wrong last, told once for each time that it goes wrong anew.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What it is that does not work.
    what: &'static str,
    why: Mutex<Option<String>>,
}

impl Trouble {
    pub(super) fn with(what: &'static str) -> Self {
        Trouble { what, why: Mutex::default() }
    }

    /// It does not work, for this reason.
    pub(super) fn begin(&self, why: &str) {
        let before = self.why.lock().unwrap_or_else(PoisonError::into_inner).replace(why.to_owned());
        if before.as_deref() != Some(why) {
            tracing::warn!(why, "{} does not work; trying on", self.what);
        }
    }

    /// It works.
    pub(super) fn end(&self) {
        if self.why.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("{} works again", self.what);
        }
    }

    /// Why it does not work, if so.
    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Link {
    pub(super) fn new(client: Client, what: &'static str, patience: Duration, commands: Counter) -> Self {
        let (trouble, refused) = (Trouble::with(what), Mutex::default());
        Link { client, patience, current: watch::channel(None).0, broken: Notify::new(), trouble, refused, commands }
    }

    /// Keeps a connection for ever.
    pub(super) async fn keep(&self) {
        let mut number = 0;
        let mut pauses = Pauses::default();
        loop {
            match self.connect().await {
                Ok(connection) => {
                    number += 1;
                    self.trouble.end();
                    let made = Instant::now();
                    self.current.send_replace(Some(Current { number, connection }));
                    self.broken.notified().await;
                    if made.elapsed() >= LASTED {
                        pauses = Pauses::default();
                    }
                }
                Err(error) => self.trouble.begin(&error),
            }
            pauses.next().await;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.patience));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = in_time(connecting).await?;
        // It may be a server that is loading, or one that wants a password.
        in_time(redis::cmd("PING").query_async::<String>(&mut connection)).await?;
        Ok(connection)
    }

    /// Has Redis do something.
    pub(super) async fn query<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Down> {
        let Some(mut current) = self.current.borrow().clone() else { return Err(Down) };
        self.commands.inc_by(u64::try_from(pipeline.len()).unwrap_or(u64::MAX));
        match pipeline.query_async(&mut current.connection).await {
            Ok(value) => Ok(value),
            Err(error) => {
                let is_other = error.code().is_some_and(|code| OTHER_SERVER.contains(&code));
                if is_other || error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error() {
                    self.trouble.begin(&words(&error));
                    self.give_up(current.number);
                } else {
                    self.note_refusal(words(&error));
                }
                Err(Down)
            }
        }
    }

    fn note_refusal(&self, why: String) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.as_ref().is_none_or(|(known, at)| *known != why || at.elapsed() >= SHOWN) {
            tracing::warn!(why, "Redis refuses a command; trying on");
        }
        *refused = Some((why, Instant::now()));
    }

    /// Why Redis refused something lately, if it did.
    pub(super) fn refused(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(_, at)| at.elapsed() < SHOWN).map(|(why, _)| why.clone())
    }

    /// A connection that failed once is made anew: the server behind it may have become another one.
    fn give_up(&self, number: u64) {
        let is_current = |current: &mut Option<Current>| {
            let is = current.as_ref().is_some_and(|current| current.number == number);
            if is {
                *current = None;
            }
            is
        };
        if self.current.send_if_modified(is_current) {
            self.broken.notify_one();
        }
    }

    /// Tells connections apart; none while there is none.
    pub(super) fn number(&self) -> Option<u64> {
        self.current.borrow().as_ref().map(|current| current.number)
    }

    /// Waits until there is a connection other than `number`; gives its number.
    pub(super) async fn other_than(&self, number: Option<u64>) -> u64 {
        let mut seen = self.current.subscribe();
        let is_other = |current: &Option<Current>| current.as_ref().is_some_and(|now| Some(now.number) != number);
        let number = seen.wait_for(is_other).await.ok().and_then(|now| now.as_ref().map(|now| now.number));
        match number {
            Some(number) => number,
            // The link is gone, and whoever waits with it.
            None => std::future::pending().await,
        }
    }

    /// Why there is no connection, if so.
    pub(super) fn why(&self) -> Option<String> {
        match self.number() {
            Some(_) => None,
            None => Some(self.trouble.why().unwrap_or_else(|| "connecting".to_owned())),
        }
    }
}

/// Pauses that become longer.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    pub(super) async fn next(&mut self) {
        let (least, most) = PAUSES;
        let pause = self.last.map_or(least, |last| (last * 2).min(most));
        self.last = Some(pause);
        // A part of it is left to chance: replicas must not come all at once.
        let mut random = [0; 1];
        getrandom::fill(&mut random).expect("the operating system has random numbers");
        sleep(pause / 2 + pause * u32::from(random[0]) / 512).await;
    }
}

/// What comes of it in time, with what is wrong as text.
pub(super) async fn in_time<T>(future: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(CONNECT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err(format!("no answer within {} s", CONNECT.as_secs())),
    }
}

/// What an error says, in one line.
fn words(error: &RedisError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
