//! What a report says of the switch-off itself: which phase holds and how it came to that, who was turned away by it, and whom
//! a dry run would have turned away. None of it decides anything but the refusals, which are no silence.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A phase in which clients are turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusing {
    /// Newcomers are.
    Freeze,
    /// Everybody is, for a while.
    Brownout,
    /// Everybody is, with a word about where to go.
    Tombstone,
    /// Everybody is, before anybody is known.
    Gone,
}

impl Refusing {
    /// All of them, in order.
    pub const ALL: [Refusing; 4] = [Refusing::Freeze, Refusing::Brownout, Refusing::Tombstone, Refusing::Gone];

    /// As the log names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refusing::Freeze => "freeze",
            Refusing::Brownout => "brownout",
            Refusing::Tombstone => "tombstone",
            Refusing::Gone => "gone",
        }
    }

    /// The phase that is a reason of a refusal; other reasons are none.
    #[must_use]
    pub fn of(reason: &str) -> Option<Self> {
        Refusing::ALL.into_iter().find(|phase| phase.name() == reason)
    }
}

/// How often each phase turned a client away.
pub type RefusedIn = BTreeMap<Refusing, u64>;

/// How often a dry run of each phase would have.
pub type WouldBeRefused = BTreeMap<Refusing, WouldBe>;

/// How often a dry run would have turned a client away, which was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WouldBe {
    /// How often.
    pub times: u64,
    /// The last time.
    pub last: Timestamp,
}

/// How far the switch-off has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Phases {
    /// The phase that holds at the end of the window; none where no record tells.
    pub now: Option<String>,
    /// Since when, as far as records tell.
    pub since: Option<Timestamp>,
    /// Until when it was to hold, as its last record says.
    pub until: Option<Timestamp>,
    /// What was changed, oldest first: at most a hundred, the latest. Replicas that say the same are told once.
    pub changes: Vec<PhaseChange>,
    /// Records of earlier changes that are not listed.
    pub left_out: u64,
}

/// The phase changed, was paused or resumed, or is held back; or a dry run of one began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhaseChange {
    /// When.
    pub at: Timestamp,
    /// The phase that holds from then on.
    pub phase: String,
    /// The one that held before.
    pub before: Option<String>,
    /// Who had it changed: `plan`, `operator`, `start`, `guard`, or `fleet` where only a replica tells that
    /// followed another.
    pub by: String,
    /// Why.
    pub why: Option<String>,
    /// Until when it was to hold.
    pub until: Option<Timestamp>,
    /// Whether the switch-off is paused.
    pub paused: bool,
    /// The phase that the guard does not let in.
    pub held_back: Option<String>,
    /// The phase that is rehearsed.
    pub dry_run: Option<String>,
}

/// The dry run of a phase: whom it would have turned away. All of them were served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// The phase.
    pub phase: Refusing,
    /// Since when it is rehearsed, as far as records tell.
    pub since: Timestamp,
    /// Until when, if it is over: its end, or the last time that it would have turned somebody away.
    pub until: Option<Timestamp>,
    /// Identities that it would have turned away.
    pub clients: usize,
    /// Those of them that ever used the server.
    pub users: usize,
    /// How often.
    pub times: u64,
    /// Who: users first, then by how often; at most a hundred.
    pub listed: Vec<Rehearsed>,
}

/// One whom a dry run would have turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// The identity as it stands in the log: of a session that has said its name, the name.
    pub identity: String,
    /// Whether it ever used the server.
    pub is_user: bool,
    /// How often.
    pub times: u64,
    /// The last time.
    pub last: Timestamp,
}
