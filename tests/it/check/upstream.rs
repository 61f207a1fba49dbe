//! The upgraded server: a good one, and each way to be otherwise.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, header};
use serde_json::json;
use sse_sunset::probe::check::Status::{Failure, Ok, Skipped, Warning};

use super::server::{Answer, Asked, Server, forward, id, method, whole};
use super::server::{header as header_of, json as document};
use super::{SESSIONS, checked, options};
use crate::support::{Behaviour, Disguise, FakeUpstream};

const FOLLOWED: &str = "/mcp";

/// A good server behind a relay that answers some requests itself.
async fn meddled<F>(trick: F) -> (Arc<FakeUpstream>, Server)
where
    F: Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
{
    let upstream = Arc::new(FakeUpstream::start(SESSIONS).await);
    let base = upstream.url().trim_end_matches(FOLLOWED).to_owned();
    let server = Server::start(move |asked| {
        let own = trick(&asked);
        let base = base.clone();
        async move {
            match own {
                Some(answer) => answer,
                None => forward(&base, asked).await,
            }
        }
        .boxed()
    })
    .await;
    (upstream, server)
}

#[tokio::test]
async fn good_server_is_all_ok_and_keeps_no_session() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let found = checked(&options(Some(upstream.url()), None)).await;
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
    assert_eq!(found.all(Warning), [""; 0], "{found:#?}");
    assert_eq!(found.all(Skipped), ["upstream.auth-metadata", "upstream.certificate", "upstream.tls"]);
    assert_eq!(found.0.len(), 21);
    assert!(found.of("upstream.version").seen.starts_with("2025-11-25, fake 1"), "{found:#?}");
    let seen = upstream.seen();
    let opened = seen.iter().filter(|seen| seen.body["method"] == "initialize").count();
    let ended = seen.iter().filter(|seen| seen.method == Method::DELETE).count();
    assert_eq!((opened, ended), (2, 2), "one for each version that is tried");
}

#[tokio::test]
async fn server_without_sessions_is_a_warning_and_nothing_is_deleted() {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let found = checked(&options(Some(upstream.url()), None)).await;
    assert_eq!(found.all(Warning), ["upstream.session-id"]);
    assert_eq!(found.all(Failure), [""; 0]);
    found.is("upstream.delete", Skipped);
    assert!(found.is("upstream.get-stream", Ok).seen.starts_with("405"));
    assert!(found.of("upstream.media-type").seen.contains("JSON"));
    assert!(upstream.seen().iter().all(|seen| seen.method != Method::DELETE));
}

#[tokio::test]
async fn nothing_listening_is_a_failure_and_all_else_is_skipped() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/mcp", taken.local_addr().expect("an address"));
    drop(taken);
    let found = checked(&options(Some(&url), None)).await;
    assert_eq!(found.all(Failure), ["upstream.tcp"]);
    assert_eq!(found.all(Ok), ["upstream.dns"]);
    assert_eq!(found.0.len(), 21, "what is skipped is told");
}

#[tokio::test]
async fn server_that_never_answers_is_told_within_the_timeout() {
    let server = Server::start(|_| futures_util::future::pending().boxed()).await;
    let mut options = options(Some(&server.url("/mcp")), None);
    options.patience = Duration::from_millis(200);
    let found = checked(&options).await;
    assert_eq!(found.all(Failure), ["upstream.http"]);
}

#[tokio::test]
async fn redirect_that_the_proxy_follows_is_a_warning_and_any_other_a_failure() {
    let slash = |asked: &Asked| (asked.uri().path() == "/mcp/").then(|| whole(307, &[("location", "/mcp")], ""));
    let (_upstream, server) = meddled(slash).await;
    let found = checked(&options(Some(&server.url("/mcp/")), None)).await;
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
    let redirect = found.is("upstream.redirects", Warning);
    assert!(redirect.remedy.as_deref().expect("a remedy").ends_with(&server.url("/mcp")), "{redirect:#?}");

    let (behind, end) = meddled(|_| None).await;
    let target = end.url("/mcp");
    let elsewhere = move |_: &Asked| Some(whole(308, &[("location", &target)], ""));
    let (_other, server) = meddled(elsewhere).await;
    let mut options = options(Some(&server.url("/mcp")), None);
    options.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer hunter2"));
    let found = checked(&options).await;
    let redirect = found.is("upstream.redirects", Failure);
    assert!(redirect.remedy.as_deref().expect("a remedy").contains(&end.url("/mcp")), "{redirect:#?}");
    assert!(!format!("{found:?}").contains("hunter2"));
    assert!(behind.seen().iter().all(|seen| !seen.headers.contains_key(header::AUTHORIZATION)), "it leaked");
}

