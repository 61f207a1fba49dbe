//! The board in Redis: a hash of versions, and one key an entry. Looked at every second, and at once when somebody says
//! that something everybody has to know has changed.
//!
//! ```text
//! sealed: made (8) | whether it is everybody's (1) | what stands there
//! ```
//!
//! Promise: an entry that was seen once is not lost while any process lives: what is missing after a flush, a restart or a
//! failover is put back by whoever sees that first, unless something newer stands there by then. What is one process's own
//! expires long after that process; what is everybody's never does. Entries are sealed, and sealed anew when the key is
//! rotated; one that is older than what was seen before is not taken, and replaced by that.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::super::keys::{Key, KeyId, Keyring, Unsealed, key_id};
use super::super::{Board, Entry, Fault, Unshared};
use super::link::{Down, Link};
use super::names::Names;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long what is one process's own is kept after it was put last: longer than the window of a report and half of it.
const KEPT: Duration = Duration::from_secs(60 * 24 * 3600);
/// An entry is sealed anew under a newer key no more often than this.
const RESEALED: Duration = Duration::from_secs(60);
/// Entries that are looked at, at most.
const MOST: usize = 20_000;
/// What entries are sealed for.
const PURPOSE: &[u8] = b"board";
/// What stands before what an entry says.
const HEAD: usize = 9;
const OWN: u8 = 0;
const EVERYBODYS: u8 = 1;

/// Sets an entry if the version that stands there is the one that is expected (`*`: any, empty: none).
const PUT: &str = "
local has = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[2] ~= '*' and has ~= ARGV[2] then return {0, has} end
local time = redis.call('TIME')
local version = time[1] * 1000000 + time[2]
if has ~= '' and version <= tonumber(has) then version = tonumber(has) + 1 end
version = string.format('%.0f', version)
redis.call('HSET', KEYS[1], ARGV[1], version)
if ARGV[4] == '0' then redis.call('SET', KEYS[2], ARGV[3])
else redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) end
return {1, version}";

/// The board, as far as it is known here.
#[derive(Debug)]
pub(super) struct Shared {
    names: Names,
    seen: watch::Sender<Arc<Board>>,
    state: Mutex<State>,
    again: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What this process has put there itself.
    own: BTreeMap<String, Bytes>,
    /// What of it Redis may not have.
    unsaved: Vec<String>,
    known: HashMap<String, Known>,
    /// Versions that could not be taken, and whether that was for want of their key: they are looked at once.
    refused: HashMap<String, (u64, bool)>,
}

/// What is known of an entry besides what it says.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// When it was made, in microseconds of the clock of Redis: older ones are not taken.
    made: i64,
    is_everybodys: bool,
    /// The key it is sealed under.
    key: KeyId,
    /// When it was last sealed anew here.
    resealed: Option<Instant>,
}

/// An entry as it is written.
#[derive(Clone, Copy)]
struct Draft<'a> {
    name: &'a str,
    bytes: &'a Bytes,
    is_everybodys: bool,
    made: i64,
}

/// What has to stand there for an entry to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Anything,
    Nothing,
    Version(u64),
}

/// What is sealed, and what may be opened.
pub(super) struct Seal<'a> {
    pub(super) keys: &'a Keyring,
    pub(super) sealing: &'a Key,
    /// By the clock of Redis, in milliseconds.
    pub(super) now: i64,
    /// Whether all who are there have keys that are known here.
    pub(super) is_among_its_own: bool,
    pub(super) fault: &'a (dyn Fn(Fault) + Sync),
}

impl Shared {
    pub(super) fn new(names: Names) -> Self {
        Shared { names, seen: watch::channel(Arc::default()).0, state: Mutex::default(), again: Notify::new() }
    }

    pub(super) fn seen(&self) -> watch::Receiver<Arc<Board>> {
        self.seen.subscribe()
    }

    /// Has it looked at at once.
    pub(super) fn look(&self) {
        self.again.notify_one();
    }

