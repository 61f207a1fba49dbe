//! Whom a phase would hit that still uses SSE: what stands in its way, and what a dry run shows.

use jiff::Timestamp;
use serde::Serialize;

use super::account::Account;
use super::{Config, Phase, Share};
use crate::report::outcome::{Client, Report, Verdict};

/// Clients that are named at most; all count.
const NAMED: usize = 20;

/// A client that a phase would hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// As it stands in the log.
    pub identity: String,
    /// Of the closed list.
    pub family: String,
    /// Its last use, or its last attempt if that was later.
    pub last_active: Option<Timestamp>,
    /// Its open sessions, which the phase leaves alone unless it ends running ones.
    pub open_sessions: u64,
}

/// What the evidence says about entering a phase that hits users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// The live verdict.
    pub verdict: Verdict,
    /// Why it is that.
    pub reason: String,
    /// How many clients used the server inside the window, or tried to.
    pub in_use: usize,
    /// How many of them would be hit.
    pub count: usize,
    /// Whether the evidence begins after the window does.
    pub is_young: bool,
    /// The first of them, those that block first.
    pub would_hit: Vec<Hit>,
}

impl Outlook {
    /// Who of `report`'s clients `phase` would hit, with `share` of all.
    #[must_use]
    pub fn of(report: &Report, config: &Config, phase: Phase, share: Share, now: Timestamp) -> Self {
        let is_active = |client: &&Client| last_active(client).is_some_and(|at| at >= report.window.since);
        let active = report.clients.iter().filter(|client| is_active(client) || client.state.is_blocking());
        let active: Vec<&Client> = active.collect();
        let in_use = active.len();
        let hit = active.into_iter().filter(|client| phase == Phase::Gone || is_hit(client, config, share, now));
        let hit: Vec<&Client> = hit.collect();
        Outlook {
            verdict: report.verdict,
            reason: report.reason.clone(),
            in_use,
            count: hit.len(),
            is_young: report.coverage.first.is_none_or(|first| first > report.window.since),
            would_hit: hit.into_iter().take(NAMED).map(Hit::of).collect(),
        }
    }

    /// Whether nobody has to be asked first. Evidence that does not reach back to the beginning of the window names nobody
    /// who came before it, and that is no sign that there is nobody.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        match self.verdict {
            Verdict::Safe | Verdict::SafeWithNotes => true,
            Verdict::NotYet => self.count == 0,
            Verdict::Unknown => self.count == 0 && !self.is_young,
        }
    }

    /// Why `phase` is not entered, and what would have it entered.
    #[must_use]
    pub fn objection(&self, phase: Phase) -> String {
        let names: Vec<&str> = self.would_hit.iter().take(5).map(|hit| hit.identity.as_str()).collect();
        let more = self.count.saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let whom = match self.count {
            0 => "may hit clients that nobody knows of".to_owned(),
            1 => format!("would hit 1 client with use inside the window ({})", names.join(", ")),
            count => format!("would hit {count} clients with use inside the window ({}{more})", names.join(", ")),
        };
        format!(
            "{phase} {whom}, and the verdict is {}: {} To enter it all the same, force it by name: --force {phase}",
            self.verdict.title(),
            self.reason,
        )
    }
}

impl Hit {
    fn of(client: &Client) -> Self {
        Hit {
            identity: client.identity.clone(),
            family: client.family.clone(),
            last_active: last_active(client),
            open_sessions: client.open_sessions,
        }
    }
}

fn last_active(client: &Client) -> Option<Timestamp> {
    client.last_use.max(client.last_attempt)
}

/// Anonymous clients of one name are hit address by address, and stand here together: if one of them is, they are.
fn is_hit(client: &Client, config: &Config, share: Share, now: Timestamp) -> bool {
    let account = |address: &str| Account {
        identity: client.identity.clone(),
        address: address.to_owned(),
        is_principal: client.is_principal,
        is_named: true,
    };
    if account("").is_exempt(&config.exempt, now) {
        return false;
    }
    if client.is_principal {
        return account("").is_in(share);
    }
    let more = client.principals > client.addresses.len();
    more || client.addresses.iter().any(|address| account(address).is_in(share))
}
