//! Holds the phase: follows the plan, or what was set by hand; asks the guard; writes down every change.
//!
//! ```text
//! plan, hand, pause -> choose -> (guard: whom would it hit?) -> rules -> every request and session
//!                                                            -> sunset.phase, metrics, state directory
//! ```
//!
//! Promise: what is said by hand holds when the answer says so, and survives a restart where there is a state directory. A
//! phase that is not entered is said, with who stands in its way.
//!
//! The trap: the guard judges the evidence, which takes long where many came. It is only asked beside the threads that
//! serve clients ([`Sunset::step`] blocks), and nothing is locked meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::decision::{Chosen, Ground, HeldBack, Stop};
use super::order::{Denied, Order};
use super::rules::{Rules, Strict};
use super::state::{Rehearsal, State, Store};
use super::{Config, Phase, Seen, Share};
use crate::metrics::Metrics;
use crate::report::live::Live;
use crate::report::outcome::Report;
use crate::traffic::{Log, PhaseBy, PhaseRecord, Record};

/// Longest time without a look at the clock, which somebody may set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long the end of the process waits for the last of it to be written.
const LAST_SAVE: Duration = Duration::from_secs(5);
/// How often it is looked whether a phase that is held back may be entered, and whether what is unsaved can be saved.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// The switch-off. Clones are the same.
#[derive(Debug, Clone)]
pub struct Sunset {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<Config>,
    rules: watch::Sender<Arc<Rules>>,
    state: Mutex<State>,
    /// Taken while it is decided, and for no longer: one decision after another.
    deciding: Mutex<Decided>,
    seen: Mutex<Gathering>,
    store: Option<Store>,
    /// What the state directory holds. Taken while it is written, which may hang: nothing else may wait for this.
    saved: Mutex<State>,
    /// Why it could not be written, if so.
    unsaved: Mutex<Option<String>>,
    live: Arc<Live>,
    /// The traffic log's file, if it is one.
    log_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    /// For them.
    paused: Arc<AtomicBool>,
    /// Somebody said something, or the list of those who were seen is made.
    again: Notify,
}

/// Who was seen before the freeze.
#[derive(Debug, Default)]
struct Gathering {
    made: Option<Arc<Seen>>,
    /// The list before this time is being made.
    under_way: Option<Timestamp>,
}

/// What was decided last.
#[derive(Debug, Default)]
struct Decided {
    number: u64,
    /// None before the first time.
    told: Option<Told>,
    chosen: Chosen,
    held_back: HeldBack,
}

/// What of it the log knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    phase: Phase,
    is_paused: bool,
    held_back: Option<Phase>,
    rehearsed: Option<Phase>,
}

/// What it stands like, for operators.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) chosen: Chosen,
    pub(super) rules: Arc<Rules>,
    pub(super) state: State,
    pub(super) held_back: HeldBack,
    pub(super) is_gathering: bool,
    pub(super) unsaved: Option<String>,
}

/// What the parts of the program are that it needs.
#[derive(Debug)]
pub struct Parts {
    /// The evidence.
    pub live: Arc<Live>,
    /// The traffic log's file, if it is one.
    pub log_file: Option<PathBuf>,
    /// The program's numbers.
    pub metrics: Arc<Metrics>,
}

