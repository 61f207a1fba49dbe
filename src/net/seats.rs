//! How many connections there may be, in all and from one address.
//!
//! Why: each takes a descriptor and memory before anything is known of it. Behind a balancer all clients share one address,
//! so the limit by address holds for the address that the balancer names, and never for the balancer's own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::Gauge;

/// Most connections by default; fewer where descriptors are few.
const MOST: u64 = 20_000;
/// Descriptors for everything that is no connection of a client.
const OTHERS: u64 = 256;
/// Fewest, however few descriptors there are: those run out first then, and that is survived.
const FEWEST: u64 = 64;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    most_per_address: Option<usize>,
    taken: Mutex<Taken>,
    active: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    /// Where it counts among those of one address.
    address: Option<IpAddr>,
}

impl Seats {
    pub(super) fn new(most: usize, most_per_address: Option<usize>, active: Gauge) -> Arc<Self> {
        Arc::new(Seats { most, most_per_address, taken: Mutex::default(), active })
    }

    /// A seat, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.taken();
        if taken.all >= self.most {
            return None;
        }
        taken.all += 1;
        self.active.inc();
        Some(Seat { seats: Arc::clone(self), address: None })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Counts it among those of `address` too. Whether one more was free there.
    pub(super) fn take_for(&mut self, address: IpAddr) -> bool {
        let Some(most) = self.seats.most_per_address else { return true };
        let address = network(address);
        let mut taken = self.seats.taken();
        let count = taken.by_address.entry(address).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        self.address = Some(address);
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
        self.seats.active.dec();
    }
}

/// One client has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How many connections fit into the descriptors that this process may have: a stream takes one, its upstream another, and
/// one that waits for its client a third.
#[must_use]
pub fn default_max_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(fitting(descriptors)).unwrap_or(usize::MAX)
}

fn fitting(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(OTHERS) / 3).clamp(FEWEST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_run_out_in_all_and_by_address_and_are_free_again() {
        let active = Gauge::default();
        let seats = Seats::new(3, Some(1), active.clone());
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (mut one, mut two, mut three) =
            (seats.take().expect("one"), seats.take().expect("two"), seats.take().expect("three"));
        assert!(seats.take().is_none());
        assert!(one.take_for(address("2001:db8::1")));
        assert!(!two.take_for(address("2001:db8::ffff:2")), "the same /64");
        assert!(two.take_for(address("192.0.2.1")) && !three.take_for(address("::ffff:192.0.2.1")));
        drop(one);
        assert!(three.take_for(address("2001:db8::3")));
        assert_eq!(active.get(), 2);
        drop((two, three));
        assert_eq!((active.get(), seats.taken().by_address.len()), (0, 0));
    }

    #[test]
    fn connections_fit_into_the_descriptors() {
        assert_eq!(fitting(1024), 256);
        assert_eq!(fitting(65_536), 20_000);
        assert_eq!(fitting(64), FEWEST);
    }
}
