//! Nothing breaks: every call of every client works, whichever replica its POST lands on.

use serde_json::json;

use super::nginx::Choice;
use super::stage::Stage;
use crate::driver::{Driver, Outcome};
use crate::wait::seconds;

/// Together no multiple of three: whoever calls in turn would else meet the same replica each time.
const TYPESCRIPT: usize = 9;
const PYTHON: usize = 5;
const CALLS: usize = 20;

fn names(sdk: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{sdk}-{i}")).collect()
}

fn assert_every_call_works(choice: Choice) {
    let mut stage = Stage::start(choice);
    let url = stage.sse_url();
    let drivers =
        [(Driver::typescript(), names("typescript", TYPESCRIPT)), (Driver::python(), names("python", PYTHON))];
    for (driver, names) in &drivers {
        // Some with a credential, some without.
        driver.connect_all(names, &url, |name| name.ends_with(['0', '2', '4']).then(|| format!("token-of-{name}")));
    }
    let clients: Vec<_> =
        drivers.iter().flat_map(|(driver, names)| names.iter().map(|name| driver.client(name))).collect();
    let held: Vec<_> = clients.iter().map(|client| client.begin("hold", &format!("{}-held", client.name))).collect();
    for call in 0..CALLS {
        let token = |name: &str| format!("{name}-{call}");
        let begun: Vec<_> =
            clients.iter().map(|client| (client.name, client.begin("count", &token(client.name)))).collect();
        for (name, call) in begun {
            assert_eq!(call.outcome(), Outcome::Text(format!("counted {}", token(name))));
        }
    }
    for client in &clients {
        assert!(client.tools().contains(&"count".to_owned()), "{}", client.name);
        let slow = client.begin_with("count", &json!({"token": format!("{}-slow", client.name), "ms": 300}));
        assert_eq!(slow.outcome(), Outcome::Text(format!("counted {}-slow", client.name)));
    }
    for client in &clients {
        stage.server.await_entry(&format!("run {}-held", client.name), seconds(10));
    }
    stage.server.tell("release");
    for (client, held) in clients.iter().zip(held) {
        assert_eq!(held.outcome(), Outcome::Text(format!("held {}-held", client.name)));
    }
    for (driver, _) in &drivers {
        let ledger = driver.ledger();
        ledger.assert_kept(&stage.server);
        assert!(ledger.requests().all(|request| request.posted == 202), "{ledger:?}");
        assert!(ledger.clients.values().all(|account| account.gets == [200]), "everybody had one stream: {ledger:?}");
    }
    assert_posts_were_spread(&stage);
}

/// That it was worth testing: each replica held sessions, got POSTs of the others', and handed them on.
fn assert_posts_were_spread(stage: &Stage) {
    let posts = stage.posts();
    let least = (TYPESCRIPT + PYTHON) * CALLS / 6;
    assert!(posts.iter().all(|posts| *posts > least), "{posts:?}");
    let mut handed = 0.0;
    for replica in &stage.replicas {
        assert!(replica.sessions() > 0);
        let answered = replica.metric("sse_sunset_fleet_calls_total{outcome=\"answered\"}");
        assert!(answered > 0.0);
        handed += answered;
        for outcome in ["gone", "unreachable", "unanswered"] {
            assert!(
                replica.metric(&format!("sse_sunset_fleet_calls_total{{outcome=\"{outcome}\"}}")) < 1.0,
                "{outcome}"
            );
        }
    }
    let all: usize = posts.iter().sum();
    assert!(handed > f64::from(u32::try_from(all).expect("a count")) / 5.0, "{handed} of {all} were handed on");
}

#[test]
fn every_call_works_though_each_post_lands_on_any_replica() {
    assert_every_call_works(Choice::Random);
}

#[test]
fn every_call_works_though_posts_go_to_the_replicas_in_turn() {
    assert_every_call_works(Choice::InTurn);
}
