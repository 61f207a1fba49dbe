//! What all replicas agree on: what somebody said by hand, since when newcomers are refused, and what the guard let in.
//!
//! Promise: two replicas that were told things while they could not hear each other come to the same in whatever order they
//! meet. Of each thing that can be said the last word counts; what was let in is let in.
//!
//! The trap: what follows from dates and clocks alone must not stand here. Replicas whose clocks or options differ would undo
//! each other's decision for ever.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Phase;
use super::state::{Hand, Pause, Rehearsal};

/// The version of the form on the board.
const FORM: u32 = 1;
/// Phases that are known to have been let in, at most: the plan has a few dozen.
const MOST_LET_IN: usize = 128;
/// Between two words of which one is the answer to the other, whatever the clocks say.
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

/// What is agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Agreed {
    /// The phase that was set by hand, instead of what the plan says.
    pub(super) hand: Option<Hand>,
    /// Nobody is refused, whatever the phase.
    pub(super) pause: Option<Pause>,
    /// The phase whose refusals are only written, because somebody said so.
    pub(super) rehearsal: Option<Rehearsal>,
    /// Since when newcomers are refused.
    pub(super) frozen: Option<Timestamp>,
    /// Since when that is lifted by hand after its date had come.
    pub(super) lifted: Option<Timestamp>,
    /// Phases of the plan that were entered although they hit users, by their beginning and the share of clients, in hundredths
    /// of a percent: they are not asked about again.
    pub(super) let_in: Vec<(Phase, Timestamp, u16)>,
    /// What was said last.
    #[serde(skip_serializing_if = "Said::is_nothing")]
    pub(super) said: Said,
}

/// The last word about each thing that can be said: also of one that took something back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    pub(super) hand: Option<Utterance>,
    pub(super) pause: Option<Utterance>,
    pub(super) rehearsal: Option<Utterance>,
}

/// A word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Utterance {
    /// When it was said; later than what it answers.
    pub(super) at: Timestamp,
    /// The reason that was given.
    pub(super) why: String,
}

/// As it stands on the board.
#[derive(Serialize, Deserialize)]
struct Written {
    form: u32,
    #[serde(flatten)]
    agreed: Agreed,
}

impl Agreed {
    /// Reads what stands on the board.
    ///
    /// # Errors
    /// When another version of the program wrote it, which says more than is understood here.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if written.form == FORM {
            Ok(written.agreed)
        } else {
            Err(format!("its form {} is not known here", written.form))
        }
    }

    /// The same as it stands on the board.
    pub(super) fn written(&self) -> Vec<u8> {
        let written = Written { form: FORM, agreed: self.clone() };
        serde_json::to_vec(&written).expect("texts, numbers and times are JSON")
    }

    /// What holds where others said this, and here was said what is `mine`, and neither knew of the other.
    pub(super) fn joined(self, mine: &Agreed) -> Self {
        let mut joined = self.joined_by_words(mine);
        if joined.frozen.is_none() && joined.lifted.is_none() {
            (joined.frozen, joined.lifted) = (mine.frozen, mine.lifted);
        }
        joined
    }

    /// The same where `mine` may be what was agreed on long ago: a freeze that is over since does not come back.
    pub(super) fn joined_by_words(mut self, mine: &Agreed) -> Self {
        let is_later = |mine: &Option<Utterance>, theirs: &Option<Utterance>| mine > theirs;
        if is_later(&mine.said.hand, &self.said.hand) {
            (self.hand, self.said.hand) = (mine.hand.clone(), mine.said.hand.clone());
            // Since when newcomers are refused goes with the phase.
            (self.frozen, self.lifted) = (mine.frozen, mine.lifted);
        }
        if is_later(&mine.said.pause, &self.said.pause) {
            (self.pause, self.said.pause) = (mine.pause.clone(), mine.said.pause.clone());
        }
        if is_later(&mine.said.rehearsal, &self.said.rehearsal) {
            (self.rehearsal, self.said.rehearsal) = (mine.rehearsal.clone(), mine.said.rehearsal.clone());
        }
        for (phase, at, points) in &mine.let_in {
            self.let_in(*phase, *at, *points);
        }
        self
    }

    /// Takes what was done before words were kept for said when it was done.
    pub(super) fn date_what_was_done(&mut self) {
        let said = &mut self.said;
        let word = |at: Timestamp, why: &str| Utterance { at, why: why.to_owned() };
        said.hand = said.hand.take().or(self.hand.as_ref().map(|hand| word(hand.since, &hand.why)));
        said.pause = said.pause.take().or(self.pause.as_ref().map(|pause| word(pause.since, &pause.why)));
        let rehearsed = || self.rehearsal.as_ref().map(|rehearsal| word(rehearsal.since, ""));
        said.rehearsal = said.rehearsal.take().or_else(rehearsed);
    }

    /// Notes that `phase`, which begins at `at`, was let in for a share of clients.
    pub(super) fn let_in(&mut self, phase: Phase, at: Timestamp, points: u16) {
        if self.is_let_in(phase, at, points) {
            return;
        }
        self.let_in.retain(|(of, from, _)| (*of, *from) != (phase, at));
        self.let_in.push((phase, at, points));
        self.let_in.sort_unstable();
        // Those that began first are over first.
        while self.let_in.len() > MOST_LET_IN {
            let first = self.let_in.iter().enumerate().min_by_key(|(_, (_, at, _))| *at).map_or(0, |(place, _)| place);
            self.let_in.remove(first);
        }
    }

    /// Whether `phase`, which begins at `at`, was let in for this share of clients or more.
    pub(super) fn is_let_in(&self, phase: Phase, at: Timestamp, points: u16) -> bool {
        self.let_in.iter().any(|(of, from, share)| (*of, *from) == (phase, at) && *share >= points)
    }
}

