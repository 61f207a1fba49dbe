//! The evidence of the running proxy: filled record by record as the log is written, kept in the state directory.
//!
//! ```text
//! sessions -> waiting (a copy of the line) -> held (evidence) -> report | state directory
//! ```
//!
//! Promise: what the state directory holds is never half written and, as long as it can be written, seconds behind the log;
//! what it lacks after a kill is taken from the end of the log. Without a state directory the process knows only its own
//! time, and says so, unless other replicas remember for it. The report is on what all replicas know.
//!
//! The trap: judging and writing take long where many came, and sessions must not wait for either. They only put their
//! lines down.

mod catch_up;
mod noise;
mod replicas;
mod shared;
mod store;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::evidence::{Bounds, Evidence, Taken};
use super::line::{Line, Millis};
use super::outcome::{Input, Report};
use super::policy::{Policy, timestamp};
use super::verdict::judge;
use noise::Forgotten;
use replicas::Together;
pub use shared::Document;
use shared::Shared;
use store::Store;
pub use store::StoreHealth;
pub(crate) use store::{file_name, replace};

/// The version of its form.
const FORM: u32 = 1;
/// How often it is written when there is something new.
pub const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked who may be forgotten, and who else writes to the state directory.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// After so many records it is looked earlier.
const TIDY_AFTER: u64 = 5_000;
/// Bytes of lines that may wait to be read: who puts down more reads them.
const MOST_WAITING: usize = 1 << 20;
/// A report is made anew when it is older than this.
const FRESH: Duration = Duration::from_secs(1);
/// Reports are as of a whole minute, so that two of them in which nothing happened are the same.
const MINUTE_MS: Millis = 60_000;

/// The evidence of this process and, with a state directory, of those before it.
#[derive(Debug)]
pub struct Live {
    /// Lines that nobody has read yet, each with its line feed. Locked last and for a moment.
    waiting: Mutex<Vec<u8>>,
    held: Mutex<Held>,
    made: Mutex<Option<(Instant, Arc<Report>)>>,
    /// Taken while the state is written: two at once would write into the same draft.
    saving: Mutex<()>,
    store: Option<Store>,
    /// The other replicas, if there may be any. Their lock comes before that of what is held.
    shared: Option<Shared>,
    instance: String,
    /// The traffic log's name, for the next command.
    words: String,
}

#[derive(Debug)]
struct Held {
    evidence: Evidence,
    input: Input,
    forgotten: Forgotten,
    /// Files of other replicas in the state directory.
    others: Vec<String>,
    /// The state directory does not have all of it.
    is_dirty: bool,
    /// The number of the last change, and of the last that got to the other replicas.
    change: u64,
    told: u64,
    /// When it was last tidied, and the records taken in since.
    tidied: Option<Instant>,
    taken: u64,
}

#[derive(Serialize)]
struct Saved<'a> {
    form: u32,
    records: u64,
    forgotten: Forgotten,
    evidence: &'a Evidence,
}

#[derive(Debug, Default, Deserialize)]
struct Restored {
    form: u32,
    records: u64,
    #[serde(default)]
    forgotten: Forgotten,
    evidence: Evidence,
}

impl Live {
    /// Takes up what `state_dir` holds of the replica `instance`: replicas may share a directory, for the key in it.
    /// `words` name the traffic log for commands that are shown.
    ///
    /// # Errors
    /// When another process keeps this evidence, when the directory takes no file, and when the file is there and cannot be
    /// read. One that makes no sense is put aside, and said so.
    pub fn open(state_dir: Option<&Path>, instance: &str, words: String) -> io::Result<Live> {
        let store = state_dir.map(|dir| Store::hold(dir, instance)).transpose()?;
        let restored = store.as_ref().map(restore).transpose()?.unwrap_or_default();
        let held = Held {
            evidence: restored.evidence,
            input: Input { records: restored.records, ..Input::default() },
            forgotten: restored.forgotten,
            others: Vec::new(),
            is_dirty: false,
            change: 1,
            told: 0,
            tidied: None,
            taken: 0,
        };
        let live = Live {
            waiting: Mutex::default(),
            held: Mutex::new(held),
            made: Mutex::default(),
            saving: Mutex::default(),
            store,
            shared: None,
            instance: instance.to_owned(),
            words,
        };
        live.tidy();
        Ok(live)
    }

