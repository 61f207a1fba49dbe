//! What other replicas know: each puts its whole evidence on the fleet's board as one document, and reads those of the others.
//!
//! Promise: the same documents make the same report everywhere; a document that makes no sense is a doubt in the report.
//!
//! The trap: a document that is gone from the board tells nothing. Redis may have been flushed, and what a replica knew that
//! is gone for good matters for as long as the window looks back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};

use super::super::evidence::{Boot, Evidence};
use super::super::line::Millis;
use super::super::policy::WINDOW_MS;
use super::noise::Forgotten;
use super::{FORM, Held, Restored, Saved, file_name};

/// Bytes of a document, at most; compressed, as it stands on the board.
const MOST_BYTES: usize = 64 << 20;
/// Bytes of its text.
const MOST_TEXT: u64 = 512 << 20;
/// What is gone from the board is kept for so long after its last record: the window, and half of it.
const KEPT_MS: Millis = WINDOW_MS / 2 * 3;

/// The other replicas.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// What each told last, by instance.
    told: BTreeMap<String, Told>,
    /// Whose last document made no sense.
    unread: BTreeSet<String>,
    /// The instances that are there now; none as long as nobody could be asked.
    present: Option<BTreeSet<String>>,
    /// Nothing comes through at the moment.
    is_cut_off: bool,
}

/// What a replica told.
#[derive(Debug)]
struct Told {
    evidence: Evidence,
    records: u64,
    forgotten: Forgotten,
}

/// What all replicas know together.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) evidence: Evidence,
    pub(super) records: u64,
    pub(super) forgotten: Forgotten,
}

/// The text of `saved`, as it stands on the board.
pub(super) fn document(text: &[u8]) -> io::Result<Vec<u8>> {
    let bytes = zstd::stream::encode_all(text, 1)?;
    if bytes.len() > MOST_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} bytes of evidence are too many", bytes.len()),
        ));
    }
    Ok(bytes)
}

/// What a document says.
pub(super) fn read(bytes: &[u8]) -> io::Result<Restored> {
    read_within(bytes, MOST_TEXT)
}

/// What a document says whose text has at most `most` bytes: a few bytes on the board may be as many as any here.
pub(super) fn read_within(bytes: &[u8], most: u64) -> io::Result<Restored> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    if bytes.len() > MOST_BYTES {
        return Err(invalid(format!("expected at most {MOST_BYTES} bytes, got {}", bytes.len())));
    }
    let mut text = Vec::new();
    zstd::stream::read::Decoder::new(bytes)?.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(invalid(format!("expected at most {most} bytes of text, got more")));
    }
    let restored: Restored = serde_json::from_slice(&text)?;
    if restored.form != FORM {
        return Err(invalid(format!("expected form {FORM}, got {}; is it of another version?", restored.form)));
    }
    Ok(restored)
}

impl Replicas {
    /// The replica `instance` tells `document`.
    pub(super) fn take(&mut self, instance: &str, document: io::Result<Restored>) -> io::Result<()> {
        match document {
            Ok(Restored { evidence, records, forgotten, .. }) => {
                self.unread.remove(instance);
                self.told.insert(instance.to_owned(), Told { evidence, records, forgotten });
                Ok(())
            }
            Err(error) => {
                // What it told before stays: old news of users are news of users.
                self.unread.insert(instance.to_owned());
                Err(error)
            }
        }
    }

    /// What the replica `instance` told is gone from the board.
    pub(super) fn miss(&mut self, instance: &str, now: Millis) {
        self.unread.remove(instance);
        let is_old = |told: &Told| told.latest() < now.saturating_sub(KEPT_MS);
        if self.told.get(instance).is_some_and(is_old) {
            self.told.remove(instance);
        }
    }

    /// Drops what `instance` told.
    pub(super) fn forget(&mut self, instance: &str) {
        self.told.remove(instance);
        self.unread.remove(instance);
    }