impl Said {
    fn is_nothing(&self) -> bool {
        *self == Said::default()
    }

    /// The last word that `before` does not know.
    pub(super) fn news(&self, before: &Said) -> Option<&Utterance> {
        let pairs = [(&self.hand, &before.hand), (&self.pause, &before.pause), (&self.rehearsal, &before.rehearsal)];
        pairs.into_iter().filter(|(now, before)| now != before).filter_map(|(now, _)| now.as_ref()).max()
    }
}

impl Utterance {
    /// Said now, in answer to `last`.
    pub(super) fn after(last: Option<&Utterance>, now: Timestamp, why: &str) -> Self {
        let answer = last.and_then(|last| last.at.checked_add(MOMENT).ok());
        Utterance { at: answer.map_or(now, |answer| now.max(answer)), why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn said(second: i64) -> Utterance {
        Utterance::after(None, at(second), "x")
    }

    fn paused(second: i64) -> Agreed {
        let said = Said { pause: Some(said(second)), ..Said::default() };
        Agreed { pause: Some(Pause { since: at(second), why: "x".to_owned() }), said, ..Agreed::default() }
    }

    fn set(second: i64, phase: Phase) -> Agreed {
        let said = Said { hand: Some(said(second)), ..Said::default() };
        let hand = Hand {
            phase,
            since: at(second),
            until: None,
            basis_points: None,
            ends_running: false,
            why: "x".to_owned(),
        };
        Agreed { hand: Some(hand), said, ..Agreed::default() }
    }

    #[test]
    fn last_word_of_each_kind_counts_whoever_comes_first() {
        let (pause, phase) = (paused(1), set(2, Phase::Brownout));
        for both in [pause.clone().joined(&phase), phase.clone().joined(&pause)] {
            assert_eq!((&both.pause, &both.hand), (&pause.pause, &phase.hand), "neither undoes the other");
        }
        let resumed = Agreed { said: Said { pause: Some(said(3)), ..Said::default() }, ..Agreed::default() };
        assert_eq!(pause.clone().joined(&resumed).pause, None);
        assert_eq!(resumed.joined(&pause).pause, None, "a pause that was ended later does not come back");
    }

    #[test]
    fn what_was_let_in_anywhere_is_let_in_within_bounds() {
        let (mut one, mut other) = (Agreed::default(), Agreed::default());
        one.let_in(Phase::Brownout, at(1), 100);
        other.let_in(Phase::Brownout, at(1), 500);
        other.let_in(Phase::Tombstone, at(9), 100);
        let both = one.clone().joined(&other);
        assert_eq!(both.let_in.len(), 2, "a larger share stands for a smaller one");
        assert!(both.is_let_in(Phase::Brownout, at(1), 500) && !both.is_let_in(Phase::Brownout, at(1), 501));
        assert_eq!(both, other.joined(&one));
        for second in 0..1_000 {
            one.let_in(Phase::Brownout, at(second), 100);
        }
        assert_eq!(one.let_in.len(), MOST_LET_IN);
        assert!(one.is_let_in(Phase::Brownout, at(999), 100), "the latest stay");
    }

    #[test]
    fn answer_comes_after_what_it_answers_whatever_the_clock_says() {
        let first = Utterance::after(None, at(10), "x");
        assert!(Utterance::after(Some(&first), at(5), "y") > first);
    }

    #[test]
    fn board_is_read_as_it_is_written_and_another_form_is_not() {
        let mut agreed = paused(1).joined(&set(2, Phase::Freeze));
        agreed.let_in(Phase::Brownout, at(3), 100);
        assert_eq!(Agreed::read(&agreed.written()), Ok(agreed));
        assert!(Agreed::read(br#"{"form":2}"#).expect_err("newer").contains("form 2"));
        assert!(Agreed::read(b"{").is_err());
    }
}
