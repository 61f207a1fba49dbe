//! Thousands of runs of the session task under chance, without sockets and with time that passes by itself.
//!
//! Each run is made from its seed alone: clients of every habit come, ask, lose their connections and come back; the
//! server forgets sessions, breaks off, hangs and misleads. Whatever happens, every request is answered once or accounted
//! for, nobody gets what is another's, nothing runs twice, and nothing is left behind. `SIMULATION_SEEDS=7..8` plays other
//! runs than the usual ones, and tells what happened in those that fail.

mod chance;
mod client;
mod ledger;
mod line;
mod log;
mod steps;
mod thread;
mod upstream;
mod work;
mod world;

use std::ops::Range;

use world::{Counts, Outcome, Scene};

/// The runs that are played unless others are asked for.
const SEEDS: Range<u64> = 0..2_000;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SIMULATION_SEEDS") else { return SEEDS };
    let (start, end) = text.split_once("..").expect("SIMULATION_SEEDS is START..END");
    start.parse().expect("a number")..end.parse().expect("a number")
}

fn play(seed: u64, scene: &Scene, traces: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(world::run(seed, scene, traces))
}

#[test]
fn simulation_holds_for_thousands_of_seeds() {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for seed in seeds() {
        let outcome = play(seed, &Scene::Chance, false);
        counts.add(&outcome.counts);
        if !outcome.violations.is_empty() {
            failures.push((seed, outcome.violations));
        }
        if failures.len() >= 20 {
            break;
        }
    }
    if let Some((seed, _)) = failures.first() {
        let outcome = play(*seed, &Scene::Chance, true);
        eprintln!("seed {seed}:\n{}", outcome.trace.join("\n"));
    }
    eprintln!("{} runs: {counts:?}", seeds().count());
    assert!(failures.is_empty(), "{failures:#?}");
}
