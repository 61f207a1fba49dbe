//! A model of a server of the session era, on the simulated side of the seam.
//!
//! It keeps sessions, forgets them, disguises that, breaks off, hangs, and writes down who said what in which session.
//! `work` does what its tools do. `modern` is the server that may take its place.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use sse_sunset::mcp;
use sse_sunset::upstream::{Answer, Exchange, Fault, Sending, Transport};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::chance::Chance;
use super::ledger::{Ledger, Sid, named};
use super::modern::{self, Modern};
use super::thread::{Cut, Fate, Thread};
use super::work;

/// The server; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Upstream(pub(super) Arc<Server>);

/// What the server is like, the same for a whole run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) sessions: bool,
    /// Has GET streams.
    pub(super) listens: bool,
    /// Gives event ids, and resumes streams.
    pub(super) resumes: bool,
    /// Closes the streams of calls and wants to be polled.
    pub(super) polls: bool,
    pub(super) lists_change: bool,
    /// How many of its answers are documents, of 4.
    pub(super) documents: u64,
    pub(super) disguise: Option<Disguise>,
}

/// How a lost session shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disguise {
    Text404,
    Error404,
    NoId400,
    Text401,
    Error200,
}

const DISGUISES: [Disguise; 5] =
    [Disguise::Text404, Disguise::Error404, Disguise::NoId400, Disguise::Text401, Disguise::Error200];

/// How the server does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Fine,
    /// One exchange in so many goes wrong.
    Rough(u64),
    /// No connections are taken.
    Down,
    /// Connections are taken, and nothing is answered.
    Stuck,
}

/// What goes wrong with one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Unreachable,
    BreakBefore,
    BreakAfter,
    HangBefore,
    SlowHead(Duration),
    Unavailable,
    TooMany,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) ledger: Arc<Ledger>,
    pub(super) manner: Manner,
    pub(super) modern: Modern,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) chance: Chance,
    pub(super) weather: Weather,
    pub(super) sessions: BTreeMap<Sid, Session>,
    pub(super) last: Sid,
    /// Exchanges so far, and changes of weather.
    pub(super) taken: u64,
    pub(super) changes: u64,
    /// How often each token has to have been renewed to be good.
    pub(super) expired: BTreeMap<u32, u32>,
}

/// A session of the server.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) standing: Standing,
    /// What its `initialize` authenticated with.
    pub(super) auth: Option<String>,
    /// Its id has reached whoever asked for it.
    pub(super) announced: bool,
    /// A DELETE was sent, whatever became of it.
    pub(super) left: bool,
    /// An exchange of it hung or was late: who speaks to it may have given up.
    pub(super) troubled: bool,
    /// Number 0 is the GET stream.
    pub(super) threads: BTreeMap<u64, Arc<Thread>>,
    pub(super) questions: BTreeMap<u64, Question>,
    pub(super) last_question: u64,
    pub(super) notifications: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Alive,
    Deleted,
    Lost,
}

/// What the server asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) about: String,
    pub(super) answer: Option<oneshot::Sender<Value>>,
}

impl Transport for Upstream {
    fn send(&self, exchange: Exchange) -> Sending {
        let server = Arc::clone(&self.0);
        if exchange.method == Method::DELETE {
            server.change(sid(&exchange.headers), |session| session.left = true);
        }
        async move { server.take(exchange).await }.boxed()
    }
}

