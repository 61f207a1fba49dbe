//! The tools, and what a session remembers between them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{CallToolResult, ServerNotification};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use crate::sha256::sha256;

pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
pub(super) const WATCHED: &str = "interop://watched";

/// What the server remembers of a session.
pub(super) struct Handler {
    session: Mutex<Session>,
    /// Whether `wait-until-cancelled` was cancelled.
    cancelled: watch::Sender<bool>,
    /// What `subscriptions/listen` is told, of which each listener takes what it asked for.
    pub(super) changes: broadcast::Sender<ServerNotification>,
    /// Listeners that were accepted and have not begun to listen.
    joined: Mutex<Vec<broadcast::Receiver<ServerNotification>>>,
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
        let changes = broadcast::Sender::new(16);
        let joined = Mutex::default();
        Handler { session: Mutex::new(session), cancelled: watch::Sender::new(false), changes, joined }
    }
}

/// A type of the SDK from the JSON that it stands for.
pub(super) fn model<T: DeserializeOwned>(json: Value) -> Result<T, ErrorData> {
    serde_json::from_value(json).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// A result of the SDK from the JSON that it stands for, said to be complete, which clients of the session era are not told.
pub(super) fn result<T: DeserializeOwned>(mut json: Value) -> Result<T, ErrorData> {
    json["resultType"] = json!("complete");
    model(json)
}

fn failed(error: &rmcp::service::ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

pub(super) fn text(content: &str) -> Result<CallToolResult, ErrorData> {
    result(json!({ "content": [{ "type": "text", "text": content }] }))
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
        // In the era of 2026 the request must bear this argument in a header too, and is refused if it does not.
        tool("where", &json!({ "region": { "type": "string", "x-mcp-header": "Region" } })),
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
        "ask-in-rounds",
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

    pub(super) fn joined<T>(&self, look: impl FnOnce(&mut Vec<broadcast::Receiver<ServerNotification>>) -> T) -> T {
        look(&mut self.joined.lock().unwrap_or_else(PoisonError::into_inner))
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
            "where" => text(&format!("In {}", arguments.string("region")?)),
            "long-text" => text(&sha256(b"seed").repeat(arguments.number("length")? / 64)),
            "get-structured-content" => {
                let conditions = format!("Cloudy in {}", arguments.string("location")?);
                let weather = json!({ "temperature": 33, "conditions": conditions, "humidity": 82 });
                let told = json!([{ "type": "text", "text": weather.to_string() }]);
                result(json!({ "content": told, "structuredContent": weather }))
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

    /// One message of every level that the client wants to hear: in the era of 2026 each request says which.
    async fn log(&self, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        let of_request =
            context.meta.log_level().and_then(|level| LEVELS.iter().position(|known| json!(level) == *known));
        let wanted = &LEVELS[of_request.unwrap_or_else(|| self.session(|session| session.level))..];
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

    /// Does what `add-tool` and `remove-tool` do, and says so; nobody is told.
    pub(super) fn change(&self, name: &str, arguments: &Arguments) -> Result<String, ErrorData> {
        let tool = arguments.string("name")?.to_owned();
        let said = format!("{} {tool}", if name == "add-tool" { "added" } else { "removed" });
        self.session(|session| {
            if name == "add-tool" { session.added.push(tool) } else { session.added.retain(|added| *added != tool) }
        });
        Ok(said)
    }

    async fn change_tools(
        &self,
        name: &str,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let told = self.change(name, arguments)?;
        context.peer.notify_tool_list_changed().await.map_err(|error| failed(&error))?;
        text(&told)
    }

    /// Two questions at once, and then one that follows from an answer.
    async fn ask_in_rounds(context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        let ask = |prompt: String| async move {
            let params = model(question_to_llm(&prompt, 10))?;
            let answer = context.peer.create_message(params).await.map_err(|error| failed(&error))?;
            Ok(json!(answer)["content"].clone())
        };
        let roots = async { context.peer.list_roots().await.map_err(|error| failed(&error)) };
        let (one, roots) = tokio::try_join!(ask("one".to_owned()), roots)?;
        text(&in_rounds(&ask(second_question(&one)).await?, &json!(roots.roots)))
    }

    /// Tools that ask the client something.
    async fn asking(
        name: &str,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let (_, params) = question(name, arguments)?;
        let answer = match name {
            "trigger-sampling-request" => context.peer.create_message(model(params)?).await.map(|result| json!(result)),
            "trigger-elicitation-request" => {
                context.peer.create_elicitation(model(params)?).await.map(|result| json!(result))
            }
            _ => context.peer.list_roots().await.map(|result| json!(result)),
        };
        text(&told(name, &answer.map_err(|error| failed(&error))?))
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
            "ask-in-rounds" => Self::ask_in_rounds(context).await,
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

/// The method and the parameters of what the tool `name` asks the client.
pub(super) fn question(name: &str, arguments: &Arguments) -> Result<(&'static str, Value), ErrorData> {
    Ok(match name {
        "trigger-sampling-request" => {
            let params = question_to_llm(arguments.string("prompt")?, arguments.number("maxTokens")?);
            ("sampling/createMessage", params)
        }
        "trigger-elicitation-request" => {
            let schema = json!({ "type": "object", "required": ["name"], "properties": {
                "name": { "type": "string", "description": "Your full, legal name" },
                "integer": { "type": "integer", "description": "Your favorite integer" },
            } });
            let message = "Please provide inputs for the following fields:";
            ("elicitation/create", json!({ "mode": "form", "message": message, "requestedSchema": schema }))
        }
        _ => ("roots/list", json!({})),
    })
}

/// The parameters of `sampling/createMessage`.
pub(super) fn question_to_llm(prompt: &str, tokens: usize) -> Value {
    let content = json!({ "type": "text", "text": format!("Resource sample context: {prompt}") });
    json!({
        "messages": [{ "role": "user", "content": content }],
        "maxTokens": tokens,
        "systemPrompt": "You are a helpful test server.",
    })
}

/// What `ask-in-rounds` asks when it has the content of its first answer.
pub(super) fn second_question(content: &Value) -> String {
    format!("two, after {}", content["text"].as_str().unwrap_or_default())
}

/// What `ask-in-rounds` says with the content of its second answer.
pub(super) fn in_rounds(content: &Value, roots: &Value) -> String {
    let uris: Vec<_> = roots.as_array().into_iter().flatten().filter_map(|root| root["uri"].as_str()).collect();
    format!("{}; roots: {}", content["text"].as_str().unwrap_or_default(), uris.join(" "))
}

/// What the tool `name` says when the client has answered.
pub(super) fn told(name: &str, answer: &Value) -> String {
    match name {
        "trigger-sampling-request" => format!("LLM sampling result: {answer}"),
        "trigger-elicitation-request" => answer.to_string(),
        _ => answer["roots"].to_string(),
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
