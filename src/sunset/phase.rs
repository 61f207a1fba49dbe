//! How far the switch-off has come (DESIGN, Sunset).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The phases, in order. Each is reversible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Clients are served and nothing is said.
    #[default]
    Observe,
    /// Answers say that HTTP+SSE ends, and when.
    Announce,
    /// Who was seen before goes on; others are refused.
    Freeze,
    /// For a while, sessions are refused.
    Brownout,
    /// Sessions are refused, each with a word about where to go.
    Tombstone,
    /// There is no HTTP+SSE any more: 410.
    Gone,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Phase; 6] =
        [Phase::Observe, Phase::Announce, Phase::Freeze, Phase::Brownout, Phase::Tombstone, Phase::Gone];

    /// As it is typed, and as log and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Observe => "observe",
            Phase::Announce => "announce",
            Phase::Freeze => "freeze",
            Phase::Brownout => "brownout",
            Phase::Tombstone => "tombstone",
            Phase::Gone => "gone",
        }
    }

    /// Whether it turns away clients that used the server before: what the guard watches over.
    #[must_use]
    pub fn hits_users(self) -> bool {
        self >= Phase::Brownout
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Phase::ALL.into_iter().find(|phase| phase.name() == text);
        found.ok_or_else(|| "is none of observe, announce, freeze, brownout, tombstone, gone".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_as_the_metrics_name_them() {
        let names: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        assert_eq!(names, crate::metrics::PHASES);
        for phase in Phase::ALL {
            assert_eq!(phase.name().parse(), Ok(phase));
        }
        assert!("Gone".parse::<Phase>().is_err());
    }
}
