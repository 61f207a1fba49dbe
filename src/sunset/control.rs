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
//! With other replicas, what was said is theirs too (`share`): each decides from what all agree on, as far as it knows that.
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

use super::agreed::Utterance;
use super::decision::{Chosen, Ground, HeldBack, Stop};
use super::gathering::Gathering;
use super::order::{Denied, Order};
use super::rules::{Rules, Strict};
use super::share::Known;
use super::state::{Rehearsal, State, Store};
use super::told::{Judged, Told, tell};
use super::{Config, Phase, Seen, Share};
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::report::live::Live;
use crate::report::outcome::Report;
use crate::traffic::{Log, PhaseRecord, Record};

/// Longest time without a look at the clock, which somebody may set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long the end of the process waits for the last of it to be written.
const LAST_SAVE: Duration = Duration::from_secs(5);
/// How often it is looked whether a phase that is held back may be entered, and whether what is unsaved can be saved.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(15);

/// The switch-off. Clones are the same.
#[derive(Debug, Clone)]
pub struct Sunset {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    rules: watch::Sender<Arc<Rules>>,
    state: Mutex<State>,
    /// Something of it is not in the state directory.
    pub(super) is_to_save: AtomicBool,
    /// The other replicas.
    pub(super) fleet: Fleet,
    /// Names this one.
    pub(super) instance: String,
    /// Taken while it is shared: one version after another.
    pub(super) sharing: tokio::sync::Mutex<()>,
    /// Why the other replicas do not know what holds here, if so.
    pub(super) unshared: Mutex<Option<String>>,
    /// The replicas with other options that operators were told of.
    pub(super) others: Mutex<Vec<String>>,
    /// Taken while it is decided, and for no longer: one decision after another.
    deciding: Mutex<Decided>,
    seen: Mutex<Gathering>,
    pub(super) store: Option<Store>,
    /// What the state directory holds. Taken while it is written, which may hang: nothing else may wait for this.
    saved: Mutex<State>,
    /// Why it could not be written, if so.
    unsaved: Mutex<Option<String>>,
    pub(super) live: Arc<Live>,
    /// The traffic log's file, if it is one.
    pub(super) log_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    /// For them.
    paused: Arc<AtomicBool>,
    /// Somebody said something, here or elsewhere, or the list of those who were seen is made.
    pub(super) again: Notify,
}

/// What was decided last.
#[derive(Debug, Default)]
pub(super) struct Decided {
    number: u64,
    /// What all agree on, as far as that is known here.
    pub(super) known: Known,
    /// What another replica was told, which is not in the log here.
    pub(super) heard: Option<Utterance>,
    /// None before the first time.
    pub(super) told: Option<Told>,
    pub(super) chosen: Chosen,
    pub(super) held_back: HeldBack,
}

