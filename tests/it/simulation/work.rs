//! What the tools of the simulated server do, and how they answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sse_sunset::upstream::{Answer, Fault};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::ledger::Sid;
use super::thread::{Cut, Fate, Thread};
use super::upstream::{Server, document, stream, text};

/// How long a tool waits for what it asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// How one call goes.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// An answer, after so many notes on its progress.
    Works { notes: u64, asks: bool, padding: usize },
    /// An error that names a session, of the tool's own.
    Misleads,
    /// 404 with an error that names no session.
    NoSuchTool,
    /// 202, and the answer on the GET stream.
    Elsewhere,
    /// Never.
    Stalls,
}

/// Runs the tool that `token` called.
pub(super) async fn call(server: &Arc<Server>, sid: Sid, id: &Value, token: String) -> Result<Answer, Fault> {
    let Plan { course, as_document, cut, retry, chance, elsewhere, thread } = plan(server, sid);
    if let Course::NoSuchTool = course {
        let error = json!({"code": -32601, "message": "Method not found", "data": {"token": token}});
        return Ok(document(404, json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()));
    }
    let resumes = server.manner.resumes && server.manner.sessions;
    server.ledger.execute(&token, sid);
    let mut work = Work { server: Arc::clone(server), sid, id: id.clone(), token, thread: Arc::clone(&thread), chance };
    if let (Course::Elsewhere, Some(elsewhere), true) = (course, elsewhere, server.manner.listens) {
        work.thread = elsewhere;
        tokio::spawn(async move {
            sleep(work.chance.ms(1, 2_000)).await;
            work.thread.say(work.result(0, &Value::Null));
        });
        return Ok(text(202, "", &[]));
    }
    tokio::spawn(work.carry_out(course, as_document));
    if !as_document {
        let primes = (server.manner.polls && resumes).then_some(retry);
        return Ok(stream(thread.connect(0, primes, cut)));
    }
    match thread.conclusion().await {
        Ok(answer) => Ok(document(200, answer)),
        Err(Fate::Broken) => Err(Fault::Broken("gone".into())),
        Err(Fate::Hanging) => std::future::pending().await,
    }
}

/// What chance makes of one call.
struct Plan {
    course: Course,
    as_document: bool,
    cut: Option<(usize, Cut)>,
    /// When to come back, for a client that has to poll.
    retry: u64,
    chance: Chance,
    /// The GET stream.
    elsewhere: Option<Arc<Thread>>,
    /// The call's own.
    thread: Arc<Thread>,
}

fn plan(server: &Server, sid: Sid) -> Plan {
    let manner = server.manner;
    let mut state = server.state();
    let course = draw(&mut state.chance);
    let as_document = state.chance.below(4) < manner.documents;
    let cut = if as_document { None } else { state.draw_cut(manner.polls && manner.resumes && manner.sessions) };
    let retry = state.chance.pick(&[100, 2000]);
    let chance = Chance::new(state.chance.below(u64::MAX), sid);
    let elsewhere = state.sessions.get(&sid).map(|session| Arc::clone(&session.threads[&0]));
    let session = state.sessions.get_mut(&sid);
    let thread = session.map_or_else(|| Thread::new(None), |session| session.open(sid, manner.resumes));
    Plan { course, as_document, cut, retry, chance, elsewhere, thread }
}

fn draw(chance: &mut Chance) -> Course {
    match chance.below(24) {
        0 => Course::Misleads,
        1 => Course::NoSuchTool,
        2 => Course::Elsewhere,
        3 if chance.one_in(6) => Course::Stalls,
        4..9 => Course::Works { notes: 0, asks: true, padding: 0 },
        9..14 => Course::Works { notes: 1 + chance.below(6), asks: chance.one_in(3), padding: 0 },
        14 => Course::Works { notes: 4, asks: false, padding: 2_000 },
        15 if chance.one_in(12) => Course::Works { notes: 0, asks: false, padding: 90_000 },
        _ => Course::Works { notes: 0, asks: false, padding: 0 },
    }
}

/// A tool at work.
struct Work {
    server: Arc<Server>,
    sid: Sid,
    id: Value,
    token: String,
    thread: Arc<Thread>,
    chance: Chance,
}

impl Work {
    async fn carry_out(mut self, course: Course, as_document: bool) {
        let Course::Works { notes, asks, padding } = course else {
            sleep(self.chance.ms(0, 500)).await;
            if let Course::Stalls = course {
                return;
            }
            self.server.ledger.mislead(&self.token);
            let error = json!({"code": -32603, "message": "browser session not found", "data": {"token": self.token}});
            self.thread.say(json!({"jsonrpc": "2.0", "id": self.id, "error": error}).to_string());
            return self.thread.finish();
        };
        if !as_document {
            for note in 1..=notes {
                sleep(self.pace()).await;
                let padding = "x".repeat(padding);
                let params =
                    json!({"progressToken": self.token, "progress": note, "session": self.sid, "padding": padding});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
                self.thread.say(note.to_string());
            }
            if asks {
                self.ask().await;
            }
        }
        sleep(self.pace()).await;
        if self.thread.is_dead() {
            return;
        }
        self.thread.say(self.result(padding, &Value::Null));
        self.thread.finish();
    }

    fn pace(&mut self) -> Duration {
        match self.chance.below(6) {
            0 => Duration::ZERO,
            1 => self.chance.ms(500, 8_000),
            _ => self.chance.ms(1, 60),
        }
    }

    fn result(&self, padding: usize, told: &Value) -> String {
        let result = json!({"token": self.token, "session": self.sid, "told": told, "padding": "x".repeat(padding)});
        json!({"jsonrpc": "2.0", "id": self.id, "result": result}).to_string()
    }

    /// Asks the client, and waits for its answer.
    async fn ask(&mut self) {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.server.state();
            let Some(session) = state.sessions.get_mut(&self.sid) else { return };
            session.question(&self.token, Some(sender))
        };
        let params = json!({"token": self.token, "about": self.token, "session": self.sid});
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params});
        self.thread.say(request.to_string());
        let _ = timeout(PATIENCE, answer).await;
    }
}
