//! Whom a phase hits: one client, as the log names it.
//!
//! An account is what the report judges by itself (EVIDENCE, Identity): an authenticated principal, wherever it comes from,
//! or else a name at an address, because many clients share a name. Who was seen before is asked by the name alone: a
//! client that moved to another address is no newcomer.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::digest;

use super::{Seen, Share};
use crate::report::evidence::is_principal;
use crate::report::outcome::Waiver;
use crate::report::policy::Pattern;
use crate::traffic::{Client, Pseudonyms};

/// What [`Share`] is a part of.
const WHOLE: u32 = 10_000;

/// One client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As it stands in the log: `client_id:reporting`.
    pub identity: String,
    /// Its address, as that stands in the log.
    pub address: String,
    /// Whether the identity stands for one client wherever it comes from.
    pub is_principal: bool,
    /// Whether it has said who it is: by a credential or by `initialize`.
    pub is_named: bool,
}

impl Account {
    /// The account of `client`, as far as it is known by now.
    #[must_use]
    pub fn of(client: &Client, pseudonyms: &Pseudonyms) -> Self {
        let identity = client.identity(pseudonyms);
        let is_principal = is_principal(identity.source.name());
        Account {
            identity: identity.value,
            address: pseudonyms.address(client.address),
            is_principal,
            is_named: is_principal || client.info.is_some(),
        }
    }

    /// Whether it belongs to the part.
    #[must_use]
    pub fn is_in(&self, share: Share) -> bool {
        u32::from(share.basis_points) > self.place()
    }

    /// Its place among all, from 0 to 9,999: the same in every process that writes the same pseudonyms.
    fn place(&self) -> u32 {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&*self.identity, "\0", if self.is_principal { "" } else { &*self.address }] {
            context.update(part.as_bytes());
        }
        let digest = context.finish();
        let number = digest.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        u32::try_from(number % u64::from(WHOLE)).unwrap_or_default()
    }

    /// Whether somebody answers for it at `now`.
    #[must_use]
    pub fn is_exempt(&self, exempt: &[Waiver], now: Timestamp) -> bool {
        if exempt.is_empty() {
            return false;
        }
        let today = now.to_zoned(TimeZone::UTC).date();
        let mut in_force = exempt.iter().filter(|exemption| exemption.expires >= today);
        in_force.any(|exemption| Pattern::new(&exemption.client).matches_identity(&self.identity))
    }

    /// Whether it is among those who were `seen`. Who has not said its name is taken for whoever was seen at its address.
    #[must_use]
    pub fn was(&self, seen: &Seen) -> bool {
        if self.is_named { seen.has_identity(&self.identity) } else { seen.has_address(&self.address) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(identity: &str, address: &str) -> Account {
        let is_principal = identity.starts_with("client_id:");
        Account { identity: identity.to_owned(), address: address.to_owned(), is_principal, is_named: true }
    }

    #[test]
    fn share_is_of_its_size_and_always_the_same() {
        let five = Share { basis_points: 500 };
        let hit = (0..20_000).filter(|number| account("name:mcp", &format!("a{number}")).is_in(five)).count();
        assert!((900..1_100).contains(&hit), "{hit}");
        for number in 0..100 {
            let one = account(&format!("client_id:{number}"), "here");
            let elsewhere = account(&format!("client_id:{number}"), "there");
            assert_eq!(one.is_in(five), elsewhere.is_in(five), "a principal is one client wherever it comes from");
            assert!(one.is_in(Share::default()));
            let more = Share { basis_points: 1_000 };
            assert!(!one.is_in(five) || one.is_in(more), "who is in a share is in a larger one");
        }
    }

    #[test]
    fn exemption_holds_to_the_end_of_its_last_day() {
        let exempt = [Waiver {
            client: "Cursor*".to_owned(),
            owner: "Ada".to_owned(),
            reason: "moves in January".to_owned(),
            expires: "2026-12-24".parse().expect("a date"),
        }];
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let cursor = account("name:Cursor via mcp-remote", "a");
        assert!(cursor.is_exempt(&exempt, at("2026-12-24T23:59:59Z")));
        assert!(!cursor.is_exempt(&exempt, at("2026-12-25T00:00:00Z")));
        assert!(!account("name:other", "a").is_exempt(&exempt, at("2026-12-24T00:00:00Z")));
    }
}
