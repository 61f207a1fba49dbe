//! Redis that is down, slow, emptied, full of other people's connections, or another one than before.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use sse_sunset::fleet::{Called, PATIENCE as LONGEST, Unshared};

use super::member::{KEY, Member, on_board};
use super::relay::Relay;
use crate::support::redis::{Redis, Setup, User};
use crate::support::tls::Authority;

/// The rights that docs/replicas.md names.
const RIGHTS: &str = "~{test}:* resetchannels &{test}:* -@all +@connection +publish +subscribe +get +mget +set \
                      +setnx +del +exists +zadd +zrem +zrevrange +zremrangebyscore +hget +hset +hdel +hgetall +eval +time";
/// What a wait for at most [`LONGEST`] may take on a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);

async fn two(redis: &Redis) -> [Member; 2] {
    let members = [Member::echo(redis), Member::echo(redis)];
    for member in &members {
        member.ready(1).await;
    }
    members
}

async fn works(asker: &Member, owner: &Member) {
    assert_eq!(asker.call(owner, b"hello").await, Called::Answered(Bytes::from_static(b"hello")));
}

/// Both can be called again, and nobody had to do anything.
async fn recovers([one, other]: &[Member; 2]) {
    one.ready(1).await;
    other.ready(1).await;
    works(one, other).await;
    works(other, one).await;
}

#[tokio::test]
async fn redis_that_is_down_is_said_and_taken_up_again() {
    let mut redis = Redis::start();
    let members = two(&redis).await;
    members[0].fleet.put("own/one", Bytes::from_static(b"1")).await.expect("put");
    let version = members[0].fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("put");
    on_board(&members[1].fleet, |board| board.get("agreed").is_some_and(|entry| entry.version == version)).await;
    redis.stop();
    let begun = Instant::now();
    let called = members[0].call(&members[1], b"x").await;
    assert!(matches!(called, Called::Unreachable | Called::Unanswered), "{called:?}");
    assert!(begun.elapsed() < LONGEST + SLACK, "{:?}", begun.elapsed());
    assert_eq!(members[0].call(&members[1], b"x").await, Called::Unreachable, "by now it is known");
    assert!(members[0].fleet.degraded().iter().any(|text| text.contains("Redis at")));
    assert_eq!(members[0].number("sse_sunset_fleet_connected"), 0);
    assert_eq!(members[0].fleet.put("own/one", Bytes::from_static(b"2")).await, Err(Unshared::Unreachable));
    assert_eq!(
        members[0].fleet.replace("agreed", Some(version), Bytes::from_static(b"2")).await,
        Err(Unshared::Unreachable)
    );
    redis.restart();
    recovers(&members).await;
    let late = Member::echo(&redis);
    on_board(&late.fleet, |board| {
        let is = |name, text: &'static str| board.get(name).is_some_and(|entry| entry.bytes == text);
        is("own/one", "2") && is("agreed", "1")
    })
    .await;
}

#[tokio::test]
async fn call_survives_a_redis_that_is_back_in_time() {
    let mut redis = Redis::start();
    let members = two(&redis).await;
    redis.stop();
    let (called, ()) = tokio::join!(members[0].call(&members[1], b"hello"), async { redis.restart() });
    // A machine may be too slow for that; what it may not do is to say that the owner is gone.
    assert!(!matches!(called, Called::Gone), "{called:?}");
    recovers(&members).await;
    let asked = members[1].ear.asked.lock().expect("no panic").len();
    assert!(asked <= 2, "at most once each");
}

#[tokio::test]
async fn redis_that_hangs_holds_nobody_up_for_long() {
    let redis = Redis::start();
    let members = two(&redis).await;
    redis.pause();
    let begun = Instant::now();
    let called = members[0].call(&members[1], b"x").await;
    assert!(matches!(called, Called::Unreachable | Called::Unanswered), "{called:?}");
    assert!(begun.elapsed() < LONGEST + SLACK, "{:?}", begun.elapsed());
    members[0].until("it is said", |member| !member.fleet.degraded().is_empty()).await;
    redis.resume();
    recovers(&members).await;
}

#[tokio::test]
async fn emptied_redis_has_everything_back_and_nobody_is_taken_for_gone() {
    let redis = Redis::start();
    let members = two(&redis).await;
    members[0].fleet.put("own/one", Bytes::from_static(b"1")).await.expect("put");
    members[1].fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("put");
    redis.command(&["SET", "{test}:since", "1"]);
    redis.command(&["FLUSHALL"]);
    works(&members[0], &members[1]).await;
    let unknown = "00000000000000ff".parse().expect("a boot");
    assert_eq!(members[0].fleet.call(unknown, Bytes::new()).await, Called::Unreachable, "who is missing may live");
    let late = Member::echo(&redis);
    on_board(&late.fleet, |board| board.get("own/one").is_some() && board.get("agreed").is_some()).await;
    late.ready(2).await;
}

#[tokio::test]
async fn connections_that_are_killed_are_made_again() {
    let redis = Redis::start();
    let members = two(&redis).await;
    for kind in ["pubsub", "normal", "all"] {
        assert!(redis.kill_clients(kind) > 0);
        recovers(&members).await;
    }
}

async fn two_by(redis: &Redis, relay: &Relay) -> [Member; 2] {
    let url = redis.url_by(relay.address());
    let member = || Member::with(&url, &[KEY], |request| async { request }.boxed());
    let members = [member(), member()];
    for member in &members {
        member.ready(1).await;
    }
    members
}

