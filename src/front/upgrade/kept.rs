//! Requests of a session that is kept here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{self, HeaderMap};
use http::{Method, Response, StatusCode, request};
use hyper::body::Incoming;

use super::sessions::Usage;
use super::{JSON, Place, Said, relayed, through};
use crate::auth::Sender;
use crate::front::reply::{Refused, plain};
use crate::front::visitor::Visitor;
use crate::front::{Answered, Body, Shared, post};
use crate::mcp::{self, Message, MessageKind, RequestId, error_response};
use crate::net::Ender;
use crate::passthrough::{Content, Ticket};
use crate::session::Binding;
use crate::upstream::{self, Answer, Fault, Item, Messages, forwarded_headers};

pub(super) async fn serve(
    shared: &Shared,
    visitor: &Visitor,
    head: request::Parts,
    body: Incoming,
    ender: Ender,
) -> Answered {
    let sender = visitor.sender();
    let id = head.headers.get(mcp::SESSION_ID).ok_or(Refused::UnknownUpgrade)?;
    let lets_in = |binding: &Binding| shared.sessions.lets_in(binding, &sender);
    let usage = shared.upgrades.find(id, lets_in).ok_or(Refused::UnknownUpgrade)?;
    if head.method == Method::DELETE {
        shared.upgrades.end(id);
        return Ok(plain(StatusCode::OK, "the session is over"));
    }
    let is_get = head.method == Method::GET;
    if usage.link.passes() || is_get && !usage.link.can_listen() {
        let raw = through::pass(shared, visitor.who(), head, Content::Stream(body), ender, Place::Kept).await?;
        learn(&usage, raw.status(), &sender);
        return Ok(of(raw, usage));
    }
    let witness = shared.census.witness(&head, visitor.who(), None);
    let headers = Arc::new(forwarded_headers(&head.headers, visitor.hop()));
    let silence = shared.upgrades.silence();
    let response = if is_get {
        let ticket = shared.passthrough.begin(ender).map_err(Refused::Through)?;
        let answer = ticket.unless_cut(usage.link.listen(&headers, None)).await.map_err(Refused::Through)?;
        listened(answer.map_err(|fault| Refused::Through(fault.into()))?, ticket, usage, silence)
    } else {
        post::check_media_type(&head.headers)?;
        let mut hold = shared.sessions.hold();
        let text = post::whole(body, &shared.config, &mut hold).await?;
        let owed = owed(&text)?;
        let ticket = shared.passthrough.begin(ender).map_err(Refused::Through)?;
        let answer = ticket.unless_cut(usage.link.post(text, &headers)).await.map_err(Refused::Through)?;
        let answer = answer.map_err(|fault| Refused::Through(fault.into()))?;
        learn(&usage, answer.status, &sender);
        if answer.status == StatusCode::NOT_FOUND && usage.link.can_be_lost() {
            shared.upgrades.end(id);
        }
        posted(answer, owed, ticket, usage, silence).await?
    };
    if let Some(witness) = witness.filter(|_| response.status().is_success()) {
        witness.answered(None);
    }
    Ok(through::leaving(shared, response))
}

/// The server has judged the credential: a client that renews its token goes on with its session.
fn learn(usage: &Usage, status: StatusCode, sender: &Sender) {
    if status.is_success() {
        usage.binding.accepted(sender.principal);
    } else if status == StatusCode::UNAUTHORIZED {
        usage.binding.turned_down(sender.principal);
    }
}

/// The id of the request that `text` is, if it is one.
fn owed(text: &Bytes) -> Result<Option<RequestId>, Refused> {
    let messages = mcp::parse(text).map_err(|malformed| Refused::Malformed(malformed.to_string()))?;
    match messages.as_slice() {
        [message] => Ok(match message.kind() {
            MessageKind::Request { id, .. } => Some(id.clone()),
            MessageKind::Notification { .. } | MessageKind::Response { .. } => None,
        }),
        // Gone from MCP with 2025-06-18, and the server could not take one.
        _ => Err(Refused::Malformed("send the messages of this batch one by one".to_owned())),
    }
}

/// The stream for what happens outside of calls.
fn listened(answer: Answer, ticket: Ticket, usage: Usage, silence: Duration) -> Response<Body> {
    match answer.body {
        upstream::Content::Messages(_) if !answer.status.is_success() => refusal(answer.status, answer.headers, None),
        _ => of(relayed(answer, ticket, silence), usage),
    }
}

/// The answer to a POST: a document where there is one message and nothing before it, else events.
async fn posted(answer: Answer, owed: Option<RequestId>, ticket: Ticket, usage: Usage, silence: Duration) -> Answered {
    let Answer { status, headers, body } = answer;
    let mut messages = match body {
        upstream::Content::Bytes(_) => {
            return Ok(of(relayed(Answer { status, headers, body }, ticket, silence), usage));
        }
        upstream::Content::Messages(messages) => messages,
    };
    let Some(owed) = owed else { return Ok(refusal(status, headers, None)) };
    // Comments keep a connection alive, and only a stream can carry them.
    let first =
        ticket.unless_cut(tokio::time::timeout(silence, first(&mut messages))).await.map_err(Refused::Through)?;
    let begun = match first {
        Ok(First::End(fault)) if !status.is_success() => return Ok(refusal(status, headers, fault)),
        Ok(First::Message(message)) if matches!(message.kind(), MessageKind::Response { .. }) => {
            return Ok(document(message.bytes().clone()));
        }
        Ok(First::End(fault)) => {
            let fault = fault.unwrap_or(Fault::Unanswered { status: status.as_u16() });
            return Ok(document(error_response(&owed, &fault.to_rpc())));
        }
        Ok(First::Message(message)) => vec![message.bytes().clone()],
        Err(_) => Vec::new(),
    };
    let said = Said::events(messages, &begun, Some(owed), ticket, silence).of(usage);
    let mut response = Response::new(Body::Said(Box::new(said)));
    response.headers_mut().insert(header::CONTENT_TYPE, super::said::EVENT_STREAM);
    response.headers_mut().insert(header::CACHE_CONTROL, super::said::NO_TRANSFORM);
    Ok(response)
}

/// A status without a message of MCP.
fn refusal(status: StatusCode, headers: HeaderMap, fault: Option<Fault>) -> Response<Body> {
    let text = fault.map(|fault| fault.to_string());
    let mut response = plain(status, text.unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_owned()));
    response.headers_mut().extend(headers);
    response
}

fn document(message: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::text(message));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn of(response: Response<Body>, usage: Usage) -> Response<Body> {
    response.map(|body| match body {
        Body::Said(said) => Body::Said(Box::new(said.of(usage))),
        Body::Through(passed) => Body::Through(passed.keeping(usage)),
        other => other,
    })
}

/// What an answer begins with.
enum First {
    Message(Message),
    End(Option<Fault>),
}

/// Cancel safe.
async fn first(messages: &mut Messages) -> First {
    loop {
        match messages.items.next().await {
            Some(Item::Message(message)) => return First::Message(message),
            Some(Item::End(end)) => return First::End(end.fault),
            Some(Item::Waiting | Item::Garbage(_)) => {}
            None => return First::End(None),
        }
    }
}
