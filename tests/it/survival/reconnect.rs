//! The client has lost its stream, and comes back as clients do (WIRE, Stream 5 and 6).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Behaviour, FakeUpstream, LegacyClient, Lost, Proxy, pass};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const VERSION: (&str, &str) = ("mcp-protocol-version", "2025-06-18");

async fn both() -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[("linger", "15s")]);
    (upstream, proxy)
}

/// A client that has initialized, with these headers on all that it sends.
async fn client(proxy: &Proxy, headers: &[(&'static str, &str)]) -> LegacyClient {
    let mut client = LegacyClient::connect(proxy, headers).await;
    client.initialize().await;
    client
}

/// A client that has a call under way which asks it something, and loses its stream. The question's id comes too.
async fn cut_off_in_a_call(upstream: &FakeUpstream, mut client: LegacyClient) -> (Lost, Value) {
    client.call("runs", "ask", json!({})).await;
    let asked = client.message().await["id"].clone();
    upstream.wait_for("the GET stream", |seen| seen.method == Method::GET).await;
    (client.lose_stream(), asked)
}

fn handshakes(upstream: &FakeUpstream) -> usize {
    upstream.methods().iter().filter(|method| *method == "initialize").count()
}

fn with_id<'a>(lost: &'a Lost, headers: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    let id = lost.last_event_id.as_deref().expect("an event with an id");
    headers.iter().copied().chain([("last-event-id", id)]).collect()
}

/// Until the proxy has noticed that `count` clients are away.
async fn away(proxy: &Proxy, count: i64) {
    proxy.metrics_show(|metrics| metrics.sessions_lingering.get() == count).await;
}

#[tokio::test]
async fn client_that_names_its_last_event_gets_its_session_and_what_it_missed() {
    let (upstream, proxy) = both().await;
    let (lost, asked) = cut_off_in_a_call(&upstream, client(&proxy, &[]).await).await;
    away(&proxy, 1).await;
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "missed"}})).await;
    let mut back = LegacyClient::connect(&proxy, &with_id(&lost, &[])).await;
    assert_eq!(back.endpoint, lost.endpoint, "its own session");
    assert_eq!(back.message().await["params"]["data"], "missed");
    back.post(json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "answered"}})).await;
    assert_eq!(back.answer("runs").await["result"]["content"][0]["text"], "answered");
    assert_eq!(handshakes(&upstream), 1);
    drop(back);
    let log = proxy.stop().await;
    let connects: Vec<&Value> = log.iter().filter(|record| record["event.name"] == "legacy.connect").collect();
    assert_eq!(connects.len(), 2);
    assert_eq!(connects[0]["legacy.session"], connects[1]["legacy.session"]);
    assert_eq!((&connects[0]["legacy.reconnect"], &connects[1]["legacy.reconnect"]), (&json!(false), &json!(true)));
    let end = log.iter().find(|record| record["event.name"] == "legacy.end").expect("an end");
    assert_eq!((&end["legacy.reconnects"], &end["legacy.undelivered"]), (&json!(1), &json!(0)), "{end}");
}

/// An event may have been sent and never have arrived: what counts is what the client says.
#[tokio::test]
async fn event_that_was_sent_and_lost_on_the_way_is_sent_again() {
    let (_upstream, proxy) = both().await;
    let mut cut = client(&proxy, &[]).await;
    let first = cut.last_event_id();
    for id in 1..=3 {
        cut.call(id, "echo", json!({"text": "x"})).await;
        cut.answer(id).await;
    }
    drop(cut);
    let mut back = LegacyClient::connect(&proxy, &[("last-event-id", &first)]).await;
    for id in 1..=3 {
        assert_eq!(back.message().await["id"], id);
    }
    drop(back);
    proxy.stop().await;
}

/// The old connection may look alive for long after its client has given it up.
#[tokio::test]
async fn client_that_is_back_before_it_was_missed_takes_its_session_over() {
    let (_upstream, proxy) = both().await;
    let mut before = client(&proxy, &[]).await;
    let last = before.last_event_id();
    let mut back = LegacyClient::connect(&proxy, &[("last-event-id", &last)]).await;
    assert!(before.event().await.is_none(), "the stream before is over");
    back.call(1, "echo", json!({"text": "x"})).await;
    assert!(back.answer(1).await["result"].is_object());
    drop((before, back));
    proxy.stop().await;
}

