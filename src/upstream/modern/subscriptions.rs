//! What one session hears of changes, and how it says which (MCP 2026-07-28, patterns/subscriptions).
//!
//! The session's GET stream and its subscriptions are one membership in a stream that sessions of the same credential
//! share (`listen`).

use std::collections::BTreeSet;
use std::sync::Arc;

use ::http::{HeaderMap, StatusCode, header};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;

use super::listen::{Change, Kinds, Member, Opened, Rejection};
use super::{Shared, not_offered, of_items};
use crate::mcp::{self, Object, RpcError, code};
use crate::upstream::transport::{Content, EVENT_STREAM, Messages};
use crate::upstream::{Answer, End, Fault, Item};

/// Resources that one session may subscribe to.
const MAX_SUBSCRIBED: usize = 1024;

/// A session's part in what is listened to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    joined: Mutex<Joined>,
}

#[derive(Debug, Default)]
struct Joined {
    /// One whose credential was turned down is there to say what the next one wants.
    member: Option<Arc<Member>>,
    uris: BTreeSet<String>,
}

/// Why a subscription was not changed.
pub(super) enum Refused {
    Error(RpcError),
    /// The credential was turned down.
    Rejected(Answer),
}

impl Joined {
    /// The membership, under these headers if there is none that holds.
    fn member(&mut self, session: &Shared, headers: &HeaderMap) -> Arc<Member> {
        let hub = session.upstream.hub();
        if let Some(member) = &self.member {
            if !member.is_over() {
                return Arc::clone(member);
            }
            let member = Arc::new(hub.rejoin(headers, member));
            self.member = Some(Arc::clone(&member));
            return member;
        }
        Arc::clone(self.member.insert(Arc::new(hub.join(headers, session.discovery.offers.changes))))
    }
}

/// Subscribes to a resource, or ends that.
pub(super) async fn change(
    session: &Shared,
    begins: bool,
    params: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), Refused> {
    let uri = params.and_then(Object::of).and_then(|params| params.get("uri").map(str::to_owned));
    let Some(uri) = uri.and_then(|uri| serde_json::from_str::<String>(&uri).ok()) else {
        let text = "params.uri must be a string (sent by the client)";
        return Err(Refused::Error(RpcError::new(code::INVALID_PARAMS, "invalid_params", text)));
    };
    if !session.discovery.offers.subscribe {
        return Err(Refused::Error(not_offered(if begins { "resources/subscribe" } else { "resources/unsubscribe" })));
    }
    let member = {
        let mut joined = session.subscriptions.joined.lock().await;
        if !begins {
            joined.uris.remove(&uri);
            // No reason to join, or to come back under a credential that was turned down.
            if let Some(member) = &joined.member {
                member.unsubscribe(&uri);
            }
            return Ok(());
        }
        if joined.uris.len() >= MAX_SUBSCRIBED {
            let text = format!("a session may subscribe to {MAX_SUBSCRIBED} resources");
            return Err(Refused::Error(RpcError::new(code::INVALID_REQUEST, "too_many_subscriptions", text)));
        }
        joined.member(session, headers)
    };
    // Not under the lock: subscriptions that come together go together.
    let subscribed = member.subscribe(&uri).await;
    match subscribed {
        Ok(()) => {
            session.subscriptions.joined.lock().await.uris.insert(uri);
            Ok(())
        }
        Err(error) => match member.opened().await {
            Opened::Rejected(rejected) => Err(Refused::Rejected(rejection(rejected))),
            _ => Err(Refused::Error(error)),
        },
    }
}

/// The stream that carries changes to the session. It stays open where there is nothing to hear yet: what is subscribed to
/// later comes on it.
pub(super) async fn listen(session: Arc<Shared>, headers: HeaderMap) -> Result<Answer, Fault> {
    let offers = session.discovery.offers;
    if offers.changes == Kinds::default() && !offers.subscribe {
        return Ok(of_items(StatusCode::METHOD_NOT_ALLOWED, Vec::new()));
    }
    let member = session.subscriptions.joined.lock().await.member(&session, &headers);
    if let Opened::Rejected(rejected) = member.opened().await {
        return Ok(rejection(rejected));
    }
    let changes = member.changes().flat_map(|change| {
        let messages = match change {
            Change::Notification(text) => mcp::parse(&text).unwrap_or_default(),
            Change::Rejected(_) => Vec::new(),
        };
        stream::iter(messages.into_iter().map(Item::Message))
    });
    let end = stream::once(async move {
        // The credential holds no more: the session comes again, with another. Until then it is a member.
        drop(session);
        Item::End(End { fault: None, last_id: None, retry: None })
    });
    let messages = Messages { items: changes.chain(end).boxed(), held: Arc::default(), is_servers: true };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, EVENT_STREAM)]);
    Ok(Answer { status: StatusCode::OK, headers, body: Content::Messages(messages) })
}

fn rejection(rejected: Rejection) -> Answer {
    let mut answer = of_items(rejected.status, Vec::new());
    for challenge in rejected.challenges {
        answer.headers.append(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}
