//! Replicas die, hang, and are replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::nginx::Choice;
use super::stage::{Replica, Stage};
use crate::driver::{Driver, Outcome};
use crate::wait::{self, seconds};

/// TypeScript comes back after 3 s, and again after 3 s.
const RETURN: Duration = seconds(25);

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("client-{i}")).collect()
}

/// Each in turn. Whoever had its stream there comes back to another one; nobody else notices.
#[test]
fn replica_that_is_killed_takes_with_it_the_streams_it_held_and_nothing_else() {
    let mut stage = Stage::start(Choice::InTurn);
    let typescript = Driver::typescript();
    let mut names = names(9);
    typescript.connect_all(&names, &stage.sse_url(), |_| None);
    for victim in 0..3 {
        let held_there = stage.replicas[victim].sessions();
        assert!(held_there > 0, "replica {victim} holds nobody");
        let before = typescript.streams();
        let held: Vec<_> = names
            .iter()
            .map(|name| (name, typescript.client(name).begin("hold", &format!("{name}-held-{victim}"))))
            .collect();
        // A POST that is under way there when it dies is nobody's any more.
        let word = format!("-held-{victim}");
        wait::until("all are taken", seconds(10), || {
            let ledger = typescript.ledger();
            let held =
                ledger.requests().filter(|call| call.token.as_deref().is_some_and(|token| token.ends_with(&word)));
            held.filter(|call| call.posted == 202).count() == names.len()
        });
        stage.replicas[victim].kill();
        wait::until("those who lost their stream are back", RETURN, || {
            typescript.streams().values().sum::<u64>() >= before.values().sum::<u64>() + held_there
        });
        let after = typescript.streams();
        let lost = |name: &String| after[name] > before[name];
        assert!(names.iter().all(|name| after[name] <= before[name] + 1), "{before:?} {after:?}");
        assert_eq!(names.iter().filter(|name| lost(name)).count() as u64, held_there, "{before:?} {after:?}");
        for name in &names {
            typescript.client(name).must_count(&format!("{name}-after-{victim}"));
        }
        stage.server.tell("release");
        for (name, call) in held.iter().filter(|(name, _)| !lost(name)) {
            assert_eq!(call.outcome(), Outcome::Text(format!("held {name}-held-{victim}")));
        }
        stage.replicas[victim].restart();
        stage.await_fleet();
        // So that it has somebody again before the next one dies.
        let newcomers: Vec<String> = (0..3).map(|i| format!("newcomer-{victim}-{i}")).collect();
        typescript.connect_all(&newcomers, &stage.sse_url(), |_| None);
        drop(held);
        names.extend(newcomers);
    }
    typescript.ledger().assert_kept_but(&stage.server, |account, request| {
        request.stream < account.streams && request.token.as_deref().is_some_and(|token| token.contains("held"))
    });
}

#[test]
fn replica_that_hangs_costs_the_posts_of_its_own_clients_only() {
    let stage = Stage::start(Choice::InTurn);
    let (mut its, mut other) = (stage.visitor("its", 0), stage.visitor("other", 1));
    for place in 0..3 {
        its.call(place);
        other.call(place);
    }
    stage.replicas[0].life().child.signal("STOP");
    for _ in 0..3 {
        its.refused(1);
        its.refused(2);
        other.call(1);
        other.call(2);
        let mut new = stage.visitor("new", 2);
        new.call(1);
    }
    stage.replicas[0].life().child.signal("CONT");
    wait::until("it is reached again", seconds(10), || its.is_served(1));
    for place in 0..3 {
        its.call(place);
        other.call(place);
    }
    let twice: Vec<_> =
        stage.server.runs().into_iter().filter(|(token, times)| *times > 1 && !token.starts_with("new")).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// As `docker compose up` does it, one by one, while everybody is at work.
#[test]
fn replicas_that_are_restarted_one_after_the_other_under_load_answer_everything() {
    let mut stage = Stage::start_with(Choice::Random, &[("drain", "15s"), ("drain-delay", "1s")]);
    let typescript = Driver::typescript();
    let names = names(30);
    typescript
        .connect_all(&names, &stage.sse_url(), |name| name.ends_with(['0', '5']).then(|| format!("token-of-{name}")));
    typescript.ask(json!({"do": "load", "pause": 200}));
    for place in 0..3 {
        let runs = stage.server.count("run");
        wait::until("the load is on", seconds(20), || stage.server.count("run") > runs + 150);
        stage.replicas[place].terminate();
        stage.replicas[place].restart();
        stage.await_fleet();
        wait::until("everybody has a stream", RETURN, || {
            stage.replicas.iter().map(Replica::sessions).sum::<u64>() >= names.len() as u64
        });
        wait::until("everybody is served", RETURN, || {
            let (streams, served) = (typescript.streams(), typescript.served());
            names.iter().all(|name| streams[name] == served[name])
        });
    }
    typescript.ask(json!({"do": "stop"}));
    for name in &names {
        typescript.client(name).must_count(&format!("{name}-last"));
    }
    let ledger = typescript.ledger();
    ledger.assert_kept(&stage.server);
    let moved = typescript.streams().values().filter(|streams| **streams > 1).count();
    assert_eq!(moved, names.len(), "everybody had to move");
    let mut posted: BTreeMap<String, usize> = BTreeMap::new();
    for request in ledger.requests() {
        *posted.entry(request.posted.to_string()).or_default() += 1;
    }
    eprintln!("answers to POSTs {posted:?}, errors {:?}", ledger.errors());
    for replica in &mut stage.replicas {
        replica.terminate();
        replica.assert_ends();
    }
}
