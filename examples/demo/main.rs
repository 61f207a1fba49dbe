//! The whole migration in one process: a legacy client, the proxy, an upgraded server, the log that results, and
//! what the report makes of it.
//!
//! `cargo run --release --example demo` needs nothing else. The proxy is the real one, configured as `serve` would be;
//! the server (`server.rs`) is rmcp's Streamable HTTP service; the client speaks HTTP+SSE by hand, which shows on
//! the wire what a program from before March 2025 does.
//!
//! The trap: nothing here may wait by time. Each step waits for the message that proves the step before it.

mod server;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use http::header;
use jiff::Timestamp;
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};
use sse_sunset::app::App;
use sse_sunset::config::{self, Config, Given, Origin, Raw};
use sse_sunset::report::access::Paths;
use sse_sunset::report::evidence::Bounds;
use sse_sunset::report::outcome::Verdict;
use sse_sunset::report::policy::Policy;
use sse_sunset::report::render::{self, Style};
use sse_sunset::report::{self, Reading, input};
use sse_sunset::sse::{Decoder, Event};
use sse_sunset::upstream;
use tokio::sync::oneshot;

use server::UpgradedServer;

/// The demo takes well under a second; whoever waits longer deserves a message instead of a cursor.
const DEADLINE: Duration = Duration::from_secs(20);
/// Far above anything this server says.
const LARGEST_EVENT: usize = 64 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let failure = match tokio::time::timeout(DEADLINE, demo()).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => anyhow!("the step after the last line above took longer than {} s", DEADLINE.as_secs()),
    };
    let _ = writeln!(std::io::stderr(), "demo failed: {failure:#}");
    ExitCode::FAILURE
}

async fn demo() -> anyhow::Result<()> {
    let server = UpgradedServer::start().await.context("cannot start the upgraded server")?;
    let dir = tempfile::tempdir().context("cannot make a directory for the traffic log")?;
    let log = dir.path().join("legacy.jsonl");
    let app = App::build(configure(&server.url(), &log)?).context("cannot start the proxy")?;
    let proxy = app.address()?;
    say("A legacy client, an upgraded server, and sse-sunset between them:")?;
    say(&format!("  demo-legacy-client --HTTP+SSE--> {proxy} --Streamable HTTP--> {}\n", server.url()))?;

    let (stop, stopped) = oneshot::channel::<()>();
    let client = async {
        let outcome = legacy_conversation(proxy).await;
        if outcome.is_ok() {
            // A shutdown before this would be what ends the session, and the log would say so.
            server.session_ended().await;
        }
        drop(stop);
        outcome
    };
    let shutdown = async {
        // The sender sends nothing: that it is gone is the signal, and that holds when the client failed, too.
        let _ = stopped.await;
    };
    let (outcome, ()) = tokio::join!(client, app.run(shutdown));
    outcome.context("the legacy conversation went wrong")?;

    say(&format!("\nThe server saw Streamable HTTP only: {}.", server.requests()))?;
    say("\nWhat the traffic log holds, for whoever has to know who still comes:\n")?;
    show_log(&log).context("the traffic log is not what it should be")?;
    say("\nAnd what sse-sunset report makes of it:\n")?;
    show_report(&log).context("the report is not what it should be")?;
    say("\nNow with your own server: sse-sunset serve --upstream URL, and give legacy clients the /sse URL it prints.")
}

/// Standard output may be closed early (`| head`), which is an error here and not a panic as with `println!`.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

/// The configuration that `sse-sunset serve` would make of these flags.
fn configure(upstream: &str, log: &Path) -> anyhow::Result<Config> {
    let log = log.to_str().context("the temporary directory has a name that is not UTF-8")?;
    let flags = [
        ("upstream", upstream),
        ("listen", "127.0.0.1:0"),
        ("admin", "off"),
        ("traffic-log", log),
        // No balancer has to notice that this proxy leaves.
        ("drain-delay", "0s"),
        // This client leaves for good; nobody shall have to wait for the end of its session.
        ("linger", "0s"),
    ];
    let given = |value: &str| Given { values: vec![value.to_owned()], origin: Origin::Flag };
    let raw: Raw = flags.into_iter().map(|(name, value)| (name, given(value))).collect();
    config::resolve(&raw, Vec::new(), "demo").map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("the configuration is wrong: {}", problems.join("; "))
    })
}

/// Prints the log as it is, and checks that it names the client: that is what the log is for.
fn show_log(path: &Path) -> anyhow::Result<()> {
    let log = std::fs::read_to_string(path)?;
    let mut used = false;
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        used |= text(&record, "/event.name")? == "legacy.use" && line.contains("demo-legacy-client");
        say(line)?;
    }
    ensure!(used, "no legacy.use record names demo-legacy-client:\n{log}");
    Ok(())
}

/// Prints the answer, and checks that a client that was here a moment ago still counts.
fn show_report(path: &Path) -> anyhow::Result<()> {
    let now = Timestamp::now().as_millisecond();
    let bounds = Bounds { since: None, until: None, now };
    let inputs = input::open(&[path.display().to_string()])?;
    let (evidence, input) =
        report::read(inputs, Reading { bounds, paths: Paths::default(), pseudonyms: None }, &mut |_| {})?;
    let report = report::judge(
        &evidence,
        input,
        &Policy { words: "traffic.log".to_owned(), words_later: "traffic.log".to_owned(), ..Policy::at(now) },
    );
    ensure!(report.verdict == Verdict::NotYet, "the verdict is {}: {}", report.verdict.title(), report.reason);
    say(render::text(&report, Style { width: 100, colour: false }).trim_end())
}

