//! Replicas that follow one another, and what they do when they cannot.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::agreed::Agreed;
use super::control::Asked;
use super::*;
use crate::fleet::Fleet;
use crate::fleet::staged::{Link, Stage};
use crate::metrics::{Lists, Metrics};
use crate::report::live::Live;
use crate::traffic::{Log, Target};

/// Labels of numbers that nobody reads here.
const LISTS: Lists = Lists {
    client_families: &["other"],
    end_reasons: &["other"],
    refusals: &["other"],
    upstream_errors: &["other"],
    fleet_calls: &["other"],
    fleet_faults: &["other"],
};

struct Replica {
    sunset: Sunset,
    live: Arc<Live>,
    log: Log,
    link: Arc<Link>,
    folder: tempfile::TempDir,
}

impl Replica {
    /// One that gets to the board.
    fn new(stage: &Arc<Stage>, name: &str, config: Config) -> Self {
        let replica = Self::apart(stage, name, config, None);
        stage.join(&replica.link);
        replica
    }

    /// One that does not yet.
    fn apart(stage: &Arc<Stage>, name: &str, config: Config, state_dir: Option<&Path>) -> Self {
        let (fleet, link) = stage.replica();
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::open(Target::File(folder.path().join("log")), name.to_owned(), None).expect("a log");
        let (sunset, live) = sunset(name, config, fleet, state_dir);
        Replica { sunset, live, log, link, folder }
    }

    async fn obey(&self, order: Order) {
        self.sunset.obey(order, &self.log).await.expect("obeyed");
    }

    async fn follow(&self) {
        self.sunset.decide(None, Asked::Guard, &self.log).await.expect("decided");
        self.sunset.share(&self.log).await;
    }

    /// Waits until it is in `phase`.
    async fn enters(&self, phase: Phase) -> Arc<Rules> {
        self.comes_to(|rules| rules.phase == phase).await
    }

    async fn comes_to(&self, wanted: impl FnMut(&Arc<Rules>) -> bool) -> Arc<Rules> {
        let mut rules = self.sunset.watch();
        let rules = tokio::time::timeout(Duration::from_secs(20), rules.wait_for(wanted)).await;
        rules.expect("in time").expect("the replica is there").clone()
    }

    /// Somebody used the server here.
    fn saw(&self, name: &str) {
        let line = json!({
            "@timestamp": "2026-01-01T00:00:00Z", "event.name": "legacy.identify", "schema": "sse-sunset/1",
            "service.instance.id": "here", "boot.id": "b", "log.seq": 1, "legacy.session": name,
            "identity": format!("name:{name}"), "identity.source": "client_info", "client.family": "other",
            "client.address": "hmac:a", "mcp.client.name": name, "mcp.client.version": "1",
            "mcp.protocol.version": "2024-11-05",
        });
        self.live.observe(line.to_string().as_bytes());
    }

