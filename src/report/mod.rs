//! From evidence to an answer: is it safe to switch SSE off? (EVIDENCE, The verdict)
//!
//! Promise: never SAFE where the rules say otherwise. What cannot be read, placed or believed is counted and named, and
//! makes the answer more careful, never less.

pub mod fixes;
pub mod outcome;
pub mod render;
