//! The replicas, and what they stand between.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::files::{self, REPLICAS};
use super::nginx::{self, Choice};
use super::visitor::{self, Visitor};
use crate::child::Child;
use crate::fault_proxy::FaultProxy;
use crate::port::Port;
use crate::proxy::{self, Proxy};
use crate::redis::Redis;
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

/// What changes phases; in all replicas the same.
const TOKEN: &str = "a-token-of-the-operators";

/// Everything that takes part. Replicas end before what they depend on.
pub(super) struct Stage {
    pub(super) replicas: [Replica; 3],
    nginx: Child,
    port: Port,
    pub(super) redis: RefCell<Redis>,
    pub(super) server: Server,
    pub(super) runtime: Runtime,
}

/// A replica, in all its lives.
pub(super) struct Replica {
    pub(super) port: Port,
    /// The way to Redis.
    pub(super) between: FaultProxy,
    /// Its files, which outlive it.
    folder: TempDir,
    words: Vec<String>,
    /// Its environment, as compose.yaml has it.
    variables: BTreeMap<String, String>,
    life: Option<Proxy>,
}

impl Stage {
    pub(super) fn start(choice: Choice) -> Self {
        Self::start_with(choice, &[])
    }

    /// With further options, or others than compose.yaml has.
    pub(super) fn start_with(choice: Choice, options: &[(&str, &str)]) -> Self {
        let (server, redis, port) = (Server::start(Sdk::TypeScript, &[]), Redis::start(), Port::reserve());
        let key = key(1);
        let mut replicas = [0, 1, 2].map(|place| {
            let replica = Replica::prepare(place, &redis, &server, &port.base(), options);
            replica.write_keys(&[&key]);
            replica
        });
        for replica in &mut replicas {
            replica.restart();
        }
        let nginx = nginx::start(choice, port.address, replicas.each_ref().map(|replica| replica.port.address));
        wait::until("the balancer accepts connections", seconds(10), || TcpStream::connect(port.address).is_ok());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let redis = RefCell::new(redis);
        let stage = Stage { replicas, nginx, port, redis, server, runtime: runtime.expect("a runtime") };
        stage.await_fleet();
        stage
    }

    /// Waits until every replica that runs knows of every other one.
    pub(super) fn await_fleet(&self) {
        let others = self.replicas.iter().filter(|replica| replica.life.is_some()).count() - 1;
        for replica in self.replicas.iter().filter(|replica| replica.life.is_some()) {
            wait::until("the replicas know of each other", seconds(30), || {
                let fleet = &replica.status()["fleet"];
                fleet["connected"] == true && fleet["peers"].as_array().is_some_and(|peers| peers.len() == others)
            });
        }
    }

    /// Where clients go.
    pub(super) fn sse_url(&self) -> String {
        format!("{}/sse", self.port.base())
    }

    /// What they call it.
    pub(super) fn host(&self) -> String {
        self.port.address.to_string()
    }

    /// A client whose stream is at the replica of this place, whoever gets its POSTs.
    pub(super) fn visitor(&self, name: &str, place: usize) -> Visitor<'_> {
        Visitor::connect(self, name, place)
    }

    /// How many POSTs the balancer has handed to each replica.
    pub(super) fn posts(&self) -> [usize; 3] {
        let log = fs::read_to_string(self.nginx.folder().join("access")).expect("the balancer's log");
        let to = |address: SocketAddr| {
            let end = format!(" {address}");
            log.lines().filter(|line| line.contains(" POST ") && line.ends_with(&end)).count()
        };
        self.replicas.each_ref().map(|replica| to(replica.port.address))
    }
}

