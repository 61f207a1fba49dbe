//! Clients that stay for the whole soak, whatever becomes of their stream and of the server behind.
//!
//! They trust less than the others (`client`): beside every answer they check the ids of events, which tell that it is
//! their very session, and that nothing of it is lost or doubled. Each has a name, which stands in all it sends, and keeps
//! an account that is compared with the log and with what the server did (`accounts`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_sunset::sse::Event;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::accounts::{Account, Outcome};
use crate::client::{Content, Events, LOST, Progress, connect};

/// The version they ask for. TypeScript clients name it again when they come back.
const VERSION: &str = "2025-06-18";
/// Bytes of the text of large calls: less than the proxy keeps of what was taken.
const LARGE: usize = 100 << 10;

/// How a client comes back that lost its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It names its last event, and has no credential.
    LastEventId,
    /// TypeScript's: it names its version only, and posts to the new endpoint. It has a credential of its own.
    Version,
}

/// How often the server has gone and come back. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tide(Arc<State>);

#[derive(Debug, Default)]
struct State {
    turns: AtomicU64,
    /// Clients that wait for it to go.
    away: AtomicUsize,
}

impl Tide {
    /// It goes, or is back.
    pub(crate) fn turn(&self) {
        self.0.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// Odd while it is gone.
    fn now(&self) -> u64 {
        self.0.turns.load(Ordering::SeqCst)
    }

    pub(crate) fn away(&self) -> usize {
        self.0.away.load(Ordering::SeqCst)
    }

    /// Waits until it has gone.
    async fn gone(&self) {
        let now = self.now();
        self.0.away.fetch_add(1, Ordering::SeqCst);
        while self.now() == now {
            sleep(Duration::from_millis(10)).await;
        }
        self.0.away.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a client does until all its calls are answered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Round {
    /// How long its longer calls take.
    pub(crate) takes: Duration,
    pub(crate) cut: Option<Cut>,
}

/// The loss of its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// When, from the start of the round.
    pub(crate) after: Duration,
    /// For how long.
    pub(crate) away: Duration,
    /// Not before the server has gone.
    pub(crate) waits: bool,
    /// The next one is by RST instead of FIN.
    pub(crate) resets: bool,
}

/// One of them.
pub(crate) struct Stayer {
    address: String,
    habit: Habit,
    tide: Tide,
    poster: SendRequest<Full<Bytes>>,
    path: String,
    stream: Option<Events>,
    /// The event that came last: which session, and where in it.
    last: Option<(Bytes, u64)>,
    /// What was under way when the stream was cut may be lost to a client that does not say what it got.
    may_have_missed: bool,
    open: BTreeMap<u64, Open>,
    next_id: u64,
    pub(crate) account: Account,
}

/// A call that is not answered.
#[derive(Debug)]
struct Open {
    text: String,
    /// Notifications to come, and the next of them.
    count: u64,
    next: u64,
    begun: u64,
    was_cut: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    message: String,
}

impl Stayer {
    /// Opens a session and does the handshake; `false` if the upstream was not there for it.
    pub(crate) async fn open(address: &str, name: String, habit: Habit, tide: Tide) -> Result<(Self, bool)> {
        let authorization = if habit == Habit::Version { format!("Bearer {name}") } else { String::new() };
        let mut stayer = Stayer {
            address: address.to_owned(),
            habit,
            tide,
            poster: connect(address, false).await?,
            path: String::new(),
            stream: None,
            last: None,
            may_have_missed: false,
            open: BTreeMap::new(),
            next_id: 1,
            account: Account::new(name, authorization),
        };
        stayer.listen(false).await?;
        let hello = stayer.shake_hands().await.with_context(|| stayer.account.name.clone())?;
        Ok((stayer, hello))
    }

    async fn shake_hands(&mut self) -> Result<bool> {
        let info = format!(r#"{{"name":"{}","version":"1"}}"#, self.account.name);
        let params = format!(r#"{{"protocolVersion":"{VERSION}","capabilities":{{}},"clientInfo":{info}}}"#);
        let begun = self.tide.now();
        self.post(format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#)).await?;
        let event = self.next().await?;
        let answer: Message<'_> = serde_json::from_slice(&event.data)?;
        ensure!(answer.id == Some(0), "no answer to initialize: {}", String::from_utf8_lossy(&event.data));
        if answer.error.is_some() {
            ensure!(self.was_away_since(begun), "an error: {}", String::from_utf8_lossy(&event.data));
            self.account.errors += 1;
            return Ok(false);
        }
        self.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()).await?;
        Ok(true)
    }

    /// Opens a stream, as its habit is when it had one before.
    async fn listen(&mut self, resets: bool) -> Result<()> {
        let mut opener = connect(&self.address, resets).await?;
        let mut request = Request::get("/sse").header("host", &self.address).header("accept", "text/event-stream");
        match (&self.last, self.habit) {
            (Some((key, position)), Habit::LastEventId) => {
                request = request.header("last-event-id", format!("{}-{position}", String::from_utf8_lossy(key)));
            }
            (Some(_), Habit::Version) => request = request.header("mcp-protocol-version", VERSION),
            (None, _) => {}
        }
        if !self.account.authorization.is_empty() {
            request = request.header("authorization", &self.account.authorization);
        }
        let answer = timeout(LOST, opener.send_request(request.body(Full::default())?)).await??;
        ensure!(answer.status() == 200, "the stream was answered {}", answer.status());
        let mut stream = Events::of(answer);
        self.path = String::from_utf8(stream.next().await?.data.to_vec())?;
        self.stream = Some(stream);
        Ok(())
    }

    async fn post(&mut self, message: String) -> Result<()> {
        if self.poster.is_closed() {
            self.poster = connect(&self.address, false).await?;
        }
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .header("mcp-protocol-version", VERSION);
        if !self.account.authorization.is_empty() {
            request = request.header("authorization", &self.account.authorization);
        }
        self.poster.ready().await?;
        let sent = self.poster.send_request(request.body(Full::from(message))?);
        let answer = timeout(LOST, sent).await.context("a POST is lost")??;
        ensure!(answer.status() == 202, "a POST was answered {}", answer.status());
        answer.into_body().collect().await?;
        Ok(())
    }

    async fn begin(&mut self, tool: &str, large: bool, count: u64, takes: Duration) -> Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        self.account.calls += 1;
        let text = format!("{}/{id}", self.account.name);
        let pad = if large { format!(" {}", "x".repeat(LARGE)) } else { String::new() };
        let milliseconds = takes.as_millis() / u128::from(count + 1);
        let arguments =
            format!(r#"{{"text":"{text}{pad}","count":{count},"milliseconds":{milliseconds},"noted":true}}"#);
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":"p"}}}}"#);
        let open = Open { text: text + &pad, count, next: 0, begun: self.tide.now(), was_cut: false };
        self.open.insert(id, open);
        self.post(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)).await
    }

    pub(crate) fn habit(&self) -> Habit {
        self.habit
    }

    /// Does a round: every call gets one answer, or one error if the upstream was away.
    pub(crate) async fn round(&mut self, round: Round) -> Result<()> {
        let name = self.account.name.clone();
        self.calls_and_cut(round).await.with_context(|| name.clone())?;
        self.read_all().await.with_context(|| format!("{name}, with {:?} open", self.open.keys()))
    }

    async fn calls_and_cut(&mut self, Round { takes, cut }: Round) -> Result<()> {
        let start = Instant::now();
        self.begin("echo", false, 0, Duration::ZERO).await?;
        self.begin("echo", true, 0, Duration::ZERO).await?;
        if self.habit == Habit::Version && cut.is_some() {
            // What is on the wire when its stream breaks is lost to this kind of client.
            self.read_all().await?;
        }
        self.begin("echo", false, 0, takes).await?;
        self.begin("progress", false, 20, takes).await?;
        let Some(cut) = cut else { return Ok(()) };
        self.read_until(start + cut.after).await?;
        self.stream = None;
        self.account.returns += 1;
        self.may_have_missed = self.habit == Habit::Version;
        for open in self.open.values_mut() {
            open.was_cut = true;
        }
        if cut.waits {
            self.tide.gone().await;
        }
        sleep(cut.away).await;
        self.listen(cut.resets).await?;
        if self.next_id.is_multiple_of(2) {
            // The other half waits for what it has called, and posts nothing until then.
            self.read_all().await?;
        }
        self.begin("echo", false, 0, Duration::ZERO).await
    }

    /// Makes a call that takes long, and reads to the end of the stream: the proxy stops meanwhile.
    pub(crate) async fn stay_to_the_end(&mut self, takes: Duration) -> Result<()> {
        self.begin("echo", false, 0, takes).await?;
        self.read_all().await.with_context(|| self.account.name.clone())?;
        let stream = self.stream.as_mut().context("a stream")?;
        let more = timeout(LOST, stream.next_or_end()).await??;
        ensure!(more.is_none(), "{}: something after the last answer", self.account.name);
        Ok(())
    }

    async fn read_until(&mut self, until: Instant) -> Result<()> {
        while let Ok(event) = timeout_at(until, self.next()).await {
            self.take(&event?)?;
        }
        Ok(())
    }

    async fn read_all(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            let event = self.next().await?;
            self.take(&event)?;
        }
        Ok(())
    }

    /// The next event, which must be the next of this very session. Cancel safe.
    async fn next(&mut self) -> Result<Event> {
        let stream = self.stream.as_mut().context("a stream")?;
        let event = stream.next().await?;
        let id = stream.last_id().context("an event without an id")?;
        let at = id.iter().position(|byte| *byte == b'-').context("an id without a position")?;
        let (key, position) = (id.slice(..at), std::str::from_utf8(id.get(at + 1..).unwrap_or_default())?.parse()?);
        if let Some((before, last)) = &self.last {
            ensure!(*before == key, "another session");
            let follows = position == last + 1 || self.may_have_missed && position > *last;
            ensure!(follows, "event {position} after {last}: lost, doubled or out of order");
        }
        self.may_have_missed = false;
        self.last = Some((key, position));
        Ok(event)
    }

    fn take(&mut self, event: &Event) -> Result<()> {
        let message: Message<'_> = serde_json::from_slice(&event.data).context("a corrupted message")?;
        if message.method.is_some() {
            let params: Progress = serde_json::from_str(message.params.map_or("{}", RawValue::get))?;
            let progress = params.progress.context("a notification nobody asked for")?;
            let open = self.open.values_mut().find(|open| open.count > 0).context("a notification after its answer")?;
            let may_miss = open.was_cut && self.habit == Habit::Version;
            ensure!(
                progress == open.next || may_miss && progress > open.next,
                "notification {progress}, not {}",
                open.next
            );
            open.next = progress + 1;
            return Ok(());
        }
        let id = message.id.context("no answer")?;
        let open = self.open.remove(&id).with_context(|| format!("an answer to {id}, which is not open: doubled"))?;
        let outcome = match (message.result, message.error) {
            (Some(result), None) => {
                let content: Content<'_> = serde_json::from_str(result.get())?;
                let text: &str = content.content.first().map_or("", |part| part.text.get());
                ensure!(text.trim_matches('"') == open.text, "another text than was sent");
                let may_miss = open.was_cut && self.habit == Habit::Version;
                ensure!(open.next == open.count || may_miss, "{} notifications of {}", open.next, open.count);
                Outcome::Answered
            }
            (None, Some(error)) => {
                ensure!(self.was_away_since(open.begun), "an error although the upstream was there: {}", error.message);
                self.account.errors += 1;
                if error.message.ends_with("may have run") {
                    Outcome::MayHaveRun
                } else if error.message.ends_with("was not sent") {
                    Outcome::NotSent
                } else {
                    bail!("an error that does not say whether the call may have run: {}", error.message)
                }
            }
            _ => bail!("neither a result nor an error"),
        };
        self.account.note(&open.text, outcome);
        Ok(())
    }

    fn was_away_since(&self, begun: u64) -> bool {
        begun % 2 == 1 || self.tide.now() != begun
    }
}
