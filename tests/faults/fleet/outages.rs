//! Faults of Redis, and of the way to it: sessions never suffer whose POSTs reach their own replica, and nobody has to do
//! anything for all to be well again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::nginx::Choice;
use super::stage::Stage;
use super::visitor::Visitor;
use crate::driver::Driver;
use crate::fault_proxy::Manner;
use crate::wait::{self, seconds};

/// Within which a replica finds Redis again: longer than its longest pause, and than a probe of its own.
const RECOVERY: std::time::Duration = seconds(15);

/// A client of either SDK at each replica, all of whose POSTs reach it: whatever becomes of Redis, they notice nothing.
struct Locals {
    drivers: [Driver; 2],
    names: Vec<(String, usize)>,
}

impl Locals {
    fn connect(stage: &Stage) -> Self {
        let drivers = [Driver::typescript(), Driver::python()];
        let mut names = Vec::new();
        for (sdk, driver) in drivers.iter().enumerate() {
            for (place, replica) in stage.replicas.iter().enumerate() {
                let name = format!("local-{sdk}-{place}");
                driver.connect(&name, &replica.life().sse_url(), None);
                names.push((name, sdk));
            }
        }
        Locals { drivers, names }
    }

    /// Has them call without a pause while `then` is done, and awaits every answer.
    fn at_work(&self, word: &str, then: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for (name, sdk) in &self.names {
                let (client, is_over) = (self.drivers[*sdk].client(name), &is_over);
                scope.spawn(move || {
                    for call in 0.. {
                        client.must_count(&format!("{name}-{word}-{call}"));
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            let over = Over(&is_over);
            then();
            drop(over);
        });
    }

    fn assert_untouched(&self, stage: &Stage) {
        for driver in &self.drivers {
            let ledger = driver.ledger();
            ledger.assert_kept(&stage.server);
            assert!(ledger.clients.values().all(|account| account.gets == [200]), "{ledger:?}");
        }
    }
}

/// Ends the work even where what is done meanwhile fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One client at each replica.
fn visitors(stage: &Stage) -> [Visitor<'_>; 3] {
    [0, 1, 2].map(|place| stage.visitor(&format!("visitor-{place}"), place))
}

/// Every client is served through every replica.
fn all_call(visitors: &mut [Visitor<'_>; 3]) {
    for visitor in visitors {
        for place in 0..3 {
            visitor.call(place);
        }
    }
}

/// The same once the replicas have found each other again.
fn all_call_again(visitors: &mut [Visitor<'_>; 3]) {
    for visitor in visitors.iter_mut() {
        for place in 0..3 {
            wait::until("it is served through another replica again", RECOVERY, || visitor.is_served(place));
        }
    }
    all_call(visitors);
}

/// While Redis is not there: own sessions are served, others refused in time, and `/readyz` says why.
fn assert_alone(stage: &Stage, visitors: &mut [Visitor<'_>; 3]) {
    for (own, visitor) in visitors.iter_mut().enumerate() {
        for place in 0..3 {
            if place == own { visitor.call(place) } else { visitor.refused(place) }
        }
    }
    for replica in &stage.replicas {
        wait::until("it says that Redis is away", seconds(10), || replica.ready().1.contains("Redis"));
        assert_eq!(replica.ready().0, 200, "and serves on");
    }
}

fn assert_no_complaint(stage: &Stage) {
    for replica in &stage.replicas {
        wait::until("it has nothing to complain about", RECOVERY, || !replica.ready().1.contains("Redis"));
    }
}

#[test]
fn redis_that_is_down_costs_posts_at_other_replicas_only_and_is_found_when_it_comes_up() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    all_call(&mut visitors);
    locals.at_work("down", || {
        stage.redis.borrow_mut().stop();
        assert_alone(&stage, &mut visitors);
        stage.redis.borrow_mut().restart();
        all_call_again(&mut visitors);
    });
    assert_no_complaint(&stage);
    locals.assert_untouched(&stage);
}

#[test]
fn redis_that_hangs_costs_posts_at_other_replicas_only() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    all_call(&mut visitors);
    locals.at_work("hangs", || {
        stage.redis.borrow().pause();
        assert_alone(&stage, &mut visitors);
        stage.redis.borrow().resume();
        all_call_again(&mut visitors);
    });
    assert_no_complaint(&stage);
    locals.assert_untouched(&stage);
}

/// What is missing then proves nothing: nobody is taken for gone whose word was lost.
#[test]
fn redis_that_is_flushed_costs_nothing() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    locals.at_work("flushed", || {
        for _ in 0..5 {
            stage.redis.borrow().command(&["FLUSHALL"]);
            for _ in 0..5 {
                all_call(&mut visitors);
            }
        }
        // They are there again without being asked.
        let here = || stage.redis.borrow().text(&["EVAL", "return tostring(#redis.call('KEYS', '*:here:*'))", "0"]);
        wait::until("all have said again that they are there", RECOVERY, || here() == "3");
    });
    stage.await_fleet();
    locals.assert_untouched(&stage);
}

#[test]
fn connections_to_redis_that_are_killed_cost_nothing() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    all_call(&mut visitors);
    locals.at_work("killed", || {
        for kind in ["pubsub", "normal", "all"] {
            let killed = stage.redis.borrow().kill_clients(kind);
            assert!(killed >= 3, "{kind}: {killed}");
            all_call(&mut visitors);
        }
    });
    assert_no_complaint(&stage);
    locals.assert_untouched(&stage);
}

/// One replica is cut off, in silence: connections stay, and nothing comes.
#[test]
fn replica_that_cannot_reach_redis_serves_its_own_clients_and_the_others_each_other() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    all_call(&mut visitors);
    locals.at_work("partition", || {
        stage.replicas[0].between.set(Manner::Blackhole);
        for (own, visitor) in visitors.iter_mut().enumerate() {
            for place in 0..3 {
                if place == own || (place > 0 && own > 0) { visitor.call(place) } else { visitor.refused(place) }
            }
        }
        let replica = &stage.replicas[0];
        wait::until("it says that Redis is away", seconds(10), || replica.ready().1.contains("Redis"));
        assert!(!stage.replicas[1].ready().1.contains("Redis"));
        // Longer than its word holds: it is not there for the others, and is when it comes back.
        wait::until("the others miss it", seconds(30), || {
            stage.replicas[1].status()["fleet"]["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
        let (_, posted) = visitors[0].begin(1);
        assert!(posted.status == 404 && posted.took < seconds(2), "it is as good as dead: {posted:?}");
        visitors[0].call(0);
        replica.between.set(Manner::Pass);
        stage.await_fleet();
        all_call_again(&mut visitors);
    });
    assert_no_complaint(&stage);
    locals.assert_untouched(&stage);
}

/// A replica of Redis takes over under the same address, as behind a service's name.
#[test]
fn redis_that_fails_over_is_followed() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    all_call(&mut visitors);
    let standby = stage.redis.borrow().replica();
    locals.at_work("failover", || {
        stage.redis.borrow_mut().stop();
        standby.promote();
        for replica in &stage.replicas {
            replica.between.lead_to(standby.address());
        }
        all_call_again(&mut visitors);
    });
    stage.await_fleet();
    assert_no_complaint(&stage);
    locals.assert_untouched(&stage);
}

/// The old primary goes on for those who have not noticed: it takes what they say and nobody else hears it.
#[test]
fn redis_that_became_a_replica_is_left() {
    let stage = Stage::start(Choice::InTurn);
    let (locals, mut visitors) = (Locals::connect(&stage), visitors(&stage));
    all_call(&mut visitors);
    let standby = stage.redis.borrow().replica();
    locals.at_work("demotion", || {
        standby.promote();
        let (host, port) = (standby.address().ip().to_string(), standby.address().port().to_string());
        stage.redis.borrow().command(&["REPLICAOF", &host, &port]);
        for replica in &stage.replicas {
            replica.between.lead_to(standby.address());
        }
        all_call_again(&mut visitors);
        wait::until("nobody is left at the old one", seconds(30), || {
            stage.replicas.iter().all(|replica| {
                let fleet = &replica.status()["fleet"];
                fleet["connected"] == true && fleet["peers"].as_array().is_some_and(|peers| peers.len() == 2)
            })
        });
        all_call(&mut visitors);
    });
    assert_no_complaint(&stage);
    locals.assert_untouched(&stage);
}
