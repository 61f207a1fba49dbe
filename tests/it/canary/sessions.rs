//! Sessions under a signature, in the proxy of this process.

use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};
use sse_sunset::auth::{KeepAlive, PROBE_HEADER, Signer};
use sse_sunset::probe::canary::{self, Signature, Step};
use sse_sunset::probe::{Fault, SseClient, Target};

use super::{Key, SESSIONS, names, proxy, shared_key};
use crate::support::{FakeUpstream, LegacyClient, Proxy, http_client, within};

const HEADER: &str = "sse-sunset-probe";

fn walk_of(proxy: &Proxy, signer: Option<Signer>) -> canary::Config {
    let url = proxy.url("/sse").parse().expect("a URL");
    let (headers, authorities) = (http::HeaderMap::new(), Vec::new());
    let timeout = Duration::from_secs(15);
    canary::Config { target: Target { url, headers, authorities, connect_timeout: timeout }, signer, timeout }
}

#[tokio::test]
async fn canary_leaves_canary_seen_and_no_legacy_record() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    let outcome = canary::walk(&walk_of(&proxy, Some(key.signer()))).await.expect("a walk");
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.signature, Signature::Accepted);
    assert!(!outcome.counted_as_client);
    let steps: Vec<Step> = outcome.steps.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [Step::Connect, Step::Endpoint, Step::Initialize, Step::Initialized, Step::Ping]);
    assert_eq!(outcome.server, Some(("fake".into(), "1".into())));
    // At once, and not after the linger time.
    let seen = proxy.logged("canary.seen", 1).await.remove(0);
    assert!(seen["canary.handshake_ms"].as_f64().expect("a number") > 0.0, "{seen}");
    assert!(seen["canary.ping_ms"].as_f64().expect("a number") > 0.0, "{seen}");
    assert_eq!((seen["url.path"].as_str(), seen["server.address"].as_str()), (Some("/sse"), Some("127.0.0.1")));
    proxy.metrics_show(|metrics| metrics.sessions_active.get() == 0).await;
    proxy.metrics_show(|metrics| metrics.sessions_opened.get() == 0 && metrics.requests.get() == 0).await;
    upstream.wait_for("the end of the session", |seen| seen.method == http::Method::DELETE).await;
    assert_eq!(names(&proxy.stop().await), ["canary.seen"]);
}

#[tokio::test]
async fn unsigned_canary_is_a_client() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let outcome = canary::walk(&walk_of(&proxy, None)).await.expect("a walk");
    assert_eq!((outcome.failure, outcome.signature), (None, Signature::None));
    assert!(outcome.counted_as_client);
    let end = proxy.logged("legacy.end", 1).await.remove(0);
    assert_eq!(end["legacy.engagement"], "discovery");
    assert_eq!(names(&proxy.stop().await), ["legacy.connect", "legacy.identify", "legacy.end"]);
}

#[tokio::test]
async fn signed_session_that_calls_a_tool_counts_as_use_like_any_other() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    // Signed for the stream alone: LegacyClient sends its headers with every POST too, where they mean nothing.
    let mut client = LegacyClient::connect(&proxy, &[(HEADER, &key.header())]).await;
    assert_eq!(client.stream_headers()[PROBE_HEADER], "accepted");
    client.initialize().await;
    client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await;
    client.answer(1).await;
    proxy.metrics_show(|metrics| metrics.sessions_active.get() == 1 && metrics.sessions_opened.get() == 0).await;
    assert!(names(&proxy.log()).is_empty(), "so far it could be a canary");
    client.call(2, "echo", json!({"text": "x"})).await;
    client.answer(2).await;
    proxy.metrics_show(|metrics| metrics.sessions_opened.get() == 1 && metrics.requests.get() == 3).await;
    drop(client);
    let log = proxy.stop().await;
    assert_eq!(names(&log), ["legacy.connect", "legacy.identify", "legacy.use", "legacy.end"]);
    let record = |name: &str| log.iter().find(|record| record["event.name"] == name).expect("a record");
    assert_eq!(record("legacy.identify")["mcp.client.name"], "it-client");
    assert_eq!(record("legacy.connect")["identity.source"], "address", "as it was known when it connected");
    let end = record("legacy.end");
    assert_eq!(
        (&end["legacy.engagement"], &end["legacy.requests"], &end["legacy.uses"]),
        (&json!("use"), &json!(3), &json!(1))
    );
    assert!(upstream.seen().iter().all(|seen| !seen.headers.contains_key(PROBE_HEADER)), "it stays here");
}