impl Server {
    pub(super) fn new(ledger: Arc<Ledger>, manner: Manner, modern: modern::Manner, chance: Chance) -> Self {
        let (sessions, expired) = (BTreeMap::new(), BTreeMap::new());
        let state = State { chance, weather: Weather::Fine, sessions, last: 0, taken: 0, changes: 0, expired };
        Server { ledger, manner, modern: Modern::new(modern), state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, sid: Option<Sid>, change: impl FnOnce(&mut Session)) {
        let Some(sid) = sid else { return };
        if let Some(session) = self.state().sessions.get_mut(&sid) {
            change(session);
        }
    }

    async fn take(self: Arc<Self>, exchange: Exchange) -> Result<Answer, Fault> {
        let (way, trouble) = self.state().draw();
        self.state().taken += 1;
        let sid = sid(&exchange.headers);
        if !matches!(trouble, Trouble::None) {
            self.ledger.note(|| format!("up: {trouble:?} for {} {sid:?} {:?}", exchange.method, exchange.body));
        }
        if trouble == Trouble::Unreachable {
            return Err(Fault::Unreachable("refused".into()));
        }
        if matches!(trouble, Trouble::HangBefore | Trouble::SlowHead(_)) {
            self.change(sid, |session| session.troubled = true);
        }
        sleep(way).await;
        match trouble {
            Trouble::BreakBefore => return Err(Fault::Broken("reset".into())),
            Trouble::HangBefore => {
                sleep(Duration::from_secs(3600)).await;
                return Err(Fault::Broken("at last".into()));
            }
            Trouble::Unavailable => return Ok(text(503, "busy", &[("retry-after", "7")])),
            Trouble::TooMany => return Ok(text(429, "slow down", &[])),
            _ => {}
        }
        let answer = match exchange.method {
            _ if !self.state().is_good(&exchange.headers) => {
                self.ledger.note(|| format!("up: 401 for {sid:?} {:.80}", String::from_utf8_lossy(&exchange.body)));
                text(401, "Unauthorized", &[("www-authenticate", "Bearer error=\"invalid_token\"")])
            }
            _ if self.modern.reigns() => self.take_modern(&exchange).await?,
            _ if modern::is_modern(&exchange.headers) => self.refuse_modern(&exchange),
            Method::POST => self.post(&exchange, sid, trouble).await?,
            Method::GET => self.get(&exchange, sid),
            _ => self.delete(sid),
        };
        if let Trouble::SlowHead(late) = trouble {
            sleep(late).await;
        }
        if trouble == Trouble::BreakAfter {
            return Err(Fault::Broken("reset after".into()));
        }
        self.change(answer.session_id().and_then(number), |session| session.announced = true);
        Ok(answer)
    }

    /// What it makes of a request of 2026-07-28.
    fn refuse_modern(&self, exchange: &Exchange) -> Answer {
        let message: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        self.ledger.note(|| format!("up: refuses {:.160}", message.to_string()));
        self.modern.manner.refusal.of(&message["id"])
    }

    async fn post(self: &Arc<Self>, exchange: &Exchange, sid: Option<Sid>, trouble: Trouble) -> Result<Answer, Fault> {
        let message: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        self.ledger.note(|| format!("up: POST in {sid:?}: {:.160}", String::from_utf8_lossy(&exchange.body)));
        let method = message["method"].as_str();
        let auth = auth(&exchange.headers);
        if method == Some("initialize") {
            return Ok(self.initialize(&message, auth, trouble));
        }
        if let Some(lost) = self.check_session(sid, &message["id"]) {
            return Ok(lost);
        }
        let of = sid.unwrap_or_default();
        let token = token_of(&message);
        if let Some(client) = token.as_deref().and_then(named) {
            if self.manner.sessions {
                self.ledger.touch(of, client, "a POST");
            }
            let expected = self.state().sessions.get(&of).map(|session| session.auth.clone());
            if expected.is_some_and(|expected| whose(expected.as_ref()) != whose(auth.as_ref())) {
                self.ledger.violation(format!("{token:?} came into the session {of} under {auth:?}"));
            }
        }
        let id = message["id"].clone();
        match method {
            None => {
                self.heed(of, &message);
                Ok(text(202, "", &[]))
            }
            Some("tools/call") => Ok(work::call(self, of, &id, token.unwrap_or_default()).await?),
            Some(method) if method.starts_with("notifications/") => Ok(text(202, "", &[])),
            Some(method) => {
                let result = match method {
                    "ping" => json!({}),
                    _ => json!({"token": token, "tools": []}),
                };
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
                Ok(self.one(answer))
            }
        }
    }

    /// One answer, as the server likes to put it.
    pub(super) fn one(&self, answer: String) -> Answer {
        let as_document = { self.state().chance.below(4) < self.manner.documents };
        if as_document { document(200, answer) } else { events(&format!("data: {answer}\n\n")) }
    }

    fn initialize(&self, message: &Value, auth: Option<String>, trouble: Trouble) -> Answer {
        let version = message["params"]["protocolVersion"].as_str().unwrap_or("2025-06-18").to_owned();
        let lists_change = self.manner.lists_change;
        let token = token_of(message);
        let result = json!({"protocolVersion": version, "token": token, "serverInfo": {"name": "sim", "version": "1"},
            "capabilities": {"tools": {"listChanged": lists_change}}});
        let mut answer = self.one(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string());
        if !self.manner.sessions {
            return answer;
        }
        let mut state = self.state();
        state.last += 1;
        let sid = state.last;
        let threads = BTreeMap::from([(0, Thread::new(self.manner.resumes.then(|| format!("{sid}-0"))))]);
        let session = Session {
            standing: Standing::Alive,
            auth,
            announced: false,
            left: false,
            troubled: matches!(trouble, Trouble::SlowHead(_)),
            threads,
            questions: BTreeMap::new(),
            last_question: 0,
            notifications: 0,
        };
        state.sessions.insert(sid, session);
        drop(state);
        if let Some(client) = token.as_deref().and_then(named) {
            self.ledger.touch(sid, client, "initialize");
        }
        answer.headers.insert(mcp::SESSION_ID, HeaderValue::from_str(&sid.to_string()).expect("digits"));
        answer
    }

    /// What a request gets that names no session which is there.
    fn check_session(&self, sid: Option<Sid>, id: &Value) -> Option<Answer> {
        if !self.manner.sessions {
            if sid.is_some() {
                self.ledger.violation("a session id for a server that gives none".to_owned());
            }
            return None;
        }
        let mut state = self.state();
        if sid.is_some_and(|sid| state.is_alive(sid)) {
            return None;
        }
        let disguise = self.manner.disguise.unwrap_or_else(|| state.chance.pick(&DISGUISES));
        drop(state);
        let error = |code: i64, text: &str, id: &Value| {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}}).to_string()
        };
        Some(match disguise {
            Disguise::Text404 => text(404, "Not Found", &[]),
            Disguise::Error404 => document(404, error(-32001, "Session not found", &Value::Null)),
            Disguise::NoId400 => {
                let error = json!({"code": -32000, "message": "Bad Request: No valid session ID provided"});
                document(400, json!({"jsonrpc": "2.0", "error": error}).to_string())
            }
            Disguise::Text401 => text(401, "Unauthorized: Session not found", &[]),
            Disguise::Error200 => document(200, error(-32600, "Session not found", id)),
        })
    }

    /// The client answers what the server asked.
    fn heed(&self, sid: Sid, message: &Value) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&sid) else { return };
        let question = message["id"].as_u64().and_then(|id| session.questions.remove(&id));
        drop(state);
        let Some(question) = question else {
            return self.ledger.note(|| format!("up: an answer to nothing in {sid}"));
        };
        let said = message["result"]["about"].as_str().unwrap_or_default();
        if said != question.about && message["error"].is_null() {
            self.ledger.violation(format!("asked about {:?} in session {sid}, answered {message}", question.about));
        }
        if let Some(answer) = question.answer {
            let _ = answer.send(message["result"].clone());
        }
    }

    fn get(&self, exchange: &Exchange, sid: Option<Sid>) -> Answer {
        let last = exchange.headers.get(mcp::LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        self.ledger.note(|| format!("up: GET in {sid:?} after {last:?}"));
        if !self.manner.sessions || (last.is_none() && !self.manner.listens) {
            return text(405, "Method Not Allowed", &[]);
        }
        if let Some(lost) = self.check_session(sid, &Value::Null) {
            return lost;
        }
        let sid = sid.unwrap_or_default();
        let mut state = self.state();
        let cut = state.draw_cut(false);
        let Some(session) = state.sessions.get(&sid) else { return text(404, "", &[]) };
        if whose(session.auth.as_ref()) != whose(auth(&exchange.headers).as_ref()) {
            drop(state);
            self.ledger.violation(format!("the GET of session {sid} under another credential"));
            return text(401, "Unauthorized", &[("www-authenticate", "Bearer")]);
        }
        let (thread, at) = match last.as_deref().map(read_event_id) {
            None => (0, session.threads[&0].length()),
            Some(Some((of, thread, at))) if of == sid => (thread, at),
            Some(_) => {
                drop(state);
                self.ledger.violation(format!("session {sid} is asked for the event {last:?}"));
                return text(400, "unknown event", &[]);
            }
        };
        let Some(thread) = session.threads.get(&thread).cloned() else { return text(400, "unknown event", &[]) };
        drop(state);
        if thread.readers.load(Ordering::Relaxed) > 0 {
            self.ledger.note(|| format!("up: a stream of {sid} is read twice"));
            return text(409, "Conflict", &[]);
        }
        stream(thread.connect(at, None, cut))
    }

    fn delete(&self, sid: Option<Sid>) -> Answer {
        self.ledger.note(|| format!("up: DELETE of {sid:?}"));
        if let Some(lost) = self.check_session(sid, &Value::Null) {
            return lost;
        }
        let mut state = self.state();
        if let Some(session) = sid.and_then(|sid| state.sessions.get_mut(&sid)) {
            session.standing = Standing::Deleted;
            session.kill(Fate::Broken);
        }
        text(200, "", &[])
    }

    /// Forgets a session, or all of them. What runs in them breaks or hangs.
    pub(super) fn lose(&self, which: Option<Sid>, fate: Fate) {
        self.ledger.note(|| format!("up: loses {which:?}, {fate:?}"));
        let mut state = self.state();
        for (sid, session) in &mut state.sessions {
            if which.is_none_or(|which| which == *sid) && session.standing == Standing::Alive {
                session.standing = Standing::Lost;
                session.kill(fate);
            }
        }
    }

    /// A token is good no more until it is renewed once more.
    pub(super) fn expire(&self, token: u32) {
        self.ledger.note(|| format!("up: the token {token} expires"));
        *self.state().expired.entry(token).or_default() += 1;
    }

    /// A session that is there.
    pub(super) fn any_session(&self) -> Option<Sid> {
        let mut state = self.state();
        let alive: Vec<Sid> = state
            .sessions
            .iter()
            .filter(|(_, session)| session.standing == Standing::Alive)
            .map(|(sid, _)| *sid)
            .collect();
        (!alive.is_empty()).then(|| state.chance.pick(&alive))
    }

    /// Says something on the GET stream of a session.
    pub(super) fn announce(&self, sid: Sid) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&sid) else { return };
        session.notifications += 1;
        let params = json!({"session": sid, "n": session.notifications});
        session.threads[&0]
            .say(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).to_string());
    }

    /// Asks something on the GET stream of a session.
    pub(super) fn ask(&self, sid: Sid) {
        let mut state = self.state();
        let pings = state.chance.one_in(4);
        let Some(session) = state.sessions.get_mut(&sid) else { return };
        let about = format!("session {sid}");
        let id = session.question(&about, None);
        let params = json!({"session": sid, "about": about});
        let request = if pings {
            session.questions.remove(&id);
            json!({"jsonrpc": "2.0", "id": id, "method": "ping"})
        } else {
            json!({"jsonrpc": "2.0", "id": id, "method": "roots/list", "params": params})
        };
        session.threads[&0].say(request.to_string());
    }
}

