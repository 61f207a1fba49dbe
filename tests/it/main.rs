//! Integration tests: the whole proxy in this process, between a fake upstream that can be told how to behave and raw
//! legacy clients that see every byte.

mod conversation;
mod drain;
mod front;
mod layers;
mod session;
mod support;
