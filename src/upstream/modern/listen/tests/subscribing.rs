//! Subscriptions to resources: one stream gives way to another.

use super::*;

#[tokio::test(start_paused = true)]
async fn subscription_opens_the_new_stream_before_the_old_is_closed() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let mut changes = member.changes();
    let old = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "file:///a");
    let asked = stage.asked().await;
    assert_eq!(asked.filter(), json!({ "toolsListChanged": true, "resourceSubscriptions": ["file:///a"] }));
    quiet().await;
    assert!(!old.is_closed() && !subscribed.is_finished());
    old.say("notifications/tools/list_changed", json!({})).await;
    assert_eq!(heard(&mut changes).await, [TOOLS_CHANGED], "the old one is still read");

    let new = asked.honour().await;
    subscribed.await.expect("no panic").expect("honoured");
    quiet().await;
    assert!(old.is_closed() && !new.is_closed());
    assert_eq!(heard(&mut changes).await, [""; 0], "nothing was missed, so nothing is made up");
    new.updated("file:///a").await;
    assert_eq!(heard(&mut changes).await, [updated("file:///a")]);
}

#[tokio::test(start_paused = true)]
async fn resource_that_is_wanted_back_while_a_stream_without_it_opens_is_heard_all_the_time() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let mut changes = member.changes();
    let _first = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "a:1");
    let old = stage.asked().await.honour().await;
    subscribed.await.expect("no panic").expect("honoured");

    member.unsubscribe("a:1");
    let without = stage.asked().await;
    assert_eq!(without.filter(), json!({ "toolsListChanged": true }));
    member.subscribe("a:1").await.expect("the old stream speaks of it");
    let without = without.honour().await;
    quiet().await;
    assert!(!old.is_closed() && without.is_closed());
    old.updated("a:1").await;
    assert_eq!(heard(&mut changes).await, [updated("a:1")]);
    assert_eq!(stage.asked_again().await, 0, "the old stream has it all");
}

#[tokio::test(start_paused = true)]
async fn what_the_old_stream_brought_before_the_new_one_is_not_lost() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let old = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "file:///a");
    let asked = stage.asked().await;
    // Both are there when the keeper gets its next turn.
    let new = asked.honour().await;
    old.say("notifications/tools/list_changed", json!({})).await;
    subscribed.await.expect("no panic").expect("honoured");
    assert_eq!(heard(&mut member.changes()).await, [TOOLS_CHANGED]);
    drop(new);
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_while_one_is_made_go_together() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let _old = stage.asked().await.honour().await;
    let first = subscribing(&stage, &member, "a:1");
    let asked = stage.asked().await;
    let others = [subscribing(&stage, &member, "a:2"), subscribing(&stage, &member, "a:3")];
    assert_eq!(stage.asked_again().await, 0, "one at a time");
    let _second = asked.honour().await;
    first.await.expect("no panic").expect("honoured");
    let asked = stage.asked().await;
    assert_eq!(asked.filter()["resourceSubscriptions"], json!(["a:1", "a:2", "a:3"]));
    let _third = asked.honour().await;
    for other in others {
        other.await.expect("no panic").expect("honoured");
    }
    assert_eq!(stage.asked_again().await, 0);
}

#[tokio::test(start_paused = true)]
async fn subscription_that_is_not_honoured_is_method_not_found_and_goes_on_without() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let _old = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "a:1");
    let stream = stage.asked().await.acknowledge(json!({ "toolsListChanged": true })).await;
    let error = subscribed.await.expect("no panic").expect_err("not honoured");
    assert_eq!((error.code, &error.data["reason"]), (code::METHOD_NOT_FOUND, &json!("subscription_not_honoured")));
    assert!(!stream.is_closed());
    let error = member.subscribe("a:1").await.expect_err("known");
    assert_eq!(error.code, code::METHOD_NOT_FOUND);
    assert_eq!(stage.asked_again().await, 0, "the same is not asked twice within a minute");

    sleep(Duration::from_secs(61)).await;
    let again = subscribing(&stage, &member, "a:1");
    let _now = stage.asked().await.honour().await;
    again.await.expect("no panic").expect("honoured by now");
}

#[tokio::test(start_paused = true)]
async fn subscription_at_capacity_says_so_and_the_old_stream_goes_on() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let old = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "a:1");
    let full = r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32603,"message":"Subscription limit reached"}}"#;
    stage.asked().await.json(200, full);
    let error = subscribed.await.expect("no panic").expect_err("full");
    assert_eq!((error.code, &error.data["reason"]), (code::INTERNAL_ERROR, &json!("subscription_limit")));
    assert!(error.message.contains("Subscription limit reached"), "{}", error.message);
    old.say("notifications/tools/list_changed", json!({})).await;
    assert_eq!(heard(&mut member.changes()).await, [TOOLS_CHANGED]);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.asked_again().await, 0, "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn subscription_given_up_leaves_no_trace() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let _old = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "a:1");
    let asked = stage.asked().await;
    subscribed.abort();
    assert!(subscribed.await.expect_err("given up").is_cancelled());
    let _wide = asked.honour().await;
    let asked = stage.asked().await;
    assert_eq!(asked.filter(), json!({ "toolsListChanged": true }));
}

#[tokio::test(start_paused = true)]
async fn subscription_of_an_endless_uri_or_one_too_many_is_refused_here() {
    let mut stage = Stage::set();
    let member = stage.join(NONE);
    let error = member.subscribe(&"a".repeat(8193)).await.expect_err("too long");
    assert_eq!(error.code, code::INVALID_PARAMS);
    let waiting: Vec<_> = (0..1024).map(|at| subscribing(&stage, &member, &format!("a:{at}"))).collect();
    quiet().await;
    let error = member.subscribe("a:more").await.expect_err("too many");
    assert_eq!(error.data["reason"], "too_many_subscriptions");
    let _stream = stage.asked().await.honour().await;
    quiet().await;
    drop(member);
    for one in waiting {
        assert!(one.is_finished(), "each is settled one way or the other");
    }
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_shrinks_the_stream_and_with_nothing_left_closes_it() {
    let mut stage = Stage::set();
    let member = stage.join(NONE);
    assert_eq!(member.opened().await, Opened::NothingHonoured);
    let both = [subscribing(&stage, &member, "a:1"), subscribing(&stage, &member, "a:2")];
    let wide = stage.asked().await.honour().await;
    for one in both {
        one.await.expect("no panic").expect("honoured");
    }
    wide.updated("a:1").await;
    quiet().await;
    member.unsubscribe("a:1");
    let asked = stage.asked().await;
    assert_eq!(asked.filter(), json!({ "resourceSubscriptions": ["a:2"] }));
    assert_eq!(heard(&mut member.changes()).await, [""; 0], "it wants no news of it any more");
    let narrow = asked.honour().await;
    quiet().await;
    assert!(wide.is_closed());
    member.unsubscribe("a:2");
    quiet().await;
    assert!(narrow.is_closed());
    assert_eq!(stage.asked_again().await, 0);
}