#[tokio::test]
async fn modern_server_is_recognised_whichever_way_it_refuses() {
    let modern = |seems_fine: bool| {
        move |asked: Asked| -> BoxFuture<'static, Answer> {
            let id = id(&asked);
            let error = |code: i64| json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}});
            let result = |result| json!({"jsonrpc": "2.0", "id": id, "result": result});
            let answer = match method(&asked).as_str() {
                "server/discover" if header_of(&asked, "mcp-protocol-version") == "2026-07-28" => {
                    let info = json!({"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "3"}});
                    document(
                        200,
                        &result(json!({
                            "supportedVersions": ["2026-07-28"], "_meta": info,
                            "capabilities": {"tools": {"listChanged": true}},
                        })),
                    )
                }
                "initialize" if seems_fine => {
                    document(200, &result(json!({"protocolVersion": "2025-11-25", "capabilities": {}})))
                }
                "initialize" => document(400, &error(-32022)),
                "notifications/initialized" => whole(202, &[], ""),
                _ => document(400, &error(-32602)),
            };
            async move { answer }.boxed()
        }
    };
    for seems_fine in [false, true] {
        let server = Server::start(modern(seems_fine)).await;
        let found = checked(&options(Some(&server.url("/mcp")), None)).await;
        let era = found.is("upstream.era", Ok);
        assert!(era.seen.starts_with("modern era: 2026-07-28, which the proxy translates"), "{era:#?}");
        assert_eq!(found.is("upstream.version", Ok).seen, "2026-07-28, new 3");
        found.is("upstream.latency", Ok);
        // It announces changes, and has nothing to listen to.
        found.is("upstream.get-stream", Warning);
    }
}

#[tokio::test]
async fn wrong_paths_and_old_servers_are_told_apart() {
    let nothing =
        Server::start(|_| async { whole(404, &[("content-type", "text/html")], "<h1>no</h1>") }.boxed()).await;
    let found = checked(&options(Some(&nothing.url("/mcp")), None)).await;
    let era = found.is("upstream.era", Failure);
    assert!(era.seen.contains("404") && era.remedy.as_deref().expect("a remedy").contains("path"), "{era:#?}");

    let old = Server::start(|asked| {
        let endpoint = "event: endpoint\ndata: /messages?sessionId=1\n\n";
        let answer = match *asked.method() {
            Method::GET => whole(200, &[("content-type", "text/event-stream")], endpoint),
            _ => whole(405, &[], "no"),
        };
        async move { answer }.boxed()
    })
    .await;
    let found = checked(&options(Some(&old.url("/sse")), None)).await;
    assert!(found.is("upstream.era", Failure).seen.contains("itself an HTTP+SSE endpoint"));

    let broken = Server::start(|_| async { whole(503, &[], "maintenance") }.boxed()).await;
    let found = checked(&options(Some(&broken.url("/mcp")), None)).await;
    assert!(found.is("upstream.era", Failure).seen.contains("HTTP 503: maintenance"));
}

