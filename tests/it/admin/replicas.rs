//! What operators are told by each of several replicas: the same story, also after Redis lost it and after a restart.

use serde_json::{Value, json};

use super::{JSON, get, json_of, start};
use crate::support::redis::Redis;
use crate::support::{FakeUpstream, Proxy, within};

async fn use_once(proxy: &Proxy, text: &str) {
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": text})).await;
    client.answer(1).await;
}

fn replica(upstream: &FakeUpstream, redis: &Redis, instance: &str) -> Proxy {
    let key = "5a".repeat(32);
    start(upstream, &[("fleet", &redis.url()), ("fleet-key", &key), ("instance", instance)])
}

/// Waits until the report of `proxy` tells of `uses`, and gives it.
async fn report_of(proxy: &Proxy, uses: u64) -> Value {
    within("what all replicas know", async {
        loop {
            let report = json_of(get(proxy, "/report.json").await).await;
            if report["totals"]["uses"] == uses {
                return report;
            }
        }
    })
    .await
}

#[tokio::test]
async fn replicas_tell_of_the_clients_of_all_and_remember_them_over_a_restart_and_a_flush() {
    let upstream = FakeUpstream::start(JSON).await;
    let redis = Redis::start();
    let (a, b) = (replica(&upstream, &redis, "a"), replica(&upstream, &redis, "b"));
    use_once(&a, "x").await;
    use_once(&b, "y").await;
    let [one, other] = [report_of(&a, 2).await, report_of(&b, 2).await];
    assert_eq!((&one["verdict"], &other["verdict"]), (&json!("not_yet"), &json!("not_yet")));
    for report in [one, other] {
        let replicas = report["coverage"]["replicas"].as_array().expect("replicas");
        let names: Vec<&Value> = replicas.iter().map(|replica| &replica["instance"]).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(report["coverage"]["missing_records"], 0, "{report}");
    }
    redis.command(&["FLUSHALL"]);
    use_once(&b, "z").await;
    report_of(&a, 3).await;
    // Without a state directory: what it knew comes back from the others by Redis.
    a.stop().await;
    within("its last word", async {
        while report_of(&b, 3).await["coverage"]["replicas"][0]["is_running"] != false {}
    })
    .await;
    let again = replica(&upstream, &redis, "a");
    report_of(&again, 3).await;
    within("one client is one client everywhere", async {
        loop {
            use_once(&b, "u").await;
            use_once(&again, "u").await;
            if address(&b) == address(&again) {
                return;
            }
        }
    })
    .await;
    again.stop().await;
    b.stop().await;
}

/// The pseudonym of the address that the last client came from.
fn address(proxy: &Proxy) -> Value {
    let log = proxy.log();
    let last = log.iter().rfind(|record| record["event.name"] == "legacy.connect").expect("a client");
    last["client.address"].clone()
}
