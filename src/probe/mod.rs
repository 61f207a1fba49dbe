//! Probes: this program as a client of its own public path (`canary`), and of both sides before the cutover.
//!
//! Whatever a probe meets, it says what it expected, what it got, and what to do about it.

pub mod check;
mod sse_client;

pub use sse_client::{
    Answer, Arrival, AskFault, Endpoint, EndpointFault, Fault, Head, Posted, SseClient, SseStream, Target,
};
