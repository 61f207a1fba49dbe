//! A model of a server of 2026-07-28, on the simulated side of the seam.
//!
//! It holds nothing between requests, so every request has to say everything; what does not is a violation. It stands beside
//! the model of the session era in the same `Server`: which of the two reigns can change at any time. `door` is what it
//! makes of clients of that era, `calls` what its tools do, `listen` its streams of changes, `streams` what is open.

mod calls;
mod door;
mod listen;
pub(super) mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sse_sunset::mcp;
use sse_sunset::upstream::{Answer, Exchange, Fault};

pub(super) use calls::Call;
pub(super) use door::Door;
pub(super) use listen::{Change, Way, uri};

use super::chance::Chance;
use super::ledger::{Name, named};
use super::thread::{Fate, Thread};
use super::upstream::{Server, Weather, document, text, token_of, whose_token};

const VERSION: &str = "2026-07-28";
const RESERVED: &str = "io.modelcontextprotocol/";
/// The one tool, whose name no header can carry as it is.
pub(super) const TOOL: &str = "wörk";

/// What the server is like, the same for a whole run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) door: Door,
    /// How a server of the session era, in its place, turns down what comes in this one's way.
    pub(super) refusal: door::Refusal,
    /// How many of its answers are documents, of 4.
    pub(super) documents: u64,
    pub(super) logs: bool,
    pub(super) lists_change: bool,
    pub(super) subscribes: bool,
    pub(super) listen: Way,
    pub(super) ttl_ms: u64,
    pub(super) is_public: bool,
    /// An argument of the tool goes in a header.
    pub(super) marks: bool,
}

/// The server, as far as it is of this era.
#[derive(Debug)]
pub(super) struct Modern {
    pub(super) manner: Manner,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether it is there, and not one of the session era.
    reigns: bool,
    /// By the token of whoever called.
    pub(super) calls: BTreeMap<String, Call>,
    /// Answers that are being read, by their number: of which call.
    pub(super) open: BTreeMap<u64, String>,
    pub(super) last_open: u64,
    pub(super) listens: BTreeMap<u64, listen::Listen>,
    /// Calls whose headers were found wanting for no reason.
    pub(super) mismatched: BTreeSet<String>,
    /// What is known of the clients.
    people: BTreeMap<Name, Person>,
    pub(super) counts: Counts,
}

/// What a client is, as the world knows.
#[derive(Debug, Clone)]
pub(super) struct Person {
    /// The number of its token.
    pub(super) token: Option<u32>,
    pub(super) capabilities: Value,
}

/// What happened, so that a test can see that anything did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) exchanges: u64,
    pub(super) discovered: u64,
    pub(super) refused_initialize: u64,
    pub(super) rounds: u64,
    pub(super) finished_after_rounds: u64,
    pub(super) mismatches: u64,
    pub(super) listens: u64,
    pub(super) honoured: u64,
    pub(super) announced: u64,
    pub(super) replaced: u64,
}

impl Counts {
    pub(super) fn each(&mut self) -> [(&'static str, &mut u64); 10] {
        [
            ("exchanges", &mut self.exchanges),
            ("discovered", &mut self.discovered),
            ("refused_initialize", &mut self.refused_initialize),
            ("rounds", &mut self.rounds),
            ("finished_after_rounds", &mut self.finished_after_rounds),
            ("mismatches", &mut self.mismatches),
            ("listens", &mut self.listens),
            ("honoured", &mut self.honoured),
            ("announced", &mut self.announced),
            ("replaced", &mut self.replaced),
        ]
    }

    /// What a test that means to try everything has not tried.
    pub(super) fn never_happened(&mut self) -> Vec<&'static str> {
        self.each().into_iter().filter(|(_, count)| **count == 0).map(|(what, _)| what).collect()
    }
}

impl Manner {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        Manner {
            door: Door::draw(chance),
            refusal: door::Refusal::draw(chance),
            documents: chance.below(5),
            logs: !chance.one_in(3),
            lists_change: !chance.one_in(3),
            subscribes: !chance.one_in(3),
            listen: Way::draw(chance),
            ttl_ms: chance.pick(&[0, 0, 1_000, 60_000]),
            is_public: chance.one_in(2),
            marks: chance.one_in(2),
        }
    }
}

