//! Rude upstreams.

mod answers;
mod framing;
mod limits;
mod listening;
mod silence;
mod stage;
mod status;