    /// Takes in what the end of the log at `path` knows and the state directory does not, as after a kill. To be called
    /// before the log is written again; without a state directory there is nothing that it could follow on.
    ///
    /// # Errors
    /// When the log is there and cannot be read.
    pub fn catch_up(&self, path: &Path) -> io::Result<()> {
        if self.store.is_none() {
            return Ok(());
        }
        let held = &mut *self.held();
        let taken = catch_up::catch_up(&mut held.evidence, &self.instance, path, &bounds())?;
        held.input.records += taken;
        if taken > 0 {
            held.note_change();
        }
        Ok(())
    }

    /// Takes in a line of the log: puts it down to be read soon.
    pub fn observe(&self, line: &[u8]) {
        let is_much = {
            let mut waiting = self.waiting();
            waiting.extend_from_slice(line);
            waiting.push(b'\n');
            waiting.len() > MOST_WAITING
        };
        if is_much {
            drop(self.settled());
        }
    }

    /// The report as of now; of a second ago at most.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, report)) = made.as_ref()
            && at.elapsed() < FRESH
        {
            return Arc::clone(report);
        }
        let report = Arc::new(self.report_at(Timestamp::now().as_millisecond()));
        *made = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    /// The report as of now, with every record that was made. Blocks for as long as it takes.
    #[must_use]
    pub fn report_now(&self) -> Report {
        self.report_at(Timestamp::now().as_millisecond())
    }

    /// The report as of the last record or the last whole minute before `now`, whichever is later.
    fn report_at(&self, now: Millis) -> Report {
        let replicas = self.shared.as_ref().map(Shared::replicas);
        let mut held = self.settled();
        let is_heard = |file: &&String| !replicas.as_ref().is_some_and(|replicas| replicas.has_told(file));
        let files: Vec<String> = held.others.iter().filter(is_heard).cloned().collect();
        let unheard = replicas.as_ref().map(|replicas| replicas.doubts(&self.instance)).unwrap_or_default();
        let judge = |evidence: &mut Evidence, input: Input, forgotten: Forgotten| {
            let policy = self.policy(evidence, now);
            let doubts = [unheard.clone(), doubts(&files, forgotten, policy.window_start())].concat();
            report(evidence, input, forgotten, doubts, &policy)
        };
        let mut report = match replicas.as_ref().and_then(|replicas| replicas.together(&self.instance, &held)) {
            None => {
                let held = &mut *held;
                judge(&mut held.evidence, held.input.clone(), held.forgotten)
            }
            Some(Together { mut evidence, records, forgotten }) => {
                let input = Input { records, ..held.input.clone() };
                // Sessions need not wait for the judging.
                drop((held, replicas));
                judge(&mut evidence, input, forgotten)
            }
        };
        // The reason names one doubt, and this one may be mended at once.
        let untold: Vec<String> = unheard.into_iter().filter(|doubt| !report.reason.contains(doubt)).collect();
        report.notes.extend(untold.into_iter().map(|doubt| doubt + "."));
        report
    }

    fn policy(&self, evidence: &Evidence, now: Millis) -> Policy {
        let latest = evidence.boots.iter().map(|boot| boot.runs.latest()).max().unwrap_or(Millis::MIN);
        let minute = now.div_euclid(MINUTE_MS).saturating_mul(MINUTE_MS);
        Policy {
            words: self.words.clone(),
            words_later: self.words.clone(),
            is_live: true,
            is_forgetful: self.store.is_none() && self.shared.is_none(),
            ..Policy::at(minute.max(latest).min(now))
        }
    }

    /// Has `see` look at the evidence as it is now, and at that of each other replica. Blocks while somebody judges, and
    /// whoever judges meanwhile.
    pub fn look(&self, mut see: impl FnMut(&Evidence)) {
        if let Some(shared) = &self.shared {
            shared.replicas().evidence().for_each(&mut see);
        }
        see(&self.settled().evidence);
    }

    /// When clients of each family last used the server, in seconds since 1970.
    #[must_use]
    pub fn last_uses(&self) -> Vec<(String, f64)> {
        let mut all = Vec::new();
        self.look(|evidence| {
            all.extend(evidence.people.groups().filter_map(|(_, group, members)| {
                let last = members.filter_map(|(_, person)| person.last_use).max()?;
                Some((group.family.clone(), seconds(last)))
            }));
        });
        all
    }

    /// When the canary last went the whole way, in seconds since 1970.
    #[must_use]
    pub fn last_canary(&self) -> Option<f64> {
        let mut last = None;
        self.look(|evidence| last = last.max(evidence.last_canary));
        last.map(seconds)
    }

