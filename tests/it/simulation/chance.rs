//! Chance that is the same for the same seed.

use std::time::Duration;

/// A small generator (SplitMix64): each actor has its own, so that what one does changes nothing for the others.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The chance of actor `who` in the run `seed`.
    pub(crate) fn new(seed: u64, who: u64) -> Self {
        // Mixed twice: multiples of the step below would be one and the same row of numbers, begun a little later each.
        Chance(mixed(mixed(seed).wrapping_add(who)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether it happens that happens once in `times`; never with 0.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// A place in a list of `length`.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }

    /// One of `items`.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }

    /// From `least` to `most` milliseconds.
    pub(crate) fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }
}

fn mixed(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[test]
fn runs_of_neighbouring_seeds_have_nothing_in_common() {
    let row = |seed, who| -> Vec<u64> {
        let mut chance = Chance::new(seed, who);
        (0..100).map(|_| chance.next()).collect()
    };
    let mut all: Vec<u64> = (0..20).flat_map(|seed| (0..5).flat_map(move |who| row(seed, who))).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20 * 5 * 100);
}
