//! The program as a whole: builds its parts, wires them, runs them, and lets them drain.

mod evidence;
mod told;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, timeout, timeout_at};

use crate::admin::{Door, Vitals};
use crate::auth::oauth::Oauth;
use crate::clock::StepDetector;
use crate::config::Config;
use crate::drain::{Drain, Phase, Tasks, Watch};
use crate::fleet::{Fleet, JoinError};
use crate::front::{Front, Ways};
use crate::metrics::Metrics;
use crate::net::{self, Acceptor, Tls};
use crate::passthrough::{self, Passthrough};
use crate::report::live::Live;
use crate::session::{self, Books, Sessions};
use crate::sunset::{Parts, Sunset};
use crate::systemd::{Notifier, Sockets};
use crate::traffic::{Heartbeat, Log, Observer, Pseudonyms, Record, Start, Stop, Survival, Target};
use crate::upstream::{HttpTransport, Upstream};

/// How often the process says that it lives (EVIDENCE, `proxy.heartbeat`).
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often it is looked whether another replica has come.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// How long sessions and connections have, after the deadline of the drain, to say their last words.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The address for operators cannot be had.
    #[error(
        "cannot listen on {0} for operators: {1}; take another address with --admin 127.0.0.1:0, or none with --admin off"
    )]
    Admin(SocketAddr, std::io::Error),
    /// The traffic log cannot be opened.
    #[error("cannot open the traffic log: {0}")]
    TrafficLog(std::io::Error),
    /// The state directory cannot be used.
    #[error("cannot use the state directory: {0}")]
    StateDir(std::io::Error),
    /// The fleet cannot be joined.
    #[error("cannot take part in the fleet: {0}")]
    Fleet(JoinError),
    /// The client for the upstream cannot be made.
    #[error("cannot set up TLS for the upstream: {0}")]
    Upstream(String),
}

/// A proxy that has its address and has not begun to serve.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    admin: Option<Door>,
    front: Front,
    oauth: Oauth,
    sessions: Sessions,
    books: Books,
    live: Arc<Live>,
    sunset: Sunset,
    fleet: Fleet,
    drain: Drain,
    watch: Watch,
    session_tasks: Tasks,
    notifier: Notifier,
    config: Config,
}

impl App {
    /// Takes the address, opens the log, makes the parts.
    ///
    /// # Errors
    /// When one of these cannot be had.
    pub fn build(config: Config) -> Result<App, StartError> {
        App::build_on(Sockets::default(), Notifier::default(), config)
    }

    /// The same on sockets that were passed, so far as any were, telling `notifier` how things stand.
    ///
    /// # Errors
    /// When one of these cannot be had.
    pub fn build_on(sockets: Sockets, notifier: Notifier, config: Config) -> Result<App, StartError> {
        let pseudonyms = match &config.state_dir {
            Some(dir) => Pseudonyms::kept_in(dir, config.client_address).map_err(StartError::StateDir)?,
            None => Pseudonyms::ephemeral(config.client_address),
        };
        let listener =
            net::take(sockets.clients, config.listen).map_err(|error| StartError::Listen(config.listen, error))?;
        let transport = HttpTransport::new(&config.upstream).map_err(StartError::Upstream)?;
        let live = evidence::open(&config).map_err(StartError::StateDir)?;
        let books = Arc::clone(&live);
        let observer = Observer::new(move |line| books.observe(line));
        let log = Log::open(config.traffic_log.clone(), config.instance.clone(), Some(observer))
            .map_err(StartError::TrafficLog)?;
        let metrics = Arc::new(Metrics::new(session::LISTS));
        let session_tasks = Tasks::default();
        let fleet = open_fleet(&config, &log, &metrics, &session_tasks).map_err(StartError::Fleet)?;
        evidence::restore_times(&live, &metrics);
        let sunset = open_sunset(&config, &live, &metrics, fleet.clone()).map_err(StartError::StateDir)?;
        let books = Books { log, pseudonyms: Arc::new(pseudonyms), metrics };
        let (drain, watch) = Drain::new();
        watch_log_and_drain(&books, &watch);
        let state = Arc::clone(&live);
        books.metrics.watch_gauge("state_failing", move || state.store_error().is_some().into());
        if let Some(tls) = config.net.tls.clone() {
            let not_after = move || tls.not_after().and_then(|time| u64::try_from(time).ok()).unwrap_or(0);
            books.metrics.watch_gauge("tls_not_after_timestamp_seconds", not_after);
        }
        let host = config.upstream.host_name();
        let upstream = Upstream::new(Arc::new(transport.clone()), config.era, host, session_tasks.clone());
        let sessions = Sessions::new(
            config.session.clone(),
            upstream.clone(),
            books.clone(),
            sunset.clone(),
            fleet.clone(),
            session_tasks.clone(),
            watch.clone(),
        );
        let max = config.net.max_connections;
        let limits = passthrough::Limits { stall: config.session.stall, body_stall: config.front.body_time, max };
        let passthrough = Passthrough::new(&config.upstream, transport, limits, session_tasks.clone())
            .map_err(StartError::Upstream)?;
        let address = listener.local_addr().map_err(|error| StartError::Listen(config.listen, error))?;
        let oauth = Oauth::new(config.oauth.clone(), address, &config.upstream, upstream.clone());
        let ways = Ways {
            sessions: sessions.clone(),
            passthrough,
            upstream: upstream.clone(),
            oauth: oauth.clone(),
            sunset: sunset.clone(),
            fleet: fleet.clone(),
        };
        let vitals = vitals(&config, &books, &watch, &live, &ways);
        let front = Front::new(config.front.clone(), ways, books.clone(), session_tasks.clone(), watch.clone());
        let admin = match &config.admin {
            Some(admin) => {
                let door = Door::bind(admin, sockets.admin, vitals);
                Some(door.map_err(|error| StartError::Admin(admin.listen, error))?)
            }
            None => None,
        };
        Ok(App {
            listener,
            admin,
            front,
            oauth,
            sessions,
            books,
            live,
            sunset,
            fleet,
            drain,
            watch,
            session_tasks,
            notifier,
            config,
        })
    }

