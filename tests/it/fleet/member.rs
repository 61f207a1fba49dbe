//! A process of a fleet, as far as the seam goes: no sessions, no HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sse_sunset::drain::Tasks;
use sse_sunset::fleet::{Board, Boot, Called, Config, Fleet, Handler, KeyFile, Keyring, Server};
use sse_sunset::metrics::{Format, Metrics};
use sse_sunset::session;
use sse_sunset::traffic::{Log, Observer, Target, random_hex};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::support::redis::Redis;

/// How long anything may take on a machine with two busy cores.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub(super) const NEW_KEY: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

type Answer = dyn Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync;

/// Answers as the test says, and remembers what it was told.
pub(super) struct Ear {
    answer: Box<Answer>,
    pub(super) asked: Mutex<Vec<Bytes>>,
    pub(super) heard: watch::Sender<Vec<Bytes>>,
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ear")
    }
}

impl Handler for Ear {
    fn call(&self, request: Bytes, _deadline: Instant) -> BoxFuture<'static, Bytes> {
        self.asked.lock().expect("no panic").push(request.clone());
        (self.answer)(request)
    }

    fn hear(&self, word: Bytes) {
        self.heard.send_modify(|heard| heard.push(word));
    }
}

/// One process.
pub(super) struct Member {
    pub(super) fleet: Fleet,
    pub(super) boot: Boot,
    pub(super) ear: Arc<Ear>,
    pub(super) metrics: Arc<Metrics>,
    lines: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
    running: JoinHandle<()>,
}

impl Drop for Member {
    /// As if it were killed.
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Member {
    /// One that answers every call with what it was asked.
    pub(super) fn echo(redis: &Redis) -> Self {
        Member::with(&redis.url(), &[KEY], |request| async { request }.boxed())
    }

    pub(super) fn with(
        url: &str,
        keys: &[&str],
        answer: impl Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fleet.key");
        std::fs::write(&file, keys.join("\n")).expect("written");
        Member::of(url, None, KeyFile::File(file), folder, Box::new(answer))
    }

    /// One that trusts `authorities` to vouch for Redis.
    pub(super) fn over_tls(url: &str, authorities: Option<Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = KeyFile::Given(Keyring::read(KEY).expect("a key"));
        Member::of(url, authorities, keys, folder, Box::new(|request| async { request }.boxed()))
    }

    fn of(url: &str, authorities: Option<Vec<u8>>, keys: KeyFile, folder: TempDir, answer: Box<Answer>) -> Self {
        let server = Server::new(url, authorities).expect("a server");
        let config = Config { server, name: "test".to_owned(), keys, config_hash: "hash".to_owned() };
        let metrics = Arc::new(Metrics::new(session::LISTS));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let observer = Observer::new(move |line| {
            seen.lock().expect("no panic").push(String::from_utf8_lossy(line).into_owned());
        });
        let target = Target::File(folder.path().join("traffic.log"));
        let log = Log::open(target, random_hex(4), Some(observer)).expect("a log");
        let boot = log.boot_id().to_owned();
        let fleet = Fleet::join(config, &format!("instance-{boot}"), &boot, Arc::clone(&metrics), Tasks::default())
            .expect("a member");
        let ear = Arc::new(Ear { answer, asked: Mutex::default(), heard: watch::channel(Vec::new()).0 });
        let (taking_part, handler) = (fleet.clone(), Arc::clone(&ear));
        let running = tokio::spawn(async move { taking_part.run(handler, &log).await });
        Member { fleet, boot: boot.parse().expect("a boot"), ear, metrics, lines, folder, running }
    }

    /// Waits until it can be called and knows of `others` others.
    pub(super) async fn ready(&self, others: usize) {
        self.until("it takes part", |member| {
            member.fleet.degraded().is_empty() && member.fleet.peers().len() == others
        })
        .await;
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let status = || format!("{what}: {}, {:?}", self.fleet.status(), self.fleet.degraded());
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {}", status()));
    }

    pub(super) async fn call(&self, owner: &Member, request: &'static [u8]) -> Called {
        self.fleet.call(owner.boot, Bytes::from_static(request)).await
    }

    /// Puts other keys in its file and has them read.
    pub(super) fn set_keys(&self, keys: &[&str]) {
        std::fs::write(self.folder.path().join("fleet.key"), keys.join("\n")).expect("written");
        self.fleet.reload();
    }

    /// What the log says of refused ids and envelopes: the reasons.
    pub(super) fn refused(&self) -> Vec<String> {
        let lines = self.lines.lock().expect("no panic");
        let records = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let records = records.filter(|record| record["event.name"] == "fleet.refused");
        records.map(|record| record["reason"].as_str().expect("a reason").to_owned()).collect()
    }

    /// A number among its metrics.
    pub(super) fn number(&self, name: &str) -> u64 {
        let text = self.metrics.exposition(Format::wanted(""));
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
    }
}

/// Waits until the board of `fleet` is as `holds` wants it.
pub(super) async fn on_board(fleet: &Fleet, holds: impl Fn(&Board) -> bool) {
    let mut board = fleet.board();
    let seen = timeout(PATIENCE, board.wait_for(|board| holds(board))).await;
    seen.expect("in time").expect("a board");
}
