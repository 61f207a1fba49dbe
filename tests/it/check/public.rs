//! The public URL: the proxy itself, and each kind of trouble on the way to it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderValue, Method, header};
use sse_sunset::auth::{ProbeKey, Signer};
use sse_sunset::probe::check::Options;
use sse_sunset::probe::check::Status::{Failure, Ok, Skipped, Warning};

use super::server::{Answer, Asked, Server, forward, header as header_of, whole};
use super::{Found, SESSIONS, checked, options};
use crate::support::{Behaviour, FakeUpstream, Proxy};

/// A proxy in front of a good server, and the key that it shares with the check.
struct Stage {
    upstream: FakeUpstream,
    proxy: Proxy,
    signer: Signer,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, "the key that both sides have").expect("written");
        let upstream = FakeUpstream::start(behaviour).await;
        let key = path.to_str().expect("a plain path");
        let proxy = Proxy::start(upstream.url(), &[("probe-key-file", key), ("allowed-host", "*")]);
        let signer = Signer::new(ProbeKey::read(&path).expect("a key"));
        Stage { upstream, proxy, signer, _folder: folder }
    }

    fn options(&self, public: &str) -> Options {
        Options { signer: Some(self.signer.clone()), ..options(None, Some(public)) }
    }

    /// A relay before the proxy that answers some requests itself, and changes answers to others.
    async fn relay<F, G>(&self, own: F, change: G) -> Server
    where
        F: Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        G: Fn(&Asked, Answer) -> Answer + Clone + Send + Sync + 'static,
    {
        let base = self.proxy.url("");
        Server::start(move |asked| {
            let (own, change, base) = (own(&asked), change.clone(), base.clone());
            async move {
                if let Some(answer) = own {
                    return answer;
                }
                let copy = asked.clone();
                change(&copy, forward(&base, asked).await)
            }
            .boxed()
        })
        .await
    }

    /// What is found behind such a relay, with short waits.
    async fn found<F, G>(&self, own: F, change: G, watch: Duration) -> Found
    where
        F: Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        G: Fn(&Asked, Answer) -> Answer + Clone + Send + Sync + 'static,
    {
        let relay = self.relay(own, change).await;
        let patience = Duration::from_secs(15);
        checked(&Options { watch, patience, ..self.options(&relay.url("/sse")) }).await
    }
}

fn nothing(_: &Asked) -> Option<Answer> {
    None
}

fn same(_: &Asked, answer: Answer) -> Answer {
    answer
}

fn is_stream(asked: &Asked) -> bool {
    asked.method() == Method::GET
}

/// The answer without its body, which never comes.
fn withheld(answer: Answer) -> Answer {
    Answer { body: stream::pending().boxed(), ..answer }
}

/// The answer, cut after `time`, whatever comes on it.
fn cut_after(answer: Answer, time: Duration) -> Answer {
    Answer { body: answer.body.take_until(tokio::time::sleep(time)).boxed(), ..answer }
}

#[tokio::test]
async fn both_sides_of_a_good_proxy_are_all_ok_and_nothing_is_counted() {
    let stage = Stage::new(SESSIONS).await;
    let mut options = stage.options(&stage.proxy.url("/sse"));
    options.upstream = Some(stage.upstream.url().parse().expect("a URL"));
    options.watch = Duration::from_secs(2);
    let found = checked(&options).await;
    let plain = ["public.certificate", "public.tls"];
    let skipped: Vec<&str> =
        plain.into_iter().chain(["upstream.auth-metadata", "upstream.certificate", "upstream.tls"]).collect();
    assert_eq!(found.all(Skipped), skipped, "{found:#?}");
    assert_eq!(found.all(Ok).len(), found.0.len() - skipped.len(), "{found:#?}");
    assert!(found.of("public.latency").seen.contains("without the way through it"), "{found:#?}");
    let log = stage.proxy.stop().await;
    let legacy =
        log.iter().filter(|record| record["event.name"].as_str().is_some_and(|name| name.starts_with("legacy")));
    assert_eq!(legacy.count(), 0, "{log:#?}");
}

#[tokio::test]
async fn without_the_key_hidden_timeouts_are_not_claimed_to_be_none() {
    let stage = Stage::new(SESSIONS).await;
    let mut unsigned = options(None, Some(&stage.proxy.url("/sse")));
    unsigned.watch = Duration::from_millis(200);
    let found = checked(&unsigned).await;
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
    found.is("public.probe-key", Skipped);
    assert!(found.is("public.idle-timeout", Skipped).seen.contains("hide"), "{found:#?}");
    found.is("public.stream-limit", Ok);
    let log = stage.proxy.stop().await;
    assert!(log.iter().any(|record| record["event.name"] == "legacy.connect"), "it counts as a client");
}

