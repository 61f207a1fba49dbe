//! Cuts what a reader yields into lines, in big blocks and without copying.
//!
//! Promise: the same bytes give the same lines under every way in which the reader splits them; memory is one line of
//! [`MAX_LINE`] plus one block. A line feed ends a line, and so does a run of NULs: after a crash, a file system may show
//! NULs where data was never written, and the next record follows them without a line feed.
//!
//! The trap: a line that began in the last block is carried over to the front of the buffer, and only what is new may
//! be searched for its end, or long lines take quadratic time.

use std::io::{self, ErrorKind, Read};

use memchr::memchr2;

/// A line longer than this, in bytes, is skipped: no record is, and what is foreign shall not fill the memory.
pub const MAX_LINE: usize = 1 << 20;

/// What is read at once, in bytes: it stays in the processor's cache between reading and parsing.
const BLOCK: usize = 128 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What is found in the bytes of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A line that is not empty, without its end.
    Line {
        /// Lines are numbered from 1, empty ones too.
        number: u64,
        /// Its text.
        bytes: &'a [u8],
        /// No line feed ended it.
        is_cut: bool,
    },
    /// A line that is left out.
    TooLong {
        /// Its number.
        number: u64,
    },
    /// A region filled with NULs.
    Nuls {
        /// The line in which it stands.
        number: u64,
    },
}

/// Where the reading stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The number of the line at which the reading is.
    number: u64,
    /// The line is too long and was reported: its rest is skipped.
    is_skipping: bool,
    /// The last block ended within a region of NULs, which was reported.
    is_in_nuls: bool,
    /// Bytes that the reader yielded.
    bytes: u64,
}

/// Reads lines; one reader after another, with one buffer.
#[derive(Debug)]
pub(super) struct Lines {
    /// As long as the longest line and a block.
    buffer: Vec<u8>,
    /// How much at the front of `buffer` belongs to a line whose end was not found yet.
    held: usize,
    /// Where it stands in the present reader.
    place: Place,
}

impl Lines {
    pub(super) fn new() -> Self {
        Lines { buffer: vec![0; MAX_LINE + BLOCK], held: 0, place: Place { number: 1, ..Place::default() } }
    }

    /// Begins with another reader.
    pub(super) fn start(&mut self) {
        self.held = 0;
        self.place = Place { number: 1, ..Place::default() };
    }

    /// The number of the line at which the reading is.
    pub(super) fn number(&self) -> u64 {
        self.place.number
    }

    /// Bytes that the present reader yielded.
    pub(super) fn bytes(&self) -> u64 {
        self.place.bytes
    }

    /// Reads once and hands out what that ends. False at the end, when what was held is handed out too.
    ///
    /// # Errors
    /// What the reader says. [`finish`](Lines::finish) then hands out the last line.
    pub(super) fn read_block(&mut self, reader: &mut impl Read, sink: &mut impl FnMut(Piece<'_>)) -> io::Result<bool> {
        let space = self.buffer.get_mut(self.held..self.held + BLOCK).unwrap_or_default();
        let read = loop {
            match reader.read(space) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            self.finish(sink);
            return Ok(false);
        }
        self.place.bytes += read as u64;
        let end = self.held + read;
        let rest = self.place.cut(self.buffer.get(..end).unwrap_or_default(), self.held, sink);
        self.held = if self.place.is_skipping { 0 } else { end - rest };
        self.buffer.copy_within(end - self.held..end, 0);
        Ok(true)
    }

    /// Hands out the last line, which has no end.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        let bytes = self.buffer.get(..self.held).unwrap_or_default();
        self.place.line(bytes, true, sink);
        self.held = 0;
    }
}

impl Place {
    /// Hands out the lines of `text`, of which all before `searched` is known to hold no end. Tells where the rest begins.
    fn cut(&mut self, text: &[u8], searched: usize, sink: &mut impl FnMut(Piece<'_>)) -> usize {
        let (mut from, mut searched) = (0, searched);
        while let Some(found) = memchr2(b'\n', 0, text.get(searched..).unwrap_or_default()) {
            let end = searched + found;
            let line = text.get(from..end).unwrap_or_default();
            let nuls = text.get(end..).unwrap_or_default().iter().take_while(|byte| **byte == 0).count();
            if nuls == 0 {
                self.line(line, false, sink);
                self.number += 1;
                from = end + 1;
            } else {
                self.line(line, true, sink);
                if end > 0 || !self.is_in_nuls {
                    sink(Piece::Nuls { number: self.number });
                }
                from = end + nuls;
            }
            self.is_skipping = false;
            searched = from;
        }
        self.is_in_nuls = text.last() == Some(&0);
        if text.len() - from > MAX_LINE && !self.is_skipping {
            sink(Piece::TooLong { number: self.number });
            self.is_skipping = true;
        }
        from
    }

    /// Hands out what stands before an end, or before none. Its length counts as it came, or it would depend on the split.
    fn line(&self, bytes: &[u8], is_cut: bool, sink: &mut impl FnMut(Piece<'_>)) {
        let number = self.number;
        if self.is_skipping {
            return;
        }
        if bytes.len() > MAX_LINE {
            return sink(Piece::TooLong { number });
        }
        let bytes = if number == 1 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes) } else { bytes };
        let bytes = if is_cut { bytes } else { bytes.strip_suffix(b"\r").unwrap_or(bytes) };
        if !bytes.is_empty() {
            sink(Piece::Line { number, bytes, is_cut });
        }
    }
}
