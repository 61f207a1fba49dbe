//! Legacy clients of every version in front of a server that speaks 2026-07-28 only: the rows of the tables, one by one.
//!
//! The server refuses whatever a server should, and a refusal fails the test; everything the client gets is checked
//! against the schema of the version it negotiated. So each test says only what is its own.

mod cancel;
mod conversation;
mod era;
mod fake;
mod flips;
mod handshake;
mod headers;
mod input;
mod input_refused;
mod local;
mod odd;
mod requests;
mod shapes;
mod stage;
mod subscriptions;
mod survival;
