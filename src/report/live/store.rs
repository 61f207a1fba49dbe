//! The evidence in the state directory: one file a replica, held by one process, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// A write that takes longer than this hangs, for all that operators can tell.
const HANGS_AFTER: Duration = Duration::from_secs(30);
/// The names of evidence files begin and end so.
const BEGINS: &str = "evidence-";
const ENDS: &str = ".json";

/// The file of one replica, and how writing it goes.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// Held as long as this process keeps the evidence: another one would write over it.
    _lock: File,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// Why the last write failed, if it did.
    error: Option<String>,
    /// When the last write succeeded.
    saved: Option<Timestamp>,
    /// Since when a write has been under way.
    writing: Option<Instant>,
}

/// How the state directory does, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be written, if so.
    pub error: Option<String>,
    /// When this process last wrote it.
    pub saved: Option<Timestamp>,
}

impl Store {
    /// Takes the file of the replica `instance` in `dir` for this process.
    ///
    /// # Errors
    /// When another process has it, or the directory takes no file.
    pub(super) fn hold(dir: &Path, instance: &str) -> io::Result<Store> {
        let path = dir.join(format!("{BEGINS}{}{ENDS}", file_name(instance)));
        let lock = lock(&path.with_extension("lock"))?;
        Ok(Store { path, _lock: lock, health: Mutex::default() })
    }

    /// What the file holds, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|error| named(&self.path, &error)),
        }
    }

    /// Gives the file another name, as nobody can read it, and says which.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn put_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension("json.unreadable");
        fs::rename(&self.path, &aside).map_err(|error| named(&self.path, &error))?;
        Ok(aside)
    }

    /// Puts `bytes` in the place of what it holds. Blocks.
    ///
    /// # Errors
    /// When that cannot be done; what was there stays.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.state().writing = Some(Instant::now());
        let written = replace(&self.path, bytes);
        let mut state = self.state();
        state.writing = None;
        match &written {
            Ok(()) => (state.error, state.saved) = (None, Some(Timestamp::now())),
            Err(error) => state.error = Some(error.to_string()),
        }
        written
    }

    /// How it does.
    pub(super) fn health(&self) -> StoreHealth {
        let state = self.state();
        let hangs = state.writing.map(|since| since.elapsed()).filter(|time| *time >= HANGS_AFTER);
        let error = match hangs {
            Some(time) => Some(format!("a write has been hanging for {} s", time.as_secs())),
            None => state.error.clone(),
        };
        StoreHealth { path: self.path.clone(), error, saved: state.saved }
    }

    /// The evidence files of other replicas in the directory that were written after `since`.
    pub(super) fn others(&self, since: SystemTime) -> Vec<String> {
        let files = self.path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
        let mut others: Vec<String> = files
            .filter(|file| file.path() != self.path)
            .filter(|file| file.metadata().and_then(|of| of.modified()).is_ok_and(|at| at > since))
            .filter_map(|file| file.file_name().into_string().ok())
            .filter(|name| name.starts_with(BEGINS) && name.ends_with(ENDS))
            .collect();
        others.sort_unstable();
        others
    }

    fn state(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `instance` as a file may be called. Two that become the same cannot run at once: the lock says so.
pub(crate) fn file_name(instance: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    instance.chars().map(plain).collect()
}

fn lock(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(|error| named(path, &error))?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "another sse-sunset holds {}; give each replica an --instance or a --state-dir of its own",
                path.display()
            ),
        ),
        fs::TryLockError::Error(error) => named(path, &error),
    })?;
    Ok(file)
}

/// Under another name first: whoever reads the file finds a whole one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&draft, path)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
