//! No secret anywhere (SECURITY §3): canaries go through the real binary at TRACE, and nothing that it writes may hold one.
//!
//! The trap: it is not our own code that talks at TRACE but every library below it.

use std::process::Stdio;

use reqwest::header::HeaderMap;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::support::{Behaviour, FakeUpstream, LegacyClient, http_client, within};

/// In the URL of the upstream, as Azure Functions wants it.
const CODE: &str = "secret-upstream-code";
/// What the operator adds.
const KEY: &str = "secret-operator-key";
/// And that changes on the admin address need.
const TOKEN: &str = "secret-admin-token";
/// What clients send.
const SENT: [(&str, &str); 4] = [
    ("authorization", "Bearer secret-token"),
    ("cookie", "session=secret-cookie"),
    ("x-api-key", "secret-api-key"),
    ("proxy-authorization", "Basic secret-proxy"),
];
/// What goes through it.
const CONTENT: [&str; 2] = ["secret-argument", "secret-garbage"];

/// The binary at TRACE, its address, and everything it writes on standard error from then on.
struct Traced {
    child: tokio::process::Child,
    base: String,
    admin: String,
    stderr: tokio::task::JoinHandle<String>,
    folder: tempfile::TempDir,
}

impl Traced {
    async fn start(upstream: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, TOKEN).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--drain-delay",
                "0s",
                "--log-level",
                "trace",
                "--passthrough",
                "mcp",
            ])
            .arg("--admin-token-file")
            .arg(token)
            .arg("--upstream")
            .arg(format!("{upstream}?code={CODE}"))
            .args(["--upstream-header", &format!("X-Functions-Key: {KEY}"), "--traffic-log"])
            .arg(folder.path().join("traffic.log"))
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut stderr = child.stderr.take().expect("piped");
        let mut text = Vec::new();
        while !text.contains(&b'\n') {
            within("the first line", stderr.read_buf(&mut text)).await.expect("readable");
        }
        let line = String::from_utf8_lossy(&text);
        let said: serde_json::Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
        let base = format!("http://{}", said["listen"].as_str().expect("an address"));
        let admin = said["admin"].as_str().expect("an address").to_owned();
        let stderr = tokio::spawn(async move {
            stderr.read_to_end(&mut text).await.expect("readable");
            String::from_utf8_lossy(&text).into_owned()
        });
        Traced { child, base, admin, stderr, folder }
    }

    /// How large its core file may be, softly and at most.
    fn largest_core(&self) -> [String; 2] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id().expect("running")));
        let limits = limits.expect("its limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a line");
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().expect("a limit"), words.next().expect("a limit")]
    }

    /// Stops it; its diagnostics and its traffic log.
    async fn stop(mut self) -> (String, String) {
        let id = self.child.id().expect("running").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
        assert!(within("the end", self.child.wait()).await.expect("a status").success());
        let log = std::fs::read_to_string(self.folder.path().join("traffic.log")).expect("a log");
        (within("all of standard error", self.stderr).await.expect("no panic"), log)
    }
}

/// The bodies of HTTP errors, with every secret in the request.
async fn errors(base: &str, endpoint: &str) -> String {
    let headers: HeaderMap = SENT
        .iter()
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
        .collect::<Vec<(reqwest::header::HeaderName, _)>>()
        .into_iter()
        .collect();
    let mut text = String::new();
    for (method, path, body) in [
        ("POST", "/messages?sessionId=secret-unknown-session", "{}"),
        ("POST", "/messages", "{}"),
        ("POST", endpoint, "secret-argument"),
        ("POST", endpoint, "[]"),
        ("PUT", endpoint, ""),
        ("GET", "/secret-path?secret-name=query", ""),
    ] {
        let request = http_client().request(method.parse().expect("a method"), format!("{base}{path}"));
        let request = request.headers(headers.clone()).header("content-type", "application/json").body(body);
        let answer = within("an answer", request.send()).await.expect("an answer");
        assert!(answer.status().is_client_error(), "{path}");
        text.extend([format!("{:?}", answer.headers())]);
        text += &answer.text().await.expect("a text");
    }
    text
}