impl State {
    pub(super) fn is_alive(&self, sid: Sid) -> bool {
        self.sessions.get(&sid).is_some_and(|session| session.standing == Standing::Alive)
    }

    fn is_good(&self, headers: &HeaderMap) -> bool {
        let Some((token, renewed)) = auth(headers).as_deref().and_then(read_token) else { return true };
        renewed >= self.expired.get(&token).copied().unwrap_or_default()
    }

    /// How long an exchange is on its way, and what goes wrong with it.
    fn draw(&mut self) -> (Duration, Trouble) {
        let way = if self.chance.one_in(8) { self.chance.ms(20, 400) } else { self.chance.ms(1, 12) };
        let trouble = match self.weather {
            Weather::Fine => Trouble::None,
            Weather::Down => Trouble::Unreachable,
            Weather::Stuck => Trouble::HangBefore,
            Weather::Rough(times) if self.chance.one_in(times) => match self.chance.below(8) {
                0 => Trouble::Unreachable,
                1 => Trouble::BreakBefore,
                2 => Trouble::BreakAfter,
                3 => Trouble::HangBefore,
                4 => Trouble::Unavailable,
                5 => Trouble::TooMany,
                _ => Trouble::SlowHead(self.chance.ms(500, 9_000)),
            },
            Weather::Rough(_) => Trouble::None,
        };
        (way, trouble)
    }