    async fn logged(&self) -> Vec<Value> {
        self.log.flush().await;
        let text = std::fs::read_to_string(self.folder.path().join("log")).expect("a log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn sunset(name: &str, config: Config, fleet: Fleet, state_dir: Option<&Path>) -> (Sunset, Arc<Live>) {
    let live = Arc::new(Live::open(None, name, "LOG".to_owned()).expect("evidence"));
    let metrics = Arc::new(Metrics::new(LISTS));
    let parts = Parts { live: Arc::clone(&live), log_file: None, metrics, fleet };
    (Sunset::open(config, parts, state_dir, name).expect("opened"), live)
}

/// Runs the replicas while something happens.
async fn running(replicas: &[&Replica], script: impl Future<Output = ()>) {
    for replica in replicas {
        replica.sunset.begin(&replica.log).await;
    }
    let run = futures_util::future::join_all(replicas.iter().map(|replica| replica.sunset.run(&replica.log)));
    tokio::select! {
        _ = run => unreachable!("they run for ever"),
        () = script => {}
    }
}

fn config() -> Config {
    let notice = Notice { new_url: Some("https://mcp.example.com/mcp".to_owned()), ..Notice::default() };
    Config { notice, ..Config::default() }
}

fn pause() -> Order {
    Order::Pause { why: "incident 7".to_owned() }
}

fn resume() -> Order {
    Order::Resume { why: "solved".to_owned() }
}

fn enter(phase: Phase) -> Order {
    Order::Set(Set { phase: Some(phase), force: Some(phase), why: "a test".to_owned(), ..Set::default() })
}

fn account(name: &str) -> Account {
    Account { identity: format!("name:{name}"), address: "elsewhere".to_owned(), is_principal: false, is_named: true }
}

#[tokio::test]
async fn what_is_said_to_one_replica_holds_at_all_and_is_in_their_logs() {
    let stage = Stage::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| Replica::new(&stage, name, config()));
    running(&[&a, &b, &c], async {
        a.obey(enter(Phase::Tombstone)).await;
        tokio::join!(b.enters(Phase::Tombstone), c.enters(Phase::Tombstone));
        b.obey(pause()).await;
        tokio::join!(a.enters(Phase::Announce), c.enters(Phase::Announce));
        c.obey(resume()).await;
        tokio::join!(a.enters(Phase::Tombstone), b.enters(Phase::Tombstone));
    })
    .await;
    let story = |log: Vec<Value>| -> Vec<String> {
        let word = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
        log.iter()
            .map(|record| ["sunset.phase", "sunset.by", "sunset.why"].map(|name| word(record, name)).join(" "))
            .collect()
    };
    let told = story(a.logged().await);
    assert_eq!(told, ["tombstone operator a test", "announce fleet incident 7", "tombstone fleet solved"]);
    let told = story(b.logged().await);
    assert_eq!(told, ["tombstone fleet a test", "announce operator incident 7", "tombstone fleet solved"]);
}

#[tokio::test]
async fn two_orders_at_the_same_time_are_both_kept() {
    let stage = Stage::new();
    let [a, b] = ["a", "b"].map(|name| Replica::new(&stage, name, config()));
    running(&[&a, &b], async {
        tokio::join!(a.obey(pause()), b.obey(enter(Phase::Tombstone)));
        tokio::join!(a.enters(Phase::Announce), b.enters(Phase::Announce));
        a.obey(resume()).await;
        tokio::join!(a.enters(Phase::Tombstone), b.enters(Phase::Tombstone));
    })
    .await;
}

#[tokio::test]
async fn order_that_was_given_upon_what_is_no_more_is_joined_with_what_is() {
    let stage = Stage::new();
    let [a, b] = ["a", "b"].map(|name| Replica::new(&stage, name, config()));
    a.follow().await;
    b.follow().await;
    b.link.deafen(true);
    a.obey(enter(Phase::Tombstone)).await;
    assert_eq!(b.sunset.rules().phase, Phase::Observe, "it has not heard of it");
    b.obey(pause()).await;
    b.link.deafen(false);
    assert_eq!((b.sunset.unshared(), b.sunset.rules().phase), (None, Phase::Announce));
    a.follow().await;
    assert_eq!(a.sunset.rules().phase, Phase::Announce);
    a.obey(resume()).await;
    b.follow().await;
    assert_eq!(b.sunset.rules().phase, Phase::Tombstone, "neither order undid the other");
}

#[tokio::test]
async fn order_without_the_others_holds_here_at_once_and_reaches_them_when_it_can() {
    let stage = Stage::new();
    let [a, b] = ["a", "b"].map(|name| Replica::new(&stage, name, config()));
    running(&[&a, &b], async {
        a.obey(enter(Phase::Tombstone)).await;
        b.enters(Phase::Tombstone).await;
        b.link.cut();
        b.obey(pause()).await;
        assert_eq!((b.sunset.rules().phase, a.sunset.rules().phase), (Phase::Announce, Phase::Tombstone));
        let status = b.sunset.status();
        assert_eq!(status["fleet"]["unshared"], "Redis cannot be reached");
        assert_eq!((&status["fleet"]["shared"], &a.sunset.status()["fleet"]["shared"]), (&json!(false), &json!(true)));
        stage.join(&b.link);
        a.enters(Phase::Announce).await;
        b.follow().await;
        assert_eq!(b.sunset.unshared(), None);
    })
    .await;
}

#[tokio::test]
async fn order_that_others_are_always_first_with_wakes_nobody() {
    let stage = Stage::new();
    let a = Replica::new(&stage, "a", config());
    let (other, link) = stage.replica();
    stage.join(&link);
    let always_first = async {
        loop {
            other.put("sunset", Agreed::default().written().into()).await.expect("on the board");
            tokio::task::yield_now().await;
        }
    };
    let script = async {
        while !a.sunset.is_contested() {
            a.sunset.decide(Some(pause()), Asked::Nobody, &a.log).await.expect("decided");
            // What it came to before is of another try.
            let _ = a.sunset.shared.again.notified().now_or_never();
            a.sunset.share(&a.log).await;
        }
    };
    tokio::select! {
        biased;
        () = always_first => unreachable!("it goes on for ever"),
        () = script => {}
    }
    assert!(a.sunset.shared.again.notified().now_or_never().is_none(), "it would be tried without a pause, for ever");
    assert!(a.sunset.standing().state.agreed.pause.is_some(), "it holds here all the same");
    a.link.deafen(true);
    other.put("sunset", Agreed::default().written().into()).await.expect("on the board");
    a.sunset.share(&a.log).await;
    assert_eq!(a.sunset.unshared(), None, "and everywhere once it can");
    assert!(a.sunset.shared.again.notified().now_or_never().is_some(), "now the guard may have a word");
}

#[tokio::test]
async fn what_was_said_elsewhere_later_is_not_undone_by_what_could_not_be_shared() {
    let stage = Stage::new();
    let [a, b] = ["a", "b"].map(|name| Replica::new(&stage, name, config()));
    a.follow().await;
    b.follow().await;
    a.obey(enter(Phase::Tombstone)).await;
    b.link.cut();
    b.obey(pause()).await;
    a.obey(pause()).await;
    a.obey(resume()).await;
    b.obey(enter(Phase::Gone)).await;
    stage.join(&b.link);
    b.follow().await;
    a.follow().await;
    for replica in [&a, &b] {
        assert_eq!(replica.sunset.rules().phase, Phase::Gone, "resumed elsewhere, and set here, last");
    }
}

#[tokio::test]
async fn unshared_order_outlives_the_process_that_was_told() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().expect("a folder");
    let a = Replica::new(&stage, "a", config());
    a.obey(enter(Phase::Tombstone)).await;
    let b = Replica::apart(&stage, "b", config(), Some(dir.path()));
    b.obey(pause()).await;
    drop(b);
    let again = Replica::apart(&stage, "b", config(), Some(dir.path()));
    again.sunset.begin(&again.log).await;
    assert_eq!(again.sunset.rules().phase, Phase::Observe, "the others are not there");
    assert!(again.sunset.standing().state.agreed.pause.is_some());
    stage.join(&again.link);
    again.follow().await;
    a.follow().await;
    assert_eq!((a.sunset.rules().phase, again.sunset.rules().phase), (Phase::Announce, Phase::Announce));
}

