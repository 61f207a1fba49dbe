//! Sockets in: the listener, and connections that can be ended from outside.

mod connection;
mod listener;

pub use connection::{Ender, Peer, serve};
pub use listener::{bind, listen};
