//! Which of a boot's numbers were seen, and when: duplicates, holes and coverage come from here.
//!
//! Pieces of a log may come in any order and more than once; runs of numbers grow and join, so that memory goes with the
//! number of holes and not with that of records.

use serde::{Deserialize, Serialize};

use super::super::line::Millis;

/// Two records of one boot further apart than this have a time between them in which nobody proves that it lived:
/// heartbeats come every 60 s.
pub const PULSE_MS: Millis = 150_000;

/// A span of time, in milliseconds since 1970.
pub type Stretch = (Millis, Millis);

/// Numbers without a hole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The first number.
    pub low: u64,
    /// The last.
    pub high: u64,
    /// When the first was written.
    pub from: Millis,
    /// When the last was written.
    pub to: Millis,
    /// The times that it proves, in the order of its numbers: another begins where a record says much later or earlier
    /// than the one before. Never empty.
    lived: Vec<Stretch>,
}

/// The numbers seen of one boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Runs {
    /// In order.
    runs: Vec<Run>,
    /// The run that grew last; most records follow the one before.
    last: usize,
}

/// Whether a record is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is.
    First,
    /// It was given before.
    Again,
}

impl Run {
    fn one(seq: u64, at: Millis) -> Run {
        Run { low: seq, high: seq, from: at, to: at, lived: vec![(at, at)] }
    }

    /// Takes in the record that follows.
    fn extend(&mut self, at: Millis) {
        self.high += 1;
        self.live(at, (at, at));
        self.to = at;
    }

    /// Takes in what follows without a hole.
    fn append(&mut self, next: Run) {
        let mut lived = next.lived.into_iter();
        if let Some(first) = lived.next() {
            self.live(next.from, first);
        }
        self.lived.extend(lived);
        self.high = next.high;
        self.to = next.to;
    }

    /// Goes on with `next`, whose first record says `at`. Records that are written at once may be out of order a little.
    fn live(&mut self, at: Millis, next: Stretch) {
        match self.lived.last_mut() {
            Some(last) if (at - last.1).abs() <= PULSE_MS => *last = (last.0.min(next.0), last.1.max(next.1)),
            _ => self.lived.push(next),
        }
    }
}

impl Runs {
    /// Takes in number `seq`, written at `at`.
    pub fn insert(&mut self, seq: u64, at: Millis) -> Seen {
        let next_low = self.runs.get(self.last + 1).map_or(u64::MAX, |next| next.low);
        if let Some(run) = self.runs.get_mut(self.last)
            && seq == run.high.saturating_add(1)
            && seq.saturating_add(1) < next_low
        {
            run.extend(at);
            return Seen::First;
        }
        self.insert_anywhere(seq, at)
    }

    fn insert_anywhere(&mut self, seq: u64, at: Millis) -> Seen {
        // The first run that begins behind `seq`; the one before may hold it or end right before it.
        let index = self.runs.partition_point(|run| run.low <= seq);
        if index.checked_sub(1).and_then(|before| self.runs.get(before)).is_some_and(|run| run.high >= seq) {
            return Seen::Again;
        }
        self.runs.insert(index, Run::one(seq, at));
        self.last = self.join(index);
        Seen::First
    }

    /// Joins the run at `index` with those that touch it; tells where it is now.
    fn join(&mut self, index: usize) -> usize {
        let touches = |runs: &[Run], left: usize| {
            let pair = runs.get(left).zip(runs.get(left + 1));
            pair.is_some_and(|(left, right)| left.high.saturating_add(1) == right.low)
        };
        let mut index = index;
        if touches(&self.runs, index) {
            let next = self.runs.remove(index + 1);
            if let Some(run) = self.runs.get_mut(index) {
                run.append(next);
            }
        }
        if let Some(before) = index.checked_sub(1).filter(|before| touches(&self.runs, *before)) {
            let run = self.runs.remove(index);
            if let Some(before) = self.runs.get_mut(before) {
                before.append(run);
            }
            index = before;
        }
        index
    }

    /// The runs, in order.
    #[must_use]
    pub fn all(&self) -> &[Run] {
        &self.runs
    }

    /// Whether all numbers up to the last one were seen.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.runs.as_slice(), [] | [Run { low: 0, .. }])
    }

    /// Records seen, each counted once.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.high - run.low + 1).sum()
    }

    /// The latest time of any record.
    #[must_use]
    pub fn latest(&self) -> Millis {
        self.lived().map(|lived| lived.1).max().unwrap_or(Millis::MIN)
    }

    /// The earliest one.
    #[must_use]
    pub fn earliest(&self) -> Millis {
        self.lived().map(|lived| lived.0).min().unwrap_or(Millis::MAX)
    }

    fn lived(&self) -> impl Iterator<Item = Stretch> {
        self.runs.iter().flat_map(|run| run.lived.iter().copied())
    }

    /// The times without a sign of life, as the clock told them: from one record to the next.
    #[must_use]
    pub fn silent(&self) -> Vec<Stretch> {
        let pairs = self.lived().zip(self.lived().skip(1));
        pairs.map(|(before, after)| (before.1, after.0)).filter(|(from, to)| from < to).collect()
    }

    /// The times that the runs prove.
    #[must_use]
    pub fn covered(&self) -> Vec<Stretch> {
        // One record by itself proves no time.
        union(self.lived().filter(|(from, to)| from < to).collect())
    }
}

