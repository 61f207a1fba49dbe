//! Thousands of runs of the session task under chance, without sockets and with time that passes by itself.
//!
//! Each run is made from its seed alone: clients of every habit come, ask, lose their connections and come back; the
//! server forgets sessions, breaks off, hangs and misleads. Whatever happens, every request is answered once or accounted
//! for, nobody gets what is another's, nothing runs twice, and nothing is left behind. `SIMULATION_SEEDS=7..8` plays other
//! runs than the usual ones, and tells what happened in those that fail.

#![allow(
    clippy::struct_excessive_bools,
    clippy::similar_names,
    clippy::match_same_arms,
    clippy::needless_pass_by_value,
    reason = "a model is many small facts, each said where it belongs"
)]

pub(crate) mod chance;
mod client;
mod ledger;
mod line;
mod log;
mod modern;
mod steps;
mod strangers;
mod thread;
mod upstream;
mod work;
mod world;

use std::ops::Range;
use std::time::Duration;

use client::{HABITS, Identity};
use proptest::prelude::*;
use steps::Step;
use thread::Fate;
use world::{Counts, Outcome, Role, Scene};

/// The runs that are played unless others are asked for.
const SEEDS: Range<u64> = 0..2_000;
/// The same of those with servers of 2026-07-28.
const SEEDS_OF_ERAS: Range<u64> = 0..150;

fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("SIMULATION_SEEDS") else { return usual };
    let (start, end) = text.split_once("..").expect("SIMULATION_SEEDS is START..END");
    start.parse().expect("a number")..end.parse().expect("a number")
}

fn play(seed: u64, scene: &Scene, traces: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(world::run(seed, scene, traces))
}

/// Plays a run, and once more to tell about it if it fails.
fn check(seed: u64, scene: &Scene) -> Result<Counts, String> {
    let outcome = play(seed, scene, false);
    if outcome.violations.is_empty() {
        return Ok(outcome.counts);
    }
    let trace = play(seed, scene, true).trace.join("\n");
    Err(format!("seed {seed}: {:#?}\n{trace}", outcome.violations))
}

/// The runs of the kind of `scene`, and what happened in all of them together.
fn play_all(seeds: Range<u64>, scene: &Scene) -> Counts {
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for seed in seeds.clone() {
        match check(seed, scene) {
            Ok(more) => counts.add(&more),
            Err(failure) => failures.push((seed, failure)),
        }
        if failures.len() >= 20 {
            break;
        }
    }
    let failed: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
    if let Some((_, failure)) = failures.first() {
        panic!("the runs {failed:?} fail; the first:\n{failure}");
    }
    eprintln!("{} runs: {counts:#?}", seeds.count());
    counts
}

#[test]
fn simulation_holds_for_thousands_of_seeds() {
    let seeds = seeds(SEEDS);
    let mut counts = play_all(seeds.clone(), &Scene::Chance);
    if seeds.count() >= 500 {
        let never = counts.never_happened();
        assert!(never.is_empty(), "in all these runs this never happened: {never:?}");
    }
}

#[test]
fn simulation_holds_for_servers_of_both_eras() {
    let seeds = seeds(SEEDS_OF_ERAS);
    let mut counts = play_all(seeds.clone(), &Scene::Eras);
    if seeds.count() >= 100 {
        let never = counts.modern.never_happened();
        assert!(never.is_empty(), "in all these runs this never happened: {never:?}");
    }
}

fn role() -> impl Strategy<Value = Role> {
    let habit = prop::sample::select(HABITS.to_vec());
    (habit, identity()).prop_map(|(habit, identity)| Role { habit, identity, is_of_old: false })
}

/// Few enough identities that most runs have clients which cannot be told apart.
fn identity() -> impl Strategy<Value = Identity> {
    let token = prop_oneof![1 => Just(None), 3 => Just(Some(0)), 1 => Just(Some(1))];
    let address = prop_oneof![3 => Just("192.0.2.1"), 1 => Just("192.0.2.2")];
    (token, address).prop_map(|(token, address)| {
        let address = address.parse().expect("an address");
        Identity { token, user_agent: "node", address }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let time = |most: u64| (0..=most).prop_map(Duration::from_millis);
    prop_oneof![
        6 => (1_u64..4).prop_map(Step::Ask),
        6 => any::<bool>().prop_map(|notices| Step::Drop { notices }),
        2 => Just(Step::DropMany),
        1 => Just(Step::Begin),
        1 => Just(Step::Die),
        3 => Just(Step::Announce),
        1 => Just(Step::AskClient),
        1 => Just(Step::Expire),
        1 => any::<bool>().prop_map(|one| Step::Lose { one, fate: Fate::Broken }),
        6 => time(50).prop_map(Step::Pass),
        3 => time(4_000).prop_map(Step::Pass),
        1 => time(20_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever becomes of connections: what is said to one client reaches that one or nobody.
    #[test]
    fn clients_never_get_each_others_events(
        seed in any::<u32>(),
        cast in prop::collection::vec(role(), 2..6),
        steps in prop::collection::vec(step(), 10..60),
    ) {
        if let Err(failure) = check(u64::from(seed), &Scene::Given { cast, steps }) {
            return Err(TestCaseError::fail(failure));
        }
    }
}