#[tokio::test(start_paused = true)]
async fn process_begins_with_what_the_others_agreed_on_or_a_second_later_without() {
    let stage = Stage::new();
    Replica::new(&stage, "a", config()).obey(enter(Phase::Tombstone)).await;
    let b = Replica::apart(&stage, "b", config(), None);
    let comes_late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.join(&b.link);
    };
    tokio::join!(b.sunset.begin(&b.log), comes_late);
    assert_eq!(b.sunset.rules().phase, Phase::Tombstone, "no client found another phase");
    let c = Replica::apart(&stage, "c", config(), None);
    let begin = tokio::time::Instant::now();
    c.sunset.begin(&c.log).await;
    assert_eq!((begin.elapsed().as_secs(), c.sunset.rules().phase), (1, Phase::Observe));
}

#[tokio::test]
async fn board_wins_over_the_state_directory_which_fills_an_empty_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (alone, _) = sunset("a", config(), Fleet::solo(), Some(dir.path()));
    let solo = Stage::new();
    let log = Replica::new(&solo, "log", config()).log;
    alone.obey(enter(Phase::Tombstone), &log).await.expect("obeyed");
    let stage = Stage::new();
    let a = Replica::apart(&stage, "a", config(), Some(dir.path()));
    a.sunset.begin(&a.log).await;
    assert_eq!(a.sunset.rules().phase, Phase::Tombstone, "the board is not there, and what was kept holds");
    stage.join(&a.link);
    a.follow().await;
    let b = Replica::new(&stage, "b", config());
    b.sunset.begin(&b.log).await;
    assert_eq!(b.sunset.rules().phase, Phase::Tombstone, "what the first one knew");
    b.obey(enter(Phase::Announce)).await;
    let a = Replica::apart(&stage, "a", config(), Some(dir.path()));
    stage.join(&a.link);
    a.sunset.begin(&a.log).await;
    assert_eq!(a.sunset.rules().phase, Phase::Announce, "what it kept itself is older");
}

