//! Simulated legacy clients: what they post, what they make of events, and how they come back.

mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sse_sunset::auth::{Credential, CredentialHeaders, Sender, Vouched};
use sse_sunset::mcp;
use sse_sunset::session::{Closer, Guest, Payload, Verdict};
use sse_sunset::sse::Event;
use sse_sunset::traffic::{Connection, Principal};
use tokio::time::sleep;

use super::chance::Chance;
use super::ledger::{Name, named, token};
use super::line::{self, Flow, Line};
use super::modern;
use super::world::Stage;

/// How a client behaves when its stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Gives up.
    Python,
    /// Comes back after three seconds without a word, and goes on.
    TypeScript,
    /// The same, and posts nothing while it waits for an answer.
    TypeScriptWaits,
    /// Names its last event, and takes the new endpoint.
    TypeScript10,
    /// The same, and begins anew.
    McpRemote,
    /// Names its last event, and keeps its old endpoint.
    Rmcp,
}

pub(super) const HABITS: [Habit; 6] =
    [Habit::Python, Habit::TypeScript, Habit::TypeScriptWaits, Habit::TypeScript10, Habit::McpRemote, Habit::Rmcp];

impl Habit {
    pub(super) fn names_last_event(self) -> bool {
        matches!(self, Habit::TypeScript10 | Habit::McpRemote | Habit::Rmcp)
    }

    pub(super) fn names_version(self) -> bool {
        matches!(self, Habit::TypeScript | Habit::TypeScriptWaits)
    }
}

/// What the proxy sees of who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// The number of its token, which it may share with others.
    pub(super) token: Option<u32>,
    pub(super) user_agent: &'static str,
    pub(super) address: IpAddr,
}

/// One client: a process from its start to its end.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: Name,
    pub(super) habit: Habit,
    pub(super) identity: Identity,
    pub(super) stage: Arc<Stage>,
    state: Mutex<State>,
    /// Python posts one message at a time.
    writer: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    chance: Chance,
    endpoint: Option<String>,
    line: Option<Arc<Line>>,
    lines: u64,
    version: Option<String>,
    is_initialized: bool,
    came_back: bool,
    last_event_id: Option<HeaderValue>,
    asks: Vec<Ask>,
    /// By request id.
    in_flight: BTreeMap<u64, usize>,
    cancelled: BTreeMap<u64, usize>,
    /// Ids that got the error of a 401: what is posted under them again is taken for the same request, late.
    spent: BTreeSet<u64>,
    next_id: u64,
    /// The last note on the progress of each call, and the last notification of each upstream session.
    notes: BTreeMap<String, u64>,
    notifications: BTreeMap<u64, u64>,
    is_over: bool,
    /// Its connection was always there, and always read.
    is_undisturbed: bool,
    /// Nothing happens to its connection.
    is_steady: bool,
    /// How often it renewed its token.
    renewed: u32,
    /// Cancellations that the proxy took, whose answer may be on the way until the stream has nothing more.
    fences: Vec<usize>,
    /// The session that its stream belongs to.
    named: Option<String>,
    /// The version it asks for, and what it says it can do.
    asks_for: &'static str,
    capabilities: Value,
    /// By our id.
    questions: BTreeMap<String, questions::Open>,
    /// How often it heard that lists had changed, and its resource.
    news: [u64; 2],
    /// The server said that it announces changes of lists.
    hears_of_lists: bool,
}

fn sender(headers: &HeaderMap, address: IpAddr) -> Sender {
    Sender::of(headers, &CredentialHeaders::default(), Vouched::default(), address)
}

/// A request of a client.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) id: u64,
    pub(super) verdict: Option<Verdict>,
    pub(super) answers: u32,
    pub(super) cancelled: bool,
    /// No answer was under way any more when it was cancelled.
    cancelled_surely: bool,
    /// Its answer was on a connection that was cut.
    pub(super) lost: bool,
    /// It was answered with a result.
    pub(super) succeeded: bool,
}

