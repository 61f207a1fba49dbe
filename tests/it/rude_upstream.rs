//! Rude upstreams.

mod answers;
mod framing;
mod limits;
mod listening;
mod server_requests;
mod session_era;
mod silence;
mod stage;
mod status;
