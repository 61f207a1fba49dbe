//! What a simulated server says on one of its event streams, and the connections by which it is read.
//!
//! What was said is kept, so that a stream can be read again from any event. A connection may end before the stream does: it
//! breaks, it is closed in order, or it hangs.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use sse_sunset::upstream::{Body, Fault};
use tokio::sync::watch;

/// What becomes of connections whose session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Broken,
    Hanging,
}

/// How a connection ends before its stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Break,
    /// In order, perhaps with a word on when to come back.
    Close {
        retry_ms: Option<u64>,
    },
    Hang,
}

/// One event stream of a session.
#[derive(Debug)]
pub(super) struct Thread {
    /// Its events' ids start with it, if they have any.
    id: Option<String>,
    said: Mutex<Said>,
    changed: watch::Sender<()>,
    /// Connections that read it.
    pub(super) readers: AtomicUsize,
}

#[derive(Debug, Default)]
struct Said {
    messages: Vec<String>,
    done: bool,
    fate: Option<Fate>,
}

impl Thread {
    pub(super) fn new(id: Option<String>) -> Arc<Self> {
        Arc::new(Thread { id, said: Mutex::default(), changed: watch::Sender::new(()), readers: AtomicUsize::new(0) })
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, message: String) {
        self.said().messages.push(message);
        self.changed.send_replace(());
    }

    pub(super) fn finish(&self) {
        self.said().done = true;
        self.changed.send_replace(());
    }

    pub(super) fn kill(&self, fate: Fate) {
        self.said().fate.get_or_insert(fate);
        self.changed.send_replace(());
    }

    pub(super) fn is_dead(&self) -> bool {
        self.said().fate.is_some()
    }

    pub(super) fn length(&self) -> usize {
        self.said().messages.len()
    }

    /// The last message once all is said; `Err` when that will not be.
    pub(super) async fn conclusion(&self) -> Result<String, Fate> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let said = self.said();
                if let Some(fate) = said.fate {
                    return Err(fate);
                }
                if said.done {
                    return Ok(said.messages.last().cloned().unwrap_or_default());
                }
            }
            let _ = changes.changed().await;
        }
    }

    /// A connection that reads from the event `at` on, and ends by `cut` after so many of them.
    pub(super) fn connect(self: &Arc<Self>, at: usize, primes: Option<u64>, cut: Option<(usize, Cut)>) -> Body {
        self.readers.fetch_add(1, Ordering::Relaxed);
        let changes = self.changed.subscribe();
        let connection = Connection {
            thread: Arc::clone(self),
            at,
            end: cut.map(|(more, how)| (at + more, how)),
            changes,
            over: false,
            primes,
        };
        let chunks: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream::unfold(connection, Connection::next));
        chunks
    }
}

struct Connection {
    thread: Arc<Thread>,
    at: usize,
    end: Option<(usize, Cut)>,
    changes: watch::Receiver<()>,
    over: bool,
    /// An event without data goes first, and says when to come back.
    primes: Option<u64>,
}

impl Connection {
    async fn next(mut self) -> Option<(Result<Bytes, Fault>, Self)> {
        if self.over {
            return None;
        }
        if let (Some(retry), Some(id)) = (self.primes.take(), &self.thread.id) {
            let priming = format!("id: {id}-{}\nretry: {retry}\ndata: \n\n", self.at);
            return Some((Ok(Bytes::from(priming)), self));
        }
        loop {
            self.changes.borrow_and_update();
            if let Some((at, cut)) = self.end
                && at <= self.at
            {
                self.over = true;
                match cut {
                    Cut::Break => return Some((Err(Fault::Broken("cut".into())), self)),
                    Cut::Close { retry_ms: None } => return None,
                    Cut::Close { retry_ms: Some(retry) } => {
                        return Some((Ok(Bytes::from(format!("retry: {retry}\n\n"))), self));
                    }
                    Cut::Hang => std::future::pending::<()>().await,
                }
            }
            let (message, done, fate) = {
                let said = self.thread.said();
                (said.messages.get(self.at).cloned(), said.done, said.fate)
            };
            match (fate, message) {
                (Some(Fate::Broken), _) => {
                    self.over = true;
                    return Some((Err(Fault::Broken("gone".into())), self));
                }
                (Some(Fate::Hanging), _) => std::future::pending::<()>().await,
                (None, Some(message)) => {
                    self.at += 1;
                    let mut event = String::with_capacity(message.len() + 40);
                    if let Some(id) = &self.thread.id {
                        let _ = writeln!(event, "id: {id}-{}", self.at);
                    }
                    let _ = write!(event, "data: {message}\n\n");
                    return Some((Ok(Bytes::from(event)), self));
                }
                (None, None) if done => return None,
                (None, None) => {
                    let _ = self.changes.changed().await;
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.thread.readers.fetch_sub(1, Ordering::Relaxed);
    }
}
