//! A server of the Rust SDK (rmcp 3.9) with its Streamable HTTP service as it is by default, in this process.
//!
//! Promises: tools, prompts and answers named and worded as in `servers/python_server.py`, so that one conversation fits
//! both; a port that the kernel chose; everything ends when this is dropped. Every session has a handler of its own, and
//! what it remembers goes with it.
//!
//! The trap: rmcp sends every notification but progress on the GET stream, so that they may come after the answer.

#![allow(deprecated, reason = "what the conversations are about is what the era of 2026 deprecates")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, UnsubscribeRequestParams,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::sha256::sha256;

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
const WATCHED: &str = "interop://watched";
const GREETING: &str = "interop://greeting/";

/// A running server on threads of its own.
pub(crate) struct RmcpServer {
    address: SocketAddr,
    /// Ends all its tasks when dropped.
    _runtime: Runtime,
}

impl RmcpServer {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener));
        RmcpServer { address, _runtime: runtime }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener) {
    let config = StreamableHttpServerConfig::default();
    let sessions = Arc::new(LocalSessionManager::default());
    let mcp = StreamableHttpService::new(|| Ok(Handler::default()), sessions, config);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let mcp = mcp.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mcp = mcp.clone();
            async move { Ok::<_, Infallible>(mcp.handle(request).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move { drop(connection.await) });
    }
}

/// What the server remembers of a session.
struct Handler {
    session: Mutex<Session>,
    /// Whether `wait-until-cancelled` was cancelled.
    cancelled: watch::Sender<bool>,
}

struct Session {
    /// Least severe level that `log` sends, by its place in `LEVELS`.
    level: usize,
    /// URIs whose updates the client asked for.
    subscribed: Vec<String>,
    /// Tools that were added later.
    added: Vec<String>,
}

impl Default for Handler {
    fn default() -> Self {
        let session = Session { level: 0, subscribed: Vec::new(), added: Vec::new() };
        Handler { session: Mutex::new(session), cancelled: watch::Sender::new(false) }
    }
}

