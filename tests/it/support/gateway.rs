//! Real servers of other projects, each in the foreground with all its files in a folder of its own.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::port::Port;
use super::within;

/// Between two looks whether a server listens.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// A server that runs, and ends with the test.
pub(crate) struct Gateway {
    pub(crate) port: Port,
    child: Child,
    pub(crate) folder: TempDir,
}

impl Gateway {
    /// Runs `command` in `folder` and waits until it listens on `port`.
    pub(crate) async fn run(server: &str, port: Port, folder: TempDir, command: Command) -> Self {
        let mut child = spawn(server, folder.path(), command);
        within(server, async {
            while TcpStream::connect(port.address).is_err() {
                if let Some(status) = child.try_wait().expect("a look") {
                    panic!("{server}: {status}: {}", said(folder.path()));
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        Gateway { port, child, folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.port.base())
    }

    /// Everything it has said so far.
    pub(crate) fn said(&self) -> String {
        said(self.folder.path())
    }

    pub(crate) fn id(&self) -> String {
        self.child.id().expect("running").to_string()
    }

    /// Tells it to end, and waits for that, which must be quick.
    pub(crate) fn terminate(&mut self) {
        let Some(id) = self.child.id() else { return };
        let _ = std::process::Command::new("kill").args(["-TERM", &id.to_string()]).status();
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Another process takes its place; it is given until it ends by itself.
    pub(crate) fn replace(&mut self, server: &str, command: Command) -> Child {
        let next = spawn(server, self.folder.path(), command);
        std::mem::replace(&mut self.child, next)
    }
}

fn said(folder: &Path) -> String {
    String::from_utf8_lossy(&fs::read(folder.join("said")).expect("a file")).into_owned()
}

/// Where servers are found: Debian has some where not every user looks, and `tests/run` puts others below `target`.
pub(crate) fn search_path() -> String {
    let usual = std::env::var("PATH").unwrap_or_default();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let target = target.display();
    format!("{usual}:/usr/sbin:{target}/caddy:{target}/gateways/bin")
}

fn spawn(server: &str, folder: &Path, mut command: Command) -> Child {
    command.env("PATH", search_path());
    command.env("HOME", folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    let log = File::options().create(true).append(true).open(folder.join("said")).expect("a file");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).kill_on_drop(true);
    let started = command.current_dir(folder).spawn();
    started.unwrap_or_else(|error| panic!("{server}: {error}; tests/run puts it on the PATH"))
}
