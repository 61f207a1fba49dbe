//! Real legacy clients and real upgraded servers through the real binary, while everything around it breaks.
//!
//! Promise, of every test: for every request id that a client got 202 for, exactly one answer or error; no answer in
//! another session; no tool carried out twice (`ledger`). Clients are the official TypeScript and Python SDKs, servers
//! too; they are killed, stopped and started again, and connections are cut through a proxy in this process.
//!
//! The faults (SECURITY §6) and the tests that hold what is promised for each. What a scripted upstream or client has to
//! do is in tests/it (`rude_upstream`, `rude_client`, `drain`). [`table_names_every_test`] keeps the table true.
//!
//! | fault | tests |
//! |---|---|

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that finds something missing shall panic, and its tasks end with it"
)]

mod both;
mod child;
mod client;
mod driver;
mod fault_proxy;
mod ledger;
#[path = "../interop/packages.rs"]
mod packages;
mod port;
mod process;
#[path = "../interop/processes.rs"]
#[allow(dead_code, reason = "shared with tests/interop, which stops in order what is killed here")]
mod processes;
mod proxy;
mod server;
mod upstream;
mod wait;