#[tokio::test]
async fn session_comes_back_under_its_own_credential_only() {
    let (upstream, proxy) = both().await;
    let (lost, _) = cut_off_in_a_call(&upstream, client(&proxy, &[("authorization", "Bearer own")]).await).await;
    away(&proxy, 1).await;
    for headers in [&[("authorization", "Bearer other")][..], &[]] {
        let stranger = LegacyClient::connect(&proxy, &with_id(&lost, headers)).await;
        assert_ne!(stranger.endpoint, lost.endpoint);
        drop(stranger);
    }
    let bogus = format!("{}9", lost.last_event_id.as_deref().expect("an id"));
    let ahead = LegacyClient::connect(&proxy, &[("authorization", "Bearer own"), ("last-event-id", &bogus)]).await;
    assert_ne!(ahead.endpoint, lost.endpoint, "there never was such an event");
    drop(ahead);
    let back = LegacyClient::connect(&proxy, &with_id(&lost, &[("authorization", "Bearer own")])).await;
    assert_eq!(back.endpoint, lost.endpoint);
    drop(back);
    proxy.stop().await;
}

/// rmcp opens a new stream and goes on posting to the endpoint it had.
#[tokio::test]
async fn old_endpoint_stays_good_while_the_client_is_away() {
    let (upstream, proxy) = both().await;
    let (lost, asked) = cut_off_in_a_call(&upstream, client(&proxy, &[]).await).await;
    away(&proxy, 1).await;
    let answer = json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "to the old one"}});
    let posted = crate::support::http_client()
        .post(proxy.url(&lost.endpoint))
        .header("content-type", "application/json")
        .body(answer.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(posted.status(), 202);
    let mut back = LegacyClient::connect(&proxy, &with_id(&lost, &[])).await;
    assert_eq!(back.answer("runs").await["result"]["content"][0]["text"], "to the old one");
    drop(back);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_stays_away_is_given_up_and_what_it_is_owed_is_counted() {
    let (upstream, proxy) = both().await;
    let (lost, _) = cut_off_in_a_call(&upstream, client(&proxy, &[]).await).await;
    away(&proxy, 1).await;
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "missed"}})).await;
    pass(Duration::from_secs(14)).await;
    away(&proxy, 1).await;
    pass(Duration::from_secs(2)).await;
    upstream.wait_for("the DELETE", |seen| seen.method == Method::DELETE).await;
    assert!(upstream.methods().contains(&"notifications/cancelled".to_owned()));
    let end = proxy.logged("legacy.end", 1).await.remove(0);
    assert_eq!(end["session.end.reason"], "client_disconnect");
    assert_eq!(end["legacy.undelivered"], 2, "a notification and the error for the call: {end}");
    assert!(end["session.duration_s"].as_f64().expect("a number") < 10.0, "until it left: {end}");
    let late = LegacyClient::connect(&proxy, &with_id(&lost, &[])).await;
    assert_ne!(late.endpoint, lost.endpoint);
    drop(late);
    proxy.stop().await;
}

/// TypeScript waits for its call, and posts nothing at all until it has its answer.
#[tokio::test]
async fn stream_without_a_word_gets_the_one_session_that_can_be_meant() {
    let (upstream, proxy) = both().await;
    let own = [("authorization", "Bearer own"), ("user-agent", "node")];
    let (lost, asked) = cut_off_in_a_call(&upstream, client(&proxy, &own).await).await;
    away(&proxy, 1).await;
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "missed"}})).await;
    let mut back = LegacyClient::connect(&proxy, &[own[0], own[1], VERSION]).await;
    assert_ne!(back.endpoint, lost.endpoint, "an endpoint of its own, until it is sure whose it is");
    assert_eq!(back.message().await["params"]["data"], "missed");
    back.post(json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "answered"}})).await;
    assert_eq!(back.answer("runs").await["result"]["content"][0]["text"], "answered");
    back.call(1, "echo", json!({"text": "x"})).await;
    assert!(back.answer(1).await["result"].is_object());
    assert_eq!(handshakes(&upstream), 1, "its very session");
    let ends = proxy.logged("legacy.end", 1).await;
    assert_eq!(ends[0]["session.end.reason"], "merged");

    // Again: what was opened for the second stream leads to the session still.
    back.call("runs", "ask", json!({})).await;
    let asked = back.message().await["id"].clone();
    drop(back);
    away(&proxy, 1).await;
    let mut again = LegacyClient::connect(&proxy, &[own[0], own[1], VERSION]).await;
    again.post(json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "again"}})).await;
    assert_eq!(again.answer("runs").await["result"]["content"][0]["text"], "again");
    drop(again);
    let log = proxy.stop().await;
    let real = log.iter().find(|record| record["session.end.reason"] == "client_disconnect");
    assert_eq!(real.expect("the session's own end")["legacy.reconnects"], 2);
}