/// What is said to a session that nobody has: ids of the fake server look otherwise.
fn stale(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> impl Fn(&Asked) -> Option<Answer> {
    move |asked| {
        let session = header_of(asked, "mcp-session-id");
        (!session.is_empty() && !session.starts_with("upstream-session")).then(|| answer(asked))
    }
}

#[tokio::test]
async fn lost_session_is_known_in_every_disguise_but_not_behind_a_500() {
    for disguise in Disguise::ALL {
        let text = match disguise {
            Disguise::NotFound | Disguise::NotFoundRpc | Disguise::NotFoundWithId => (404, "Session not found"),
            Disguise::BadRequest => (400, "Bad Request: No valid session ID provided"),
            Disguise::Unauthorized => (401, "Unauthorized: Session not found"),
            Disguise::Ok => (200, "Session not found"),
        };
        let says = move |asked: &Asked| {
            let error = json!({"code": -32000, "message": text.1});
            document(text.0, &json!({"jsonrpc": "2.0", "id": id(asked), "error": error}))
        };
        let (_upstream, server) = meddled(stale(says)).await;
        let found = checked(&options(Some(&server.url("/mcp")), None)).await;
        assert_eq!(found.all(Failure), [""; 0], "{disguise:?}: {found:#?}");
        let expected = if text.0 == 404 { Ok } else { Warning };
        found.is("upstream.stale-session", expected);
    }
    let (_upstream, server) = meddled(stale(|_| whole(500, &[], "NullPointerException"))).await;
    let found = checked(&options(Some(&server.url("/mcp")), None)).await;
    assert_eq!(found.all(Failure), ["upstream.stale-session"]);
}

#[tokio::test]
async fn name_that_the_server_takes_is_found_also_behind_the_look_for_the_session() {
    // Python looks for the session first.
    for session_first in [false, true] {
        let refuse = move |asked: &Asked| {
            let session = header_of(asked, "mcp-session-id");
            if session_first && !session.is_empty() && !session.starts_with("upstream-session") {
                return Some(whole(404, &[], "Session not found"));
            }
            let refused = !header_of(asked, "host").starts_with("localhost:");
            refused.then(|| whole(421, &[("content-type", "text/plain")], "Invalid Host header"))
        };
        let (_upstream, server) = meddled(refuse).await;
        let found = checked(&options(Some(&server.url("/mcp")), None)).await;
        assert_eq!(found.all(Failure), ["upstream.host"], "{found:#?}");
        let remedy = found.of("upstream.host").remedy.clone().expect("a remedy");
        let port = server.base.rsplit(':').next().expect("a port");
        assert!(remedy.contains(&format!("--upstream-host localhost:{port}")), "{remedy}");
        found.is("upstream.latency", Ok);

        let mut options = options(Some(&server.url("/mcp")), None);
        options.upstream_host = Some(HeaderValue::from_str(&format!("localhost:{port}")).expect("a host"));
        let found = checked(&options).await;
        assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
        assert!(found.is("upstream.host", Ok).seen.contains("421"), "{found:#?}");
    }
}

#[tokio::test]
async fn challenge_leads_to_the_metadata_and_a_credential_opens_the_rest() {
    let upstream = Arc::new(FakeUpstream::start(Behaviour { token: Some("good"), ..SESSIONS }).await);
    let base = upstream.url().trim_end_matches(FOLLOWED).to_owned();
    let asked_with = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&asked_with);
    let server = Server::start(move |asked| {
        let (base, own) = (base.clone(), format!("http://{}", header_of(&asked, "host")));
        if asked.uri().path().starts_with("/.well-known/") {
            log.lock().expect("no panic").push(header_of(&asked, "authorization"));
            let found = json!({"resource": "https://mcp.example.com/sse", "authorization_servers": ["https://login.example.com"]});
            return async move { document(200, &found) }.boxed();
        }
        async move {
            let mut answer = forward(&base, asked).await;
            if answer.status == 401 {
                let challenge = format!("Bearer resource_metadata=\"{own}/.well-known/oauth-protected-resource/mcp\"");
                answer.headers.insert("www-authenticate", challenge.parse().expect("a header"));
            }
            answer
        }
        .boxed()
    })
    .await;
    let url = server.url("/mcp");

    let found = checked(&options(Some(&url), None)).await;
    assert_eq!(found.all(Warning), ["upstream.auth"], "{found:#?}");
    assert_eq!(found.all(Failure), [""; 0]);
    assert!(found.is("upstream.auth-metadata", Ok).seen.contains("https://login.example.com"));
    found.is("upstream.era", Skipped);

    let mut with = options(Some(&url), None);
    with.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer good"));
    let found = checked(&with).await;
    assert_eq!(found.all(Failure), [""; 0], "{found:#?}");
    found.is("upstream.auth", Ok);
    found.is("upstream.delete", Ok);

    with.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer stale"));
    with.public = Some("https://other.example.com/sse".parse().expect("a URL"));
    with.patience = Duration::from_millis(500);
    let found = checked(&with).await;
    found.is("upstream.auth", Failure);
    found.is("upstream.auth-metadata", Warning);
    assert!(asked_with.lock().expect("no panic").iter().all(String::is_empty), "a credential went to the metadata");
}

#[tokio::test]
async fn oddities_of_single_answers_are_named() {
    let odd = |asked: &Asked| match (asked.method(), method(asked).as_str()) {
        (&Method::POST, "notifications/initialized") => Some(whole(200, &[], "{}")),
        (&Method::DELETE, _) => Some(whole(500, &[], "no")),
        (&Method::GET, _) => Some(whole(404, &[("content-type", "text/html")], "no")),
        (&Method::POST, "initialize") if asked.body().windows(10).any(|part| part == b"2024-11-05") => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            Some(document(200, &json!({"jsonrpc": "2.0", "id": id(asked), "result": result})))
        }
        _ => None,
    };
    let (_upstream, server) = meddled(odd).await;
    let found = checked(&options(Some(&server.url("/mcp")), None)).await;
    let expected = ["delete", "get-stream", "legacy-version", "notifications"].map(|name| format!("upstream.{name}"));
    assert_eq!(found.all(Warning), expected, "{found:#?}");
    assert_eq!(found.all(Failure), [""; 0]);
}

#[tokio::test]
async fn answers_that_come_compressed_unasked_are_a_failure() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let base = upstream.url().trim_end_matches(FOLLOWED).to_owned();
    let server = Server::start(move |asked| {
        let (base, is_ping) = (base.clone(), method(&asked) == "ping");
        assert_eq!(header_of(&asked, "accept-encoding"), "identity");
        async move {
            let mut answer = forward(&base, asked).await;
            if is_ping && answer.status == 200 {
                answer.headers.insert("content-encoding", HeaderValue::from_static("br"));
            }
            answer
        }
        .boxed()
    })
    .await;
    let found = checked(&options(Some(&server.url("/mcp")), None)).await;
    assert_eq!(found.all(Failure), ["upstream.compression"], "{found:#?}");
}

#[tokio::test]
async fn session_on_one_of_several_replicas_is_told() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let every_third = move |asked: &Asked| {
        let in_session = header_of(asked, "mcp-session-id").starts_with("upstream-session") && method(asked) == "ping";
        let lost = in_session && turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 4 == 3;
        lost.then(|| whole(404, &[], "Session not found"))
    };
    let (_upstream, server) = meddled(every_third).await;
    let found = checked(&options(Some(&server.url("/mcp")), None)).await;
    let latency = found.is("upstream.latency", Failure);
    assert!(latency.meaning.as_deref().expect("a meaning").contains("replicas"), "{latency:#?}");
}