#[tokio::test]
async fn signed_session_that_only_lists_or_posts_nonsense_is_a_client_too() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    let mut lists = LegacyClient::connect(&proxy, &[(HEADER, &key.header())]).await;
    lists.initialize().await;
    lists.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    lists.answer(1).await;
    let mut nonsense = LegacyClient::connect(&proxy, &[(HEADER, &key.header())]).await;
    let broken = r#"{"jsonrpc":"2.0","id":4,"method":"m","params":{"a":1"#;
    assert_eq!(nonsense.post_text(broken, &[]).await.status, 202);
    nonsense.answer(4).await;
    proxy.logged("legacy.connect", 2).await;
    drop((lists, nonsense));
    let log = proxy.stop().await;
    assert_eq!(names(&log).iter().filter(|name| **name == "legacy.end").count(), 2);
}

/// Whoever knows an event of a canary's session may take it over: from then on it is a session that somebody came back to.
#[tokio::test]
async fn signed_session_that_somebody_comes_back_to_is_a_client() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    let (token, signature) = (("authorization", "Bearer one"), key.header());
    let mut canary = LegacyClient::connect(&proxy, &[token, (HEADER, &signature)]).await;
    canary.initialize().await;
    let last = canary.last_event_id();
    let taken_over = LegacyClient::connect(&proxy, &[token, ("last-event-id", &last)]).await;
    assert_eq!(taken_over.endpoint, canary.endpoint);
    let connects = proxy.logged("legacy.connect", 2).await;
    assert_eq!((&connects[0]["legacy.reconnect"], &connects[1]["legacy.reconnect"]), (&json!(false), &json!(true)));
    assert_eq!(connects[0]["legacy.session"], connects[1]["legacy.session"]);
    drop((canary, taken_over));
    let log = proxy.stop().await;
    assert_eq!(names(&log), ["legacy.connect", "legacy.identify", "legacy.connect", "legacy.end"]);
}

#[tokio::test]
async fn signed_session_that_does_not_go_the_whole_way_leaves_nothing() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    let only_connects = LegacyClient::connect(&proxy, &[(HEADER, &key.header())]).await;
    let mut only_initializes = LegacyClient::connect(&proxy, &[(HEADER, &key.header())]).await;
    only_initializes.initialize().await;
    proxy.metrics_show(|metrics| metrics.sessions_active.get() == 2).await;
    drop((only_connects, only_initializes));
    proxy.metrics_show(|metrics| metrics.sessions_active.get() == 0).await;
    assert!(names(&proxy.stop().await).is_empty());
}

#[tokio::test]
async fn bad_signature_and_one_that_was_used_are_ordinary_traffic() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    let good = key.header();
    let first = LegacyClient::connect(&proxy, &[(HEADER, &good)]).await;
    assert_eq!(first.stream_headers()[PROBE_HEADER], "accepted");
    let forged = Key::of("the key of somebody else").header();
    let resumes = key.header();
    let version = ("mcp-protocol-version", "2025-06-18");
    for (headers, answer) in [
        (vec![(HEADER, good.as_str())], "ignored; reason=replayed"),
        (vec![(HEADER, forged.as_str())], "ignored; reason=forged"),
        (vec![(HEADER, "v1 please")], "ignored; reason=malformed"),
        (vec![(HEADER, resumes.as_str()), version], "ignored; reason=resumes"),
    ] {
        let client = LegacyClient::connect(&proxy, &headers).await;
        assert_eq!(client.stream_headers()[PROBE_HEADER], answer);
    }
    assert!(!LegacyClient::connect(&proxy, &[]).await.stream_headers().contains_key(PROBE_HEADER));
    proxy.logged("legacy.end", 5).await;
    drop(first);
    let log = proxy.stop().await;
    assert_eq!(names(&log).iter().filter(|name| **name == "legacy.connect").count(), 5);
    assert!(!names(&log).contains(&"canary.seen"));
}

