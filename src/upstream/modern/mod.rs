//! The modern era (2026-07-28), as the proxy speaks it for clients of older revisions.

mod headers;
mod listen;
mod params;
pub mod shape;
