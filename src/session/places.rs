//! How many sessions there may be, in all and for each principal and address (WIRE, Limits).
//!
//! Limits for one are off unless the operator sets them: behind a balancer that is not a `--trusted-proxy`, all clients
//! share one address, and many a fleet shares one credential.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};

use super::{Config, Credential, Guest, Refusal};
use crate::mcp::{RpcError, code};

/// Bits of an IPv6 address that name a site: within it, addresses cost nothing.
const SITE: u32 = 64;

/// The count of open sessions.
#[derive(Debug, Default)]
pub(super) struct Places {
    open: AtomicUsize,
    /// Sessions that are there to be refused.
    refused: AtomicUsize,
    shares: DashMap<Sharer, usize>,
}

/// Whose sessions are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sharer {
    /// Named by the header that the operator trusts.
    Named(String),
    /// Whoever has this credential.
    Credential(Credential),
    /// An address; of IPv6 its site.
    Address(IpAddr),
}

/// A place in the count, given back when the session is over.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    shares: Vec<Sharer>,
    is_refused: bool,
}

/// What a guest gets.
#[derive(Debug)]
pub(super) enum Seat {
    /// A session.
    Free(Place),
    /// A session that says that there is none: TypeScript clients take an HTTP 503 for ever.
    Refused(Place, Refusal),
    /// Not even that.
    None,
}

impl Places {
    pub(super) fn take(self: &Arc<Self>, guest: &Guest, config: &Config) -> Seat {
        let max = config.max_sessions;
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { places: Arc::clone(self), shares: Vec::new(), is_refused: false };
        if open >= max {
            return place.refuse(config, &format!("the proxy serves its limit of {max} legacy sessions"));
        }
        let limits = [
            (sharing_principal(guest), config.max_per_principal, "one client"),
            (Some(Sharer::Address(site(guest.client.address))), config.max_per_address, "one address"),
        ];
        for (sharer, max, whose) in limits {
            let (Some(sharer), Some(max)) = (sharer, max) else { continue };
            if !self.take_share(&sharer, max) {
                return place.refuse(config, &format!("the proxy serves its limit of {max} sessions of {whose}"));
            }
            place.shares.push(sharer);
        }
        Seat::Free(place)
    }

    fn take_share(&self, sharer: &Sharer, max: usize) -> bool {
        let mut count = self.shares.entry(sharer.clone()).or_insert(0);
        let free = *count < max;
        if free {
            *count += 1;
        }
        free
    }
}

impl Place {
    /// Gives the place back and takes one among the refused, who have a limit of their own.
    fn refuse(mut self, config: &Config, problem: &str) -> Seat {
        self.give_back();
        self.is_refused = true;
        let max = (config.max_sessions / 10).max(16);
        if self.places.refused.fetch_add(1, Ordering::Relaxed) >= max {
            return Seat::None;
        }
        Seat::Refused(self, refusal(problem))
    }

    fn give_back(&mut self) {
        let count = if self.is_refused { &self.places.refused } else { &self.places.open };
        count.fetch_sub(1, Ordering::Relaxed);
        for sharer in self.shares.drain(..) {
            if let Entry::Occupied(mut count) = self.places.shares.entry(sharer) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn sharing_principal(guest: &Guest) -> Option<Sharer> {
    let named = guest.client.principal.header.clone().map(Sharer::Named);
    named.or_else(|| guest.credential.is_some().then(|| Sharer::Credential(guest.credential.clone())))
}

fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(address.to_bits() >> SITE << SITE).into(),
        address @ IpAddr::V4(_) => address,
    }
}

fn refusal(problem: &str) -> Refusal {
    let error = RpcError::new(code::SESSION, "too_many_sessions", format!("{problem}; try again later"));
    Refusal { reason: "limit", error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_site_are_counted_together() {
        let site_of = |address: &str| site(address.parse().expect("an address")).to_string();
        assert_eq!(site_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(site_of("192.0.2.7"), "192.0.2.7");
        assert_eq!(site_of("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn share_is_given_back_with_its_place() {
        let places = Arc::new(Places::default());
        let sharer = Sharer::Named("a".into());
        assert!(places.take_share(&sharer, 1) && !places.take_share(&sharer, 1));
        places.open.fetch_add(1, Ordering::Relaxed);
        drop(Place { places: Arc::clone(&places), shares: vec![sharer.clone()], is_refused: false });
        assert!(places.shares.is_empty());
        assert!(places.take_share(&sharer, 1));
    }
}
