//! Replicas of a test: they share a board, and each can be cut off from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::solo::Solo;
use super::{Backend, Board, Boot, Called, Fleet, Peer, Unshared, Whose};

/// What replicas share.
#[derive(Debug)]
pub(crate) struct Stage {
    board: Solo,
    replicas: Mutex<Vec<Arc<Link>>>,
}

/// One replica's way there.
#[derive(Debug)]
pub(crate) struct Link {
    board: watch::Sender<Arc<Board>>,
    /// Nothing gets there, and nothing comes from there.
    is_cut: AtomicBool,
    /// What others put there comes only when something is refused for it.
    is_deaf: AtomicBool,
    peers: Mutex<Vec<Peer>>,
}

#[derive(Debug)]
struct Staged {
    stage: Arc<Stage>,
    link: Arc<Link>,
}

impl Stage {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Stage { board: Solo::new(), replicas: Mutex::default() })
    }

    /// A replica that cannot get there before it is [joined](Self::join).
    pub(crate) fn replica(self: &Arc<Self>) -> (Fleet, Arc<Link>) {
        let link = Arc::new(Link {
            board: watch::channel(Arc::default()).0,
            is_cut: AtomicBool::new(true),
            is_deaf: AtomicBool::new(false),
            peers: Mutex::default(),
        });
        self.replicas.lock().expect("no panic").push(Arc::clone(&link));
        let backend = Staged { stage: Arc::clone(self), link: Arc::clone(&link) };
        (Fleet { backend: Arc::new(backend) }, link)
    }

    /// Has a replica get there, again or for the first time.
    pub(crate) fn join(&self, link: &Link) {
        link.is_cut.store(false, Ordering::SeqCst);
        self.show(link);
    }

    /// The version of an entry.
    pub(crate) fn version(&self, name: &str) -> Option<u64> {
        self.board.board().borrow().get(name).map(|entry| entry.version)
    }

    fn show(&self, link: &Link) {
        if !link.is_cut.load(Ordering::SeqCst) {
            link.board.send_replace(self.board.board().borrow().clone());
        }
    }

    fn show_all(&self) {
        for link in self.replicas.lock().expect("no panic").iter() {
            if !link.is_deaf.load(Ordering::SeqCst) {
                self.show(link);
            }
        }
    }
}

impl Link {
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn deafen(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    /// Another process that this one sees.
    pub(crate) fn meets(&self, instance: &str, config_hash: &str) {
        let boot = Boot::from_bytes([7; 8]);
        let peer = Peer { instance: instance.to_owned(), boot, config_hash: config_hash.to_owned() };
        self.peers.lock().expect("no panic").push(peer);
    }
}

impl Backend for Staged {
    fn new_id(&self) -> String {
        self.stage.board.new_id()
    }

    fn whose(&self, _id: &str) -> Whose {
        Whose::Ours
    }

    fn call(&self, _owner: Boot, _request: Bytes) -> BoxFuture<'_, Called> {
        Box::pin(async { Called::Unreachable })
    }

    fn tell(&self, _word: Bytes) {}

    fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.link.board.subscribe()
    }

    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), Unshared>> {
        let name = name.to_owned();
        Box::pin(async move {
            if self.link.is_cut.load(Ordering::SeqCst) {
                return Err(Unshared::Unreachable);
            }
            let put = self.stage.board.put(&name, bytes).await;
            self.stage.show_all();
            put
        })
    }

    fn replace(&self, name: &str, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, Result<u64, Unshared>> {
        let name = name.to_owned();
        Box::pin(async move {
            if self.link.is_cut.load(Ordering::SeqCst) {
                return Err(Unshared::Unreachable);
            }
            let replaced = self.stage.board.replace(&name, expected, bytes).await;
            self.stage.show_all();
            if replaced == Err(Unshared::Conflict) {
                self.stage.show(&self.link);
            }
            replaced
        })
    }

    fn peers(&self) -> Vec<Peer> {
        self.link.peers.lock().expect("no panic").clone()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
