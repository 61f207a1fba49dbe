//! Requests of a session that is kept here.
//!
//! Promise: nothing that a server of 2026-07-28 does not see itself has an effect before it has accepted the credential that
//! came with it. Whoever has the session's id and a forged token of its principal could otherwise have its stream, answer what
//! its client was asked, and call its requests off; the id may have come out of a log (see `session::vetting`, which is the
//! same for legacy sessions).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, request};
use hyper::body::Incoming;

use super::sessions::Usage;
use super::{JSON, MadeHere, Place, Said, relayed, replayable, through};
use crate::auth::Sender;
use crate::front::reply::{Refused, plain};
use crate::front::visitor::Visitor;
use crate::front::{Answered, Body, Shared, post};
use crate::mcp::{self, Message, MessageKind, RequestId, error_response};
use crate::net::Ender;
use crate::passthrough::Ticket;
use crate::session::Binding;
use crate::upstream::{self, Answer, Fault, Item, Link, Messages, forwarded_headers};

/// How long the server may take to say what it makes of a credential.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that does not go up as it is.
struct Asking<'a> {
    shared: &'a Shared,
    id: &'a HeaderValue,
    usage: Usage,
    sender: Sender,
    /// As they go up.
    headers: Arc<HeaderMap>,
}

/// What was posted, as far as it matters here.
struct Posted {
    /// The id of the request, if it is one.
    owed: Option<RequestId>,
    /// With a server of 2026-07-28: it has its effect here.
    acts_here: bool,
}

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
    let is_raw = match head.method {
        Method::DELETE => false,
        Method::GET => usage.link.passes() || !usage.link.can_listen(),
        _ => usage.link.passes(),
    };
    if is_raw {
        let mut hold = shared.sessions.hold();
        let content = replayable(shared, &head, body, &mut hold).await?;
        let raw = through::pass(shared, visitor.who(), head, content, ender, Place::Kept).await?;
        learn(&usage, raw.status(), true, &sender);
        return Ok(of(raw, usage));
    }
    let headers = Arc::new(forwarded_headers(&head.headers, visitor.hop()));
    let asking = Asking { shared, id, usage, sender, headers };
    if head.method == Method::DELETE {
        return asking.end(ender).await;
    }
    let witness = shared.census.witness(&head, visitor.who(), None);
    let response = if head.method == Method::GET {
        asking.listen(ender).await?
    } else {
        post::check_media_type(&head.headers)?;
        asking.post(body, ender).await?
    };
    if let Some(witness) = witness.filter(|_| response.status().is_success()) {
        witness.answered(None);
    }
    Ok(through::leaving(shared, response))
}