/// A process that starts anew under the same token says `initialize`: it must not get what another is owed.
#[tokio::test]
async fn stream_that_begins_anew_gives_the_session_back_to_whoever_it_belongs_to() {
    let (upstream, proxy) = both().await;
    let own = [("authorization", "Bearer own"), ("user-agent", "node")];
    let (lost, asked) = cut_off_in_a_call(&upstream, client(&proxy, &own).await).await;
    away(&proxy, 1).await;
    let mut other = LegacyClient::connect(&proxy, &[own[0], own[1], VERSION]).await;
    away(&proxy, 0).await;
    other.initialize().await;
    away(&proxy, 1).await;
    other.call(1, "echo", json!({"text": "mine"})).await;
    assert_eq!(other.until_answer(1).await.len(), 1);
    assert_eq!(handshakes(&upstream), 2);
    let mut back = LegacyClient::connect(&proxy, &with_id(&lost, &own)).await;
    assert_eq!(back.endpoint, lost.endpoint);
    back.post(json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "answered"}})).await;
    assert_eq!(back.answer("runs").await["result"]["content"][0]["text"], "answered");
    drop((other, back));
    proxy.stop().await;
}

#[tokio::test]
async fn session_is_given_to_nobody_where_another_could_be_meant() {
    let token = ("authorization", "Bearer shared");
    for (who, others) in [("another session of theirs", vec![token, ("user-agent", "node")]), ("no credential", vec![])]
    {
        let (upstream, proxy) = both().await;
        let own: Vec<_> = if others.is_empty() { vec![("user-agent", "node")] } else { others.clone() };
        let sibling = if others.is_empty() { None } else { Some(client(&proxy, &others).await) };
        let (lost, _) = cut_off_in_a_call(&upstream, client(&proxy, &own).await).await;
        away(&proxy, 1).await;
        let headers: Vec<_> = own.iter().copied().chain([VERSION]).collect();
        let mut back = LegacyClient::connect(&proxy, &headers).await;
        back.call(1, "echo", json!({"text": "x"})).await;
        let messages = back.until_answer(1).await;
        assert!(
            messages.iter().all(|message| message["id"] == 1 || message.get("id").is_none()),
            "{who}: {messages:?}"
        );
        assert!(upstream.seen().iter().any(|seen| seen.body["params"]["clientInfo"]["name"] == "sse-sunset"), "{who}");
        away(&proxy, 1).await;
        drop((sibling, back, lost));
        proxy.stop().await;
    }
}

#[tokio::test]
async fn session_that_waits_leaves_its_place_to_others() {
    let upstream = FakeUpstream::start(SSE).await;
    let options = [("linger", "15s"), ("max-sessions", "1"), ("max-sessions-per-principal", "1")];
    let proxy = Proxy::start(upstream.url(), &options);
    let own = [("authorization", "Bearer own")];
    let lost = client(&proxy, &own).await.lose_stream();
    away(&proxy, 1).await;
    let mut other = client(&proxy, &own).await;
    other.call(1, "echo", json!({"text": "x"})).await;
    assert!(other.answer(1).await["result"].is_object());
    let back = LegacyClient::connect(&proxy, &with_id(&lost, &own)).await;
    assert_eq!(back.endpoint, lost.endpoint, "and has it again");
    drop((other, back));
    proxy.stop().await;
}

#[tokio::test]
async fn session_that_waits_ends_with_the_process() {
    let (_upstream, mut proxy) = both().await;
    drop(client(&proxy, &[]).await);
    away(&proxy, 1).await;
    proxy.begin_stop();
    let log = proxy.stop().await;
    let end = log.iter().find(|record| record["event.name"] == "legacy.end").expect("an end");
    assert_eq!(end["session.end.reason"], "client_disconnect", "its client had left before");
}

/// Two processes of one user come back after the proxy was restarted. One is idle and posts nothing for long: that must not
/// make it the heir of the other.
#[tokio::test]
async fn stream_that_was_there_before_is_not_given_what_another_lost() {
    let (upstream, proxy) = both().await;
    let own = [("authorization", "Bearer own"), ("user-agent", "node"), VERSION];
    let mut idle = LegacyClient::connect(&proxy, &own).await;
    let mut other = LegacyClient::connect(&proxy, &own).await;
    other.call(1, "echo", json!({"text": "x"})).await;
    other.answer(1).await;
    pass(Duration::from_secs(70)).await;
    let (_lost, _) = cut_off_in_a_call(&upstream, other).await;
    away(&proxy, 1).await;
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "secret"}})).await;
    idle.call(9, "echo", json!({"text": "mine"})).await;
    let messages = idle.until_answer(9).await;
    assert!(messages.iter().all(|message| message["params"]["data"] != "secret"), "{messages:?}");
    assert_eq!(handshakes(&upstream), 2, "one for each");
    drop(idle);
    proxy.stop().await;
}

