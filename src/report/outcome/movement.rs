//! What a report says of who has moved to Streamable HTTP. None of it decides anything: a client that was seen there is not
//! silent on SSE for that.

use jiff::Timestamp;
use serde::Serialize;

/// Where a client stands between SSE and Streamable HTTP.
///
/// It is on SSE as long as its silence there has not lasted long enough (`due`, after the window), and on Streamable HTTP
/// for as long after it was last seen there: the window, or 1.5 times its longest silence on either side if that is longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Movement {
    /// On SSE, and not seen on Streamable HTTP for so long.
    LegacyOnly,
    /// On both.
    Both,
    /// Not seen on Streamable HTTP, where nobody counted who came; or on SSE no more, and they were not counted through all
    /// of the window.
    NotMeasured,
    /// It used SSE, and is on neither.
    Vanished,
    /// On Streamable HTTP, and on SSE no more or never.
    ModernOnly,
}

impl Movement {
    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Movement::LegacyOnly => "SSE only",
            Movement::Both => "both",
            Movement::NotMeasured => "?",
            Movement::Vanished => "vanished",
            Movement::ModernOnly => "moved",
        }
    }
}

/// What was seen of a client by Streamable HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Modern {
    /// Its first record.
    pub first: Timestamp,
    /// Its last record. It is told once a day.
    pub last: Timestamp,
    /// Days on which it was seen.
    pub days: usize,
    /// How often it was upgraded on the old URL, as far as records tell.
    pub upgrades: u64,
    /// The first time.
    pub first_upgrade: Option<Timestamp>,
    /// The last time.
    pub last_upgrade: Option<Timestamp>,
}

/// How far the clients have moved to Streamable HTTP, hidden ones included. It says nothing of the verdict: who was seen
/// there may still need SSE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moving {
    /// Whether the log tells who came by Streamable HTTP.
    pub measured: Measured,
    /// The first record of a replica that counted them, if any did.
    pub since: Option<Timestamp>,
    /// How many replicas of the window counted them.
    pub replicas: usize,
    /// How many replicas there were in it.
    pub replicas_in_all: usize,
    /// Clients that use SSE and were not seen to use anything else.
    pub legacy_only: usize,
    /// Clients that use both.
    pub both: usize,
    /// Clients that used SSE and now use Streamable HTTP only.
    pub modern_only: usize,
    /// Clients that used SSE and are seen nowhere.
    pub vanished: usize,
    /// Clients that used SSE and of which it cannot be told, because nobody counted who came by Streamable HTTP.
    pub not_measured: usize,
    /// Clients that came by Streamable HTTP and never used the server over SSE.
    pub never_legacy: usize,
}

impl Moving {
    /// Whether it was seen or looked for who moves.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.measured != Measured::No || self.both > 0 || self.modern_only > 0 || self.never_legacy > 0
    }

    /// How many clients used the server over SSE.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.legacy_only + self.both + self.modern_only + self.vanished + self.not_measured
    }
}

/// Whether the log tells who came by Streamable HTTP: only replicas that pass it through can. Upgrades on the old URL are
/// told in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measured {
    /// No replica of the window passed it through.
    #[default]
    No,
    /// Some replicas did, or not through all of the window.
    Partly,
    /// All did.
    Yes,
}
