//! Who shares a stream, and what each of them hears.

use super::*;

#[tokio::test(start_paused = true)]
async fn sessions_of_one_credential_share_a_stream_and_others_do_not() {
    let mut stage = Stage::set();
    let first = stage.join(ALL);
    let asked = stage.asked().await;
    assert_eq!(asked.exchange.headers[header::AUTHORIZATION], "Bearer a");
    assert_eq!(asked.exchange.headers["mcp-method"], "subscriptions/listen");
    let stream = asked.honour().await;
    assert_eq!(first.opened().await, Opened::Listening);

    let mut on_another_way = credential("a");
    on_another_way.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    let second = stage.hub.join(&on_another_way, TOOLS);
    assert_eq!(second.opened().await, Opened::Listening);
    assert_eq!(stage.asked_again().await, 0, "the stream speaks of it already");

    let other = stage.hub.join(&credential("b"), TOOLS);
    let asked = stage.asked().await;
    assert_eq!(asked.exchange.headers[header::AUTHORIZATION], "Bearer b");
    let others = asked.honour().await;
    quiet().await;
    stream.say("notifications/tools/list_changed", json!({})).await;
    assert_eq!(heard(&mut first.changes()).await, [TOOLS_CHANGED]);
    assert_eq!(heard(&mut second.changes()).await, [TOOLS_CHANGED]);
    assert_eq!(heard(&mut other.changes()).await, [""; 0], "not under its credential");
    drop((stream, others));
}

#[tokio::test(start_paused = true)]
async fn member_hears_only_what_it_asked_for() {
    let mut stage = Stage::set();
    let (all, tools) = (stage.join(ALL), stage.join(TOOLS));
    let _first = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &tools, "file:///a");
    let stream = stage.asked().await.honour().await;
    subscribed.await.expect("no panic").expect("honoured");

    for list in ["tools", "prompts", "resources"] {
        stream.say(&format!("notifications/{list}/list_changed"), json!({})).await;
    }
    for uri in ["file:///a", "file:///a/b", "file:///b"] {
        stream.updated(uri).await;
        let expected = if uri == "file:///b" { vec![] } else { vec![updated(uri)] };
        let of_uri = heard(&mut tools.changes()).await.into_iter().filter(|text| text.contains("file:"));
        assert_eq!(of_uri.collect::<Vec<_>>(), expected);
    }
    let lists = heard(&mut all.changes()).await;
    assert_eq!(lists.len(), 3, "{lists:?}");
    assert!(lists.iter().all(|text| text.contains("list_changed")), "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_member_is_owed_one_of_each_and_holds_up_nobody() {
    let mut stage = Stage::set();
    let (slow, quick) = (stage.join(TOOLS), stage.join(TOOLS));
    let stream = stage.asked().await.honour().await;
    let mut changes = quick.changes();
    for _ in 0..1000 {
        stream.say("notifications/tools/list_changed", json!({})).await;
        assert_eq!(heard(&mut changes).await, [TOOLS_CHANGED]);
    }
    assert_eq!(heard(&mut slow.changes()).await, [TOOLS_CHANGED]);
}

#[tokio::test(start_paused = true)]
async fn news_of_two_parts_that_wait_become_news_of_the_whole() {
    let mut stage = Stage::set();
    let member = stage.join(NONE);
    let subscribed = subscribing(&stage, &member, "file:///a");
    let stream = stage.asked().await.honour().await;
    subscribed.await.expect("no panic").expect("honoured");
    stream.updated("file:///a/1").await;
    stream.updated("file:///a/2").await;
    assert_eq!(heard(&mut member.changes()).await, [updated("file:///a")]);
}

#[tokio::test(start_paused = true)]
async fn session_that_joins_again_keeps_what_it_wants_and_is_told_of_the_gap() {
    let mut stage = Stage::set();
    let old = stage.join(TOOLS);
    let narrow = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &old, "a:1");
    let wide = stage.asked().await.honour().await;
    subscribed.await.expect("no panic").expect("honoured");
    drop((narrow, wide));
    stage.asked().await.json(401, "{}");
    assert!(matches!(old.changes().next().await, Some(Change::Rejected(_))));

    let renewed = credential("renewed");
    let bystander = stage.hub.join(&renewed, TOOLS);
    let _narrow = stage.asked().await.honour().await;
    assert_eq!(bystander.opened().await, Opened::Listening);
    let member = stage.hub.rejoin(&renewed, &old);
    let mut changes = member.changes();
    assert_eq!(heard(&mut changes).await, [TOOLS_CHANGED], "at once, where a stream speaks of it");
    let asked = stage.asked().await;
    assert_eq!(asked.filter(), json!({ "toolsListChanged": true, "resourceSubscriptions": ["a:1"] }));
    let _wide = asked.honour().await;
    assert_eq!(heard(&mut changes).await, [updated("a:1")], "and when one does");
    assert_eq!(heard(&mut bystander.changes()).await, [""; 0], "it missed nothing");
}

#[tokio::test(start_paused = true)]
async fn keeper_ends_with_its_last_member_wherever_it_is() {
    for phase in ["asking", "open", "waiting", "refused"] {
        let mut stage = Stage::set();
        let (first, second) = (stage.join(TOOLS), stage.join(TOOLS));
        let mut changes = first.changes();
        let asked = stage.asked().await;
        let mut held = None;
        match phase {
            "asking" => held = Some(Err(asked)),
            "open" => held = Some(Ok(asked.honour().await)),
            "waiting" => asked.json(503, "busy"),
            _ => asked.json(404, UNKNOWN_METHOD),
        }
        quiet().await;
        drop(first);
        quiet().await;
        assert_eq!(changes.next().await, None, "{phase}: it has left");
        assert_eq!(stage.tasks.running(), 1, "{phase}");
        drop(second);
        stage.tasks.ended().await;
        match held {
            Some(Ok(stream)) => assert!(stream.is_closed()),
            Some(Err(asked)) => assert!(asked.answer.is_closed()),
            None => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn session_that_comes_as_the_last_one_leaves_takes_the_stream_over() {
    let mut stage = Stage::set();
    let first = stage.join(TOOLS);
    let stream = stage.asked().await.honour().await;
    assert_eq!(first.opened().await, Opened::Listening);
    drop(first);
    let second = stage.join(TOOLS);
    assert_eq!(second.opened().await, Opened::Listening);
    stream.say("notifications/tools/list_changed", json!({})).await;
    assert_eq!(heard(&mut second.changes()).await, [TOOLS_CHANGED]);
    assert_eq!(stage.asked_again().await, 0);

    drop(second);
    quiet().await;
    assert!(stream.is_closed());
    let third = stage.join(TOOLS);
    let _fresh = stage.asked().await.honour().await;
    assert_eq!(third.opened().await, Opened::Listening);
}
