//! A real Redis server of the test's own, which can be stopped, started again, paused, filled, emptied, and promoted.
//!
//! Promise: it keeps its port through all its lives, nothing of it is left behind, and what it said last is shown when the
//! test fails. Orders are given over a socket file in its folder, so they work whatever becomes of the port, the users and the
//! certificates that others have to use.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Connection, Value};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use super::port::Port;

/// How long the server may take for anything. Generous: machines with two busy cores.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who gives orders over the socket file.
const OPERATOR: &str = "operator";

/// How the server is to be; as it comes by default.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// Who alone may use it, if not everybody.
    pub(crate) user: Option<User>,
    /// Certificate chain and key (PEM); with them it speaks TLS only.
    pub(crate) tls: Option<(String, String)>,
    /// Whose replica it is.
    pub(crate) primary: Option<SocketAddr>,
}

/// A user and what is allowed to it, as `ACL SETUSER` takes it.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
    pub(crate) rights: &'static str,
}

/// A Redis server; it ends when this is dropped.
pub(crate) struct Redis {
    port: Port,
    setup: Setup,
    life: Option<Child>,
    folder: TempDir,
}

impl Redis {
    /// As it comes by default, for everybody, with nothing in it.
    pub(crate) fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// Whether there is a program to start.
    pub(crate) fn is_installed() -> bool {
        let mut asking = program();
        asking.arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    pub(crate) fn start_with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Redis { port: Port::reserve(), setup, life: None, folder };
        fs::write(server.file("redis.conf"), server.configuration()).expect("a file");
        server.restart();
        server
    }

    /// A replica of this one, once it has all that is in it.
    pub(crate) fn replica(&self) -> Self {
        let replica = Self::start_with(Setup { primary: Some(self.address()), ..Setup::default() });
        replica.await_that("it follows", |replica| replica.figure("replication", "master_link_status") == "up");
        replica
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Its URL, with what its user needs.
    pub(crate) fn url(&self) -> String {
        self.url_by(self.address())
    }

    /// The same by another way to it.
    pub(crate) fn url_by(&self, address: SocketAddr) -> String {
        let scheme = if self.setup.tls.is_some() { "rediss" } else { "redis" };
        let user = self.setup.user.as_ref().map(|user| format!("{}:{}@", user.name, user.password));
        format!("{scheme}://{}{address}", user.unwrap_or_default())
    }

    /// Starts it anew on its port, with nothing in it, and awaits that it answers.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let said = File::create(self.file("said")).expect("a file");
        let mut command = program();
        command.arg(self.file("redis.conf")).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a handle")).stderr(said);
        self.life = Some(command.spawn().unwrap_or_else(|error| panic!("redis-server: {error}")));
        self.await_that("it answers", |server| server.connection().is_ok());
    }

    /// Ends it at once: its connections are closed, and new ones refused until it is started again.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.life.take() {
            child.kill().expect("it could be killed");
            child.wait().expect("an end");
        }
    }

    /// It hangs: connections stay, new ones are made by the kernel, nothing is answered.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it runs");
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("a stop");
    }

    /// It goes on where it was.
    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it is paused");
    }

    /// Gives an order as an operator, whatever users there are.
    pub(crate) fn command(&self, words: &[&str]) -> Value {
        let (name, arguments) = words.split_first().expect("an order");
        let mut connection = self.connection().expect("it runs");
        redis::cmd(name).arg(arguments).query(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same, for orders that are answered with a text.
    pub(crate) fn text(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.command(words)).expect("a text")
    }

    /// A figure of `INFO`.
    pub(crate) fn figure(&self, section: &str, name: &str) -> String {
        let info = self.text(&["INFO", section]);
        let figure = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        figure.unwrap_or_else(|| panic!("{name} in {info}")).to_owned()
    }

    /// Closes connections of one kind (`normal`, `pubsub`), or `all`; gives how many.
    pub(crate) fn kill_clients(&self, kind: &str) -> u64 {
        let kinds = if kind == "all" { vec!["normal", "pubsub"] } else { vec![kind] };
        let kill = |kind: &str| match self.command(&["CLIENT", "KILL", "TYPE", kind]) {
            Value::Int(killed) => u64::try_from(killed).expect("a count"),
            other => panic!("{other:?}"),
        };
        kinds.into_iter().map(kill).sum()
    }

    /// Has a replica take over. It refuses nothing any more, and follows nobody.
    pub(crate) fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.life.as_ref().expect("it runs"))
    }

    fn configuration(&self) -> String {
        let (port, socket) = (self.port.address.port(), self.file("orders"));
        let mut lines = vec![
            format!("bind {}", self.port.address.ip()),
            format!("unixsocket {}", socket.display()),
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
            "protected-mode no".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
            format!("user {OPERATOR} on nopass ~* &* +@all"),
        ];
        match &self.setup.tls {
            None => lines.push(format!("port {port}")),
            Some((cert, key)) => {
                fs::write(self.file("cert.pem"), cert).expect("a file");
                fs::write(self.file("key.pem"), key).expect("a file");
                lines.extend(["port 0".to_owned(), format!("tls-port {port}"), "tls-auth-clients no".to_owned()]);
                lines.push(format!("tls-cert-file {}", self.file("cert.pem").display()));
                lines.push(format!("tls-key-file {}", self.file("key.pem").display()));
            }
        }
        if let Some(User { name, password, rights }) = &self.setup.user {
            lines.push("user default off".to_owned());
            lines.push(format!("user {name} on >{password} {rights}"));
        }
        if let Some(primary) = self.setup.primary {
            lines.push(format!("replicaof {} {}", primary.ip(), primary.port()));
        }
        lines.join("\n")
    }

    /// A connection for orders, with a server that answers.
    fn connection(&self) -> redis::RedisResult<Connection> {
        let url = format!("redis+unix://{}?user={OPERATOR}&pass=none", self.file("orders").display());
        let mut connection = redis::Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        redis::cmd("PING").exec(&mut connection)?;
        Ok(connection)
    }

    fn await_that(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "Redis, not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn program() -> Command {
    let mut command = Command::new("redis-server");
    // Some have it where not every user looks.
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let said = fs::read_to_string(self.file("said")).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- Redis said last:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}
