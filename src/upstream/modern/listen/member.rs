//! One session's part in a shared stream.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::timeout;

use super::request::Rejection;
use super::share::{Next, Opened, Share};
use super::topic::Topic;
use crate::mcp::{RpcError, code};

/// How long [`Member::opened`] waits for the server's word.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long a subscription waits for it: for a request that is under way, and for its own.
const SUBSCRIBING: Duration = Duration::from_secs(15);
/// Longest URI that can be subscribed to, in bytes.
const LONGEST_URI: usize = 8192;

/// A session among those that share a stream; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Member {
    share: Arc<Share>,
    id: u64,
}

/// What a session has to be told. For one reader: of two, only the last to ask is woken.
#[derive(Debug)]
pub(crate) struct Changes {
    share: Arc<Share>,
    id: u64,
}

/// One thing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A notification for the client, whole and clean.
    Notification(Bytes),
    /// The server turned the credential down, and nothing comes after this: the session joins again under another.
    Rejected(Rejection),
}

impl Member {
    pub(super) fn new(share: Arc<Share>, id: u64) -> Self {
        Member { share, id }
    }

    /// What it wants to hear of.
    pub(super) fn wanted(&self) -> BTreeSet<Topic> {
        self.share.wanted(self.id)
    }

    /// Whether nothing more is to be heard: its credential was turned down.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        self.share.lock().ended.is_some()
    }

    /// What the session has to be told, until it leaves or [`Change::Rejected`] has come.
    #[must_use]
    pub(crate) fn changes(&self) -> Changes {
        Changes { share: Arc::clone(&self.share), id: self.id }
    }

    /// What comes of the first request that speaks for this session, after 5 s at most. Cancel safe.
    pub(crate) fn opened(&self) -> impl Future<Output = Opened> + Send + use<> {
        let (share, id) = (Arc::clone(&self.share), self.id);
        async move {
            let mut progress = share.progress.subscribe();
            let waiting = async {
                loop {
                    progress.borrow_and_update();
                    if let Some(opened) = share.opened(id) {
                        return opened;
                    }
                    if progress.changed().await.is_err() {
                        return Opened::NotNow;
                    }
                }
            };
            timeout(FIRST_WORD, waiting).await.unwrap_or(Opened::NotNow)
        }
    }

    /// Subscribes to a resource, and waits until the server has acknowledged it. Given up or in vain, it leaves no trace.
    ///
    /// # Errors
    /// The answer for the client: -32601 where the server has no such subscriptions or does not honour this one, -32603
    /// where it cannot now, among others.
    pub(crate) fn subscribe(&self, uri: &str) -> impl Future<Output = Result<(), RpcError>> + Send + use<> {
        let (share, id) = (Arc::clone(&self.share), self.id);
        let topic = (uri.len() <= LONGEST_URI).then(|| Topic::Resource(uri.into()));
        async move {
            let Some(topic) = topic else {
                let text = format!("the URI is longer than {LONGEST_URI} bytes");
                return Err(RpcError::new(code::INVALID_PARAMS, "uri_too_long", text));
            };
            let mut progress = share.progress.subscribe();
            let (since, wanted_already) = share.subscribe(id, &topic)?;
            let mut trial = Trial { share: &share, id, topic: &topic, is_undone: !wanted_already };
            let waiting = async {
                loop {
                    progress.borrow_and_update();
                    if let Some(verdict) = share.verdict(id, &topic, since) {
                        return verdict;
                    }
                    if progress.changed().await.is_err() {
                        return Err(too_late());
                    }
                }
            };
            let verdict = timeout(SUBSCRIBING, waiting).await.unwrap_or_else(|_| Err(too_late()));
            trial.is_undone = verdict.is_err();
            verdict
        }
    }

    /// Gives a subscription up.
    pub(crate) fn unsubscribe(&self, uri: &str) {
        self.share.unsubscribe(self.id, &Topic::Resource(uri.into()));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.share.leave(self.id);
    }
}

/// A subscription that nothing is known of yet. If it is given up or refused, the resource is not wanted any more.
struct Trial<'a> {
    share: &'a Share,
    id: u64,
    topic: &'a Topic,
    is_undone: bool,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.is_undone {
            self.share.unsubscribe(self.id, self.topic);
        }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        match self.share.next(self.id, cx.waker()) {
            Next::News(text) => Poll::Ready(Some(Change::Notification(text))),
            Next::Rejected(rejection) => Poll::Ready(Some(Change::Rejected(rejection))),
            Next::Nothing => Poll::Pending,
            Next::Over => Poll::Ready(None),
        }
    }
}

fn too_late() -> RpcError {
    let text = format!("the server did not acknowledge the subscription within {} s", SUBSCRIBING.as_secs());
    RpcError::new(code::INTERNAL_ERROR, "subscription_timeout", text)
}