    /// These instances are there now; says whether that is news.
    pub(super) fn set_present(&mut self, present: BTreeSet<String>) -> bool {
        let is_new = self.present.as_ref() != Some(&present);
        self.present = Some(present);
        is_new
    }

    /// Nothing comes through, or it does again; says whether that is news.
    pub(super) fn set_cut_off(&mut self, is_cut_off: bool) -> bool {
        std::mem::replace(&mut self.is_cut_off, is_cut_off) != is_cut_off
    }

    /// What every other replica told.
    pub(super) fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.told.values().map(|told| &told.evidence)
    }

    /// What all know, if others told anything; `held` is what `instance` does itself. Put together in the order of the names,
    /// so that every replica says the same.
    pub(super) fn together(&self, instance: &str, held: &Held) -> Option<Together> {
        if self.told.is_empty() {
            return None;
        }
        let own = (instance, (&held.evidence, held.input.records, held.forgotten));
        let others =
            self.told.iter().map(|(name, told)| (name.as_str(), (&told.evidence, told.records, told.forgotten)));
        let mut all: Vec<_> = others.chain([own]).collect();
        all.sort_by_key(|(name, _)| *name);
        let mut together = Together { evidence: Evidence::default(), records: 0, forgotten: Forgotten::default() };
        for (_, (evidence, records, forgotten)) in all {
            together.evidence.merge(evidence);
            together.records = together.records.saturating_add(records);
            together.forgotten.add(forgotten);
        }
        Some(together)
    }

    /// Whether `file` in the state directory is of a replica whose document is here.
    pub(super) fn has_told(&self, file: &str) -> bool {
        self.told.keys().any(|instance| format!("evidence-{}.json", file_name(instance)) == file)
    }

    /// Why what came here may not be all that the others know; each a sentence without its full stop.
    pub(super) fn doubts(&self, instance: &str) -> Vec<String> {
        let mut doubts = Vec::new();
        match &self.present {
            None => doubts.push("What other replicas know has not come here yet: nobody could be asked".to_owned()),
            Some(present) => {
                if present.contains(instance) {
                    doubts.push(format!(
                        "Another replica is called {instance} too, and each hides what the other knows: give each an --instance"
                    ));
                }
                let silent = present.iter().filter(|name| *name != instance && !self.told.contains_key(*name));
                doubts
                    .extend(silent.map(|name| format!("Replica {name} runs and what it knows has not come here yet")));
            }
        }
        if self.is_cut_off && self.present.is_some() {
            doubts.push("The other replicas cannot be reached now, and whom they see does not show here".to_owned());
        }
        doubts.extend(self.unread.iter().map(|name| {
            format!("What replica {name} tells makes no sense here, so that it shows as it was before; do all run one version?")
        }));
        doubts
    }
}

impl Told {
    fn latest(&self) -> Millis {
        self.evidence.boots.iter().map(|boot| boot.runs.latest()).max().unwrap_or(Millis::MIN)
    }
}

impl Held {
    /// What it is, in words for a file or the board.
    pub(super) fn saved(&self) -> io::Result<Vec<u8>> {
        let (records, forgotten) = (self.input.records, self.forgotten);
        Ok(serde_json::to_vec(&Saved { form: FORM, records, forgotten, evidence: &self.evidence })?)
    }

    /// Whether it knows of the start `boot`.
    pub(super) fn knows(&self, boot: &Boot) -> bool {
        self.evidence.boots.iter().any(|known| (&known.instance, &known.id) == (&boot.instance, &boot.id))
    }

    /// Takes `history` for its own past.
    pub(super) fn follow(&mut self, history: Restored) {
        let now = std::mem::replace(&mut self.evidence, history.evidence);
        self.evidence.merge(&now);
        self.input.records = self.input.records.saturating_add(history.records);
        self.forgotten.add(history.forgotten);
    }
}
