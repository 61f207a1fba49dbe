//! The first POST of a client that tries Streamable HTTP on the legacy URL.
//!
//! It goes through a link, which finds out what the server speaks and says it so: a server of 2026-07-28 is greeted for the
//! client as it is for legacy ones.
//!
//! Where there are other replicas, a session cannot be kept here: its requests would come to any of them. Such a client is
//! answered as one that may not upgrade, and falls back to HTTP+SSE, which works on every replica.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{self, HeaderMap};
use http::{Response, request};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{MadeHere, Place, relayed, through};
use crate::auth::Sender;
use crate::front::reply::{Refused, STREAM_ONLY};
use crate::front::visitor::Visitor;
use crate::front::{Answered, Body, Shared, post};
use crate::mcp::{self, MessageKind, RequestId, error_response};
use crate::net::Ender;
use crate::passthrough::{Content, Ticket};
use crate::traffic::{Client, ClientInfo, random_hex};
use crate::upstream::{Answer, Fault, Item, Link, Replies, forwarded_headers, passed_on};

/// As without the upgrade: no JSON-RPC, which C# would take for the server's word.
const STAYS_LEGACY: Refused = Refused::Method { allow: "GET", text: STREAM_ONLY };

/// An `initialize`.
struct Hello {
    id: RequestId,
    info: ClientInfo,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "clientInfo")]
    client_info: Option<ClientInfo>,
}

#[derive(Deserialize)]
struct Greeted {
    #[serde(rename = "protocolVersion")]
    version: String,
}

/// What a server without sessions said to it.
struct Greeting {
    head: HeaderMap,
    /// The answer.
    message: Bytes,
    /// The version that was settled, if it is no error.
    version: Option<String>,
}

impl Hello {
    fn of(text: &Bytes) -> Option<Self> {
        let [message] = <[_; 1]>::try_from(mcp::parse(text).ok()?).ok()?;
        match message.kind() {
            MessageKind::Request { id, method } if &**method == "initialize" => {
                let info = message.params::<Params>().and_then(|params| params.client_info);
                Some(Hello { id: id.clone(), info: info.unwrap_or_else(|| ClientInfo::new("", "")) })
            }
            _ => None,
        }
    }
}

pub(super) async fn serve(
    shared: &Shared,
    visitor: &Visitor,
    head: request::Parts,
    body: Incoming,
    ender: Ender,
) -> Answered {
    let mut hold = shared.sessions.hold();
    let text = post::whole(body, &shared.config, &mut hold).await?;
    let Some(hello) = Hello::of(&text) else {
        let place = Place::Upgraded(Some(Box::new(visitor.connection(&shared.books))));
        return through::pass(shared, visitor.who(), head, Content::Whole(text), ender, place).await;
    };
    let is_shared = shared.fleet.is_shared();
    if is_shared && shared.upgrades.are_servers() == Some(false) {
        return Err(STAYS_LEGACY);
    }
    shared.census.count();
    let ticket = shared.passthrough.begin(ender).map_err(Refused::Through)?;
    let link = shared.upgrades.link();
    let headers = Arc::new(forwarded_headers(&head.headers, visitor.hop()));
    let answer = ticket.unless_cut(link.post(text, &headers)).await.map_err(Refused::Through)?;
    let answer = answer.map_err(|fault| Refused::Through(fault.into()))?;
    let client = Client { info: Some(hello.info.clone()), ..visitor.client() };
    let session = answer.session_id().map(mcp::copied_value);
    let response = if !answer.status.is_success() {
        relayed(answer, ticket, shared.upgrades.silence())
    } else if let Some(session) = session {
        shared.census.remember(&session, hello.info);
        shared.census.write(&client, Some(visitor.connection(&shared.books)));
        relayed(answer, ticket, shared.upgrades.silence())
    } else if is_shared {
        // It was not known before, and nothing is left of it at the server.
        return Err(STAYS_LEGACY);
    } else {
        let response = greet(shared, link, answer, hello, visitor.sender(), &ticket).await?;
        if response.headers().contains_key(mcp::SESSION_ID) {
            shared.census.write(&client, Some(visitor.connection(&shared.books)));
        }
        response
    };
    Ok(through::leaving(shared, response))
}

/// The server holds no session, so one is held here.
async fn greet(
    shared: &Shared,
    mut link: Link,
    answer: Answer,
    hello: Hello,
    sender: Sender,
    ticket: &Ticket,
) -> Answered {
    let is_servers = answer.is_servers();
    let greeting = ticket.unless_cut(Greeting::read(answer, &hello.id)).await.map_err(Refused::Through)?;
    let mut response = Response::new(Body::text(greeting.message));
    *response.headers_mut() = greeting.head;
    if !is_servers {
        response.extensions_mut().insert(MadeHere);
    }
    if let Some(version) = greeting.version {
        link.negotiated(&version);
        let binding = shared.sessions.bind(random_hex(4), &sender);
        let session = shared.upgrades.keep(link, binding, sender).ok_or(Refused::Crowded)?;
        if is_servers {
            shared.upgrades.opened(&session);
        }
        shared.census.remember(&session, hello.info);
        response.headers_mut().insert(mcp::SESSION_ID, session);
    }
    Ok(response)
}

impl Greeting {
    /// Reads the answer to `id`, in whatever form it comes; there is nothing else to be said before it.
    async fn read(answer: Answer, id: &RequestId) -> Self {
        let mut head = answer.headers.clone();
        passed_on(&mut head);
        // It is written anew, as a document.
        for of_the_old in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG] {
            head.remove(of_the_old);
        }
        head.insert(header::CONTENT_TYPE, super::JSON);
        let status = answer.status.as_u16();
        let mut replies = Replies::of(answer);
        let mut fault = Fault::Unanswered { status };
        while let Some(item) = replies.next().await {
            match item {
                Item::Message(message) if matches!(message.kind(), MessageKind::Response { .. }) => {
                    let version = message.result::<Greeted>().map(|greeted| greeted.version);
                    return Greeting { head, message: message.bytes().clone(), version };
                }
                Item::End(end) => fault = end.fault.unwrap_or(fault),
                Item::Message(_) | Item::Waiting | Item::Garbage(_) => {}
            }
        }
        Greeting { head, message: error_response(id, &fault.to_rpc()), version: None }
    }
}
