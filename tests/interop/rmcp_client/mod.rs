//! The Rust SDK's legacy client (rmcp 0.8, one of the last with HTTP+SSE), in this process.
//!
//! Promises: what `clients/conversation.mjs` promises, step by step, in the same words: a line a step, nothing in it
//! that differs between two runs, a deadline for each.
//!
//! The trap: rmcp answers what it cannot parse with silence, hence the deadlines; and it has no HTTP headers of its own
//! to set without the HTTP crate that it was built with.

mod session;
mod steps;

use std::time::Duration;

use rmcp_0_8::ServiceExt as _;
use rmcp_0_8::service::{Peer, RoleClient, RunningService};
use rmcp_0_8::transport::{SseClientTransport, StreamableHttpClientTransport};
use serde_json::{Value, json};

use self::session::{Answers, Inbox, Noted};
use crate::clients::Transport as Over;

const DEADLINE: Duration = Duration::from_secs(20);
const STEPS: [&str; 34] = [
    "initialize",
    "ping",
    "tools_list",
    "prompts_list",
    "resources_list",
    "resource_templates_list",
    "echo",
    "unicode",
    "one_mebibyte",
    "three_mebibyte_request",
    "ten_mebibyte_result",
    "structured_content",
    "progress",
    "logging",
    "sampling",
    "elicitation",
    "roots",
    "questions_in_rounds",
    "subscription",
    "resource_read",
    "prompt_get",
    "completion",
    "cancellation",
    "parallel_calls",
    "error_unknown_tool",
    "error_invalid_arguments",
    "error_invalid_params",
    "error_unknown_resource",
    "error_unknown_method",
    "mirrored_argument",
    "headers",
    "tools_list_changed",
    "echo_after",
    "close",
];

/// Steps that take a feature of the profile.
const NEEDS: [(&str, &str); 5] = [
    ("mirrored_argument", "where"),
    ("headers", "headers"),
    ("questions_in_rounds", "ask-in-rounds"),
    ("tools_list_changed", "add-tool"),
    ("ten_mebibyte_result", "long-text"),
];

/// Steps that this client cannot take, and why.
const LACKS: [(&str, &str); 2] = [
    ("error_unknown_method", "this SDK sends no method that it does not know"),
    ("headers", "this SDK sets no headers of its own"),
];

/// Holds the whole conversation and gives its lines.
pub(crate) fn converse(over: Over, url: &str, profile: &Value) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(hold(over, url, profile))
}

async fn hold(over: Over, url: &str, profile: &Value) -> Vec<String> {
    let mut conversation = Conversation::start(over, url, profile).await;
    let mut lines = Vec::new();
    for step in STEPS {
        if let Some(why) = conversation.skipped(step) {
            lines.push(why.to_string());
            continue;
        }
        let passed =
            |detail: &Value| detail.as_object().is_none_or(|checks| checks.values().all(|value| *value != false));
        let (ok, detail) = match tokio::time::timeout(DEADLINE, conversation.step(step)).await {
            Ok(Ok(detail)) => (passed(&detail), detail),
            Ok(Err(failure)) => (false, failure.detail),
            Err(_) if over == Over::StreamableHttp => {
                // Over Streamable HTTP this client reads nothing while it waits for a JSON answer: a server that asks
                // it something meanwhile has stopped it for good.
                conversation = Conversation::start(over, url, profile).await;
                (false, json!({ "error": "no end in time" }))
            }
            Err(_) => (false, json!({ "error": "no end in time" })),
        };
        lines.push(json!({ "step": step, "ok": ok, "detail": detail }).to_string());
    }
    lines
}

struct Conversation {
    service: Option<RunningService<RoleClient, Answers>>,
    peer: Peer<RoleClient>,
    inbox: Inbox,
    answers: Answers,
    profile: Value,
}

impl Conversation {
    /// Connects, and takes the handshake.
    async fn start(over: Over, url: &str, profile: &Value) -> Self {
        let (inbox, answers) = (Inbox::default(), Answers::default());
        let handshake = async {
            match over {
                Over::Sse => {
                    let transport = SseClientTransport::start(url.to_owned()).await.expect("an event stream");
                    answers.clone().serve(Noted { inner: transport, inbox: inbox.clone() }).await
                }
                Over::StreamableHttp => {
                    let transport = StreamableHttpClientTransport::from_uri(url.to_owned());
                    answers.clone().serve(Noted { inner: transport, inbox: inbox.clone() }).await
                }
            }
        };
        let service =
            tokio::time::timeout(DEADLINE, handshake).await.expect("a handshake in time").expect("a handshake");
        Conversation { peer: service.peer().clone(), service: Some(service), inbox, answers, profile: profile.clone() }
    }

    /// The line of a step that is not to be tried.
    fn skipped(&self, step: &str) -> Option<Value> {
        let line = |why: &str, whose: &str| Some(json!({ "step": step, "skipped": why, "whose": whose }));
        if let Some((_, why)) = LACKS.iter().find(|(lacking, _)| *lacking == step) {
            return line(why, "client");
        }
        // server-everything asks with enumerations in forms that came later.
        if step == "elicitation" && !self.has("digest") {
            return line("this SDK cannot read the schema that the server sends", "client");
        }
        if let Some(why) = self.profile["lacks"][step].as_str() {
            return line(why, "server");
        }
        let needed = NEEDS.iter().find(|(needing, _)| *needing == step).map(|(_, feature)| *feature);
        needed.filter(|feature| !self.has(feature)).and_then(|_| line("it has no tool for that", "server"))
    }

    fn has(&self, feature: &str) -> bool {
        self.profile["features"].as_array().is_some_and(|features| features.iter().any(|known| known == feature))
    }

    fn known(&self, key: &str) -> &str {
        self.profile[key].as_str().unwrap_or_default()
    }
}
