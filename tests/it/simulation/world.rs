//! One run: clients, the sessions under test, a server, and what chance does to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sse_sunset::drain::{Drain, Phase, Tasks};
use sse_sunset::fleet::Fleet;
use sse_sunset::metrics::Metrics;
use sse_sunset::session::{Books, Config, LISTS, Sessions, Verdict};
use sse_sunset::sunset::Sunset;
use sse_sunset::traffic::{AddressForm, Log, Pseudonyms, Target};
use sse_sunset::upstream::{Era, EraOptions};
use tokio::time::{Instant, sleep, timeout};

use super::chance::Chance;
use super::client::{Ask, Client, HABITS, Habit, Identity};
use super::ledger::{Ledger, token};
use super::log;
use super::modern::{self, Change};
use super::steps::Step;
use super::thread::Fate;
use super::upstream::{Disguise, Manner, Server, Session, Standing, Upstream, Weather};

/// What the clients of a run have in common.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) ledger: Arc<Ledger>,
    pub(super) sessions: Sessions,
    closing: AtomicBool,
    pub(super) server: Arc<Server>,
    /// Servers of 2026-07-28 come in.
    pub(super) has_eras: bool,
}

impl Stage {
    /// Whether nobody comes back any more.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// What is played.
#[derive(Debug)]
pub(super) enum Scene {
    /// Whatever chance brings.
    Chance,
    /// The same, with servers of both eras.
    Eras,
    /// These clients, and then this.
    Given { cast: Vec<Role>, steps: Vec<Step> },
}

/// A client of a scene.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    pub(super) habit: Habit,
    pub(super) identity: Identity,
    /// It had its handshake with a proxy that is not there any more.
    pub(super) is_of_old: bool,
}

/// Long enough for everything under way to come to its end.
const REST: Duration = Duration::from_secs(150);

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) violations: Vec<String>,
    pub(super) trace: Vec<String>,
    pub(super) counts: Counts,
}

/// What happened, so that a test can see that anything did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) clients: u64,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) cancelled: u64,
    pub(super) lost_with_a_connection: u64,
    pub(super) ran: u64,
    pub(super) checked: u64,
    pub(super) upstream_sessions: u64,
    pub(super) lost_upstream: u64,
    pub(super) revived: u64,
    pub(super) revivals_failed: u64,
    pub(super) replayed: u64,
    pub(super) adopted: u64,
    pub(super) resumed: u64,
    pub(super) merged: u64,
    pub(super) handshakes_made: u64,
    pub(super) upstream_resumed: u64,
    pub(super) pings: u64,
    pub(super) undelivered: u64,
    pub(super) slow: u64,
    pub(super) modern: modern::Counts,
}

impl Counts {
    fn each(&mut self) -> [(&'static str, &mut u64); 20] {
        [
            ("clients", &mut self.clients),
            ("asked", &mut self.asked),
            ("answered", &mut self.answered),
            ("cancelled", &mut self.cancelled),
            ("lost_with_a_connection", &mut self.lost_with_a_connection),
            ("ran", &mut self.ran),
            ("checked", &mut self.checked),
            ("upstream_sessions", &mut self.upstream_sessions),
            ("lost_upstream", &mut self.lost_upstream),
            ("revived", &mut self.revived),
            ("revivals_failed", &mut self.revivals_failed),
            ("replayed", &mut self.replayed),
            ("adopted", &mut self.adopted),
            ("resumed", &mut self.resumed),
            ("merged", &mut self.merged),
            ("handshakes_made", &mut self.handshakes_made),
            ("upstream_resumed", &mut self.upstream_resumed),
            ("pings", &mut self.pings),
            ("undelivered", &mut self.undelivered),
            ("slow", &mut self.slow),
        ]
    }

    pub(super) fn add(&mut self, other: &Counts) {
        let mut other = *other;
        for ((_, count), (_, more)) in self.each().into_iter().zip(other.each()) {
            *count += *more;
        }
        for ((_, count), (_, more)) in self.modern.each().into_iter().zip(other.modern.each()) {
            *count += *more;
        }
    }

    /// What a test that means to try everything has not tried.
    pub(super) fn never_happened(&mut self) -> Vec<&'static str> {
        self.each().into_iter().filter(|(_, count)| **count == 0).map(|(what, _)| what).collect()
    }
}

