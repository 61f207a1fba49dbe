//! Clients that trust nothing: every answer must be there once, in order, and hold what was asked for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_sunset::sse::{Decoder, Event};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes this long; a run that waits longer has lost one.
pub(crate) const LOST: Duration = Duration::from_secs(60);
/// Largest event a client takes.
const LARGEST: usize = 64 << 20;

/// A connection to post by.
pub(crate) type Poster = SendRequest<Full<Bytes>>;

/// How a target is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP+SSE.
    Legacy,
    /// Streamable HTTP.
    Direct,
}

/// Whom the load goes to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) transport: Transport,
}

/// One session.
pub(crate) struct Client {
    target: Target,
    poster: Poster,
    /// Where messages are posted: with the session id of a legacy session.
    path: String,
    session: Option<http::HeaderValue>,
    stream: Option<Events>,
    next_id: u64,
}

/// A session that does nothing.
pub(crate) struct IdleClient {
    _stream: Option<Events>,
}

/// The events of a body.
pub(crate) struct Events {
    body: Incoming,
    decoder: Decoder,
}

/// A message as far as it is checked.
#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct Progress {
    pub(crate) progress: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct Content<'a> {
    #[serde(borrow)]
    pub(crate) content: Vec<Text<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct Text<'a> {
    #[serde(borrow)]
    pub(crate) text: &'a RawValue,
}

/// What a call is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) tool: &'a str,
    /// JSON of the text to be echoed, quotes included.
    pub(crate) text: &'a str,
    /// Notifications to come first.
    pub(crate) count: u64,
    pub(crate) megabytes: usize,
}

impl<'a> Call<'a> {
    pub(crate) fn echo(text: &'a str) -> Self {
        Call { tool: "echo", text, count: 0, megabytes: 0 }
    }
}

/// A connection; one that `resets` ends by RST instead of FIN.
pub(crate) async fn connect(address: &str, resets: bool) -> Result<Poster> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if resets {
        stream.set_zero_linger()?;
    }
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

impl Events {
    pub(crate) fn of(answer: Response<Incoming>) -> Self {
        Events { body: answer.into_body(), decoder: Decoder::new(LARGEST) }
    }

    /// The id of the event that came last.
    pub(crate) fn last_id(&self) -> Option<&Bytes> {
        self.decoder.last_id()
    }

    /// The next event. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Event> {
        self.next_or_end().await?.context("the stream ended")
    }

    /// The next event, or `None` at the end of the stream. Cancel safe.
    pub(crate) async fn next_or_end(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.decoder.next_event()? {
                return Ok(Some(event));
            }
            let frame = timeout(LOST, self.body.frame()).await.context("an answer is lost")?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                self.decoder.feed(&data);
            }
        }
    }
}