#[tokio::test]
async fn subscription_that_died_silently_is_found_out() {
    let redis = Redis::start();
    let relay = Relay::to(redis.address()).await;
    let members = two_by(&redis, &relay).await;
    relay.silence_subscriptions();
    // Nothing is closed: only who calls itself notices.
    for member in &members {
        member.until("it is found out", |member| !member.fleet.degraded().is_empty()).await;
    }
    recovers(&members).await;
}

#[tokio::test]
async fn replica_that_is_deaf_takes_nobody_for_gone() {
    let redis = Redis::start();
    let relay = Relay::to(redis.address()).await;
    let deaf = Member::with(&redis.url_by(relay.address()), &[KEY], |request| async { request }.boxed());
    let owner = Member::echo(&redis);
    deaf.ready(1).await;
    owner.ready(1).await;
    redis.command(&["SET", "{test}:since", "1"]);
    relay.silence_subscriptions();
    deaf.until("it is found out", |member| !member.fleet.degraded().is_empty()).await;
    relay.hold_subscriptions(true);
    let called = deaf.call(&owner, b"x").await;
    assert!(matches!(called, Called::Unreachable | Called::Unanswered), "{called:?}");
    relay.hold_subscriptions(false);
    recovers(&[deaf, owner]).await;
}

#[tokio::test]
async fn full_redis_is_said_and_costs_neither_connections_nor_calls() {
    let redis = Redis::start();
    let members = two(&redis).await;
    redis.command(&["SET", "{test}:since", "1"]);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let connections = || redis.figure("stats", "total_connections_received").parse::<u64>().expect("a count");
    let before = connections();
    assert_eq!(members[0].fleet.put("own/one", Bytes::from_static(b"1")).await, Err(Unshared::Unreachable));
    members[0].until("it is said", |member| member.fleet.degraded().iter().any(|text| text.contains("refuses"))).await;
    for _ in 0..20 {
        works(&members[0], &members[1]).await;
    }
    // Each look at Redis from here takes one.
    assert!(connections() - before < 10, "{}", connections() - before);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    on_board(&members[1].fleet, |board| board.get("own/one").is_some()).await;
}

#[tokio::test]
async fn word_of_a_replica_that_vanished_makes_what_is_missing_prove_nothing() {
    let redis = Redis::start();
    let members = two(&redis).await;
    redis.command(&["SET", "{test}:since", "1"]);
    let word = format!("{{test}}:here:{}", members[0].boot);
    redis.command(&["DEL", &word]);
    members[0].until("it says so again", |_| redis.text(&["GET", "{test}:since"]) != "1").await;
    let unknown = "00000000000000ff".parse().expect("a boot");
    assert_eq!(members[1].fleet.call(unknown, Bytes::new()).await, Called::Unreachable);
}

#[tokio::test]
async fn promoted_replica_is_gone_on_with() {
    let primary = Redis::start();
    let replica = primary.replica();
    let relay = Relay::to(primary.address()).await;
    let members = two_by(&primary, &relay).await;
    members[0].fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("put");
    relay.lead_to(replica.address());
    drop(primary);
    replica.promote();
    recovers(&members).await;
    let agreed = members[1].fleet.board();
    on_board(&members[1].fleet, |board| board.get("agreed").is_some_and(|entry| entry.bytes == "1")).await;
    let version = agreed.borrow().get("agreed").expect("an entry").version;
    let replaced = members[1].fleet.replace("agreed", Some(version), Bytes::from_static(b"2")).await;
    assert!(replaced.is_ok() || replaced == Err(Unshared::Conflict), "{replaced:?}");
}

#[tokio::test]
async fn tls_is_spoken_to_whoever_the_authority_vouches_for_and_to_nobody_else() {
    let authority = Authority::new();
    let setup = Setup { tls: Some(authority.identity("localhost").pem()), ..Setup::default() };
    let redis = Redis::start_with(setup);
    let url = redis.url().replace("127.0.0.1", "localhost");
    let member = Member::over_tls(&url, Some(authority.pem().into_bytes()));
    member.ready(0).await;
    let stranger = Member::over_tls(&url, Some(Authority::new().pem().into_bytes()));
    stranger
        .until("it says why", |stranger| stranger.fleet.degraded().iter().any(|text| text.contains("ertificate")))
        .await;
}

#[tokio::test]
async fn user_needs_the_rights_that_are_named_and_no_others() {
    let page = include_str!("../../../docs/replicas.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let named = RIGHTS.replace("{test}", "{sse-sunset}").replace("resetchannels ", "");
    assert!(page.contains(&named), "the page names others than {named}");
    let user = User { name: "sunset", password: "hunter2", rights: RIGHTS };
    let redis = Redis::start_with(Setup { user: Some(user), ..Setup::default() });
    let members = two(&redis).await;
    works(&members[0], &members[1]).await;
    members[0].fleet.put("own/one", Bytes::from_static(b"1")).await.expect("put");
    on_board(&members[1].fleet, |board| board.get("own/one").is_some()).await;
    members[1].fleet.leave().await;
    members[0].until("it left", |member| member.fleet.peers().is_empty()).await;
    let denied = redis.command(&["ACL", "LOG"]);
    assert_eq!(denied, redis::Value::Array(Vec::new()));
}
