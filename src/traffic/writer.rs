//! The thread that owns the sink.
//!
//! Why a thread: a pipe that nobody reads and a disk that hangs block the writer, and must block nothing else.
//! The trap: after a failed or partial write the sink ends in the middle of a line; the next record then starts a new one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output (`-`).
    Stdout,
    /// Appended to a file, which may be renamed or removed under us by a rotation.
    File(PathBuf),
}

/// For people.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Stdout => f.write_str("standard output"),
            Target::File(path) => path.display().fmt(f),
        }
    }
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Write one record, its newline included.
    Line(Vec<u8>),
    /// Open the sink again, and say whether that could be done.
    Reopen(oneshot::Sender<io::Result<()>>),
    /// Say when everything before was written.
    Flush(oneshot::Sender<()>),
}

/// How the sink does; read by the heartbeat and by readiness.
#[derive(Debug, Default)]
pub struct Health {
    lost: AtomicU64,
    failing: AtomicBool,
}

impl Health {
    /// Records lost since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the last write failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(super) fn lose_one(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The sink and what is known of it.
pub(super) struct Writer {
    sink: Sink,
    /// The last write left part of a line behind.
    mid_line: bool,
    health: Arc<Health>,
}

enum Sink {
    Stdout(io::Stdout),
    File { path: PathBuf, file: File, inode: (u64, u64) },
}

impl Writer {
    /// Opens the sink here, so that the caller gets the error, and serves `commands` on a thread until all senders
    /// are gone.
    pub(super) fn start(target: Target, mut commands: mpsc::Receiver<Command>, health: Arc<Health>) -> io::Result<()> {
        let sink = match target {
            Target::Stdout => Sink::Stdout(io::stdout()),
            Target::File(path) => Sink::open(path)?,
        };
        let mid_line = sink.ends_mid_line();
        let mut writer = Writer { sink, mid_line, health };
        std::thread::Builder::new().name("traffic-log".to_owned()).spawn(move || {
            while let Some(command) = commands.blocking_recv() {
                writer.obey(command);
            }
        })?;
        Ok(())
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Line(line) => self.line(line),
            Command::Reopen(done) => {
                let _ = done.send(self.reopen());
            }
            Command::Flush(done) => {
                let _ = done.send(());
            }
        }
    }

    fn line(&mut self, mut line: Vec<u8>) {
        if self.sink.was_replaced() {
            let _ = self.reopen();
        }
        if self.mid_line {
            line.insert(0, b'\n');
        }
        let (written, result) = self.sink.write(&line);
        match result {
            Ok(()) => {
                self.mid_line = false;
                if self.health.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(lost = self.health.lost(), "the traffic log can be written again");
                }
            }
            Err(error) => {
                self.mid_line |= written > 0;
                self.health.lose_one();
                if !self.health.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the traffic log cannot be written; records are lost until it can");
                }
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Sink::File { path, .. } = &self.sink else { return Ok(()) };
        match Sink::open(path.clone()) {
            Ok(sink) => {
                self.mid_line = sink.ends_mid_line();
                self.sink = sink;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the traffic log cannot be reopened; the old file is kept in use");
                Err(error)
            }
        }
    }
}

impl Sink {
    fn open(path: PathBuf) -> io::Result<Sink> {
        // Readable where that is allowed, to see how it ends; a log need not be.
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let file = options.clone().read(true).open(&path).or_else(|_| options.open(&path))?;
        let inode = inode(&file.metadata()?);
        Ok(Sink::File { path, file, inode })
    }

    /// Whether it ends within a line, as a process leaves it that was killed on a full disk.
    fn ends_mid_line(&self) -> bool {
        let Sink::File { file, .. } = self else { return false };
        let mut last = [b'\n'];
        let end = file.metadata().map_or(0, |metadata| metadata.len());
        let read = end.checked_sub(1).map(|at| file.read_at(&mut last, at));
        matches!(read, Some(Ok(1))) && last != *b"\n"
    }

    /// Whether the path now leads elsewhere, as after logrotate's rename.
    fn was_replaced(&self) -> bool {
        match self {
            Sink::Stdout(_) => false,
            Sink::File { path, inode: ours, .. } => leads_to(path) != Some(*ours),
        }
    }

    /// Writes all of `line`, in one `write` unless the sink takes it in parts; tells how much was taken.
    fn write(&mut self, line: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = line.get(written..).filter(|rest| !rest.is_empty()) {
            let result = match self {
                // Stdout would buffer by line; the record is one line, so flushing makes it one write.
                Sink::Stdout(stdout) => stdout.write_all(rest).and_then(|()| stdout.flush()).map(|()| rest.len()),
                Sink::File { file, .. } => file.write(rest),
            };
            match result {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(taken) => written += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

fn leads_to(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| inode(&found))
}

fn inode(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(path: &Path) -> Writer {
        Writer {
            sink: Sink::open(path.to_owned()).expect("a sink"),
            mid_line: false,
            health: Arc::new(Health::default()),
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("a log")
    }

    #[test]
    fn renamed_file_is_left_and_a_new_one_begun() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, rotated) = (dir.path().join("t.log"), dir.path().join("t.log.1"));
        let mut writer = writer(&path);
        writer.obey(Command::Line(b"1\n".to_vec()));
        std::fs::rename(&path, &rotated).expect("rename");
        writer.obey(Command::Line(b"2\n".to_vec()));
        assert_eq!((read(&rotated).as_str(), read(&path).as_str()), ("1\n", "2\n"));
    }

    #[test]
    fn truncated_file_goes_on_by_append() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.log");
        let mut writer = writer(&path);
        writer.obey(Command::Line(b"1\n".to_vec()));
        File::create(&path).expect("truncate");
        writer.obey(Command::Line(b"2\n".to_vec()));
        assert_eq!(read(&path), "2\n");
    }

    #[test]
    fn full_disk_is_counted_and_recovered_from() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.log");
        let mut writer = writer(&path);
        let full = OpenOptions::new().append(true).open("/dev/full").expect("the device");
        let Sink::File { file, .. } = &mut writer.sink else { unreachable!("a file was opened") };
        let good = std::mem::replace(file, full);
        writer.obey(Command::Line(b"1\n".to_vec()));
        assert_eq!((writer.health.lost(), writer.health.is_failing()), (1, true));
        let Sink::File { file, .. } = &mut writer.sink else { unreachable!("a file was opened") };
        *file = good;
        writer.obey(Command::Line(b"2\n".to_vec()));
        assert_eq!((writer.health.lost(), writer.health.is_failing()), (1, false));
        assert_eq!(read(&path), "2\n");
    }

    #[test]
    fn line_that_another_process_left_unended_is_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.log");
        std::fs::write(&path, "{}\n{\"half").expect("written");
        let sink = Sink::open(path.clone()).expect("a sink");
        let mid_line = sink.ends_mid_line();
        let mut writer = Writer { sink, mid_line, health: Arc::new(Health::default()) };
        writer.obey(Command::Line(b"{}\n".to_vec()));
        assert_eq!(read(&path), "{}\n{\"half\n{}\n");
        assert!(!Sink::open(path).expect("a sink").ends_mid_line());
    }

    #[test]
    fn broken_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.log");
        let mut writer = writer(&path);
        writer.obey(Command::Line(b"{\"half".to_vec()));
        writer.mid_line = true;
        writer.obey(Command::Line(b"{}\n".to_vec()));
        assert_eq!(read(&path), "{\"half\n{}\n");
        assert!(!writer.mid_line);
    }
}
