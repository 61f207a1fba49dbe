use super::*;
use crate::drain::Tasks;
use crate::fleet::staged::Stage;
use crate::metrics::Format;
use crate::report::outcome::Verdict;
use crate::traffic::AddressForm;

/// A replica on a board that stands for Redis.
struct Replica {
    live: Arc<Live>,
    pseudonyms: Pseudonyms,
    metrics: Arc<Metrics>,
}

impl Replica {
    fn new(instance: &str) -> Self {
        let live = Live::open(None, instance, "LOG".into()).expect("a state").with_replicas();
        let metrics = Arc::new(Metrics::new(crate::session::LISTS));
        Replica { live: Arc::new(live), pseudonyms: Pseudonyms::ephemeral(AddressForm::Hmac), metrics }
    }

    fn uses(&self, boot: &str, identity: &str) {
        for (seq, name) in [(0, "proxy.start"), (1, "legacy.use")] {
            let line = format!(
                r#"{{"@timestamp":"{}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"{}","boot.id":"{boot}","log.seq":{seq},"legacy.session":"s","identity":"client_id:{identity}","identity.source":"client_id","client.family":"python","client.address":"1"}}"#,
                crate::clock::now(),
                self.live.instance()
            );
            self.live.observe(line.as_bytes());
        }
    }

    /// Takes part until the test is over.
    fn start(&self, fleet: &Fleet) {
        let Replica { live, pseudonyms, metrics } = self;
        let (live, pseudonyms, metrics) = (Arc::clone(live), pseudonyms.clone(), Arc::clone(metrics));
        let fleet = fleet.clone();
        Tasks::default().spawn(async move { take_part(&live, &fleet, &pseudonyms, &Notify::new(), &metrics).await });
    }

    fn known(&self) -> Vec<String> {
        let mut names: Vec<String> = self.live.report_now().clients.into_iter().map(|row| row.name).collect();
        names.sort_unstable();
        names
    }
}

/// Until `holds`, at the pace of the parts themselves; the clock of these tests runs as fast as nothing happens.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("{what}");
}

