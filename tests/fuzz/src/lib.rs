//! What must hold whatever bytes come, one function a target.
//!
//! A body takes any bytes and panics when something does not hold. It stands here once and is run in two ways: under
//! libfuzzer (`fuzz_targets`), which looks for new inputs, and on stable (`tests/replay.rs`), which goes through
//! those that were kept. It must do the same for the same bytes, or a finding could not be repeated.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "to panic is how a body reports")]

mod access;
mod connection;
mod decoder;
mod encoder;
mod envelope;
mod guard;
mod headers;
mod log_line;
mod query;
mod translate;

pub use access::access;
pub use connection::connection;
pub use decoder::decoder;
pub use encoder::encoder;
pub use envelope::envelope;
pub use guard::guard;
pub use headers::headers;
pub use log_line::log_line;
pub use query::query;
pub use translate::translate;
