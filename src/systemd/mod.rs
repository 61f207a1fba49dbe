//! systemd, or another service manager that speaks its protocols: the sockets it passes, and what it is told.
//!
//! Promise: a process that nobody manages is the same process; nothing is passed then, and nobody told.
//!
//! The trap: `NOTIFY_SOCKET` stays in the environment, as taking it out needs unsafe code. This program starts no others, so
//! nobody inherits it.

mod notify;
mod sockets;

pub use notify::Notifier;
pub use sockets::{SocketError, Sockets};
