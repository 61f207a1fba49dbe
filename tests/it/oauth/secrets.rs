//! Nothing of a log-in is written anywhere: the real binary at TRACE, every secret of the flow a canary.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::support::oauth::{AuthorizationServer, Dialect, ProtectedServer, token};
use crate::support::{http_client, within};

#[tokio::test]
async fn no_token_code_or_verifier_is_written_even_at_trace() {
    let server = ProtectedServer::start().await;
    let issuer = AuthorizationServer::start(Dialect::default()).await;
    server.demand("https://internal.example/mcp", "https://internal.example/mcp", &[&issuer.origin]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("traffic.log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--drain-delay", "0s", "--log-level", "trace"])
        .args(["--oauth-resource", "facade", "--upstream", &server.url(), "--traffic-log"])
        .arg(&log)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut stderr = child.stderr.take().expect("piped");
    let mut written = Vec::new();
    while !written.contains(&b'\n') {
        within("the first line", stderr.read_buf(&mut written)).await.expect("readable");
    }
    let first: Value =
        serde_json::from_slice(written.split(|byte| *byte == b'\n').next().expect("a line")).expect("JSON");
    let base = format!("http://{}", first["listen"].as_str().expect("an address"));
    let rest = tokio::spawn(async move {
        stderr.read_to_end(&mut written).await.expect("readable");
        String::from_utf8_lossy(&written).into_owned()
    });
    let http = http_client();
    let form =
        "grant_type=authorization_code&code=secret-code&code_verifier=secret-verifier&client_secret=secret-client";
    let post = http.post(format!("{base}/sse/oauth/token")).header("content-type", "application/x-www-form-urlencoded");
    let post = post.header("authorization", "Basic secret-basic").body(form);
    let answer = within("tokens", post.send()).await.expect("an answer");
    assert!(answer.text().await.expect("a text").contains("secret-refresh"), "the canaries did go through");
    let query = "state=secret-state&code_challenge=secret-challenge&login_hint=secret-hint";
    // The redirect is followed to the authorization server, where the flow ends.
    let browse = http.get(format!("{base}/sse/oauth/authorize?{query}"));
    let _ = within("the redirect", browse.send()).await;
    for number in 0..5 {
        let sent = format!("Bearer {}", token("https://wrong.example/secret-path", number));
        let answer = within("an answer", http.get(format!("{base}/sse")).header("authorization", sent).send()).await;
        assert!(matches!(answer.expect("an answer").status().as_u16(), 401 | 403));
    }
    let id = child.id().expect("running").to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
    assert!(within("the end", child.wait()).await.expect("a status").success());
    let diagnostics = within("all of standard error", rest).await.expect("no panic");
    assert!(diagnostics.contains("TRACE") && diagnostics.contains("it is answered 403 for a"), "{diagnostics}");
    assert_eq!(diagnostics.matches("it is answered 403 for a").count(), 1, "the operator is told once");
    let all = diagnostics + &std::fs::read_to_string(log).expect("a log");
    // The audience of a refused token is told, as the one thing that helps.
    let all = all.replace("https://wrong.example/secret-path", "");
    for secret in ["secret-", "e30.", "c2VjcmV0"] {
        if let Some(at) = all.find(secret) {
            panic!("{secret}: {}", all[at.saturating_sub(300)..].chars().take(600).collect::<String>());
        }
    }
}
