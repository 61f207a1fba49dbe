//! The canary: walks the public path as a legacy client does, and says where it goes no further.
//!
//! ```text
//! connect -> endpoint -> initialize -> initialized -> ping -> end
//! ```
//!
//! Promise: each step has its time, a failure has what was expected, what was got and what to do (`remedy`), and the whole walk
//! has one deadline. With a key the run is signed, so that it counts as no client; a signature that is not recognised fails
//! the run at once, before it leaves more in the log than a connection.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::Fault;
use super::remedy;
use super::sse_client::{Answer, Endpoint, SseClient, SseStream, Target};
use crate::auth::{ACCEPTED, PROBE_HEADER, Signer};
use crate::traffic::printable;

/// The version that the canary asks for: old enough for every server that speaks Streamable HTTP.
const PROTOCOL_VERSION: &str = "2025-06-18";

/// What to walk, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// The public path.
    pub target: Target,
    /// Signs the run; without it the run counts as a client.
    pub signer: Option<Signer>,
    /// Time for the whole walk.
    pub timeout: Duration,
}

/// A step of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `GET`, to the head of its answer.
    Connect,
    /// The endpoint event.
    Endpoint,
    /// `initialize`, to its answer on the stream.
    Initialize,
    /// `notifications/initialized`, to the answer to its POST.
    Initialized,
    /// `ping`, to its answer on the stream.
    Ping,
}

impl Step {
    /// Its name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Connect => "connect",
            Step::Endpoint => "endpoint",
            Step::Initialize => "initialize",
            Step::Initialized => "initialized",
            Step::Ping => "ping",
        }
    }
}

/// What became of the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// There was no key.
    None,
    /// The proxy took it: the run is in no client's numbers.
    Accepted,
    /// The proxy did not, or was never reached.
    NotRecognised,
}

impl Signature {
    /// Its name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Signature::None => "none",
            Signature::Accepted => "accepted",
            Signature::NotRecognised => "not_recognised",
        }
    }
}

/// Why the walk went no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub step: Step,
    /// What a good path gives there.
    pub expected: String,
    /// What came.
    pub got: String,
    /// What to do, and in whose hands it is.
    pub remedy: String,
}

/// A walk, to its end or not.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The steps that went well, with the time that each took.
    pub steps: Vec<(Step, Duration)>,
    /// From the beginning to the end.
    pub total: Duration,
    /// What became of the signature.
    pub signature: Signature,
    /// An event stream was opened that was not known for the canary's: it stands in the log as a client's.
    pub counted_as_client: bool,
    /// Name and version of the server, as it says.
    pub server: Option<(String, String)>,
    /// Why it is not whole.
    pub failure: Option<Failure>,
}

/// What `initialize` is answered with, as far as it matters here.
#[derive(Deserialize)]
struct Initialized {
    #[serde(rename = "serverInfo", default)]
    server: ServerInfo,
}

#[derive(Deserialize, Default)]
struct ServerInfo {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

/// A walk under way.
struct Walk<'a> {
    config: &'a Config,
    outcome: Outcome,
    since: Instant,
}

/// Walks the path once.
///
/// # Errors
/// What keeps TLS from being set up.
pub async fn walk(config: &Config) -> Result<Outcome, String> {
    let client = SseClient::new(config.target.clone())?;
    let outcome = Outcome {
        steps: Vec::new(),
        total: Duration::ZERO,
        signature: if config.signer.is_some() { Signature::NotRecognised } else { Signature::None },
        counted_as_client: false,
        server: None,
        failure: None,
    };
    let mut walk = Walk { config, outcome, since: Instant::now() };
    walk.outcome.failure = walk.whole_way(&client).await.err();
    walk.outcome.total = walk.since.elapsed();
    Ok(walk.outcome)
}

impl Walk<'_> {
    async fn whole_way(&mut self, client: &SseClient) -> Result<(), Failure> {
        let mut stream = self.connect(client).await?;
        let endpoint = stream.endpoint(self.left()).await;
        let endpoint = endpoint.map_err(|fault| remedy::endpoint(&fault, stream.head()))?;
        self.done(Step::Endpoint, endpoint.at.saturating_sub(stream.head().at));
        self.initialize(&mut stream, &endpoint).await?;
        let told = stream.tell(&endpoint, "notifications/initialized", self.left()).await;
        let told = told.map_err(|fault| remedy::message(Step::Initialized, &fault))?;
        self.done(Step::Initialized, told.took);
        let answer = stream.ask(&endpoint, "ping", Value::Null, self.left()).await;
        let answer = answer.map_err(|fault| remedy::message(Step::Ping, &fault))?;
        self.check_answer(Step::Ping, &answer)
        // The stream ends here, and with it the session.
    }

    async fn connect(&mut self, client: &SseClient) -> Result<SseStream, Failure> {
        let mut extra = HeaderMap::new();
        if let Some(signer) = &self.config.signer {
            extra.insert(PROBE_HEADER, signer.sign(None));
        }
        let opened = client.open(&extra, self.left()).await;
        let mut stream = opened.map_err(|fault| remedy::connect(&fault, client.url()))?;
        if !stream.head().is_event_stream() {
            let text = stream.text().await;
            return Err(remedy::head(stream.head(), client.url(), &text));
        }
        let answer = stream.head().headers.get(&PROBE_HEADER).and_then(|value| value.to_str().ok());
        if answer == Some(ACCEPTED) && self.config.signer.is_some() {
            self.outcome.signature = Signature::Accepted;
        } else {
            self.outcome.counted_as_client = true;
            if self.config.signer.is_some() {
                return Err(remedy::signature(answer));
            }
        }
        self.done(Step::Connect, stream.head().at);
        Ok(stream)
    }

    async fn initialize(&mut self, stream: &mut SseStream, endpoint: &Endpoint) -> Result<(), Failure> {
        let params = json!({"protocolVersion": PROTOCOL_VERSION, "capabilities": {},
            "clientInfo": {"name": "sse-sunset-canary", "version": env!("CARGO_PKG_VERSION")}});
        let answer = stream.ask(endpoint, "initialize", params, self.left()).await;
        let answer = answer.map_err(|fault| remedy::message(Step::Initialize, &fault))?;
        self.check_answer(Step::Initialize, &answer)?;
        if let Some(Initialized { server }) = answer.message.result() {
            self.outcome.server = Some((printable(&server.name), printable(&server.version)));
        }
        Ok(())
    }

    fn check_answer(&mut self, step: Step, answer: &Answer) -> Result<(), Failure> {
        if let Some((code, text)) = answer.message.error() {
            return Err(remedy::rpc_error(step, code, &text));
        }
        self.done(step, answer.took);
        Ok(())
    }

    fn done(&mut self, step: Step, took: Duration) {
        self.outcome.steps.push((step, took));
    }

    /// The time that is left.
    fn left(&self) -> Duration {
        self.config.timeout.saturating_sub(self.since.elapsed())
    }
}

/// Whether nothing came, in whatever time was left.
pub(super) fn is_silence(fault: &Fault) -> bool {
    matches!(fault, Fault::Silent(_))
}