impl Modern {
    pub(super) fn new(manner: Manner) -> Self {
        Modern { manner, state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reigns(&self) -> bool {
        self.state().reigns
    }

    pub(super) fn meet(&self, name: Name, person: Person) {
        self.state().people.insert(name, person);
    }
}

/// Whether an exchange is of this era, whoever gets it.
pub(super) fn is_modern(headers: &HeaderMap) -> bool {
    headers.get(mcp::PROTOCOL_VERSION).is_some_and(|version| version == VERSION)
}

impl Server {
    /// The server is one of the other era from now on. What runs in the old one breaks or hangs.
    pub(super) fn replace(&self, fate: Fate) {
        let is_modern = {
            let mut state = self.modern.state();
            state.reigns = !state.reigns;
            state.counts.replaced += 1;
            let threads: Vec<Arc<Thread>> = state.calls.values().filter_map(Call::thread).collect();
            for thread in threads {
                thread.kill(fate);
            }
            for listen in state.listens.values() {
                // That a peer is gone for good the system notices (TCP_USER_TIMEOUT), which is not played here.
                listen.kill(Fate::Broken);
            }
            state.reigns
        };
        self.ledger.note(|| format!("up: is replaced, and modern: {is_modern}"));
        self.lose(None, fate);
    }

    /// Takes an exchange while this era reigns.
    pub(super) async fn take_modern(self: &Arc<Self>, exchange: &Exchange) -> Result<Answer, Fault> {
        self.modern.state().counts.exchanges += 1;
        self.ledger.note(|| {
            let body = String::from_utf8_lossy(&exchange.body);
            format!("up: (modern) {} {:.700}", exchange.method, body)
        });
        if exchange.method != Method::POST {
            if is_modern(&exchange.headers) {
                self.ledger.violation(format!("{} to a server of 2026-07-28", exchange.method));
            }
            return Ok(text(405, "Method Not Allowed", &[("allow", "POST")]));
        }
        let message: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        if !is_modern(&exchange.headers) {
            return Ok(self.meet_at_door(&message));
        }
        self.check_envelope(&exchange.headers, &message);
        match message["method"].as_str() {
            Some("tools/call") => self.call_modern(exchange, &message).await,
            Some("subscriptions/listen") => Ok(self.listen_modern(&exchange.headers, &message)),
            Some("server/discover") => {
                self.modern.state().counts.discovered += 1;
                Ok(self.one(self.discovery(&message["id"])))
            }
            Some("tools/list") => Ok(self.one(self.list(&message))),
            method => {
                self.ledger.violation(format!("{method:?} to a server of 2026-07-28"));
                Ok(document(404, error(&message["id"], -32601, "Method not found", &Value::Null)))
            }
        }
    }

    /// Whether a call is waiting for the answers of its client, so that it has not come to anything.
    pub(super) fn waits_for_input(&self, token: &str) -> bool {
        self.modern.state().calls.get(token).is_some_and(Call::waits_for_input)
    }

    /// Whether an answer to the call is being read.
    pub(super) fn is_open(&self, token: &str) -> bool {
        self.modern.state().open.values().any(|open| open == token)
    }

    /// How often something changed that may keep messages from getting through; `None` while it does.
    pub(super) fn disturbances(&self) -> Option<u64> {
        let state = self.state();
        let (changes, is_fine) = (state.changes, state.weather == Weather::Fine);
        drop(state);
        is_fine.then(|| changes + self.modern.state().counts.replaced)
    }

    fn discovery(&self, id: &Value) -> String {
        let manner = self.modern.manner;
        let mut capabilities = json!({"tools": {"listChanged": manner.lists_change},
            "resources": {"subscribe": manner.subscribes}, "extensions": {"x": {}}});
        if manner.logs {
            capabilities["logging"] = json!({});
        }
        let scope = if manner.is_public { "public" } else { "private" };
        let info = json!({"name": "sim", "version": "2"});
        let result = json!({"resultType": "complete", "supportedVersions": ["2025-11-25", VERSION], "ttlMs": manner.ttl_ms,
            "capabilities": capabilities, "cacheScope": scope, "_meta": {"io.modelcontextprotocol/serverInfo": info}});
        json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
    }

    fn list(&self, message: &Value) -> String {
        let mut schema = json!({"type": "object", "properties": {"token": {"type": "string"}}});
        if self.modern.manner.marks {
            schema["properties"]["token"]["x-mcp-header"] = json!("Token");
        }
        let mut result = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "tools": [{"name": TOOL, "inputSchema": schema}]});
        if let Some(token) = token_of(message) {
            result["token"] = token.into();
        }
        json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()
    }

