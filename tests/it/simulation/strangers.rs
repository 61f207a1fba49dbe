//! A stream that comes back without a word may be that of a client whose session this proxy never had.

use std::time::Duration;

use super::client::{Habit, Identity};
use super::steps::Step;
use super::world::{Role, Scene};

/// One client with a session here, and one that had its handshake with the proxy before, or with another replica: both of one
/// product on one machine under one credential. The second waits for an answer and posts nothing, and was there for longer
/// than the loss of a stream can go unnoticed.
#[test]
fn client_of_an_earlier_proxy_gets_nothing_of_anothers() {
    let identity = Identity { token: Some(0), user_agent: "node", address: "192.0.2.1".parse().expect("an address") };
    let role = |is_of_old| Role { habit: Habit::TypeScript, identity, is_of_old };
    let wait = |ms| Step::Pass(Duration::from_millis(ms));
    let steps =
        vec![wait(25_000), Step::Drop { notices: true }, wait(100), Step::Announce, Step::Announce, wait(1_000)];
    for seed in 0..40 {
        let scene = Scene::Given { cast: vec![role(false), role(true)], steps: steps.clone() };
        if let Err(failure) = super::check(seed, &scene) {
            panic!("{failure}");
        }
    }
}
