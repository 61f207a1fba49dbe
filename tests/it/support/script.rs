//! An upstream that is scripted byte by byte: it writes exactly what it is told, cut wherever it is told, stalls, floods,
//! half-closes, resets, and keeps what it got. Where nothing is scripted it is an ordinary server of the session era.
//!
//! It does its own HTTP, because a library would not let it be this rude. The trap is the other way round: only what
//! hyper's client sends is read here, whole requests with `Content-Length`, one at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use super::http::{chunk, document, event, last_chunk, reply, send, stream, stream_head};
use super::within;

/// Larger bodies are thrown away after they were answered, as Node does that refuses them by their length.
const LARGEST_READ: usize = 2 << 20;

/// What one request is answered with. The connection goes on with the next request afterwards.
pub(crate) type Script = Vec<Step>;

/// One thing the upstream does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes these bytes in one go.
    Send(Bytes),
    /// Does nothing until the gate is open.
    Wait(Gate),
    /// Writes these bytes again and again until the peer hangs up; see [`Scripted::flooded`].
    Flood(Bytes),
    /// Does nothing until the peer hangs up.
    Hold,
    /// Ends its own direction and reads on until the peer hangs up.
    HalfClose,
    /// Ends the connection.
    Close,
    /// Ends the connection with a reset.
    Reset,
}

/// Something a script waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// How an exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The script is not at its end.
    Running,
    /// The whole script was played.
    Played,
    /// The peer hung up before.
    Abandoned,
}

/// One request the upstream got.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    /// Counts connections, from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case, values exactly as they came.
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) fate: Fate,
}

impl Got {
    /// All values of a header, joined; `None` when it was not sent.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" | "))
    }

    /// The JSON-RPC method; empty for answers and for requests without a body.
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    /// Whether it calls the tool `name`.
    pub(crate) fn calls(&self, name: &str) -> bool {
        self.rpc() == "tools/call" && self.body["params"]["name"] == name
    }

    /// The request id in its JSON form.
    pub(crate) fn id(&self) -> String {
        self.body["id"].to_string()
    }
}

type Play = Box<dyn Fn(&Got) -> Option<Script> + Send + Sync>;

struct Shared {
    /// What is answered to a request; `None` is the ordinary answer.
    play: Play,
    got: Mutex<Vec<Got>>,
    /// Changes whenever `got` does.
    changes: watch::Sender<u64>,
    flooded: AtomicUsize,
}

