//! The time at which a file begins, so that the pieces of a rotated log are read in their order.
//!
//! A piece may begin in the middle of a line (logrotate's `copytruncate`) or with lines of something else, so it is the
//! first time that can be read. It decides the order and nothing else.

use std::io::Read;

use jiff::Timestamp;
use memchr::memmem;

use super::lines::{Lines, Piece};
use crate::report::access;

/// How far into a file it is searched, in bytes of text.
const SEARCHED: u64 = 64 << 10;

/// The time of the first line that has one.
pub(super) fn first_time(reader: &mut impl Read) -> Option<Timestamp> {
    let mut lines = Lines::new();
    let mut first = None;
    let mut start = reader.take(SEARCHED);
    let mut sink = |piece: Piece<'_>| {
        if let (None, Piece::Line { bytes, is_cut: false, .. }) = (first, piece) {
            first = time(bytes);
        }
    };
    // What cannot be read here cannot be read later either, and that is where it is said.
    while lines.read_block(&mut start, &mut sink).unwrap_or(false) {}
    first
}

fn time(line: &[u8]) -> Option<Timestamp> {
    own_time(line).or_else(|| access::parse(line).map(|access| access.at))
}

/// The `@timestamp` of one of our records.
fn own_time(line: &[u8]) -> Option<Timestamp> {
    const KEY: &[u8] = b"\"@timestamp\"";
    let at = memmem::find(line, KEY)?;
    let value = line.get(at + KEY.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    let value = value.trim_ascii_start().strip_prefix(b"\"")?;
    let value = value.get(..memchr::memchr(b'"', value)?)?;
    std::str::from_utf8(value).ok()?.parse().ok()
}
