//! The evidence of the running proxy: filled record by record as the log is written, kept in the state directory.
//!
//! Promise: what the state directory holds is at most [`SAVE_EVERY`] behind the log, and never half written. Without a
//! state directory the process knows only its own time, and says so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::evidence::{Bounds, DAY_MS, Evidence, Taken};
use super::line::{Line, Millis};
use super::outcome::{Input, Report};
use super::policy::Policy;
use super::verdict::judge;

/// The version of its form.
const FORM: u32 = 1;
/// How often it is written when there is something new.
pub const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long accounts without use are remembered.
const NOISE_KEPT_MS: Millis = 60 * DAY_MS;
/// How often old noise is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// A report is made anew when it is older than this.
const FRESH: Duration = Duration::from_secs(1);

/// The evidence of this process and, with a state directory, of those before it.
#[derive(Debug)]
pub struct Live {
    held: Mutex<Held>,
    made: Mutex<Option<(Instant, Arc<Report>)>>,
    path: Option<PathBuf>,
    /// Held as long as this process keeps the evidence: another one would write over it.
    _lock: Option<File>,
    /// The traffic log's name, for the next command.
    words: String,
}

#[derive(Debug)]
struct Held {
    evidence: Evidence,
    input: Input,
    is_dirty: bool,
    /// When old noise was last dropped.
    forgot: Instant,
}

#[derive(Serialize)]
struct Saved<'a> {
    form: u32,
    records: u64,
    evidence: &'a Evidence,
}

#[derive(Deserialize)]
struct Restored {
    form: u32,
    records: u64,
    evidence: Evidence,
}

impl Live {
    /// Takes up what `state_dir` holds of the replica `instance`: replicas may share a directory, for the key in it.
    /// `words` name the traffic log for commands that are shown.
    ///
    /// # Errors
    /// When another process keeps this evidence, and when the file is there and cannot be read. One that makes no sense
    /// is put aside, and said so.
    pub fn open(state_dir: Option<&Path>, instance: &str, words: String) -> io::Result<Live> {
        let path = state_dir.map(|dir| dir.join(format!("evidence-{}.json", file_name(instance))));
        let (restored, lock) = match &path {
            Some(path) => {
                let lock = lock(path)?;
                (restore(path)?, Some(lock))
            }
            None => (None, None),
        };
        let (evidence, records) = restored.unwrap_or_default();
        let held =
            Held { evidence, input: Input { records, ..Input::default() }, is_dirty: false, forgot: Instant::now() };
        Ok(Live { held: Mutex::new(held), made: Mutex::new(None), path, _lock: lock, words })
    }

    /// Takes in a line of the log.
    pub fn observe(&self, line: &[u8]) {
        let now = Timestamp::now().as_millisecond();
        let bounds = Bounds { since: None, until: None, now };
        let Ok(line) = Line::parse(line) else { return };
        let held = &mut *self.held();
        if held.evidence.take(&line, &bounds) != Taken::Duplicate {
            held.input.records += 1;
            held.is_dirty = true;
        }
    }

    /// The report as of now; of a second ago at most.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, report)) = made.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            let _ = at;
            return Arc::clone(report);
        }
        // Judged outside the lock: sessions write records meanwhile.
        let (evidence, input) = {
            let held = self.held();
            (held.evidence.clone(), held.input.clone())
        };
        let policy = Policy {
            words: self.words.clone(),
            is_live: true,
            is_forgetful: self.path.is_none(),
            ..Policy::at(Timestamp::now().as_millisecond())
        };
        let report = Arc::new(judge(&evidence, input, &policy));
        *made = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    /// When clients of each family last used the server, in seconds since 1970.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits of milliseconds are 285,000 years")]
    pub fn last_uses(&self) -> Vec<(String, f64)> {
        let held = self.held();
        let last = held.evidence.people.groups().filter_map(|(_, group, members)| {
            let last = members.filter_map(|(_, person)| person.last_use).max()?;
            Some((group.family.clone(), last as f64 / 1000.0))
        });
        last.collect()
    }

    /// Writes what is new to the state directory. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; it stays to be written.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let saved = {
            let mut held = self.held();
            if !held.is_dirty {
                return Ok(());
            }
            held.is_dirty = false;
            if held.forgot.elapsed() >= FORGET_EVERY {
                held.forgot = Instant::now();
                let before = Timestamp::now().as_millisecond().saturating_sub(NOISE_KEPT_MS);
                held.evidence.forget_noise(before);
            }
            (held.evidence.clone(), held.input.records)
        };
        let written = write(path, &Saved { form: FORM, records: saved.1, evidence: &saved.0 });
        if written.is_err() {
            self.held().is_dirty = true;
        }
        written
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `instance` as a file may be called. Two that become the same cannot run at once: the lock says so.
fn file_name(instance: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    instance.chars().map(plain).collect()
}

