//! How replicas come to follow one another: what they agree on stands on the board of the fleet.
//!
//! ```text
//! decide here, at once -> hold -> put on the board, if it is as it was known -> another was first: take that in, decide again
//!         ^------------------------------------------------- another replica's change ------------------------------------'
//! ```
//!
//! Promise: an order never waits for another replica, and never gets lost: what cannot be put on the board holds here, is said
//! to be unshared, and joins what others said as soon as it can, each thing by its last word.
//!
//! The trap: the board may lag behind what was put on it. What stood there before is no news then.

use std::fmt::Write as _;
use std::sync::PoisonError;

use bytes::Bytes;
use ring::digest;
use serde_json::json;

use super::Config;
use super::agreed::Agreed;
use super::control::{Asked, Decided, Shared, Sunset};
use super::state::State;
use crate::fleet::{Board, Unshared};
use crate::traffic::Log;

/// What it is called on the board.
const ENTRY: &str = "sunset";
/// What those who were seen before the freeze are called there.
pub(super) const SEEN: &str = "seen";
/// How often another replica may be first before it is left for the next time.
const TRIES: usize = 8;

/// What all agree on, as far as that is known here.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether the board was looked at.
    is_read: bool,
    agreed: Agreed,
    /// Its version; none where nothing stands there.
    version: Option<u64>,
    /// The version that was replaced here, which a board that lags behind still shows.
    replaced: Option<u64>,
    /// Why what stands there is not followed.
    problem: Option<String>,
}

impl Known {
    /// Whether others do not know all of `state`.
    pub(super) fn is_behind(&self, state: &State, is_told: bool) -> bool {
        // Before the board is read what the state directory says is no news: others may have said more since.
        if self.is_read { self.agreed != state.agreed } else { state.is_unshared || is_told }
    }
}

impl Shared {
    /// Takes in what other replicas agreed on, if that has changed.
    pub(super) fn adopt(&self, decided: &mut Decided) {
        let board = self.fleet.board().borrow().clone();
        let known = &mut decided.known;
        let entry = board.get(ENTRY);
        let version = entry.map(|entry| entry.version);
        if !board.is_read()
            || known.is_read && (version == known.version || version.is_some() && version == known.replaced)
        {
            return;
        }
        let Some(entry) = entry else {
            // The first one here, or the board is lost: what holds here is put there.
            (known.is_read, known.agreed, known.version, known.replaced) = (true, Agreed::default(), None, None);
            return;
        };
        match Agreed::read(&entry.bytes) {
            Ok(agreed) => {
                let is_first = !known.is_read;
                *known = Known { is_read: true, agreed: agreed.clone(), version, ..Known::default() };
                let mut state = self.state().clone();
                let said = state.agreed.said.clone();
                state.agreed = match (state.is_unshared, is_first) {
                    (true, _) => agreed.joined(&state.agreed),
                    // It may have been alone until now, with nobody to share with; what it only followed is no later word.
                    (false, true) => agreed.joined_by_words(&state.agreed),
                    (false, false) => agreed,
                };
                // An option rehearses from the start on, until somebody says another thing.
                if decided.told.is_some() && state.agreed.said.rehearsal != said.rehearsal {
                    state.optional = None;
                }
                decided.heard = state.agreed.said.news(&said).cloned().or(decided.heard.take());
                self.set_state(state);
            }
            Err(problem) if known.problem.as_ref() != Some(&problem) => {
                tracing::error!(
                    problem,
                    "what the other replicas agreed on for the switch-off cannot be understood here"
                );
                known.problem = Some(problem);
            }
            Err(_) => {}
        }
    }

    /// What is to be put on the board in place of which version, if anything is.
    fn to_share(&self) -> Result<Option<(Option<u64>, Agreed)>, String> {
        let decided = self.decided();
        let (known, state) = (&decided.known, self.state());
        match &known.problem {
            Some(problem) => Err(format!("what they agreed on cannot be understood here: {problem}")),
            None if !state.is_unshared => Ok(None),
            None if !known.is_read => Err(format!("{}, and never could be since the start", Unshared::Unreachable)),
            None => Ok(Some((known.version, state.agreed.clone()))),
        }
    }

