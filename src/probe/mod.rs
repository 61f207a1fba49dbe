//! Probes: this program as a client of its own public path (`canary`), and of both sides before the cutover.
//!
//! Whatever a probe meets, it says what it expected, what it got, and what to do about it.

pub mod canary;
pub mod check;
mod fault;
mod remedy;
mod sse_client;

pub use fault::{AskFault, EndpointFault, Fault};
pub use sse_client::{Answer, Arrival, Endpoint, Head, Posted, SseClient, SseStream, Target};