fn lock(path: &Path) -> io::Result<File> {
    let path = path.with_extension("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "another sse-sunset holds {}; give each replica an --instance or a --state-dir of its own",
                path.display()
            ),
        ),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

fn restore(path: &Path) -> io::Result<Option<(Evidence, u64)>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?,
    };
    match serde_json::from_slice::<Restored>(&bytes) {
        Ok(restored) if restored.form == FORM => Ok(Some((restored.evidence, restored.records))),
        _ => {
            let aside = path.with_extension("json.unreadable");
            fs::rename(path, &aside)?;
            tracing::error!(
                aside = %aside.display(),
                "the evidence in the state directory makes no sense and was put aside; sse-sunset report on the log still \
                 knows everything"
            );
            Ok(None)
        }
    }
}

/// Under another name first: whoever reads the file finds a whole one.
fn write(path: &Path, saved: &Saved<'_>) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut file = BufWriter::new(file);
    serde_json::to_writer(&mut file, saved)?;
    file.flush()?;
    file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file: File| file.sync_data())?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::{State, Verdict};

    fn line(seq: u64, name: &str, more: &str) -> String {
        format!(
            r#"{{"@timestamp":"{}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"a","boot.id":"b","log.seq":{seq}{more}}}"#,
            crate::clock::now()
        )
    }

    const WHO: &str = r#","legacy.session":"s","identity":"client_id:x","identity.source":"client_id","client.family":"other","client.address":"1""#;

    #[test]
    fn evidence_outlives_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let live = Live::open(Some(dir.path()), "a/b", "LOG".into()).expect("a state");
        live.observe(line(0, "proxy.start", "").as_bytes());
        live.observe(line(1, "legacy.use", WHO).as_bytes());
        live.save().expect("saved");
        let busy = Live::open(Some(dir.path()), "a/b", "LOG".into()).expect_err("it is in use");
        assert!(busy.to_string().contains("--instance"), "{busy}");
        drop(live);
        let again = Live::open(Some(dir.path()), "a/b", "LOG".into()).expect("a state").report();
        assert_eq!((again.verdict, again.input.records), (Verdict::NotYet, 2));
        assert_eq!(again.clients.first().map(|client| client.uses), Some(1));
    }

    #[test]
    fn process_without_a_state_directory_knows_little_and_says_so() {
        let live = Live::open(None, "a", "LOG".into()).expect("a state");
        live.observe(line(0, "proxy.start", "").as_bytes());
        let report = live.report();
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(report.reason.contains("--state-dir"), "{}", report.reason);
    }

    #[test]
    fn damaged_state_is_put_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("evidence-a_b.json"), "{\"form\":1,").expect("written");
        let live = Live::open(Some(dir.path()), "a/b", "LOG".into()).expect("a state");
        assert_eq!(live.report().verdict, Verdict::Unknown);
        assert!(dir.path().join("evidence-a_b.json.unreadable").exists());
    }

    #[test]
    fn old_noise_is_forgotten_and_users_are_not() {
        let mut evidence = Evidence::default();
        let now = Timestamp::now().as_millisecond();
        let bounds = Bounds { since: None, until: None, now };
        for (seq, (name, id)) in
            [("legacy.refused", "old"), ("legacy.use", "user"), ("legacy.refused", "new")].into_iter().enumerate()
        {
            let text = line(u64::try_from(seq).expect("small"), name, &WHO.replace("client_id:x", id));
            let mut line = Line::parse(text.as_bytes()).expect("a record");
            line.at = if id == "new" { now } else { now - 100 * DAY_MS };
            evidence.take(&line, &bounds);
        }
        evidence.forget_noise(now - NOISE_KEPT_MS);
        let report = judge(&evidence, Input::default(), &Policy::at(now));
        let names: Vec<(&str, State)> = report.clients.iter().map(|row| (row.identity.as_str(), row.state)).collect();
        // The use was in a session that nobody ended, and its process still runs.
        assert_eq!(names, [("user", State::Open), ("new", State::Looked)]);
    }
}
