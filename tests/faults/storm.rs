//! Two hundred clients at work while the upstream is killed ten times and every client is cut off ten times.
//!
//! What is asked of the proxy: every client works at the end, in the session it began with; the invariant holds; memory
//! and descriptors are back where they were; and a server that has just come up is not stampeded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::driver::{Driver, Outcome};
use crate::fault_proxy::FaultProxy;
use crate::proxy::Proxy;
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

const CLIENTS: usize = 200;
const ROUNDS: u64 = 10;
/// Handshakes that a server that came up may see at once (WIRE, Toward the upstream 7).
const HANDSHAKES_AT_ONCE: usize = 64;
/// How exactly it can be told that two things happened at once.
const MOMENT: Duration = Duration::from_millis(300);
/// Answers that may have been on their way to a client at the moment it was cut off: one in a hundred of its streams.
const LOST_AT_MOST: usize = CLIENTS * 10 / 100;
/// What the proxy may use more after the storm than before, with the same sessions open.
const RSS_MARGIN_KIB: u64 = 24 << 10;
const DESCRIPTOR_MARGIN: usize = 40;
/// `data.reason` of the errors that a call may end with.
const EXPECTED: [&str; 3] = ["session_lost", "upstream_connection_lost", "upstream_unavailable"];

/// Everything that takes part.
struct Storm {
    server: Server,
    proxy: Proxy,
    between: FaultProxy,
    typescript: Driver,
    names: Vec<String>,
    /// When clients were cut off, and when the upstream was killed.
    cuts: Vec<SystemTime>,
    kills: Vec<SystemTime>,
}

impl Storm {
    fn start() -> Self {
        // Handshakes take a while, so that many at once can be seen.
        let server = Server::start(Sdk::TypeScript, &["--slow-initialize", "100"]);
        let proxy = Proxy::start(&server.mcp_url(), &["--linger", "10s"]);
        let between = FaultProxy::start(proxy.address());
        let names = (0..CLIENTS).map(|i| format!("client-{i}")).collect();
        Storm { server, proxy, between, typescript: Driver::typescript(), names, cuts: Vec::new(), kills: Vec::new() }
    }

    /// One call of each client, all of which must succeed.
    fn all_call(&self, word: &str) {
        let begin = |name| self.typescript.client(name).begin("count", &format!("{name}-{word}"));
        let calls: Vec<_> = self.names.iter().map(|name| (begin(name), name)).collect();
        let failed: BTreeMap<String, Outcome> = calls
            .into_iter()
            .map(|(call, name)| (format!("{name}-{word}"), call.outcome()))
            .filter(|(token, outcome)| *outcome != Outcome::Text(format!("counted {token}")))
            .collect();
        let first = failed.iter().next();
        assert!(failed.is_empty(), "{} of {CLIENTS} calls failed, the first: {first:?}", failed.len());
    }

    /// Cuts every client off and waits for their return; before, or in the meantime, the upstream is killed. In every
    /// other round they are cut off again before most of them have said a word.
    fn round(&mut self, round: u64) {
        let kills_first = round.is_multiple_of(2);
        if kills_first {
            self.kill_upstream();
            let runs = self.server.count("run");
            wait::until("calls are carried out again", seconds(60), || self.server.count("run") > runs);
        }
        self.cuts.push(SystemTime::now());
        let cut = self.between.cut_streams();
        assert!(cut >= CLIENTS, "only {cut} streams were there to be cut");
        if !kills_first {
            self.kill_upstream();
        }
        let stream = round + 2;
        wait::until("everybody is back", seconds(60), || {
            self.typescript.streams().values().all(|streams| *streams >= stream)
        });
        if kills_first {
            // Whose answer is lost (`answered_while_cut`) waits for it in vain.
            wait::until("almost everybody is served", seconds(60), || {
                let served = self.typescript.served();
                served.values().filter(|served| **served >= stream).count() >= CLIENTS - LOST_AT_MOST
            });
        }
    }

    fn kill_upstream(&mut self) {
        self.kills.push(SystemTime::now());
        self.server.kill();
        self.server.restart();
    }

    /// Which calls may have been answered at the very moment their client was cut off: what is written into a stream
    /// that is gone is gone with it. Those that ended with the upstream were answered when it was killed.
    fn answered_while_cut(&self) -> impl Fn(&str) -> bool + use<> {
        let done = |line: &String| {
            let (token, ms) = line.strip_prefix("done ")?.split_once(' ')?;
            Some((token.to_owned(), UNIX_EPOCH + Duration::from_millis(ms.parse().ok()?)))
        };
        let done: BTreeMap<String, SystemTime> = self.server.journal().iter().filter_map(done).collect();
        let (cuts, kills) = (self.cuts.clone(), self.kills.clone());
        let is_near = |one: SystemTime, other: SystemTime| {
            one.duration_since(other).or_else(|_| other.duration_since(one)).is_ok_and(|apart| apart < MOMENT)
        };
        move |token| {
            let answered = done.get(token).map_or(kills.as_slice(), std::slice::from_ref);
            answered.iter().any(|answered| cuts.iter().any(|cut| is_near(*answered, *cut)))
        }
    }

