//! The whole switch-off as an operator rehearses it: the real binary, its own commands, dates that come in minutes, and a
//! client of each kind that tries in every phase.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{NEW_URL, Stage, greet, text};
use crate::support::{LegacyClient, http_client, within};

struct Desk {
    stage: Stage,
    child: Child,
    base: String,
    admin: String,
}

impl Desk {
    async fn open(stage: Stage) -> Self {
        let paths = ["state", "token", "traffic.log"].map(|name| stage.path(name));
        let [kept, token, log] = paths.each_ref().map(|path| text(path));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        command.args([
            "serve",
            "--upstream",
            stage.upstream.url(),
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        command.args(["--state-dir", kept, "--admin-token-file", token, "--traffic-log", log, "--linger", "0s"]);
        command.args(["--new-url", NEW_URL, "--announce", "+1h", "--tombstone", "+3h", "--gone", "+4h"]);
        command.args(["--drain-delay", "0s", "--oauth-resource", "none"]);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = within("the first line", lines.next_line()).await.expect("readable").expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON, as standard error is no terminal");
        tokio::spawn(async move { while lines.next_line().await.is_ok_and(|line| line.is_some()) {} });
        let of = |name: &str| said[name].as_str().expect("an address").to_owned();
        Desk { base: format!("http://{}", of("listen")), admin: of("admin"), stage, child }
    }

    async fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        command.args(words).env("SSE_SUNSET_ADMIN", &self.admin);
        command.env("SSE_SUNSET_ADMIN_TOKEN_FILE", self.stage.path("token")).kill_on_drop(true).stdin(Stdio::null());
        within("the end of the command", command.output()).await.expect("an end")
    }

    /// What a command of `sunset` prints that does what it says.
    async fn sunset(&self, words: &[&str]) -> String {
        let output = self.run(&[&["sunset"], words].concat()).await;
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Why a client gets no session, if it gets none.
    async fn try_as(&self, name: &str) -> Option<String> {
        let mut client = LegacyClient::connect_to(&self.base, &[]).await;
        let answer = greet(&mut client, name).await;
        if let Some(error) = answer.get("error") {
            let message = error["message"].as_str().expect("a text").to_owned();
            assert!(message.contains(NEW_URL), "{message}");
            return Some(message);
        }
        client.call(1, "echo", json!({"text": "x"})).await;
        assert!(client.answer(1).await.get("result").is_some());
        None
    }
}

#[tokio::test]
async fn operator_rehearses_the_whole_switch_off_with_the_binary_alone() {
    let desk = Desk::open(Stage::new().await).await;
    assert_eq!(desk.try_as("nightly").await, None);

    let status = desk.sunset(&["status"]).await;
    assert!(status.starts_with("phase       observe") && status.contains("next        announce at "), "{status}");

    // Who would be hit?
    desk.sunset(&["set", "tombstone", "--dry-run", "--why", "who is left?"]).await;
    assert_eq!(desk.try_as("nightly").await, None);
    let status = desk.sunset(&["status"]).await;
    assert!(
        status.contains("dry run     tombstone since ") && status.contains("name:nightly, last active"),
        "{status}"
    );

    // Announced; frozen: who was seen goes on.
    desk.sunset(&["set", "announce", "--why", "begin"]).await;
    assert_eq!(desk.try_as("nightly").await, None);
    desk.sunset(&["set", "freeze", "--why", "no new ones"]).await;
    within("the list of those who were seen", async {
        while !desk.sunset(&["status"]).await.contains("identities were seen before") {}
    })
    .await;
    assert_eq!(desk.try_as("nightly").await, None);
    assert!(desk.try_as("newcomer").await.is_some_and(|text| text.starts_with("HTTP+SSE takes no new clients")));

    // A brownout is held back as long as somebody uses SSE, and forced by its name.
    let held = desk.run(&["sunset", "set", "brownout", "--for", "10m", "--why", "drill"]).await;
    assert_eq!(held.status.code(), Some(1));
    let objection = String::from_utf8_lossy(&held.stderr).into_owned();
    assert!(objection.contains("name:nightly") && objection.contains("--force brownout"), "{objection}");
    desk.sunset(&["set", "brownout", "--for", "10m", "--force", "brownout", "--why", "drill"]).await;
    assert!(desk.try_as("nightly").await.is_some_and(|text| text.starts_with("HTTP+SSE is off until ")));

    // Paused and resumed.
    let paused = desk.sunset(&["pause", "--why", "incident 7"]).await;
    assert!(paused.contains("paused      since ") && paused.contains("incident 7"), "{paused}");
    assert_eq!(desk.try_as("nightly").await, None);
    desk.sunset(&["resume", "--why", "solved"]).await;
    assert!(desk.try_as("nightly").await.is_some());

    // The end.
    desk.sunset(&["set", "tombstone", "--force", "tombstone", "--why", "the date"]).await;
    assert!(desk.try_as("nightly").await.is_some_and(|text| text.starts_with("HTTP+SSE was switched off.")));
    desk.sunset(&["set", "gone", "--force", "gone", "--why", "the end"]).await;
    let gone = within("410", http_client().get(format!("{}/sse", desk.base)).send()).await.expect("an answer");
    assert_eq!(gone.status(), 410);
    assert!(gone.text().await.expect("a body").contains(NEW_URL));

    // Every refused attempt is in the log and counts as one to use.
    let log = desk.stage.path("traffic.log");
    let report = desk.run(&["report", text(&log), "--format", "json"]).await;
    assert_eq!(report.status.code(), Some(1), "NOT YET");
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let clients = report["clients"].as_array().expect("clients");
    let nightly = clients.iter().find(|client| client["identity"] == "name:nightly").expect("the client");
    assert_eq!(nightly["refused"], 3, "brownout twice, tombstone");
    assert!(nightly["last_attempt"].is_string(), "{nightly}");
    drop(desk.child);
}
