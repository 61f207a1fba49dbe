//! How far the switch-off had come when, and whom its phases turned away or would have.
//!
//! The trap: replicas tell the same change each, restarts tell it again, and records come in any order. All are kept as they
//! are, within bounds that do not hang on the order, and put together by the verdict.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::line::{Line, Millis, Phase};
use super::super::outcome::Refusing;

/// Records of changes that are kept; a switch-off has a few dozen.
const MOST: usize = 200;
/// Bytes of a phase's name, and of whoever had it changed.
const NAME: usize = 64;
/// Bytes of a reason, as it is written at most.
const WHY: usize = 640;
/// What `sunset.by` says where nothing changed but the process.
const START: &str = "start";
/// What it says where a replica follows what another one was told.
const FLEET: &str = "fleet";

/// Changes of the phase.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Phases {
    changes: BTreeSet<Change>,
    /// The last of all, which tells what holds.
    latest: Option<Change>,
    /// Records that were not kept.
    left_out: u64,
}

/// One record. Their order is that of time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Millis,
    /// Its place in its boot's log: of two at once, which came first.
    seq: u64,
    /// Which replica says so, so that the same words of two of them are two records.
    instance: String,
    /// The phase that holds.
    pub phase: String,
    /// The one before.
    pub before: Option<String>,
    /// Who had it changed.
    pub by: String,
    /// Why.
    pub why: Option<String>,
    /// Until when it holds.
    pub until: Option<Millis>,
    /// Whether it is paused.
    pub paused: bool,
    /// The phase that is not let in.
    pub held_back: Option<String>,
    /// The phase that is rehearsed.
    pub dry_run: Option<String>,
}

impl Phases {
    /// Takes in a record, made at `at`.
    pub(super) fn take(&mut self, line: &Line<'_>, phase: &Phase<'_>, at: Millis) {
        self.keep(Change::of(line, phase, at));
    }

    /// Takes in what `other` holds.
    pub(super) fn merge(&mut self, other: &Phases) {
        for change in &other.changes {
            self.keep(change.clone());
        }
        self.latest = self.latest.take().max(other.latest.clone());
        self.left_out = self.left_out.saturating_add(other.left_out);
    }

    fn keep(&mut self, change: Change) {
        self.latest = self.latest.take().max(Some(change.clone()));
        self.changes.insert(change);
        if self.changes.len() > MOST {
            // A process that starts again and again must not drive out what was decided.
            let repeated = self.changes.iter().find(|change| change.is_repeated()).cloned();
            let dropped = repeated.is_some_and(|change| self.changes.remove(&change));
            if !dropped {
                self.changes.pop_first();
            }
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// What was changed up to `until`, in order, each once: what replicas and restarts only repeat is left out.
    #[must_use]
    pub fn told(&self, until: Millis) -> Vec<Change> {
        let all: BTreeSet<&Change> = self.changes.iter().chain(&self.latest).collect();
        let mut told: Vec<Change> = Vec::new();
        for change in all.into_iter().filter(|change| change.at <= until) {
            match told.last_mut() {
                Some(last) if change.repeats(last) => last.until = change.until,
                // By the clocks of two machines a replica may follow before it was said.
                Some(last) if last.echoes(change) => *last = change.clone(),
                _ => told.push(change.clone()),
            }
        }
        told
    }

    /// Records that were not kept.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

impl Change {
    fn of(line: &Line<'_>, phase: &Phase<'_>, at: Millis) -> Self {
        let name = |text: &str| capped(text, NAME);
        Change {
            at,
            seq: line.seq,
            instance: line.instance.to_string(),
            phase: name(&phase.phase),
            before: phase.before.as_deref().map(name),
            by: name(&phase.by),
            why: phase.why.as_deref().filter(|why| !why.is_empty()).map(|why| capped(why, WHY)),
            until: phase.until,
            paused: phase.paused,
            held_back: phase.held_back.as_deref().map(name),
            dry_run: phase.dry_run.as_deref().map(name),
        }
    }

    /// Whether a start tells that what held before still does.
    fn is_repeated(&self) -> bool {
        self.by == START && self.before.as_ref() == Some(&self.phase)
    }

    /// Whether it tells nothing but what `last` did.
    fn repeats(&self, last: &Change) -> bool {
        self.holds() == last.holds()
            && (self.by == START || self.why == last.why && [FLEET, &last.by].contains(&&*self.by))
    }

    /// Whether it only tells that another replica was followed, which was told what `next` tells.
    fn echoes(&self, next: &Change) -> bool {
        self.by == FLEET && self.holds() == next.holds() && self.why == next.why
    }

    /// What holds by it.
    fn holds(&self) -> (&str, bool, Option<&str>, Option<&str>) {
        (&self.phase, self.paused, self.held_back.as_deref(), self.dry_run.as_deref())
    }
}

/// The beginning of a text that may be any file's.
fn capped(text: &str, most: usize) -> String {
    let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
    let end = ends.take_while(|end| *end <= most).last().unwrap_or_default();
    text.get(..end).unwrap_or_default().to_owned()
}

/// What happened in each phase, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies(BTreeMap<Refusing, Tally>);

/// How often something happened, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How often.
    pub times: u64,
    /// The first time.
    pub first: Millis,
    /// The last time.
    pub last: Millis,
}

impl Tallies {
    /// It happened in `phase` at `at`.
    pub(super) fn add(&mut self, phase: Refusing, at: Millis) {
        self.join(phase, Tally { times: 1, first: at, last: at });
    }

    /// What `other` has happened here.
    pub fn merge(&mut self, other: &Tallies) {
        for (phase, tally) in other.all() {
            self.join(phase, *tally);
        }
    }

    fn join(&mut self, phase: Refusing, more: Tally) {
        let tally = self.0.entry(phase).or_insert(Tally { times: 0, ..more });
        tally.times = tally.times.saturating_add(more.times);
        tally.first = tally.first.min(more.first);
        tally.last = tally.last.max(more.last);
    }

    /// Each phase in which it happened.
    pub fn all(&self) -> impl Iterator<Item = (Refusing, &Tally)> {
        self.0.iter().map(|(phase, tally)| (*phase, tally))
    }

    /// How often it happened in all.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.0.values().map(|tally| tally.times).fold(0, u64::saturating_add)
    }

    /// The phase in which it last happened, if that was at `at`.
    #[must_use]
    pub fn last_at(&self, at: Millis) -> Option<Refusing> {
        self.all().filter(|(_, tally)| tally.last == at).map(|(phase, _)| phase).max()
    }

    /// Whether it never happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::super::line::{Event, Text};
    use super::*;

    struct Told<'a>(Millis, &'a str, &'a str, &'a str);

