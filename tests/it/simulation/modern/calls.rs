//! What the tools of the simulated server do: they say how far they are, ask for input by returning, and answer.
//!
//! A call is remembered from round to round only to judge what comes: the server itself would know nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sse_sunset::upstream::{Answer, Exchange, Fault};
use tokio::time::sleep;

use super::super::chance::Chance;
use super::super::thread::{Fate, Thread};
use super::super::upstream::{Server, document, stream, text, token_of, whose_token};
use super::streams::{Open, in_pieces};
use super::{TOOL, error};

/// A call as far as it has come.
#[derive(Debug)]
pub(in super::super) struct Call {
    /// What it said at first, member by member.
    params: BTreeMap<String, Box<RawValue>>,
    whose: Option<u32>,
    /// Rounds that are still to come.
    left: u64,
    round: u64,
    /// Notes on its progress.
    notes: u64,
    /// The state it has to come back with, until it does.
    state: Option<String>,
    /// What was asked: by key, the method and what about.
    asked: BTreeMap<String, (&'static str, String)>,
    chance: Chance,
    /// What the leg under way says.
    thread: Option<Arc<Thread>>,
}

/// How a call goes, if it is not served as it should be.
#[derive(Debug, Clone, Copy)]
enum Course {
    Works,
    /// Refused by an error, with this status.
    Refuses(u16, i64),
    /// Refused in words, with this status.
    Speaks(u16),
    Stalls,
    /// An error of the tool, with status 200.
    Fails,
}

impl Course {
    fn draw(chance: &mut Chance) -> Self {
        match chance.below(40) {
            0 => Course::Refuses(400, -32602),
            1 => Course::Refuses(404, -32601),
            2 => Course::Refuses(400, -32021),
            3 => Course::Speaks(chance.pick(&[413, 418, 500, 502])),
            4 if chance.one_in(4) => Course::Stalls,
            5 => Course::Fails,
            _ => Course::Works,
        }
    }
}

impl Call {
    pub(super) fn thread(&self) -> Option<Arc<Thread>> {
        self.thread.clone()
    }

    pub(super) fn waits_for_input(&self) -> bool {
        self.state.is_some() || !self.asked.is_empty()
    }

    fn new(params: BTreeMap<String, Box<RawValue>>, whose: Option<u32>, mut chance: Chance) -> Self {
        let left = match chance.below(16) {
            0..8 => 0,
            8..15 => 1 + chance.below(3),
            _ => 10 + chance.below(3),
        };
        let asked = BTreeMap::new();
        Call { params, whose, left, round: 0, notes: 0, state: None, asked, chance, thread: None }
    }

