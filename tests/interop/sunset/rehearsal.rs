//! The whole switch-off, once in a run: every phase is entered as operators do it, and every client comes by.
//!
//! ```text
//! rehearsal  observe -> announce -> freeze -> brownout -> announce -> brownout that ends running sessions
//!            -> tombstone -> announce -> gone
//! notifying  announce, with --notify
//! by HTTP    brownout, with --refuse-with http
//! ```

use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{DUAL, DualVisit, KNOWN, LEGACY, Legacy, Running, Said, Visit, Waiting};
use super::gate::DEADLINE;
use crate::packages::run;
use crate::processes::Proxy;
use crate::servers::EVERYTHING;

/// Where clients are sent. Nobody goes there.
pub(super) const NEW_URL: &str = "https://mcp.example.com/mcp";
/// How long a client that has asked for a stream may take to find out where to post.
const STEP: Duration = Duration::from_secs(10);
/// Who comes when nobody new is served any more.
pub(super) const NEWCOMER: &str = "newcomer";

/// What a client meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    Observe,
    Announce,
    Notify,
    FreezeKnown,
    FreezeNew,
    Brownout,
    BrownoutByHttp,
    Tombstone,
    Gone,
}

impl Scene {
    /// Whether `client` does not take an error for the answer to `initialize`, and waits until its stream ends.
    pub(super) fn keeps_waiting(self, client: Legacy) -> bool {
        client == Legacy::Rmcp && matches!(self, Scene::FreezeNew | Scene::Brownout | Scene::Tombstone)
    }
}

/// What running sessions meet, in the midst of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Brownout,
    Gone,
}

/// What came of a client whose session ended while it ran.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) client: Legacy,
    /// The call that ran.
    pub(super) running: Said,
    /// The next one.
    pub(super) next: Said,
    /// One more, of a client that opens another stream by itself after that.
    pub(super) later: Said,
    /// How many streams it asked for after its own had ended.
    pub(super) streams: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of the list of clients.
    visits: Vec<(Scene, Vec<Visit>)>,
    stays: Vec<(End, Vec<Stay>)>,
    pub(super) duals: Vec<(Scene, Vec<DualVisit>)>,
    /// The log of the rehearsal, and the report on it.
    pub(super) log: Vec<Value>,
    pub(super) report: Value,
    /// The same of the proxy that refuses by HTTP.
    pub(super) log_by_http: Vec<Value>,
    pub(super) report_by_http: Value,
}

impl Found {
    pub(super) fn visits(&self, scene: Scene) -> &[Visit] {
        &self.visits.iter().find(|(known, _)| *known == scene).expect("a scene that was played").1
    }

    pub(super) fn stays(&self, end: End) -> &[Stay] {
        &self.stays.iter().find(|(known, _)| *known == end).expect("an end that came").1
    }
}

/// The rehearsal under way.
#[derive(Default)]
struct Play {
    found: Found,
    /// Who still waits.
    waiting: Vec<(Scene, Waiting)>,
}

impl Play {
    fn visit(&mut self, scene: Scene, proxy: SocketAddr) {
        let who = if scene == Scene::FreezeNew { NEWCOMER } else { KNOWN };
        let (waiting, others): (Vec<_>, Vec<_>) = LEGACY.into_iter().partition(|client| scene.keeps_waiting(*client));
        let visits = side_by_side(others, |client| Visit::pay(client, who, proxy));
        self.found.visits.push((scene, visits));
        self.waiting.extend(waiting.into_iter().map(|client| (scene, Waiting::answered(client, who, proxy))));
    }

    /// Waits for those who are still there.
    fn see_off(&mut self) {
        for (scene, waiting) in std::mem::take(&mut self.waiting) {
            let (_, visits) = self.found.visits.iter_mut().find(|(known, _)| *known == scene).expect("its scene");
            visits.push(waiting.end());
        }
    }

    fn visit_in_both_ways(&mut self, scene: Scene, proxy: SocketAddr) {
        let duals = side_by_side(DUAL, |client| DualVisit::pay(client, proxy));
        self.found.duals.push((scene, duals));
    }

    fn stay(&mut self, end: End, stage: &Stage) {
        stage.set("announce", &[]);
        let address = stage.proxy.address();
        // All at once: they have to be there when the phase comes.
        let guests: Vec<_> =
            LEGACY.iter().map(|client| (*client, Running::start(*client, KNOWN, "stay", address))).collect();
        for (client, guest) in &guests {
            let connected = guest.next();
            assert!(matches!(connected, Said::Works(_)), "{client:?}: {connected:?}");
            // `initialize`, `initialized`, and the call.
            let is_over = guest.gate.wait(|seen, _| seen.iter().filter(|one| one.is_message_taken()).count() >= 3);
            assert!(!is_over, "{client:?} waits for its call");
        }
        let guests: Vec<_> = guests.into_iter().map(|(client, guest)| (client, guest.gate.streams(), guest)).collect();
        match end {
            End::Brownout => stage.set("brownout", &["--end-running", "--for", "1h"]),
            End::Gone => stage.set("gone", &[]),
        }
        let stays = side_by_side(guests, |(client, before, guest)| take_leave(client, before, guest));
        self.found.stays.push((end, stays));
    }
}