    /// Has entries looked at again that could not be opened: there are other keys.
    pub(super) fn forget_refused(&self) {
        self.state().refused.clear();
    }

    /// Follows the board for ever; what is one process's own may be large and comes by `bulk`. `seal` is asked anew each time.
    pub(super) async fn keep<'a>(&self, link: &Link, bulk: &Link, seal: impl Fn() -> Held<'a>) {
        loop {
            let held = seal();
            let _ = self.refresh(link, bulk, &held.seal()).await;
            let _ = timeout(EVERY, self.again.notified()).await;
            if link.number().is_none() {
                link.other_than(None).await;
            }
        }
    }

    async fn refresh(&self, link: &Link, bulk: &Link, seal: &Seal<'_>) -> Result<(), Down> {
        let (versions,): (BTreeMap<String, String>,) = link.query(redis::pipe().hgetall(self.names.board())).await?;
        // Somebody else may have written there what is no version.
        let versions = versions.into_iter().filter_map(|(name, version)| Some((name, version.parse().ok()?)));
        let versions: BTreeMap<String, u64> = versions.take(MOST).collect();
        let before = Arc::clone(&self.seen.borrow());
        let is_news = |(name, version): &(&String, &u64)| {
            let is_seen = before.get(name).is_some_and(|entry| entry.version == **version);
            !is_seen && self.state().refused.get(*name).is_none_or(|(refused, _)| refused != *version)
        };
        let (own, everybodys): (Vec<_>, Vec<_>) = versions.iter().filter(is_news).partition(|(name, _)| is_own(name));
        for (name, version) in everybodys {
            self.fetch(link, seal, name, *version).await?;
        }
        for (name, version) in own {
            self.fetch(bulk, seal, name, *version).await?;
        }
        self.state().refused.retain(|name, _| versions.contains_key(name));
        // Where replicas with other keys are there, what does not open may be what all of them have agreed on.
        if !before.is_read() && (seal.is_among_its_own || self.has_all()) {
            self.seen.send_modify(|board| Arc::make_mut(board).read());
        }
        self.restore(bulk, seal, &before, &versions).await;
        self.reseal(bulk, seal).await;
        let unsaved = std::mem::take(&mut self.state().unsaved);
        for name in unsaved {
            let own = self.state().own.get(&name).cloned();
            if let Some(bytes) = own {
                let _ = self.put(bulk, seal, &name, bytes).await;
            }
        }
        Ok(())
    }

    /// Whether nothing stands there that is sealed under a key which is not known here.
    fn has_all(&self) -> bool {
        self.state().refused.values().all(|(_, is_foreign)| !is_foreign)
    }

    async fn fetch(&self, link: &Link, seal: &Seal<'_>, name: &str, version: u64) -> Result<(), Down> {
        let (sealed,): (Option<Vec<u8>>,) = link.query(redis::pipe().get(self.names.entry(name))).await?;
        if let Some(sealed) = sealed {
            if let Err(fault) = self.take(name, version, &sealed, seal) {
                (seal.fault)(fault);
                self.repair(link, seal, name, version, fault).await;
            }
            return Ok(());
        }
        // It has expired, or Redis was short of memory.
        link.query::<()>(redis::pipe().hdel(self.names.board(), name).ignore()).await?;
        let is_everybodys = self.state().known.get(name).is_some_and(|known| known.is_everybodys);
        if !is_everybodys && !self.state().own.contains_key(name) {
            self.seen.send_modify(|board| Arc::make_mut(board).remove(name));
        }
        Ok(())
    }

    /// Puts what is known in the place of something older, as after a Redis that came back from a copy of its past, or of
    /// something that is none of the fleet's.
    async fn repair(&self, link: &Link, seal: &Seal<'_>, name: &str, version: u64, fault: Fault) {
        let is_foreign = fault == Fault::ForeignEnvelope;
        self.state().refused.insert(name.to_owned(), (version, is_foreign));
        let known = self.state().known.get(name).copied();
        let entry = self.seen.borrow().get(name).cloned();
        // What is sealed under another key may be newer.
        let (Some(known), Some(entry), false) = (known, entry, is_foreign) else { return };
        let Known { made, is_everybodys, .. } = known;
        let draft = Draft { name, bytes: &entry.bytes, is_everybodys, made };
        let repaired = self.write(link, seal, draft, Expected::Version(version)).await;
        if repaired == Err(Unshared::Unreachable) {
            // To be tried again.
            self.state().refused.remove(name);
        }
    }

    /// Puts back what Redis has lost.
    async fn restore(&self, link: &Link, seal: &Seal<'_>, before: &Board, versions: &BTreeMap<String, u64>) {
        for (name, entry) in before.below("").filter(|(name, _)| !versions.contains_key(*name)) {
            let (known, is_own) = {
                let state = self.state();
                (state.known.get(name).copied(), state.own.contains_key(name))
            };
            let Some(known) = known else { continue };
            // What is another process's own may have expired, unless all is lost.
            if is_own || known.is_everybodys || versions.is_empty() {
                let Known { made, is_everybodys, .. } = known;
                let draft = Draft { name, bytes: &entry.bytes, is_everybodys, made };
                let _ = self.write(link, seal, draft, Expected::Nothing).await;
            }
        }
    }

    /// Seals anew what is sealed under a key that goes. Who has to seal under that key still must not: others would seal it
    /// back.
    async fn reseal(&self, link: &Link, seal: &Seal<'_>) {
        if seal.keys.ids().first() != Some(&seal.sealing.id()) {
            return;
        }
        let is_due =
            |known: &Known| known.key != seal.sealing.id() && known.resealed.is_none_or(|at| at.elapsed() >= RESEALED);
        let due: Vec<(String, Known)> = {
            let state = self.state();
            state.known.iter().filter(|(_, known)| is_due(known)).map(|(name, known)| (name.clone(), *known)).collect()
        };
        for (name, Known { made, is_everybodys, .. }) in due {
            let Some(entry) = self.seen.borrow().get(&name).cloned() else { continue };
            let draft = Draft { name: &name, bytes: &entry.bytes, is_everybodys, made };
            let _ = self.write(link, seal, draft, Expected::Version(entry.version)).await;
            if let Some(known) = self.state().known.get_mut(&name) {
                known.resealed = Some(Instant::now());
            }
        }
    }

    /// Takes in an entry as it stands there.
    fn take(&self, name: &str, version: u64, sealed: &[u8], seal: &Seal<'_>) -> Result<(), Fault> {
        let purpose = [PURPOSE, self.names.fleet(), name.as_bytes()];
        let text = seal.keys.open(&purpose, sealed).map_err(Unsealed::of_envelope)?;
        let (made, rest) = text.split_first_chunk().ok_or(Fault::ForgedEnvelope)?;
        let is_everybodys = *rest.first().ok_or(Fault::ForgedEnvelope)? == EVERYBODYS;
        let made = i64::from_be_bytes(*made);
        let before = self.state().known.get(name).copied();
        if before.is_some_and(|known| made < known.made) {
            return Err(Fault::ReplayedEnvelope);
        }
        let key = key_id(sealed).ok_or(Fault::ForgedEnvelope)?;
        let known = Known { made, is_everybodys, key, resealed: before.and_then(|known| known.resealed) };
        let bytes = Bytes::from(text).slice(HEAD..);
        self.note(name, known, Entry { version, bytes });
        Ok(())
    }

    fn note(&self, name: &str, known: Known, entry: Entry) {
        let mut state = self.state();
        state.known.insert(name.to_owned(), known);
        state.refused.remove(name);
        drop(state);
        self.seen.send_modify(|board| Arc::make_mut(board).set(name, entry));
    }

    /// Puts what is this process's own.
    pub(super) async fn put(&self, link: &Link, seal: &Seal<'_>, name: &str, bytes: Bytes) -> Result<(), Unshared> {
        self.state().own.insert(name.to_owned(), bytes.clone());
        let draft = Draft { name, bytes: &bytes, is_everybodys: false, made: self.made_now(name, seal.now) };
        let put = self.write(link, seal, draft, Expected::Anything).await;
        if put == Err(Unshared::Unreachable) {
            let mut state = self.state();
            if !state.unsaved.iter().any(|unsaved| unsaved == name) {
                state.unsaved.push(name.to_owned());
            }
        }
        put.map(|_| ())
    }

    /// Puts what is everybody's, if what stands there is what is expected.
    pub(super) async fn replace(
        &self,
        link: &Link,
        seal: &Seal<'_>,
        name: &str,
        expected: Option<u64>,
        bytes: &Bytes,
    ) -> Result<u64, Unshared> {
        let draft = Draft { name, bytes, is_everybodys: true, made: self.made_now(name, seal.now) };
        let replaced = self.write(link, seal, draft, expected.map_or(Expected::Nothing, Expected::Version)).await;
        if replaced == Err(Unshared::Conflict) {
            // Whoever lost has to see against what.
            let version = redis::pipe().hget(self.names.board(), name).clone();
            let (version,): (Option<u64>,) = link.query(&version).await.map_err(|Down| Unshared::Unreachable)?;
            if let Some(version) = version {
                self.fetch(link, seal, name, version).await.map_err(|Down| Unshared::Unreachable)?;
            }
        }
        replaced
    }

    /// In microseconds; two that are made within a millisecond stay in order.
    fn made_now(&self, name: &str, now: i64) -> i64 {
        let now = now.saturating_mul(1_000);
        self.state().known.get(name).map_or(now, |known| now.max(known.made + 1))
    }

    async fn write(&self, link: &Link, seal: &Seal<'_>, draft: Draft<'_>, expected: Expected) -> Result<u64, Unshared> {
        let Draft { name, bytes, is_everybodys, made } = draft;
        let text = [&made.to_be_bytes()[..], &[if is_everybodys { EVERYBODYS } else { OWN }], bytes].concat();
        let sealed = seal.sealing.seal(&[PURPOSE, self.names.fleet(), name.as_bytes()], &text);
        let expected = match expected {
            Expected::Anything => "*".to_owned(),
            Expected::Nothing => String::new(),
            Expected::Version(version) => version.to_string(),
        };
        let kept = if is_everybodys { 0 } else { KEPT.as_millis() };
        let mut put = redis::cmd("EVAL");
        put.arg(PUT).arg(2).arg(self.names.board()).arg(self.names.entry(name));
        put.arg(name).arg(expected).arg(sealed).arg(kept.to_string());
        let done: Result<((bool, String),), Down> = link.query(redis::pipe().add_command(put)).await;
        let ((is_done, version),) = done.map_err(|Down| Unshared::Unreachable)?;
        let version = version.parse().ok().filter(|_| is_done).ok_or(Unshared::Conflict)?;
        let known = Known { made, is_everybodys, key: seal.sealing.id(), resealed: None };
        self.note(name, known, Entry { version, bytes: bytes.clone() });
        Ok(version)
    }

    /// How many entries are sealed under other keys than this one, as far as is known.
    pub(super) fn under_others(&self, key: KeyId) -> usize {
        let state = self.state();
        state.known.values().filter(|known| known.key != key).count() + state.refused.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an entry is one process's own, by its name.
fn is_own(name: &str) -> bool {
    name.contains('/')
}

/// What [`Seal`] borrows from.
pub(super) struct Held<'a> {
    pub(super) keys: Arc<Keyring>,
    pub(super) sealing: Key,
    pub(super) now: i64,
    pub(super) is_among_its_own: bool,
    pub(super) fault: &'a (dyn Fn(Fault) + Sync),
}

impl Held<'_> {
    pub(super) fn seal(&self) -> Seal<'_> {
        let Held { keys, sealing, now, is_among_its_own, fault } = self;
        Seal { keys, sealing, now: *now, is_among_its_own: *is_among_its_own, fault: *fault }
    }
}
