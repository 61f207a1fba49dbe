//! A port on which several processes listen one after the other.
//!
//! Promise: between two of them nobody else gets it. The trick: a bound socket that does not listen keeps the port out of
//! the kernel's choice for others, connections to it are refused, and whoever sets `SO_REUSEADDR` (all of ours do) can
//! bind it by its number.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port of the loopback interface that nobody else is given.
pub(crate) struct Port {
    _held: Socket,
    pub(crate) address: SocketAddr,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        held.set_reuse_address(true).expect("an option");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        held.bind(&any.into()).expect("a port");
        let address = held.local_addr().expect("an address").as_socket().expect("an IP address");
        Port { _held: held, address }
    }

    /// `http://HOST:PORT`
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}
