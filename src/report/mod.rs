//! From logs to the answer: is it safe to switch SSE off?

pub mod access;
pub mod input;