#[tokio::test]
async fn what_was_said_to_one_that_was_alone_joins_the_fleet_with_it() {
    let stage = Stage::new();
    let a = Replica::new(&stage, "a", config());
    a.obey(enter(Phase::Tombstone)).await;
    for is_old in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (alone, _) = sunset("b", config(), Fleet::solo(), Some(dir.path()));
        alone.obey(pause(), &a.log).await.expect("obeyed");
        let file = dir.path().join("sunset-b.json");
        let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).expect("kept")).expect("JSON");
        assert_eq!(kept.get("is_unshared"), None, "there was nobody to share with");
        if is_old {
            assert!(kept.as_object_mut().is_some_and(|kept| kept.remove("said").is_some()));
            std::fs::write(&file, kept.to_string()).expect("written");
        }
        let b = Replica::apart(&stage, "b", config(), Some(dir.path()));
        stage.join(&b.link);
        b.follow().await;
        a.follow().await;
        for replica in [&a, &b] {
            assert_eq!(replica.sunset.rules().phase, Phase::Announce, "neither order undid the other: {is_old}");
            assert_eq!(replica.sunset.unshared(), None);
        }
        a.obey(resume()).await;
    }
}

#[tokio::test]
async fn replica_that_only_starts_again_follows_what_was_said_meanwhile() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().expect("a folder");
    let a = Replica::new(&stage, "a", config());
    let b = Replica::apart(&stage, "b", config(), Some(dir.path()));
    stage.join(&b.link);
    b.obey(enter(Phase::Freeze)).await;
    b.obey(pause()).await;
    drop(b);
    a.follow().await;
    a.obey(resume()).await;
    a.obey(enter(Phase::Announce)).await;
    let agreed = a.sunset.standing().state.agreed;
    assert_eq!((&agreed.pause, agreed.frozen), (&None, None));
    let version = stage.version("sunset");
    let b = Replica::apart(&stage, "b", config(), Some(dir.path()));
    assert!(b.sunset.standing().state.agreed.pause.is_some(), "what it knew last");
    stage.join(&b.link);
    b.follow().await;
    assert_eq!((b.sunset.standing().state.agreed, stage.version("sunset")), (agreed, version), "nothing to add");
}

#[tokio::test]
async fn what_the_guard_let_in_anywhere_is_let_in_everywhere() {
    let plan = Plan { tombstone: Some("2026-01-05T00:00:00Z".parse().expect("a time")), ..Plan::default() };
    let planned = Config { plan, ..config() };
    let stage = Stage::new();
    let b = Replica::new(&stage, "b", planned.clone());
    b.follow().await;
    assert_eq!(b.sunset.rules().phase, Phase::Observe, "its own guard does not let it in");
    let a = Replica::new(&stage, "a", Config { forced: vec![Phase::Tombstone], ..planned });
    a.follow().await;
    b.follow().await;
    assert_eq!((a.sunset.rules().phase, b.sunset.rules().phase), (Phase::Tombstone, Phase::Tombstone));
}

