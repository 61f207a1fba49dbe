//! The logs that a report is made of: which files, in which order, and their lines.
//!
//! Promise: every line of every input is handed out once, or a [`Problem`] says which file and line it was not. Memory
//! does not grow with the inputs. Archives are known by their first bytes, not by their names.
//!
//! The trap: what cannot be read looks like silence, and silence is what makes a verdict SAFE. So nothing is left out
//! without a word: what prevents reading is an [`InputError`], what loses a part is a [`Problem`].

mod archive;
mod lines;
mod order;
mod problem;
mod source;

use std::io;

use lines::{Lines, Piece};
use problem::Problems;
use source::Source;

pub use lines::MAX_LINE;
pub use problem::{FileName, InputError, Problem, ProblemKind};

/// Inputs that were found, in the order in which they will be read. Made by [`open`].
#[derive(Debug)]
pub struct Inputs {
    /// Files by the time of their first record; streams come last, because they cannot be looked into before.
    sources: Vec<Source>,
    /// What was noticed so far.
    problems: Problems,
}

/// One line of an input.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Where it stands.
    pub file: &'a FileName,
    /// Its number there, from 1; of the decompressed text.
    pub number: u64,
    /// Without its end. Never empty, and without a NUL.
    pub bytes: &'a [u8],
    /// It has no end: it may go on, or was cut off. The last line of a log that is being written, of a truncated
    /// archive, or before a region of NULs.
    pub is_cut: bool,
}

/// How far the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read of the inputs as they are stored, archives compressed.
    pub read: u64,
    /// Bytes that there are; `None` when a stream is among the inputs.
    pub total: Option<u64>,
}

/// What was read.
#[derive(Debug)]
pub struct Summary {
    /// Inputs that were read, without duplicates.
    pub files: u64,
    /// Bytes as they are stored, archives compressed.
    pub stored_bytes: u64,
    /// Bytes of text, archives decompressed.
    pub bytes: u64,
    /// Lines that were handed out.
    pub lines: u64,
    /// What was noticed, in the order of the inputs.
    pub problems: Vec<Problem>,
}

/// Finds the inputs that `args` name: paths, globs, and `-` for standard input. A path that exists is never a glob.
///
/// # Errors
/// When an argument names nothing, a folder, or what cannot be opened.
pub fn open(args: &[String]) -> Result<Inputs, InputError> {
    source::find(args, || Box::new(io::stdin().lock()))
}

impl Inputs {
    /// The names, in the order in which they will be read.
    pub fn names(&self) -> impl Iterator<Item = &FileName> {
        self.sources.iter().map(Source::name)
    }

    /// Hands out every line, and tells after every block how far it is.
    ///
    /// # Errors
    /// When the system fails to read an input. An archive that is damaged is a problem instead: the lines before the
    /// damage were handed out.
    pub fn for_each_line(
        self,
        mut each: impl FnMut(Line<'_>),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Summary, InputError> {
        let Inputs { sources, mut problems } = self;
        let total = sources.iter().map(Source::size).sum::<Option<u64>>();
        let mut summary = Summary { files: 0, stored_bytes: 0, bytes: 0, lines: 0, problems: Vec::new() };
        let mut lines = Lines::new();
        for source in sources {
            let (file, size) = (source.name().clone(), source.size());
            let mut reader = source.open(&mut problems)?;
            lines.start();
            loop {
                let mut sink = |piece: Piece<'_>| match piece {
                    Piece::Line { number, bytes, is_cut } => {
                        summary.lines += 1;
                        each(Line { file: &file, number, bytes, is_cut });
                    }
                    Piece::TooLong { number } => problems.add(&file, Some(number), ProblemKind::TooLong),
                    Piece::Nuls { number } => problems.add(&file, Some(number), ProblemKind::Nuls),
                };
                let more = match lines.read_block(&mut reader, &mut sink) {
                    Ok(more) => more,
                    Err(error) => {
                        lines.finish(&mut sink);
                        problems.add(&file, Some(lines.number()), reader.blame(&file, error)?);
                        false
                    }
                };
                progress(Progress { read: summary.stored_bytes + reader.position(), total });
                if !more {
                    break;
                }
            }
            if size.is_some_and(|size| reader.reached_end() && reader.position() < size) {
                problems.add(&file, Some(lines.number()), ProblemKind::Shrunk);
            }
            summary.files += 1;
            summary.stored_bytes += reader.position();
            summary.bytes += lines.bytes();
        }
        summary.problems = problems.into_list();
        Ok(summary)
    }
}

#[cfg(test)]
mod tests;
