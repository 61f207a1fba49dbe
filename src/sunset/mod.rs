//! Switching HTTP+SSE off: the phases, what clients are told in each, and who is refused (DESIGN, Sunset).
//!
//! ```text
//! plan (dates) | order (by hand) -> control (guard, state directory) -> rules -> judge(account): served | refused
//! ```
//!
//! Sessions and the front ask [`Rules`], which hold at one moment and change as a whole.

mod account;
mod agreed;
pub mod calendar;
mod control;
mod decision;
pub mod farewell;
mod follow;
mod gathering;
mod guard;
mod ladder;
pub mod notice;
mod order;
mod phase;
pub mod plan;
mod rules;
mod seen;
mod share;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod told;

pub use account::Account;
pub use calendar::Calendar;
pub use control::{Parts, Sunset};
pub use guard::{Hit, Outlook};
pub use ladder::{LEAST as LADDER_LEAST, ladder};
pub use notice::Notice;
pub use order::{Denied, Order, Set};
pub use phase::Phase;
pub use plan::{Plan, Window};
pub use rules::{Rules, Word};
pub use seen::Seen;

use serde::{Deserialize, Serialize};

use crate::report::outcome::Waiver;

/// How HTTP+SSE is switched off.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// When what happens.
    pub plan: Plan,
    /// What clients are told.
    pub notice: Notice,
    /// How sessions are refused in brownouts and by the tombstone.
    pub refuse_with: Form,
    /// Whom brownouts and the tombstone hit.
    pub share: Share,
    /// Whether they end running sessions too.
    pub end_running: bool,
    /// Whether sessions get a warning of the server's kind, where the server has declared logging.
    pub notify: bool,
    /// Who is never refused before it is all gone, and who answers for that.
    pub exempt: Vec<Waiver>,
    /// Phases that are entered whomever they hit.
    pub forced: Vec<Phase>,
    /// The phase whose refusals are written and not carried out.
    pub dry_run: Option<Phase>,
}

/// How a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// The stream opens, and `initialize` is answered by an error: the only text that reaches people in most clients.
    #[default]
    Rpc,
    /// 503 with `Retry-After` instead of a stream.
    Http,
}

/// A part of all clients, always the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Share {
    /// In hundredths of a percent: 1 to 10,000.
    pub basis_points: u16,
}

impl TryFrom<u16> for Share {
    type Error = &'static str;

    fn try_from(basis_points: u16) -> Result<Self, Self::Error> {
        if (1..=10_000).contains(&basis_points) {
            Ok(Share { basis_points })
        } else {
            Err("a share is 1 to 10,000 hundredths of a percent")
        }
    }
}

impl From<Share> for u16 {
    fn from(share: Share) -> u16 {
        share.basis_points
    }
}

impl Default for Share {
    fn default() -> Self {
        Share { basis_points: 10_000 }
    }
}