    /// The address that was taken.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address for operators that was taken, if there is one.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn admin_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(Door::address).transpose()
    }

    /// The program's numbers.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.books.metrics)
    }

    /// The evidence so far.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// The traffic log, to be reopened on SIGHUP.
    #[must_use]
    pub fn log(&self) -> Log {
        self.books.log.clone()
    }

    /// The fleet, whose keys are read again on SIGHUP.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        self.fleet.clone()
    }

    /// What clients are shown, to be read again on SIGHUP.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.config.net.tls.clone()
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let started = Instant::now();
        // Operators are served from before the first client until after the last.
        let admin = self.admin.take().map(Door::open);
        self.books
            .log
            .write(Record::Start(Start {
                version: env!("CARGO_PKG_VERSION"),
                config_hash: self.config.hash.clone(),
                upstream_origin: self.config.upstream.origin(),
                passthrough: self.config.front.passthrough.name(),
            }))
            .await;
        let connections = Tasks::default();
        let metrics = Arc::clone(&self.books.metrics);
        let acceptor = Acceptor::new(self.config.net.clone(), metrics, connections.clone(), self.watch.clone());
        let front = self.front.clone();
        let (begun, agreed) = (Notify::new(), Notify::new());
        let accept = acceptor.listen(&self.listener, move |request, peer| {
            let front = front.clone();
            async move { front.answer(request, peer).await }
        });
        tokio::select! {
            // The first client finds the phase that holds.
            () = async {
                begun.notified().await;
                evidence::one_key(&self.fleet, &agreed).await;
                self.notifier.ready();
                tokio::join!(accept, told::tell(&self.notifier, &self.session_tasks, self.standing()));
            } => {}
            () = watch_certificate(self.config.net.tls.as_ref()) => {}
            () = self.heartbeats() => {}
            () = async { self.oauth.learn().await; std::future::pending().await } => {}
            () = self.front.watch() => {}
            () = async { self.sunset.begin(&self.books.log).await; begun.notify_one(); self.sunset.run(&self.books.log).await } => {}
            () = self.fleet.run(Arc::new(self.front.clone()), &self.books.log) => {}
            () = evidence::keep(&self.live, &self.books.metrics) => {}
            () = evidence::share(&self.live, &self.fleet, &self.books.pseudonyms, &agreed, &self.books.metrics) => {}
            () = async { shutdown.await; self.drain_sessions().await } => {}
        }
        // The listener is still open here and closes after all sessions: until now a new connection found someone. One that was
        // passed stays open elsewhere: whoever connects from now on waits there for the next process.
        drop(self.listener);
        self.fleet.leave().await;
        let _ = timeout(LAST_WORDS, connections.ended()).await;
        let (uptime_s, lost) = (started.elapsed().as_secs(), self.books.log.health().lost());
        let stop = Stop { uptime_s, lost, survival: survival(&self.books.metrics) };
        self.books.log.write(Record::Stop(stop)).await;
        self.books.log.flush().await;
        tokio::join!(
            evidence::save_last(&self.live),
            evidence::share_last(&self.live, &self.fleet),
            self.sunset.save_last()
        );
        if let Some(admin) = admin {
            admin.close().await;
        }
    }

    /// See DESIGN, Sessions survive: the proxy drains.
    async fn drain_sessions(&self) {
        let deadline = Instant::now() + self.config.drain;
        tracing::info!(sessions = self.sessions.len(), "draining");
        self.drain.enter(Phase::Leaving);
        self.notifier.stopping(self.config.drain + told::AFTER_DRAIN, &self.standing().line());
        tokio::time::sleep(self.config.drain_delay).await;
        self.drain.enter(Phase::Closing);
        if timeout_at(deadline, self.session_tasks.ended()).await.is_err() {
            tracing::warn!(sessions = self.sessions.len(), "the drain deadline has passed; pending calls get an error");
        }
        self.drain.enter(Phase::Over);
        let _ = timeout(LAST_WORDS, self.session_tasks.ended()).await;
    }

    /// How many sessions there are, and how things stand, for the service manager.
    fn standing(&self) -> told::Standing {
        told::Standing { sessions: self.sessions.clone(), sunset: self.sunset.clone(), drain: self.watch.clone() }
    }

    /// The other replicas, as records name them.
    fn others(&self) -> Vec<String> {
        self.fleet.peers().iter().map(|peer| format!("{}/{}", peer.instance, peer.boot)).collect()
    }

    /// Waits until there is another replica than `told`.
    async fn newcomer(&self, told: &[String]) {
        if !self.fleet.is_shared() {
            return std::future::pending().await;
        }
        while self.others().iter().all(|other| told.contains(other)) {
            tokio::time::sleep(LOOK_AROUND).await;
        }
    }

    async fn heartbeats(&self) {
        let mut clock = StepDetector::start();
        let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Vec::new();
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                // A replica that lives for less than a minute has a log too.
                () = self.newcomer(&told) => {}
            }
            told = self.others();
            let metrics = &self.books.metrics;
            let record = Heartbeat {
                active: metrics.sessions_active.get(),
                lingering: metrics.sessions_lingering.get(),
                opened: metrics.sessions_opened.total(),
                requests: metrics.requests.get(),
                uses: metrics.uses.total(),
                refused: metrics.refused.total(),
                lost: self.books.log.health().lost(),
                clock_step_s: clock.step_s(),
                passthrough: self.config.front.passthrough.name(),
                fleet_boots: told.clone(),
                survival: survival(metrics),
            };
            self.books.log.write(Record::Heartbeat(record)).await;
        }
    }
}

