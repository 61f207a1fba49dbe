//! sse-sunset: a migration proxy for the Model Context Protocol.
//!
//! Legacy clients keep speaking HTTP+SSE; the upgraded server behind speaks Streamable HTTP. The proxy maps each SSE
//! session to an upstream session and records who still comes. The modules form rows, and a module imports only
//! from rows below its own (`tests/it/layers.rs` holds the table).

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drain;
pub mod fleet;
pub mod front;
pub mod mcp;
pub mod metrics;
pub mod net;
pub mod passthrough;
pub mod probe;
pub mod report;
pub mod session;
pub mod sse;
pub mod sunset;
pub mod systemd;
pub mod traffic;
pub mod upstream;