impl Client {
    pub(super) fn new(
        name: Name,
        habit: Habit,
        identity: Identity,
        stage: &Arc<Stage>,
        mut chance: Chance,
    ) -> Arc<Self> {
        let (mut asks_for, mut capabilities) = ("2025-06-18", json!({}));
        if stage.has_eras {
            asks_for = chance.pick(&["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]);
            capabilities = questions::draw_capabilities(&mut chance);
        }
        let person = modern::Person { token: identity.token, capabilities: capabilities.clone() };
        stage.server.modern.meet(name, person);
        let state = State {
            chance,
            endpoint: None,
            line: None,
            lines: 0,
            version: None,
            is_initialized: false,
            came_back: false,
            last_event_id: None,
            asks: Vec::new(),
            in_flight: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            spent: BTreeSet::new(),
            next_id: 0,
            notes: BTreeMap::new(),
            notifications: BTreeMap::new(),
            is_over: false,
            is_undisturbed: true,
            is_steady: false,
            renewed: 0,
            fences: Vec::new(),
            named: None,
            asks_for,
            capabilities,
            questions: BTreeMap::new(),
            news: [0; 2],
            hears_of_lists: false,
        };
        let (stage, writer) = (Arc::clone(stage), tokio::sync::Mutex::default());
        Arc::new(Client { name, habit, identity, stage, state: Mutex::new(state), writer })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.identity.token {
            let renewed = self.state().renewed;
            // A renewed token is its own: who shares one does not share its successor.
            let own = if renewed > 0 { self.name } else { 0 };
            let bearer = format!("Bearer {token}.{renewed}.{own}");
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&bearer).expect("a header"));
        }
        headers
    }

    /// Who it is.
    fn sender(&self) -> Sender {
        sender(&self.headers(), self.identity.address)
    }

