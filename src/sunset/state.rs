//! What was done by hand, and what has to be known again after a restart: kept in the state directory as it changes.
//!
//! Promise: a phase that was set, a pause, and a freeze outlive the process. Without a state directory they end with it, and
//! the plan begins anew.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::agreed::Agreed;
use super::{Phase, Seen};
use crate::report::live::{file_name, replace};

/// The version of the form.
const FORM: u32 = 1;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    form: u32,
    /// What all replicas agree on.
    #[serde(flatten)]
    pub(super) agreed: Agreed,
    /// The phase whose refusals are only written because an option of this process says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) optional: Option<Rehearsal>,
    /// The phase that held last.
    pub(super) phase: Phase,
    /// Whether the other replicas do not know all of it yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_unshared: bool,
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

impl State {
    /// What is rehearsed: of this process's option and what was said by hand, what came last.
    pub(super) fn rehearsal(&self) -> Option<&Rehearsal> {
        self.optional.as_ref().or(self.agreed.rehearsal.as_ref())
    }
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
            Some(mut state) if state.form == FORM => {
                // Both stood in one place before replicas agreed on what is said by hand.
                state.optional = state.optional.or(state.agreed.rehearsal.take_if(|rehearsal| !rehearsal.is_by_hand));
                state.agreed.date_what_was_done();
                Ok(state)
            }
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
            read::<State>(path)
                .ok()
                .flatten()
                .is_some_and(|state| state.agreed.pause.is_some() || state.agreed.hand.is_some())
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
    fn dry_run_of_an_option_is_known_again_from_where_it_stood_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::new(dir.path(), "replica/1");
        let file = r#"{"form":1,"hand":null,"rehearsal":{"phase":"freeze","since":"2026-01-05T00:00:00Z","basis_points":null,"is_by_hand":false},"phase":"announce"}"#;
        std::fs::write(dir.path().join("sunset-replica_1.json"), file).expect("written");
        let state = store.state().expect("kept");
        assert_eq!((state.agreed.rehearsal.as_ref(), state.phase), (None, Phase::Announce));
        assert_eq!(state.rehearsal().map(|rehearsal| rehearsal.phase), Some(Phase::Freeze));
    }

    #[test]
    fn what_was_kept_comes_back_and_nonsense_is_no_silence() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::new(dir.path(), "replica/1");
        let at = Timestamp::from_second(1_800_000_000).expect("a time");
        let pause = Some(Pause { since: at, why: "incident".to_owned() });
        let agreed = Agreed { pause, let_in: vec![(Phase::Brownout, at, 10_000)], ..Agreed::default() };
        let kept = State { agreed, ..store.state().expect("nothing") };
        store.keep(&kept).expect("kept");
        let mut found = store.state().expect("kept");
        let said = found.agreed.said.pause.take().expect("a pause from before words were kept was said when it began");
        assert_eq!((said.at, said.why.as_str()), (at, "incident"));
        assert_eq!(found, kept);
        std::fs::write(dir.path().join("sunset-replica_1.json"), "{").expect("written");
        assert!(store.state().expect_err("nonsense").to_string().contains("remove it"));
        let seen = Seen::none_before(at);
        store.keep_seen(&seen).expect("kept");
        assert_eq!(store.seen(at), Some(seen));
        assert_eq!(store.seen(Timestamp::UNIX_EPOCH), None, "of another freeze");
    }
}