    /// How a connection ends early, if it does.
    pub(super) fn draw_cut(&mut self, polls: bool) -> Option<(usize, Cut)> {
        let after = self.chance.index(4);
        if polls && self.chance.one_in(2) {
            return Some((after, Cut::Close { retry_ms: Some(self.chance.pick(&[0, 200, 3000])) }));
        }
        let Weather::Rough(times) = self.weather else { return None };
        self.chance.one_in(times.div_ceil(2)).then(|| {
            let cut = match self.chance.below(8) {
                0..4 => Cut::Break,
                4..7 => Cut::Close { retry_ms: self.chance.one_in(2).then_some(500) },
                _ => Cut::Hang,
            };
            (after, cut)
        })
    }
}

impl Session {
    fn kill(&self, fate: Fate) {
        for thread in self.threads.values() {
            thread.kill(fate);
        }
    }

    /// A new event stream.
    pub(super) fn open(&mut self, sid: Sid, resumes: bool) -> Arc<Thread> {
        let number = self.threads.len() as u64;
        let thread = Thread::new(resumes.then(|| format!("{sid}-{number}")));
        self.threads.insert(number, Arc::clone(&thread));
        thread
    }

    /// The id under which the client is asked.
    pub(super) fn question(&mut self, about: &str, answer: Option<oneshot::Sender<Value>>) -> u64 {
        let id = self.last_question;
        self.last_question += 1;
        self.questions.insert(id, Question { about: about.to_owned(), answer });
        id
    }
}