    /// What the next round wants. `declared` is what the client can be asked for.
    fn require(&mut self, token: &str, declared: &Value) -> Value {
        self.left -= 1;
        self.round += 1;
        self.asked.clear();
        let questions = if self.chance.one_in(4) { 0 } else { 1 + self.chance.below(3) };
        let mut requests = serde_json::Map::new();
        for number in 0..questions {
            let Some(method) = self.any_method(declared) else { break };
            let key = format!("k\"{number}");
            let about = format!("{token}#{}.{number}", self.round);
            requests.insert(key.clone(), json!({"method": method, "params": params(method, token, &about)}));
            self.asked.insert(key, (method, about));
        }
        // Its bytes have to come back: escapes and all.
        let state = format!(r#""v{}\u0041.{token}\/é {}""#, self.round, self.chance.below(1 << 40));
        let stateless = !requests.is_empty() && self.chance.one_in(8);
        self.state = (!stateless).then_some(state);
        let mut result = json!({"resultType": "input_required"});
        if !requests.is_empty() {
            result["inputRequests"] = Value::Object(requests);
        }
        result
    }

    /// Mostly what the client can be asked; servers ask for more (Python does).
    fn any_method(&mut self, declared: &Value) -> Option<&'static str> {
        let all =
            [("elicitation", "elicitation/create"), ("sampling", "sampling/createMessage"), ("roots", "roots/list")];
        let any = self.chance.one_in(24);
        let known: Vec<_> = all.iter().filter(|(name, _)| any || declared.get(*name).is_some()).collect();
        (!known.is_empty()).then(|| known[self.chance.index(known.len())].1)
    }
}

/// What the client is asked.
fn params(method: &str, token: &str, about: &str) -> Value {
    let mut params = json!({"token": token, "about": about, "modern": true,
        "_meta": {"io.modelcontextprotocol/x": 1}});
    let more = match method {
        "elicitation/create" => json!({"mode": "form", "message": about,
            "requestedSchema": {"type": "object", "properties": {"about": {"type": "string"}}}}),
        "sampling/createMessage" => json!({"maxTokens": 10,
            "messages": [{"role": "user", "content": {"type": "text", "text": about}}]}),
        _ => json!({}),
    };
    for (name, value) in more.as_object().into_iter().flatten() {
        params[name] = value.clone();
    }
    params
}

/// What an answer in `inputResponses` is about; `None` where the client would not say.
fn answer_about(method: &str, response: &Value) -> Result<Option<String>, ()> {
    let said = match method {
        "elicitation/create" => match response["action"].as_str() {
            Some("accept") => &response["content"]["about"],
            Some("decline" | "cancel") => return Ok(None),
            _ => return Err(()),
        },
        "sampling/createMessage" => &response["content"]["text"],
        _ => &response["roots"][0]["name"],
    };
    said.as_str().map(|said| Some(said.to_owned())).ok_or(())
}

impl Server {
    pub(super) async fn call_modern(self: &Arc<Self>, exchange: &Exchange, message: &Value) -> Result<Answer, Fault> {
        let id = message["id"].clone();
        let Some(token) = token_of(message) else {
            self.ledger.violation(format!("a call of nobody: {message}"));
            return Ok(document(400, error(&id, -32602, "no token", &Value::Null)));
        };
        let data = json!({"token": token});
        if let Some(refusal) = self.check_headers(exchange, message, &token) {
            return Ok(document(400, error(&id, -32020, refusal, &data)));
        }
        let is_first = !self.modern.state().calls.contains_key(&token)
            || message["params"]["requestState"].is_null() && message["params"]["inputResponses"].is_null();
        let mut chance = self.draw_chance();
        let course = if is_first { Course::draw(&mut chance) } else { Course::Works };
        match course {
            Course::Refuses(status, code) => return Ok(document(status, error(&id, code, "refused", &data))),
            Course::Speaks(status) => {
                if status >= 500 {
                    self.ledger.execute(&token, 0);
                }
                return Ok(text(status, "no", &[]));
            }
            _ => {}
        }
        if is_first {
            self.ledger.execute(&token, 0);
            let call = Call::new(members(exchange), whose_token(&exchange.headers), chance.clone());
            self.modern.state().calls.insert(token.clone(), call);
        } else if let Err(wrong) = self.check_round(&token, exchange, message) {
            self.ledger.violation(format!("{wrong}: {message}"));
            return Ok(document(400, error(&id, -32602, "Invalid or expired requestState", &data)));
        } else if chance.one_in(30) {
            return Ok(document(400, error(&id, -32602, "Invalid or expired requestState", &data)));
        }
        self.begin_leg(&token, &id, message, course, chance).await
    }

    /// One exchange of a call.
    async fn begin_leg(
        self: &Arc<Self>,
        token: &str,
        id: &Value,
        message: &Value,
        course: Course,
        mut chance: Chance,
    ) -> Result<Answer, Fault> {
        let thread = Thread::new(None);
        if let Some(call) = self.modern.state().calls.get_mut(token) {
            call.thread = Some(Arc::clone(&thread));
        }
        let as_document = chance.below(4) < self.modern.manner.documents;
        let cut = if as_document { None } else { self.state().draw_cut(false) };
        let leg = Leg {
            server: Arc::clone(self),
            token: token.to_owned(),
            id: id.clone(),
            meta: message["params"]["_meta"].clone(),
            thread: Arc::clone(&thread),
            chance: chance.clone(),
        };
        tokio::spawn(leg.carry_out(course, as_document));
        let open = Open::new(self, token);
        if !as_document {
            return Ok(stream(in_pieces(thread.connect(0, None, cut), open, chance)));
        }
        match thread.conclusion().await {
            Ok(answer) => Ok(document(200, answer)),
            Err(Fate::Broken) => Err(Fault::Broken("gone".into())),
            Err(Fate::Hanging) => std::future::pending().await,
        }
    }

    /// What the server finds wrong with the headers, rightly or not.
    fn check_headers(&self, exchange: &Exchange, message: &Value, token: &str) -> Option<&'static str> {
        if message["params"]["name"] != TOOL {
            self.ledger.violation(format!("another tool than was called: {message}"));
        }
        let param = exchange.headers.get("mcp-param-token");
        if param.is_some_and(|param| param != token) || (param.is_some() && !self.modern.manner.marks) {
            self.ledger.violation(format!("{token} came with the header {param:?}"));
        }
        let whim = self.draw_chance().one_in(16);
        let mut state = self.modern.state();
        // Once for each call: nothing is learnt from a second time.
        let may_be_refused = !state.mismatched.contains(token);
        if may_be_refused && (whim || (self.modern.manner.marks && param.is_none())) {
            state.mismatched.insert(token.to_owned());
            state.counts.mismatches += 1;
            return Some("Header mismatch");
        }
        if self.modern.manner.marks && param.is_none() {
            return Some("Header mismatch: Mcp-Param-Token is missing");
        }
        None
    }

