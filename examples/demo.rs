//! The whole migration in one process: a legacy client, the proxy, an upgraded server, and the log that results.
//!
//! `cargo run --release --example demo` needs nothing else. The proxy is the real one, configured as `serve` would be;
//! the server is rmcp's Streamable HTTP service; the client speaks HTTP+SSE by hand (MCP 2024-11-05, transports),
//! because current SDKs no longer do.
//!
//! The trap: nothing here may wait by time. Each step waits for the message that proves the step before it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use http::{Method, header};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::{Client, Response, Url};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ProgressNotificationParam, RequestMetaObject, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{Peer, RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde_json::{Value, json};
use sse_sunset::app::App;
use sse_sunset::config::{self, Config, Given, Origin, Raw};
use sse_sunset::sse::{Decoder, Event};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// The demo takes well under a second; whoever waits longer deserves a message instead of a cursor.
const DEADLINE: Duration = Duration::from_secs(20);
/// Far above anything this server says.
const LARGEST_EVENT: usize = 64 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let failure = match tokio::time::timeout(DEADLINE, demo()).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => anyhow!("not done after {} s", DEADLINE.as_secs()),
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
            server.session_ended.notified().await;
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
        ("traffic-log", log),
        // No balancer has to notice that this proxy leaves.
        ("drain-delay", "0s"),
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
        used |= record["event.name"] == "legacy.use" && line.contains("demo-legacy-client");
        say(line)?;
    }
    ensure!(used, "no legacy.use record names demo-legacy-client:\n{log}");
    Ok(())
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
    say(&format!("<- {}, protocol {}", text(&hello["serverInfo"]["name"])?, text(&hello["protocolVersion"])?))?;
    say("-> notifications/initialized")?;
    client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;

    let list = client.request("tools/list", "", json!({})).await?;
    let tools = list["tools"].as_array().context("tools/list has no tools")?;
    let mut names = tools.iter().map(|tool| text(&tool["name"])).collect::<anyhow::Result<Vec<_>>>()?;
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
        let answer = text(&result["content"][0]["text"])?;
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
            let mut message: Value = serde_json::from_slice(&event.data)?;
            if message["id"] == id {
                ensure!(message["error"].is_null(), "{method} was answered by the error {}", message["error"]);
                return Ok(message["result"].take());
            }
            say(&format!("<- {} {}", text(&message["method"])?, message["params"]))?;
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

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().with_context(|| format!("expected a string, got {value}"))
}

/// The other side: a server whose authors have left HTTP+SSE behind.
struct UpgradedServer {
    address: SocketAddr,
    /// How many requests of each method came.
    seen: Arc<Mutex<BTreeMap<String, u32>>>,
    /// A session was ended by its client, which here is the proxy.
    session_ended: Arc<Notify>,
    /// Accepting and all connections; they end with this value.
    _tasks: JoinSet<()>,
}

impl UpgradedServer {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let session_ended = Arc::new(Notify::new());
        let sessions = Arc::new(LocalSessionManager::default());
        // Sessions are what rmcp does unless told otherwise; said here because the demo is about them.
        let config = StreamableHttpServerConfig::default().with_legacy_session_mode(true);
        let mcp = StreamableHttpService::new(|| Ok(Tools), sessions, config);
        let mut tasks = JoinSet::new();
        let (counts, ended) = (Arc::clone(&seen), Arc::clone(&session_ended));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (mcp, counts, ended) = (mcp.clone(), Arc::clone(&counts), Arc::clone(&ended));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (mcp, ended) = (mcp.clone(), Arc::clone(&ended));
                    let method = request.method().clone();
                    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(method.to_string()).or_default() += 1;
                    async move {
                        let response = mcp.handle(request).await;
                        if method == Method::DELETE && response.status().is_success() {
                            ended.notify_one();
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let connection = connection.serve_connection(TokioIo::new(stream), service);
                // A connection that breaks is seen by the proxy, and then by the client, who tells.
                connections.spawn(async move { drop(connection.await) });
            }
        });
        Ok(UpgradedServer { address, seen, session_ended, _tasks: tasks })
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    fn requests(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(method, count)| format!("{count} {method}")).collect::<Vec<_>>().join(", ")
    }
}

/// What the server can do.
struct Tools;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Greet {
    name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Count {
    to: u32,
}

#[tool_router]
impl Tools {
    #[tool(description = "Adds two numbers")]
    async fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> String {
        a.saturating_add(b).to_string()
    }

    #[tool(description = "Greets someone")]
    async fn greet(&self, Parameters(Greet { name }): Parameters<Greet>) -> String {
        format!("Hello, {name}!")
    }

    #[tool(description = "Counts, and reports its progress")]
    async fn count(
        &self,
        Parameters(Count { to }): Parameters<Count>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, rmcp::ErrorData> {
        if let Some(token) = meta.get_progress_token() {
            for step in 1..=to {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(f64::from(to));
                let sent = client.notify_progress(progress).await;
                sent.map_err(|error| rmcp::ErrorData::internal_error(error.to_string(), None))?;
            }
        }
        Ok(format!("counted to {to}"))
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("demo-upgraded-server", "2.0.0"))
    }
}
