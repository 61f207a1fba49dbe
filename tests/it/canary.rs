//! The operator's own probes: what they leave in the log, what takes their excuse back, and the canary as cron meets it.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};
use sse_sunset::auth::{KeepAlive, PROBE_HEADER, ProbeKey, Signer};
use sse_sunset::probe::canary::{self, Signature, Step};
use sse_sunset::probe::{Fault, SseClient, Target};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::support::script::{Gate, Got, Script, Scripted, Step as Play, chunk, event, last_chunk, reply, stream_head};
use crate::support::tls::Authority;
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

const HEADER: &str = "sse-sunset-probe";
const SESSIONS: Behaviour = Behaviour { sessions: true, sse: true, token: None };

/// A key in a file.
struct Key(NamedTempFile);

impl Key {
    fn of(text: &str) -> Self {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        Key(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("a plain path")
    }

    fn signer(&self) -> Signer {
        Signer::new(ProbeKey::read(self.0.path()).expect("a key"))
    }

    fn header(&self) -> String {
        self.signer().sign(None).to_str().expect("text").to_owned()
    }
}

fn shared_key() -> Key {
    Key::of("the key that both sides have\n")
}

/// A proxy that lingers as in production, with the key.
fn proxy(upstream: &FakeUpstream, key: &Key) -> Proxy {
    Proxy::start(upstream.url(), &[("probe-key-file", key.path()), ("linger", "15s")])
}

fn names(log: &[Value]) -> Vec<&str> {
    let all = log.iter().map(|record| record["event.name"].as_str().expect("a name"));
    all.filter(|name| !name.starts_with("proxy.")).collect()
}

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

/// Runs the binary.
async fn run(url: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.args(["canary", "--url", url]).args(options).env_remove("SSE_SUNSET_PROBE_KEY_FILE");
    command.kill_on_drop(true).stdin(Stdio::null());
    let Output { status, stdout, stderr } =
        within("the end of the canary", command.output()).await.expect("the binary");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn good_run_is_one_line_and_exit_code_0() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SESSIONS }).await;
    let (key, token) = (shared_key(), Key::of("Bearer good\n"));
    let proxy = proxy(&upstream, &key);
    let authorization = format!("Authorization: @{}", token.path());
    let options = ["--probe-key-file", key.path(), "--header", &authorization];
    let (code, stdout, stderr) = run(&proxy.url("/sse"), &options).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.starts_with(&format!("sse-sunset canary: ok {} connect=", proxy.url("/sse"))), "{stdout}");
    assert!(stdout.ends_with("ms signed\n") && stdout.lines().count() == 1, "{stdout}");

    let (code, stdout, stderr) =
        run(&proxy.url("/sse?key=secret"), &[&options[..], &["--format", "json"]].concat()).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let line: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&line["result"], &line["signature"]), (&json!("ok"), &json!("accepted")));
    assert_eq!((&line["counted_as_client"], &line["server"]["name"]), (&json!(false), &json!("fake")));
    assert_eq!(line["url"], proxy.url("/sse"), "without the query");
    assert!(line["steps_ms"]["ping"].as_f64().is_some() && line["total_ms"].as_f64().is_some(), "{line}");
    proxy.logged("canary.seen", 2).await;
    assert_eq!(names(&proxy.stop().await), ["canary.seen", "canary.seen"]);
}

#[tokio::test]
async fn private_authority_is_trusted_when_it_is_named() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let authority = Authority::new();
    let (acceptor, address) = (authority.acceptor(false, false), proxy.address);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/sse", listener.local_addr().expect("an address").port());
    let relay = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = tokio::net::TcpStream::connect(address).await.expect("the proxy");
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    let ca = Key::of(&authority.pem());
    let (code, stdout, _) = run(&url, &["--ca", ca.path()]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("unsigned (counts as a client"), "{stdout}");
    let (code, _, stderr) = run(&url, &[]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("FAILED at connect") && stderr.contains("--ca"), "{stderr}");
    assert!(stderr.contains("no stream was opened"), "{stderr}");
    relay.abort();
    proxy.stop().await;
}

