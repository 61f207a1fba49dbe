//! A process that is alone: every session is its own, and the board is its memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Backend, Board, Boot, Called, Entry, Peer, Unshared, Whose};
use crate::traffic::random_hex;

/// Random bytes in a session id.
const RANDOM: usize = 32;

/// The one process there is.
#[derive(Debug)]
pub(super) struct Solo {
    board: watch::Sender<Arc<Board>>,
    /// The version that was given last.
    version: Mutex<u64>,
}

impl Solo {
    pub(super) fn new() -> Self {
        let mut board = Board::default();
        board.read();
        Solo { board: watch::channel(Arc::new(board)).0, version: Mutex::default() }
    }

    /// Sets an entry if `expects` says yes to the one that is there.
    fn set(&self, name: &str, bytes: Bytes, expects: impl FnOnce(Option<&Entry>) -> bool) -> Result<u64, Unshared> {
        let mut last = self.version();
        let mut board = Board::clone(&self.board.borrow());
        if !expects(board.get(name)) {
            return Err(Unshared::Conflict);
        }
        *last += 1;
        board.set(name, Entry { version: *last, bytes });
        self.board.send_replace(Arc::new(board));
        Ok(*last)
    }

    fn version(&self) -> MutexGuard<'_, u64> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Solo {
    fn new_id(&self) -> String {
        random_hex(RANDOM)
    }

    fn whose(&self, _id: &str) -> Whose {
        Whose::Ours
    }

    fn call(&self, _owner: Boot, _request: Bytes) -> BoxFuture<'_, Called> {
        Box::pin(async { Called::Gone })
    }

    fn tell(&self, _word: Bytes) {}

    fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.board.subscribe()
    }

    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), Unshared>> {
        let put = self.set(name, bytes, |_| true);
        Box::pin(async move { put.map(|_| ()) })
    }

    fn replace(&self, name: &str, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, Result<u64, Unshared>> {
        let replaced = self.set(name, bytes, |entry| entry.map(|entry| entry.version) == expected);
        Box::pin(async move { replaced })
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn is_shared(&self) -> bool {
        false
    }
}