    /// The same call again, with what it was asked for.
    fn check_round(&self, token: &str, exchange: &Exchange, message: &Value) -> Result<(), String> {
        let mut state = self.modern.state();
        let Some(call) = state.calls.get_mut(token) else { return Err("a round of no call".to_owned()) };
        if call.round == 0 || (call.asked.is_empty() && call.state.is_none()) {
            return Err(format!("round {} was gone through already", call.round));
        }
        let mut params = members(exchange);
        let said = params.remove("requestState").map(|state| state.get().to_owned());
        if said != call.state.take() {
            return Err("another requestState than was given".to_owned());
        }
        params.remove("inputResponses");
        let texts = |params: &BTreeMap<String, Box<RawValue>>| -> Vec<String> {
            params.iter().map(|(name, value)| format!("{name}:{}", value.get())).collect()
        };
        if texts(&params) != texts(&call.params) {
            return Err("other params than at first".to_owned());
        }
        if whose_token(&exchange.headers) != call.whose {
            return Err("the credential of somebody else".to_owned());
        }
        let none = serde_json::Map::new();
        let responses = message["params"]["inputResponses"].as_object().unwrap_or(&none);
        let asked = std::mem::take(&mut call.asked);
        if !responses.keys().eq(asked.keys()) {
            return Err(format!("answers to {:?} and not {:?}", responses.keys(), asked.keys()));
        }
        for (key, (method, about)) in &asked {
            match answer_about(method, &responses[key]) {
                Ok(Some(said)) if said != *about => return Err(format!("{said} in answer to {about}")),
                Ok(_) => {}
                Err(()) => return Err(format!("{} is no answer to {method}", responses[key])),
            }
        }
        state.counts.rounds += 1;
        Ok(())
    }

    pub(super) fn draw_chance(&self) -> Chance {
        let mut state = self.state();
        Chance::new(state.chance.below(u64::MAX), 0)
    }
}

/// The members of `params`, as they came.
fn members(exchange: &Exchange) -> BTreeMap<String, Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Request {
        params: BTreeMap<String, Box<RawValue>>,
    }
    serde_json::from_slice::<Request>(&exchange.body).map(|request| request.params).unwrap_or_default()
}

/// One exchange of a tool at work.
struct Leg {
    server: Arc<Server>,
    token: String,
    id: Value,
    /// The `_meta` of the request.
    meta: Value,
    thread: Arc<Thread>,
    chance: Chance,
}

impl Leg {
    async fn carry_out(mut self, course: Course, as_document: bool) {
        match course {
            Course::Stalls => return,
            Course::Fails => {
                sleep(self.pace()).await;
                let data = json!({"token": self.token});
                // A text that looks like the loss of a session, which there is none of.
                return self.conclude(error(&self.id, -32603, "browser session not found", &data));
            }
            _ => {}
        }
        if !as_document {
            for _ in 0..self.chance.below(4) {
                sleep(self.pace()).await;
                self.note();
            }
        }
        sleep(self.pace()).await;
        if let Some(answer) = self.answer() {
            self.conclude(answer);
        }
    }

    /// What the leg comes to: the next round, or the result.
    fn answer(&self) -> Option<String> {
        let declared = &self.meta["io.modelcontextprotocol/clientCapabilities"];
        let mut state = self.server.modern.state();
        let call = state.calls.get_mut(&self.token)?;
        if call.left > 0 {
            let result = call.require(&self.token, declared).to_string();
            let state = call.state.as_ref().map(|state| format!(r#","requestState":{state}"#)).unwrap_or_default();
            let result = result.strip_suffix('}').unwrap_or(&result);
            return Some(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}{state}}}}}"#, self.id));
        }
        let has_rounds = call.round > 0;
        state.counts.finished_after_rounds += u64::from(has_rounds);
        let result = json!({"resultType": "complete", "content": [], "token": self.token, "session": 0,
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "sim", "version": "2"}}});
        Some(json!({"jsonrpc": "2.0", "id": self.id, "result": result}).to_string())
    }

    /// How far it is, and what it is doing if the client wants to know.
    fn note(&mut self) {
        let mut state = self.server.modern.state();
        let Some(call) = state.calls.get_mut(&self.token) else { return };
        call.notes += 1;
        let note = call.notes;
        drop(state);
        let params = json!({"progressToken": self.token, "progress": note});
        self.thread.say(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string());
        if self.meta["io.modelcontextprotocol/logLevel"].is_string() {
            let params = json!({"level": "info", "data": "x", "token": self.token});
            self.thread.say(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).to_string());
        }
    }

    fn conclude(&self, answer: String) {
        if !self.thread.is_dead() {
            self.thread.say(answer);
            self.thread.finish();
        }
    }

    fn pace(&mut self) -> Duration {
        match self.chance.below(6) {
            0 => Duration::ZERO,
            1 => self.chance.ms(500, 8_000),
            _ => self.chance.ms(1, 60),
        }
    }
}