impl Shared {
    fn got(&self) -> MutexGuard<'_, Vec<Got>> {
        self.got.lock().expect("no panic while locked")
    }

    /// Notes a request and tells which one it is.
    fn note(&self, got: Got) -> usize {
        let mut all = self.got();
        all.push(got);
        let number = all.len() - 1;
        drop(all);
        self.changes.send_modify(|changes| *changes += 1);
        number
    }

    fn settle(&self, number: usize, fate: Fate) {
        self.got()[number].fate = fate;
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// The upstream.
pub(crate) struct Scripted {
    url: String,
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

impl Scripted {
    /// Starts one that answers by `play`, and in the ordinary way where that has nothing to say.
    pub(crate) async fn start(play: impl Fn(&Got) -> Option<Script> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        // The query may be the credential (Azure: `?code=`), so it has to be there on every request.
        let url = format!("http://{}/mcp?code=c", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            play: Box::new(play),
            got: Mutex::default(),
            changes: watch::Sender::new(0),
            flooded: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let running = tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(Arc::clone(&serving), stream, connection));
            }
        });
        Scripted { url, shared, running }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Everything it got so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got().clone()
    }

    /// How many requests `wanted` picks.
    pub(crate) fn count(&self, wanted: impl Fn(&Got) -> bool) -> usize {
        self.shared.got().iter().filter(|got| wanted(got)).count()
    }

    /// Waits until `found` finds something in what it got.
    pub(crate) async fn until<T>(&self, what: &str, found: impl Fn(&[Got]) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        within(what, async {
            loop {
                if let Some(found) = found(&self.shared.got()) {
                    return found;
                }
                changes.changed().await.expect("the upstream lives");
            }
        })
        .await
    }

    /// Waits until there is a request that `wanted` picks.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        self.until(what, |all| all.iter().find(|got| wanted(got)).cloned()).await
    }

    /// Bytes that [`Step::Flood`] got rid of.
    pub(crate) fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::Relaxed)
    }

    /// Stops listening, so that new connections are refused.
    pub(crate) fn stop(&self) {
        self.running.abort();
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve(shared: Arc<Shared>, mut stream: TcpStream, connection: usize) {
    // Pieces must leave as they are written.
    stream.set_nodelay(true).expect("a socket");
    let mut buffer = BytesMut::new();
    // What is left of a request that was answered unread.
    let mut unread = 0;
    while let Some(got) = read_request(&mut stream, &mut buffer, &mut unread, connection).await {
        let number = shared.note(got.clone());
        let script = (shared.play)(&got).unwrap_or_else(|| ordinary(&got));
        let mut fate = Fate::Played;
        for step in script {
            match step {
                Step::Close => {
                    shared.settle(number, Fate::Played);
                    return;
                }
                Step::Reset => {
                    stream.set_zero_linger().expect("a socket");
                    drop(stream);
                    shared.settle(number, Fate::Played);
                    return;
                }
                step => {
                    if play_step(&shared, &mut stream, step).await.is_none() {
                        fate = Fate::Abandoned;
                        break;
                    }
                }
            }
        }
        shared.settle(number, fate);
        if fate == Fate::Abandoned {
            return;
        }
    }
}

/// `None` when the peer hung up.
async fn play_step(shared: &Shared, stream: &mut TcpStream, step: Step) -> Option<()> {
    match step {
        Step::Send(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            // So that the peer may see the piece before the next one is there.
            tokio::task::yield_now().await;
            Some(())
        }
        Step::Wait(gate) => tokio::select! {
            () = gate.opened() => Some(()),
            () = hung_up(stream) => None,
        },
        Step::Flood(bytes) => loop {
            stream.write_all(&bytes).await.ok()?;
            shared.flooded.fetch_add(bytes.len(), Ordering::Relaxed);
        },
        Step::HalfClose => {
            stream.shutdown().await.ok()?;
            hung_up(stream).await;
            None
        }
        _ => {
            hung_up(stream).await;
            None
        }
    }
}

async fn hung_up(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        panic!("the peer takes a connection for free whose script is not at its end");
    }
}

/// `None` when there is no further whole request.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    unread: &mut usize,
    connection: usize,
) -> Option<Got> {
    while *unread > 0 {
        *unread -= buffer.split_to(buffer.len().min(*unread)).len();
        if *unread > 0 {
            read_more(stream, buffer).await?;
        }
    }
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer.split_to(end).to_vec()).expect("ASCII");
    let mut lines = head.trim_end().split("\r\n");
    let mut words = lines.next().expect("a request line").split(' ').map(str::to_owned);
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let length: usize = length.parse().expect("a length");
    if length > LARGEST_READ {
        *unread = length;
        return Some(Got { connection, method, target, headers, body: Value::Null, fate: Fate::Running });
    }
    while buffer.len() < length {
        read_more(stream, buffer).await?;
    }
    let body = serde_json::from_slice(&buffer.split_to(length)).unwrap_or_default();
    Some(Got { connection, method, target, headers, body, fate: Fate::Running })
}

async fn read_more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<()> {
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}

/// What a well-behaved server answers. It has sessions and no GET stream.
fn ordinary(got: &Got) -> Script {
    let result = |result: Value| {
        let text = json!({"jsonrpc": "2.0", "id": got.body["id"], "result": result}).to_string();
        let session = [("content-type", "application/json"), ("mcp-session-id", "the-session")];
        // The session id belongs into the answer to `initialize` alone.
        let headers = if got.rpc() == "initialize" { &session[..] } else { &session[..1] };
        vec![reply(200, headers, text)]
    };
    match (got.method.as_str(), got.rpc()) {
        ("POST", "initialize") => result(json!({"protocolVersion": got.body["params"]["protocolVersion"],
            "capabilities": {"tools": {}}, "serverInfo": {"name": "scripted", "version": "1"}})),
        ("POST", "tools/call") => {
            result(json!({"content": [{"type": "text", "text": got.body["params"]["arguments"]["text"]}]}))
        }
        ("POST", "") => vec![reply(202, &[], "")],
        ("POST", _) if got.body.get("id").is_none() => vec![reply(202, &[], "")],
        ("POST", _) => result(json!({})),
        ("DELETE", _) => vec![reply(200, &[], "")],
        _ => vec![reply(405, &[("allow", "POST, DELETE"), ("content-type", "text/plain")], "no")],
    }
}
