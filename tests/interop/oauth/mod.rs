//! Legacy clients that log in: the official SDKs' OAuth, through a browser's redirects, with a server that demands it.
//!
//! First without the proxy, before the server as it was: what "as if the old server were there" means, and the proof of
//! scripts and authorization server. Then through the proxy, in every deployment.

mod authority;
mod client;
mod deployments;
mod door;
pub(crate) mod http;
mod scenario;
mod story;
mod table;
mod world;