    /// Reads what sessions put down, forgets what need not be known, and writes what is new to the state directory. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; it stays to be written.
    pub fn save(&self) -> io::Result<()> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        self.tidy();
        let Some(store) = &self.store else { return Ok(()) };
        let saved = {
            let mut held = self.settled();
            if !std::mem::take(&mut held.is_dirty) {
                return Ok(());
            }
            held.saved()
        };
        let written = saved.and_then(|bytes| store.write(&bytes));
        if written.is_err() {
            self.held().is_dirty = true;
        }
        written
    }

    /// How the state directory does, if there is one.
    #[must_use]
    pub fn store_health(&self) -> Option<StoreHealth> {
        self.store.as_ref().map(Store::health)
    }

    /// Why the state directory cannot be written, if so.
    #[must_use]
    pub fn store_error(&self) -> Option<String> {
        self.store_health().and_then(|health| health.error)
    }

    fn tidy(&self) {
        let now = Timestamp::now().as_millisecond();
        let window = Duration::from_millis(super::policy::WINDOW_MS.unsigned_abs());
        let mut held = self.settled();
        let is_due = held.tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY);
        let is_much =
            |held: &Held| noise::count(&held.evidence) > noise::MOST || held.evidence.movers.count() > noise::MOST;
        if !is_due && (held.taken < TIDY_AFTER || !is_much(&held)) {
            return;
        }
        (held.tidied, held.taken) = (Some(Instant::now()), 0);
        let forgotten = noise::forget(&mut held.evidence, now);
        held.forgotten.add(forgotten);
        drop(held);
        if let Some(store) = &self.store {
            let others = store.others(SystemTime::now() - window);
            self.held().others = others;
        }
    }

    /// What is held, with everything that sessions put down. Blocks while somebody judges.
    fn settled(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held();
        let lines = std::mem::take(&mut *self.waiting());
        held.take_in(&lines);
        held
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn take_in(&mut self, lines: &[u8]) {
        let bounds = bounds();
        for line in lines.split(|byte| *byte == b'\n') {
            let Ok(line) = Line::parse(line) else { continue };
            if self.evidence.take(&line, &bounds) != Taken::Duplicate {
                self.input.records += 1;
                self.taken += 1;
                self.note_change();
            }
        }
    }

    fn note_change(&mut self) {
        self.is_dirty = true;
        self.change += 1;
    }
}

/// Why what is held may not be everything since `start`, if `files` of others lie beside it; each a sentence without its full
/// stop.
fn doubts(files: &[String], forgotten: Forgotten, start: Millis) -> Vec<String> {
    let mut doubts: Vec<String> = files
        .iter()
        .map(|file| {
            format!("{file} in the state directory is of another replica, and this page knows only its own clients")
        })
        .collect();
    if let Some(at) = forgotten.barred_until.filter(|at| *at > start) {
        doubts.push(format!(
            "So many strangers came that some were forgotten, the last of them turned away at {}, and they may have \
             been users",
            timestamp(at)
        ));
    }
    doubts
}

/// The report on `evidence`, of which `doubts` hold now, and some was `forgotten`.
fn report(evidence: &mut Evidence, input: Input, forgotten: Forgotten, doubts: Vec<String>, policy: &Policy) -> Report {
    // Nothing else is ever put there, and whether these matter changes with time.
    evidence.unread = doubts;
    let mut report = judge(evidence, input, policy);
    evidence.unread.clear();
    if forgotten.accounts > 0 {
        report.notes.push(format!(
            "{} accounts that never used the server were forgotten to save memory; sse-sunset report on the log counts \
             them too.",
            forgotten.accounts
        ));
    }
    if forgotten.movers > 0 {
        report.notes.push(format!(
            "{} clients that came by Streamable HTTP only were forgotten to save memory; sse-sunset report on the log \
             counts them too.",
            forgotten.movers
        ));
    }
    report
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of milliseconds are 285,000 years")]
fn seconds(at: Millis) -> f64 {
    at as f64 / 1000.0
}

fn bounds() -> Bounds {
    Bounds { since: None, until: None, now: Timestamp::now().as_millisecond() }
}

fn restore(store: &Store) -> io::Result<Restored> {
    let Some(bytes) = store.read()? else { return Ok(Restored::default()) };
    match serde_json::from_slice::<Restored>(&bytes) {
        Ok(restored) if restored.form == FORM => Ok(restored),
        _ => {
            let aside = store.put_aside()?;
            tracing::error!(
                aside = %aside.display(),
                "the evidence in the state directory makes no sense and was put aside; sse-sunset report on the log still \
                 knows everything"
            );
            Ok(Restored::default())
        }
    }
}

#[cfg(test)]
mod tests;
