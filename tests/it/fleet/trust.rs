//! Ids and envelopes that nobody of the fleet has sealed, or for another place, or before.

use std::time::Instant;

use bytes::Bytes;
use sse_sunset::fleet::{Called, Whose};

use super::member::{KEY, Member, NEW_KEY, on_board};
use crate::support::redis::Redis;

fn with_keys(redis: &Redis, keys: &[&str]) -> Member {
    use futures_util::FutureExt as _;
    Member::with(&redis.url(), keys, |request| async { request }.boxed())
}

async fn tells(member: &Member, reason: &str) {
    member.until(reason, |member| member.refused().iter().any(|refused| refused == reason)).await;
}

/// Publishes what an attacker has who can write to Redis.
fn publish(redis: &Redis, channel: &str, bytes: &[u8]) {
    let client = redis::Client::open(redis.url()).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    redis::cmd("PUBLISH").arg(channel).arg(bytes).exec(&mut connection).expect("published");
}

/// What is published on a channel from now on.
fn listen(redis: &Redis, channel: &str) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (publish, published) = std::sync::mpsc::channel();
    let (subscribe, subscribed) = std::sync::mpsc::channel();
    let (url, channel) = (redis.url(), channel.to_owned());
    std::thread::spawn(move || {
        let client = redis::Client::open(url).expect("a client");
        let mut connection = client.get_connection().expect("a connection");
        let mut ear = connection.as_pubsub();
        ear.subscribe(channel).expect("subscribed");
        subscribe.send(()).expect("somebody waits");
        while let Ok(message) = ear.get_message() {
            let _ = publish.send(message.get_payload_bytes().to_vec());
        }
    });
    subscribed.recv().expect("subscribed");
    published
}

#[tokio::test]
async fn ids_of_others_are_nobodys_and_the_log_says_so() {
    let (redis, begun) = (Redis::start(), Instant::now());
    let member = Member::echo(&redis);
    let foreign = with_keys(&redis, &[NEW_KEY]);
    let mut forged = member.fleet.new_id().into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    assert_eq!(member.fleet.whose(&forged), Whose::Nobody);
    tells(&member, "forged_id").await;
    assert_eq!(member.fleet.whose(&foreign.fleet.new_id()), Whose::Nobody);
    tells(&member, "foreign_id").await;
    for _ in 0..1_000 {
        assert_eq!(member.fleet.whose(&forged), Whose::Nobody);
    }
    assert_eq!(member.number("sse_sunset_fleet_refused_total{reason=\"forged_id\"}"), 1_001);
    let most = 1 + begun.elapsed().as_secs() / 10;
    let told = member.refused().iter().filter(|reason| *reason == "forged_id").count();
    assert!(told as u64 <= most, "the log is not driven up: {told}");
}

