//! What the session hears of one request: notifications, the server's questions, the answer.
//!
//! A server of 2026-07-28 that needs something of the client returns `input_required` and forgets the request. Each entry
//! of it becomes a request to the client, all at once; when all are answered, the request is sent again with the answers
//! (MCP 2026-07-28, patterns/mrtr). What the client cannot or will not answer ends the call where the protocol has no
//! word for it (UPSTREAMS C).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep, sleep_until};

use super::call::{Begun, Call, Leg};
use super::input::{Asking, Outcome};
use super::request::Supplement;
use super::shape::{self, Failed};
use crate::mcp::{self, Message, MessageKind, RpcError, code, error_response};
use crate::upstream::{Answer, Content, End, Fault, Item, Messages};

/// How often a request may be sent again. The drivers of the SDKs stop there too.
const MAX_ROUNDS: u32 = 10;
/// Wait before a request is sent again of which the server wants nothing but that.
const PACE: Duration = Duration::from_millis(250);
/// How long the client may take to answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the session hears meanwhile that the server is not to blame.
const REMINDER: Duration = Duration::from_secs(30);

/// A request that is being answered.
pub(super) struct Telling {
    call: Call,
    begun: Box<Begun>,
    /// Said, and not yet taken.
    queue: VecDeque<Item>,
    phase: Phase,
    rounds: u32,
    held: Arc<AtomicUsize>,
}

enum Phase {
    /// The server's stream is read.
    Reading,
    /// The client is asked.
    Asking(Asking, Instant),
    /// The server only wants to be asked again, then.
    Pausing(Supplement, Instant),
    /// The client has its answer; the rest of the stream says nothing.
    Answered,
    Over,
}

impl Telling {
    pub(super) fn new(call: Call, begun: Box<Begun>, held: Arc<AtomicUsize>) -> Self {
        Telling { call, begun, queue: VecDeque::new(), phase: Phase::Reading, rounds: 0, held }
    }

    /// The answer that the session reads.
    pub(super) fn into_answer(self) -> Answer {
        let (status, held) = (self.begun.status, Arc::clone(&self.held));
        let items = Box::pin(unfold(self, Telling::next));
        Answer {
            status,
            headers: HeaderMap::new(),
            body: Content::Messages(Messages { items, held, is_servers: true }),
        }
    }

