//! Sockets in: the listener, what happens before the first request (PROXY protocol, TLS, limits), and connections that can
//! be ended from outside.
//!
//! ```text
//! listener -> acceptor (seats, proxy_header, tls) -> connection (HTTP/1.1, lasting) | http2 -> service
//!                                                    wire, patience: below both
//! ```

mod acceptor;
mod certificate;
mod connection;
mod heads;
mod http2;
mod lasting;
mod listener;
mod patience;
mod proxy_header;
mod seats;
mod seldom;
mod tls;
mod wire;

pub use acceptor::{Acceptor, Config, TrustedProxies};
pub use certificate::ClientCertificate;
pub use connection::{Ender, Peer, serve};
pub use listener::{USER_TIMEOUT, bind, listen, take};
pub use patience::Limits;
pub use seats::default_max_connections;
pub use tls::{ClientAuth, Tls, TlsError, TlsFiles};
