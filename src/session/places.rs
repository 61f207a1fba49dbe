//! How many sessions there may be, in all and for each principal and address (WIRE, Limits).
//!
//! Limits for one are off unless the operator sets them: behind a balancer that is not a `--trusted-proxy`, all clients
//! share one address, and many a fleet shares one credential.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};

use super::{Config, Guest, Refusal};
use crate::auth::Principal;
use crate::mcp::{RpcError, code};

/// Bits of an IPv6 address that name a site: within it, addresses cost nothing.
const SITE: u32 = 64;

/// The count of open sessions.
#[derive(Debug, Default)]
pub(super) struct Places {
    open: AtomicUsize,
    /// Sessions that are there to be refused.
    refused: AtomicUsize,
    /// Sessions that wait for their client to come back. They count apart: who comes back without saying so must find a
    /// place beside the session that waits for it.
    aside: AtomicUsize,
    shares: DashMap<Sharer, usize>,
}

/// Whose sessions are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sharer {
    /// Whom the stream is taken for, under whatever credential.
    Principal(Principal),
    /// An address; of IPv6 its site.
    Address(IpAddr),
}

/// A place in the count, given back when the session is over.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    shares: Vec<Sharer>,
    is_refused: bool,
    is_aside: bool,
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
    /// A place for `guest`, unless memory `is_short`: those who are here need what is left.
    pub(super) fn take(self: &Arc<Self>, guest: &Guest, config: &Config, is_short: bool) -> Seat {
        let max = config.max_sessions;
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { places: Arc::clone(self), shares: Vec::new(), is_refused: false, is_aside: false };
        if is_short {
            return place.refuse(config, "the proxy holds nearly as many bytes as it may (--memory)");
        }
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
        self.shares.clear();
        self.is_refused = true;
        let max = (config.max_sessions / 10).max(16);
        if self.places.refused.fetch_add(1, Ordering::Relaxed) >= max {
            return Seat::None;
        }
        Seat::Refused(self, refusal(problem))
    }

    /// The client has lost its stream, and the session waits for it. With `max` of them doing so there is no place for
    /// another.
    pub(super) fn step_aside(&mut self, max: usize) -> bool {
        if self.is_aside || self.places.aside.fetch_add(1, Ordering::Relaxed) >= max {
            self.places.aside.fetch_sub(usize::from(!self.is_aside), Ordering::Relaxed);
            return false;
        }
        self.give_back();
        self.is_aside = true;
        true
    }

    /// The client is back. It has its place, even if another took it meanwhile.
    pub(super) fn come_back(&mut self) {
        if !std::mem::take(&mut self.is_aside) {
            return;
        }
        self.places.aside.fetch_sub(1, Ordering::Relaxed);
        self.places.open.fetch_add(1, Ordering::Relaxed);
        for sharer in &self.shares {
            *self.places.shares.entry(sharer.clone()).or_insert(0) += 1;
        }
    }

    fn give_back(&mut self) {
        if self.is_aside {
            self.places.aside.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let count = if self.is_refused { &self.places.refused } else { &self.places.open };
        count.fetch_sub(1, Ordering::Relaxed);
        for sharer in &self.shares {
            if let Entry::Occupied(mut count) = self.places.shares.entry(sharer.clone()) {
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
    let principal = guest.sender.principal;
    (principal != Principal::Anonymous).then_some(Sharer::Principal(principal))
}

/// An address, or of IPv6 the site.
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
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
        let sharer = Sharer::Principal(Principal::Opaque([1; 32]));
        assert!(places.take_share(&sharer, 1) && !places.take_share(&sharer, 1));
        places.open.fetch_add(1, Ordering::Relaxed);
        drop(Place { places: Arc::clone(&places), shares: vec![sharer.clone()], is_refused: false, is_aside: false });
        assert!(places.shares.is_empty());
        assert!(places.take_share(&sharer, 1));
    }

    #[test]
    fn who_waits_for_its_client_leaves_its_place_to_others_and_has_it_again() {
        let places = Arc::new(Places::default());
        let sharer = Sharer::Principal(Principal::Opaque([1; 32]));
        assert!(places.take_share(&sharer, 1));
        places.open.fetch_add(1, Ordering::Relaxed);
        let mut place =
            Place { places: Arc::clone(&places), shares: vec![sharer.clone()], is_refused: false, is_aside: false };
        assert!(!place.step_aside(0), "there is no room for those who wait");
        assert!(place.step_aside(1));
        let counts = || (places.open.load(Ordering::Relaxed), places.aside.load(Ordering::Relaxed));
        assert_eq!(counts(), (0, 1));
        assert!(places.take_share(&sharer, 1), "another of the same principal");
        place.come_back();
        assert_eq!(counts(), (1, 0));
        assert_eq!(places.shares.get(&sharer).map(|count| *count), Some(2));
        drop(place);
        assert_eq!(counts(), (0, 0));
    }
}