impl Sunset {
    /// Takes up what `state_dir` holds for the replica `instance`. Nothing holds before [`Sunset::run`].
    ///
    /// # Errors
    /// When something is there and makes no sense.
    pub fn open(config: Config, parts: Parts, state_dir: Option<&Path>, instance: &str) -> io::Result<Self> {
        let store = state_dir.map(|dir| Store::new(dir, instance));
        let mut state = store.as_ref().map(Store::state).transpose()?.unwrap_or_default();
        let found = state.clone();
        for other in store.iter().flat_map(Store::others) {
            tracing::warn!(
                other,
                instance,
                "a pause or a phase was set by hand on a replica of another name and does not hold here; say it again, or \
                 give this replica its name with --instance"
            );
        }
        // What the options rehearse ends with them; what was said by hand goes on.
        let known = state.rehearsal.take();
        let is_by_hand = |rehearsal: &Rehearsal| rehearsal.is_by_hand;
        state.rehearsal = match config.dry_run {
            Some(phase) => {
                let known = known.filter(|rehearsal| rehearsal.phase == phase);
                let since = known.map_or_else(Timestamp::now, |rehearsal| rehearsal.since);
                Some(Rehearsal { phase, since, basis_points: None, is_by_hand: false })
            }
            None => known.filter(is_by_hand),
        };
        let config = Arc::new(config);
        let (rules, _) = watch::channel(Arc::new(Rules::new(0, None, Strict::default(), None, Arc::clone(&config))));
        let Parts { live, log_file, metrics } = parts;
        let shared = Shared {
            config,
            rules,
            state: Mutex::new(state),
            deciding: Mutex::default(),
            seen: Mutex::default(),
            store,
            saved: Mutex::new(found),
            unsaved: Mutex::default(),
            live,
            log_file,
            metrics,
            paused: Arc::default(),
            again: Notify::new(),
        };
        let paused = Arc::clone(&shared.paused);
        // Not all of it: what the metrics hold would hold the metrics.
        shared.metrics.watch_gauge("paused", move || paused.load(Ordering::Relaxed).into());
        Ok(Sunset { shared: Arc::new(shared) })
    }

    /// One that never switches anything off.
    #[must_use]
    pub fn never(metrics: Arc<Metrics>) -> Self {
        let live = Live::open(None, "", String::new()).expect("without a state directory nothing is opened");
        let parts = Parts { live: Arc::new(live), log_file: None, metrics };
        Sunset::open(Config::default(), parts, None, "").expect("without a state directory nothing is read")
    }