    /// Everything that a request has to say (MCP 2026-07-28, transports/streamable-http).
    fn check_envelope(&self, headers: &HeaderMap, message: &Value) {
        let wrong = |what: String| self.ledger.violation(format!("{what} in {:.300}", message.to_string()));
        let (method, params) = (&message["method"], &message["params"]);
        if !method.is_string() || !message["id"].is_string() {
            wrong("no request".to_owned());
        }
        for name in [mcp::SESSION_ID, mcp::LAST_EVENT_ID] {
            if headers.contains_key(&name) {
                wrong(format!("{name} among the headers"));
            }
        }
        let name = match method.as_str() {
            Some("tools/call") => params["name"].as_str(),
            _ => None,
        };
        let expected = [
            ("mcp-protocol-version", Some(VERSION)),
            ("mcp-method", method.as_str()),
            ("mcp-name", name),
            ("accept", Some("application/json, text/event-stream")),
            ("content-type", Some("application/json")),
        ];
        for (header, value) in expected {
            let sent: Vec<_> = headers.get_all(header).iter().map(|value| decoded(value.as_bytes())).collect();
            if !sent.iter().map(String::as_str).eq(value) {
                wrong(format!("{header}: {sent:?} and not {value:?}"));
            }
        }
        let meta = |name: &str| &params["_meta"][format!("{RESERVED}{name}")];
        if meta("protocolVersion") != VERSION || !meta("clientInfo")["name"].is_string() {
            wrong("no version or client".to_owned());
        }
        self.check_person(headers, message, meta("clientInfo"), meta("clientCapabilities"));
    }

    /// Whoever asks is who it says, under its own credential, and can do what it says.
    fn check_person(&self, headers: &HeaderMap, message: &Value, info: &Value, capabilities: &Value) {
        let wrong = |what: String| self.ledger.violation(format!("{what} in {:.300}", message.to_string()));
        let told = info["name"].as_str().and_then(|name| name.strip_prefix('c')?.parse::<Name>().ok());
        let by_token = token_of(message).as_deref().and_then(named);
        if let (Some(told), Some(by_token)) = (told, by_token)
            && told != by_token
        {
            wrong(format!("c{told} asks for c{by_token}"));
        }
        let Some(capabilities) = capabilities.as_object() else { return wrong("no capabilities".to_owned()) };
        let Some(person) = told.or(by_token).and_then(|name| self.modern.state().people.get(&name).cloned()) else {
            return;
        };
        if whose_token(headers) != person.token {
            wrong(format!("{:?} and not {:?}", whose_token(headers), person.token));
        }
        let declared: Vec<_> = person.capabilities.as_object().into_iter().flat_map(|all| all.keys()).collect();
        // A handshake that was made for the client promises nothing.
        if told.is_some() && !capabilities.keys().eq(declared) || told.is_none() && !capabilities.is_empty() {
            wrong(format!("it can do {:?}", person.capabilities));
        }
    }
}

fn decoded(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value).into_owned();
    let encoded = text.strip_prefix("=?base64?").and_then(|text| text.strip_suffix("?="));
    encoded.and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok()).unwrap_or(text)
}

fn error(id: &Value, code: i64, text: &str, data: &Value) -> String {
    let mut error = json!({"code": code, "message": text});
    if !data.is_null() {
        error["data"] = data.clone();
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
}