fn number(value: &HeaderValue) -> Option<Sid> {
    value.to_str().ok()?.parse().ok()
}

fn sid(headers: &HeaderMap) -> Option<Sid> {
    headers.get(mcp::SESSION_ID).and_then(number)
}

fn auth(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// `Bearer {token}.{times it was renewed}.{by whom}`
fn read_token(auth: &str) -> Option<(u32, u32)> {
    let mut parts = auth.strip_prefix("Bearer ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whose token it is.
fn whose(auth: Option<&String>) -> Option<u32> {
    Some(read_token(auth?)?.0)
}

/// Whose token an exchange comes with.
pub(super) fn whose_token(headers: &HeaderMap) -> Option<u32> {
    whose(auth(headers).as_ref())
}

/// `{session}-{thread}-{events}`
fn read_event_id(id: &str) -> Option<(Sid, u64, usize)> {
    let mut parts = id.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The token of whoever sent a message.
pub(super) fn token_of(message: &Value) -> Option<String> {
    let params = &message["params"];
    let places = [&params["_meta"]["token"], &params["arguments"]["token"], &message["result"]["token"]];
    places.into_iter().find_map(|place| place.as_str().map(str::to_owned))
}

fn answer(status: u16, media: &'static str, body: sse_sunset::upstream::Body) -> Answer {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media))]);
    Answer { status: StatusCode::from_u16(status).expect("a status"), headers, body: body.into() }
}

fn whole(text: String) -> sse_sunset::upstream::Body {
    Box::pin(futures_util::stream::iter([Ok(Bytes::from(text))]))
}

pub(super) fn text(status: u16, text: &str, headers: &[(&'static str, &'static str)]) -> Answer {
    let mut answer = answer(status, "text/plain", whole(text.to_owned()));
    answer.headers.extend(
        headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    answer
}

pub(super) fn document(status: u16, json: String) -> Answer {
    answer(status, "application/json", whole(json))
}

fn events(text: &str) -> Answer {
    answer(200, "text/event-stream", whole(text.to_owned()))
}

pub(super) fn stream(body: sse_sunset::upstream::Body) -> Answer {
    answer(200, "text/event-stream", body)
}