    /// Somebody else has got hold of its session's id, and posts to it: nobody's business there, whatever it says.
    pub(super) fn be_intruded_on(self: &Arc<Self>) {
        let (endpoint, ids) = {
            let state = self.state();
            (state.endpoint.clone(), state.in_flight.keys().copied().collect::<Vec<_>>())
        };
        let (Some(endpoint), Some(_)) = (endpoint, self.identity.token) else { return };
        let id = ids.first().copied().unwrap_or_default();
        let said = [
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}),
            json!({"jsonrpc": "2.0", "id": "sse-sunset-1", "result": {"roots": []}}),
            json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}),
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "stolen"}}),
        ];
        let client = Arc::clone(self);
        tokio::spawn(async move {
            for message in said {
                let text = Bytes::from(message.to_string());
                let payloads = mcp::parse(&text).expect("a message").into_iter().map(Payload::Message).collect();
                let intruder = sender(&HeaderMap::new(), "203.0.113.9".parse().expect("an address"));
                let sessions = &client.stage.sessions;
                let verdict = sessions.deliver(&endpoint, payloads, HeaderMap::new(), intruder, sessions.hold()).await;
                if verdict != Verdict::Gone {
                    client.violation(&format!("an intruder, who was answered {verdict:?} to {message}"));
                }
            }
        });
    }

    /// Opens a stream.
    pub(super) async fn open(self: &Arc<Self>) {
        let (line, guest) = {
            let mut state = self.state();
            state.lines += 1;
            state.named = None;
            state.fences.clear();
            let line = Line::new(state.lines);
            let closer = Arc::downgrade(&line);
            let closer = Closer::new(move || {
                if let Some(line) = closer.upgrade() {
                    line.set(Flow::Cut);
                }
            });
            (line, self.guest(&state, closer))
        };
        let guest = Guest { sender: self.sender(), ..guest };
        self.stage.ledger.note(|| {
            let (version, last) = (&guest.version, &guest.last_event_id);
            format!("c{}: opens line {} version {version:?} last {last:?}", self.name, line.number)
        });
        let stream = self.stage.sessions.open(guest, |id| format!("/messages?sessionId={id}")).await;
        let Some(stream) = stream else {
            self.stage.ledger.note(|| format!("c{}: was turned away", self.name));
            return self.return_later();
        };
        if let Some(before) = self.state().line.replace(Arc::clone(&line)) {
            before.set(Flow::Cut);
        }
        tokio::spawn(line::read(Arc::clone(self), stream, line));
    }

    /// Nothing happens to its connection.
    pub(super) fn be_steady(&self) {
        self.state().is_steady = true;
    }

    /// It had its handshake with a proxy that is not there any more, and comes back.
    pub(super) fn be_of_old(&self) {
        let mut state = self.state();
        state.version = Some("2025-06-18".to_owned());
        state.is_initialized = true;
        state.came_back = true;
    }

    fn guest(&self, state: &State, closer: Closer) -> Guest {
        let Identity { user_agent, address, .. } = self.identity;
        let connection = Connection {
            user_agent: Some(user_agent.to_owned()),
            peer_address: String::new(),
            auth_scheme: None,
            // Tells which sessions in the log are this client's.
            path: format!("/c{}", self.name),
            server_address: None,
            origin: None,
            protocol_version: "1.1",
            reconnect: false,
        };
        let client = sse_sunset::traffic::Client {
            principal: Principal::default(),
            info: None,
            user_agent: Some(user_agent.to_owned()),
            address,
        };
        Guest {
            client,
            sender: sender(&HeaderMap::new(), address),
            connection,
            closer,
            bears_comments: true,
            is_probe: false,
            signed: None,
            last_event_id: state.last_event_id.clone().filter(|_| self.habit.names_last_event()),
            version: state.version.clone().filter(|_| self.habit.names_version()),
        }
    }

    /// How much of what was taken has not arrived yet.
    pub(super) fn lag(&self) -> usize {
        let mut state = self.state();
        if state.chance.one_in(2) { 0 } else { state.chance.index(3) }
    }

    /// The stream is over.
    pub(super) fn on_end(self: &Arc<Self>, line: &Arc<Line>) {
        self.stage.ledger.note(|| format!("c{}: line {} is over", self.name, line.number));
        {
            let mut state = self.state();
            if !state.line.as_ref().is_some_and(|current| Arc::ptr_eq(current, line)) {
                return;
            }
            state.line = None;
            state.fences.clear();
            if !self.stage.is_closing() {
                state.is_undisturbed = false;
            }
        }
        self.return_later();
    }

    fn return_later(self: &Arc<Self>) {
        let mut state = self.state();
        if self.habit == Habit::Python {
            state.is_over = true;
        }
        if state.is_over || self.stage.is_closing() {
            return;
        }
        state.came_back = true;
        let wait = match self.habit {
            Habit::Rmcp => state.chance.ms(0, 1_000),
            Habit::TypeScript10 | Habit::McpRemote => state.chance.ms(500, 4_000),
            _ => Duration::from_secs(3),
        };
        drop(state);
        let client = Arc::clone(self);
        tokio::spawn(async move {
            sleep(wait).await;
            let is_wanted = {
                let state = client.state();
                !state.is_over && state.line.is_none() && !client.stage.is_closing()
            };
            if is_wanted {
                client.open().await;
            }
        });
    }

    /// The connection is cut, now or, if nobody notices, after a while.
    pub(super) fn drop_line(self: &Arc<Self>, notices: bool) {
        let mut state = self.state();
        let Some(line) = state.line.clone().filter(|_| !state.is_steady) else { return };
        state.is_undisturbed = false;
        self.stage.ledger.note(|| format!("c{}: drops line {} ({notices})", self.name, line.number));
        if notices {
            return line.set(Flow::Cut);
        }
        let more = u32::try_from(state.chance.below(3)).expect("small");
        let late = state.chance.ms(500, 70_000);
        line.set(Flow::Frozen(more));
        state.line = None;
        drop(state);
        tokio::spawn(async move {
            sleep(late).await;
            line.set(Flow::Cut);
        });
        self.return_later();
    }

    /// The client reads nothing for a while.
    pub(super) fn block(self: &Arc<Self>, time: Duration) {
        let mut state = self.state();
        let Some(line) = state.line.clone().filter(|_| !state.is_steady) else { return };
        state.is_undisturbed = false;
        let more = u32::try_from(state.chance.below(3)).expect("small");
        line.set(Flow::Blocked(more));
        drop(state);
        tokio::spawn(async move {
            sleep(time).await;
            if matches!(line.flow(), Flow::Blocked(_)) {
                line.set(Flow::Flowing);
            }
        });
    }

    /// The process ends.
    pub(super) fn die(self: &Arc<Self>) {
        {
            let mut state = self.state();
            (state.is_over, state.is_steady) = (true, false);
        }
        self.drop_line(true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    pub(super) fn has_line(&self) -> bool {
        self.state().line.is_some()
    }

    /// How often it heard that lists had changed, and its resource.
    pub(super) fn news(&self) -> [u64; 2] {
        self.state().news
    }

    /// Whether an answer is owed to it.
    pub(super) fn waits(&self) -> bool {
        !self.state().in_flight.is_empty()
    }

    pub(super) fn is_undisturbed(&self) -> bool {
        self.state().is_undisturbed
    }

    pub(super) fn asks(&self) -> Vec<Ask> {
        self.state().asks.clone()
    }

    /// Whether it would ask something now.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.state();
        let waits = self.habit == Habit::TypeScriptWaits && state.came_back && !state.in_flight.is_empty();
        state.is_initialized && state.endpoint.is_some() && !state.is_over && !waits
    }

    /// Asks something, and gives the number of the request.
    pub(super) fn ask(self: &Arc<Self>, method: &'static str) -> usize {
        let mut state = self.state();
        let number = state.asks.len();
        let mut id = state.next_id;
        while state.in_flight.contains_key(&id) || state.cancelled.contains_key(&id) || state.spent.contains(&id) {
            id += 1;
        }
        // Ids are used again once they were answered.
        state.next_id = (id + 1) % 12;
        state.in_flight.insert(id, number);
        let (verdict, answers, cancelled, cancelled_surely, lost) = (None, 0, false, false, false);
        let succeeded = false;
        state.asks.push(Ask { method, id, verdict, answers, cancelled, cancelled_surely, lost, succeeded });
        let (asks_for, capabilities) = (state.asks_for, state.capabilities.clone());
        drop(state);
        let token = token(self.name, number);
        let meta = json!({"token": token, "progressToken": token});
        let params = match method {
            "initialize" => json!({"_meta": meta, "protocolVersion": asks_for, "capabilities": capabilities,
                "clientInfo": {"name": format!("c{}", self.name), "version": "1"}}),
            "tools/call" => json!({"_meta": meta, "name": modern::TOOL, "arguments": {"token": token}}),
            "logging/setLevel" => json!({"_meta": meta, "level": "info"}),
            "resources/subscribe" | "resources/unsubscribe" => json!({"_meta": meta, "uri": modern::uri(self.name)}),
            _ => json!({"_meta": meta}),
        };
        self.post(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}), Some(number), None);
        number
    }

    /// Gives up what it asked last.
    pub(super) fn cancel(self: &Arc<Self>) {
        let mut state = self.state();
        let newest = state.in_flight.iter().rev().find(|(_, ask)| state.asks[**ask].method != "initialize");
        let Some((id, ask)) = newest.map(|(id, ask)| (*id, *ask)) else { return };
        if state.asks[ask].verdict.is_none() {
            return;
        }
        state.in_flight.remove(&id);
        state.cancelled.insert(id, ask);
        state.asks[ask].cancelled = true;
        drop(state);
        self.stage.ledger.note(|| format!("c{}: cancels {id}", self.name));
        let token = token(self.name, ask);
        let params = json!({"_meta": {"token": token}, "requestId": id, "reason": "no more"});
        self.post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}), None, Some(ask));
        if self.stage.has_eras {
            self.check_cancelled(ask);
        }
    }

    /// What was cancelled is closed at the server, unless something keeps the proxy from hearing of it.
    fn check_cancelled(self: &Arc<Self>, ask: usize) {
        let (client, before) = (Arc::clone(self), self.stage.server.disturbances());
        tokio::spawn(async move {
            sleep(Duration::from_secs(20)).await;
            let token = token(client.name, ask);
            let server = &client.stage.server;
            let is_surely = client.state().asks[ask].cancelled_surely;
            if is_surely && server.disturbances() == before && server.is_open(&token) {
                client.violation(&format!("nothing more of {token}, which is not closed at the server"));
            }
        });
    }

    /// Says something that wants no answer.
    pub(super) fn notify(self: &Arc<Self>, method: &str) {
        let params = json!({"_meta": {"token": token(self.name, 0)}});
        self.post(json!({"jsonrpc": "2.0", "method": method, "params": params}), None, None);
    }

    fn post(self: &Arc<Self>, message: Value, ask: Option<usize>, cancels: Option<usize>) {
        let Some(endpoint) = self.state().endpoint.clone() else { return };
        let client = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = if client.habit == Habit::Python { Some(client.writer.lock().await) } else { None };
            let text = Bytes::from(message.to_string());
            client.stage.ledger.note(|| format!("c{}: posts {message}", client.name));
            let payloads = mcp::parse(&text).expect("a message").into_iter().map(Payload::Message).collect();
            let (headers, mut hold) = (client.headers(), client.stage.sessions.hold());
            assert!(hold.grow(text.len()), "messages are small");
            let sender = sender(&headers, client.identity.address);
            let verdict = client.stage.sessions.deliver(&endpoint, payloads, headers, sender, hold).await;
            if let Verdict::Rejected(_) = verdict
                && client.renew(sender.credential)
            {
                return client.post(message, ask, cancels);
            }
            client.on_verdict(&verdict, ask, cancels);
        });
    }

    /// Renews its token, if that is what was turned down. Returns whether it is worth another try.
    fn renew(&self, rejected: Credential) -> bool {
        let is_current = self.sender().credential == rejected;
        let mut state = self.state();
        state.renewed += u32::from(is_current);
        !state.is_over && state.renewed < 50
    }

    fn on_verdict(self: &Arc<Self>, verdict: &Verdict, ask: Option<usize>, cancels: Option<usize>) {
        if *verdict != Verdict::Accepted {
            self.stage.ledger.note(|| format!("c{}: {verdict:?} for {ask:?}", self.name));
        }
        let mut state = self.state();
        if let Some(ask) = ask {
            state.asks[ask].verdict = Some(verdict.clone());
            let (id, method) = (state.asks[ask].id, state.asks[ask].method);
            if *verdict == Verdict::Gone && state.in_flight.get(&id) == Some(&ask) && method == "initialize" {
                drop(state);
                self.begin_again(ask);
                return;
            }
        }
        let is_heard = state.line.is_some() && state.named.is_some() && state.named == state.endpoint;
        if let Some(ask) = cancels.filter(|_| *verdict == Verdict::Accepted && is_heard) {
            state.fences.push(ask);
        }
    }

    /// Its stream has nothing more for now, and all of it has arrived: what was cancelled before must not be answered now.
    pub(super) fn on_quiet(&self, fences: usize) {
        let mut state = self.state();
        let fences = fences.min(state.fences.len());
        let certain: Vec<_> = state.fences.drain(..fences).collect();
        for ask in certain {
            state.asks[ask].cancelled_surely = true;
        }
    }

    /// How many cancellations the proxy has taken.
    pub(super) fn fences(&self) -> usize {
        self.state().fences.len()
    }

    /// An event arrived.
    pub(super) fn on_event(self: &Arc<Self>, line: &Arc<Line>, event: &Event, id: Option<Bytes>) {
        let text = String::from_utf8_lossy(&event.data).into_owned();
        self.stage.ledger.note(|| format!("c{}: line {} gets {text:.160}", self.name, line.number));
        if event.kind.as_deref() == Some(b"endpoint") {
            return self.on_endpoint(&text);
        }
        if let Some(id) = id {
            self.state().last_event_id = HeaderValue::from_bytes(&id).ok();
        }
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        match (message["method"].as_str(), &message["id"]) {
            (None, id) => self.on_answer(id, &message),
            (Some(method), Value::Null) => self.on_notification(method, &message["params"]),
            (Some(method), id) => self.on_question(line, method, id, &message["params"]),
        }
    }

    fn on_endpoint(self: &Arc<Self>, path: &str) {
        let named = path.rsplit('=').next().unwrap_or_default().to_owned();
        let mut state = self.state();
        state.named = Some(named.clone());
        if state.endpoint.is_none() || self.habit != Habit::Rmcp || state.last_event_id.is_none() {
            state.endpoint = Some(named);
        }
        let begins = !state.is_initialized || (state.came_back && self.habit == Habit::McpRemote);
        if begins {
            state.is_initialized = false;
            drop(state);
            self.ask("initialize");
        }
    }

    fn on_answer(self: &Arc<Self>, id: &Value, message: &Value) {
        let mut state = self.state();
        let known = id.as_u64();
        let in_flight = known.and_then(|id| state.in_flight.remove(&id));
        let cancelled = known.and_then(|id| state.cancelled.get(&id).copied());
        let Some(ask) = in_flight.or(cancelled) else {
            drop(state);
            return self.violation(&format!("an answer to nothing: {message}"));
        };
        state.asks[ask].answers += 1;
        if message["error"]["data"]["reason"] == "unauthorized" {
            state.spent.extend(known);
        }
        let (method, answers) = (state.asks[ask].method, state.asks[ask].answers);
        let surely_cancelled = state.asks[ask].cancelled_surely;
        drop(state);
        self.state().asks[ask].succeeded |= message["result"].is_object();
        if answers > 1 || surely_cancelled {
            self.violation(&format!("answer number {answers} to what may be cancelled: {message}"));
        }
        let expected = token(self.name, ask);
        let result = &message["result"];
        let named = result["token"].as_str().or(message["error"]["data"]["token"].as_str());
        let may_be_ours = method == "ping" || self.is_made_here(method, result);
        if named.is_some_and(|named| named != expected) || (named.is_none() && result.is_object() && !may_be_ours) {
            self.violation(&format!("{expected} was answered by {message}"));
        }
        self.touch(&result["session"], "an answer");
        let (error, runs) = (&message["error"], self.stage.ledger.runs(&expected));
        let text = error["message"].as_str().unwrap_or_default();
        let waits = self.stage.server.waits_for_input(&expected);
        if error["data"]["reason"].is_string() && runs > 0 && !waits && !text.contains("may have run") {
            self.violation(&format!("an error that does not say that {expected} ran: {message}"));
        }
        if method == "initialize" {
            self.on_handshake(ask, result);
        }
    }

    fn on_handshake(self: &Arc<Self>, ask: usize, result: &Value) {
        let Some(version) = result["protocolVersion"].as_str() else { return self.begin_again(ask) };
        {
            let mut state = self.state();
            state.version = Some(version.to_owned());
            state.is_initialized = true;
            state.hears_of_lists |= result["capabilities"]["tools"]["listChanged"] == true;
        }
        self.notify("notifications/initialized");
    }

    /// The handshake failed: once more, in a while.
    fn begin_again(self: &Arc<Self>, ask: usize) {
        self.state().in_flight.retain(|_, other| *other != ask);
        let client = Arc::clone(self);
        tokio::spawn(async move {
            sleep(Duration::from_secs(2)).await;
            let is_wanted = {
                let state = client.state();
                let is_last = state.asks.iter().rposition(|ask| ask.method == "initialize") == Some(ask);
                is_last && state.line.is_some() && !state.is_over && !client.stage.is_closing()
            };
            if is_wanted {
                client.ask("initialize");
            }
        });
    }

    /// With a server of 2026-07-28 the proxy answers some requests itself, and says what the server cannot be told.
    fn is_made_here(&self, method: &str, result: &Value) -> bool {
        for name in ["resultType", "ttlMs", "cacheScope", "inputRequests", "requestState", "_meta"] {
            if result.get(name).is_some() {
                self.violation(&format!("{name} in {result}"));
            }
        }
        let is_answered_here =
            matches!(method, "initialize" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe");
        self.stage.has_eras && (is_answered_here || method == "tools/call" && result["isError"] == true)
    }

    fn on_notification(&self, method: &str, params: &Value) {
        match method {
            "notifications/cancelled" => self.on_withdrawal(params),
            "notifications/resources/updated" if params["uri"] != modern::uri(self.name) => {
                self.violation(&format!("news of {params}"));
            }
            "notifications/resources/updated" => self.state().news[1] += 1,
            "notifications/tools/list_changed" => {
                let mut state = self.state();
                state.news[0] += 1;
                // What a server promises in one era it may not in the other.
                let is_wanted = state.hears_of_lists
                    || state.came_back
                    || !self.stage.has_eras
                    || !self.stage.server.is_as_it_was();
                drop(state);
                if !is_wanted {
                    self.violation("news of lists that were not announced");
                }
            }
            _ => {}
        }
        if let Some(of) = params["token"].as_str() {
            self.check_token(of, method);
        }
        self.touch(&params["session"], method);
        if let Some(of) = params["progressToken"].as_str() {
            self.check_token(of, method);
            let note = params["progress"].as_u64().unwrap_or_default();
            let before = self.state().notes.insert(of.to_owned(), note).unwrap_or_default();
            if note <= before {
                self.violation(&format!("note {note} on {of} after note {before}"));
            }
        }
        if let (Some(sid), Some(number)) = (params["session"].as_u64(), params["n"].as_u64()) {
            let before = self.state().notifications.insert(sid, number).unwrap_or_default();
            if number <= before {
                self.violation(&format!("notification {number} of session {sid} after {before}"));
            }
        }
    }

    /// An event was on a connection that was cut.
    pub(super) fn on_lost(&self, event: &Event) {
        let message: Value = serde_json::from_slice(&event.data).unwrap_or_default();
        self.stage.ledger.note(|| format!("c{}: loses {:.160}", self.name, message.to_string()));
        if message["method"].is_string() {
            return;
        }
        let mut state = self.state();
        let Some(ask) = message["id"].as_u64().and_then(|id| state.in_flight.get(&id).copied()) else { return };
        state.asks[ask].lost = true;
    }

    fn touch(&self, sid: &Value, how: &str) {
        if let Some(sid) = sid.as_u64().filter(|sid| *sid > 0) {
            self.stage.ledger.touch(sid, self.name, how);
        }
    }

    fn check_token(&self, of: &str, what: &str) {
        if named(of) != Some(self.name) {
            self.violation(&format!("{what} of {of}"));
        }
    }

    fn violation(&self, what: &str) {
        self.stage.ledger.violation(format!("c{} ({:?}) got {what}", self.name, self.habit));
    }
}