#[tokio::test]
async fn signature_that_is_not_recognised_fails_the_run_and_says_that_it_counted() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let without_a_key = Proxy::start(upstream.url(), &[]);
    let (code, _, stderr) = run(&without_a_key.url("/sse"), &["--probe-key-file", key.path()]).await;
    assert_eq!(code, Some(1));
    for expected in ["no such header", "start sse-sunset with --probe-key-file", "this run counted as a client"] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    assert_eq!(names(&without_a_key.stop().await), ["legacy.connect", "legacy.end"], "and nothing more");

    let other = Key::of("quite another key than that");
    let proxy = proxy(&upstream, &other);
    let (code, stdout, _) = run(&proxy.url("/sse"), &["--probe-key-file", key.path(), "--format", "json"]).await;
    let line: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &line["result"], &line["signature"]), (Some(1), &json!("failed"), &json!("not_recognised")));
    assert_eq!((&line["counted_as_client"], &line["failure"]["step"]), (&json!(true), &json!("connect")));
    assert_eq!(line["failure"]["got"], "\"ignored; reason=forged\"");
    proxy.stop().await;
}

/// A public path on which something is wrong.
#[derive(Debug, Clone, Copy)]
enum Public {
    Good,
    /// `GET` is answered so, with a body of HTML.
    Get(u16),
    Redirect,
    /// The head comes, and nothing more.
    Buffered,
    /// The first event is this.
    First(&'static str),
    /// The stream ends after the head.
    Cut,
    /// `initialize` is answered so.
    Post(u16),
    /// It is taken and never answered.
    Unanswered,
    /// It is answered with this code.
    Error(i64),
}

impl Public {
    /// A legacy server that plays its part.
    async fn start(self) -> Scripted {
        let gates = [Gate::default(), Gate::default()];
        Scripted::start(move |got| Some(self.script(got, &gates))).await
    }

    fn script(self, got: &Got, gates: &[Gate; 2]) -> Script {
        let html = |status| vec![reply(status, &[("content-type", "text/html")], "<html>log in</html>")];
        match (got.rpc(), self) {
            ("", Public::Get(status)) => html(status),
            ("", Public::Redirect) => vec![reply(302, &[("location", "/login?state=secret")], "")],
            ("", Public::Buffered) => vec![stream_head(), Play::Hold],
            ("", Public::Cut) => vec![stream_head(), last_chunk()],
            ("", _) => self.stream(gates),
            ("initialize", Public::Post(status)) => html(status),
            ("initialize", Public::Unanswered) => vec![reply(202, &[], "Accepted")],
            ("initialize", _) => {
                gates[0].open();
                vec![reply(202, &[], "Accepted")]
            }
            ("ping", _) => {
                gates[1].open();
                vec![reply(202, &[], "Accepted")]
            }
            _ => vec![reply(202, &[], "Accepted")],
        }
    }

    fn stream(self, [initialize, ping]: &[Gate; 2]) -> Script {
        let first = match self {
            Public::First(event) => event,
            _ => "event: endpoint\ndata: messages?sessionId=1\n\n",
        };
        let answer = match self {
            Public::Error(code) => json!({"error": {"code": code, "message": "no\u{1b}[31m"}}),
            _ => json!({"result": {"protocolVersion": "2025-06-18", "serverInfo": {"name": "s", "version": "1"}}}),
        };
        let message = |number: u8, mut answer: Value| {
            answer["jsonrpc"] = "2.0".into();
            answer["id"] = format!("sse-sunset-probe-{number}").into();
            chunk(event(&answer.to_string()))
        };
        let answers = [message(1, answer), message(2, json!({"result": {}}))];
        let [first_answer, second_answer] = answers;
        let waits = [Play::Wait(initialize.clone()), first_answer, Play::Wait(ping.clone()), second_answer, Play::Hold];
        [stream_head(), chunk(first)].into_iter().chain(waits).collect()
    }
}

/// The walk on a path with this fault: exit code 1, the step, and a remedy with this word.
async fn fails(public: Public, step: &str, words: &[&str]) {
    let server = public.start().await;
    let url = server.url().replace("/mcp", "/gw/sse");
    // Where nothing comes, the time runs out; it is far more than everything else needs.
    let is_silent = matches!(public, Public::Buffered | Public::Unanswered);
    let (code, stdout, stderr) = run(&url, if is_silent { &["--timeout", "1s"] } else { &[] }).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{public:?}: {stderr}");
    assert!(stderr.contains(&format!("FAILED at {step} after ")), "{public:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{public:?}, {word}: {stderr}");
    }
    assert!(!stderr.contains('\u{1b}') && !stderr.contains("secret") && !stderr.contains("sessionId"), "{stderr}");
}

