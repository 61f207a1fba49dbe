//! From evidence to an answer: is it safe to switch SSE off? (EVIDENCE, The verdict)
//!
//! ```text
//! files -> input -> line -> evidence -> verdict -> outcome -> render (text, json, csv, md, html)
//! ```
//!
//! Promise: never SAFE where the rules say otherwise. What cannot be read, placed or believed is counted and named, and
//! makes the answer more careful, never less.

pub mod access;
pub mod evidence;
pub mod fixes;
pub mod input;
mod intake;
pub mod line;
pub mod live;
pub mod outcome;
pub mod policy;
pub mod render;
mod verdict;

pub use intake::{ReadError, Reading, read};
pub use verdict::judge;