/// One run under way.
struct World {
    chance: Chance,
    seed: u64,
    stage: Arc<Stage>,
    server: Arc<Server>,
    clients: Vec<Arc<Client>>,
    /// Whether clients have to do with each other's identities.
    crowd: bool,
    /// The operator said which era it is, so it is that.
    is_forced: bool,
}

/// Plays the run `seed` to its end.
pub(super) async fn run(seed: u64, scene: &Scene, traces: bool) -> Outcome {
    let mut chance = Chance::new(seed, 0);
    let ledger = Arc::new(Ledger::new(traces));
    let manner = manner(&mut chance);
    let has_eras = matches!(scene, Scene::Eras);
    let modern = modern::Manner::draw(&mut Chance::new(seed, 2));
    let server = Arc::new(Server::new(Arc::clone(&ledger), manner, modern, Chance::new(seed, 1)));
    let eras = if has_eras { eras(&mut chance, &server) } else { EraOptions::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("traffic.log");
    let log = Log::open(Target::File(path.clone()), "simulation".into(), None).expect("a log");
    let metrics = Arc::new(Metrics::new(LISTS));
    let pseudonyms = Arc::new(Pseudonyms::ephemeral(AddressForm::Hmac));
    let books = Books { log: log.clone(), pseudonyms, metrics: Arc::clone(&metrics) };
    let (tasks, (drain, watch)) = (Tasks::default(), Drain::new());
    let config = config(&mut chance);
    ledger.note(|| format!("{manner:?} {modern:?} {eras:?} {config:?}"));
    let transport = Arc::new(Upstream(Arc::clone(&server)));
    let upstream = sse_sunset::upstream::Upstream::new(transport, eras, "simulated", tasks.clone());
    let sunset = Sunset::never(Arc::clone(&metrics));
    let sessions = Sessions::new(config, upstream, books, sunset, Fleet::solo(), tasks.clone(), watch);
    let (stage_server, closing) = (Arc::clone(&server), AtomicBool::new(false));
    let stage = Stage { ledger: Arc::clone(&ledger), sessions, closing, server: stage_server, has_eras };
    let stage = Arc::new(stage);
    let crowd = chance.one_in(2);
    let mut world = World { chance, seed, stage, server, clients: Vec::new(), crowd, is_forced: eras.era.is_some() };
    world.play(scene).await;
    world.end(&drain, &tasks).await;
    let lines = log::read(&log, &path).await;
    let undelivered = log::check(&ledger, &lines, &world.clients);
    world.settle(&metrics, &undelivered);
    let counts = world.counts(&metrics, &lines);
    Outcome { violations: ledger.violations(), trace: ledger.trace(), counts }
}

fn manner(chance: &mut Chance) -> Manner {
    let resumes = chance.one_in(2);
    let disguises = [
        None,
        Some(Disguise::Text404),
        Some(Disguise::Error404),
        Some(Disguise::NoId400),
        Some(Disguise::Text401),
        Some(Disguise::Error200),
    ];
    Manner {
        sessions: !chance.one_in(10),
        listens: !chance.one_in(4),
        resumes,
        polls: resumes && chance.one_in(3),
        lists_change: chance.one_in(2),
        documents: chance.below(5),
        disguise: chance.pick(&disguises),
    }
}

/// What the operator says of eras, and which one it is.
fn eras(chance: &mut Chance, server: &Server) -> EraOptions {
    let era = chance.one_in(8).then_some(Era::Modern);
    if era.is_some() || !chance.one_in(3) {
        server.replace(Fate::Broken);
        server.modern.state().counts = modern::Counts::default();
    }
    EraOptions { era, prefer: if chance.one_in(4) { Era::Modern } else { Era::Session } }
}

fn config(chance: &mut Chance) -> Config {
    Config {
        max_in_flight: chance.pick(&[2, 64]),
        max_waiting: chance.pick(&[4, 64, 64]),
        outbox_bytes: chance.pick(&[600, 4_000, 1 << 20]),
        memory: chance.pick(&[20_000, 1 << 20, 512 << 20]),
        linger: chance.pick(&[
            Duration::ZERO,
            Duration::from_secs(5),
            Duration::from_secs(15),
            Duration::from_secs(15),
        ]),
        ping: chance.pick(&[Duration::from_secs(20), Duration::from_secs(90)]),
        call_silence: Duration::from_secs(60),
        stall: Duration::from_secs(30),
        ..Config::default()
    }
}

impl World {
    async fn play(&mut self, scene: &Scene) {
        match scene {
            Scene::Chance | Scene::Eras => {
                for _ in 0..=self.chance.below(4) {
                    self.arrive(None).await;
                }
                for _ in 0..40 + self.chance.below(50) {
                    let step = match scene {
                        Scene::Eras => Step::draw_of_eras(&mut self.chance),
                        _ => Step::draw(&mut self.chance),
                    };
                    self.step(step).await;
                    let pause = Step::pause(&mut self.chance);
                    self.step(pause).await;
                }
            }
            Scene::Given { cast, steps } => {
                for role in cast {
                    self.arrive(Some(*role)).await;
                }
                for step in steps {
                    self.step(*step).await;
                }
            }
        }
    }

    /// A client comes, the one given or any.
    async fn arrive(&mut self, role: Option<Role>) {
        if self.clients.len() >= 12 {
            return;
        }
        let name = u32::try_from(self.clients.len()).expect("few");
        let role = role.unwrap_or_else(|| self.any_role(name));
        let Role { habit, identity, is_of_old } = role;
        let chance = Chance::new(self.seed, 100 + u64::from(name));
        self.stage.ledger.note(|| format!("c{name}: comes as {role:?}"));
        let client = Client::new(name, habit, identity, &self.stage, chance);
        if is_of_old {
            client.be_of_old();
        } else if self.chance.one_in(6) {
            client.be_steady();
        }
        self.clients.push(Arc::clone(&client));
        client.open().await;
    }

    fn any_role(&mut self, name: u32) -> Role {
        let (habit, identity) = (self.chance.pick(&HABITS), self.identity(name));
        // With others of its identity about it would be taken for one of them: see `strangers`.
        let may_be_of_old = habit.names_version() && identity.token == Some(100 + name);
        Role { habit, identity, is_of_old: may_be_of_old && self.chance.one_in(4) }
    }

    fn identity(&mut self, name: u32) -> Identity {
        let few = self.crowd;
        let token = match self.chance.below(if few { 3 } else { 6 }) {
            0 | 1 => Some(0),
            2 => Some(1),
            3 => None,
            _ => Some(100 + name),
        };
        let user_agent = if few { "node" } else { self.chance.pick(&["node", "python-httpx/0.28"]) };
        let address = if few || self.chance.one_in(2) { "192.0.2.1" } else { "192.0.2.2" };
        Identity { token, user_agent, address: address.parse().expect("an address") }
    }

    fn any(&mut self) -> Option<Arc<Client>> {
        let living: Vec<_> = self.clients.iter().filter(|client| !client.is_over()).cloned().collect();
        (!living.is_empty()).then(|| Arc::clone(&living[self.chance.index(living.len())]))
    }

    async fn step(&mut self, step: Step) {
        if let Step::Pass(time) = step {
            return sleep(time).await;
        }
        let Some(client) = self.any() else { return self.arrive(None).await };
        match step {
            Step::Pass(_) => {}
            Step::Ask(count) => self.ask(&client, count),
            Step::Cancel => client.cancel(),
            Step::Notify => client.notify("notifications/roots/list_changed"),
            Step::Drop { notices } => client.drop_line(notices),
            Step::DropMany => self.drop_many(),
            Step::Block(time) => client.block(time),
            Step::Arrive => self.arrive(None).await,
            Step::Begin => {
                client.die();
                self.arrive(Some(Role { habit: client.habit, identity: client.identity, is_of_old: false })).await;
            }
            Step::Die => client.die(),
            Step::Lose { one, fate } => {
                let which = if one { self.server.any_session() } else { None };
                self.server.lose(which, fate);
            }
            Step::Announce | Step::AskClient => {
                client.be_intruded_on();
                if let Some(sid) = self.server.any_session() {
                    if step == Step::Announce { self.server.announce(sid) } else { self.server.ask(sid) }
                }
            }
            Step::Weather(weather) => self.set_weather(weather),
            Step::Replace(fate) => {
                if !self.is_forced {
                    self.server.replace(fate);
                }
            }
            Step::Change => {
                let change = match self.chance.below(5) {
                    0 => Change::Ends,
                    1 => Change::Tools,
                    _ => Change::Resource(client.name),
                };
                self.server.change_modern(&change);
            }
            Step::Expire => {
                if let Some(token) = client.identity.token {
                    self.server.expire(token);
                }
            }
        }
    }

    fn ask(&mut self, client: &Arc<Client>, count: u64) {
        for _ in 0..count {
            if !client.is_ready() {
                return;
            }
            let methods = [
                "tools/call",
                "tools/call",
                "tools/call",
                "tools/list",
                "ping",
                "logging/setLevel",
                "resources/subscribe",
                "resources/unsubscribe",
            ];
            client.ask(self.chance.pick(&methods));
        }
    }

    /// A link on the way breaks, and all connections with it.
    fn drop_many(&mut self) {
        for client in self.clients.clone() {
            if !self.chance.one_in(3) {
                client.drop_line(true);
            }
        }
    }

    fn set_weather(&self, weather: Weather) {
        self.stage.ledger.note(|| format!("the weather is {weather:?}"));
        let mut state = self.server.state();
        state.weather = weather;
        state.changes += 1;
    }

    /// Lets everything come to rest, or not, and ends the sessions.
    async fn end(&mut self, drain: &Drain, tasks: &Tasks) {
        if !self.chance.one_in(4) {
            self.set_weather(Weather::Fine);
            sleep(REST).await;
            if self.stage.has_eras {
                self.check_service().await;
            }
            self.check_rest();
        }
        self.stage.ledger.note(|| "the proxy drains".to_owned());
        self.stage.closing.store(true, Ordering::Relaxed);
        drain.enter(Phase::Closing);
        sleep(self.chance.ms(0, 20_000)).await;
        drain.enter(Phase::Over);
        let since = Instant::now();
        if timeout(Duration::from_secs(30), tasks.ended()).await.is_err() {
            self.violation(format!("{} tasks run 30 s after the end", tasks.running()));
        }
        self.stage.ledger.note(|| format!("ended after {:?}", since.elapsed()));
        // What is on its way to clients arrives, and POSTs get their word.
        sleep(Duration::from_secs(120)).await;
    }

    fn violation(&self, what: String) {
        self.stage.ledger.violation(what);
    }

    /// Nothing is under way any more.
    fn check_rest(&self) {
        let alive: Vec<_> = {
            let state = self.server.state();
            let is_held = |session: &Session| session.standing == Standing::Alive && session.announced && !session.left;
            state.sessions.iter().filter(|(_, session)| is_held(session)).map(|(sid, _)| *sid).collect()
        };
        let sessions = self.stage.sessions.len();
        if alive.len() > sessions {
            self.violation(format!("the upstream sessions {alive:?} for {sessions} sessions"));
        }
        for client in &self.clients {
            if client.has_line() == client.is_over() {
                self.violation(format!("c{} ({:?}) has no stream though it would", client.name, client.habit));
            }
        }
    }

    /// Nothing goes on by itself, and whoever asks is served.
    async fn check_service(&self) {
        let before = self.server.state().taken;
        sleep(Duration::from_secs(60)).await;
        let taken = self.server.state().taken - before;
        let most = 10 + 12 * self.clients.len() as u64;
        if taken > most {
            self.violation(format!("{taken} exchanges in a minute in which nobody did anything"));
        }
        for client in &self.clients {
            let left = client.left_over_questions();
            if !left.is_empty() {
                let (name, habit) = (client.name, client.habit);
                self.violation(format!("c{name} ({habit:?}) has questions of calls that are over: {left:?}"));
            }
            if !client.is_ready() || client.waits() || !client.has_line() || self.server.strands() {
                continue;
            }
            if self.is_served(client, "tools/list").await == Some(true) && self.server.tells_of_changes() {
                self.check_news(client).await;
            }
        }
    }

    /// Whether a request gets a result, sooner or later; `None` if the client has no session any more.
    async fn is_served(&self, client: &Arc<Client>, method: &'static str) -> Option<bool> {
        for _ in 0..3 {
            let ask = client.ask(method);
            sleep(Duration::from_secs(20)).await;
            let ask = client.asks().swap_remove(ask);
            if ask.succeeded {
                return Some(true);
            }
            if client.is_over() || ask.verdict == Some(Verdict::Gone) {
                return None;
            }
        }
        self.violation(format!("c{} ({:?}) is not served any more: {method}", client.name, client.habit));
        Some(false)
    }

    /// What changes on the server is heard of.
    async fn check_news(&self, client: &Arc<Client>) {
        let before = client.news();
        self.server.change_modern(&Change::Tools);
        sleep(Duration::from_secs(5)).await;
        if client.news()[0] == before[0] && client.has_line() {
            self.violation(format!("c{} ({:?}) hears of no changes", client.name, client.habit));
        }
        if self.is_served(client, "resources/subscribe").await != Some(true) {
            return;
        }
        self.server.change_modern(&Change::Resource(client.name));
        sleep(Duration::from_secs(5)).await;
        if client.news()[1] == before[1] && client.has_line() {
            self.violation(format!("c{} ({:?}) hears nothing of its resource", client.name, client.habit));
        }
    }

    /// What is left when everything has ended.
    fn settle(&self, metrics: &Metrics, undelivered: &[u64]) {
        if !self.stage.sessions.is_empty() {
            self.violation(format!("{} sessions are left", self.stage.sessions.len()));
        }
        for (what, count) in [
            ("sessions are active", metrics.sessions_active.get()),
            ("sessions linger", metrics.sessions_lingering.get()),
            ("sessions had a bug", i64::try_from(metrics.panics.get()).unwrap_or(i64::MAX)),
        ] {
            if count != 0 {
                self.violation(format!("{count} {what}"));
            }
        }
        for (sid, session) in &self.server.state().sessions {
            if session.standing == Standing::Alive && session.announced && !session.left && !session.troubled {
                self.violation(format!("the upstream session {sid} was never deleted"));
            }
        }
        for (client, undelivered) in self.clients.iter().zip(undelivered) {
            let asks = client.asks();
            let owed = asks.iter().enumerate().filter(|(_, ask)| {
                // What a stream took is the client's, unless it comes back in time to say that it is not.
                let excused = ask.lost;
                ask.verdict == Some(Verdict::Accepted) && ask.answers == 0 && !ask.cancelled && !excused
            });
            let owed: Vec<_> = owed.map(|(number, ask)| (number, ask.method)).collect();
            if owed.len() as u64 > *undelivered {
                let (name, habit) = (client.name, client.habit);
                self.violation(format!("c{name} ({habit:?}) is owed {owed:?}, and {undelivered} were counted"));
            }
            if client.is_undisturbed() && *undelivered > 0 {
                self.violation(format!("c{} was always there, and {undelivered} were not delivered", client.name));
            }
        }
    }

    fn counts(&self, metrics: &Metrics, lines: &[serde_json::Value]) -> Counts {
        let asks: Vec<_> = self.clients.iter().flat_map(|client| client.asks()).collect();
        let count = |is: &dyn Fn(&Ask) -> bool| asks.iter().filter(|ask| is(ask)).count() as u64;
        let ran = self.clients.iter().flat_map(|client| (0..client.asks().len()).map(|ask| token(client.name, ask)));
        let merged = lines.iter().filter(|line| line["session.end.reason"] == "merged").count() as u64;
        let slow = lines.iter().filter(|line| line["session.end.reason"] == "slow_consumer").count() as u64;
        Counts {
            clients: self.clients.len() as u64,
            asked: asks.len() as u64,
            answered: count(&|ask| ask.answers > 0),
            cancelled: count(&|ask| ask.cancelled),
            lost_with_a_connection: count(&|ask| ask.lost),
            ran: ran.map(|token| self.stage.ledger.runs(&token) as u64).sum(),
            checked: self.stage.ledger.events(),
            upstream_sessions: self.server.state().last,
            lost_upstream: metrics.upstream_sessions_lost.get(),
            revived: metrics.upstream_sessions_revived.get(),
            revivals_failed: metrics.revivals_failed.get(),
            replayed: metrics.messages_replayed.get(),
            adopted: metrics.streams_adopted.get(),
            resumed: metrics.streams_resumed.get(),
            merged,
            handshakes_made: metrics.handshakes_made.get(),
            upstream_resumed: metrics.upstream_streams_resumed.get(),
            pings: metrics.upstream_pings.get(),
            undelivered: metrics.undelivered.get(),
            slow,
            modern: self.server.modern.state().counts,
        }
    }
}
