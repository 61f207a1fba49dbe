//! The fleet over Redis (WIRE, Replicas; SECURITY §7).
//!
//! ```text
//! link (calls, presence) | bulk (the board) | subscription (calls, answers, words)   three connections a process
//! ```
//!
//! Nothing that is needed to serve a session is kept in Redis: what is there may be lost at any time, and is put back.
//!
//! Why the `redis` crate and not fred: it is kept by many hands, pulls in little, and leaves it to us when to connect anew,
//! which has to be known here: a call is sent again when a way was lost.

mod board;
mod call;
mod envelope;
mod link;
mod names;
mod presence;
mod subscription;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redis::{Client, IntoConnectionInfo as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::keys::{Key, KeyFile, Keyring, name};
use super::trust::Faults;
use super::{Backend, Board, Boot, Called, Fault, Handler, JoinError, Peer, Unshared, Whose, id};
use crate::drain::Tasks;
use crate::metrics::Metrics;
use crate::traffic::Log;
use board::{Held, Shared};
use call::Calls;
use envelope::Window;
use link::Link;
use names::Names;
use presence::Presence;
use subscription::Subscription;

/// How long Redis may take over what has to be quick, and over what may be large.
const PATIENCES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How often it is looked whether the keys have changed.
const KEYS: Duration = Duration::from_secs(5);
/// How long the end of the process waits to say so.
const FAREWELL: Duration = Duration::from_secs(1);
/// What words begin with: who is there has changed, the board has, or it is the handler's.
const PRESENCE: u8 = 0;
const BOARD: u8 = 1;
const HANDLERS: u8 = 2;

/// How a process takes part in a fleet.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where Redis is.
    pub server: Server,
    /// What the fleet is called: fleets of other names may share the Redis.
    pub name: String,
    /// The keys that all of it share.
    pub keys: KeyFile,
    /// Changes with what the process was told about the switch-off.
    pub config_hash: String,
}

/// Where Redis is, and how one gets in. Shown without what gets one in.
#[derive(Clone)]
pub struct Server {
    client: Client,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.address())
    }
}