#[tokio::test]
async fn signed_stream_that_is_turned_away_is_no_refused_client() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = Proxy::start(upstream.url(), &[("probe-key-file", key.path()), ("max-sessions", "1")]);
    let guest = proxy.client().await;
    let get = |header: String| {
        let request = http_client().get(proxy.url("/sse")).header("origin", "https://evil.example");
        async move { within("an answer", request.header(HEADER, header).send()).await.expect("an answer").status() }
    };
    assert_eq!(get(key.header()).await, 403);
    let over_the_limit = canary::walk(&walk_of(&proxy, Some(key.signer()))).await.expect("a walk");
    let failure = over_the_limit.failure.expect("a refusal");
    assert_eq!(failure.step, Step::Initialize);
    assert!(failure.remedy.contains("--max-sessions"), "{failure:?}");
    assert_eq!(get("v1 unsigned".into()).await, 403);
    drop(guest);
    let log = proxy.stop().await;
    let refused = log.iter().filter(|record| record["event.name"] == "legacy.refused").count();
    assert_eq!((refused, names(&log).len()), (1, 3), "only the one without a signature, and the guest");
}

/// When the first `wanted` comments came on a stream with this header.
async fn comments_after(proxy: &Proxy, header: &HeaderValue, wanted: usize) -> Vec<Duration> {
    let url = proxy.url("/sse").parse().expect("a URL");
    let target = Target { url, headers: http::HeaderMap::new(), authorities: Vec::new(), connect_timeout: WAIT };
    let client = SseClient::new(target).expect("a client");
    let extra = http::HeaderMap::from_iter([(PROBE_HEADER, header.clone())]);
    let mut stream = client.open(&extra, WAIT).await.expect("a stream");
    stream.endpoint(WAIT).await.expect("an endpoint");
    let mut comments = Vec::new();
    while comments.len() < wanted {
        let arrival = within("a comment", stream.next()).await.expect("an open stream").expect("more of it");
        comments.extend([arrival.at].repeat(arrival.comments));
    }
    comments
}

const WAIT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn signature_sets_the_keep_alive_of_its_stream() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let options = [("probe-key-file", key.path()), ("keep-alive", "50ms")];
    let proxy = Proxy::start(upstream.url(), &options);
    let every_second = key.signer().sign(Some(KeepAlive::Every(Duration::from_secs(1))));
    let comments = comments_after(&proxy, &every_second, 1).await;
    assert!(comments[0] >= Duration::from_millis(950), "{comments:?}");

    let off = key.signer().sign(Some(KeepAlive::Off));
    let mut silent = LegacyClient::connect(&proxy, &[(HEADER, off.to_str().expect("text"))]).await;
    // A stream beside it has had its comments meanwhile.
    comments_after(&proxy, &HeaderValue::from_static("v1 unsigned"), 5).await;
    silent.initialize().await;
    let raw = String::from_utf8_lossy(&silent.raw).into_owned();
    assert!(raw.contains("\"id\":0") && !raw.contains(": k"), "{raw}");

    // What has no signature has no say.
    let mut unsigned = LegacyClient::connect(&proxy, &[(HEADER, "v1 1 00 00; keep-alive=off")]).await;
    unsigned.read_until(": k").await;
    drop((silent, unsigned));
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_measures_tells_how_a_stream_ended() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let mut proxy = Proxy::start(upstream.url(), &[]);
    let url = proxy.url("/sse").parse().expect("a URL");
    let target = Target { url, headers: http::HeaderMap::new(), authorities: Vec::new(), connect_timeout: WAIT };
    let client = SseClient::new(target).expect("a client");
    let mut stream = client.open(&http::HeaderMap::new(), WAIT).await.expect("a stream");
    assert!(stream.head().is_event_stream() && stream.head().address.is_some());
    let endpoint = stream.endpoint(WAIT).await.expect("an endpoint");
    assert!(endpoint.url.as_str().starts_with(&proxy.url("/messages?sessionId=")));
    assert_eq!(stream.ask(&endpoint, "ping", Value::Null, WAIT).await.expect("an answer").message.error(), None);
    proxy.begin_stop();
    assert!(within("the end", stream.next()).await.expect("an orderly end").is_none());
    let posted = client.post(&endpoint, "{}", WAIT).await;
    let is_unknown = posted.as_ref().is_ok_and(|posted| posted.status == 404);
    assert!(is_unknown || matches!(posted, Err(Fault::Unreachable(_) | Fault::Broken(_))), "{posted:?}");
    proxy.stop().await;
}
