//! Decompresses what is compressed, which the first bytes tell: rotated logs are renamed in many ways.
//!
//! Promise: archives of several members or frames are read to the end (`cat a.gz b.gz`, pigz, zstd's seekable form); what
//! a damaged archive yields before the damage is yielded; a failure of the system is told apart from a damage.

use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use super::problem::{FileName, InputError, ProblemKind};

/// How many bytes tell what a file is.
const MAGIC: usize = 6;
/// What is read at once of an archive, in bytes.
const BLOCK: usize = 128 << 10;

/// Reads the text of an input.
pub(super) enum Reader {
    Plain(Stored),
    Gzip(Box<MultiGzDecoder<BufReader<Stored>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Stored>>>),
}

/// The bytes of an input as they are stored.
pub(super) struct Stored {
    /// The first bytes, which were read to see what it is, and how many of them are to be read again.
    head: io::Cursor<Vec<u8>>,
    /// The rest.
    source: Box<dyn Read>,
    /// How many bytes were read.
    read: u64,
    /// The source has no more.
    is_over: bool,
    /// The source failed.
    has_failed: bool,
}

impl Reader {
    /// Looks at the first bytes of `source`.
    ///
    /// # Errors
    /// When it cannot be read, or is compressed in a way that is not read.
    pub(super) fn new(file: &FileName, source: Box<dyn Read>) -> Result<Self, InputError> {
        let mut stored = Stored { head: io::Cursor::default(), source, read: 0, is_over: false, has_failed: false };
        let unreadable = |error| InputError::Unreadable { file: file.clone(), error };
        let mut head = Vec::with_capacity(MAGIC);
        stored.by_ref().take(MAGIC as u64).read_to_end(&mut head).map_err(unreadable)?;
        stored.read = 0;
        stored.head = io::Cursor::new(head.clone());
        let buffered = |stored| BufReader::with_capacity(BLOCK, stored);
        match head.as_slice() {
            [0x1f, 0x8b, ..] => Ok(Reader::Gzip(Box::new(MultiGzDecoder::new(buffered(stored))))),
            // A frame, or one to be skipped, with which some writers begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let decoder = zstd::stream::read::Decoder::with_buffer(buffered(stored)).map_err(unreadable)?;
                Ok(Reader::Zstd(Box::new(decoder)))
            }
            head => match unread_format(head) {
                Some(with) => Err(InputError::Compressed { file: file.clone(), with }),
                None => Ok(Reader::Plain(stored)),
            },
        }
    }

    /// How many bytes were read of what is stored.
    pub(super) fn position(&self) -> u64 {
        self.stored().read
    }

    /// Whether all that is stored was read: of a damaged archive it was not.
    pub(super) fn reached_end(&self) -> bool {
        self.stored().is_over
    }

    /// Whether `error`, which this reader gave, is a damage of the archive, or else the system's.
    ///
    /// # Errors
    /// When it is the system's.
    pub(super) fn blame(&self, file: &FileName, error: io::Error) -> Result<ProblemKind, InputError> {
        if self.stored().has_failed {
            return Err(InputError::Unreadable { file: file.clone(), error });
        }
        // A file that ends too early and one whose damage the decoder meets at the end are the same to an operator.
        if error.kind() == ErrorKind::UnexpectedEof {
            return Ok(ProblemKind::CutArchive);
        }
        Ok(ProblemKind::DamagedArchive(error.to_string()))
    }

    fn stored(&self) -> &Stored {
        match self {
            Reader::Plain(stored) => stored,
            Reader::Gzip(decoder) => decoder.get_ref().get_ref(),
            Reader::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }
}

/// The name of a format that is known, in order to be refused: its bytes would be one foreign line.
fn unread_format(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0x00] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        [b'P', b'K', 0x03, 0x04, ..] => Some("zip"),
        _ => None,
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::Plain(stored) => stored.read(buffer),
            Reader::Gzip(decoder) => decoder.read(buffer),
            Reader::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let again = self.head.read(buffer)?;
        if again > 0 || buffer.is_empty() {
            self.read += again as u64;
            return Ok(again);
        }
        match self.source.read(buffer) {
            Ok(read) => {
                self.is_over |= read == 0;
                self.read += read as u64;
                Ok(read)
            }
            Err(error) => {
                self.has_failed |= error.kind() != ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("position", &self.position()).finish_non_exhaustive()
    }
}
