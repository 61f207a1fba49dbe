//! What was done by hand, and what has to be known again after a restart: kept in the state directory as it changes.
//!
//! Promise: a phase that was set, a pause, and a freeze outlive the process. Without a state directory they end with it, and
//! the plan begins anew.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Phase, Seen};
use crate::report::live::{file_name, replace};

/// The version of the form.
const FORM: u32 = 1;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    form: u32,
    /// The phase that was set by hand, instead of what the plan says.
    pub(super) hand: Option<Hand>,
    /// Nobody is refused, whatever the phase.
    pub(super) pause: Option<Pause>,
    /// The phase whose refusals are only written.
    pub(super) rehearsal: Option<Rehearsal>,
    /// Since when newcomers are refused.
    pub(super) frozen: Option<Timestamp>,
    /// Until when that was lifted by hand after its date had come.
    pub(super) lifted: Option<Timestamp>,
    /// Phases of the plan that were entered although they hit users, by their beginning and the share of clients, in hundredths
    /// of a percent: they are not asked about again.
    pub(super) let_in: Vec<(Phase, Timestamp, u16)>,
    /// The phase that held last.
    pub(super) phase: Phase,
}

/// A phase that was set by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hand {
    pub(super) phase: Phase,
    pub(super) since: Timestamp,
    /// When the plan holds again; none: when somebody says so.
    pub(super) until: Option<Timestamp>,
    pub(super) basis_points: Option<u16>,
    pub(super) ends_running: bool,
    pub(super) why: String,
}

/// A phase whose refusals are only written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rehearsal {
    pub(super) phase: Phase,
    pub(super) since: Timestamp,
    pub(super) basis_points: Option<u16>,
    pub(super) is_by_hand: bool,
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    pub(super) since: Timestamp,
    pub(super) why: String,
}

/// Where it is kept: two files for each replica, beside its evidence.
#[derive(Debug)]
pub(super) struct Store {
    state: PathBuf,
    seen: PathBuf,
}

impl Store {
    pub(super) fn new(dir: &Path, instance: &str) -> Self {
        let name = file_name(instance);
        Store { state: dir.join(format!("sunset-{name}.json")), seen: dir.join(format!("seen-{name}.json")) }
    }

    /// What was kept.
    ///
    /// # Errors
    /// When there is something and it cannot be understood: a pause that is overlooked would switch clients off.
    pub(super) fn state(&self) -> io::Result<State> {
        let state: Option<State> = read(&self.state)?;
        match state {
            None => Ok(State { form: FORM, ..State::default() }),
            Some(state) if state.form == FORM => Ok(state),
            Some(state) => Err(problem(&self.state, &format!("its form {} is not known here", state.form))),
        }
    }

    /// What other replicas keep in the same directory that somebody said: a replica under a new name forgets its own.
    pub(super) fn others(&self) -> Vec<String> {
        let files = self.state.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
        let is_other = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            *path != self.state && name.starts_with("sunset-") && name.strip_suffix(".json").is_some()
        };
        let said = |path: &Path| {
            read::<State>(path).ok().flatten().is_some_and(|state| state.pause.is_some() || state.hand.is_some())
        };
        let mut others: Vec<String> = files
            .map(|file| file.path())
            .filter(|path| is_other(path) && said(path))
            .map(|path| path.display().to_string())
            .collect();
        others.sort_unstable();
        others
    }

    /// Who was seen before `before`, if that was kept. What cannot be read is made anew.
    pub(super) fn seen(&self, before: Timestamp) -> Option<Seen> {
        match read::<Seen>(&self.seen) {
            Ok(seen) => seen.filter(|seen| seen.before == before),
            Err(error) => {
                tracing::warn!(%error, "who was seen before the freeze is gathered again from the evidence and the log");
                None
            }
        }
    }

    pub(super) fn keep(&self, state: &State) -> io::Result<()> {
        write(&self.state, &State { form: FORM, ..state.clone() })
    }

    pub(super) fn keep_seen(&self, seen: &Seen) -> io::Result<()> {
        write(&self.seen, seen)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem(path, &error.to_string())),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| problem(path, &error.to_string())),
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?).map_err(|error| problem(path, &error.to_string()))
}

fn problem(path: &Path, problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {problem}; repair it, or remove it to follow the plan from now on", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_nonsense_is_no_silence() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::new(dir.path(), "replica/1");
        let at = Timestamp::from_second(1_800_000_000).expect("a time");
        let pause = Some(Pause { since: at, why: "incident".to_owned() });
        let kept = State { pause, let_in: vec![(Phase::Brownout, at, 10_000)], ..store.state().expect("nothing") };
        store.keep(&kept).expect("kept");
        assert_eq!(store.state().expect("kept"), kept);
        std::fs::write(dir.path().join("sunset-replica_1.json"), "{").expect("written");
        assert!(store.state().expect_err("nonsense").to_string().contains("remove it"));
        let seen = Seen::none_before(at);
        store.keep_seen(&seen).expect("kept");
        assert_eq!(store.seen(at), Some(seen));
        assert_eq!(store.seen(Timestamp::UNIX_EPOCH), None, "of another freeze");
    }
}
