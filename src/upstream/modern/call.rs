//! One request of the client with a server of 2026-07-28, from its first POST to its answer.
//!
//! Toward the session it is one exchange: a head, then messages, among them the requests that the server's
//! `input_required` turns into. Behind it are as many POSTs as the server wants (MCP 2026-07-28, patterns/mrtr). Giving the
//! exchange up closes the server's stream, which is how this era cancels.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::http::{HeaderMap, StatusCode};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::Notify;

use super::discover::{self, Discovered};
use super::request::{Request, Supplement};
use super::rounds::Telling;
use super::{Reply, Shared};
use crate::mcp::{Message, MessageKind, RequestId, RpcError, code};
use crate::upstream::era::Belief;
use crate::upstream::{Answer, Fault, Item, Replies};

/// Errors that only a server of this era makes of a request of this era, or that any request may be answered with.
const OF_THIS_ERA: [i64; 4] =
    [code::MISSING_CAPABILITY, code::METHOD_NOT_FOUND, code::INVALID_PARAMS, code::INTERNAL_ERROR];

/// A request of the client.
pub(super) struct Call {
    pub(super) session: Arc<Shared>,
    /// The client's id.
    pub(super) id: RequestId,
    pub(super) method: Box<str>,
    pub(super) request: Request,
    /// What it goes up with, every time.
    pub(super) headers: HeaderMap,
    pub(super) cancelled: Arc<Notify>,
    /// Its headers were made anew once.
    was_mended: bool,
}

/// What a POST came to.
pub(super) enum Leg {
    /// An answer that is being read.
    Begun(Box<Begun>),
    /// The credential was turned down.
    Rejected(Answer),
    /// The server is no longer of this era; nothing ran.
    Outdated,
}

/// The answer to one POST, as far as it was read.
pub(super) struct Begun {
    pub(super) status: StatusCode,
    /// The id that the request had.
    pub(super) id: RequestId,
    /// What was read of it already.
    pub(super) ready: VecDeque<Item>,
    pub(super) replies: Metered,
}

/// An answer whose bytes are counted while it is read.
pub(super) struct Metered {
    replies: Replies,
    held: Arc<AtomicUsize>,
}

impl Stream for Metered {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let item = self.replies.poll_next_unpin(cx);
        self.held.store(self.replies.held(), Ordering::Relaxed);
        item
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self.session.calls();
        // The id may be another call's by now.
        if calls.get(&self.id).is_some_and(|cancelled| Arc::ptr_eq(cancelled, &self.cancelled)) {
            calls.remove(&self.id);
        }
    }
}

impl Call {
    /// A request that can be asked, from now on to be cancelled by its id.
    pub(super) fn of(
        session: Arc<Shared>,
        id: RequestId,
        method: &str,
        params: Option<&str>,
        headers: HeaderMap,
    ) -> Result<Self, RpcError> {
        let request = Request::of(method, params, &session.facts, session.level().as_deref())?;
        let cancelled = Arc::new(Notify::new());
        session.calls().insert(id.clone(), Arc::clone(&cancelled));
        Ok(Call { session, id, method: method.into(), request, headers, cancelled, was_mended: false })
    }

    /// Asks, and gives the answer once its head is in.
    pub(super) async fn begin(mut self) -> Result<Reply, Fault> {
        let (cancelled, held) = (Arc::clone(&self.cancelled), Arc::default());
        let leg = tokio::select! {
            biased;
            () = cancelled.notified() => return Err(Fault::GivenUp),
            leg = self.leg(None, &held) => leg?,
        };
        Ok(match leg {
            Leg::Begun(begun) => Reply::Answer(Telling::new(self, begun, held).into_answer()),
            Leg::Rejected(answer) => Reply::Answer(answer),
            Leg::Outdated => Reply::Outdated,
        })
    }

    /// One POST, to the head of its answer; a refusal is read whole, because it may be mended.
    pub(super) async fn leg(&mut self, supplement: Option<&Supplement>, held: &Arc<AtomicUsize>) -> Result<Leg, Fault> {
        loop {
            let more = self.session.tool_headers(&self.method, &self.request);
            let (id, exchange) = self.request.exchange_with(supplement, &self.headers, &more);
            let answer = self.session.upstream.transport().send(exchange).await?;
            if answer.rejects_credential() {
                return Ok(Leg::Rejected(answer));
            }
            let status = answer.status;
            let replies = Metered { replies: Replies::of(answer), held: Arc::clone(held) };
            let mut begun = Box::new(Begun { status, id, ready: VecDeque::new(), replies });
            if !discover::is_refusal(status) {
                return Ok(Leg::Begun(begun));
            }
            begun.read_to_answer().await;
            match begun.refusal() {
                Some((code::HEADER_MISMATCH, _)) if !self.was_mended => {
                    self.mend().await;
                    continue;
                }
                Some((code, true)) if OF_THIS_ERA.contains(&code) || code == code::HEADER_MISMATCH => {}
                _ if self.is_outdated().await => return Ok(Leg::Outdated),
                _ => {}
            }
            return Ok(Leg::Begun(begun));
        }
    }

    /// The headers do not fit: the tool may have changed since it was listed, or never was listed here, or the server does not
    /// decode names (go-sdk).
    async fn mend(&mut self) {
        self.was_mended = true;
        self.request.spell_out();
        if &*self.method == "tools/call"
            && let Some(name) = self.request.name().map(str::to_owned)
        {
            self.session.learn_tool(&name, &self.headers).await;
        }
    }

    /// The refusal may be that of a server of another era, which has taken the place of the one that was found: it is asked.
    async fn is_outdated(&self) -> bool {
        let upstream = &self.session.upstream;
        if upstream.options().era.is_some() {
            return false;
        }
        let is_legacy = matches!(discover::ask(upstream, &self.session.facts, &self.headers).await, Discovered::Legacy);
        if is_legacy {
            upstream.forget_discoveries();
            upstream.believe(Belief::Nothing);
        }
        is_legacy
    }
}

impl Begun {
    /// Reads until the answer is there, or everything is.
    async fn read_to_answer(&mut self) {
        while let Some(item) = self.replies.next().await {
            let is_last = match &item {
                Item::Message(message) => matches!(message.kind(), MessageKind::Response { .. }),
                Item::End(_) => true,
                Item::Garbage(_) | Item::Waiting => false,
            };
            self.ready.push_back(item);
            if is_last {
                return;
            }
        }
    }

    /// The error that was read, and whether it names the request.
    fn refusal(&self) -> Option<(i64, bool)> {
        let message = self.ready.iter().rev().find_map(|item| match item {
            Item::Message(message) => Some(message),
            _ => None,
        })?;
        let (code, _) = message.error()?;
        // A server that says which versions it speaks, and not this one, says all there is to say.
        let names_it = code != code::UNSUPPORTED_VERSION && self.is_answer(message);
        Some((code, names_it))
    }

    /// Whether a message answers the request; errors of the transport come without an id, or with `"server-error"`.
    pub(super) fn is_answer(&self, message: &Message) -> bool {
        match message.kind() {
            MessageKind::Response { id: Some(id), is_error } => {
                *id == self.id || *is_error && id.as_json() == "\"server-error\""
            }
            MessageKind::Response { id: None, is_error } => *is_error,
            MessageKind::Request { .. } | MessageKind::Notification { .. } => false,
        }
    }

    pub(super) async fn next(&mut self) -> Option<Item> {
        match self.ready.pop_front() {
            Some(item) => Some(item),
            None => self.replies.next().await,
        }
    }
}
