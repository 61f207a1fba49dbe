//! The binary against a good path, and against paths with each fault: exit codes, words, remedies.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Key, SESSIONS, names, proxy, shared_key};
use crate::binary::signal;
use crate::support::port::Port;
use crate::support::script::{Gate, Got, Script, Scripted, Step as Play, chunk, event, last_chunk, reply, stream_head};
use crate::support::tls::Authority;
use crate::support::{Behaviour, FakeUpstream, Proxy, Seen, within};

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

/// The binary with `--every`.
fn repeating(url: &str, options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.args(["canary", "--url", url, "--every", "20ms"]).args(options);
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary")
}

/// Runs the binary with `--every` until `is_enough`, and tells it to stop.
async fn repeated(url: &str, options: &[&str], is_enough: impl Future<Output = ()>) -> (Option<i32>, String, String) {
    let child = repeating(url, options);
    is_enough.await;
    signal(&child, "TERM").await;
    let Output { status, stdout, stderr } = within("the end", child.wait_with_output()).await.expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn repeated_walk_goes_on_until_it_is_told_to_stop_and_says_how_the_last_one_went() {
    let (upstream, key) = (FakeUpstream::start(SESSIONS).await, shared_key());
    let proxy = proxy(&upstream, &key);
    let enough = async { drop(proxy.logged("canary.seen", 3).await) };
    let (code, stdout, stderr) = repeated(&proxy.url("/sse"), &["--probe-key-file", key.path()], enough).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.lines().count() >= 3 && stdout.lines().all(|line| line.ends_with(" signed")), "{stdout}");
    proxy.stop().await;

    let wrong = Public::Get(404).start().await;
    let enough = within("three walks", async {
        while wrong.got().len() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let (code, stdout, stderr) = repeated(&wrong.url().replace("/mcp", "/gw/sse"), &[], enough).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.matches("FAILED at connect").count() >= 2, "a failure ends nothing: {stderr}");
}

/// Tokens are renewed while it runs, and keys are changed.
#[tokio::test]
async fn repeated_walk_reads_its_files_anew() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SESSIONS }).await;
    let (key, token) = (shared_key(), Key::of("Bearer old\n"));
    let proxy = proxy(&upstream, &key);
    let begun = |word: &str| {
        let is_it = |seen: &&Seen| {
            seen.body["method"] == "initialize" && seen.headers.get("authorization").is_some_and(|value| value == word)
        };
        upstream.seen().iter().filter(is_it).count()
    };
    let enough = within("walks with either token", async {
        let look = std::time::Duration::from_millis(5);
        while begun("Bearer old") == 0 {
            tokio::time::sleep(look).await;
        }
        std::fs::write(token.path(), "Bearer good\n").expect("written");
        // The second begins when the first is over.
        while begun("Bearer good") < 2 {
            tokio::time::sleep(look).await;
        }
    });
    let header = format!("Authorization: @{}", token.path());
    let options = ["--probe-key-file", key.path(), "--header", &header];
    let (code, stdout, stderr) = repeated(&proxy.url("/sse"), &options, enough).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains(" signed") && stderr.contains("FAILED"), "{stdout}{stderr}");
    proxy.stop().await;
}

/// While certificates are being replaced, half of them may be there.
#[tokio::test]
async fn repeated_walk_outlives_certificates_that_are_none() {
    let authorities = Key::of("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    // Who vouches for the server matters to TLS only; that nothing listens shows that it has got so far.
    let port = Port::reserve();
    let mut child = repeating(&format!("https://{}/sse", port.address), &["--ca", authorities.path()]);
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut line = async || within("a line", lines.next_line()).await.expect("readable").expect("a line");
    let first = line().await;
    assert!(first.starts_with("sse-sunset canary: cannot begin: "), "{first}");
    std::fs::write(authorities.path(), Authority::new().pem()).expect("written");
    while !line().await.contains("FAILED at connect") {}
    signal(&child, "TERM").await;
    assert_eq!(within("the end", child.wait()).await.expect("an end").code(), Some(1));
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
            ("", Public::Get(status)) | ("initialize", Public::Post(status)) => html(status),
            ("", Public::Redirect) => vec![reply(302, &[("location", "/login?state=secret")], "")],
            ("", Public::Buffered) => vec![stream_head(), Play::Hold],
            ("", Public::Cut) => vec![stream_head(), last_chunk()],
            ("", _) => self.stream(gates),
            ("initialize", _) => {
                if !matches!(self, Public::Unanswered) {
                    gates[0].open();
                }
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
    let options = [
        "--ca",
        short.path(),
        "--timeout",
        "15",
        "--every",
        "0s",
        "--header",
        "hunter2",
        "--probe-key-file",
        short.path(),
    ];
    let (code, stdout, stderr) = run("ftp://x", &options).await;
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    for expected in [
        "--url: \"ftp://x\"",
        "--ca",
        "--every: \"0s\"",
        "needs a unit",
        "--header",
        "holds 5 bytes, and a key needs 16",
    ] {
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
