//! One start of one replica: what of its log was seen, what is missing, and which sessions are open in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Deserializer, Serialize};

use super::super::line::Millis;
use super::end_of_hour;
use super::people::PersonId;
use super::phases::Tallies;
use super::ranges::{Run, Runs, Stretch, subtract, union};

/// Sessions kept as over, at most: a log without its beginning has earlier records that never come. One too many that is
/// opened again by a record out of order makes the verdict more careful.
const OVER: usize = 65_536;
/// Steps of a clock up to this are drift that changes nothing.
const SMALL_STEP_MS: Millis = 60_000;

/// One start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Boot {
    /// `service.instance.id`
    pub instance: String,
    /// `boot.id`
    pub id: String,
    /// Its records.
    pub runs: Runs,
    /// When it ended in order.
    pub stopped: Option<Millis>,
    /// How many records it said to have lost, and when it first said so.
    lost: BTreeMap<u64, Millis>,
    /// Steps of its clock, in the order of their records.
    pub steps: Vec<Step>,
    /// Other boots it named, as `instance/boot`, and when last.
    #[serde(deserialize_with = "peers")]
    peers: BTreeMap<String, Millis>,
    /// The last heartbeat, and the sessions it told of.
    pub heartbeat: Option<(Millis, i64)>,
    /// Whether it passes modern clients through and so counts them, as far as was told.
    #[serde(default)]
    pub passes_modern: bool,
    /// Open sessions by label.
    pub open: HashMap<String, Open>,
    /// Sessions whose end was read while records before it were not, and whose they were.
    over: HashMap<String, PersonId>,
    /// When each account last used the server, by the clock as it is now: steps move them.
    recent: HashMap<PersonId, Millis>,
}

/// A step of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The number of the heartbeat that noticed it.
    pub seq: u64,
    /// When that was, by the clock as it was set.
    pub at: Millis,
    /// By how much.
    pub by: Millis,
}

impl Step {
    fn is_forward(&self) -> bool {
        self.by > 0
    }

    /// The latest time that a use before it may have been, by the clock of now. What an end will tell later of this use is
    /// by the clock of then, so the rest of its hour counts.
    fn moves(&self, used: Millis) -> Millis {
        end_of_hour(used).saturating_add(self.by).min(self.at)
    }

    /// Whether a time told by the clock of before lies before it.
    fn is_after(&self, at: Millis) -> bool {
        at <= self.at - self.by
    }
}

/// An open session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Open {
    /// Whose it is, as far as was told.
    pub person: PersonId,
    /// When it began.
    pub since: Millis,
    /// Uses in records so far.
    pub uses: u64,
    /// The last record of use, and where it stands.
    pub last_use: Option<(Millis, u64)>,
    /// What dry runs would have done to it.
    #[serde(default, skip_serializing_if = "Tallies::is_empty")]
    pub rehearsed: Tallies,
}

impl Boot {
    /// The start `id` of the replica `instance`, of which nothing was read yet.
    #[must_use]
    pub fn new(instance: String, id: String) -> Self {
        Boot { instance, id, ..Boot::default() }
    }

    /// The session `label`, if it is not over; opened when its beginning was not read.
    pub fn session(&mut self, label: &str, person: PersonId, at: Millis) -> Option<&mut Open> {
        if self.over.contains_key(label) {
            return None;
        }
        if !self.open.contains_key(label) {
            self.open.insert(
                label.to_owned(),
                Open { person, since: at, uses: 0, last_use: None, rehearsed: Tallies::default() },
            );
        }
        self.open.get_mut(label)
    }

    /// The session `label` of `person` is over; gives what was known of it.
    pub fn end(&mut self, label: &str, person: PersonId) -> Option<Open> {
        let open = self.open.remove(label);
        // Records of it may yet be read, and must not open it again.
        let may_come = open.is_none() || !self.runs.is_whole();
        if may_come && self.over.len() < OVER {
            self.over.insert(label.to_owned(), person);
        }
        open
    }

    /// Whose session `label` was, if it is known to be over.
    #[must_use]
    pub fn was_of(&self, label: &str) -> Option<PersonId> {
        self.over.get(label).copied()
    }

    /// It says to have lost `lost` records so far.
    pub fn lost(&mut self, lost: u64, at: Millis) {
        if lost > 0 {
            let first = self.lost.entry(lost).or_insert(at);
            *first = at.min(*first);
        }
    }

    /// Losses it told of after `since`: when last, and how many.
    #[must_use]
    pub fn losses_after(&self, since: Millis) -> Option<(Millis, u64)> {
        let lost = || self.lost.iter().map(|(lost, at)| (*lost, self.latest_reading(*at)));
        let before = lost().filter(|(_, at)| *at <= since).map(|(lost, _)| lost).max().unwrap_or_default();
        let after = lost().filter(|(lost, at)| *at > since && *lost > before);
        let (lost, at) = after.fold((0, Millis::MIN), |(most, latest), (lost, at)| (most.max(lost), latest.max(at)));
        (lost > before).then(|| (at, lost - before))
    }

