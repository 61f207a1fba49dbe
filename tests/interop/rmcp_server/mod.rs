//! A server of the Rust SDK (rmcp 3.9) with its Streamable HTTP service, in this process: as it is by default, or without
//! sessions and strict, which leaves the era of 2026 only (`modern.rs`).
//!
//! Promises: tools, prompts and answers named and worded as in `servers/python_server.py`, so that one conversation
//! fits both; a port that the kernel chose; everything ends when this is dropped. Every session has a handler of its
//! own, and what it remembers goes with it; without sessions, one handler serves all.
//!
//! The trap: rmcp sends every notification but progress on the GET stream, so that they may come after the answer; and the
//! strict server does answer `initialize`, and then refuses all that follows from it.

#![allow(deprecated, reason = "what the conversations are about is what the era of 2026 deprecates")]

mod modern;
mod tools;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
    UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::tools::{Arguments, Handler, LEVELS, WATCHED, result, tool, tools};

const GREETING: &str = "interop://greeting/";

/// How it keeps its clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By sessions, as by default.
    Sessions,
    /// Not at all: every request is to say what 2026-07-28 demands.
    Stateless,
}

/// A running server on threads of its own.
pub(crate) struct RmcpServer {
    address: SocketAddr,
    /// Ends all its tasks when dropped.
    _runtime: Runtime,
}

impl RmcpServer {
    pub(crate) fn start(mode: Mode) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener, mode));
        RmcpServer { address, _runtime: runtime }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener, mode: Mode) {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = mode == Mode::Sessions;
    config.stateless_protocol_metadata_required = mode == Mode::Stateless;
    let sessions = Arc::new(LocalSessionManager::default());
    let shared = Arc::new(Handler::default());
    let handler = move || match mode {
        Mode::Sessions => Ok(Arc::new(Handler::default())),
        Mode::Stateless => Ok(Arc::clone(&shared)),
    };
    let mcp = StreamableHttpService::new(handler, sessions, config);
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
        result(json!({ "tools": tools }))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Arguments(Value::Object(request.arguments.clone().unwrap_or_default()));
        if context.meta.protocol_version().is_some()
            && let Some(response) = self.call_modern(&request, &arguments, &context)?
        {
            return Ok(response);
        }
        Ok(self.call(&request.name, &arguments, &context).await?.into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        self.join();
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        self.tell_changes(&subscription).await
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let names = ["text", "blob", "watched"];
        let resources = names.map(|name| json!({ "uri": format!("interop://{name}"), "name": name }));
        result(json!({ "resources": resources }))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        result(json!({ "resourceTemplates": [{ "uriTemplate": format!("{GREETING}{{name}}"), "name": "greeting" }] }))
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
        let read: ReadResourceResult = result(json!({ "contents": [contents] }))?;
        Ok(read.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let place = json!([{ "name": "city", "required": true }, { "name": "state" }]);
        let person = json!([{ "name": "department", "required": true }, { "name": "name", "required": true }]);
        result(json!({ "prompts": [
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
        let prompt: GetPromptResult = result(json!({ "messages": [message] }))?;
        Ok(prompt.into())
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
        result(json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }))
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
