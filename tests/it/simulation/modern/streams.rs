//! Answers as they are read: in pieces, cut anywhere, and known to be open for as long as they are.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use sse_sunset::upstream::{Body, Fault};

use super::super::chance::Chance;
use super::super::upstream::Server;

/// An answer under way; whoever gives it up drops this.
#[derive(Debug)]
pub(super) struct Open {
    server: Arc<Server>,
    number: u64,
}

impl Open {
    /// One for the call `token`.
    pub(super) fn new(server: &Arc<Server>, token: &str) -> Self {
        let mut state = server.modern.state();
        state.last_open += 1;
        let number = state.last_open;
        state.open.insert(number, token.to_owned());
        drop(state);
        Open { server: Arc::clone(server), number }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.server.modern.state().open.remove(&self.number);
    }
}

/// A body in pieces of any size. Where it breaks, a part of something more may have come.
pub(super) fn in_pieces<G: Send + 'static>(body: Body, guard: G, chance: Chance) -> Body {
    let start = (body, guard, chance, VecDeque::new());
    let pieces: Pin<Box<dyn Stream<Item = _> + Send>> = stream::unfold(start, next).boxed();
    pieces
}

type Reading<G> = (Body, G, Chance, VecDeque<Result<Bytes, Fault>>);

async fn next<G>((mut body, guard, mut chance, mut ready): Reading<G>) -> Option<(Result<Bytes, Fault>, Reading<G>)> {
    loop {
        if let Some(piece) = ready.pop_front() {
            return Some((piece, (body, guard, chance, ready)));
        }
        match body.next().await? {
            Ok(mut chunk) => {
                while chunk.len() > 1 && chance.one_in(2) {
                    let at = 1 + chance.index(chunk.len() - 1);
                    ready.push_back(Ok(chunk.split_to(at)));
                }
                ready.push_back(Ok(chunk));
            }
            Err(fault) => {
                let more = b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"n\":1}}";
                let at = chance.index(more.len());
                ready.push_back(Ok(Bytes::from_static(more).slice(..at)));
                ready.push_back(Err(fault));
            }
        }
    }
}
