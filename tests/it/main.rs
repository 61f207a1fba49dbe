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
mod binding;
mod calendar;
mod canary;
mod check;
mod conversation;
mod cors;
mod deploy;
mod documentation;
mod drain;
mod edge;
mod fleet;
mod front;
mod http2;
mod layers;
mod manual;
mod modern;
mod oauth;
mod passthrough;
mod proxy_protocol;
mod redis_server;
mod report;
mod rude_client;
mod rude_upstream;
mod secrets;
mod session;
mod sessions;
mod simulation;
mod supply_chain;

mod sunset;
mod support;
mod survival;
mod systemd;
mod time;
mod tls;
mod tokens;
mod tombstone;
mod upgrade;
mod upstream_options;
mod verdict;
