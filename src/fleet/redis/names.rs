//! What keys and channels are called in Redis. All begin with the fleet's name, in braces: several fleets can share a
//! Redis, and a cluster keeps what belongs together in one place.

use std::sync::Arc;

use super::super::Boot;

/// The names of one fleet.
#[derive(Debug, Clone)]
pub(super) struct Names {
    fleet: Arc<str>,
}

impl Names {
    pub(super) fn new(fleet: &str) -> Self {
        Names { fleet: fleet.into() }
    }

    /// The fleet's own name: what is sealed is sealed for it.
    pub(super) fn fleet(&self) -> &[u8] {
        self.fleet.as_bytes()
    }

    pub(super) fn fleet_str(&self) -> &str {
        &self.fleet
    }

    /// Where calls to a process are published.
    pub(super) fn calls(&self, boot: Boot) -> String {
        self.named(&format!("call:{boot}"))
    }

    /// Where answers to a process are published.
    pub(super) fn answers(&self, boot: Boot) -> String {
        self.named(&format!("answer:{boot}"))
    }

    /// Where words to all processes are published.
    pub(super) fn words(&self) -> String {
        self.named("all")
    }

    /// Where a process says that it is there.
    pub(super) fn presence(&self, boot: Boot) -> String {
        self.named(&format!("here:{boot}"))
    }

    /// The boots that said so, by when that expires.
    pub(super) fn replicas(&self) -> String {
        self.named("replicas")
    }

    /// Since when Redis has known of the fleet.
    pub(super) fn since(&self) -> String {
        self.named("since")
    }

    /// The versions of the entries of the board.
    pub(super) fn board(&self) -> String {
        self.named("board")
    }

    /// An entry of the board.
    pub(super) fn entry(&self, name: &str) -> String {
        self.named(&format!("board:{name}"))
    }

    fn named(&self, rest: &str) -> String {
        format!("{{{}}}:{rest}", self.fleet)
    }
}
