//! What the service manager is told (`sd_notify(3)`): a few words in a datagram.
//!
//! Promise: to tell never waits and never fails. What a manager has no room for just then (its queue may hold ten datagrams) is said
//! again with the next beat, if it would be missed.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells the service manager how things stand, if there is one. Clones tell the same one.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    way: Option<Arc<Way>>,
}

#[derive(Debug)]
struct Way {
    socket: UnixDatagram,
    /// Silence after which the manager takes the process for dead.
    watchdog: Option<Duration>,
    said: Mutex<Said>,
}

/// What the manager was told, and is still to be told.
#[derive(Debug, Default)]
struct Said {
    stage: Stage,
    /// For what there was no room, in order.
    owed: Vec<String>,
}

/// A reload outside of `Serving` would be taken for a start, and a start after the end has begun for another one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Starting,
    Serving,
    Stopping,
}

/// What may be owed. Beyond that the oldest is a reload that others followed.
const MOST_OWED: usize = 4;

impl Notifier {
    /// As the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        let variable = |name: &str| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        Self::to(&name, watchdog).unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET leads nowhere: the service manager is told nothing");
            Self::default()
        })
    }

    /// Tells whoever listens on the socket `name`; one that begins with `@` is in the abstract name space.
    ///
    /// # Errors
    /// When nobody does.
    pub fn to(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that hangs must not hang its services.
        socket.set_nonblocking(true)?;
        Ok(Notifier { way: Some(Arc::new(Way { socket, watchdog, said: Mutex::default() })) })
    }

    /// Whether there is anybody to tell.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.way.is_some()
    }

    /// How long the manager bears silence, if it has a watchdog.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.way.as_ref()?.watchdog
    }

    /// Clients are served from now on.
    pub fn ready(&self) {
        self.told(Stage::Starting, Stage::Serving, || "READY=1".to_owned());
    }

    /// Files are being read again. Until [`Notifier::reloaded`] whoever asked for it waits.
    pub fn reloading(&self) {
        self.told(Stage::Serving, Stage::Serving, || {
            // By the time, `Type=notify-reload` (systemd 253) tells this reload from an earlier one.
            let now = clock_gettime(ClockId::Monotonic);
            let now = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={now}")
        });
    }

    /// And have been.
    pub fn reloaded(&self) {
        self.told(Stage::Serving, Stage::Serving, || "READY=1".to_owned());
    }

    /// The end has begun, and takes `longest` at most, whatever the manager was configured to wait; with a line for people.
    pub fn stopping(&self, longest: Duration, line: &str) {
        let Some(way) = &self.way else { return };
        let mut said = way.said();
        said.stage = Stage::Stopping;
        said.owed.clear();
        way.say_surely(&mut said, format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={line}", longest.as_micros()));
    }

    /// How things stand, for people: one line. Whether there was room for it.
    #[must_use]
    pub fn status(&self, line: &str) -> bool {
        self.way.as_ref().is_none_or(|way| way.say(&format!("STATUS={line}")))
    }

    /// Says again what there was no room for. To be called now and then.
    pub fn pay(&self) {
        let Some(way) = &self.way else { return };
        let mut said = way.said();
        let paid = said.owed.iter().take_while(|words| way.say(words)).count();
        said.owed.drain(..paid);
    }

    /// For the watchdog. To be said only by what notices when the program hangs.
    pub fn alive(&self) {
        if let Some(way) = self.way.as_ref().filter(|way| way.watchdog.is_some()) {
            way.say("WATCHDOG=1");
        }
    }

    /// Tells what goes from one stage to another, where it stands in the first.
    fn told(&self, from: Stage, to: Stage, words: impl FnOnce() -> String) {
        let Some(way) = &self.way else { return };
        let mut said = way.said();
        if said.stage == from {
            said.stage = to;
            way.say_surely(&mut said, words());
        }
    }
}

impl Way {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room for it.
    fn say(&self, words: &str) -> bool {
        let sent = self.socket.send(words.as_bytes());
        if let Err(error) = &sent {
            tracing::debug!(%error, words, "the service manager was not told");
        }
        sent.is_ok()
    }

    /// In its order, now or when it is paid.
    fn say_surely(&self, said: &mut Said, words: String) {
        if said.owed.is_empty() && self.say(&words) {
            return;
        }
        if said.owed.len() == MOST_OWED {
            said.owed.remove(0);
        }
        said.owed.push(words);
    }
}

/// `sd_watchdog_enabled(3)`: without a process id it is meant for whoever reads it.
fn watchdog(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(process::id()));
    let micros = micros?.parse().ok().filter(|micros| *micros > 0 && is_ours)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager, and who tells it. The folder holds its socket.
    fn manager() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let notifier = Notifier::to(path.as_os_str(), None).expect("somebody listens");
        (folder, socket, notifier)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn manager_is_told_by_path_and_in_the_abstract_name_space() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("a socket");
        // The folder's name is nobody else's.
        let name = format!("@{}", folder.path().display());
        let address = SocketAddr::from_abstract_name(&name[1..]).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("a socket");
        for (name, socket) in [(path.as_os_str(), by_path), (name.as_ref(), by_name)] {
            assert!(Notifier::to(name, None).expect("somebody listens").status("well"));
            assert_eq!(heard(&socket), "STATUS=well");
        }
        Notifier::to(folder.path().join("nobody").as_os_str(), None).expect_err("nobody listens");
    }

    #[test]
    fn reloads_are_told_between_start_and_end_only() {
        let (_folder, socket, notifier) = manager();
        let reload = || {
            notifier.reloading();
            notifier.reloaded();
        };
        reload();
        notifier.ready();
        reload();
        notifier.stopping(Duration::from_secs(2), "ending");
        reload();
        notifier.ready();
        notifier.alive();
        assert!(notifier.status("the last"));
        assert_eq!(heard(&socket), "READY=1", "not before it was ready");
        let reloading = heard(&socket);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time");
        assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{time}");
        assert_eq!(heard(&socket), "READY=1");
        assert_eq!(heard(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\nSTATUS=ending");
        assert_eq!(heard(&socket), "STATUS=the last", "no reload, and nothing for a watchdog that is not there");
    }

    #[test]
    fn manager_that_does_not_read_holds_nobody_up_and_hears_what_counts_when_it_does() {
        let (_folder, socket, notifier) = manager();
        let mut room = 0;
        // No queue of datagrams holds as many.
        while notifier.status("well") && room < 100_000 {
            room += 1;
        }
        assert!(room < 100_000, "there is an end");
        notifier.ready();
        notifier.reloading();
        notifier.pay();
        for _ in 0..room {
            assert_eq!(heard(&socket), "STATUS=well");
        }
        notifier.pay();
        assert_eq!(heard(&socket), "READY=1");
        assert!(heard(&socket).starts_with("RELOADING=1"));
        notifier.reloaded();
        assert_eq!(heard(&socket), "READY=1", "and nothing twice");
    }

    #[test]
    fn watchdog_is_for_the_process_that_is_named() {
        let own = process::id().to_string();
        assert_eq!(watchdog(Some("1500000"), Some(&own)), Some(Duration::from_millis(1500)));
        assert_eq!(watchdog(Some("1500000"), None), Some(Duration::from_millis(1500)));
        for (micros, pid) in
            [(Some("1500000"), Some("1")), (Some("0"), None), (Some("soon"), None), (None, Some(&*own))]
        {
            assert_eq!(watchdog(micros, pid), None, "{micros:?} {pid:?}");
        }
    }
}
