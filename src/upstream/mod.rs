//! The upgraded server, as the proxy speaks to it.
//!
//! `transport` is the seam: one HTTP exchange, by hyper or simulated. `session_era` is one upstream session over it
//! (revisions 2025-03-26 to 2025-11-25), `replies` reads whatever a server answers, `fault` says what went wrong and
//! what that means for the call.

mod connect;
mod era;
mod fault;
mod fetch;
mod forward;
mod http;
mod knock;
mod link;
mod modern;
mod replies;
mod resolver;
mod session_era;
mod tls;
mod transport;

pub use connect::{TooSlow, UpstreamClient, client};
pub use era::{Era, EraOptions, Upstream};
pub use fault::{Fault, REASONS};
pub use fetch::{FetchFault, Fetched, Fetcher, LONGEST_DOCUMENT, is_safe_url, pick};
pub use forward::{Hop, forwarded_headers, is_looping, passed_on, passed_up};
pub use http::{
    Config, HttpTransport, HttpVersion, POOL_IDLE, client_builder, install_tls_provider, is_reserved, root_cause,
};
pub use knock::is_of_session;
pub use link::Link;
pub(crate) use modern::Key as Shown;
pub use modern::shape;
pub use replies::{End, Item, MAX_MESSAGE, Replies};
pub use reqwest::Url;
pub use resolver::Resolver;
pub use tls::{Pem, client_tls};
pub use transport::{Answer, Body, Content, Exchange, Messages, Sending, Transport};