    async fn next(mut self) -> Option<(Item, Self)> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Some((item, self));
            }
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Over => return None,
                Phase::Reading => self.read().await,
                Phase::Answered => self.read_rest().await,
                Phase::Asking(asking, until) => self.ask(asking, until).await,
                Phase::Pausing(supplement, until) => self.pause(supplement, until).await,
            }
        }
    }

    async fn read(&mut self) {
        let cancelled = Arc::clone(&self.call.cancelled);
        let item = tokio::select! {
            biased;
            () = cancelled.notified() => return self.give_up(None),
            item = self.begun.next() => item,
        };
        self.phase = Phase::Reading;
        match item {
            Some(Item::Message(message)) => self.hear(&message),
            Some(Item::End(end)) => self.end(end),
            Some(item) => self.queue.push_back(item),
            None => self.end(End { fault: None, last_id: None, retry: None }),
        }
    }

    /// The stream ends with the answer, or soon after; until then its connection is in use.
    async fn read_rest(&mut self) {
        while let Some(item) = self.begun.next().await {
            if matches!(item, Item::End(_)) {
                break;
            }
        }
        self.end(End { fault: None, last_id: None, retry: None });
    }

    fn end(&mut self, end: End) {
        // What breaks off in this era is not taken up again.
        self.queue.push_back(Item::End(End { last_id: None, retry: None, ..end }));
        self.phase = Phase::Over;
    }

    fn hear(&mut self, message: &Message) {
        match message.kind() {
            MessageKind::Notification { method } if &**method == "notifications/cancelled" => {}
            MessageKind::Notification { .. } => {
                let text = shape::notification(&String::from_utf8_lossy(message.bytes())).into_owned();
                self.say(text);
            }
            MessageKind::Request { method, .. } => {
                tracing::warn!(%method, "upstream sent a request, which 2026-07-28 has no place for; it was dropped");
            }
            MessageKind::Response { .. } if !self.begun.is_answer(message) => {
                tracing::debug!("upstream answered what nobody waits for");
            }
            MessageKind::Response { is_error: true, .. } => self.hear_error(message),
            MessageKind::Response { .. } => self.hear_result(message),
        }
    }

    fn hear_error(&mut self, message: &Message) {
        let error = message.error_text().unwrap_or("{}");
        if self.rounds > 0 && is_expired(message) {
            return self.fail("the answer took too long for the server, which has forgotten its question; call again");
        }
        let error = shape::error(&self.call.method, error);
        self.answer_with(message, &error);
    }

    fn hear_result(&mut self, message: &Message) {
        let result = message.result_text().unwrap_or("{}");
        if let Some(required) = shape::input_required(result) {
            return self.require(required);
        }
        let listed = self.call.session.note_list(&self.call.method, result);
        match shape::result(&self.call.method, &listed, &self.call.session.facts.profile) {
            Ok(result) => self.answer_with(message, &result),
            Err(error) => self.answer_error(&error),
        }
    }

    /// Passes the answer on, with its result or error as the client can take it.
    fn answer_with(&mut self, message: &Message, value: &str) {
        self.say(message.with_answer(&self.call.id, value));
        self.phase = Phase::Answered;
    }

    fn answer_error(&mut self, error: &RpcError) {
        let text = error_response(&self.call.id, error);
        self.say(text);
        self.phase = Phase::Answered;
    }

    /// The call ends for want of input.
    fn fail(&mut self, why: &str) {
        match shape::failed_call(&self.call.method, why) {
            Failed::Result(result) => {
                self.say(mcp::result_response(&self.call.id, &result));
                self.phase = Phase::Answered;
            }
            Failed::Error(error) => self.answer_error(&error),
        }
    }

    fn say(&mut self, text: impl Into<Bytes>) {
        match mcp::parse(&text.into()) {
            Ok(messages) => self.queue.extend(messages.into_iter().map(Item::Message)),
            Err(malformed) => self.queue.push_back(Item::Garbage(malformed)),
        }
    }

    /// The server wants something first.
    fn require(&mut self, required: shape::InputRequired) {
        self.rounds += 1;
        let method = &*self.call.method;
        if !matches!(method, "tools/call" | "prompts/get" | "resources/read") {
            let text = format!("upstream asked for input on {method}, which 2026-07-28 does not allow");
            return self.answer_error(&RpcError::new(code::INTERNAL_ERROR, "upstream_error", text));
        }
        if self.rounds > MAX_ROUNDS {
            return self.fail(&format!("the server asked for input more than {MAX_ROUNDS} times"));
        }
        let shape::InputRequired { requests, state } = required;
        if requests.is_empty() && state.is_none() {
            // The same request again would be the same call again, from its beginning.
            return self.fail("the server asked for input and said neither which nor how to go on");
        }
        if requests.is_empty() {
            let supplement = Supplement { responses: Vec::new(), state };
            self.phase = Phase::Pausing(supplement, Instant::now() + PACE);
            return;
        }
        match Asking::begin(&self.call.session, requests, state) {
            Ok((asking, questions)) => {
                for question in questions {
                    self.say(question);
                }
                self.phase = Phase::Asking(asking, Instant::now() + PATIENCE);
            }
            Err(why) => self.fail(&why),
        }
    }

    async fn ask(&mut self, mut asking: Asking, until: Instant) {
        let cancelled = Arc::clone(&self.call.cancelled);
        tokio::select! {
            biased;
            () = cancelled.notified() => return self.give_up(Some(asking)),
            () = asking.hear() => {}
            () = read_on(&mut self.begun) => {}
            () = sleep_until(until) => {
                self.withdraw(&asking);
                return self.fail(&format!("input timed out after {} s; please call again", PATIENCE.as_secs()));
            }
            () = sleep(REMINDER) => {
                self.queue.push_back(Item::Waiting);
            }
        }
        match asking.outcome() {
            Outcome::Open => self.phase = Phase::Asking(asking, until),
            Outcome::Answered(supplement) => {
                let credential = asking.newest_headers();
                self.send_again(supplement, credential).await;
            }
            Outcome::Declined { why, error } => {
                self.withdraw(&asking);
                match (&*self.call.method, error) {
                    // Its own words, where the protocol has a place for them.
                    (method, Some(error)) if method != "tools/call" => self.answer_error(&error),
                    _ => self.fail(&why),
                }
            }
        }
    }

    async fn pause(&mut self, supplement: Supplement, until: Instant) {
        let cancelled = Arc::clone(&self.call.cancelled);
        tokio::select! {
            biased;
            () = cancelled.notified() => self.give_up(None),
            () = sleep_until(until) => self.send_again(supplement, None).await,
        }
    }

    /// The same request again, with what was asked for. Under the credential of the first time; if that has expired while
    /// a person thought, under the one that the answers came with.
    async fn send_again(&mut self, supplement: Supplement, newer: Option<HeaderMap>) {
        let (cancelled, held) = (Arc::clone(&self.call.cancelled), Arc::clone(&self.held));
        let mut newer = newer.filter(|newer| *newer != self.call.headers);
        let mut is_newer = false;
        loop {
            let leg = tokio::select! {
                biased;
                () = cancelled.notified() => return self.give_up(None),
                leg = self.call.leg(Some(&supplement), &held) => leg,
            };
            match leg {
                Ok(Leg::Begun(begun)) => {
                    self.begun = begun;
                    self.phase = Phase::Reading;
                    return;
                }
                Ok(Leg::Rejected(answer)) => {
                    if let Some(headers) = newer.take() {
                        self.call.headers = headers;
                        is_newer = true;
                        continue;
                    }
                    let challenges = answer.challenges().cloned().collect();
                    return self.break_off(Fault::Rejected { status: answer.status.as_u16(), challenges, is_newer });
                }
                Ok(Leg::Outdated) => {
                    let text = "the server was replaced by one of another era while it waited for input";
                    return self.answer_error(&RpcError::new(code::INTERNAL_ERROR, "upstream_replaced", text));
                }
                Err(fault) => return self.break_off(fault),
            }
        }
    }

    fn break_off(&mut self, fault: Fault) {
        self.end(End { fault: Some(fault), last_id: None, retry: None });
    }

    /// Nobody wants the answer any more.
    fn give_up(&mut self, asking: Option<Asking>) {
        if let Some(asking) = asking {
            self.withdraw(&asking);
        }
        self.break_off(Fault::GivenUp);
    }

    /// Takes back what the client was asked.
    fn withdraw(&mut self, asking: &Asking) {
        for withdrawal in asking.withdrawals() {
            self.say(withdrawal);
        }
    }
}

/// Reads on what was left of an answer, so that its connection can be used again.
async fn read_on(begun: &mut Begun) {
    while begun.next().await.is_some() {}
    std::future::pending::<()>().await;
}

/// Whether the server does not accept its own state any more (Python: 10 minutes).
fn is_expired(message: &Message) -> bool {
    let Some((code::INVALID_PARAMS, text)) = message.error() else { return false };
    let text = text.to_ascii_lowercase();
    text.contains("requeststate") || text.contains("request state")
}
