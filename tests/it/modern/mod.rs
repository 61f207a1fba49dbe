//! Legacy clients of every version in front of a server that speaks 2026-07-28 only.

mod fake;