#[tokio::test]
async fn replicas_with_other_dates_do_not_undo_each_other_for_ever() {
    let frozen = Plan { freeze: Some("2026-01-05T00:00:00Z".parse().expect("a time")), ..Plan::default() };
    let stage = Stage::new();
    let a = Replica::new(&stage, "a", Config { plan: frozen, ..config() });
    let b = Replica::new(&stage, "b", config());
    b.link.meets("a", &Config { plan: a.sunset.config().plan.clone(), ..config() }.fingerprint());
    for _ in 0..3 {
        a.follow().await;
        b.follow().await;
    }
    let version = stage.version("sunset");
    assert!(version.is_some());
    for _ in 0..10 {
        a.follow().await;
        b.follow().await;
    }
    assert_eq!(stage.version("sunset"), version);
    assert_eq!((a.sunset.rules().phase, b.sunset.rules().phase), (Phase::Freeze, Phase::Observe));
    let replicas = json!([{"instance": "b", "same_options": true}, {"instance": "a", "same_options": false}]);
    assert_eq!(b.sunset.status()["fleet"]["replicas"], replicas);
}

#[tokio::test]
async fn phase_that_was_lifted_by_hand_is_not_written_at_every_look() {
    let frozen = Plan { freeze: Some("2026-01-05T00:00:00Z".parse().expect("a time")), ..Plan::default() };
    let stage = Stage::new();
    let [a, b] = ["a", "b"].map(|name| Replica::new(&stage, name, Config { plan: frozen.clone(), ..config() }));
    a.obey(enter(Phase::Announce)).await;
    b.follow().await;
    let version = stage.version("sunset");
    for _ in 0..5 {
        a.follow().await;
        b.follow().await;
    }
    assert_eq!(stage.version("sunset"), version);
    a.obey(Order::Set(Set { why: "on".to_owned(), ..Set::default() })).await;
    b.follow().await;
    let since = |replica: &Replica| replica.sunset.standing().state.agreed.frozen.expect("frozen");
    assert_eq!(since(&a), since(&b));
    assert!(Timestamp::now().duration_since(since(&a)) < SignedDuration::from_secs(60), "not from the date on");
}

#[tokio::test]
async fn client_that_any_replica_has_seen_is_no_newcomer_at_any() {
    let stage = Stage::new();
    let [a, b] = ["a", "b"].map(|name| Replica::new(&stage, name, config()));
    a.link.meets("b", "");
    b.link.meets("a", "");
    a.saw("one");
    b.saw("two");
    running(&[&a, &b], async {
        a.obey(enter(Phase::Freeze)).await;
        for replica in [&a, &b] {
            let rules = replica.comes_to(|rules| rules.judge(&account("new")) == Word::Refused(Phase::Freeze)).await;
            assert_eq!([rules.judge(&account("one")), rules.judge(&account("two"))], [Word::Served; 2]);
        }
        assert_eq!(b.sunset.status()["frozen"]["seen"], 2);
    })
    .await;
    drop((a, b));
    let late = Replica::new(&stage, "late", config());
    running(&[&late], async {
        let rules = late.comes_to(|rules| rules.judge(&account("new")) == Word::Refused(Phase::Freeze)).await;
        assert_eq!(rules.judge(&account("one")), Word::Served, "the list outlives those who made it");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn list_that_does_not_come_is_waited_for_and_not_for_ever() {
    let stage = Stage::new();
    let a = Replica::new(&stage, "a", config());
    a.link.meets("mute", "");
    a.saw("one");
    running(&[&a], async {
        let begin = tokio::time::Instant::now();
        a.obey(enter(Phase::Freeze)).await;
        let newcomer = account("new");
        assert_eq!(a.sunset.rules().judge(&newcomer), Word::Served);
        a.comes_to(|rules| rules.judge(&newcomer) == Word::Refused(Phase::Freeze)).await;
        assert!((10..=12).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        assert_eq!(a.sunset.rules().judge(&account("one")), Word::Served);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn process_that_knows_nobody_refuses_nobody_before_it_has_asked() {
    let stage = Stage::new();
    let frozen = Plan { freeze: Some("2026-01-05T00:00:00Z".parse().expect("a time")), ..Plan::default() };
    let a = Replica::apart(&stage, "a", Config { plan: frozen, ..config() }, None);
    running(&[&a], async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((a.sunset.rules().phase, a.sunset.rules().judge(&account("new"))), (Phase::Freeze, Word::Served));
        stage.join(&a.link);
        a.comes_to(|rules| rules.judge(&account("new")) == Word::Refused(Phase::Freeze)).await;
    })
    .await;
}
