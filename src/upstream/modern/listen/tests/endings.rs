//! How streams end or are refused, and what comes after.

use super::*;

#[tokio::test(start_paused = true)]
async fn server_without_listen_is_asked_once_a_minute_by_all_together() {
    let mut stage = Stage::set();
    let member = stage.join(ALL);
    stage.asked().await.json(404, UNKNOWN_METHOD);
    assert_eq!(member.opened().await, Opened::Unsupported);
    let error = member.subscribe("a:1").await.expect_err("unsupported");
    assert_eq!((error.code, &error.data["reason"]), (code::METHOD_NOT_FOUND, &json!("subscriptions_unsupported")));
    drop(member);
    for _ in 0..50 {
        assert_eq!(stage.join(TOOLS).opened().await, Opened::Unsupported);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stage.asked_again().await, 0, "the server has said so under this credential");

    let waits = stage.join(TOOLS);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.asked_again().await, 0, "time alone is no reason");
    let _later = stage.join(TOOLS);
    let _stream = stage.asked().await.honour().await;
    assert_eq!(waits.opened().await, Opened::Listening);
}

#[tokio::test(start_paused = true)]
async fn server_that_honours_nothing_is_not_asked_again_until_something_else_is_wanted() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let stream = stage.asked().await.acknowledge(json!({})).await;
    assert_eq!(member.opened().await, Opened::NothingHonoured);
    assert!(stream.is_closed(), "an empty stream is kept by nobody");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.asked_again().await, 0);
    let subscribed = subscribing(&stage, &member, "a:1");
    let asked = stage.asked().await;
    let _stream = asked.acknowledge(json!({ "resourceSubscriptions": ["a:1"] })).await;
    subscribed.await.expect("no panic").expect("honoured");
    assert_eq!(stage.asked_again().await, 0);
}

#[tokio::test(start_paused = true)]
async fn stream_that_ends_in_any_way_is_opened_again_and_the_gap_made_up() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let mut changes = member.changes();
    let _narrow = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "a:1");
    let mut stream = stage.asked().await.honour().await;
    subscribed.await.expect("no panic").expect("honoured");
    for how in ["end of file", "result", "cancelled", "broken"] {
        let id = stream.id.clone();
        match how {
            "result" => {
                stream.send(&json!({ "jsonrpc": "2.0", "id": id, "result": { "resultType": "complete" } })).await;
            }
            "cancelled" => stream.say("notifications/cancelled", json!({ "requestId": id })).await,
            "broken" => stream.body.send(Err(Fault::Broken("reset".into()))).await.expect("read"),
            _ => {}
        }
        drop(stream);
        assert_eq!(heard(&mut changes).await, [""; 0], "{how}: not before there is a stream again");
        let asked = stage.asked().await;
        assert_eq!(asked.filter(), json!({ "toolsListChanged": true, "resourceSubscriptions": ["a:1"] }), "{how}");
        stream = asked.honour().await;
        assert_eq!(heard(&mut changes).await, [TOOLS_CHANGED.to_owned(), updated("a:1")], "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn cancellation_of_another_request_does_not_end_the_stream() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let stream = stage.asked().await.honour().await;
    stream.say("notifications/cancelled", json!({ "requestId": "of-another" })).await;
    stream.say("notifications/tools/list_changed", json!({})).await;
    assert_eq!(heard(&mut member.changes()).await, [TOOLS_CHANGED]);
    assert!(!stream.is_closed());
}

#[tokio::test(start_paused = true)]
async fn gap_is_made_up_only_as_far_as_the_server_listens_again() {
    let mut stage = Stage::set();
    let member = stage.join(ALL);
    drop(stage.asked().await.honour().await);
    let _stream = stage.asked().await.acknowledge(json!({ "toolsListChanged": true })).await;
    assert_eq!(heard(&mut member.changes()).await, [TOOLS_CHANGED]);
}

#[tokio::test(start_paused = true)]
async fn server_that_ends_every_stream_at_once_is_not_stormed() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let mut requests = 0;
    let ten_minutes = tokio::time::Instant::now() + Duration::from_secs(600);
    while let Ok(asked) = tokio::time::timeout_at(ten_minutes, stage.asked()).await {
        requests += 1;
        assert!(requests < 50, "a hot loop");
        drop(asked.honour().await);
    }
    assert!(requests >= 20, "{requests} requests, with waits of up to 30 s");
    drop(member);
}

