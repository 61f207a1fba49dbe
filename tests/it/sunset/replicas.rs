//! Replicas on one Redis: what one of them is told holds at all, also after Redis was away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Stage, done, greet, set, stands, status, use_once};
use crate::support::redis::Redis;
use crate::support::{Proxy, http_client, within};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn replica(stage: &Stage, redis: &Redis, name: &str) -> Proxy {
    stage.proxy(&[("fleet", &redis.url()), ("fleet-key", KEY), ("instance", name)])
}

async fn readiness(proxy: &Proxy) -> Value {
    let answer = within("readiness", http_client().get(proxy.admin_url("/readyz")).send()).await.expect("an answer");
    serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
}

/// Waits until all see one another.
async fn together(replicas: &[&Proxy]) {
    for replica in replicas {
        stands(replica, |status| status["fleet"]["replicas"].as_array().is_some_and(|all| all.len() == replicas.len()))
            .await;
    }
}

#[tokio::test]
async fn pause_holds_at_every_replica_within_a_second() {
    let (stage, redis) = (Stage::new().await, Redis::start());
    let [a, b, c] = ["a", "b", "c"].map(|name| replica(&stage, &redis, name));
    together(&[&a, &b, &c]).await;
    let told = set(&a, "tombstone").await;
    assert_eq!((&told["fleet"]["shared"], &told["fleet"]["unshared"]), (&json!(true), &Value::Null));
    for replica in [&b, &c] {
        stands(replica, |status| status["phase"] == "tombstone").await;
        assert!(greet(&mut replica.client().await, "x").await.get("error").is_some());
    }
    done(&b, json!({"action": "pause", "why": "incident 7"})).await;
    let since = Instant::now();
    for replica in [&a, &c] {
        stands(replica, |status| status["paused"]["why"] == "incident 7").await;
    }
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(greet(&mut c.client().await, "x").await.get("result").is_some());
    for proxy in [a, b, c] {
        proxy.stop().await;
    }
}

#[tokio::test]
async fn first_client_waits_a_second_for_what_the_others_agreed_on_and_no_longer() {
    let stage = Stage::new().await;
    // Takes connections, and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("redis://{}", mute.local_addr().expect("an address"));
    let since = Instant::now();
    let proxy = stage.proxy(&[("fleet", &url), ("fleet-key", KEY), ("instance", "a")]);
    assert!(greet(&mut proxy.client().await, "x").await.get("result").is_some());
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    proxy.stop().await;
}

#[tokio::test]
async fn pause_without_redis_holds_here_and_everywhere_when_it_is_back() {
    let (stage, mut redis) = (Stage::new().await, Redis::start());
    let [a, b] = ["a", "b"].map(|name| replica(&stage, &redis, name));
    together(&[&a, &b]).await;
    set(&a, "tombstone").await;
    stands(&b, |status| status["phase"] == "tombstone").await;
    redis.stop();
    let paused = done(&b, json!({"action": "pause", "why": "incident 7"})).await;
    assert_eq!((&paused["phase"], &paused["fleet"]["shared"]), (&json!("announce"), &json!(false)));
    let degraded = readiness(&b).await["degraded"].to_string();
    assert!(degraded.contains("the other replicas do not know what holds here"), "{degraded}");
    assert_eq!(status(&a).await["phase"], "tombstone");
    redis.restart();
    stands(&a, |status| status["paused"]["why"] == "incident 7").await;
    stands(&b, |status| status["fleet"]["shared"] == true).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn freeze_without_a_state_directory_knows_whom_the_others_have_seen() {
    let (stage, redis) = (Stage::new().await, Redis::start());
    let [a, b] = ["a", "b"].map(|name| replica(&stage, &redis, name));
    together(&[&a, &b]).await;
    use_once(&a, "old-hand").await;
    set(&b, "freeze").await;
    for replica in [&a, &b] {
        stands(replica, |status| status["frozen"]["seen"].is_u64()).await;
        assert!(greet(&mut replica.client().await, "old-hand").await.get("result").is_some());
        assert!(greet(&mut replica.client().await, "newcomer").await.get("error").is_some());
    }
    a.stop().await;
    b.stop().await;
}