/// Who may be asked before it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The guard, which takes its time.
    Guard,
    /// Nobody: what needs more is left for the next time.
    Nobody,
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
    pub(super) unshared: Option<String>,
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
    /// The other replicas.
    pub fleet: Fleet,
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
        let known = state.optional.take();
        state.optional = config.dry_run.map(|phase| {
            let known = known.or(state.agreed.rehearsal.take()).filter(|rehearsal| rehearsal.phase == phase);
            let since = known.map_or_else(Timestamp::now, |rehearsal| rehearsal.since);
            Rehearsal { phase, since, basis_points: None, is_by_hand: false }
        });
        let config = Arc::new(config);
        let (rules, _) = watch::channel(Arc::new(Rules::new(0, None, Strict::default(), None, Arc::clone(&config))));
        let Parts { live, log_file, metrics, fleet } = parts;
        let shared = Shared {
            config,
            rules,
            state: Mutex::new(state),
            is_to_save: AtomicBool::new(false),
            fleet,
            instance: instance.to_owned(),
            sharing: tokio::sync::Mutex::default(),
            unshared: Mutex::default(),
            others: Mutex::default(),
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
        let parts = Parts { live: Arc::new(live), log_file: None, metrics, fleet: Fleet::solo() };
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

    /// Does as somebody says.
    ///
    /// # Errors
    /// When it must not be done; nothing has changed then.
    pub async fn obey(&self, order: Order, log: &Log) -> Result<(), Denied> {
        self.decide(Some(order), Asked::Guard, log).await?;
        self.share(log).await;
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
        let is_gathering = shared.gathering().is_under_way();
        Standing {
            chosen: decided.chosen.clone(),
            rules: self.rules(),
            state: shared.state().clone(),
            held_back: decided.held_back.clone(),
            is_gathering,
            unsaved: self.unsaved(),
            unshared: self.unshared(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(super) fn live(&self) -> &Live {
        &self.shared.live
    }

    /// Decides, with what somebody says, if anybody does, and logs what has changed; says how long nothing can change by itself.
    /// It is done to its end, even if whoever waits for it leaves.
    pub(super) async fn decide(&self, order: Option<Order>, asked: Asked, log: &Log) -> Result<Duration, Denied> {
        let (sunset, log, runtime) = (self.clone(), log.clone(), Handle::current());
        let step = tokio::task::spawn_blocking(move || {
            let (next, change) = sunset.step(order.as_ref(), asked)?;
            if let Some(change) = change {
                runtime.block_on(log.write(Record::Phase(change)));
            }
            Ok(next)
        });
        step.await.unwrap_or_else(|_| {
            tracing::error!("the phase could not be decided, which is a bug of sse-sunset; the last one holds");
            Err(Denied::Failed)
        })
    }

    /// Decides once. Blocks.
    fn step(&self, order: Option<&Order>, asked: Asked) -> Result<(Duration, Option<PhaseRecord>), Denied> {
        let mut report = None;
        loop {
            let mut decided = self.shared.decided();
            match self.try_step(&mut decided, order, report.as_ref()) {
                Ok(change) => {
                    let state = self.shared.state().clone();
                    return Ok((self.shared.next_look(&decided, &state), change));
                }
                Err(Stop::Denied(denied)) => return Err(denied),
                Err(Stop::Report) if asked == Asked::Nobody => return Ok((Duration::ZERO, None)),
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
        shared.adopt(decided);
        let before = shared.state().clone();
        let mut state = before.clone();
        let remembers = shared.store.is_some() || shared.fleet.is_shared();
        let ground = Ground { config: &shared.config, remembers, now: Timestamp::now(), report };
        if let Some(order) = order {
            state.take(order, &ground)?;
        }
        let (chosen, held_back) = state.choose(&ground)?;
        // The phase that is over lifts what it began, and so do an order and another plan.
        let may_lift = order.is_some() || decided.told.is_none() || decided.chosen.phase >= Phase::Freeze;
        state.freeze(&chosen, &ground, may_lift);
        state.phase = chosen.phase;
        state.is_unshared = decided.known.is_behind(&state, order.is_some());
        let seen = self.seen_before(&state, &chosen);
        let is_paused = state.agreed.pause.is_some();
        shared.paused.store(is_paused, Ordering::Relaxed);
        shared.set_state(state.clone());
        shared.publish(decided, &chosen, &state, seen);
        Ok(tell(decided, order, Judged { before, state, chosen, held_back }))
    }
}

impl Shared {
    /// Has the state directory hold what holds. Blocks, for as long as the disk does.
    pub(super) fn save(&self) {
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
        let frozen = seen.clone().filter(|_| state.agreed.frozen.is_some() && chosen.phase >= Phase::Freeze);
        let carried_out =
            Strict { phase: chosen.phase, seen: frozen, share: chosen.share, ends_running: chosen.ends_running };
        let rehearsed = state.rehearsal().map(|rehearsal| {
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
        let hand = state.agreed.hand.as_ref().and_then(|hand| hand.until);
        let next = [self.config.plan.next_change(now), hand].into_iter().flatten().min();
        let next = next.map_or(LONGEST_SLEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        // Not before the moment, by the rounding of a timer.
        let next = next + Duration::from_millis(1);
        next.min(if decided.held_back.is_some() { ASK_AGAIN } else { LONGEST_SLEEP })
    }

    /// Held for moments only.
    pub(super) fn decided(&self) -> MutexGuard<'_, Decided> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_state(&self, state: State) {
        let mut held = self.state();
        if *held != state {
            *held = state;
            self.is_to_save.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