    /// How many handshakes a server that came up had at once, at most. Those of the first life are the clients' own.
    fn most_handshakes_at_once(&self) -> usize {
        let (mut most, mut now) = (0, 0_usize);
        let journal = self.server.journal();
        for line in journal.iter().skip(1).skip_while(|line| *line != "boot") {
            match line.split(' ').next() {
                Some("boot") => now = 0,
                Some("initialize") => now += 1,
                Some("initialize-over") => now = now.saturating_sub(1),
                _ => {}
            }
            most = most.max(now);
        }
        most
    }

    /// Everybody is in the session that it began with: those of the streams that came later were merged into it, or
    /// cut off before a word was said.
    fn assert_sessions_kept(&self) {
        let connects = self.proxy.records("legacy.connect");
        let first: BTreeSet<&str> = connects.iter().take(CLIENTS).map(session).collect();
        let (merged, cut): (Vec<_>, Vec<_>) =
            self.proxy.records("legacy.end").into_iter().partition(|end| end["session.end.reason"] == "merged");
        let was_empty = |end: &Value| end["legacy.requests"] == 0 && end["legacy.undelivered"] == 0;
        let lost: Vec<_> = cut.iter().filter(|end| first.contains(session(end)) || !was_empty(end)).collect();
        assert!(lost.is_empty(), "{} sessions were lost, the first: {:?}", lost.len(), lost.first());
        assert!(!merged.iter().any(|end| first.contains(session(end))), "a first session was merged into another");
        let returned: u64 = self.typescript.streams().values().map(|streams| streams - 1).sum();
        assert_eq!((merged.len() + cut.len()) as u64, returned, "each stream that came back has its end");
        assert!(merged.len() >= CLIENTS * 4, "only {} were merged", merged.len());
    }
}

/// The label in a record.
fn session(record: &Value) -> &str {
    record["legacy.session"].as_str().expect("a label")
}

#[test]
fn two_hundred_clients_outlive_ten_deaths_of_the_upstream_and_ten_cuts() {
    let mut storm = Storm::start();
    let alone = storm.proxy.child.descriptors();
    storm.typescript.connect_all(&storm.names, &storm.between.sse_url(), |name| Some(format!("token-of-{name}")));
    // Twice, so that what is kept for reuse is there before it is counted.
    storm.all_call("first");
    storm.all_call("second");
    let (rss_kib, descriptors) = (storm.proxy.child.rss_kib(), storm.proxy.child.descriptors());

    storm.typescript.ask(json!({"do": "load", "pause": 2000}));
    for round in 0..ROUNDS {
        storm.round(round);
    }
    storm.typescript.ask(json!({"do": "stop"}));
    storm.all_call("last");

    let ledger = storm.typescript.ledger();
    let in_flight = storm.answered_while_cut();
    ledger.assert_kept_but(&storm.server, |account, request| {
        request.stream < account.streams && request.token.as_deref().is_some_and(&in_flight)
    });
    assert!(ledger.unanswered() <= LOST_AT_MOST, "{} are lost", ledger.unanswered());
    let most = storm.most_handshakes_at_once();
    assert!((2..=HANDSHAKES_AT_ONCE).contains(&most), "{most} handshakes at once");
    storm.assert_sessions_kept();
    let settled = || storm.proxy.child.descriptors() <= descriptors + DESCRIPTOR_MARGIN;
    wait::until("descriptors are back", seconds(15), settled);
    let rss_now_kib = storm.proxy.child.rss_kib();
    assert!(rss_now_kib < rss_kib + RSS_MARGIN_KIB, "{rss_kib} KiB before, {rss_now_kib} KiB after");
    let (requests, errors) = (ledger.requests().count(), ledger.errors());
    let told: Vec<&str> = errors.keys().map(String::as_str).filter(|reason| !EXPECTED.contains(reason)).collect();
    assert!(told.is_empty(), "errors that nothing here explains: {told:?}");
    let refused = ledger.requests().filter(|request| request.posted == 404).count();
    assert_eq!(refused, 0, "the endpoints that clients have are good while their sessions wait for them");
    eprintln!(
        "{requests} requests, {refused} answered 404, errors {errors:?}, {} without an answer, {most} handshakes at once, \
         {rss_kib} -> {rss_now_kib} KiB, {descriptors} -> {} descriptors",
        ledger.unanswered(),
        storm.proxy.child.descriptors()
    );

    let since = Instant::now();
    storm.typescript.kill();
    let all =
        |event| -> BTreeSet<String> { storm.proxy.records(event).iter().map(|one| session(one).to_owned()).collect() };
    wait::until("every session has ended", seconds(40), || all("legacy.end") == all("legacy.connect"));
    assert_eq!(storm.proxy.ends().len(), all("legacy.end").len(), "each once");
    wait::until("no descriptor is left behind", seconds(15), || storm.proxy.child.descriptors() <= alone + 4);
    eprintln!("all gone after {:?}", since.elapsed());
}
