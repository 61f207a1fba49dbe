//! Rude upstreams.

mod answers;
mod framing;
mod limits;
mod silence;
mod stage;
mod status;