/// Reads the certificate again whenever it changes, for ever.
async fn watch_certificate(tls: Option<&Tls>) {
    match tls {
        Some(tls) => tls.watch().await,
        None => std::future::pending().await,
    }
}

/// What operators are told.
fn vitals(config: &Config, books: &Books, drain: &Watch, live: &Arc<Live>, ways: &Ways) -> Vitals {
    Vitals {
        live: Arc::clone(live),
        sunset: ways.sunset.clone(),
        fleet: ways.fleet.clone(),
        sessions: ways.sessions.clone(),
        log: books.log.clone(),
        log_target: config.traffic_log.to_string(),
        metrics: Arc::clone(&books.metrics),
        drain: drain.clone(),
        instance: config.instance.clone(),
        started: Timestamp::now(),
        upstream_origin: config.upstream.origin(),
        upstream: ways.upstream.clone(),
        tls: config.net.tls.clone(),
        config_hash: config.hash.clone(),
    }
}

/// One of several processes, or the only one.
fn open_fleet(config: &Config, log: &Log, metrics: &Arc<Metrics>, tasks: &Tasks) -> Result<Fleet, JoinError> {
    match config.fleet.clone() {
        Some(fleet) => Fleet::join(fleet, &config.instance, log.boot_id(), Arc::clone(metrics), tasks.clone()),
        None => Ok(Fleet::solo()),
    }
}

/// The switch-off as the last process left it.
fn open_sunset(config: &Config, live: &Arc<Live>, metrics: &Arc<Metrics>, fleet: Fleet) -> std::io::Result<Sunset> {
    let log_file = match &config.traffic_log {
        Target::File(path) => Some(path.clone()),
        Target::Stdout => None,
    };
    let parts = Parts { live: Arc::clone(live), log_file, metrics: Arc::clone(metrics), fleet };
    Sunset::open(config.sunset.clone(), parts, config.state_dir.as_deref(), &config.instance)
}

/// Has the metrics show how the traffic log does, and whether the process drains.
fn watch_log_and_drain(books: &Books, drain: &Watch) {
    let (lost, failing, drain) = (books.log.clone(), books.log.clone(), drain.clone());
    books.metrics.watch_counter("traffic_log_records_lost", move || lost.health().lost());
    books.metrics.watch_gauge("traffic_log_failing", move || failing.health().is_failing().into());
    books.metrics.watch_gauge("draining", move || (drain.phase() > Phase::Serving).into());
}

/// What sessions went through so far.
fn survival(metrics: &Metrics) -> Survival {
    Survival {
        streams_resumed: metrics.streams_resumed.get(),
        streams_adopted: metrics.streams_adopted.get(),
        handshakes_made: metrics.handshakes_made.get(),
        upstream_sessions_lost: metrics.upstream_sessions_lost.get(),
        upstream_sessions_revived: metrics.upstream_sessions_revived.get(),
        revivals_failed: metrics.revivals_failed.get(),
        messages_replayed: metrics.messages_replayed.get(),
        upstream_streams_resumed: metrics.upstream_streams_resumed.get(),
        upstream_failures: metrics.upstream_errors.total(),
        errors: metrics.errors_made.get(),
        undelivered: metrics.undelivered.get(),
        slow_consumers: metrics.slow_consumers.get(),
        panics: metrics.panics.get(),
    }
}
