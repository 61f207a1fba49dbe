//! The registry of sessions without sockets: an upstream with a bug, a client that never polls its stream.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use sse_sunset::auth::{CredentialHeaders, Sender, Vouched};
use sse_sunset::drain::{Drain, Tasks};
use sse_sunset::fleet::Fleet;
use sse_sunset::mcp;
use sse_sunset::metrics::Metrics;
use sse_sunset::session::{Books, Closer, Config, EventStream, Guest, LISTS, Payload, Sessions, Verdict};
use sse_sunset::sunset::Sunset;
use sse_sunset::traffic::{AddressForm, Client, Connection, Log, Principal, Pseudonyms, Target};
use sse_sunset::upstream::{Answer, Content, EraOptions, Exchange, Sending, Transport, Upstream};

use crate::support::within;

/// Answers `initialize`, keeps `tools/list` waiting, and has a bug in `tools/call`.
#[derive(Debug)]
struct Buggy;

impl Transport for Buggy {
    fn send(&self, exchange: Exchange) -> Sending {
        let text = String::from_utf8_lossy(&exchange.body).into_owned();
        assert!(!text.contains("tools/call"), "the bug");
        Box::pin(async move {
            if text.contains("tools/list") {
                std::future::pending::<()>().await;
            }
            let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}"#;
            let body = if text.contains("\"id\":0") { result } else { "" };
            let chunk = futures_util::stream::iter([Ok(Bytes::from_static(body.as_bytes()))]);
            Ok(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Content::Bytes(Box::pin(chunk)) })
        })
    }
}

fn nobody() -> Sender {
    let address = "127.0.0.1".parse().expect("an address");
    Sender::of(&HeaderMap::new(), &CredentialHeaders::default(), Vouched::default(), address)
}

fn guest() -> Guest {
    let address = "127.0.0.1".parse().expect("an address");
    let connection = Connection {
        user_agent: None,
        peer_address: String::new(),
        auth_scheme: None,
        path: "/sse".into(),
        server_address: None,
        origin: None,
        protocol_version: "1.1",
        reconnect: false,
    };
    let client = Client { principal: Principal::default(), info: None, user_agent: None, address };
    Guest {
        client,
        sender: nobody(),
        connection,
        closer: Closer::new(|| {}),
        bears_comments: true,
        is_probe: false,
        signed: None,
        last_event_id: None,
        version: None,
    }
}

async fn open(sessions: &Sessions) -> (String, EventStream) {
    let stream = sessions.open(guest(), |id| format!("/messages?sessionId={id}"));
    let mut stream = stream.await.expect("a place");
    let endpoint = next(&mut stream).await.expect("the endpoint");
    let named = endpoint.trim_end().rsplit('=').next().expect("an id").to_owned();
    (named, stream)
}

async fn next(stream: &mut EventStream) -> Option<String> {
    let frame = within("an event", stream.frame()).await?.expect("infallible");
    Some(String::from_utf8(frame.into_data().expect("data").to_vec()).expect("utf-8"))
}

async fn post(sessions: &Sessions, id: &str, text: &str) -> Verdict {
    let payloads = mcp::parse(&Bytes::copy_from_slice(text.as_bytes())).expect("a message");
    let payloads = payloads.into_iter().map(Payload::Message).collect();
    sessions.deliver(id, payloads, HeaderMap::new(), nobody(), sessions.hold()).await
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Sessions before the buggy upstream.
struct Stage {
    sessions: Sessions,
    tasks: Tasks,
    books: Books,
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
    _drain: Drain,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("traffic.log");
    let log = Log::open(Target::File(path.clone()), "test".into(), None).expect("a log");
    let pseudonyms = Arc::new(Pseudonyms::ephemeral(AddressForm::Hmac));
    let books = Books { log, pseudonyms, metrics: Arc::new(Metrics::new(LISTS)) };
    let (tasks, (drain, watch)) = (Tasks::default(), Drain::new());
    let upstream = Upstream::new(Arc::new(Buggy), EraOptions::default(), "buggy", tasks.clone());
    let sunset = Sunset::never(Arc::clone(&books.metrics));
    let sessions =
        Sessions::new(Config::default(), upstream, books.clone(), sunset, Fleet::solo(), tasks.clone(), watch);
    Stage { sessions, tasks, books, path, _folder: folder, _drain: drain }
}

#[tokio::test]
async fn panic_ends_one_session_and_answers_what_it_owes() {
    let Stage { sessions, tasks, books, path, .. } = &stage();
    let (healthy, mut its_stream) = open(sessions).await;
    let (broken, mut stream) = open(sessions).await;
    for id in [&healthy, &broken] {
        post(sessions, id, INITIALIZE).await;
        post(sessions, id, INITIALIZED).await;
    }
    next(&mut stream).await.expect("the handshake");
    next(&mut its_stream).await.expect("the handshake");
    post(sessions, &broken, r#"{"jsonrpc":"2.0","id":"owed","method":"tools/list"}"#).await;
    post(sessions, &broken, r#"{"jsonrpc":"2.0","id":"bug","method":"tools/call"}"#).await;

    let mut answers = [next(&mut stream).await.expect("an error"), next(&mut stream).await.expect("an error")];
    answers.sort_by_key(|answer| answer.contains("\"owed\""));
    assert!(answers[0].contains("\"bug\"") && answers[0].contains("proxy_failure"), "{answers:?}");
    assert!(answers[1].contains("\"owed\"") && answers[1].contains("proxy_failure"), "{answers:?}");
    assert_eq!(next(&mut stream).await, None, "then the stream ends");
    assert_eq!(books.metrics.panics.get(), 1);

    assert_eq!(post(sessions, &healthy, r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#).await, Verdict::Accepted);
    assert!(next(&mut its_stream).await.expect("an answer").contains("\"id\":0"), "the other session goes on");
    drop((stream, its_stream));
    within("all tasks", tasks.ended()).await;
    assert!(sessions.is_empty());
    books.log.flush().await;
    let text = std::fs::read_to_string(path).expect("the log");
    let ends: Vec<&str> = text.lines().filter(|line| line.contains("legacy.end")).collect();
    assert_eq!(ends.len(), 2);
    assert!(ends[0].contains("\"panic\"") && ends[1].contains("\"client_disconnect\""), "{ends:?}");
}

/// What is answered here costs memory until the client takes it, and a client that takes nothing can ask for ever.
#[tokio::test(start_paused = true)]
async fn client_that_asks_and_takes_nothing_is_listened_to_no_more() {
    let Stage { sessions, tasks, .. } = &stage();
    let (id, stream) = open(sessions).await;
    let ping = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(200));
    let mut taken = 0;
    while post(sessions, &id, &ping).await == Verdict::Accepted {
        taken += 1;
        assert!(taken < 5_000, "a megabyte of answers that nobody takes");
    }
    assert!(taken > 100, "it was listened to at first: {taken}");
    drop(stream);
    within("all tasks", tasks.ended()).await;
}
