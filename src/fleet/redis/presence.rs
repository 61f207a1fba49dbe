//! Which processes are there: each says so in Redis, every few seconds, and what it says expires.
//!
//! The trap: after a flush, a restart or a time in which Redis could not be reached or written, the others' words are missing
//! though they live. So Redis also holds since when words have stood unbroken there: whoever finds its own gone before its
//! time sets that anew. As long as it is younger than a word may be, nothing that is missing proves anything
//! ([`Presence::is_gone`]), nor while this process cannot say its own.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::super::keys::{KeyId, Keyring};
use super::super::{Boot, Peer};
use super::link::{Down, Link};
use super::names::Names;

/// How often a process says that it is there.
const EVERY: Duration = Duration::from_secs(5);
/// How long that holds.
const HOLDS: Duration = Duration::from_secs(15);
/// An answer tells what the clock of Redis shows if it comes within this.
const QUICK: Duration = Duration::from_millis(10);
/// How long a measure of it is better than a bad one.
const MEASURED: Duration = Duration::from_secs(60);
/// What it is sealed for.
const PURPOSE: &[u8] = b"presence";
/// Other processes that are looked at, at most.
const MOST: isize = 1_000;

/// What a process says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Word {
    instance: String,
    boot: String,
    config_hash: String,
    /// Ids of the keys that it holds.
    keys: Vec<u32>,
}

/// Another process.
#[derive(Debug, Clone)]
struct Known {
    peer: Peer,
    keys: Vec<KeyId>,
}

#[derive(Debug, Default)]
struct State {
    peers: Vec<Known>,
    /// Words there that no key here opens.
    strangers: usize,
    /// What the clock of Redis showed at which time, in milliseconds since 1970.
    clock: Option<(Instant, i64)>,
    /// It was looked who is there.
    has_looked: bool,
    /// When this process last said that it is there.
    said: Option<Instant>,
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Presence {
    me: Peer,
    names: Names,
    state: Mutex<State>,
    /// Since when Redis has known of the fleet, by its clock in milliseconds.
    since: AtomicI64,
    /// This process is going, and says no more that it is there.
    has_left: AtomicBool,
    /// Somebody came, went, or has other keys.
    again: Notify,
}

impl Presence {
    pub(super) fn new(me: Peer, names: Names) -> Self {
        Presence {
            me,
            names,
            state: Mutex::default(),
            since: AtomicI64::new(i64::MAX),
            has_left: AtomicBool::new(false),
            again: Notify::new(),
        }
    }

    /// Says so, and looks who else does, for ever.
    pub(super) async fn keep(&self, link: &Link, keys: impl Fn() -> std::sync::Arc<Keyring>) {
        let mut number = None;
        loop {
            number = Some(match link.number() {
                Some(number) => number,
                None => link.other_than(number).await,
            });
            let _ = self.refresh(link, &keys()).await;
            let wait = async {
                tokio::select! {
                    () = self.again.notified() => {}
                    _ = link.other_than(number) => {}
                }
            };
            let _ = timeout(EVERY, wait).await;
        }
    }

    /// Has it looked again at once.
    pub(super) fn look(&self) {
        self.again.notify_one();
    }

    /// Reads first: what is said of this process has to be sealed so that the others can read it.
    async fn refresh(&self, link: &Link, keys: &Keyring) -> Result<(), Down> {
        let asked = Instant::now();
        let ((seconds, micros), boots): ((i64, i64), Vec<String>) =
            link.query(redis::pipe().cmd("TIME").zrevrange(self.names.replicas(), 0, MOST - 1)).await?;
        let theirs = seconds * 1_000 + micros / 1_000;
        self.measure(asked, theirs);
        let others: Vec<Boot> =
            boots.iter().filter_map(|boot| boot.parse().ok()).filter(|boot| *boot != self.me.boot).collect();
        if others.is_empty() {
            self.note(Vec::new(), 0);
        } else {
            let mut words = redis::cmd("MGET");
            for boot in &others {
                words.arg(self.names.presence(*boot));
            }
            let (words,): (Vec<Option<Vec<u8>>>,) = link.query(redis::pipe().add_command(words)).await?;
            let found: Vec<_> = others.iter().zip(words).filter_map(|(boot, word)| Some((*boot, word?))).collect();
            let peers: Vec<Known> = found.iter().filter_map(|(boot, word)| self.read(keys, *boot, word)).collect();
            let strangers = found.len() - peers.len();
            self.note(peers, strangers);
        }
        if self.has_left.load(Ordering::Relaxed) { Ok(()) } else { self.say(link, keys, theirs).await }
    }

    /// What the clock of Redis shows. An answer that was long under way tells little, and is only taken for want of a better
    /// one. Counted on from there without the clock of this machine, which somebody may set.
    fn measure(&self, asked: Instant, theirs: i64) {
        let under_way = asked.elapsed();
        let mut state = self.state();
        if under_way <= QUICK || state.clock.is_none_or(|(at, _)| at.elapsed() >= MEASURED) {
            state.clock = Some((asked + under_way / 2, theirs));
        }
    }