/// What is said to `client` when its session ends, which had opened `before` streams until then.
fn take_leave(client: Legacy, before: usize, mut guest: Running) -> Stay {
    let (running, next) = (guest.next(), guest.next());
    if client.reconnects() {
        guest.gate.wait(|_, streams| streams > before);
    }
    let begin = Instant::now();
    let later = loop {
        guest.again();
        let said = guest.next();
        // It has asked for its stream, and is still to read from it where to post now.
        let is_between = client.reconnects() && !said.text().contains(NEW_URL);
        if !is_between || begin.elapsed() > STEP {
            break said;
        }
    };
    Stay { client, running, next, later, streams: guest.leave() - before }
}

fn side_by_side<A: Send, B: Send>(all: impl IntoIterator<Item = A>, act: impl Fn(A) -> B + Sync) -> Vec<B> {
    let act = &act;
    thread::scope(|scope| {
        let running: Vec<_> = all.into_iter().map(|one| scope.spawn(move || act(one))).collect();
        let ends = running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect()
    })
}

/// A proxy with its operator.
struct Stage {
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(upstream: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
        let (token, state) = (path("token"), path("state"));
        std::fs::write(&token, "0123456789abcdef").expect("written");
        let usual = ["--admin", "127.0.0.1:0", "--admin-token-file", &token, "--state-dir", &state];
        // The gates are what a balancer would be.
        let told = ["--new-url", NEW_URL, "--trusted-proxy", "127.0.0.1/32"];
        let proxy = Proxy::start(upstream, &[&usual[..], &told, options].concat());
        Stage { proxy, folder }
    }

    /// Does what operators do, by force: the guard would hold back what hits clients with use, and that is the point here.
    fn set(&self, phase: &str, more: &[&str]) {
        let mut command = self.command("set");
        command.args([phase, "--force", phase, "--why", "rehearsal"]).args(more);
        run(command.arg("--admin-token-file").arg(self.folder.path().join("token")));
    }

    /// `sse-sunset sunset ACTION`.
    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        command.args(["sunset", action, "--admin", &self.proxy.admin()]);
        command
    }

    /// Freezes, and waits until it is known who was there: as long as it is not, nobody is refused.
    fn freeze(&self) {
        self.set("freeze", &[]);
        let begin = Instant::now();
        loop {
            let output = self.command("status").args(["--format", "json"]).output();
            let status: Value = serde_json::from_slice(&output.expect("the binary").stdout).expect("a status");
            if status["frozen"]["seen"].is_number() {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "it is never known who was there: {status:#}");
        }
    }
}

/// Plays everything, if nobody did before.
pub(super) fn found() -> &'static Found {
    static FOUND: OnceLock<Option<Found>> = OnceLock::new();
    // One that fails would fail again, and takes minutes.
    let found = FOUND.get_or_init(|| std::panic::catch_unwind(play).ok());
    found.as_ref().expect("the rehearsal; why there is none is told by the test that began it")
}

fn play() -> Found {
    let mut play = Play::default();
    let server = EVERYTHING.start();
    let upstream = server.mcp_url();
    let rehearsal = Stage::new(&upstream, &[]);
    play.rehearse(&rehearsal);

    let notifying = Stage::new(&upstream, &["--announce", "2020-01-01", "--notify"]);
    play.visit(Scene::Notify, notifying.proxy.address());
    notifying.proxy.stop();

    let by_http = Stage::new(&upstream, &["--refuse-with", "http"]);
    let address = by_http.proxy.address();
    by_http.set("brownout", &["--for", "1h"]);
    play.visit(Scene::BrownoutByHttp, address);
    play.visit_in_both_ways(Scene::BrownoutByHttp, address);
    play.see_off();
    let mut found = play.found;
    (found.log_by_http, found.report_by_http) = by_http.proxy.stop_and_report();
    (found.log, found.report) = rehearsal.proxy.stop_and_report();
    found
}

impl Play {
    fn rehearse(&mut self, stage: &Stage) {
        let address = stage.proxy.address();
        self.visit(Scene::Observe, address);
        stage.set("announce", &[]);
        self.visit(Scene::Announce, address);
        self.visit_in_both_ways(Scene::Announce, address);
        stage.freeze();
        self.visit(Scene::FreezeKnown, address);
        self.visit(Scene::FreezeNew, address);
        self.visit_in_both_ways(Scene::FreezeNew, address);
        stage.set("brownout", &["--for", "1h"]);
        self.visit(Scene::Brownout, address);
        self.visit_in_both_ways(Scene::Brownout, address);
        self.stay(End::Brownout, stage);
        stage.set("tombstone", &[]);
        self.visit(Scene::Tombstone, address);
        self.visit_in_both_ways(Scene::Tombstone, address);
        self.stay(End::Gone, stage);
        self.visit(Scene::Gone, address);
        self.visit_in_both_ways(Scene::Gone, address);
    }
}
