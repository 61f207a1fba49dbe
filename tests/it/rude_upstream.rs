//! Rude upstreams.

mod answers;
mod framing;
mod limits;
mod stage;
mod status;