#[tokio::test]
async fn key_that_the_proxy_does_not_have_is_a_warning() {
    let (stage, other) = (Stage::new(SESSIONS).await, Stage::new(SESSIONS).await);
    let unkeyed = Proxy::start(stage.upstream.url(), &[]);
    let found = checked(&other.options(&unkeyed.url("/sse"))).await;
    assert_eq!(found.all(Warning), ["public.probe-key"], "{found:#?}");
}

#[tokio::test]
async fn stream_whose_events_are_held_back_is_buffering() {
    let stage = Stage::new(SESSIONS).await;
    let hold = |asked: &Asked, mut answer: Answer| {
        answer.headers.insert(header::SERVER, HeaderValue::from_static("nginx/1.28.0"));
        if is_stream(asked) { withheld(answer) } else { answer }
    };
    let relay = stage.relay(nothing, hold).await;
    let mut options = stage.options(&relay.url("/sse"));
    options.patience = Duration::from_millis(1500);
    let found = checked(&options).await;
    assert_eq!(found.all(Failure), ["public.buffering"], "{found:#?}");
    assert!(found.of("public.buffering").remedy.as_deref().expect("a remedy").contains("proxy_buffering off"));
}

#[tokio::test]
async fn head_that_is_held_back_is_buffering_only_where_other_requests_are_answered() {
    for answers_others in [true, false] {
        let server = Server::start(move |asked| {
            let is_answered = answers_others && asked.method() == Method::OPTIONS;
            let answer = async { whole(204, &[("server", "nginx")], "") };
            if is_answered { answer.boxed() } else { std::future::pending().boxed() }
        })
        .await;
        let mut options = options(None, Some(&server.url("/sse")));
        options.patience = Duration::from_millis(500);
        let found = checked(&options).await;
        let expected = if answers_others { "public.buffering" } else { "public.stream" };
        assert_eq!(found.all(Failure), [expected], "{found:#?}");
    }
}

#[tokio::test]
async fn stream_that_gives_its_first_event_only_is_buffering_too() {
    let stage = Stage::new(SESSIONS).await;
    let hold = |asked: &Asked, answer: Answer| {
        if !is_stream(asked) {
            return answer;
        }
        // The rest is read all the same: the stream stays open.
        let first =
            answer.body.enumerate().filter_map(|(turn, chunk)| std::future::ready((turn == 0).then_some(chunk)));
        Answer { status: answer.status, headers: answer.headers, body: first.boxed() }
    };
    let relay = stage.relay(nothing, hold).await;
    let mut options = stage.options(&relay.url("/sse"));
    options.patience = Duration::from_millis(1500);
    let found = checked(&options).await;
    assert_eq!(found.all(Failure), ["public.buffering"], "{found:#?}");
    found.is("public.endpoint", Ok);
}

#[tokio::test]
async fn events_that_come_in_batches_are_a_warning() {
    let stage = Stage::new(SESSIONS).await;
    let late = |asked: &Asked, answer: Answer| {
        if !is_stream(asked) {
            return answer;
        }
        let slow = answer.body.then(|chunk: Bytes| async {
            let is_endpoint = chunk.starts_with(b"event: endpoint");
            tokio::time::sleep(if is_endpoint { Duration::ZERO } else { Duration::from_millis(1100) }).await;
            chunk
        });
        Answer { status: answer.status, headers: answer.headers, body: slow.boxed() }
    };
    let found = stage.found(nothing, late, Duration::ZERO).await;
    found.is("public.buffering", Warning);
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
}

#[tokio::test]
async fn silence_that_is_cut_is_told_with_its_length_and_the_keep_alive_that_helps() {
    let stage = Stage::new(SESSIONS).await;
    let cut = |asked: &Asked, answer: Answer| {
        let is_silent = header_of(asked, "sse-sunset-probe").ends_with("keep-alive=off");
        if is_silent { cut_after(answer, Duration::from_millis(300)) } else { answer }
    };
    let found = stage.found(nothing, cut, Duration::from_secs(2)).await;
    assert_eq!(found.all(Failure), ["public.idle-timeout"], "{found:#?}");
    let idle = found.of("public.idle-timeout");
    assert!(
        idle.seen.contains("of silence (closed)")
            && idle.remedy.as_deref().expect("a remedy").contains("--keep-alive ")
    );
    found.is("public.stream-limit", Ok);
}

#[tokio::test]
async fn age_that_is_cut_is_a_limit_and_not_taken_for_silence() {
    let stage = Stage::new(SESSIONS).await;
    let cut = |asked: &Asked, answer: Answer| {
        let is_watched = header_of(asked, "sse-sunset-probe").contains("keep-alive=");
        if is_watched { cut_after(answer, Duration::from_millis(300)) } else { answer }
    };
    let found = stage.found(nothing, cut, Duration::from_secs(5)).await;
    assert_eq!(found.all(Failure), ["public.stream-limit"], "{found:#?}");
    found.is("public.idle-timeout", Skipped);
}