/// What a client of Streamable HTTP does, passed through and upgraded; the bodies of what the proxy itself answers.
async fn streamable(base: &str) -> String {
    let mut text = String::new();
    for path in ["/mcp?secret-name=query", "/sse?secret-name=query"] {
        let post = async |body: serde_json::Value, session: Option<&str>| {
            let mut request = http_client().post(format!("{base}{path}")).header("content-type", "application/json");
            for (name, value) in SENT {
                request = request.header(name, value);
            }
            if let Some(session) = session {
                request = request.header("mcp-session-id", session);
            }
            within("an answer", request.body(body.to_string()).send()).await.expect("an answer")
        };
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"capabilities": {},
            "protocolVersion": "2025-06-18", "clientInfo": {"name": "modern", "version": "1"}}});
        let greeted = post(initialize, None).await;
        let session = greeted.headers()["mcp-session-id"].to_str().expect("an id").to_owned();
        greeted.text().await.expect("a body");
        let echo = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "echo", "arguments": {"text": CONTENT[0]}}});
        let answer = post(echo.clone(), Some(&session)).await.text().await.expect("a body");
        assert!(answer.contains(CONTENT[0]), "{answer}");
        let refused = post(echo, Some("sunset-secret-unknown")).await;
        text.extend([format!("{:?}", refused.headers())]);
        text += &refused.text().await.expect("a text");
    }
    text
}

/// What operators are told.
async fn admin(base: &str) -> String {
    let mut text = String::new();
    for (method, path, token) in [
        ("GET", "/metrics", TOKEN),
        ("GET", "/status", TOKEN),
        ("GET", "/readyz", TOKEN),
        ("GET", "/secret-path?secret-name=query", TOKEN),
        ("POST", "/reopen", TOKEN),
        ("POST", "/reopen", "secret-another-token"),
    ] {
        let request = http_client().request(method.parse().expect("a method"), format!("{base}{path}"));
        let answer = within("an answer", request.bearer_auth(token).send()).await.expect("an answer");
        text.extend([format!("{:?}", answer.headers())]);
        text += &answer.text().await.expect("a text");
    }
    assert!(text.contains("sse_sunset_uses_total") && text.contains("config_hash"), "{text}");
    text
}

#[tokio::test]
async fn nothing_that_is_written_holds_a_secret_even_at_trace() {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let proxy = Traced::start(upstream.url()).await;
    let mut client = LegacyClient::connect_to(&proxy.base, &SENT).await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": CONTENT[0]})).await;
    assert!(client.answer(1).await.to_string().contains(CONTENT[0]));
    upstream.push(&json!({"garbage": CONTENT[1]})).await;
    client.call(2, "progress", json!({"text": CONTENT[0]})).await;
    client.answer(2).await;
    client.call(3, "quit", json!({"text": CONTENT[0]})).await;
    let made_here = client.answer(3).await.to_string();
    let broken = format!(r#"{{"jsonrpc":"2.0","id":4,"method":"m","params":{{"a":"{}""#, CONTENT[0]);
    assert_eq!(client.post_text(broken, &[]).await.status, 202);
    let made_here = made_here + &client.answer(4).await.to_string();
    let errors = errors(&proxy.base, &client.endpoint).await + &streamable(&proxy.base).await;
    let admin = admin(&proxy.admin).await;
    assert_eq!(proxy.largest_core(), ["0", "0"], "no core file would hold them");
    let session = client.endpoint.split_once('=').expect("an id").1.to_owned();
    drop(client);
    upstream.wait_for("the end of the session", |seen| seen.method == http::Method::DELETE).await;
    upstream.stop();
    let (diagnostics, log) = proxy.stop().await;

    assert!(upstream.seen().iter().all(|seen| seen.headers["x-functions-key"] == KEY), "the canaries did go through");
    assert!(
        upstream.seen().iter().any(|seen| seen.headers.get("x-api-key").is_some_and(|sent| sent == "secret-api-key"))
    );
    assert!(diagnostics.contains("TRACE"), "libraries do talk: {diagnostics}");
    assert!(log.contains("legacy.end") && log.contains("legacy.upgrade") && log.contains("modern.seen"), "{log}");
    let written = [
        ("diagnostics", diagnostics),
        ("log", log),
        ("HTTP errors", errors),
        ("JSON-RPC errors", made_here),
        ("admin", admin),
    ];
    for (place, text) in written {
        for secret in ["secret-", "upstream-session-", &session, &session[..16]] {
            if let Some(at) = text.find(secret) {
                let around: String = text[at.saturating_sub(300)..].chars().take(600).collect();
                panic!("{secret} stands in the {place}: {around}");
            }
        }
    }
}

/// The test runs itself again as a child, in which the panic happens: hooks belong to a whole process.
#[test]
fn report_of_a_panic_says_where_and_not_with_what_words() {
    if std::env::var_os("PANIC_HERE").is_some() {
        tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
        sse_sunset::cli::report_panics();
        let panicked = std::thread::spawn(|| panic!("{}", "secret-panic")).join();
        assert!(panicked.is_err());
        return;
    }
    let name = "secrets::report_of_a_panic_says_where_and_not_with_what_words";
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env("PANIC_HERE", "1")
        .output()
        .expect("this program again");
    let text = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
    assert!(child.status.success(), "{text}");
    assert!(text.contains("a bug in sse-sunset") && text.contains("secrets.rs"), "{text}");
    assert!(!text.contains("secret-panic"), "{text}");
}
