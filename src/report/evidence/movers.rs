//! Who came by Streamable HTTP: upgraded on the old URL, or on the path that is passed through.
//!
//! The trap: none of this may touch what is known of anyone over SSE. A client that was seen here is neither silent there
//! nor at work there, so these records have accounts of their own, and the verdict never looks at them.
//!
//! Memory goes with the number of identities and the days on which each was seen, never with lines.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::super::line::{Millis, Who};
use super::people::{DAY_MS, day_of, is_principal};

/// Addresses from which an anonymous identity is known to have been upgraded, at most.
const ADDRESSES: usize = 64;

/// Everyone who came by Streamable HTTP.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Movers {
    movers: HashMap<String, Mover>,
}

/// One identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mover {
    /// `identity.source`
    pub source: String,
    /// The family it was last seen as.
    pub family: String,
    /// A user agent or `client_id`.
    pub seen_as: Option<String>,
    /// Its first record.
    pub first: Millis,
    /// Its last record. As such records are written once a day, it may have been there until the end of that day.
    pub last: Millis,
    /// When it was first upgraded on the old URL, and when last.
    pub upgraded: Option<(Millis, Millis)>,
    /// How many records say so.
    pub upgrades: u64,
    /// The days on which it was seen, since 1970, in order.
    pub days: Vec<i32>,
    /// Where it was upgraded from; nothing for a principal, which is one client wherever it is.
    addresses: BTreeSet<String>,
}

/// By which way a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the old URL, where it was served as Streamable HTTP.
    Upgraded,
    /// By the path that is passed through.
    Passed,
}

impl Movers {
    /// `who` was seen at `at`.
    pub fn seen(&mut self, who: &Who<'_>, way: Way, at: Millis) {
        let Some(mover) = self.movers.get_mut(&*who.identity) else {
            let mut mover = Mover::new(who, at);
            mover.seen(who, way, at);
            self.movers.insert(who.identity.to_string(), mover);
            return;
        };
        mover.seen(who, way, at);
    }

    /// Takes in whom `other` saw.
    pub(super) fn merge(&mut self, other: &Movers) {
        for (identity, mover) in &other.movers {
            match self.movers.get_mut(identity) {
                Some(known) => known.merge(mover),
                None => drop(self.movers.insert(identity.clone(), mover.clone())),
            }
        }
    }

    /// What is known of `identity`.
    #[must_use]
    pub fn get(&self, identity: &str) -> Option<&Mover> {
        self.movers.get(identity)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Mover)> {
        self.movers.iter().map(|(identity, mover)| (identity.as_str(), mover))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.movers.len()
    }

    /// Drops those that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&str, &Mover) -> bool) {
        self.movers.retain(|identity, mover| keep(identity, mover));
    }
}

impl Mover {
    fn new(who: &Who<'_>, at: Millis) -> Self {
        Mover {
            source: who.source.to_string(),
            family: who.family.to_string(),
            seen_as: who.seen_as.as_deref().map(str::to_owned),
            first: at,
            last: at,
            upgraded: None,
            upgrades: 0,
            days: Vec::new(),
            addresses: BTreeSet::new(),
        }
    }

    fn seen(&mut self, who: &Who<'_>, way: Way, at: Millis) {
        if at >= self.last && *self.family != *who.family && !who.family.is_empty() {
            self.family = who.family.to_string();
        }
        self.first = self.first.min(at);
        self.last = self.last.max(at);
        let day = day_of(at);
        if let Err(place) = self.days.binary_search(&day) {
            self.days.insert(place, day);
        }
        if way == Way::Upgraded {
            let (first, last) = self.upgraded.unwrap_or((at, at));
            self.upgraded = Some((first.min(at), last.max(at)));
            self.upgrades = self.upgrades.saturating_add(1);
            if !is_principal(&self.source)
                && self.addresses.len() < ADDRESSES
                && !self.addresses.contains(&*who.address)
            {
                self.addresses.insert(who.address.to_string());
            }
        }
    }

    /// What was seen of the same identity elsewhere.
    fn merge(&mut self, other: &Mover) {
        if other.last >= self.last && !other.family.is_empty() {
            self.family.clone_from(&other.family);
        }
        if self.seen_as.is_none() {
            self.seen_as.clone_from(&other.seen_as);
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.upgraded = match (self.upgraded, other.upgraded) {
            (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
            (one, two) => one.or(two),
        };
        self.upgrades = self.upgrades.saturating_add(other.upgrades);
        let mut days: Vec<i32> = self.days.iter().chain(&other.days).copied().collect();
        days.sort_unstable();
        days.dedup();
        self.days = days;
        for address in &other.addresses {
            if self.addresses.len() < ADDRESSES {
                self.addresses.insert(address.clone());
            }
        }
    }

    /// Whether the client at `address` is one that was upgraded. Of an anonymous identity, which many may share, only those
    /// are known to move whose address was seen to.
    #[must_use]
    pub fn was_upgraded_from(&self, address: &str) -> bool {
        self.upgraded.is_some() && (is_principal(&self.source) || self.addresses.contains(address))
    }

    /// The longest time between two days on which it was seen.
    #[must_use]
    pub fn longest_gap(&self) -> Millis {
        let gaps = self.days.windows(2).filter_map(|pair| match pair {
            [before, after] => Some(Millis::from(*after) - Millis::from(*before)),
            _ => None,
        });
        gaps.max().unwrap_or_default() * DAY_MS
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::super::line::Text;
    use super::*;

    fn who(source: &'static str, address: &'static str) -> Who<'static> {
        let text = |text: &'static str| Text(Cow::Borrowed(text));
        Who {
            session: Text::default(),
            identity: text("x"),
            source: text(source),
            family: text("other"),
            address: text(address),
            seen_as: None,
        }
    }

    #[test]
    fn days_are_those_of_the_records_in_any_order() {
        let mut movers = Movers::default();
        for day in [9, 2, 3, 9, 2] {
            movers.seen(&who("client_id", "a"), Way::Passed, day * DAY_MS + 5);
        }
        movers.seen(&who("client_id", "a"), Way::Upgraded, 3 * DAY_MS);
        let mover = movers.get("x").expect("it was seen");
        assert_eq!((mover.days.as_slice(), mover.longest_gap()), (&[2, 3, 9][..], 6 * DAY_MS));
        assert_eq!((mover.first, mover.last), (2 * DAY_MS + 5, 9 * DAY_MS + 5));
        assert_eq!((mover.upgraded, mover.upgrades), (Some((3 * DAY_MS, 3 * DAY_MS)), 1));
    }

    #[test]
    fn principal_is_upgraded_wherever_it_is_and_a_name_only_where_it_was_seen() {
        for (source, elsewhere) in [("client_id", true), ("client_info", false)] {
            let mut movers = Movers::default();
            movers.seen(&who(source, "a"), Way::Upgraded, 0);
            movers.seen(&who(source, "b"), Way::Passed, 0);
            let mover = movers.get("x").expect("it was seen");
            assert_eq!((mover.was_upgraded_from("a"), mover.was_upgraded_from("b")), (true, elsewhere), "{source}");
        }
    }
}