#[tokio::test]
async fn each_fault_of_the_way_to_the_stream_is_told_with_its_remedy() {
    fails(Public::Get(401), "connect", &["401 Unauthorized", "--header \"Authorization: @FILE\""]).await;
    fails(Public::Get(403), "connect", &["403 Forbidden", "firewall"]).await;
    fails(Public::Get(404), "connect", &["404 Not Found", "/gw/sse does not lead to sse-sunset"]).await;
    fails(Public::Get(405), "connect", &["405 Method Not Allowed", "route /gw/sse to sse-sunset"]).await;
    fails(Public::Get(200), "connect", &["200 OK, text/html", "login"]).await;
    fails(Public::Get(503), "connect", &["503 Service Unavailable", "balancer"]).await;
    fails(Public::Redirect, "connect", &["302 Found", "/login:", "exempt"]).await;
}

#[tokio::test]
async fn each_fault_of_the_stream_is_told_with_its_remedy() {
    fails(Public::Buffered, "endpoint", &["nothing came within", "proxy_buffering off"]).await;
    fails(Public::Cut, "endpoint", &["the stream ended", "cuts it"]).await;
    fails(Public::First("event: hello\ndata: x\n\n"), "endpoint", &["\"hello\"", "speaks no MCP"]).await;
    let foreign = Public::First("event: endpoint\ndata: https://evil.example/messages?sessionId=1\n\n");
    fails(foreign, "endpoint", &["https://evil.example", "--public-url"]).await;
}

#[tokio::test]
async fn each_fault_of_a_message_is_told_with_its_remedy() {
    fails(Public::Post(401), "initialize", &["401 Unauthorized", "--header"]).await;
    fails(Public::Post(404), "initialize", &["404 Not Found", "the process that holds the stream"]).await;
    fails(Public::Post(405), "initialize", &["405 Method Not Allowed", "takes no POST"]).await;
    fails(Public::Post(413), "initialize", &["413 Payload Too Large", "limits bodies"]).await;
    fails(Public::Unanswered, "initialize", &["202 to the POST, and then nothing", "proxy_buffering off"]).await;
    fails(Public::Error(-32002), "initialize", &["the error -32002", "--upstream", "counted as a client"]).await;
}

#[tokio::test]
async fn server_that_is_not_there_and_one_without_fault() {
    let good = Public::Good.start().await;
    let url = good.url().replace("/mcp", "/gw/sse");
    let (code, stdout, stderr) = run(&url, &[]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(" unsigned"), "{stdout}");
    assert!(good.got().iter().any(|got| got.target == "/gw/messages?sessionId=1"), "as the URL standard resolves it");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (code, _, stderr) = run(&format!("http://{closed}/sse"), &[]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no connection") && stderr.contains("something listens"), "{stderr}");
}

#[tokio::test]
async fn wrong_words_are_exit_code_2_with_all_that_is_wrong() {
    let short = Key::of("short");
    let missing = "/nowhere/probe.key";
    let options = ["--ca", short.path(), "--timeout", "15", "--header", "hunter2", "--probe-key-file", short.path()];
    let (code, stdout, stderr) = run("ftp://x", &options).await;
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    for expected in ["--url: \"ftp://x\"", "--ca", "needs a unit", "--header", "holds 5 bytes, and a key needs 16"] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
    let (code, _, stderr) = run("http://127.0.0.1:9/sse", &["--probe-key-file", missing]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("/nowhere/probe.key\" cannot be read"), "{stderr}");
    let without_url = Command::new(env!("CARGO_BIN_EXE_sse-sunset")).arg("canary").output();
    assert_eq!(within("the end", without_url).await.expect("the binary").status.code(), Some(2));
}

#[tokio::test]
async fn serve_says_what_is_wrong_with_its_key() {
    let short = Key::of("short");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--probe-key-file", short.path()]);
    let output = within("the end", command.kill_on_drop(true).output()).await.expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--probe-key-file") && stderr.contains("openssl rand -hex 32"), "{stderr}");
}
