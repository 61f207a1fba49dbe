//! Finds the inputs that arguments name.
//!
//! Promise: each file is taken once, whatever names lead to it (device and inode tell); an argument that leads to
//! nothing is an error. The trap: between the finding and the reading, a log may be rotated, so the reading checks
//! that the name still leads to the same file.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Inputs;
use super::archive::Reader;
use super::order;
use super::problem::{FileName, InputError, ProblemKind, Problems};

/// An input that was found.
pub(super) enum Source {
    /// A regular file: its size is known, and it can be opened twice.
    File(Found),
    /// What can be read once only: standard input, a pipe. Already looked at.
    Stream(FileName, Reader),
}

/// A regular file that was found.
#[derive(Debug)]
pub(super) struct Found {
    name: FileName,
    path: PathBuf,
    id: FileId,
    size: u64,
}

/// Which file it is, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId(metadata.dev(), metadata.ino())
    }
}

/// Finds what `args` name, in the order of reading. `stdin` is called if one of them is `-`.
pub(super) fn find(args: &[String], stdin: impl Fn() -> Box<dyn Read>) -> Result<Inputs, InputError> {
    let mut search = Search::default();
    if args.is_empty() {
        return Err(InputError::NoneNamed);
    }
    for arg in args {
        match Path::new(arg).symlink_metadata() {
            _ if arg == "-" => search.stdin(&stdin)?,
            Err(error) if error.kind() == ErrorKind::NotFound => search.pattern(arg)?,
            // That it cannot be looked at is said where it is opened.
            _ => search.path(Path::new(arg))?,
        }
    }
    let Search { mut files, streams, problems, .. } = search;
    // Rotated pieces come in any order. What shows no time is read last: nothing can come out of order for it.
    files.sort_by_key(|(first, _)| (first.is_none(), *first));
    let sources = files.into_iter().map(|(_, found)| Source::File(found)).chain(streams).collect();
    Ok(Inputs { sources, problems })
}

#[derive(Debug, Default)]
struct Search {
    /// Files that were found, with the time of their first record.
    files: Vec<(Option<jiff::Timestamp>, Found)>,
    /// What can be read once only.
    streams: Vec<Source>,
    /// What `files` and `streams` hold.
    known: HashSet<FileId>,
    has_stdin: bool,
    problems: Problems,
}

impl Search {
    fn stdin(&mut self, stdin: impl Fn() -> Box<dyn Read>) -> Result<(), InputError> {
        let name = FileName::new("(standard input)");
        if std::mem::replace(&mut self.has_stdin, true) {
            self.problems.add(&name, None, ProblemKind::DuplicateFile);
        } else {
            let reader = Reader::new(&name, stdin())?;
            self.streams.push(Source::Stream(name, reader));
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), InputError> {
        let name = FileName::new(pattern);
        if !pattern.contains(['*', '?', '[']) {
            return Err(InputError::Missing(name));
        }
        let matches = glob::glob(pattern)
            .map_err(|error| InputError::Pattern { pattern: name.clone(), problem: error.to_string() })?;
        let mut found_any = false;
        for path in matches {
            let path = path.map_err(|error| InputError::Unreadable {
                file: FileName::new(&error.path().to_string_lossy()),
                error: error.into(),
            })?;
            if path.is_dir() {
                self.problems.add(&FileName::new(&path.to_string_lossy()), None, ProblemKind::SkippedFolder);
            } else {
                self.path(&path)?;
                found_any = true;
            }
        }
        if found_any { Ok(()) } else { Err(InputError::NoMatch(name)) }
    }

    fn path(&mut self, path: &Path) -> Result<(), InputError> {
        let name = FileName::new(&path.to_string_lossy());
        if path.is_dir() {
            return Err(InputError::Folder(name));
        }
        let (file, metadata) = open(&name, path)?;
        let id = FileId::of(&metadata);
        if !self.known.insert(id) {
            self.problems.add(&name, None, ProblemKind::DuplicateFile);
            return Ok(());
        }
        let mut reader = Reader::new(&name, Box::new(file))?;
        if metadata.is_file() {
            let first = order::first_time(&mut reader);
            self.files.push((first, Found { name, path: path.to_owned(), id, size: metadata.len() }));
        } else {
            self.streams.push(Source::Stream(name, reader));
        }
        Ok(())
    }
}

fn open(name: &FileName, path: &Path) -> Result<(File, Metadata), InputError> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    opened.map_err(|error| InputError::Unreadable { file: name.clone(), error })
}

impl Source {
    pub(super) fn name(&self) -> &FileName {
        match self {
            Source::File(found) => &found.name,
            Source::Stream(name, _) => name,
        }
    }

    /// Its size in bytes when it was found, if it has one.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Source::File(found) => Some(found.size),
            Source::Stream(..) => None,
        }
    }

    /// Begins to read.
    pub(super) fn open(self, problems: &mut Problems) -> Result<Reader, InputError> {
        let found = match self {
            Source::Stream(_, reader) => return Ok(reader),
            Source::File(found) => found,
        };
        let (file, metadata) = open(&found.name, &found.path)?;
        if FileId::of(&metadata) != found.id {
            problems.add(&found.name, None, ProblemKind::Replaced);
        }
        Reader::new(&found.name, Box::new(file))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(self.name()).finish()
    }
}