#[tokio::test(start_paused = true)]
async fn replicas_share_what_they_know_and_one_key() {
    let fleet = Fleet::solo();
    let replicas = ["a", "b", "c"].map(Replica::new);
    for replica in &replicas {
        replica.uses("boot", replica.live.instance());
    }
    for replica in &replicas {
        replica.start(&fleet);
    }
    let agree = || replicas.iter().all(|replica| replica.known() == ["a", "b", "c"]);
    until("all know all", agree).await;
    let name = |replica: &Replica| replica.pseudonyms.of("sub", "alice");
    until("one key", || replicas.iter().all(|replica| name(replica) == name(&replicas[0]))).await;
    replicas[1].uses("again", "late");
    until("what comes later", || replicas.iter().all(|replica| replica.known().contains(&"late".to_owned()))).await;
    for replica in &replicas {
        assert_eq!(replica.live.report_now().verdict, Verdict::NotYet);
        let metrics = replica.metrics.exposition(Format::Classic);
        assert!(metrics.contains(r#"sse_sunset_verdict{verdict="not_yet"} 1"#), "{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn replica_that_starts_again_without_a_state_directory_finds_its_past_on_the_board() {
    let fleet = Fleet::solo();
    let before = Replica::new("a");
    before.uses("first", "x");
    put(&before.live, &fleet).await.1.expect("on the board");
    let past = fleet.board().borrow().get("evidence/a").expect("a document").clone();
    let again = Replica::new("a");
    again.uses("second", "y");
    again.start(&fleet);
    let is_told = || fleet.board().borrow().get("evidence/a").is_some_and(|entry| entry.version != past.version);
    until("it tells all of it", is_told).await;
    assert_eq!(again.known(), ["x", "y"]);
    let other = Replica::new("other");
    let told = fleet.board().borrow().get("evidence/a").expect("a document").bytes.clone();
    other.live.hear("a", Some(&told)).expect("sense");
    assert_eq!(other.known(), ["x", "y"], "the board has both");
}

#[tokio::test(start_paused = true)]
async fn replica_that_ends_before_it_has_taken_up_its_past_leaves_it_on_the_board() {
    let stage = Stage::new();
    let (fleet, link) = stage.replica();
    stage.join(&link);
    let before = Replica::new("a");
    before.uses("first", "x");
    put(&before.live, &fleet).await.1.expect("on the board");
    let past = fleet.board().borrow().get("evidence/a").expect("a document").clone();
    let again = Replica::new("a");
    again.uses("second", "y");
    share_last(&again.live, &fleet).await;
    assert_eq!(fleet.board().borrow().get("evidence/a"), Some(&past));
    tokio::select! {
        () = tell(&again.live, &fleet) => {}
        () = until("it is taken up", || again.live.is_whole()) => {}
    }
    again.uses("third", "z");
    share_last(&again.live, &fleet).await;
    let other = Replica::new("other");
    let told = fleet.board().borrow().get("evidence/a").expect("a document").bytes.clone();
    other.live.hear("a", Some(&told)).expect("sense");
    assert_eq!(other.known(), ["x", "y", "z"]);
}

#[tokio::test]
async fn what_was_on_its_way_when_the_process_ended_is_told_with_the_last() {
    let stage = Stage::new();
    let (fleet, link) = stage.replica();
    stage.join(&link);
    let replica = Replica::new("a");
    replica.uses("first", "x");
    replica.live.set_whole();
    let mut telling = Box::pin(put(&replica.live, &fleet));
    assert!(futures_util::poll!(&mut telling).is_pending());
    drop(telling);
    share_last(&replica.live, &fleet).await;
    assert!(fleet.board().borrow().get("evidence/a").is_some());
}

#[tokio::test(start_paused = true)]
async fn key_that_comes_later_is_taken_over_and_what_makes_no_sense_changes_nothing() {
    let fleet = Fleet::solo();
    let replica = Replica::new("a");
    replica.start(&fleet);
    until("its own", || fleet.board().borrow().get(PSEUDONYMS).is_some()).await;
    assert_eq!(
        fleet.board().borrow().get(PSEUDONYMS).map(|entry| entry.bytes.to_vec()),
        Some(replica.pseudonyms.secret())
    );
    let key = Pseudonyms::ephemeral(AddressForm::Hmac);
    fleet.put(PSEUDONYMS, key.secret().into()).await.expect("on the board");
    until("taken over", || replica.pseudonyms.secret() == key.secret()).await;
    fleet.put(PSEUDONYMS, Bytes::from_static(b"no key")).await.expect("on the board");
    fleet.put("evidence/b", Bytes::from_static(b"no document")).await.expect("on the board");
    let doubts = || replica.live.report_now().notes.concat();
    until("told", || doubts().contains("What replica b tells makes no sense")).await;
    assert_eq!(replica.pseudonyms.secret(), key.secret(), "what is no key changes nothing");
}

#[tokio::test(start_paused = true)]
async fn process_that_was_killed_is_no_namesake_of_its_successor() {
    let stage = Stage::new();
    let (fleet, link) = stage.replica();
    stage.join(&link);
    let replica = Replica::new("a");
    replica.uses("boot", "x");
    link.meets("a", "");
    replica.start(&fleet);
    let doubts = || replica.live.report_now().notes.concat();
    until("it has looked", || !doubts().contains("nobody could be asked")).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!doubts().contains("is called a too"), "{}", doubts());
    until("a namesake that lives is told of", || doubts().contains("is called a too")).await;
}

#[tokio::test(start_paused = true)]
async fn namesake_is_known_by_its_boot_and_counts_from_when_it_came() {
    let peer = |instance: &str, boot: u8| Peer {
        instance: instance.to_owned(),
        boot: format!("{boot:016x}").parse().expect("a boot"),
        config_hash: String::new(),
    };
    let mut namesakes = BTreeMap::new();
    assert_eq!(present(vec![peer("a", 1), peer("b", 2)], "a", &mut namesakes), ["b"]);
    tokio::time::advance(OUTLIVED + LOOK).await;
    assert_eq!(present(vec![peer("a", 3)], "a", &mut namesakes), [""; 0], "another start, and the first one is gone");
    tokio::time::advance(OUTLIVED + LOOK).await;
    assert_eq!(present(vec![peer("a", 1), peer("a", 3)], "a", &mut namesakes), ["a"]);
}

#[test]
fn news_are_told_once_and_so_is_what_is_gone() {
    let fleet = Fleet::solo();
    let put = |name: &str, bytes: &'static [u8]| {
        futures_util::future::FutureExt::now_or_never(fleet.put(name, Bytes::from_static(bytes)))
    };
    put("evidence/a", b"1");
    put("seen", b"2");
    let mut heard = BTreeMap::from([("gone".to_owned(), 7)]);
    let board = || Arc::clone(&fleet.board().borrow());
    let told = [("gone".to_owned(), None), ("a".to_owned(), Some(Bytes::from_static(b"1")))];
    assert_eq!(news(&board(), &mut heard), told);
    assert_eq!(news(&board(), &mut heard), []);
    put("evidence/a", b"3");
    assert_eq!(news(&board(), &mut heard), [("a".to_owned(), Some(Bytes::from_static(b"3")))]);
}