    fn take(phases: &mut Phases, seq: u64, Told(at, before, phase, by): &Told<'_>) {
        let text = |text: &str| Text(Cow::Owned(text.to_owned()));
        let phase = Phase {
            phase: text(phase),
            before: Some(text(before)),
            by: text(by),
            why: None,
            until: Some(at + 1),
            paused: false,
            held_back: None,
            dry_run: None,
        };
        let (instance, boot) = (text(if seq.is_multiple_of(2) { "a" } else { "b" }), text("boot"));
        phases.take(&Line { at: *at, instance, boot, seq, event: Event::Other }, &phase, *at);
    }

    fn names(phases: &Phases, until: Millis) -> Vec<(Millis, String)> {
        phases.told(until).into_iter().map(|change| (change.at, change.phase)).collect()
    }

    #[test]
    fn what_replicas_and_restarts_repeat_is_told_once_in_any_order() {
        let records = [
            Told(10, "observe", "announce", "plan"),
            Told(11, "observe", "announce", "plan"),
            Told(15, "announce", "announce", "start"),
            Told(20, "announce", "brownout", "plan"),
            Told(30, "brownout", "announce", "plan"),
            Told(40, "announce", "announce", "operator"),
        ];
        let expected = [(10, "announce"), (20, "brownout"), (30, "announce"), (40, "announce")];
        for turn in 0..records.len() {
            let mut phases = Phases::default();
            for at in 0..records.len() {
                let at = (at + turn) % records.len();
                take(&mut phases, u64::try_from(at).expect("small"), &records[at]);
            }
            assert_eq!(names(&phases, 50), expected.map(|(at, phase)| (at, phase.to_owned())), "{turn}");
            assert_eq!(names(&phases, 25).len(), 2, "what came later is not known yet");
            assert_eq!(phases.told(50)[0].until, Some(16), "the last one says until when");
        }
    }

    #[test]
    fn who_follows_another_replica_tells_nothing_new_also_before_it_by_its_clock() {
        let operator = Told(20, "announce", "brownout", "operator");
        for follows in [19, 20, 21] {
            let mut phases = Phases::default();
            take(&mut phases, 0, &operator);
            take(&mut phases, 1, &Told(follows, "announce", "brownout", FLEET));
            let told: Vec<(Millis, String)> =
                phases.told(50).into_iter().map(|change| (change.at, change.by)).collect();
            assert_eq!(told, [(20, "operator".to_owned())], "{follows}");
        }
        let mut phases = Phases::default();
        take(&mut phases, 0, &Told(20, "announce", "brownout", FLEET));
        assert_eq!(phases.told(50).len(), 1, "the other's log is not there");
    }

    #[test]
    fn restarts_without_end_keep_what_was_decided_and_what_holds() {
        let mut phases = Phases::default();
        take(&mut phases, 0, &Told(1, "observe", "announce", "operator"));
        for seq in 1..1_000 {
            take(&mut phases, seq, &Told(Millis::try_from(seq).expect("small") + 1, "announce", "announce", "start"));
        }
        assert_eq!((phases.changes.len(), phases.left_out()), (MOST, 800));
        assert_eq!(names(&phases, 2_000), [(1, "announce".to_owned())]);
        for seq in 1_000..2_000 {
            take(&mut phases, seq, &Told(Millis::try_from(seq).expect("small") + 1, "announce", "brownout", "plan"));
        }
        take(&mut phases, 2_000, &Told(3_000, "brownout", "brownout", "start"));
        assert_eq!((phases.changes.len(), phases.told(4_000)[0].until), (MOST, Some(3_001)));
    }

    #[test]
    fn names_from_a_file_are_cut_between_characters() {
        let mut phases = Phases::default();
        take(&mut phases, 0, &Told(1, "observe", &"é".repeat(100), "x"));
        assert_eq!(phases.told(2)[0].phase, "é".repeat(32));
    }

    #[test]
    fn tallies_are_those_of_all_that_happened_in_any_order() {
        let (mut one, mut other) = (Tallies::default(), Tallies::default());
        one.add(Refusing::Gone, 5);
        one.add(Refusing::Gone, 3);
        other.add(Refusing::Gone, 9);
        other.add(Refusing::Freeze, 9);
        one.merge(&other);
        let gone = Tally { times: 3, first: 3, last: 9 };
        let freeze = Tally { times: 1, first: 9, last: 9 };
        assert_eq!(one.all().collect::<Vec<_>>(), [(Refusing::Freeze, &freeze), (Refusing::Gone, &gone)]);
        assert_eq!((one.times(), one.last_at(9), one.last_at(5)), (4, Some(Refusing::Gone), None));
    }
}