/// The HTTP+SSE side: one stream to read, one address to post to.
struct LegacyClient {
    http: Client,
    /// Where to post, from the endpoint event.
    endpoint: Url,
    events: Events,
    /// The id of the last request.
    last_id: u64,
}

/// A stream that is being read.
struct Events {
    response: Response,
    decoder: Decoder,
}

/// Says everything a client of that era says, and checks the answers.
async fn legacy_conversation(proxy: SocketAddr) -> anyhow::Result<()> {
    let mut client = LegacyClient::connect(proxy).await?;
    let info = json!({ "name": "demo-legacy-client", "version": "1.2.0" });
    let params = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
    let hello = client.request("initialize", "", params).await?;
    say(&format!("<- {}, protocol {}", text(&hello, "/serverInfo/name")?, text(&hello, "/protocolVersion")?))?;
    say("-> notifications/initialized")?;
    client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;

    let list = client.request("tools/list", "", json!({})).await?;
    let tools = list.get("tools").and_then(Value::as_array).context("tools/list has no tools")?;
    let mut names = tools.iter().map(|tool| text(tool, "/name")).collect::<anyhow::Result<Vec<_>>>()?;
    names.sort_unstable();
    say(&format!("<- {}", names.join(", ")))?;

    client.call("add", json!({ "a": 2, "b": 3 }), "5").await?;
    client.call("greet", json!({ "name": "Ada" }), "Hello, Ada!").await?;
    client.call("count", json!({ "to": 3 }), "counted to 3").await?;
    say("-- the client closes its stream")
}

impl LegacyClient {
    /// Opens the stream and learns from it where to post (MCP 2024-11-05, transports §HTTP with SSE).
    async fn connect(proxy: SocketAddr) -> anyhow::Result<Self> {
        upstream::install_tls_provider();
        // A proxy from the environment would be asked for 127.0.0.1.
        let http = Client::builder().no_proxy().user_agent("demo-legacy-client/1.2.0").build()?;
        let base = Url::parse(&format!("http://{proxy}/sse"))?;
        say("-> GET /sse")?;
        let response = http.get(base.clone()).header(header::ACCEPT, "text/event-stream").send().await?;
        ensure!(response.status().is_success(), "GET /sse was answered {}", response.status());
        let mut events = Events { response, decoder: Decoder::new(LARGEST_EVENT) };
        let event = events.next().await?;
        let kind = event.kind.unwrap_or_default();
        ensure!(kind == "endpoint", "the first event must be endpoint, got {}", kind.escape_ascii());
        let endpoint = base.join(std::str::from_utf8(&event.data)?)?;
        // The query is the session: whoever has it can post into it, so not even a demo prints it.
        say(&format!("<- endpoint {}?...", endpoint.path()))?;
        Ok(LegacyClient { http, endpoint, events, last_id: 0 })
    }

    /// Calls a tool and checks the text it answers.
    async fn call(&mut self, tool: &str, arguments: Value, expected: &str) -> anyhow::Result<()> {
        let note = format!(" {tool} {arguments}");
        let meta = json!({ "progressToken": tool });
        let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
        let result = self.request("tools/call", &note, params).await?;
        let answer = text(&result, "/content/0/text")?;
        ensure!(answer == expected, "{tool} must answer {expected:?}, got {answer:?}");
        say(&format!("<- {answer}"))
    }

    /// Posts a request and reads the stream up to its result, printing what comes before.
    async fn request(&mut self, method: &str, note: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        say(&format!("-> {method}{note}"))?;
        self.post(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await?;
        loop {
            let event = self.events.next().await?;
            let message: Value = serde_json::from_slice(&event.data)?;
            if message.get("id").is_some_and(|answered| *answered == id) {
                return message.get("result").cloned().with_context(|| format!("{method} was answered {message}"));
            }
            let params = message.get("params").unwrap_or(&Value::Null);
            say(&format!("<- {} {params}", text(&message, "/method")?))?;
        }
    }

    /// The answer to the POST says only that the message arrived; what it led to comes on the stream.
    async fn post(&self, message: &Value) -> anyhow::Result<()> {
        let request = self.http.post(self.endpoint.clone()).header(header::CONTENT_TYPE, "application/json");
        let status = request.body(message.to_string()).send().await?.status();
        ensure!(status.is_success(), "a POST was answered {status}");
        Ok(())
    }
}

impl Events {
    async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.decoder.next_event()? {
                return Ok(event);
            }
            match self.response.chunk().await? {
                Some(chunk) => self.decoder.feed(&chunk),
                None => bail!("the stream ended before the answer came"),
            }
        }
    }
}

/// The string at a JSON pointer.
fn text<'a>(message: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    let value = message.pointer(pointer);
    value.and_then(Value::as_str).with_context(|| format!("expected a string at {pointer}, got {message}"))
}
