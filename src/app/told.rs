//! What the service manager is told while the proxy serves: that it lives, and how it stands.
//!
//! The trap: a beat from a thread or a timer of its own would go on while every client hangs. This one sets out beside the
//! loop that accepts connections, is carried by the threads that serve sessions, and passes through the whole table of them.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::drain::{Phase, Tasks, Watch};
use crate::session::Sessions;
use crate::sunset::Sunset;
use crate::systemd::Notifier;

/// The longest time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// What the end may take besides `--drain`: the last words of sessions and of connections, and the evidence that is written.
pub(super) const AFTER_DRAIN: Duration = Duration::from_secs(30);

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) sessions: Sessions,
    pub(super) sunset: Sunset,
    pub(super) drain: Watch,
}

impl Standing {
    /// In a line. Waits for whoever holds a part of the table.
    pub(super) fn line(&self) -> String {
        let sessions = match self.sessions.len() {
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        };
        match self.drain.phase() {
            Phase::Serving => format!("serving {sessions}, phase {}", self.sunset.rules().phase),
            _ => format!("draining, {sessions} left"),
        }
    }
}

/// Tells how it stands, for ever. Cancel safe.
pub(super) async fn tell(notifier: &Notifier, tasks: &Tasks, standing: Standing) {
    beat(notifier, tasks, || {
        let standing = standing.clone();
        async move { standing.line() }
    })
    .await;
}

/// Has a task `look`, as often as the watchdog demands, and tells what it brings back.
async fn beat<F>(notifier: &Notifier, tasks: &Tasks, look: impl Fn() -> F)
where
    F: Future<Output = String> + Send + 'static,
{
    if !notifier.is_heard() {
        return std::future::pending().await;
    }
    let pause = notifier.watchdog().map_or(LOOK, |longest| (longest / 2).min(LOOK));
    let mut beat = interval_at(Instant::now(), pause);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        beat.tick().await;
        let Ok(line) = tasks.spawn(look()).await else { continue };
        notifier.alive();
        notifier.pay();
        if line != told && notifier.status(&line) {
            told = line;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What came within `time`.
    fn heard(socket: &UnixDatagram, time: Duration) -> Option<String> {
        socket.set_read_timeout(Some(time)).expect("a limit");
        let mut buffer = [0; 512];
        match socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn watchdog_hears_nothing_while_what_is_looked_at_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let watchdog = Duration::from_millis(40);
        let notifier = Notifier::to(path.as_os_str(), Some(watchdog)).expect("somebody listens");
        let patience = Duration::from_secs(20);
        let table = Arc::new(Mutex::new(()));
        let looked_at = Arc::clone(&table);
        let manager = std::thread::spawn(move || {
            assert_eq!(heard(&socket, patience).as_deref(), Some("WATCHDOG=1"));
            assert_eq!(heard(&socket, patience).as_deref(), Some("STATUS=well"), "once");
            assert_eq!(heard(&socket, patience).as_deref(), Some("WATCHDOG=1"));
            let held = table.lock().expect("nobody died");
            while heard(&socket, watchdog).is_some() {}
            assert_eq!(heard(&socket, watchdog * 10), None, "nothing comes through the table");
            drop(held);
            assert_eq!(heard(&socket, patience).as_deref(), Some("WATCHDOG=1"), "and now it does again");
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let tasks = Tasks::default();
            let look = || {
                let table = Arc::clone(&looked_at);
                async move {
                    drop(table.lock().expect("nobody died"));
                    "well".to_owned()
                }
            };
            tokio::select! {
                () = beat(&notifier, &tasks, look) => {}
                over = tokio::task::spawn_blocking(move || manager.join()) => {
                    over.expect("a task").expect("what the manager heard");
                }
            }
        });
    }
}