    fn was_shared(&self, version: u64, agreed: Agreed) {
        let mut decided = self.decided();
        let known = &mut decided.known;
        (known.replaced, known.version, known.agreed) = (known.version, Some(version), agreed);
        let mut state = self.state().clone();
        state.is_unshared = state.agreed != known.agreed;
        self.set_state(state);
    }

    fn set_unshared(&self, problem: Option<String>) {
        let mut unshared = self.unshared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|problem| unshared.as_ref() != Some(problem)) {
            tracing::error!(problem, "the other replicas do not know the phase of the switch-off that holds here");
        }
        *unshared = problem;
    }
}

impl Sunset {
    /// Why other replicas do not know what was said here, if so.
    #[must_use]
    pub fn unshared(&self) -> Option<String> {
        self.shared.unshared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has all replicas know what holds here, as far as they can be reached.
    pub(super) async fn share(&self, log: &Log) {
        let shared = &self.shared;
        let _one = shared.sharing.lock().await;
        let mut conflicts = 0;
        while conflicts < TRIES {
            let (version, agreed) = match shared.to_share() {
                Ok(Some(to_share)) => to_share,
                Ok(None) => {
                    if conflicts > 0 {
                        // What it came to together may be a phase that needs the guard's word.
                        shared.again.notify_one();
                    }
                    return shared.set_unshared(None);
                }
                Err(problem) => return shared.set_unshared(Some(problem)),
            };
            match shared.fleet.replace(ENTRY, version, Bytes::from(agreed.written())).await {
                Ok(version) => shared.was_shared(version, agreed),
                Err(Unshared::Conflict) => {
                    conflicts += 1;
                    let _ = self.decide(None, Asked::Nobody, log).await;
                }
                Err(problem @ Unshared::Unreachable) => return shared.set_unshared(Some(problem.to_string())),
            }
        }
        // Nobody is woken for this: whoever wakes tries again, and what stands there may be nothing that can be replaced.
        shared.set_unshared(Some(Unshared::Conflict.to_string()));
    }

    /// Whether others were first whenever it was tried.
    pub(super) fn is_contested(&self) -> bool {
        self.unshared().is_some_and(|problem| problem == Unshared::Conflict.to_string())
    }

    /// The other replicas whose options for the switch-off are not those of this one.
    pub(super) fn with_other_options(&self) -> Vec<String> {
        let own = self.config().fingerprint();
        let peers = self.shared.fleet.peers();
        let mut others: Vec<String> =
            peers.into_iter().filter(|peer| peer.config_hash != own).map(|peer| peer.instance).collect();
        others.sort_unstable();
        others.dedup();
        others
    }

    /// Tells operators once of each replica that decides from other options.
    pub(super) fn compare_options(&self) {
        let now = self.with_other_options();
        let mut known = self.shared.others.lock().unwrap_or_else(PoisonError::into_inner);
        for replica in now.iter().filter(|replica| !known.contains(replica)) {
            tracing::warn!(
                replica,
                "another replica was given other options for the switch-off, so that it may be in another phase; give all \
                 the same"
            );
        }
        *known = now;
    }
}

/// The versions of what is followed.
pub(super) fn news(board: &Board) -> (bool, Option<u64>, Option<u64>) {
    let version = |name| board.get(name).map(|entry| entry.version);
    (board.is_read(), version(ENTRY), version(SEEN))
}

impl Config {
    /// Changes with everything that the phase follows from: replicas with one fingerprint decide alike. A dry run is each
    /// replica's own.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let plan = &self.plan;
        let named = |phases: &[super::Phase]| phases.iter().map(|phase| phase.name()).collect::<Vec<_>>();
        let all = json!({
            "dates": [plan.announce, plan.freeze, plan.tombstone, plan.gone, self.notice.deprecation, self.notice.sunset],
            "brownouts": plan.brownouts.iter().map(|window| [window.from, window.until]).collect::<Vec<_>>(),
            "urls": [self.notice.new_url, self.notice.info_url],
            "share": self.share,
            "refuses_by_http": self.refuse_with == super::Form::Http,
            "switches": [self.end_running, self.notify],
            "exempt": self.exempt,
            "forced": named(&self.forced),
        });
        let digest = digest::digest(&digest::SHA256, all.to_string().as_bytes());
        digest.as_ref().iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