#[tokio::test]
async fn stream_that_is_cut_is_told_without_a_key_too() {
    let stage = Stage::new(SESSIONS).await;
    let opened = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // The first stream is for the handshake, the second for compression, the third is watched.
    let cut = move |asked: &Asked, answer: Answer| {
        let is_watched = is_stream(asked) && opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2;
        if is_watched { cut_after(answer, Duration::from_millis(300)) } else { answer }
    };
    let relay = stage.relay(nothing, cut).await;
    let mut unsigned = options(None, Some(&relay.url("/sse")));
    unsigned.watch = Duration::from_secs(5);
    let found = checked(&unsigned).await;
    assert_eq!(found.all(Failure), ["public.idle-timeout"], "{found:#?}");
    found.is("public.stream-limit", Skipped);
}

#[tokio::test]
async fn compressed_streams_are_a_warning_and_a_failure_where_events_stick() {
    let stage = Stage::new(SESSIONS).await;
    for sticks in [false, true] {
        let compress = move |asked: &Asked, mut answer: Answer| {
            if !header_of(asked, "accept-encoding").contains("gzip") {
                return answer;
            }
            answer.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            if sticks { withheld(answer) } else { answer }
        };
        let relay = stage.relay(nothing, compress).await;
        let mut options = stage.options(&relay.url("/sse"));
        options.patience = Duration::from_millis(1500);
        let found = checked(&options).await;
        let status = if sticks { Failure } else { Warning };
        assert!(found.is("public.compression", status).seen.contains("gzip"), "{found:#?}");
        assert_eq!(found.all(status), ["public.compression"], "{found:#?}");
    }
}

#[tokio::test]
async fn posts_that_do_not_reach_the_session_are_told_by_their_status() {
    let stage = Stage::new(SESSIONS).await;
    let cases =
        [(404, "another replica"), (405, "does not lead to the proxy"), (413, "small messages"), (307, "redirects")];
    for (status, expected) in cases {
        let refuse = move |asked: &Asked| {
            (asked.method() == Method::POST).then(|| whole(status, &[("location", "/elsewhere")], "no"))
        };
        let found = stage.found(refuse, same, Duration::ZERO).await;
        assert_eq!(found.all(Failure), ["public.routing"], "{found:#?}");
        let meaning = found.of("public.routing").meaning.clone().expect("a meaning");
        assert!(meaning.contains(expected), "{status}: {meaning}");
    }
}

#[tokio::test]
async fn balancer_without_affinity_is_found_by_posts_on_other_connections() {
    let stage = Stage::new(SESSIONS).await;
    let posts = std::sync::atomic::AtomicUsize::new(0);
    let other_replica = move |asked: &Asked| {
        let is_post = asked.method() == Method::POST;
        let lost = is_post && posts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3;
        lost.then(|| whole(404, &[], "unknown session"))
    };
    let found = stage.found(other_replica, same, Duration::ZERO).await;
    let routing = found.is("public.routing", Failure);
    assert!(routing.seen.contains("POST on another connection (2 of 4)"), "{routing:#?}");
}

#[tokio::test]
async fn what_answers_instead_of_the_stream_is_told_apart() {
    let page = [("content-type", "text/html")];
    let cases = [
        (200, "a page answers"),
        (302, "clients follow redirects"),
        (401, "a credential is asked for"),
        (404, "something else"),
        (421, "called by this name"),
        (502, "does not reach the proxy"),
    ];
    for (status, expected) in cases {
        let server = Server::start(move |_| {
            let location = if status == 302 { "https://login.example.com/x?secret=hunter2" } else { "" };
            async move { whole(status, &[page[0], ("location", location)], "<h1>Hello</h1>") }.boxed()
        })
        .await;
        let found = checked(&options(None, Some(&server.url("/sse")))).await;
        assert_eq!(found.all(Failure), ["public.stream"], "{found:#?}");
        let meaning = found.of("public.stream").meaning.clone().expect("a meaning");
        assert!(meaning.contains(expected), "{status}: {meaning}");
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn endpoint_on_another_origin_is_a_failure() {
    let stage = Stage::new(SESSIONS).await;
    let event = "event: endpoint\ndata: http://10.0.0.7:8080/messages?sessionId=1\n\n";
    let own =
        move |asked: &Asked| is_stream(asked).then(|| whole(200, &[("content-type", "text/event-stream")], event));
    let found = stage.found(own, same, Duration::ZERO).await;
    assert_eq!(found.all(Failure), ["public.endpoint"], "{found:#?}");
}

#[tokio::test]
async fn credential_that_is_missing_behind_the_proxy_is_a_warning_and_opens_the_rest_when_given() {
    let stage = Stage::new(Behaviour { token: Some("good"), ..SESSIONS }).await;
    let mut options = stage.options(&stage.proxy.url("/sse"));
    let found = checked(&options).await;
    assert_eq!(found.all(Warning), ["public.routing"], "{found:#?}");
    assert_eq!(found.all(Failure), [""; 0]);
    options.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer good"));
    let found = checked(&options).await;
    assert_eq!(found.all(Warning), [""; 0], "{found:#?}");
    found.is("public.latency", Ok);
}
