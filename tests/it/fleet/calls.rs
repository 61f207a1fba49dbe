//! Calls from one process to another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use sse_sunset::fleet::{Called, Fault, PATIENCE as LONGEST, Whose};
use tokio::sync::Semaphore;

use super::member::{KEY, Member};
use crate::support::redis::Redis;

/// What a wait for at most [`LONGEST`] may take on a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);

async fn three(redis: &Redis) -> [Member; 3] {
    let members = [Member::echo(redis), Member::echo(redis), Member::echo(redis)];
    for member in &members {
        member.ready(2).await;
    }
    members
}

#[tokio::test]
async fn id_leads_to_its_owner_from_everywhere_and_the_call_comes_back() {
    let redis = Redis::start();
    let members = three(&redis).await;
    for owner in &members {
        let id = owner.fleet.new_id();
        for asker in members.iter().filter(|asker| asker.boot != owner.boot) {
            assert_eq!(asker.fleet.whose(&id), Whose::Of(owner.boot));
            assert_eq!(asker.call(owner, b"hello").await, Called::Answered(Bytes::from_static(b"hello")));
        }
        assert_eq!(owner.ear.asked.lock().expect("no panic").len(), 2, "each once");
    }
    assert_eq!(members[0].number("sse_sunset_fleet_calls_total{outcome=\"answered\"}"), 2);
    assert_eq!(members[0].number("sse_sunset_fleet_peers"), 2);
}

#[tokio::test]
async fn large_calls_and_many_at_once_arrive_as_they_were_sent() {
    let redis = Redis::start();
    let [asker, owner, _] = three(&redis).await;
    let large = Bytes::from(vec![7; 4 << 20]);
    let answer = asker.fleet.call(owner.boot, large.clone()).await;
    assert!(answer == Called::Answered(large), "4 MiB by itself");
    // More than Redis holds for a subscriber at once.
    let texts: Vec<Bytes> = (0_u8..20).map(|number| vec![number; 2 << 20].into()).collect();
    let calls = texts.iter().map(|text| asker.fleet.call(owner.boot, text.clone()));
    for (answer, text) in join_all(calls).await.into_iter().zip(&texts) {
        // One that found no room in time was not sent, and a slow machine may have come too late with another.
        assert!(!matches!(&answer, Called::Gone), "{}", text[0]);
        assert!(!matches!(&answer, Called::Answered(other) if other != text), "{}", text[0]);
    }
    let small = (0..500_u32).map(|number| asker.fleet.call(owner.boot, number.to_be_bytes().to_vec().into()));
    for (answer, number) in join_all(small).await.into_iter().zip(0_u32..) {
        assert_eq!(answer, Called::Answered(number.to_be_bytes().to_vec().into()));
    }
    let arrived = owner.ear.asked.lock().expect("no panic").iter().filter(|request| request.len() == 4).count();
    assert_eq!(arrived, 500, "each once");
}

#[tokio::test]
async fn owner_that_takes_too_long_is_not_waited_for_and_not_asked_twice() {
    let redis = Redis::start();
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let owner = Member::with(&redis.url(), &[KEY], move |request| {
        let gate = Arc::clone(&closed);
        async move {
            let _open = gate.acquire().await;
            request
        }
        .boxed()
    });
    let asker = Member::echo(&redis);
    asker.ready(1).await;
    owner.ready(1).await;
    let begun = Instant::now();
    assert_eq!(asker.call(&owner, b"slow").await, Called::Unanswered);
    assert!(begun.elapsed() >= LONGEST && begun.elapsed() < LONGEST + SLACK, "{:?}", begun.elapsed());
    gate.add_permits(1_000);
    assert_eq!(asker.call(&owner, b"quick").await, Called::Answered(Bytes::from_static(b"quick")));
    assert_eq!(owner.ear.asked.lock().expect("no panic").len(), 2, "the second time of a call is not done");
    assert!(owner.refused().is_empty());
}

#[tokio::test]
async fn owner_that_left_is_gone_at_once_and_one_that_died_after_two_seconds_at_most() {
    let redis = Redis::start();
    let [asker, leaving, dying] = three(&redis).await;
    let id = leaving.fleet.new_id();
    leaving.fleet.leave().await;
    asker.until("it is known to have left", |asker| asker.fleet.peers().len() == 1).await;
    drop(leaving);
    let (left, dead) = (id, dying.boot);
    drop(dying);
    let begun = Instant::now();
    let called = asker.fleet.call(dead, Bytes::from_static(b"x")).await;
    // Redis has not known of the fleet for long enough to be sure.
    assert!(!matches!(called, Called::Answered(_)), "{called:?}");
    assert!(begun.elapsed() < LONGEST + SLACK, "{:?}", begun.elapsed());
    let Whose::Of(left) = asker.fleet.whose(&left) else { panic!("it was another's") };
    // As it is when the fleet is older than a word of presence.
    redis.command(&["SET", "{test}:since", "1"]);
    assert_eq!(asker.fleet.call(left, Bytes::from_static(b"x")).await, Called::Gone);
    asker.until("it is told", |asker| asker.refused().contains(&Fault::ExpiredId.name().to_owned())).await;
    let begun = Instant::now();
    assert_eq!(asker.fleet.call(dead, Bytes::from_static(b"x")).await, Called::Gone);
    assert!(begun.elapsed() < LONGEST + SLACK, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn word_reaches_all_others_and_not_its_speaker() {
    let redis = Redis::start();
    let members = three(&redis).await;
    members[0].fleet.tell(Bytes::from_static(b"word"));
    for other in &members[1..] {
        let mut heard = other.ear.heard.subscribe();
        heard.wait_for(|heard| heard == &[Bytes::from_static(b"word")]).await.expect("heard");
    }
    // What is published is heard in order: by now the speaker would have heard it.
    members[1].fleet.tell(Bytes::from_static(b"reply"));
    let mut heard = members[0].ear.heard.subscribe();
    heard.wait_for(|heard| !heard.is_empty()).await.expect("heard");
    assert_eq!(*members[0].ear.heard.borrow(), [Bytes::from_static(b"reply")]);
}

#[tokio::test]
async fn call_costs_redis_two_commands() {
    let redis = Redis::start();
    let [asker, owner, _] = three(&redis).await;
    let published = || {
        let line = redis.figure("commandstats", "cmdstat_publish");
        line.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).expect("a count")
    };
    let before = published();
    for _ in 0..100 {
        assert!(matches!(asker.call(&owner, b"x").await, Called::Answered(_)));
    }
    let calls = published() - before;
    // Each process calls itself every 5 s besides.
    assert!((200..=210).contains(&calls), "{calls}");
}