impl Server {
    /// The server at `url`; `authorities` vouch for it, in PEM form, if not those of the system.
    ///
    /// # Errors
    /// What is wrong with the URL, without quoting it: it may hold a password.
    pub fn new(url: &str, authorities: Option<Vec<u8>>) -> Result<Self, String> {
        let wanted =
            "wants redis://HOST:PORT or rediss://HOST:PORT, with USER:PASSWORD@ where the server asks for them";
        let info = url.into_connection_info().map_err(|_| wanted.to_owned())?;
        let settings = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_tcp_settings(settings);
        let client = match authorities {
            Some(root_cert) => {
                Client::build_with_tls(info, redis::TlsCertificates { client_tls: None, root_cert: Some(root_cert) })
            }
            None => Client::open(info),
        };
        client.map(|client| Server { client }).map_err(|error| error.to_string())
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

/// One process of a fleet.
#[derive(Debug)]
pub(super) struct Member {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(in crate::fleet::redis) struct Inner {
    me: Boot,
    names: Names,
    server: Server,
    file: KeyFile,
    keys: RwLock<Arc<Keyring>>,
    /// Why the keys could not be read again, if so.
    stale: RwLock<Option<String>>,
    /// For what has to be quick.
    link: Link,
    /// For what may be large.
    bulk: Link,
    subscription: Subscription,
    presence: Presence,
    board: Shared,
    calls: Calls,
    window: Window,
    faults: Faults,
    handler: OnceLock<Arc<dyn Handler>>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Member {
    /// A process that will take part once it runs. Nothing is sent yet.
    pub(super) fn new(
        config: Config,
        instance: &str,
        boot: Boot,
        metrics: Arc<Metrics>,
        tasks: Tasks,
    ) -> Result<Self, JoinError> {
        let Config { server, name, keys: file, config_hash } = config;
        let keys = RwLock::new(Arc::new(file.read().map_err(JoinError::Keys)?));
        let names = Names::new(&name);
        let client = &server.client;
        let commands = || metrics.fleet_commands.clone();
        let channels = [names.calls(boot), names.answers(boot), names.words()];
        let me = Peer { instance: instance.to_owned(), boot, config_hash };
        let inner = Inner {
            me: boot,
            link: Link::new(client.clone(), "the way to Redis", PATIENCES.0, commands()),
            bulk: Link::new(client.clone(), "the way to what replicas share in Redis", PATIENCES.1, commands()),
            subscription: Subscription::new(client.clone(), channels),
            presence: Presence::new(me, names.clone()),
            board: Shared::new(names.clone()),
            names,
            server,
            file,
            keys,
            stale: RwLock::default(),
            calls: Calls::default(),
            window: Window::new(),
            faults: Faults::default(),
            handler: OnceLock::new(),
            metrics,
            tasks,
        };
        let inner = Arc::new(inner);
        let (connected, peers) = (Arc::downgrade(&inner), Arc::downgrade(&inner));
        let metrics = &inner.metrics;
        metrics.watch_gauge("fleet_connected", move || connected.upgrade().is_some_and(|inner| inner.works()).into());
        let count = move || peers.upgrade().map_or(0, |inner| inner.presence.count());
        metrics.watch_gauge("fleet_peers", move || u64::try_from(count()).unwrap_or(u64::MAX));
        Ok(Member { inner })
    }
}

impl Inner {
    fn works(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why Redis is of no use to this process, if so.
    fn why_not(&self) -> Option<String> {
        self.link.why().or_else(|| self.subscription.why()).or_else(|| self.bulk.why())
    }

    fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that everybody can open.
    fn sealing(&self) -> Key {
        let keys = self.keys();
        // Nobody may have the newest before it is known who is there.
        if self.presence.has_looked() {
            keys.sealing(|key| self.presence.all_have(key)).clone()
        } else {
            keys.oldest().clone()
        }
    }

    fn fault(&self, fault: Fault) {
        self.faults.note(fault, &self.metrics.fleet_refused);
    }

    /// Hears what another process tells everybody.
    fn hear(&self, mut word: Bytes) {
        let Some(kind) = word.first().copied() else { return };
        let _ = word.split_to(1);
        match kind {
            PRESENCE => self.presence.look(),
            BOARD => self.board.look(),
            HANDLERS => {
                if let Some(handler) = self.handler.get() {
                    handler.hear(word);
                }
            }
            // A newer version's.
            _ => {}
        }
    }

    fn reload(&self) {
        let mut stale = self.stale.write().unwrap_or_else(PoisonError::into_inner);
        match self.file.read() {
            Ok(keys) => {
                *stale = None;
                if keys.ids() == self.keys().ids() {
                    return;
                }
                let names: Vec<String> = keys.ids().into_iter().map(name).collect();
                tracing::info!(keys = names.join(", "), "the keys of the fleet have changed");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                self.board.forget_refused();
                self.presence.look();
                self.board.look();
            }
            Err(error) => {
                let error = error.to_string();
                if stale.as_ref() != Some(&error) {
                    tracing::error!(error, "the keys of the fleet cannot be read again; the ones before hold");
                }
                *stale = Some(error);
            }
        }
    }

    async fn watch_keys(self: &Arc<Self>) {
        let mut look = interval(KEYS);
        loop {
            look.tick().await;
            let inner = Arc::clone(self);
            // A file system may hang.
            let _ = tokio::task::spawn_blocking(move || inner.reload()).await;
        }
    }

    /// Tells others when this process has come, or may be heard again.
    async fn introduce(&self) {
        let mut number = None;
        loop {
            number = Some(self.subscription.other_than(number).await);
            self.publish_word(&[PRESENCE]).await;
            self.presence.look();
            self.board.look();
        }
    }

    async fn follow_board(&self) {
        let fault = |fault| self.fault(fault);
        self.board.keep(&self.link, &self.bulk, || self.held(&fault)).await;
    }

    fn held<'a>(&self, fault: &'a (dyn Fn(Fault) + Sync)) -> Held<'a> {
        // A replica with another key may have sealed what does not open here.
        let is_among_its_own = self.presence.has_looked() && self.presence.strangers() == 0;
        Held { keys: self.keys(), sealing: self.sealing(), now: self.presence.now(), is_among_its_own, fault }
    }
}

impl Backend for Member {
    fn new_id(&self) -> String {
        id::seal(&self.inner.sealing(), self.inner.names.fleet_str(), self.inner.me)
    }

    fn whose(&self, id: &str) -> Whose {
        let inner = &self.inner;
        match id::open(&inner.keys(), inner.names.fleet_str(), id) {
            Ok(owner) if owner == inner.me => {
                // It is asked for sessions that are not known here.
                inner.fault(Fault::ExpiredId);
                Whose::Ours
            }
            Ok(owner) => Whose::Of(owner),
            Err(fault) => {
                inner.fault(fault);
                Whose::Nobody
            }
        }
    }

    fn call(&self, owner: Boot, request: Bytes) -> BoxFuture<'_, Called> {
        Box::pin(async move {
            let called = self.inner.call(owner, &request).await;
            let outcome = match &called {
                Called::Answered(_) => "answered",
                Called::Gone => {
                    self.inner.fault(Fault::ExpiredId);
                    "gone"
                }
                Called::Unreachable => "unreachable",
                Called::Unanswered => "unanswered",
            };
            self.inner.metrics.fleet_calls.of(outcome).inc();
            called
        })
    }

    fn tell(&self, word: Bytes) {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            inner.publish_word(&[&[HANDLERS], &*word].concat()).await;
        });
    }

    fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.inner.board.seen()
    }

    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), Unshared>> {
        let name = name.to_owned();
        Box::pin(async move {
            let inner = &self.inner;
            let fault = |fault| inner.fault(fault);
            inner.board.put(&inner.bulk, &inner.held(&fault).seal(), &name, bytes).await
        })
    }

    fn replace(&self, name: &str, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, Result<u64, Unshared>> {
        let name = name.to_owned();
        Box::pin(async move {
            let inner = &self.inner;
            let fault = |fault| inner.fault(fault);
            let held = inner.held(&fault);
            let version = inner.board.replace(&inner.link, &held.seal(), &name, expected, &bytes).await?;
            inner.publish_word(&[BOARD]).await;
            Ok(version)
        })
    }

    fn peers(&self) -> Vec<Peer> {
        self.inner.presence.peers()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn degraded(&self) -> Vec<String> {
        let inner = &self.inner;
        let server = inner.server.address();
        let redis = inner.why_not().map(|why| {
            format!(
                "fleet: Redis at {server} does not work for this replica ({why}); its own sessions go on, posts into sessions \
                 of other replicas are answered 503. It is tried again all the time"
            )
        });
        let strangers = inner.presence.strangers();
        let strangers = (strangers > 0).then(|| {
            format!("fleet: {strangers} replicas are there whose keys are not known here; give all the same --fleet-key-file")
        });
        let refused = inner.link.refused().or_else(|| inner.bulk.refused()).map(|why| {
            format!("fleet: Redis at {server} refuses commands ({why}); what replicas know of each other may be old")
        });
        let stale = inner.stale.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stale = stale.map(|why| format!("fleet: the keys cannot be read again ({why}); the ones before hold"));
        redis.into_iter().chain(refused).chain(strangers).chain(stale).collect()
    }

    fn status(&self) -> Value {
        let inner = &self.inner;
        let keys: Vec<String> = inner.keys().ids().into_iter().map(name).collect();
        let peers = inner
            .presence
            .peers()
            .into_iter()
            .map(|peer| json!({"instance": peer.instance, "boot": peer.boot.to_string()}));
        json!({
            "redis": inner.server.address(),
            "name": inner.names.fleet_str(),
            "connected": inner.works(),
            "error": inner.why_not().or_else(|| inner.link.refused()).or_else(|| inner.bulk.refused()),
            "keys": keys,
            "sealing": name(inner.sealing().id()),
            "under_other_keys": inner.board.under_others(inner.sealing().id()),
            "peers": peers.collect::<Vec<_>>(),
            "clock_ahead_ms": inner.presence.ahead(),
        })
    }

    fn key_of(&self, id: &str) -> Option<String> {
        id::key_of(id).map(name)
    }

    fn reload(&self) {
        self.inner.reload();
    }

    fn run<'a>(&'a self, handler: Arc<dyn Handler>, log: &'a Log) -> BoxFuture<'a, ()> {
        let inner = &self.inner;
        let _ = inner.handler.set(handler);
        Box::pin(async move {
            tokio::join!(
                inner.link.keep(),
                inner.bulk.keep(),
                inner.subscription.keep(&inner.link, |channel, sealed| inner.take(channel, sealed)),
                inner.presence.keep(&inner.link, || inner.keys()),
                inner.follow_board(),
                inner.introduce(),
                inner.watch_keys(),
                inner.faults.tell(log),
            );
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let inner = &self.inner;
            let farewell = async {
                let _ = inner.presence.leave(&inner.link).await;
                inner.publish_word(&[PRESENCE]).await;
            };
            let _ = timeout(FAREWELL, farewell).await;
        })
    }
}