/// TypeScript before 1.13 shows its token on POST only.
#[tokio::test]
async fn session_whose_stream_came_without_the_credential_counts_among_its_kin() {
    let (upstream, proxy) = both().await;
    let agent = ("user-agent", "node");
    let token = ("authorization", "Bearer own");
    let late = LegacyClient::connect(&proxy, &[agent]).await;
    let initialize =
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}});
    late.post_text(initialize.to_string(), &[token]).await;
    let (_lost, _) = cut_off_in_a_call(&upstream, client(&proxy, &[token, agent]).await).await;
    away(&proxy, 1).await;
    let mut back = LegacyClient::connect(&proxy, &[token, agent, VERSION]).await;
    back.call(1, "echo", json!({"text": "x"})).await;
    assert!(back.answer(1).await["result"].is_object());
    assert_eq!(handshakes(&upstream), 3, "either could be meant");
    drop((late, back));
    proxy.stop().await;
}

/// One that works under a credential is not given to somebody without.
#[tokio::test]
async fn session_that_has_a_credential_by_now_does_not_come_back_without() {
    let (_upstream, proxy) = both().await;
    let mut first = LegacyClient::connect(&proxy, &[]).await;
    let initialize =
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}});
    first.post_text(initialize.to_string(), &[("authorization", "Bearer own")]).await;
    first.answer(0).await;
    let (endpoint, last) = (first.endpoint.clone(), first.last_event_id());
    drop(first);
    away(&proxy, 1).await;
    let without = LegacyClient::connect(&proxy, &[("last-event-id", &last)]).await;
    assert_ne!(without.endpoint, endpoint);
    let with = LegacyClient::connect(&proxy, &[("last-event-id", &last), ("authorization", "Bearer own")]).await;
    assert_eq!(with.endpoint, endpoint);
    drop((without, with));
    proxy.stop().await;
}

/// The answer that a running call waits for is posted to the name that the stream came with.
#[tokio::test]
async fn drain_waits_for_the_call_of_a_session_whose_stream_is_lent() {
    let (upstream, mut proxy) = both().await;
    let own = [("authorization", "Bearer own"), ("user-agent", "node")];
    let (_lost, asked) = cut_off_in_a_call(&upstream, client(&proxy, &own).await).await;
    away(&proxy, 1).await;
    let mut back = LegacyClient::connect(&proxy, &[own[0], own[1], VERSION]).await;
    away(&proxy, 0).await;
    proxy.begin_stop();
    // New streams are turned away once idle sessions have ended.
    while crate::support::http_client().get(proxy.url("/sse")).send().await.is_ok() {}
    back.post(json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "in time"}})).await;
    assert_eq!(back.answer("runs").await["result"]["content"][0]["text"], "in time");
    drop(back);
    proxy.stop().await;
}

/// Cut off twice, and it never said a word in between: its last endpoint is as good as the first.
#[tokio::test]
async fn endpoint_of_a_lent_stream_stays_good_when_that_is_lost_too() {
    let (upstream, proxy) = both().await;
    let own = [("authorization", "Bearer own"), ("user-agent", "node")];
    let (_lost, asked) = cut_off_in_a_call(&upstream, client(&proxy, &own).await).await;
    away(&proxy, 1).await;
    let second = LegacyClient::connect(&proxy, &[own[0], own[1], VERSION]).await.lose_stream();
    away(&proxy, 1).await;
    proxy.logged("legacy.end", 1).await;
    let answer = json!({"jsonrpc": "2.0", "id": asked, "result": {"text": "in between"}});
    let posted = crate::support::http_client()
        .post(proxy.url(&second.endpoint))
        .header("content-type", "application/json")
        .header("authorization", "Bearer own")
        .body(answer.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(posted.status(), 202);
    let mut third = LegacyClient::connect(&proxy, &[own[0], own[1], VERSION]).await;
    assert_eq!(third.answer("runs").await["result"]["content"][0]["text"], "in between");
    drop(third);
    proxy.stop().await;
}
