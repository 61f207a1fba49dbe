//! What is wrong with inputs, so that a person can find it: each names the file and, where there is one, the line.
//!
//! Promise: at most one problem per file and kind, however often it occurs, with the first line and a count: the memory
//! does not grow with what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::MAX_LINE;

/// What a person calls an input. Shown with control characters escaped: a name is text from outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Arc<str>);

impl FileName {
    /// Names the input that a person calls `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        FileName(name.into())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Why inputs cannot be read. The operator's to mend; exit code 4.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// No argument.
    #[error("no log was named; give files, globs, or - for standard input")]
    NoneNamed,
    /// A path that is none, and no glob either.
    #[error("{0}: there is no such file")]
    Missing(FileName),
    /// A glob without matches.
    #[error("{0}: the pattern matches no file")]
    NoMatch(FileName),
    /// A glob that is none.
    #[error("{pattern}: not a pattern: {problem}")]
    Pattern {
        /// What was given.
        pattern: FileName,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder.
    #[error("{0} is a folder; name its files, such as '{0}/*.log*'")]
    Folder(FileName),
    /// Compressed in a way that is not read.
    #[error("{file} is compressed with {with}, which is not read; give it decompressed, or as gzip or zstd")]
    Compressed {
        /// The file.
        file: FileName,
        /// The format.
        with: &'static str,
    },
    /// The system refuses, or fails.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// The file.
        file: FileName,
        /// What the system says.
        error: io::Error,
    },
}

/// Something that is wrong with an input of which the rest was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub file: FileName,
    /// The line where it occurs first; `None` when it concerns the whole file.
    pub line: Option<u64>,
    /// What.
    pub kind: ProblemKind,
    /// How often in this file.
    pub count: u64,
}

/// What may be wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The file was named before, perhaps by another name; it is read once.
    DuplicateFile,
    /// A folder among the matches of a glob; what is in it is not read.
    SkippedFolder,
    /// Lines longer than [`MAX_LINE`] were skipped.
    TooLong,
    /// Regions filled with NULs, as crashes leave them: what should have stood there is lost.
    Nuls,
    /// An archive ends before its end.
    CutArchive,
    /// An archive cannot be decompressed from here on.
    DamagedArchive(String),
    /// Another file has taken the name since the start of the report.
    Replaced,
    /// The file became shorter since the start of the report.
    Shrunk,
}

impl ProblemKind {
    /// Whether records may be missing because of it, so that silence proves nothing.
    #[must_use]
    pub fn may_hide_records(&self) -> bool {
        !matches!(self, ProblemKind::DuplicateFile)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let (count, plural) = (self.count, if self.count == 1 { "" } else { "s" });
        match &self.kind {
            ProblemKind::DuplicateFile => write!(f, ": this file is named more than once; it is read once"),
            ProblemKind::SkippedFolder => write!(f, ": a folder among the matches; what is in it was not read"),
            ProblemKind::TooLong => write!(f, ": {count} line{plural} longer than {MAX_LINE} bytes skipped"),
            ProblemKind::Nuls => write!(f, ": {count} region{plural} filled with NULs, as crashes leave them"),
            ProblemKind::CutArchive => write!(f, ": the archive is cut off here; give it whole"),
            ProblemKind::DamagedArchive(why) => write!(f, ": the archive is damaged from here on: {why}"),
            ProblemKind::Replaced => write!(f, ": the file was replaced while the report began; run it again"),
            ProblemKind::Shrunk => write!(f, ": the file became shorter while it was read; run the report again"),
        }
    }
}

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// The place in `list` of each kind in each file.
    known: BTreeMap<(FileName, ProblemKind), usize>,
    /// In the order in which they were noticed.
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, file: &FileName, line: Option<u64>, kind: ProblemKind) {
        let at = *self.known.entry((file.clone(), kind.clone())).or_insert(self.list.len());
        match self.list.get_mut(at) {
            Some(problem) => problem.count += 1,
            None => self.list.push(Problem { file: file.clone(), line, kind, count: 1 }),
        }
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.list
    }
}
