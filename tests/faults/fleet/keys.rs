//! The key of the fleet is changed under way.

use super::nginx::Choice;
use super::stage::{Stage, key};
use super::visitor::Visitor;
use crate::driver::Driver;
use crate::wait::{self, seconds};

/// Longer than a replica takes to look at its file.
const NOTICED: std::time::Duration = seconds(20);

fn all_call(visitors: &mut [Visitor<'_>]) {
    for visitor in visitors {
        for place in 0..3 {
            visitor.call(place);
        }
    }
}

/// Gives the replicas new keys one by one, and waits for each to take them; everybody is served all the while.
fn hand_out(stage: &Stage, keys: &[&str], order: [usize; 3], visitors: &mut [Visitor<'_>]) {
    for place in order {
        let replica = &stage.replicas[place];
        let before = replica.status()["fleet"]["keys"].clone();
        replica.write_keys(keys);
        if place == 1 {
            // One is told; the others find out.
            replica.life().child.signal("HUP");
        }
        wait::until("it has taken the keys", NOTICED, || replica.status()["fleet"]["keys"] != before);
        all_call(visitors);
    }
}

#[test]
fn key_that_is_rotated_in_any_order_costs_no_session_and_no_post() {
    let stage = Stage::start(Choice::Random);
    let typescript = Driver::typescript();
    let names: Vec<String> = (0..6).map(|i| format!("client-{i}")).collect();
    typescript.connect_all(&names, &stage.sse_url(), |_| None);
    let mut visitors: Vec<Visitor<'_>> = (0..3).map(|place| stage.visitor(&format!("old-{place}"), place)).collect();
    all_call(&mut visitors);
    let sealing = || stage.replicas.each_ref().map(|replica| replica.status()["fleet"]["sealing"].clone());
    let old = sealing();
    assert!(old.iter().all(|key| *key == old[0]), "{old:?}");

    let (first, second) = (key(1), key(2));
    hand_out(&stage, &[&second, &first], [2, 0, 1], &mut visitors);
    wait::until("all seal with the new one", NOTICED, || sealing().iter().all(|key| *key != old[0]));
    all_call(&mut visitors);
    for name in &names {
        typescript.client(name).must_count(&format!("{name}-both"));
    }

    // With the old key go the sessions whose ids were sealed with it, and theirs only.
    drop(visitors);
    let mut visitors: Vec<Visitor<'_>> = (0..3).map(|place| stage.visitor(&format!("new-{place}"), place)).collect();
    hand_out(&stage, &[&second], [1, 2, 0], &mut visitors);
    let ledger = typescript.ledger();
    ledger.assert_kept(&stage.server);
    assert!(ledger.clients.values().all(|account| account.gets == [200]), "{ledger:?}");
    typescript.connect("after", &stage.sse_url(), None).must_count("after");
}
