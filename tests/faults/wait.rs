//! Waiting for what can be observed, never longer than said.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What `look` finds, as soon as it finds something.
pub(crate) fn find<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Waits until `holds`.
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    find(what, limit, || holds().then_some(()));
}

/// Short for seconds.
pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
