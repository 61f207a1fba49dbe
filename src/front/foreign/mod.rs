//! POSTs of sessions that another replica owns (WIRE, Replicas).
//!
//! ```text
//! post (body read, limits held) -> letter -> fleet ... fleet -> letter -> post::judge, as its own clients' POSTs
//!                  the client <- answer <- fleet ... fleet <- answer <-
//! ```
//!
//! Promise: the owner judges, and this replica repeats its words; nothing is sent twice from here, and the owner hands nothing
//! on, so it is one hop at most. Trap: all of it has to be over within 2 s of the POST, so the owner waits for the upstream for
//! less than it does for clients of its own.

mod answer;
mod letter;
mod wire;
mod word;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Response};
use tokio::time::Instant;

pub(super) use word::Pace;

use super::post::{self, Content, Posted};
use super::reply::Refused;
use super::sunset;
use super::visitor::Visitor;
use super::{Answered, Body, Front, Shared};
use crate::auth::Sender;
use crate::fleet::{Boot, Called, Handler, Whose};
use crate::traffic::Client;
use crate::upstream::is_looping;
use letter::Letter;
use word::Word;

/// How long before the asker gives up the owner stops waiting for the upstream's word on a credential that is not known.
const BEFORE: Duration = Duration::from_millis(300);
/// And how long before it has answered in any case: the way back takes time too.
const WAY_BACK: Duration = Duration::from_millis(150);

/// Why there is no answer of the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It has surely not got the message.
    Unreachable,
    /// It may have got the message.
    Unanswered,
    /// What it said, or was told, is of another version of this program.
    Unreadable,
}

impl Trouble {
    pub(super) fn text(self) -> &'static str {
        match self {
            Trouble::Unreachable => {
                "the session is on another replica of this proxy, and the replicas cannot reach each other through Redis now; \
                 the message was not delivered, and the session itself goes on: send it again later"
            }
            Trouble::Unanswered => {
                "the session is on another replica of this proxy, which did not answer in time; it is not known whether the \
                 message arrived"
            }
            Trouble::Unreadable => {
                "the session is on another replica of this proxy, which does not understand this one: they run different \
                 versions; it is not known whether the message arrived"
            }
        }
    }
}

/// Which other process owns the session called `id`, if any does.
pub(super) fn owner(shared: &Shared, id: &str) -> Option<Boot> {
    match shared.fleet.whose(id) {
        Whose::Of(owner) => Some(owner),
        Whose::Ours | Whose::Nobody => None,
    }
}

/// Has `owner` judge a POST that was read here.
pub(super) async fn ask(
    shared: &Shared,
    owner: Boot,
    id: String,
    visitor: &Visitor,
    headers: HeaderMap,
    content: Content,
) -> Answered {
    let (voucher, hop) = (visitor.voucher().clone(), visitor.hop().clone());
    let letter = Letter { id, voucher, hop, headers, content }.write();
    match shared.fleet.call(owner, letter).await {
        Called::Answered(answer) => answer::read(answer).ok_or(Refused::Fleet(Trouble::Unreadable)),
        Called::Gone => Err(Refused::UnknownSession),
        Called::Unreachable => Err(Refused::Fleet(Trouble::Unreachable)),
        Called::Unanswered => Err(Refused::Fleet(Trouble::Unanswered)),
    }
}

/// A client asked how to log in. Its session may be on any replica.
pub(super) fn note_login(shared: &Shared, client: &Client) {
    shared.sessions.note_login(client.address, client.user_agent.as_deref());
    if shared.fleet.is_shared() && shared.told.allows(&(client.address, &client.user_agent)) {
        let word = Word::Login { address: client.address, user_agent: client.user_agent.clone() };
        shared.fleet.tell(word.write());
    }
}

impl Handler for Front {
    fn call(&self, request: Bytes, deadline: Instant) -> BoxFuture<'static, Bytes> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { answer::write(answered(&shared, request, deadline).await).await })
    }

    fn hear(&self, word: Bytes) {
        match Word::read(word) {
            Some(Word::Login { address, user_agent }) => {
                self.shared.sessions.note_login(address, user_agent.as_deref());
            }
            None => tracing::debug!("a replica told something that is not understood here: it may run another version"),
        }
    }
}

/// The answer to another replica's client, but for what every answer of that replica says.
async fn answered(shared: &Shared, request: Bytes, deadline: Instant) -> Response<Body> {
    let answer = match Letter::read(request) {
        Some(letter) => judged(shared, letter, deadline).await,
        None => Err(Refused::Fleet(Trouble::Unreadable)),
    };
    let rules = shared.sunset.rules();
    answer.map_err(|refused| sunset::told(refused, &rules)).unwrap_or_else(Refused::into_answer)
}

async fn judged(shared: &Shared, letter: Letter, deadline: Instant) -> Answered {
    let Letter { id, voucher, hop, headers, content } = letter;
    if is_looping(&headers) {
        return Err(Refused::Loop);
    }
    let sender = Sender::of(&headers, &shared.config.credential_headers, voucher.vouched(), hop.client);
    // It is not asked whose the id is: what is not here goes no further.
    match shared.sessions.admits(&id, &sender) {
        Some(true) => {}
        Some(false) => return Err(Refused::UnknownSession),
        None => {
            // So that it is counted.
            let _ = shared.fleet.whose(&id);
            return Err(Refused::UnknownSession);
        }
    }
    let mut hold = shared.sessions.hold();
    let payloads = content.held(&mut hold)?.payloads()?;
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = shared.sessions.patience().min(left.saturating_sub(BEFORE));
    let latest = Some(Instant::now() + left.saturating_sub(WAY_BACK));
    let posted = Posted { id: &id, headers: &headers, hop: &hop, sender, hold, patience, latest };
    post::judge(shared, posted, payloads).await
}
