//! A session with a scripted upstream, and the one question every row is asked: exactly one answer?

use serde_json::{Value, json};

use crate::support::script::{Got, Script, Scripted};
use crate::support::{LegacyClient, Proxy};

/// A proxy before a scripted upstream, and a client that has initialized.
pub(super) struct Stage {
    pub(super) upstream: Scripted,
    pub(super) proxy: Proxy,
    pub(super) client: LegacyClient,
    /// The last request id that was used here.
    last_id: u64,
}

impl Stage {
    /// Answers by `play`; the handshake is done.
    pub(super) async fn open(play: impl Fn(&Got) -> Option<Script> + Send + Sync + 'static) -> Self {
        let mut stage = Stage::closed(play).await;
        let answer = stage.client.initialize().await;
        assert!(answer["result"].is_object(), "{answer}");
        stage
    }

    /// The same under a credential.
    pub(super) async fn open_as(token: &str, play: impl Fn(&Got) -> Option<Script> + Send + Sync + 'static) -> Self {
        let mut stage = Stage::closed_as(&[("authorization", token)], play).await;
        let answer = stage.client.initialize().await;
        assert!(answer["result"].is_object(), "{answer}");
        stage
    }

    /// The same before the handshake.
    pub(super) async fn closed(play: impl Fn(&Got) -> Option<Script> + Send + Sync + 'static) -> Self {
        Stage::closed_as(&[], play).await
    }

    async fn closed_as(
        headers: &[(&'static str, &str)],
        play: impl Fn(&Got) -> Option<Script> + Send + Sync + 'static,
    ) -> Self {
        let upstream = Scripted::start(play).await;
        let proxy = Proxy::start(upstream.url(), &[]);
        let client = LegacyClient::connect(&proxy, headers).await;
        Stage { upstream, proxy, client, last_id: 100 }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Calls the tool `rude` and leaves the answer to come.
    pub(super) async fn begin(&mut self) -> u64 {
        let id = self.next_id();
        self.client.call(id, "rude", json!({})).await;
        id
    }

    /// Calls the tool `rude` and gives all messages up to the answer.
    pub(super) async fn ask_for_all(&mut self) -> Vec<Value> {
        let id = self.begin().await;
        self.client.until_answer(id).await
    }

    /// Calls the tool `rude`, and gives the one message that comes, its answer.
    pub(super) async fn ask(&mut self) -> Value {
        let mut messages = self.ask_for_all().await;
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    /// The session works, and nothing came that was not owed.
    pub(super) async fn still_works(&mut self) {
        let id = self.next_id();
        self.client.call(id, "echo", json!({"text": "still here"})).await;
        let messages = self.client.until_answer(id).await;
        assert_eq!(messages.len(), 1, "an answer too many: {messages:?}");
        assert_eq!(messages[0]["result"]["content"][0]["text"], "still here");
    }

    /// Ends the session and the proxy, which checks the books.
    pub(super) async fn end(self) -> Scripted {
        drop(self.client);
        self.proxy.stop().await;
        self.upstream
    }
}

/// What a row's call is answered with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// [`answer`], under the client's id.
    Answer,
    /// [`refusal`], under the client's id.
    Refusal,
    /// An error made by the proxy: its `data.reason`, and a part of its text.
    Error(&'static str, &'static str),
}

/// One row: what it shows, what the upstream does with a request of this id, what the client gets.
pub(super) type Row = (&'static str, Box<dyn Fn(&str) -> Script + Send + Sync>, Want);

/// A row; the script is told the request's id in its JSON form.
pub(super) fn row(name: &'static str, script: impl Fn(&str) -> Script + Send + Sync + 'static, want: Want) -> Row {
    (name, Box::new(script), want)
}

/// The answer that scripts give.
pub(super) fn answer(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"ok":"é"}}}}"#)
}

/// The error that scripts give.
pub(super) fn refusal(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32042,"message":"rude"}}}}"#)
}

/// Plays all rows in one session, each with a call of its own. After each the session must still work, and the upstream
/// must have got the call once. Returns the answers.
pub(super) async fn check(rows: Vec<Row>) -> Vec<Value> {
    let (mut names, mut scripts, mut wants) = (Vec::new(), Vec::new(), Vec::new());
    for (name, script, want) in rows {
        names.push(name);
        scripts.push(script);
        wants.push(want);
    }
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let mut stage = Stage::open(move |got| {
        let number = got.calls("rude").then(|| turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed))?;
        Some(scripts[number](&got.id()))
    })
    .await;
    let mut answers = Vec::new();
    for (name, want) in names.iter().zip(wants) {
        let got = stage.ask().await;
        let id = got["id"].to_string();
        match want {
            Want::Answer => assert!(got == parsed(&answer(&id)), "{name}: {}", start(&got)),
            Want::Refusal => assert!(got == parsed(&refusal(&id)), "{name}: {}", start(&got)),
            Want::Error(reason, text) => {
                let says = got["error"]["message"].as_str().is_some_and(|message| message.contains(text));
                assert!(says && got["error"]["data"]["reason"] == reason, "{name}: {}", start(&got));
            }
        }
        stage.still_works().await;
        answers.push(got);
    }
    let upstream = stage.end().await;
    assert_eq!(upstream.count(|got| got.calls("rude")), names.len(), "no call is replayed");
    answers
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

/// Some of these messages are large.
fn start(message: &Value) -> String {
    message.to_string().chars().take(300).collect()
}