/// A type of the SDK from the JSON that it stands for.
fn model<T: DeserializeOwned>(json: Value) -> Result<T, ErrorData> {
    serde_json::from_value(json).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn failed(error: &rmcp::service::ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn text(content: &str) -> Result<CallToolResult, ErrorData> {
    model(json!({ "content": [{ "type": "text", "text": content }] }))
}

fn tool(name: &str, properties: &Value) -> Value {
    json!({ "name": name, "description": format!("The tool {name}"), "inputSchema": { "type": "object", "properties": properties } })
}

fn tools() -> Vec<Value> {
    let string = json!({ "type": "string" });
    let number = json!({ "type": "number" });
    let mut tools = vec![
        tool("echo", &json!({ "message": string })),
        tool("digest", &json!({ "message": string })),
        tool("long-text", &json!({ "length": number })),
        tool("trigger-long-running-operation", &json!({ "duration": number, "steps": number })),
        tool("trigger-sampling-request", &json!({ "prompt": string, "maxTokens": number })),
        tool("add-tool", &json!({ "name": string })),
        tool("remove-tool", &json!({ "name": string })),
    ];
    let bare = [
        "headers",
        "log",
        "touch-resource",
        "wait-until-cancelled",
        "was-cancelled",
        "trigger-elicitation-request",
        "get-roots-list",
    ];
    tools.extend(bare.map(|name| tool(name, &json!({}))));
    let mut structured = tool("get-structured-content", &json!({ "location": string }));
    structured["outputSchema"] = json!({ "type": "object", "properties": {
        "temperature": number, "conditions": string, "humidity": number } });
    tools.push(structured);
    tools
}

impl Handler {
    fn session<T>(&self, look: impl FnOnce(&mut Session) -> T) -> T {
        look(&mut self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tools that need no more than their arguments and the request.
    fn plain(
        name: &str,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        match name {
            "echo" => text(&format!("Echo: {}", arguments.string("message")?)),
            "digest" => {
                let message = arguments.string("message")?;
                text(&format!("{} bytes, sha256 {}", message.len(), sha256(message.as_bytes())))
            }
            "long-text" => text(&sha256(b"seed").repeat(arguments.number("length")? / 64)),
            "get-structured-content" => {
                let conditions = format!("Cloudy in {}", arguments.string("location")?);
                let weather = json!({ "temperature": 33, "conditions": conditions, "humidity": 82 });
                let told = json!([{ "type": "text", "text": weather.to_string() }]);
                model(json!({ "content": told, "structuredContent": weather }))
            }
            "headers" => {
                let parts = context.extensions.get::<http::request::Parts>();
                let header = |name: &str| -> String {
                    let value = parts.and_then(|parts| parts.headers.get(name));
                    value.map_or_else(
                        || "None".to_owned(),
                        |value| String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                };
                text(&format!("authorization: {}, x-interop: {}", header("authorization"), header("x-interop")))
            }
            _ => Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
        }
    }

    async fn progress(context: &RequestContext<RoleServer>, done: usize, total: usize) -> Result<(), ErrorData> {
        let Some(token) = context.meta.get_progress_token() else { return Ok(()) };
        let token = serde_json::to_value(token).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let params = model(json!({ "progressToken": token, "progress": done, "total": total }))?;
        context.peer.notify_progress(params).await.map_err(|error| failed(&error))
    }

    async fn long_running(
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let (duration, steps) = (arguments.float("duration")?, arguments.number("steps")?);
        for done in 1..=steps {
            // The length of the operation; nobody is waited for.
            tokio::time::sleep(Duration::from_secs_f64(duration) / u32::try_from(steps).expect("a few steps")).await;
            Self::progress(context, done, steps).await?;
        }
        text(&format!("Long running operation completed. Duration: {duration} seconds, Steps: {steps}."))
    }

    /// One message of every level that the client wants to hear.
    async fn log(&self, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        let wanted = &LEVELS[self.session(|session| session.level)..];
        for level in wanted {
            let params = model(json!({ "level": level, "logger": "interop", "data": format!("{level} message") }))?;
            context.peer.notify_logging_message(params).await.map_err(|error| failed(&error))?;
        }
        text(&format!("logged {}", wanted.len()))
    }

    async fn touch(&self, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        if !self.session(|session| session.subscribed.iter().any(|uri| uri == WATCHED)) {
            return text("nobody to tell");
        }
        let params = model(json!({ "uri": WATCHED }))?;
        context.peer.notify_resource_updated(params).await.map_err(|error| failed(&error))?;
        text("told")
    }

    async fn wait_until_cancelled(&self, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        self.cancelled.send_replace(false);
        Self::progress(context, 1, 2).await?;
        context.ct.cancelled().await;
        self.cancelled.send_replace(true);
        Err(ErrorData::internal_error("cancelled", None))
    }

    /// Proof from the server's side; waits, as the cancellation may be on its way still.
    async fn was_cancelled(&self) -> Result<CallToolResult, ErrorData> {
        let mut cancelled = self.cancelled.subscribe();
        let came = tokio::time::timeout(Duration::from_secs(5), cancelled.wait_for(|cancelled| *cancelled)).await;
        text(if came.is_ok() { "cancelled" } else { "not cancelled" })
    }

    async fn change_tools(
        &self,
        name: &str,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let tool = arguments.string("name")?.to_owned();
        let told = format!("{} {tool}", if name == "add-tool" { "added" } else { "removed" });
        self.session(|session| {
            if name == "add-tool" { session.added.push(tool) } else { session.added.retain(|added| *added != tool) }
        });
        context.peer.notify_tool_list_changed().await.map_err(|error| failed(&error))?;
        text(&told)
    }

    /// Tools that ask the client something.
    async fn asking(
        name: &str,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        match name {
            "trigger-sampling-request" => {
                let prompt = format!("Resource sample context: {}", arguments.string("prompt")?);
                let params = model(json!({
                    "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
                    "maxTokens": arguments.number("maxTokens")?,
                    "systemPrompt": "You are a helpful test server.",
                }))?;
                let result = context.peer.create_message(params).await.map_err(|error| failed(&error))?;
                text(&format!("LLM sampling result: {}", json!(result)))
            }
            "trigger-elicitation-request" => {
                let schema = json!({ "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string", "description": "Your full, legal name" },
                    "integer": { "type": "integer", "description": "Your favorite integer" },
                } });
                let message = "Please provide inputs for the following fields:";
                let params = model(json!({ "mode": "form", "message": message, "requestedSchema": schema }))?;
                let result = context.peer.create_elicitation(params).await.map_err(|error| failed(&error))?;
                text(&json!(result).to_string())
            }
            _ => {
                let result = context.peer.list_roots().await.map_err(|error| failed(&error))?;
                text(&json!(result.roots).to_string())
            }
        }
    }

    async fn call(
        &self,
        name: &str,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        match name {
            "trigger-long-running-operation" => Self::long_running(arguments, context).await,
            "log" => self.log(context).await,
            "touch-resource" => self.touch(context).await,
            "wait-until-cancelled" => self.wait_until_cancelled(context).await,
            "was-cancelled" => self.was_cancelled().await,
            "add-tool" | "remove-tool" => self.change_tools(name, arguments, context).await,
            "trigger-sampling-request" | "trigger-elicitation-request" | "get-roots-list" => {
                Self::asking(name, arguments, context).await
            }
            name if self.session(|session| session.added.iter().any(|added| added == name)) => {
                text(&format!("{name} speaking"))
            }
            name => Self::plain(name, arguments, context),
        }
    }
}

/// Arguments of a call, each wanted in a type.
struct Arguments(Value);

impl Arguments {
    fn wrong(name: &str, wanted: &str) -> ErrorData {
        ErrorData::invalid_params(format!("{name} must be {wanted}"), None)
    }

    fn string(&self, name: &str) -> Result<&str, ErrorData> {
        self.0[name].as_str().ok_or_else(|| Self::wrong(name, "a string"))
    }

    fn float(&self, name: &str) -> Result<f64, ErrorData> {
        self.0[name].as_f64().ok_or_else(|| Self::wrong(name, "a number"))
    }

    fn number(&self, name: &str) -> Result<usize, ErrorData> {
        let number = self.0[name].as_u64().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| Self::wrong(name, "a whole number"))
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({
            "tools": { "listChanged": true }, "resources": { "subscribe": true }, "prompts": {}, "logging": {},
            "completions": {},
        });
        let capabilities = serde_json::from_value(capabilities).expect("capabilities of the SDK's own");
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("interop-rust", "1.0.0"))
            .with_instructions("A server for interop tests.")
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut tools = tools();
        tools.extend(
            self.session(|session| session.added.iter().map(|name| tool(name, &json!({}))).collect::<Vec<_>>()),
        );
        model(json!({ "tools": tools }))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Arguments(Value::Object(request.arguments.unwrap_or_default()));
        Ok(self.call(&request.name, &arguments, &context).await?.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let names = ["text", "blob", "watched"];
        let resources = names.map(|name| json!({ "uri": format!("interop://{name}"), "name": name }));
        model(json!({ "resources": resources }))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        model(json!({ "resourceTemplates": [{ "uriTemplate": format!("{GREETING}{{name}}"), "name": "greeting" }] }))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let mut contents = match uri {
            "interop://text" => json!({ "text": "A fixed text, with \u{fc}mlauts and\ntwo lines.\n".repeat(40) }),
            // One byte, 255.
            "interop://blob" => json!({ "blob": "/w==" }),
            WATCHED => json!({ "text": "Always the same, whatever touch-resource says." }),
            _ => match uri.strip_prefix(GREETING) {
                Some(name) => json!({ "text": format!("Hello, {name}!") }),
                None => return Err(ErrorData::resource_not_found(format!("no such resource: {uri}"), None)),
            },
        };
        contents["uri"] = json!(uri);
        let result: ReadResourceResult = model(json!({ "contents": [contents] }))?;
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let place = json!([{ "name": "city", "required": true }, { "name": "state" }]);
        let person = json!([{ "name": "department", "required": true }, { "name": "name", "required": true }]);
        model(json!({ "prompts": [
            { "name": "args-prompt", "arguments": place },
            { "name": "completable-prompt", "arguments": person },
        ] }))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = Arguments(json!(request.arguments));
        let said = if request.name == "args-prompt" {
            let state = arguments.string("state").map(|state| format!(", {state}")).unwrap_or_default();
            format!("What's weather in {}{state}?", arguments.string("city")?)
        } else {
            let (name, department) = (arguments.string("name")?, arguments.string("department")?);
            format!("Please promote {name} to the head of the {department} team.")
        };
        let message = json!({ "role": "user", "content": { "type": "text", "text": said } });
        let result: GetPromptResult = model(json!({ "messages": [message] }))?;
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let request = json!(request);
        let candidates: &[&str] =
            match (request["argument"]["name"].as_str(), request["context"]["arguments"]["department"].as_str()) {
                (Some("department"), _) => &["Engineering", "Sales"],
                (_, Some("Sales")) => &["David", "Eve", "Frank"],
                _ => &["Ada", "Alan"],
            };
        let start = request["argument"]["value"].as_str().unwrap_or_default();
        let values: Vec<_> = candidates.iter().filter(|value| value.starts_with(start)).collect();
        model(json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }))
    }

    async fn set_level(&self, request: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        let level = json!(request.level);
        let place = LEVELS.iter().position(|known| level == **known).unwrap_or_default();
        self.session(|session| session.level = place);
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.session(|session| session.subscribed.push(request.uri.clone()));
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.session(|session| session.subscribed.retain(|uri| *uri != request.uri));
        Ok(())
    }
}
