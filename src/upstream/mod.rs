//! The upgraded server, as the proxy speaks to it.
//!
//! `transport` is the seam: one HTTP exchange, by reqwest or simulated. `session_era` is one upstream session over it
//! (revisions 2025-03-26 to 2025-11-25), `replies` reads whatever a server answers, `fault` says what went wrong and
//! what that means for the call.

mod fault;
mod forward;
mod http;
mod modern;
mod replies;
mod resolver;
mod session_era;
mod transport;

pub use fault::{Fault, REASONS};
pub use forward::{Hop, forwarded_headers, is_looping};
pub use http::{Config, HttpTransport, HttpVersion, client_builder, install_tls_provider, is_reserved, root_cause};
pub use replies::{End, Item, MAX_MESSAGE, Replies};
pub use session_era::Link;
pub use transport::{Answer, Body, Exchange, Sending, Transport};
