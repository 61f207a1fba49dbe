//! The evidence as one of several replicas keeps it: what it tells the others, and what they tell it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::replicas::{self, Replicas};
use super::{Live, Restored};

/// Own documents that may still come back from the board.
const OWN: usize = 8;

/// What a replica knows by itself, for the others.
#[derive(Debug)]
pub struct Document {
    /// Compressed, as [`Live::hear`] takes it.
    pub bytes: Vec<u8>,
    /// The last change that stands in it.
    pub change: u64,
}

/// What a replica has that is not alone.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) replicas: Mutex<Replicas>,
    /// Hashes of the documents that were given last.
    given: Mutex<VecDeque<u64>>,
    /// What the board held of this replica's past is known here.
    is_whole: AtomicBool,
}

impl Live {
    /// There may be other replicas, whose documents will be heard. To be said before anything is asked.
    #[must_use]
    pub fn with_replicas(mut self) -> Live {
        self.shared = Some(Shared::default());
        self
    }

    /// The name of this replica, under which it tells the others what it knows.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What this replica knows by itself, as a document for the others, if it changed since one was last [told](Self::told).
    /// Blocks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn document(&self) -> io::Result<Option<Document>> {
        let (text, change) = {
            let held = self.settled();
            if held.told == held.change {
                return Ok(None);
            }
            (held.saved(), held.change)
        };
        let bytes = replicas::document(&text?)?;
        self.note_own(&bytes);
        Ok(Some(Document { bytes, change }))
    }

    /// A document up to this change got to the others. What nobody says this of is given again, however it was lost: its
    /// reader may have been stopped.
    pub fn told(&self, change: u64) {
        let mut held = self.held();
        held.told = held.told.max(change);
    }

    /// Takes for its own past what the board holds of this replica, if nothing of that is known here: a replica without a
    /// state directory started again. Says whether it did. Blocks.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn adopt(&self, document: &[u8]) -> io::Result<bool> {
        let history = replicas::read(document)?;
        let mut held = self.settled();
        if history.evidence.boots.iter().any(|boot| held.knows(boot)) {
            return Ok(false);
        }
        held.follow(history);
        held.note_change();
        drop(held);
        if let Some(shared) = &self.shared {
            // It may have been heard before, as a namesake's.
            shared.replicas().forget(&self.instance);
        }
        self.forget_report();
        Ok(true)
    }

    /// What the board held of this replica's past is taken up, or cannot be; before that nothing may be put in its place.
    pub fn set_whole(&self) {
        if let Some(shared) = &self.shared {
            shared.is_whole.store(true, Ordering::Relaxed);
        }
    }

    /// Whether what this replica knows may be put on the board in place of what stood there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_whole.load(Ordering::Relaxed))
    }

    /// The replica `instance` tells `document`, or what it told is gone from the board. Blocks.
    ///
    /// # Errors
    /// When the document makes no sense; the report tells of that too.
    pub fn hear(&self, instance: &str, document: Option<&[u8]>) -> io::Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        if document.is_some_and(|document| instance == self.instance && shared.gave(document)) {
            return Ok(());
        }
        // Read before anything is locked: it takes long where many came.
        let read = document.map(replicas::read);
        let mut replicas = shared.replicas();
        let heard = match read {
            // Asked with the replicas locked: what is adopted meanwhile is forgotten there afterwards.
            Some(Ok(told)) if instance == self.instance && !self.is_news(&told) => {
                replicas.forget(instance);
                Ok(())
            }
            Some(read) => replicas.take(instance, read),
            None => {
                replicas.miss(instance, Timestamp::now().as_millisecond());
                Ok(())
            }
        };
        drop(replicas);
        self.forget_report();
        heard
    }

    /// The replicas that are there now, besides this one; one of the same name is one too many.
    pub fn set_peers(&self, instances: Vec<String>) {
        let Some(shared) = &self.shared else { return };
        let is_twin = instances.contains(&self.instance);
        if shared.replicas().set_present(instances.into_iter().collect()) {
            if is_twin {
                tracing::warn!(
                    instance = self.instance,
                    "another replica has the same name, and each hides what the other knows; give each an --instance"
                );
            }
            self.forget_report();
        }
    }

    /// Nothing gets to the other replicas or comes from them at the moment, or it does again.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        let Some(shared) = &self.shared else { return };
        if shared.replicas().set_cut_off(is_cut_off) {
            self.forget_report();
        }
    }

    /// Whether `told`, under this replica's name, holds a start that is not known here: a namesake's, or one that the state
    /// directory has lost.
    fn is_news(&self, told: &Restored) -> bool {
        let held = self.settled();
        told.evidence.boots.iter().any(|boot| !held.knows(boot))
    }

    fn note_own(&self, document: &[u8]) {
        let Some(shared) = &self.shared else { return };
        let mut given = shared.given();
        given.push_back(hash(document));
        if given.len() > OWN {
            given.pop_front();
        }
    }

    /// The next report has to be made anew.
    fn forget_report(&self) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Shared {
    pub(super) fn replicas(&self) -> MutexGuard<'_, Replicas> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `document` is an own one that came back.
    fn gave(&self, document: &[u8]) -> bool {
        self.given().contains(&hash(document))
    }
}

fn hash(document: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    hasher.finish()
}
