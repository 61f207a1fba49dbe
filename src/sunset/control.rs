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
//! serve clients ([`Sunset::step`] blocks).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use super::guard::Outlook;
use super::order::{Denied, Order};
use super::rules::{Rules, Strict};
use super::state::{Hand, Pause, State, Store};
use super::{Config, Phase, Seen, Share};
use crate::metrics::Metrics;
use crate::report::live::Live;
use crate::traffic::{Log, PhaseBy, PhaseRecord, Record};

/// Longest time without a look at the clock, which somebody may set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often it is looked whether a phase that is held back may be entered.
const ASK_AGAIN: Duration = Duration::from_secs(10);

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
    /// Taken while it is decided: one decision after another.
    deciding: Mutex<Decided>,
    seen: Mutex<Gathering>,
    store: Option<Store>,
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
    held_back: Option<(Phase, Outlook)>,
    unsaved: Option<String>,
}

/// What of it the log knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    phase: Phase,
    is_paused: bool,
    held_back: Option<Phase>,
    rehearsed: Option<Phase>,
}

/// A phase, and how it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) phase: Phase,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) share: Share,
    pub(super) ends_running: bool,
    /// Set by hand, for this reason.
    pub(super) why: Option<String>,
}

/// What it stands like, for operators.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) chosen: Chosen,
    pub(super) rules: Arc<Rules>,
    pub(super) state: State,
    pub(super) held_back: Option<(Phase, Outlook)>,
    pub(super) seen: Option<Arc<Seen>>,
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
        if let Some(phase) = config.dry_run {
            let known = state.rehearsal.filter(|(rehearsed, _)| *rehearsed == phase);
            state.rehearsal = Some(known.unwrap_or_else(|| (phase, Timestamp::now())));
        }
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
        self.decide(None, log).await;
    }

    /// Follows the plan for ever.
    pub async fn run(&self, log: &Log) {
        loop {
            let sleep = self.shared.next_look();
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.shared.again.notified() => {}
            }
            self.decide(None, log).await;
        }
    }

    /// Does as somebody says.
    ///
    /// # Errors
    /// When it must not be done; nothing has changed then.
    pub async fn obey(&self, order: Order, log: &Log) -> Result<(), Denied> {
        let sunset = self.clone();
        let given = order.clone();
        let noted = tokio::task::spawn_blocking(move || sunset.shared.note(&given)).await;
        noted.map_err(|_| Denied::Failed)??;
        self.decide(Some(order.why().to_owned()), log).await;
        Ok(())
    }

    /// How it stands. Blocks while it is decided.
    pub(super) fn standing(&self) -> Standing {
        let shared = &self.shared;
        let decided = shared.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let gathering = shared.gathering();
        Standing {
            chosen: decided.chosen.clone(),
            rules: self.rules(),
            state: shared.state().clone(),
            held_back: decided.held_back.clone(),
            seen: gathering.made.clone(),
            is_gathering: gathering.under_way.is_some(),
            unsaved: decided.unsaved.clone(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(super) fn live(&self) -> &Live {
        &self.shared.live
    }

    /// Decides, and writes what has changed; `why` is what somebody said who changed it.
    async fn decide(&self, why: Option<String>, log: &Log) {
        let sunset = self.clone();
        let step = tokio::task::spawn_blocking(move || sunset.step(why));
        match step.await {
            Ok(change) => {
                if let Some(change) = change {
                    log.write(Record::Phase(change)).await;
                }
            }
            Err(_) => {
                tracing::error!("the phase could not be decided, which is a bug of sse-sunset; the last one holds");
            }
        }
    }

    /// Decides once. Blocks.
    fn step(&self, why: Option<String>) -> Option<PhaseRecord> {
        let shared = &self.shared;
        let mut decided = shared.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let before = shared.state().clone();
        let mut state = before.clone();
        if state.hand.as_ref().is_some_and(|hand| hand.until.is_some_and(|until| until <= now)) {
            state.hand = None;
        }
        let (chosen, held_back) = shared.choose(&mut state, now);
        state.freeze(&chosen, &shared.config, now);
        let rehearsal = state.rehearsal;
        let seen =
            self.seen(state.frozen.or(rehearsal.and_then(|(phase, since)| (phase == Phase::Freeze).then_some(since))));
        state.phase = chosen.phase;
        decided.unsaved = shared.keep(&before, &state, decided.unsaved.is_some());
        let is_paused = state.pause.is_some();
        shared.paused.store(is_paused, Ordering::Relaxed);
        *shared.state() = state.clone();
        shared.publish(&mut decided, &chosen, rehearsal.map(|(phase, _)| phase), &state, seen);
        let told = Told {
            phase: chosen.phase,
            is_paused,
            held_back: held_back.as_ref().map(|(phase, _)| *phase),
            rehearsed: rehearsal.map(|(phase, _)| phase),
        };
        let last = decided.told.replace(told.clone());
        let is_first = last.is_none();
        let unchanged = last.clone().unwrap_or(Told { phase: before.phase, ..Told::default() });
        (decided.chosen, decided.held_back) = (chosen.clone(), held_back.clone());
        if why.is_none() && told == unchanged {
            return None;
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
        Some(PhaseRecord {
            until: chosen.until.map(crate::clock::rfc3339),
            paused: is_paused,
            held_back: told.held_back.map(Phase::name),
            dry_run: told.rehearsed.map(Phase::name),
            ..PhaseRecord::new(told.phase.name(), unchanged.phase.name(), by, &why)
        })
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
        let seen = Seen::gather(before, &shared.live, shared.log_file.as_deref());
        if let Some(Err(error)) = shared.store.as_ref().map(|store| store.keep_seen(&seen)) {
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
    /// Which phase holds, and which one the guard does not let in.
    fn choose(&self, state: &mut State, now: Timestamp) -> (Chosen, Option<(Phase, Outlook)>) {
        let usual = Chosen { share: self.config.share, ends_running: self.config.end_running, ..Chosen::default() };
        let (mut chosen, mut held_back) = match &state.hand {
            Some(hand) => {
                let share = hand.basis_points.map_or(usual.share, |basis_points| Share { basis_points });
                let chosen = Chosen {
                    phase: hand.phase,
                    since: Some(hand.since),
                    until: hand.until,
                    share,
                    ends_running: hand.ends_running || usual.ends_running,
                    why: Some(hand.why.clone()),
                };
                (chosen, None)
            }
            None => self.planned(state, now, &usual),
        };
        if let Some(pause) = &state.pause {
            // What was announced stays announced: the dates are still the dates.
            let phase = chosen.phase.min(Phase::Announce);
            chosen = Chosen { phase, since: Some(pause.since), until: None, why: Some(pause.why.clone()), ..usual };
            held_back = None;
        }
        (chosen, held_back)
    }

    /// The latest phase of the plan that may be entered.
    fn planned(&self, state: &mut State, now: Timestamp, usual: &Chosen) -> (Chosen, Option<(Phase, Outlook)>) {
        let candidates = self.config.plan.candidates(now);
        state.let_in.retain(|let_in| candidates.iter().any(|step| (step.phase, step.at) == *let_in));
        let mut held_back = None;
        for step in candidates {
            let key = (step.phase, step.at);
            let is_free =
                !step.phase.hits_users() || state.let_in.contains(&key) || self.config.forced.contains(&step.phase);
            if !is_free {
                let outlook = Outlook::of(&self.live.report_now(), &self.config, self.config.share, now);
                if !outlook.is_clear() {
                    held_back = held_back.or(Some((step.phase, outlook)));
                    continue;
                }
            }
            if step.phase.hits_users() && !state.let_in.contains(&key) {
                state.let_in.push(key);
            }
            let until = if held_back.is_some() { None } else { step.until };
            return (Chosen { phase: step.phase, since: Some(step.at), until, ..usual.clone() }, held_back);
        }
        let until = self.config.plan.next_change(now).filter(|_| held_back.is_none());
        (Chosen { until, ..usual.clone() }, held_back)
    }

    /// Takes down what somebody says. Blocks.
    fn note(&self, order: &Order) -> Result<(), Denied> {
        let _decided = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        match order {
            Order::Set(set) => {
                self.check(set.phase.unwrap_or_default(), set.is_dry_run)?;
                let Some(phase) = set.phase else {
                    self.state().hand = None;
                    return Ok(());
                };
                if set.is_dry_run {
                    self.state().rehearsal = (phase >= Phase::Freeze).then_some((phase, now));
                    return Ok(());
                }
                let share = set.share.unwrap_or(self.config.share);
                if phase.hits_users() && set.force != Some(phase) && !self.config.forced.contains(&phase) {
                    let outlook = Outlook::of(&self.live.report_now(), &self.config, share, now);
                    if !outlook.is_clear() {
                        return Err(Denied::Guard(phase, Box::new(outlook)));
                    }
                }
                let until = set.lasts.and_then(|lasts| now.checked_add(SignedDuration::try_from(lasts).ok()?).ok());
                self.state().hand = Some(Hand {
                    phase,
                    since: now,
                    until,
                    basis_points: set.share.map(|share| share.basis_points),
                    ends_running: set.end_running,
                    why: set.why.clone(),
                });
            }
            Order::Pause { why } => self.state().pause = Some(Pause { since: now, why: why.clone() }),
            Order::Resume { .. } => self.state().pause = None,
        }
        Ok(())
    }

    /// Whether `phase` is possible at all.
    fn check(&self, phase: Phase, is_dry_run: bool) -> Result<(), Denied> {
        if phase >= Phase::Announce && self.config.notice.new_url.is_none() && !is_dry_run {
            return Err(Denied::NoUrl(phase));
        }
        if phase == Phase::Freeze && self.store.is_none() {
            return Err(Denied::NoState);
        }
        Ok(())
    }

    /// Writes what changed to the state directory; says why that failed, if it did.
    fn keep(&self, before: &State, state: &State, is_overdue: bool) -> Option<String> {
        let store = self.store.as_ref()?;
        // What somebody said is in `before` already: it is kept whenever something may be new.
        if before == state && !is_overdue && self.is_kept(state) {
            return None;
        }
        let error = store.keep(state).err()?;
        tracing::error!(%error, "the phase cannot be kept; a restart would forget what was set by hand");
        Some(error.to_string())
    }

    fn is_kept(&self, state: &State) -> bool {
        self.store.as_ref().is_some_and(|store| store.state().is_ok_and(|kept| kept == *state))
    }

    /// Lets everybody have the rules, if they are others than before.
    fn publish(
        &self,
        decided: &mut Decided,
        chosen: &Chosen,
        rehearsed: Option<Phase>,
        state: &State,
        seen: Option<Arc<Seen>>,
    ) {
        let frozen = seen.clone().filter(|_| state.frozen.is_some() && chosen.phase >= Phase::Freeze);
        let carried_out =
            Strict { phase: chosen.phase, seen: frozen, share: chosen.share, ends_running: chosen.ends_running };
        let rehearsed = rehearsed.map(|phase| Strict { phase, seen, share: chosen.share, ends_running: false });
        let number = decided.number + 1;
        let rules = Rules::new(number, chosen.until, carried_out, rehearsed, Arc::clone(&self.config));
        let is_new = decided.told.is_none() || !self.rules.borrow().is_as(&rules);
        if is_new {
            decided.number = number;
            self.metrics.phase.set(chosen.phase.name());
            self.rules.send_replace(Arc::new(rules));
        }
    }

    /// How long nothing can change by itself.
    fn next_look(&self) -> Duration {
        let now = Timestamp::now();
        let decided = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let hand = self.state().hand.as_ref().and_then(|hand| hand.until);
        let next = [self.config.plan.next_change(now), hand].into_iter().flatten().min();
        let next = next.map_or(LONGEST_SLEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let is_waiting = decided.held_back.is_some() || decided.unsaved.is_some();
        // Not before the moment, by the rounding of a timer.
        let next = next + Duration::from_millis(1);
        next.min(if is_waiting { ASK_AGAIN } else { LONGEST_SLEEP })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes since when newcomers are refused: with the freeze, and on through what follows it.
    fn freeze(&mut self, chosen: &Chosen, config: &Config, now: Timestamp) {
        if self.pause.is_some() {
            return;
        }
        let planned = config.plan.freeze.filter(|date| *date <= now);
        self.frozen = match chosen.phase {
            Phase::Observe | Phase::Announce => None,
            Phase::Freeze => self.frozen.or(planned).or(Some(now)),
            _ => self.frozen.or(planned),
        };
    }
}
