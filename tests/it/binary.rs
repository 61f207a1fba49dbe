//! The binary as an operator meets it: words, exit codes, signals, the log file.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::tls::Authority;
use crate::support::{http_client, within};

/// The program, which is given words and spawned.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    // Its usual port may be anybody's.
    command.env("SSE_SUNSET_ADMIN", "off");
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts `serve` and waits until it says where it listens.
async fn serve(options: &[&str]) -> (Child, String) {
    serve_by(binary(), options).await
}

/// The same by a command of one's own.
async fn serve_by(mut command: Command, options: &[&str]) -> (Child, String) {
    command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0"]).args(options);
    let mut child = command.spawn().expect("the binary");
    let line = first_line(&mut child).await;
    let said: serde_json::Value = serde_json::from_str(&line).expect("JSON, as standard error is no terminal");
    assert_eq!(said["message"], "accepting connections");
    (child, said["listen"].as_str().expect("an address").to_owned())
}

/// What a program says first on standard error; what follows is read away, so that it never waits for a reader.
pub(crate) async fn first_line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let line = within("the first line", lines.next_line()).await.expect("readable").unwrap_or_default();
    tokio::spawn(async move { while lines.next_line().await.is_ok_and(|line| line.is_some()) {} });
    line
}

pub(crate) async fn signal(child: &Child, name: &str) {
    let id = child.id().expect("running").to_string();
    let status = Command::new("kill").args([format!("-{name}"), id]).status().await.expect("kill");
    assert!(status.success());
}

#[tokio::test]
async fn serve_stops_in_order_on_sigterm_and_leaves_start_and_stop_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("traffic.log");
    let options = ["--traffic-log", log.to_str().expect("a path"), "--drain-delay", "0s"];
    let (mut child, address) = serve(&options).await;
    let answer = http_client().get(format!("http://{address}/nowhere")).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
    signal(&child, "TERM").await;
    assert_eq!(within("the end", child.wait()).await.expect("a status").code(), Some(0));
    let text = fs::read_to_string(log).expect("a log");
    assert!(text.contains("proxy.start") && text.contains("proxy.stop"), "{text}");
}

#[tokio::test]
async fn admin_address_is_announced_and_warned_of_where_others_can_reach_it() {
    for (admin, expected) in [("127.0.0.1:0", "  admin        http://127.0.0.1:"), ("0.0.0.0:0", "(not on loopback:")] {
        let mut command = binary();
        command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0", "--admin", admin]);
        let mut child = command.args(["--log-format", "human"]).spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = within("the line", async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("a line");
                if line.starts_with("  admin") {
                    return line;
                }
            }
        })
        .await;
        assert!(line.contains(expected), "{line}");
        assert!(!line.contains(":0 ") && !line.ends_with(":0"), "the port it got: {line}");
    }
}

#[tokio::test]
async fn second_signal_ends_at_once() {
    let (mut child, _) = serve(&["--drain-delay", "20s", "--log-level", "info"]).await;
    signal(&child, "INT").await;
    // Signals of one number may be merged while the first is not yet taken; of two numbers they are not.
    signal(&child, "TERM").await;
    let code = within("the end", child.wait()).await.expect("a status").code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[tokio::test]
async fn banner_tells_what_the_state_directory_keeps_and_what_is_missing_without_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let kept = format!("  state        {} (key of pseudonyms, and who used the server when", state.display());
    for (dir, expected) in
        [(state.to_str(), kept.as_str()), (None, "  state        none: the live verdict is UNKNOWN at best")]
    {
        let mut command = binary();
        command.args([
            "serve",
            "--upstream",
            "http://127.0.0.1:9/mcp",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "human",
        ]);
        command.args(dir.into_iter().flat_map(|dir| ["--state-dir", dir]));
        let mut child = command.spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = within("the line", async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("a line");
                if line.starts_with("  state ") {
                    return line;
                }
            }
        })
        .await;
        assert!(line.starts_with(expected), "{line}");
        signal(&child, "TERM").await;
        within("the end", child.wait()).await.expect("a status");
    }
}