    /// It says whether it passes modern clients through; what it does not say changes nothing.
    pub fn passes(&mut self, passthrough: Option<bool>) {
        self.passes_modern |= passthrough.unwrap_or_default();
    }

    /// It named the boot `peer` at `at`.
    pub fn named(&mut self, peer: &str, at: Millis) {
        match self.peers.get_mut(peer) {
            Some(last) => *last = at.max(*last),
            None => drop(self.peers.insert(peer.to_owned(), at)),
        }
    }

    /// The boots that it named after `since`: one that was named only before may be as old as what nobody keeps any more.
    pub fn named_after(&self, since: Millis) -> impl Iterator<Item = &str> {
        let after = self.peers.iter().filter(move |(_, at)| self.latest_reading(**at) > since);
        after.map(|(name, _)| name.as_str())
    }

    /// It ended in order at `at`.
    pub fn stop(&mut self, at: Millis) {
        self.stopped = Some(at);
        self.recent = HashMap::new();
    }

    /// Accounts have other numbers now.
    pub(super) fn renumber(&mut self, place: impl Fn(PersonId) -> Option<PersonId>) {
        self.open.retain(|_, open| place(open.person).map(|now| open.person = now).is_some());
        self.over.retain(|_, person| place(*person).map(|now| *person = now).is_some());
        self.recent = self.recent.drain().filter_map(|(id, at)| Some((place(id)?, at))).collect();
    }

    /// `person` used the server at `at`, as record `seq` tells. Gives the latest time that it may have been, if steps are known
    /// that came after that record: a piece of the log may be read before the one it follows.
    #[must_use]
    pub fn used(&mut self, person: PersonId, at: Millis, seq: u64) -> Option<Millis> {
        let (mut now, mut latest) = (at, None);
        for step in self.steps.iter().filter(|step| step.seq > seq) {
            now = step.moves(now);
            latest = latest.max(Some(now));
        }
        let last = self.recent.entry(person).or_insert(now);
        *last = now.max(*last);
        latest
    }

    /// Its clock was set. Gives the latest times at which accounts may have used the server before, by the clock of now:
    /// either clock may have been the right one, and the later time is the more careful.
    pub fn step(&mut self, step: Step) -> Vec<(PersonId, Millis)> {
        if step.by.abs() <= SMALL_STEP_MS {
            return Vec::new();
        }
        let index = self.steps.partition_point(|known| known.seq < step.seq);
        self.steps.insert(index, step);
        for last in self.recent.values_mut() {
            *last = step.moves(*last);
        }
        if step.is_forward() { self.recent.iter().map(|(person, last)| (*person, *last)).collect() } else { Vec::new() }
    }

    /// The latest time that a record which says `at` may have been written at: by its clock of then, or as it was set later.
    #[must_use]
    pub fn latest_reading(&self, at: Millis) -> Millis {
        let forward = self.steps.iter().filter(|step| step.is_forward());
        forward.fold(at, |at, step| if step.is_after(at) { at.saturating_add(step.by) } else { at })
    }

    /// What it proves: the time between its records, by its clock of then and as it was set later.
    #[must_use]
    pub fn covered(&self) -> Vec<Stretch> {
        let covered = self.runs.covered();
        let slow: Millis = self.steps.iter().map(|step| step.by.max(0)).fold(0, Millis::saturating_add);
        if slow == 0 {
            return covered;
        }
        let from = self.runs.earliest();
        let silent = self.runs.silent();
        let mut unproven = vec![(from, from.saturating_add(slow))];
        for step in self.steps.iter().filter(|step| step.is_forward()) {
            let before = silent.iter().chain(&unproven).filter(|silent| step.is_after(silent.1));
            let moved: Vec<Stretch> =
                before.map(|(from, to)| (from.saturating_add(step.by), to.saturating_add(step.by))).collect();
            unproven.extend(moved);
        }
        subtract(&covered, &union(unproven))
    }

    /// Where numbers are missing: the time they were written in, and how many.
    pub fn holes(&self) -> impl Iterator<Item = (Stretch, u64)> {
        let runs = self.runs.all();
        let first = runs.first().filter(|run| run.low > 0).map(|run| ((Millis::MIN, run.from), run.low));
        let between = runs.windows(2).filter_map(|pair| match pair {
            [before, after] => Some((hole(before, after), after.low - before.high - 1)),
            _ => None,
        });
        first.into_iter().chain(between).map(|((from, to), count)| ((from, self.latest_reading(to)), count))
    }

    /// `instance/boot`, as heartbeats name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.instance, self.id)
    }
}

/// Evidence that was saved before there were times has names only.
fn peers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Millis>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Peers {
        Timed(BTreeMap<String, Millis>),
        Named(BTreeSet<String>),
    }
    Ok(match Peers::deserialize(deserializer)? {
        Peers::Timed(peers) => peers,
        Peers::Named(names) => names.into_iter().map(|name| (name, Millis::MAX)).collect(),
    })
}

fn hole(before: &Run, after: &Run) -> Stretch {
    (before.to.min(after.from), after.from.max(before.to))
}