impl Client {
    /// Opens a session and does the handshake.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let mut client = Client::connect(target).await?;
        let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"load","version":"1"}}}"#;
        match target.transport {
            Transport::Legacy => {
                client.post(hello.to_owned()).await?.into_body().collect().await?;
                let stream = client.stream.as_mut().context("a stream")?;
                // There are servers that have something to say before (the npm library mcp-proxy).
                while is_notification(&stream.next().await?.data)? {}
            }
            Transport::Direct => {
                let answer = client.post(hello.to_owned()).await?;
                client.session = answer.headers().get("mcp-session-id").cloned();
                answer.into_body().collect().await?;
            }
        }
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let answer = client.post(initialized.to_owned()).await?;
        ensure!(answer.status() == 202, "initialized was answered {}", answer.status());
        answer.into_body().collect().await?;
        Ok(client)
    }

    /// Opens connections, and the stream where there is one.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let mut client = Client {
            target: target.clone(),
            poster: connect(&target.address, false).await?,
            path: "/mcp".to_owned(),
            session: None,
            stream: None,
            next_id: 1,
        };
        if target.transport == Transport::Legacy {
            let mut opener = connect(&target.address, false).await?;
            let request = client.request(Method::GET, "/sse").header("accept", "text/event-stream");
            let answer = timeout(LOST, opener.send_request(request.body(Full::default())?)).await??;
            ensure!(answer.status() == 200, "the stream was answered {}", answer.status());
            let mut stream = Events::of(answer);
            client.path = String::from_utf8(stream.next().await?.data.to_vec())?;
            client.stream = Some(stream);
        }
        Ok(client)
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("host", &self.target.address)
    }

    async fn post(&mut self, message: String) -> Result<Response<Incoming>> {
        let request = self.post_request(message)?;
        send(&mut self.poster, request).await
    }

    fn post_request(&self, message: String) -> Result<Request<Full<Bytes>>> {
        let mut request = self
            .request(Method::POST, &self.path)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        Ok(request.body(Full::from(message))?)
    }

    /// Only its stream, as clients that have nothing to say keep nothing else.
    pub(crate) fn without_poster(self) -> IdleClient {
        IdleClient { _stream: self.stream }
    }

    /// Sends a call and leaves its answer unread.
    pub(crate) async fn begin(&mut self, call: Call<'_>) -> Result<u64> {
        let (id, message) = self.message(call);
        let answer = self.post(message).await?;
        ensure!(answer.status() == 202, "a call was answered {}", answer.status());
        answer.into_body().collect().await?;
        Ok(id)
    }

    /// Makes a call, checks everything that comes, and tells how long it took.
    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Duration> {
        let start = Instant::now();
        let (id, message) = self.message(call);
        match self.target.transport {
            Transport::Legacy => {
                let mut stream = self.stream.take().context("a stream")?;
                // Side by side: a large answer may need to be read before the POST is answered.
                let posting = async {
                    let answer = self.post(message).await?;
                    ensure!(answer.status() == 202, "a call was answered {}", answer.status());
                    answer.into_body().collect().await?;
                    Ok(())
                };
                tokio::try_join!(posting, read(&mut stream, id, call))?;
                self.stream = Some(stream);
            }
            Transport::Direct => {
                let answer = self.post(message).await?;
                ensure!(answer.status() == 200, "a call was answered {}", answer.status());
                let is_stream = answer.headers().get("content-type").is_some_and(|media| media == "text/event-stream");
                if is_stream {
                    let mut events = Events::of(answer);
                    read(&mut events, id, call).await?;
                    // To its end, so that the connection can be used again.
                    events.body.collect().await?;
                } else {
                    let text = answer.into_body().collect().await?.to_bytes();
                    ensure!(check(&text, id, call, 0)?, "no answer");
                }
            }
        }
        Ok(start.elapsed())
    }

    /// Makes a call by a connection that may lead to another replica; how long until it was taken, and until its answer was there.
    pub(crate) async fn call_by(&mut self, poster: &mut Poster, call: Call<'_>) -> Result<(Duration, Duration)> {
        let start = Instant::now();
        let (id, message) = self.message(call);
        let request = self.post_request(message)?;
        let stream = self.stream.as_mut().context("a stream")?;
        let posting = async {
            let answer = send(poster, request).await?;
            let taken = start.elapsed();
            ensure!(answer.status() == 202, "a call was answered {}", answer.status());
            answer.into_body().collect().await?;
            Ok(taken)
        };
        let (taken, ()) = tokio::try_join!(posting, read(stream, id, call))?;
        Ok((taken, start.elapsed()))
    }

    /// Whether a call by this connection is taken. What becomes of it is left unread.
    pub(crate) async fn is_taken_by(&mut self, poster: &mut Poster) -> Result<bool> {
        let (_, message) = self.message(Call::echo("\"way\""));
        let answer = send(poster, self.post_request(message)?).await?;
        let is_taken = answer.status() == 202;
        answer.into_body().collect().await?;
        Ok(is_taken)
    }

    /// Makes calls without waiting for answers in between, `depth` at a time; answers may come in any order.
    pub(crate) async fn pipelined(&mut self, depth: usize) -> Result<()> {
        let mut open = std::collections::BTreeMap::new();
        for number in 0..depth {
            let text = format!("\"pipelined {number}\"");
            let id = self.begin(Call::echo(&text)).await?;
            open.insert(id, text);
        }
        while !open.is_empty() {
            let event = self.stream.as_mut().context("a stream")?.next().await?;
            let id = answered(&event.data)?;
            let text = open.remove(&id).with_context(|| format!("an answer to {id}, which is not open: doubled"))?;
            ensure!(check(&event.data, id, Call::echo(&text), 0)?, "a notification nobody asked for");
        }
        Ok(())
    }

    fn message(&mut self, call: Call<'_>) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        let Call { tool, text, count, megabytes } = call;
        let arguments = format!(r#"{{"text":{text},"count":{count},"megabytes":{megabytes}}}"#);
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":"p"}}}}"#);
        (id, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#))
    }
}

async fn send(poster: &mut Poster, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    poster.ready().await?;
    Ok(timeout(LOST, poster.send_request(request)).await.context("a POST is lost")??)
}

fn is_notification(text: &[u8]) -> Result<bool> {
    let message: Message<'_> = serde_json::from_slice(text).context("a corrupted message")?;
    Ok(message.id.is_none() && message.method.is_some())
}

/// Which call a message answers.
fn answered(text: &[u8]) -> Result<u64> {
    let message: Message<'_> = serde_json::from_slice(text).context("a corrupted message")?;
    message.id.filter(|_| message.method.is_none()).context("no answer")
}

/// Reads up to the answer of `id`, and checks all of it.
async fn read(events: &mut Events, id: u64, call: Call<'_>) -> Result<()> {
    let mut progress = 0;
    loop {
        let event = events.next().await?;
        if check(&event.data, id, call, progress)? {
            ensure!(progress == call.count, "{progress} notifications of {}", call.count);
            return Ok(());
        }
        progress += 1;
    }
}

/// Checks one message; whether it is the answer.
fn check(text: &[u8], id: u64, call: Call<'_>, expected: u64) -> Result<bool> {
    let message: Message<'_> = serde_json::from_slice(text).context("a corrupted message")?;
    if message.method.is_some() {
        let params = message.params.map_or("{}", RawValue::get);
        let progress: Progress = serde_json::from_str(params)?;
        ensure!(progress.progress == Some(expected), "notification {expected} is lost, doubled or out of order");
        return Ok(false);
    }
    ensure!(message.id == Some(id), "an answer to {:?} instead of {id}: lost, doubled or out of order", message.id);
    let Some(result) = message.result else { bail!("an error: {}", String::from_utf8_lossy(text)) };
    let content: Content<'_> = serde_json::from_str(result.get())?;
    ensure!(content.content.first().is_some_and(|part| part.text.get() == call.text), "another text than was sent");
    Ok(true)
}

/// What the stub counts.
pub(crate) async fn counts(stub: &str) -> Result<crate::stub::Counts> {
    let mut sender = connect(stub, false).await?;
    let request = Request::builder().uri("/counts").header("host", stub).body(Full::default())?;
    let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Call<'_> = Call { tool: "progress", text: "\"x\"", count: 2, megabytes: 0 };

    fn answer(id: u64, text: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":{text}}}]}}}}"#)
    }

    fn note(progress: u64) -> String {
        let params = format!(r#"{{"progressToken":"p","progress":{progress}}}"#);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)
    }

    #[test]
    fn what_was_asked_for_passes() {
        assert!(!check(note(0).as_bytes(), 7, ECHO, 0).expect("the first notification"));
        assert!(!check(note(1).as_bytes(), 7, ECHO, 1).expect("the second"));
        assert!(check(answer(7, "\"x\"").as_bytes(), 7, ECHO, 2).expect("the answer"));
        assert_eq!(answered(answer(7, "\"x\"").as_bytes()).expect("an answer"), 7);
    }

    #[test]
    fn lost_doubled_reordered_and_corrupted_messages_are_failures() {
        let wrong = [
            ("a notification is lost", note(2), 1),
            ("a notification is doubled", note(0), 1),
            ("the answer of the call before comes again", answer(6, "\"x\""), 2),
            ("the answer of another call comes first", answer(8, "\"x\""), 2),
            ("another text", answer(7, "\"y\""), 2),
            ("half a message", answer(7, "\"x\"").split_at(20).0.to_owned(), 2),
            ("an error", r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#.to_owned(), 2),
        ];
        for (what, message, expected) in wrong {
            assert!(check(message.as_bytes(), 7, ECHO, expected).is_err(), "{what}");
        }
    }
}