/// What any of `stretches` covers, in order and without overlaps.
#[must_use]
pub fn union(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable();
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for (from, to) in stretches {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// What is left of `spans` without `holes`; both in order and without overlaps.
#[must_use]
pub fn subtract(spans: &[Stretch], holes: &[Stretch]) -> Vec<Stretch> {
    let mut left = Vec::with_capacity(spans.len() + holes.len());
    for &(from, to) in spans {
        let mut from = from;
        let first = holes.partition_point(|hole| hole.1 <= from);
        for &(start, end) in holes.iter().skip(first).take_while(|hole| hole.0 < to) {
            if start > from {
                left.push((from, start));
            }
            from = from.max(end);
        }
        if from < to {
            left.push((from, to));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(numbers: &[u64]) -> Vec<(u64, u64)> {
        let mut runs = Runs::default();
        for number in numbers {
            runs.insert(*number, i64::try_from(*number).expect("small"));
        }
        runs.all().iter().map(|run| (run.low, run.high)).collect()
    }

    #[test]
    fn numbers_join_in_any_order_and_holes_stay() {
        assert_eq!(runs(&[0, 1, 2, 5, 6, 4]), [(0, 2), (4, 6)]);
        assert_eq!(runs(&[5, 3, 4, 0, 2, 1]), [(0, 5)]);
        assert_eq!(runs(&[1, 0, 3, 2]), [(0, 3)]);
    }

    #[test]
    fn number_given_again_is_told() {
        let mut runs = Runs::default();
        assert_eq!(runs.insert(7, 0), Seen::First);
        assert_eq!(runs.insert(8, 0), Seen::First);
        assert_eq!(runs.insert(7, 0), Seen::Again);
        assert_eq!(runs.insert(8, 0), Seen::Again);
        assert_eq!(runs.count(), 2);
    }

    #[test]
    fn clock_set_back_proves_what_it_says_and_not_what_lies_between() {
        let mut runs = Runs::default();
        for (seq, at) in [(0, 9_000_000), (1, 9_060_000), (2, 0), (3, 60_000)] {
            runs.insert(seq, at);
        }
        assert_eq!(runs.covered(), [(0, 60_000), (9_000_000, 9_060_000)]);
        assert_eq!((runs.earliest(), runs.latest()), (0, 9_060_000));
    }

    #[test]
    fn silence_within_a_run_is_not_covered_whatever_the_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut runs = Runs::default();
            for seq in order {
                runs.insert(seq, [0, 60_000, 1_060_000][usize::try_from(seq).expect("small")]);
            }
            assert_eq!(runs.covered(), [(0, 60_000)], "{order:?}");
        }
    }

    proptest! {
        #[test]
        fn runs_are_those_of_a_set(numbers in proptest::collection::vec(0_u64..60, 0..80)) {
            let mut runs = Runs::default();
            let mut set = std::collections::BTreeSet::new();
            for number in numbers {
                let seen = runs.insert(number, 0);
                prop_assert_eq!(seen == Seen::First, set.insert(number));
            }
            let held: Vec<u64> = runs.all().iter().flat_map(|run| run.low..=run.high).collect();
            prop_assert_eq!(held, set.into_iter().collect::<Vec<_>>());
            prop_assert!(runs.all().windows(2).all(|pair| pair[0].high + 1 < pair[1].low));
        }

        #[test]
        fn union_and_subtraction_agree_with_points(
            spans in proptest::collection::vec((0_i64..50, 1_i64..10), 0..8),
            holes in proptest::collection::vec((0_i64..50, 1_i64..10), 0..8),
        ) {
            let as_stretches = |list: &[(i64, i64)]| list.iter().map(|(from, len)| (*from, from + len)).collect::<Vec<_>>();
            let (spans, holes) = (union(as_stretches(&spans)), union(as_stretches(&holes)));
            let left = subtract(&spans, &holes);
            let within = |list: &[Stretch], point: i64| list.iter().any(|(from, to)| *from <= point && point < *to);
            for point in 0..61 {
                prop_assert_eq!(within(&left, point), within(&spans, point) && !within(&holes, point));
            }
        }
    }
}
