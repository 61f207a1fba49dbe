//! Sockets in: the listener, and connections that can be ended from outside.

mod connection;
mod heads;
mod listener;
mod patience;

pub use connection::{Ender, Peer, serve};
pub use listener::{USER_TIMEOUT, bind, listen};
pub use patience::Limits;
