//! A headless Chromium, spoken to through its pipe (`DevTools` protocol: JSON, each message ended by NUL).
//!
//! A pipe needs no port and no WebSocket, and a browser whose pipe is closed ends by itself.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tab::Tab;

/// How long anything may take; the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
];

/// A browser with a profile of its own; ended on drop.
pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    /// Events that nobody has asked for yet.
    events: VecDeque<Value>,
    last_id: u64,
    folder: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let said = File::create(folder.path().join("stderr")).expect("a file");
        // The protocol has descriptors 3 and 4, which only a shell can give without unsafe code.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .expect("a shell");
        let to = process.stdin.take().expect("a pipe");
        let mut pipe = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, from) = sync_channel(10_000);
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        Browser { process, to, from, events: VecDeque::new(), last_id: 0, folder }
    }

    /// An empty tab of this size, in CSS pixels.
    pub(crate) fn tab(&mut self, width: u32, height: u32) -> Tab<'_> {
        Tab::open(self, width, height)
    }

    /// A folder for files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Calls `method` and awaits its result.
    pub(crate) fn call(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut request = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        let sent = self.to.write_all(format!("{request}\0").as_bytes());
        assert!(sent.is_ok(), "{method}: {}", self.said());
        loop {
            let message = self.next(method);
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    /// The next event of this name, and takes it out; others are kept.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(place) = self.events.iter().position(|event| event["method"] == name) {
                return self.events.remove(place).expect("it was just seen");
            }
            let message = self.next(name);
            self.events.push_back(message);
        }
    }

    /// All events of these names that have come so far.
    pub(crate) fn events(&self, names: &[&str]) -> Vec<&Value> {
        self.events.iter().filter(|event| names.iter().any(|name| event["method"] == *name)).collect()
    }

    fn next(&mut self, what: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        match self.from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("no {what} within {PATIENCE:?}: {}", self.said()),
            Err(RecvTimeoutError::Disconnected) => panic!(
                "chromium has ended while {what} was awaited (is it installed? On Debian: apt-get install chromium): {}",
                self.said()
            ),
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In order if it can: then its own children are gone before its folder is.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.process.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            let _ = self.from.recv_timeout(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