impl Replica {
    fn prepare(place: usize, redis: &Redis, server: &Server, public: &str, options: &[(&str, &str)]) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let between = FaultProxy::start(redis.address());
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(folder.path().join("state")).expect("a folder");
        fs::write(folder.path().join("admin.token"), TOKEN).expect("a file");
        let here = [
            ("upstream", server.mcp_url()),
            ("listen", port.address.to_string()),
            ("public-url", public.to_owned()),
            ("trusted-proxy", "127.0.0.1/32".to_owned()),
            ("fleet", redis.url_by(between.address())),
            ("fleet-key-file", path("fleet.key")),
            ("admin-token-file", path("admin.token")),
            ("state-dir", path("state")),
            ("traffic-log", path("traffic.log")),
            ("admin", "127.0.0.1:0".to_owned()),
            ("instance", REPLICAS[place].to_owned()),
        ];
        let given = options.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let mut changes: Vec<(&str, String)> = here.into_iter().chain(given).collect();
        let mut change = |name: &str| {
            let at = changes.iter().position(|(changed, _)| *changed == name);
            at.map(|at| changes.remove(at).1)
        };
        let mut words = Vec::new();
        for word in files::command(REPLICAS[place]) {
            let name = word.trim_start_matches("--").split('=').next().unwrap_or_default();
            words.push(change(name).map_or(word.clone(), |value| format!("--{name}={value}")));
        }
        let variables = files::environment(REPLICAS[place]).into_iter();
        let variables = variables.map(|(name, value)| {
            let value = change(&files::option_of(&name)).unwrap_or(value);
            (name, value)
        });
        let variables = variables.collect();
        words.extend(changes.into_iter().map(|(name, value)| format!("--{name}={value}")));
        Replica { port, between, folder, words, variables, life: None }
    }

    /// Starts it, anew if it ran before.
    pub(super) fn restart(&mut self) {
        drop(self.life.take());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        command.args(&self.words).envs(&self.variables);
        self.life = Some(Proxy::run(command));
    }

    /// Runs a command as `docker compose exec` does: with its variables, and asking where it listens here.
    pub(super) fn exec(&self, words: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        let output = command.args(words).envs(&self.variables).env("SSE_SUNSET_ADMIN", self.life().admin()).output();
        let output = output.expect("the program");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(super) fn life(&self) -> &Proxy {
        self.life.as_ref().expect("it runs")
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.life.take().expect("it runs").child.kill();
    }

    /// SIGTERM, and awaits an orderly end.
    pub(super) fn terminate(&mut self) {
        let status = self.life.take().expect("it runs").terminate(seconds(45));
        assert_eq!(status.code(), Some(0));
    }

    /// Writes its key file in place, as whoever mounts it has to.
    pub(super) fn write_keys(&self, keys: &[&str]) {
        fs::write(self.path("fleet.key"), keys.join("\n")).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("traffic.log")
    }

    /// What `/status` says.
    pub(super) fn status(&self) -> Value {
        serde_json::from_str(&self.asked("/status").1).expect("JSON")
    }

    /// What `/readyz` says, and under which status.
    pub(super) fn ready(&self) -> (u16, String) {
        self.asked("/readyz")
    }

    fn asked(&self, path: &str) -> (u16, String) {
        visitor::get(&format!("{}{path}", self.life().admin()))
    }

    /// The value of the metric of this name and, if it has one, this label.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let text = self.asked("/metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    /// Sessions that are open here, those that wait for their client included.
    pub(super) fn sessions(&self) -> u64 {
        self.status()["sessions"]["active"].as_u64().expect("a count")
    }

    /// The log of all its lives keeps what it owes: one end a session, if it did not die by `kill -9`.
    pub(super) fn assert_ends(&self) {
        let (begun, ended) = (
            proxy::records(&self.log(), "legacy.connect")
                .into_iter()
                .filter(|begun| begun["legacy.reconnect"] == false)
                .count(),
            proxy::records(&self.log(), "legacy.end").len(),
        );
        assert!(ended >= begun, "{begun} sessions, {ended} ends");
    }
}

/// A key of a fleet; other numbers, other keys.
pub(super) fn key(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}
