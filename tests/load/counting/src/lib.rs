//! An allocator that counts what passes through it, from when it is told to.
//!
//! Why a crate: it is the only code here that cannot do without `unsafe`, which is forbidden everywhere else. Until it is told to
//! count, an allocation costs a load and a branch more, so that it may stay in place where time is measured.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Another allocator, counted.
#[derive(Debug)]
pub struct Counting<A>(pub A);

/// What was allocated since [`start`], in the whole process. What was given back does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    /// How often memory was asked for, growth of what was there included.
    pub count: u64,
    /// How much was asked for; of growth what it adds.
    pub bytes: u64,
}

/// Begins to count.
pub fn start() {
    COUNTS.store(true, Ordering::Relaxed);
}

/// What was counted so far.
#[must_use]
pub fn so_far() -> Allocations {
    Allocations { count: ALLOCATIONS.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
}

#[inline]
fn count(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[allow(
    unsafe_code,
    reason = "the trait is unsafe; everything is handed on as it came, and counting allocates nothing"
)]
// SAFETY: what the allocator inside promises holds for this one.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as this function was called.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as this function was called.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: as this function was called.
        unsafe { self.0.realloc(memory, layout, size) }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as this function was called.
        unsafe { self.0.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::hint::black_box;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting<System> = Counting(System);

    /// One test for all: whatever else runs in this process would be counted too.
    #[test]
    fn what_is_allocated_counts_once_it_is_asked_for() {
        black_box(Vec::<u8>::with_capacity(1 << 20));
        assert_eq!(so_far(), Allocations { count: 0, bytes: 0 });
        start();
        let before = so_far();
        let mut grown = black_box(Vec::<u8>::with_capacity(1 << 20));
        grown.reserve_exact(3 << 20);
        drop(black_box(grown));
        black_box(vec![0_u8; 1 << 20]);
        let counted = so_far();
        // Others may allocate a little meanwhile: the harness has threads of its own.
        assert!((3..100).contains(&(counted.count - before.count)), "{counted:?}");
        assert!(((4 << 20)..(4 << 20) + 100_000).contains(&(counted.bytes - before.bytes)), "{counted:?}");
    }
}