#[tokio::test(start_paused = true)]
async fn server_that_cannot_now_is_asked_again_and_what_was_missed_is_made_up() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    stage.asked().await.json(503, "busy");
    assert_eq!(member.opened().await, Opened::NotNow);
    let began = tokio::time::Instant::now();
    let _stream = stage.asked().await.honour().await;
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(heard(&mut member.changes()).await, [TOOLS_CHANGED]);
}

#[tokio::test(start_paused = true)]
async fn server_that_says_nothing_is_given_up_after_ten_seconds() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let asked = stage.asked().await;
    let began = tokio::time::Instant::now();
    assert_eq!(member.opened().await, Opened::NotNow);
    assert_eq!(began.elapsed(), Duration::from_secs(5), "nobody waits longer for it");
    let error = member.subscribe("a:1").await.expect_err("in vain");
    assert_eq!(error.code, code::INTERNAL_ERROR);
    assert!(asked.answer.is_closed(), "given up");
    assert!(began.elapsed() <= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn credential_turned_down_ends_the_stream_of_all_who_share_it() {
    let challenge = [(header::WWW_AUTHENTICATE, r#"Bearer error="insufficient_scope""#)];
    for (status, headers) in [(401, &challenge[..0]), (403, &challenge[..])] {
        let mut stage = Stage::set();
        let (first, second) = (stage.join(TOOLS), stage.join(TOOLS));
        let subscribed = subscribing(&stage, &first, "a:1");
        stage.asked().await.json_with(status, headers, "{}");
        let challenges = headers.iter().map(|(_, value)| HeaderValue::from_static(value)).collect();
        let rejection = Rejection { status: StatusCode::from_u16(status).expect("a status"), challenges };
        assert_eq!(first.opened().await, Opened::Rejected(rejection.clone()));
        assert_eq!(subscribed.await.expect("no panic").expect_err("rejected").code, code::UNAUTHORIZED);
        for member in [&first, &second] {
            let mut changes = member.changes();
            assert_eq!(changes.next().await, Some(Change::Rejected(rejection.clone())));
            assert_eq!(changes.next().await, None);
        }
        assert_eq!(stage.asked_again().await, 0, "not under this credential");
        let anew = stage.hub.join(&credential("renewed"), TOOLS);
        let _stream = stage.asked().await.honour().await;
        assert_eq!(anew.opened().await, Opened::Listening);
    }
}

#[tokio::test(start_paused = true)]
async fn other_403_is_no_word_on_the_credential() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    stage.asked().await.json(403, "{}");
    assert_eq!(member.opened().await, Opened::NotNow);
    let _stream = stage.asked().await.honour().await;
    assert_eq!(heard(&mut member.changes()).await, [TOOLS_CHANGED]);
}

/// A transport with a bug.
#[derive(Debug)]
struct Buggy;

impl Transport for Buggy {
    fn send(&self, _: Exchange) -> Sending {
        panic!("a bug of the transport")
    }
}

#[tokio::test(start_paused = true)]
async fn panic_leaves_nobody_waiting_and_the_next_session_has_a_fresh_start() {
    let hub = Hub::new(Arc::new(Buggy), Tasks::default());
    for _ in 0..2 {
        let member = hub.join(&credential("a"), TOOLS);
        assert_eq!(member.changes().next().await, None);
        assert_eq!(member.opened().await, Opened::NotNow);
    }
}