impl Asking<'_> {
    async fn end(self, ender: Ender) -> Answered {
        let ticket = self.begin(ender)?;
        if let Some(rejection) = self.rejection(&ticket).await? {
            return Ok(self.relayed(rejection, ticket));
        }
        self.shared.upgrades.end(self.id);
        // Its stream ends with it.
        drop(self.usage.take_stream());
        Ok(made_here(plain(StatusCode::OK, "the session is over")))
    }

    async fn listen(self, ender: Ender) -> Answered {
        let ticket = self.begin(ender)?;
        if let Some(rejection) = self.rejection(&ticket).await? {
            return Ok(self.relayed(rejection, ticket));
        }
        let listening = self.usage.link.listen(&self.headers, None);
        let mut answer = done(ticket.unless_cut(listening).await)?;
        match &mut answer.body {
            upstream::Content::Messages(_) if !answer.status.is_success() => {
                Ok(refusal(answer.status, answer.headers, None))
            }
            upstream::Content::Messages(messages) => {
                let items = std::mem::replace(&mut messages.items, futures_util::stream::empty().boxed());
                messages.items = items.take_until(self.usage.take_stream()).boxed();
                Ok(self.relayed(answer, ticket))
            }
            upstream::Content::Bytes(_) => Ok(self.relayed(answer, ticket)),
        }
    }

    async fn post(self, body: Incoming, ender: Ender) -> Answered {
        let mut hold = self.shared.sessions.hold();
        let text = post::whole(body, &self.shared.config, &mut hold).await?;
        let posted = Posted::read(&text, &self.usage.link)?;
        let ticket = self.begin(ender)?;
        if posted.acts_here
            && let Some(rejection) = self.rejection(&ticket).await?
        {
            return Ok(self.relayed(rejection, ticket));
        }
        let answer = done(ticket.unless_cut(self.usage.link.post(text, &self.headers)).await)?;
        let is_servers = answer.is_servers();
        learn(&self.usage, answer.status, is_servers, &self.sender);
        if answer.status == StatusCode::NOT_FOUND && self.usage.link.can_be_lost() {
            self.shared.upgrades.end(self.id);
        }
        let silence = self.shared.upgrades.silence();
        let response = self::posted(answer, posted.owed, ticket, self.usage, silence).await?;
        Ok(if is_servers { response } else { made_here(response) })
    }

    fn begin(&self, ender: Ender) -> Result<Ticket, Refused> {
        self.shared.passthrough.begin(ender).map_err(Refused::Through)
    }

    fn relayed(self, answer: Answer, ticket: Ticket) -> Response<Body> {
        of(relayed(answer, ticket, self.shared.upgrades.silence()), self.usage)
    }

    /// How the server turns the credential down, if it was not known to take it and does not. Whoever cannot be judged now
    /// is not let on either.
    async fn rejection(&self, ticket: &Ticket) -> Result<Option<Answer>, Refused> {
        if self.usage.knows(&self.sender) {
            return Ok(None);
        }
        let vetting = tokio::time::timeout(PATIENCE, self.usage.link.vet(&self.headers));
        let vetted = ticket.unless_cut(vetting).await.map(|vetted| vetted.unwrap_or(Err(Fault::Silent(PATIENCE))));
        let answer = done(vetted)?;
        learn(&self.usage, answer.status, true, &self.sender);
        Ok(Some(answer).filter(Answer::rejects_credential))
    }
}

/// The server has judged the credential. What was answered here says nothing of it.
fn learn(usage: &Usage, status: StatusCode, is_servers: bool, sender: &Sender) {
    if status.is_success() && is_servers {
        usage.accepted(sender);
    } else if status == StatusCode::UNAUTHORIZED {
        usage.turned_down(sender);
    }
}

fn done(answer: Result<Result<Answer, Fault>, crate::passthrough::Failure>) -> Result<Answer, Refused> {
    answer.map_err(Refused::Through)?.map_err(|fault| Refused::Through(fault.into()))
}

fn made_here(mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(MadeHere);
    response
}

impl Posted {
    fn read(text: &Bytes, link: &Link) -> Result<Self, Refused> {
        let messages = mcp::parse(text).map_err(|malformed| Refused::Malformed(malformed.to_string()))?;
        let [message] = messages.as_slice() else {
            // Gone from MCP with 2025-06-18, and the server could not take one.
            return Err(Refused::Malformed("send the messages of this batch one by one".to_owned()));
        };
        let is_modern = link.asks_by_itself();
        Ok(match message.kind() {
            MessageKind::Request { id, method } => {
                // It goes up under the header that we make of one of the two.
                if let Some(key) = message.doubled_subject() {
                    let text = format!("params names {key:?} twice; a checker and the server could each take another");
                    return Err(Refused::Malformed(text));
                }
                let acts_here =
                    matches!(&**method, "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe");
                Posted { owed: Some(id.clone()), acts_here: is_modern && acts_here }
            }
            MessageKind::Notification { method } => {
                Posted { owed: None, acts_here: is_modern && &**method == "notifications/cancelled" }
            }
            MessageKind::Response { .. } => Posted { owed: None, acts_here: is_modern },
        })
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