#[tokio::test]
async fn envelopes_are_good_for_one_place_and_once() {
    let redis = Redis::start();
    let (asker, owner, other) = (Member::echo(&redis), Member::echo(&redis), Member::echo(&redis));
    for member in [&asker, &owner, &other] {
        member.ready(2).await;
    }
    let calls = |member: &Member| format!("{{test}}:call:{}", member.boot);
    let published = listen(&redis, &calls(&owner));
    assert_eq!(asker.call(&owner, b"credential").await, Called::Answered(Bytes::from_static(b"credential")));
    let envelope = loop {
        let heard = published.recv().expect("published");
        // Others are the owner's calls to itself.
        if heard[0] != 0 {
            break heard;
        }
    };
    assert!(!envelope.windows(10).any(|part| part == b"credential"), "it is sealed as a whole");
    publish(&redis, &calls(&owner), &envelope);
    tells(&owner, "replayed_envelope").await;
    for elsewhere in [calls(&other), "{test}:all".to_owned(), format!("{{test}}:answer:{}", other.boot)] {
        publish(&redis, &elsewhere, &envelope);
    }
    other
        .until("all three are counted", |other| {
            other.number("sse_sunset_fleet_refused_total{reason=\"forged_envelope\"}") >= 3
        })
        .await;
    tells(&other, "forged_envelope").await;
    let mut changed = envelope.clone();
    changed[40] ^= 1;
    publish(&redis, &calls(&owner), &changed);
    tells(&owner, "forged_envelope").await;
    assert_eq!(owner.ear.asked.lock().expect("no panic").len(), 1);
    assert!(other.ear.asked.lock().expect("no panic").is_empty());
    // Its time is over.
    owner
        .until("it has expired", |owner| {
            publish(&redis, &calls(owner), &envelope);
            owner.number("sse_sunset_fleet_refused_total{reason=\"expired_envelope\"}") > 0
        })
        .await;
    tells(&owner, "expired_envelope").await;
    let foreign = with_keys(&redis, &[NEW_KEY]);
    foreign.until("it is connected", |foreign| foreign.number("sse_sunset_fleet_connected") > 0).await;
    assert_ne!(foreign.call(&owner, b"x").await, Called::Answered(Bytes::from_static(b"x")));
    tells(&owner, "foreign_envelope").await;
    assert_eq!(owner.ear.asked.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn replica_without_the_key_is_told_of_by_all() {
    let redis = Redis::start();
    let (member, foreign) = (Member::echo(&redis), with_keys(&redis, &[NEW_KEY]));
    for one in [&member, &foreign] {
        one.until("it says so", |one| one.fleet.degraded().iter().any(|text| text.contains("keys are not known")))
            .await;
        assert!(one.fleet.peers().is_empty());
    }
}

#[tokio::test]
async fn keys_are_rotated_in_any_order_without_an_id_that_leads_nowhere() {
    let redis = Redis::start();
    let (one, other) = (Member::echo(&redis), Member::echo(&redis));
    one.ready(1).await;
    other.ready(1).await;
    let works = async |old_ids: &[(&Member, String)]| {
        for (asker, owner) in [(&one, &other), (&other, &one)] {
            assert_eq!(asker.fleet.whose(&owner.fleet.new_id()), Whose::Of(owner.boot));
            assert!(matches!(asker.call(owner, b"x").await, Called::Answered(_)));
        }
        for (owner, id) in old_ids {
            let asker = if owner.boot == one.boot { &other } else { &one };
            assert_eq!(asker.fleet.whose(id), Whose::Of(owner.boot));
        }
    };
    let version = one.fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("put");
    let old = [(&one, one.fleet.new_id()), (&other, other.fleet.new_id())];
    works(&old).await;
    one.set_keys(&[NEW_KEY, KEY]);
    works(&old).await;
    assert_eq!(one.fleet.key_of(&one.fleet.new_id()), one.fleet.key_of(&old[0].1), "the other has the old one only");
    other.set_keys(&[NEW_KEY, KEY]);
    for member in [&one, &other] {
        member
            .until("both have it", |member| {
                member.fleet.key_of(&member.fleet.new_id()) != member.fleet.key_of(&old[0].1)
            })
            .await;
    }
    works(&old).await;
    // What stands on the board does not stay behind under the old key.
    on_board(&one.fleet, |board| board.get("agreed").is_some_and(|entry| entry.version != version)).await;
    for member in [&one, &other] {
        member.until("nothing is left", |member| member.fleet.status()["under_other_keys"] == 0).await;
    }
    one.set_keys(&[NEW_KEY]);
    other.set_keys(&[NEW_KEY]);
    works(&[]).await;
    let late = with_keys(&redis, &[NEW_KEY]);
    on_board(&late.fleet, |board| board.get("agreed").is_some_and(|entry| entry.bytes == "1")).await;
    assert_eq!(other.fleet.whose(&old[0].1), Whose::Nobody, "it should have been kept as long as its sessions");
}

#[tokio::test]
async fn replica_whose_keys_are_mended_has_all_that_it_could_not_read() {
    let redis = Redis::start();
    let one = with_keys(&redis, &[NEW_KEY]);
    one.ready(0).await;
    one.fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("put");
    let behind = with_keys(&redis, &[KEY]);
    tells(&behind, "foreign_envelope").await;
    assert!(!behind.fleet.board().borrow().is_read(), "what it cannot open may be what all have agreed on");
    behind.set_keys(&[NEW_KEY, KEY]);
    on_board(&behind.fleet, |board| board.is_read() && board.get("agreed").is_some_and(|entry| entry.bytes == "1"))
        .await;
    behind.ready(1).await;
}

#[tokio::test]
async fn entries_that_are_put_back_by_somebody_else_are_not_taken() {
    let redis = Redis::start();
    let (one, other) = (Member::echo(&redis), Member::echo(&redis));
    one.ready(1).await;
    other.ready(1).await;
    let client = redis::Client::open(redis.url()).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let first = one.fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("put");
    let old: Vec<u8> = redis::cmd("GET").arg("{test}:board:agreed").query(&mut connection).expect("an entry");
    let second = one.fleet.replace("agreed", Some(first), Bytes::from_static(b"2")).await.expect("put");
    on_board(&other.fleet, |board| board.get("agreed").is_some_and(|entry| entry.version == second)).await;
    redis::cmd("SET").arg("{test}:board:agreed").arg(old).exec(&mut connection).expect("set");
    redis::cmd("HSET").arg("{test}:board").arg("agreed").arg(second + 1).exec(&mut connection).expect("set");
    // Whoever sees it first puts it right, and the other sees nothing of it.
    one.until("one of them says so", |one| {
        [one, &other].iter().any(|member| member.refused().iter().any(|reason| reason == "replayed_envelope"))
    })
    .await;
    assert_eq!(other.fleet.board().borrow().get("agreed").expect("an entry").bytes, "2");
    // As after a Redis that came back from a copy of its past: whoever knows better says so.
    let late = Member::echo(&redis);
    on_board(&late.fleet, |board| board.get("agreed").is_some_and(|entry| entry.bytes == "2")).await;
    redis::cmd("SET").arg("{test}:board:agreed").arg("nonsense").exec(&mut connection).expect("set");
    redis::cmd("HSET").arg("{test}:board").arg("agreed").arg("1").arg("x").arg("y").exec(&mut connection).expect("set");
    let later = Member::echo(&redis);
    on_board(&later.fleet, |board| board.get("agreed").is_some_and(|entry| entry.bytes == "2")).await;
}
