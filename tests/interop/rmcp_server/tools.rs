//! The tools, and what a session remembers between them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::CallToolResult;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::sha256::sha256;

pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
pub(super) const WATCHED: &str = "interop://watched";

/// What the server remembers of a session.
pub(super) struct Handler {
    session: Mutex<Session>,
    /// Whether `wait-until-cancelled` was cancelled.
    cancelled: watch::Sender<bool>,
}

pub(super) struct Session {
    /// Least severe level that `log` sends, by its place in `LEVELS`.
    pub(super) level: usize,
    /// URIs whose updates the client asked for.
    pub(super) subscribed: Vec<String>,
    /// Tools that were added later.
    pub(super) added: Vec<String>,
}

impl Default for Handler {
    fn default() -> Self {
        let session = Session { level: 0, subscribed: Vec::new(), added: Vec::new() };
        Handler { session: Mutex::new(session), cancelled: watch::Sender::new(false) }
    }
}

/// A type of the SDK from the JSON that it stands for.
pub(super) fn model<T: DeserializeOwned>(json: Value) -> Result<T, ErrorData> {
    serde_json::from_value(json).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn failed(error: &rmcp::service::ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn text(content: &str) -> Result<CallToolResult, ErrorData> {
    model(json!({ "content": [{ "type": "text", "text": content }] }))
}

pub(super) fn tool(name: &str, properties: &Value) -> Value {
    let schema = json!({ "type": "object", "properties": properties });
    json!({ "name": name, "description": format!("The tool {name}"), "inputSchema": schema })
}

pub(super) fn tools() -> Vec<Value> {
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
    pub(super) fn session<T>(&self, look: impl FnOnce(&mut Session) -> T) -> T {
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

    pub(super) async fn call(
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
pub(super) struct Arguments(pub(super) Value);

impl Arguments {
    fn wrong(name: &str, wanted: &str) -> ErrorData {
        ErrorData::invalid_params(format!("{name} must be {wanted}"), None)
    }

    pub(super) fn string(&self, name: &str) -> Result<&str, ErrorData> {
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
