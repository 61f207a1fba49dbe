//! Streams shared by sessions, against a server that does what each test tells it. Time is simulated: [`quiet`] passes
//! when nothing is left to be done.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::*;
use crate::mcp::{RpcError, code};
use crate::upstream::{Answer, Body, Exchange, Fault, Sending};

const ALL: Kinds = Kinds { tools: true, prompts: true, resources: true };
const TOOLS: Kinds = Kinds { tools: true, prompts: false, resources: false };
const NONE: Kinds = Kinds { tools: false, prompts: false, resources: false };
const TOOLS_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const UNKNOWN_METHOD: &str =
    r#"{"jsonrpc":"2.0","id":"listen-1","error":{"code":-32601,"message":"Method not found"}}"#;

/// Hands every request to the test.
#[derive(Debug)]
struct Line(mpsc::Sender<Asked>);

/// A request, until the test has answered it.
#[derive(Debug)]
struct Asked {
    exchange: Exchange,
    answer: oneshot::Sender<Result<Answer, Fault>>,
}

/// The server's end of an open stream.
struct Stream {
    id: Value,
    body: mpsc::Sender<Result<Bytes, Fault>>,
}

impl Transport for Line {
    fn send(&self, exchange: Exchange) -> Sending {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Asked { exchange, answer }).expect("the test reads its requests");
        Box::pin(async { answered.await.unwrap_or(Err(Fault::GivenUp)) })
    }
}

impl Asked {
    fn request(&self) -> Value {
        serde_json::from_slice(&self.exchange.body).expect("JSON")
    }

    fn filter(&self) -> Value {
        self.request()["params"]["notifications"].clone()
    }

    /// Opens the stream and honours `filter`.
    async fn acknowledge(self, filter: Value) -> Stream {
        let (body, chunks) = mpsc::channel(64);
        let id = self.request()["id"].clone();
        let chunks = futures_util::stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
        self.answer(StatusCode::OK, "text/event-stream", &[], Box::pin(chunks));
        let stream = Stream { id, body };
        stream.say("notifications/subscriptions/acknowledged", json!({ "notifications": filter })).await;
        stream
    }

    /// Honours all that was asked.
    async fn honour(self) -> Stream {
        let filter = self.filter();
        self.acknowledge(filter).await
    }

    fn json(self, status: u16, body: &'static str) {
        self.json_with(status, &[], body);
    }

    fn json_with(self, status: u16, headers: &[(HeaderName, &'static str)], body: &'static str) {
        let body = futures_util::stream::iter([Ok(Bytes::from_static(body.as_bytes()))]);
        self.answer(StatusCode::from_u16(status).expect("a status"), "application/json", headers, Box::pin(body));
    }

    fn answer(self, status: StatusCode, media: &'static str, more: &[(HeaderName, &'static str)], body: Body) {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media))]);
        for (name, value) in more {
            headers.append(name, HeaderValue::from_static(value));
        }
        // A request that was given up meanwhile is not answered.
        let _ = self.answer.send(Ok(Answer { status, headers, body }));
    }
}

impl Stream {
    /// Sends a notification, marked as the specification wants it.
    async fn say(&self, method: &str, mut params: Value) {
        params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": self.id });
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
    }

    async fn updated(&self, uri: &str) {
        self.say("notifications/resources/updated", json!({ "uri": uri })).await;
    }

    async fn send(&self, message: &Value) {
        let event = format!("event: message\ndata: {message}\n\n");
        self.body.send(Ok(event.into())).await.expect("the stream is read");
    }

    fn is_closed(&self) -> bool {
        self.body.is_closed()
    }
}

/// The hub and its server.
struct Stage {
    hub: Hub,
    tasks: Tasks,
    requests: mpsc::Receiver<Asked>,
}

impl Stage {
    fn set() -> Stage {
        let (line, requests) = mpsc::channel(64);
        let tasks = Tasks::default();
        Stage { hub: Hub::new(Arc::new(Line(line)), tasks.clone()), tasks, requests }
    }

    fn join(&self, kinds: Kinds) -> Member {
        self.hub.join(&credential("a"), kinds)
    }

    async fn asked(&mut self) -> Asked {
        self.requests.recv().await.expect("the hub lives")
    }

    /// How many requests wait; they are left unanswered and given up.
    async fn asked_again(&mut self) -> usize {
        quiet().await;
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

fn credential(token: &str) -> HeaderMap {
    let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a header");
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

/// Passes when every task waits for something else than its turn.
async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}

/// What a session can take now.
async fn heard(changes: &mut Changes) -> Vec<String> {
    quiet().await;
    let mut heard = Vec::new();
    while let Some(Some(change)) = changes.next().now_or_never() {
        match change {
            Change::Notification(text) => heard.push(String::from_utf8(text.to_vec()).expect("UTF-8")),
            Change::Rejected(rejection) => panic!("{rejection:?}"),
        }
    }
    heard
}

fn updated(uri: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#)
}

/// A subscription under way.
fn subscribing(stage: &Stage, member: &Member, uri: &str) -> tokio::task::JoinHandle<Result<(), RpcError>> {
    stage.tasks.spawn(member.subscribe(uri))
}

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

#[tokio::test(start_paused = true)]
async fn stream_that_ends_in_any_way_is_opened_again_and_the_gap_made_up() {
    let mut stage = Stage::set();
    let member = stage.join(TOOLS);
    let mut changes = member.changes();
    let mut stream = stage.asked().await.honour().await;
    let subscribed = subscribing(&stage, &member, "a:1");
    stream = {
        let new = stage.asked().await.honour().await;
        drop(stream);
        new
    };
    subscribed.await.expect("no panic").expect("honoured");
    for how in ["end of file", "result", "cancelled", "broken"] {
        let id = stream.id.clone();
        match how {
            "result" => {
                stream.send(&json!({ "jsonrpc": "2.0", "id": id, "result": { "resultType": "complete" } })).await
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
        drop(asked.honour().await);
    }
    assert!((20..50).contains(&requests), "{requests} requests, with waits of up to 30 s");
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
async fn session_that_comes_as_the_last_one_leaves_is_served() {
    let mut stage = Stage::set();
    let first = stage.join(TOOLS);
    let _first = stage.asked().await.honour().await;
    assert_eq!(first.opened().await, Opened::Listening);
    drop(first);
    let second = stage.join(TOOLS);
    let stream = tokio::select! {
        asked = stage.asked() => asked.honour().await,
        () = quiet() => _first,
    };
    assert_eq!(second.opened().await, Opened::Listening);
    stream.say("notifications/tools/list_changed", json!({})).await;
    assert_eq!(heard(&mut second.changes()).await, [TOOLS_CHANGED]);
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