    async fn say(&self, link: &Link, keys: &Keyring, now: i64) -> Result<(), Down> {
        let key_ids = keys.ids().into_iter().map(u32::from_be_bytes).collect();
        let Peer { instance, boot, config_hash } = self.me.clone();
        let word = Word { instance, boot: boot.to_string(), config_hash, keys: key_ids };
        let text = serde_json::to_vec(&word).expect("strings and numbers always serialise");
        let sealing = keys.sealing(|id| self.all_have(id));
        let sealed = sealing.seal(&[PURPOSE, self.names.fleet(), &boot.to_bytes()], &text);
        let holds = i64::try_from(HOLDS.as_millis()).unwrap_or(i64::MAX);
        let mut set = redis::cmd("SET");
        set.arg(self.names.presence(boot)).arg(sealed).arg("PX").arg(holds).arg("GET");
        let mut pipe = redis::pipe();
        pipe.add_command(set);
        pipe.zadd(self.names.replicas(), boot.to_string(), now + holds).ignore();
        pipe.zrembyscore(self.names.replicas(), "-inf", now).ignore();
        pipe.set_nx(self.names.since(), now).ignore().get(self.names.since());
        let (before, mut since): (Option<Vec<u8>>, Option<String>) = link.query(&pipe).await?;
        let was_said = self.state().said.is_some();
        if was_said && before.is_none() {
            // It is gone before its time, and so may be the others'.
            link.query::<()>(redis::pipe().set(self.names.since(), now).ignore()).await?;
            since = Some(now.to_string());
        }
        self.note_since(since);
        self.state().said = Some(Instant::now());
        Ok(())
    }

    fn read(&self, keys: &Keyring, boot: Boot, sealed: &[u8]) -> Option<Known> {
        let text = keys.open(&[PURPOSE, self.names.fleet(), &boot.to_bytes()], sealed).ok()?;
        let word: Word = serde_json::from_slice(&text).ok()?;
        let keys = word.keys.into_iter().map(u32::to_be_bytes).collect();
        Some(Known { peer: Peer { instance: word.instance, boot, config_hash: word.config_hash }, keys })
    }

    fn note(&self, mut peers: Vec<Known>, strangers: usize) {
        let is_trusted = self.is_trusted();
        let mut state = self.state();
        if !is_trusted {
            // Who is missing may not have had the time to say so again.
            let missing = |before: &&Known| !peers.iter().any(|known| known.peer.boot == before.peer.boot);
            let kept: Vec<Known> = state.peers.iter().filter(missing).cloned().collect();
            peers.extend(kept);
        }
        state.has_looked = true;
        if strangers > state.strangers {
            tracing::warn!(
                strangers,
                "replicas are there whose keys are not known here; give all of them the same --fleet-key-file"
            );
        }
        for known in &peers {
            if !state.peers.iter().any(|before| before.peer.boot == known.peer.boot) {
                tracing::info!(instance = known.peer.instance, boot = %known.peer.boot, "another replica is there");
            }
        }
        for gone in state.peers.iter().filter(|before| !peers.iter().any(|known| known.peer.boot == before.peer.boot)) {
            tracing::info!(instance = gone.peer.instance, boot = %gone.peer.boot, "a replica is gone");
        }
        (state.peers, state.strangers) = (peers, strangers);
    }

    /// Whether all that are there hold the key.
    pub(super) fn all_have(&self, key: KeyId) -> bool {
        let state = self.state();
        state.peers.iter().all(|known| known.keys.contains(&key))
    }

    /// The others, as far as was heard lately.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let state = self.state();
        state.peers.iter().map(|known| known.peer.clone()).collect()
    }

    /// How many others there are.
    pub(super) fn count(&self) -> usize {
        self.state().peers.len()
    }

    /// How many are there whose keys are not known here.
    pub(super) fn strangers(&self) -> usize {
        self.state().strangers
    }

    /// Whether `boot` was there a moment ago.
    pub(super) fn is_known(&self, boot: Boot) -> bool {
        let state = self.state();
        state.peers.iter().any(|known| known.peer.boot == boot)
    }

    /// Whether what is missing in Redis proves that it is gone: whoever lives has said so since, as this process could.
    pub(super) fn is_trusted(&self) -> bool {
        let holds = i64::try_from(HOLDS.as_millis()).unwrap_or(i64::MAX);
        let is_said = self.state().said.is_some_and(|at| at.elapsed() + EVERY < HOLDS);
        is_said && self.now().saturating_sub(self.since.load(Ordering::Relaxed)) >= holds
    }

    /// Whether `boot` is surely gone. Asks Redis.
    pub(super) async fn is_gone(&self, link: &Link, boot: Boot) -> Result<bool, Down> {
        let mut pipe = redis::pipe();
        pipe.exists(self.names.presence(boot)).exists(self.names.presence(self.me.boot)).get(self.names.since());
        let (is_there, am_there, since): (bool, bool, Option<String>) = link.query(&pipe).await?;
        self.note_since(since);
        if !am_there {
            self.look();
        }
        Ok(!is_there && am_there && self.is_trusted())
    }

    fn note_since(&self, since: Option<String>) {
        let since = since.and_then(|since| since.parse().ok()).unwrap_or(i64::MAX);
        self.since.store(since, Ordering::Relaxed);
    }

    /// Takes back that this process is there.
    pub(super) async fn leave(&self, link: &Link) -> Result<(), Down> {
        self.has_left.store(true, Ordering::Relaxed);
        let me = self.me.boot;
        let mut pipe = redis::pipe();
        pipe.del(self.names.presence(me)).ignore().zrem(self.names.replicas(), me.to_string()).ignore();
        link.query::<()>(&pipe).await
    }

    /// Milliseconds since 1970, by the clock of Redis.
    pub(super) fn now(&self) -> i64 {
        let clock = self.state().clock;
        clock.map_or_else(
            || Timestamp::now().as_millisecond(),
            |(at, theirs)| theirs.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// By how many milliseconds the clock of Redis is ahead of this machine's.
    pub(super) fn ahead(&self) -> i64 {
        self.now() - Timestamp::now().as_millisecond()
    }

    /// Whether it was looked at all who is there.
    pub(super) fn has_looked(&self) -> bool {
        self.state().has_looked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