#[tokio::test]
async fn traffic_log_is_reopened_on_sighup_and_after_a_rename() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, rotated) = (folder.path().join("traffic.log"), folder.path().join("traffic.log.1"));
    let (mut child, address) = serve(&["--traffic-log", log.to_str().expect("a path"), "--drain-delay", "0s"]).await;
    within("proxy.start", async {
        while !fs::read_to_string(&log).is_ok_and(|text| text.contains("proxy.start")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    fs::rename(&log, &rotated).expect("rename");
    signal(&child, "HUP").await;
    let stream = http_client().get(format!("http://{address}/sse")).send().await.expect("a stream");
    drop(stream);
    signal(&child, "TERM").await;
    within("the end", child.wait()).await.expect("a status");
    assert!(fs::read_to_string(rotated).expect("the old log").contains("proxy.start"));
    let new = fs::read_to_string(log).expect("the new log");
    assert!(new.contains("legacy.connect") && new.contains("proxy.stop"), "{new}");
}

#[tokio::test]
async fn traffic_log_goes_to_standard_output_and_nothing_else_does() {
    let (mut child, _) = serve(&["--drain-delay", "0s"]).await;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    signal(&child, "TERM").await;
    let mut names = Vec::new();
    while let Some(line) = within("a line", lines.next_line()).await.expect("readable") {
        let record: serde_json::Value = serde_json::from_str(&line).expect("a record");
        names.push(record["event.name"].as_str().expect("a name").to_owned());
    }
    assert_eq!(names, ["proxy.start", "proxy.stop"]);
}

#[tokio::test]
async fn all_configuration_errors_are_told_at_once_with_exit_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sunset.toml");
    fs::write(&file, "lingr = \"1s\"\n").expect("written");
    let mut command = binary();
    command.args(["serve", "--keep-alive", "15", "--listen", "nowhere", "--config"]).arg(&file);
    let output = within("the end", command.env("SSE_SUNSET_MAX_BODY", "much").output()).await.expect("an end");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    for expected in
        ["--upstream is required", "--keep-alive", "needs a unit", "--listen", "SSE_SUNSET_MAX_BODY", "lingr"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn address_in_use_is_exit_code_1_and_unknown_words_are_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = binary();
    command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", &address]);
    let output = within("the end", command.output()).await.expect("an end");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
    let output = within("the end", binary().arg("swim").output()).await.expect("an end");
    assert_eq!(output.status.code(), Some(2));
    let help = within("the end", binary().args(["serve", "--help"]).output()).await.expect("an end");
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--trusted-proxy"));
}

#[tokio::test]
async fn environment_is_read_and_flags_win() {
    let mut command = binary();
    command.env("SSE_SUNSET_UPSTREAM", "nonsense").env("SSE_SUNSET_STATE_DIR", "");
    let output = within("the end", command.args(["serve", "--listen", "x"]).output()).await.expect("an end");
    assert!(String::from_utf8_lossy(&output.stderr).contains("SSE_SUNSET_UPSTREAM: \"nonsense\""));
    let mut command = binary();
    command.env("SSE_SUNSET_UPSTREAM", "nonsense");
    command.args(["serve", "--listen", "x", "--upstream", "http://127.0.0.1:9/mcp"]);
    let output = within("the end", command.output()).await.expect("an end");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("nonsense"));
}

#[tokio::test]
async fn plain_upstream_needs_no_authorities() {
    let mut command = binary();
    command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0", "--drain-delay", "0s"]);
    // As in an image without any certificates.
    command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent");
    let mut child = command.spawn().expect("the binary");
    let line = first_line(&mut child).await;
    assert!(line.contains("accepting connections"), "{line}");
    signal(&child, "TERM").await;
    within("the end", child.wait()).await.expect("a status");
}

#[tokio::test]
async fn sighup_has_the_certificate_read_again() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    authority.identity("localhost").write_to(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let (mut child, address) = serve(&["--tls-cert", &cert, "--tls-key", &key, "--drain-delay", "0s"]).await;
    let new = authority.identity("localhost");
    new.write_to(folder.path());
    signal(&child, "HUP").await;
    // By itself it looks after ten seconds.
    let shown = tokio::time::timeout(Duration::from_secs(8), async {
        loop {
            let stream = authority.dial(address.parse().expect("an address"), "h2").await;
            if stream.get_ref().1.peer_certificates().expect("a certificate")[0].as_ref() == new.der() {
                return;
            }
        }
    });
    shown.await.expect("the new certificate");
    signal(&child, "TERM").await;
    within("the end", child.wait()).await.expect("a status");
}

#[tokio::test]
async fn process_without_descriptors_turns_connections_away_and_goes_on() {
    let mut command = Command::new("sh");
    // What it inherits does not count: one more than the highest number is what is limited.
    command.args(["-c", "ulimit -n 48; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sse-sunset")]);
    command.env("SSE_SUNSET_ADMIN", "off").kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped());
    let (mut child, address) = serve_by(command, &["--first-byte-timeout", "1h", "--keep-alive", "50ms"]).await;
    let mut stream = within("a connection", TcpStream::connect(&address)).await.expect("a connection");
    stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut head = vec![0; 4096];
    assert!(within("an answer", stream.read(&mut head)).await.expect("an answer") > 0);
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(within("a connection", TcpStream::connect(&address)).await);
    }
    // Whoever was turned away sees it, some while they connect: the last ones cannot all have found a descriptor.
    let end = match silent.last_mut().expect("eighty") {
        Ok(last) => within("the end of a connection", last.read(&mut [0])).await,
        Err(error) => Err(error.kind().into()),
    };
    assert!(matches!(end, Err(_) | Ok(0)), "{end:?}");
    drop(silent);
    within("an answer", async {
        while http_client().get(format!("http://{address}/nowhere")).send().await.is_err() {}
    })
    .await;
    // What came meanwhile is read away; then there is more.
    while let Ok(1..) = stream.try_read(&mut head) {}
    let more = within("a comment", stream.read(&mut head)).await;
    assert!(more.is_ok_and(|length| length > 0), "the stream that was there goes on");
    signal(&child, "TERM").await;
    signal(&child, "TERM").await;
    within("the end", child.wait()).await.expect("a status");
}

/// Many a shell and container runtime gives 1,024 descriptors, and more to those that ask.
#[tokio::test]
async fn serve_uses_all_descriptors_that_it_may_have() {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=256:4096", env!("CARGO_BIN_EXE_sse-sunset")]).env("SSE_SUNSET_ADMIN", "off");
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (child, _) = serve_by(command, &["--traffic-log", "/dev/null"]).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id().expect("running"))).expect("limits");
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(limit.split_whitespace().nth(3), Some("4096"), "{limit}");
}
