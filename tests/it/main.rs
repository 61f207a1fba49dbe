//! Integration tests: the whole proxy in this process, between a fake upstream that can be told how to behave and raw
//! legacy clients that see every byte.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that finds something missing shall panic, and its tasks end with it"
)]

mod admin;
mod binary;
mod canary;
mod check;
mod conversation;
mod cors;
mod drain;
mod front;
mod layers;
mod modern;
mod oauth;
mod report;
mod rude_client;
mod rude_upstream;
mod secrets;
mod session;
mod sessions;
mod simulation;
mod support;
mod survival;
mod time;
mod upstream_options;
mod verdict;