    /// What holds now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.shared.rules.borrow())
    }

    /// Sees every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Rules>> {
        self.shared.rules.subscribe()
    }

    /// Decides for the first time, so that the first client finds the phase that holds.
    pub async fn begin(&self, log: &Log) {
        self.follow(log).await;
    }

    /// Follows the plan for ever.
    pub async fn run(&self, log: &Log) {
        loop {
            let sleep = self.follow(log).await;
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.shared.again.notified() => {}
            }
        }
    }

    /// Decides by the plan; says how long nothing can change by itself. A state directory that hangs does not hold it up.
    async fn follow(&self, log: &Log) -> Duration {
        let (next, is_changed) = self.decide(None, log).await.unwrap_or((ASK_AGAIN, false));
        if is_changed || self.unsaved().is_some() {
            let sunset = self.clone();
            tokio::task::spawn_blocking(move || sunset.shared.save());
        }
        if self.unsaved().is_some() { next.min(ASK_AGAIN) } else { next }
    }

    /// Does as somebody says.
    ///
    /// # Errors
    /// When it must not be done; nothing has changed then.
    pub async fn obey(&self, order: Order, log: &Log) -> Result<(), Denied> {
        self.decide(Some(order), log).await?;
        // When it changes next may be another time now.
        self.shared.again.notify_one();
        let sunset = self.clone();
        tokio::task::spawn_blocking(move || sunset.shared.save()).await.map_err(|_| Denied::Failed)
    }

    /// Has the state directory hold what holds, as far as it can in time.
    pub async fn save_last(&self) {
        let sunset = self.clone();
        let save = tokio::task::spawn_blocking(move || sunset.shared.save());
        if tokio::time::timeout(LAST_SAVE, save).await.is_err() {
            tracing::warn!("the state directory did not take the phase of the switch-off before the end");
        }
    }

    /// Why what was decided could not be kept, if so.
    #[must_use]
    pub fn unsaved(&self) -> Option<String> {
        self.shared.unsaved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How it stands. Blocks while it is decided.
    pub(super) fn standing(&self) -> Standing {
        let shared = &self.shared;
        let decided = shared.decided();
        let is_gathering = shared.gathering().under_way.is_some();
        Standing {
            chosen: decided.chosen.clone(),
            rules: self.rules(),
            state: shared.state().clone(),
            held_back: decided.held_back.clone(),
            is_gathering,
            unsaved: self.unsaved(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(super) fn live(&self) -> &Live {
        &self.shared.live
    }

    /// Decides, with what somebody says, if anybody does, and logs what has changed; says how long nothing can change by itself,
    /// and whether there is something to be kept. It is done to its end, even if whoever
    /// waits for it leaves.
    async fn decide(&self, order: Option<Order>, log: &Log) -> Result<(Duration, bool), Denied> {
        let (sunset, log, runtime) = (self.clone(), log.clone(), Handle::current());
        let step = tokio::task::spawn_blocking(move || {
            let (next, is_changed, change) = sunset.step(order.as_ref())?;
            if let Some(change) = change {
                runtime.block_on(log.write(Record::Phase(change)));
            }
            Ok((next, is_changed))
        });
        step.await.unwrap_or_else(|_| {
            tracing::error!("the phase could not be decided, which is a bug of sse-sunset; the last one holds");
            Err(Denied::Failed)
        })
    }

    /// Decides once. Blocks.
    fn step(&self, order: Option<&Order>) -> Result<(Duration, bool, Option<PhaseRecord>), Denied> {
        let mut report = None;
        loop {
            let mut decided = self.shared.decided();
            let before = self.shared.state().clone();
            match self.try_step(&mut decided, order, report.as_ref()) {
                Ok(change) => {
                    let state = self.shared.state().clone();
                    return Ok((self.shared.next_look(&decided, &state), before != state, change));
                }
                Err(Stop::Denied(denied)) => return Err(denied),
                Err(Stop::Report) => {
                    // Meanwhile others may decide: a pause does not wait for this.
                    drop(decided);
                    report = Some(self.shared.live.report_now());
                }
            }
        }
    }

    fn try_step(
        &self,
        decided: &mut Decided,
        order: Option<&Order>,
        report: Option<&Report>,
    ) -> Result<Option<PhaseRecord>, Stop> {
        let shared = &self.shared;
        let before = shared.state().clone();
        let mut state = before.clone();
        let remembers = shared.store.is_some();
        let ground = Ground { config: &shared.config, remembers, now: Timestamp::now(), report };
        if let Some(order) = order {
            state.take(order, &ground)?;
        }
        let (chosen, held_back) = state.choose(&ground)?;
        state.freeze(&chosen, &ground);
        state.phase = chosen.phase;
        let rehearsal = state.rehearsal.clone();
        let rehearses_freeze = rehearsal.as_ref().filter(|rehearsal| rehearsal.phase == Phase::Freeze);
        let seen = self.seen(state.frozen.or(rehearses_freeze.map(|rehearsal| rehearsal.since)));
        let is_paused = state.pause.is_some();
        shared.paused.store(is_paused, Ordering::Relaxed);
        *shared.state() = state.clone();
        shared.publish(decided, &chosen, &state, seen);
        let told = Told {
            phase: chosen.phase,
            is_paused,
            held_back: held_back.as_ref().map(|(phase, _)| *phase),
            rehearsed: rehearsal.map(|rehearsal| rehearsal.phase),
        };
        let why = order.map(|order| order.why().to_owned());
        let last = decided.told.replace(told.clone());
        let is_first = last.is_none();
        let unchanged = last.clone().unwrap_or(Told { phase: before.phase, ..Told::default() });
        (decided.chosen, decided.held_back) = (chosen.clone(), held_back.clone());
        if why.is_none() && told == unchanged {
            return Ok(None);
        }
        let by = match (&why, told.held_back != unchanged.held_back && told.held_back.is_some()) {
            (Some(_), _) => PhaseBy::Operator,
            (None, true) => PhaseBy::Guard,
            (None, false) if is_first && told.phase == unchanged.phase => PhaseBy::Start,
            (None, false) => PhaseBy::Plan,
        };
        let objection = held_back.map(|(phase, outlook)| (phase, outlook.objection(phase)));
        if let Some((_, objection)) = objection.as_ref().filter(|_| by == PhaseBy::Guard) {
            tracing::warn!("{objection}");
        }
        if told.phase != unchanged.phase || is_first {
            tracing::info!(phase = told.phase.name(), before = unchanged.phase.name(), "the phase of the switch-off");
        }
        let why = why.or(objection.map(|(_, objection)| objection)).or(chosen.why).unwrap_or_default();
        Ok(Some(PhaseRecord {
            until: chosen.until.map(crate::clock::rfc3339),
            paused: is_paused,
            held_back: told.held_back.map(Phase::name),
            dry_run: told.rehearsed.map(Phase::name),
            ..PhaseRecord::new(told.phase.name(), unchanged.phase.name(), by, &why)
        }))
    }

    /// The list of those who were seen before `before`: as it is, as it was kept, or nothing until it is made.
    fn seen(&self, before: Option<Timestamp>) -> Option<Arc<Seen>> {
        let shared = &self.shared;
        let mut gathering = shared.gathering();
        let Some(before) = before else {
            gathering.made = None;
            return None;
        };
        if let Some(made) = gathering.made.as_ref().filter(|made| made.before == before) {
            return Some(Arc::clone(made));
        }
        if let Some(kept) = shared.store.as_ref().and_then(|store| store.seen(before)) {
            let kept = Arc::new(kept);
            gathering.made = Some(Arc::clone(&kept));
            return Some(kept);
        }
        gathering.made = None;
        if gathering.under_way != Some(before) {
            gathering.under_way = Some(before);
            let sunset = self.clone();
            // Years of logs take a while. Nothing waits for it but the first refusal.
            tokio::task::spawn_blocking(move || sunset.gather(before));
        }
        None
    }

    fn gather(&self, before: Timestamp) {
        let shared = &self.shared;
        let (seen, is_whole) = Seen::gather(before, &shared.live, shared.log_file.as_deref());
        // What lacks a part is made again after the next start, when that may be readable.
        let store = shared.store.as_ref().filter(|_| is_whole);
        if let Some(Err(error)) = store.map(|store| store.keep_seen(&seen)) {
            tracing::warn!(%error, "who was seen before the freeze cannot be kept; it will be gathered again after a restart");
        }
        let mut gathering = shared.gathering();
        if gathering.under_way == Some(before) {
            (gathering.under_way, gathering.made) = (None, Some(Arc::new(seen)));
        }
        drop(gathering);
        shared.again.notify_one();
    }
}

impl Shared {
    /// Has the state directory hold what holds. Blocks, for as long as the disk does.
    fn save(&self) {
        let Some(store) = &self.store else { return };
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state().clone();
        if *saved == state && self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        let error = store.keep(&state).err();
        if let Some(error) = &error {
            tracing::error!(%error, "the phase cannot be kept; a restart would forget what was set by hand");
        } else {
            *saved = state;
        }
        *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = error.map(|error| error.to_string());
    }

    /// Lets everybody have the rules, if they are others than before.
    fn publish(&self, decided: &mut Decided, chosen: &Chosen, state: &State, seen: Option<Arc<Seen>>) {
        let frozen = seen.clone().filter(|_| state.frozen.is_some() && chosen.phase >= Phase::Freeze);
        let carried_out =
            Strict { phase: chosen.phase, seen: frozen, share: chosen.share, ends_running: chosen.ends_running };
        let rehearsed = state.rehearsal.as_ref().map(|rehearsal| {
            let share = rehearsal.basis_points.map_or(self.config.share, |basis_points| Share { basis_points });
            Strict { phase: rehearsal.phase, seen, share, ends_running: false }
        });
        let number = decided.number + 1;
        let rules = Rules::new(number, chosen.until, carried_out, rehearsed, Arc::clone(&self.config));
        if decided.told.is_none() || !self.rules.borrow().is_as(&rules) {
            decided.number = number;
            self.metrics.phase.set(chosen.phase.name());
            self.rules.send_replace(Arc::new(rules));
        }
    }

    /// How long nothing can change by itself.
    fn next_look(&self, decided: &Decided, state: &State) -> Duration {
        let now = Timestamp::now();
        let hand = state.hand.as_ref().and_then(|hand| hand.until);
        let next = [self.config.plan.next_change(now), hand].into_iter().flatten().min();
        let next = next.map_or(LONGEST_SLEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        // Not before the moment, by the rounding of a timer.
        let next = next + Duration::from_millis(1);
        next.min(if decided.held_back.is_some() { ASK_AGAIN } else { LONGEST_SLEEP })
    }

    /// Held for moments only.
    fn decided(&self) -> MutexGuard<'_, Decided> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
