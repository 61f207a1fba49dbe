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
    /// How many clients with use inside the window would be hit.
    pub count: usize,
    /// The first of them, those that block first.
    pub would_hit: Vec<Hit>,
}

impl Outlook {
    /// Who of `report`'s clients would be hit, with `share` of all.
    #[must_use]
    pub fn of(report: &Report, config: &Config, share: Share, now: Timestamp) -> Self {
        let is_active = |client: &&Client| last_active(client).is_some_and(|at| at >= report.window.since);
        let active = report.clients.iter().filter(|client| is_active(client) || client.state.is_blocking());
        let hit: Vec<&Client> = active.filter(|client| is_hit(client, config, share, now)).collect();
        Outlook {
            verdict: report.verdict,
            reason: report.reason.clone(),
            count: hit.len(),
            would_hit: hit.into_iter().take(NAMED).map(Hit::of).collect(),
        }
    }

    /// Whether nobody has to be asked first.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.count == 0 || !matches!(self.verdict, Verdict::NotYet | Verdict::Unknown)
    }

    /// Why `phase` is not entered, and what would have it entered.
    #[must_use]
    pub fn objection(&self, phase: Phase) -> String {
        let names: Vec<&str> = self.would_hit.iter().take(5).map(|hit| hit.identity.as_str()).collect();
        let more = self.count.saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let clients = if self.count == 1 { "1 client" } else { &format!("{} clients", self.count) };
        format!(
            "{phase} would hit {clients} with use inside the window ({}{more}), and the verdict is {}: {} To enter it all \
             the same, force it by name: --force {phase}",
            names.join(", "),
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
