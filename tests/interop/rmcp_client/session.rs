//! What the conversation hears and says besides its steps: everything it received, and what it answers when the server
//! asks.
//!
//! Promise: every message is noted as it left the transport, before the SDK looks at it, because the SDK hands on
//! neither answers to cancelled calls nor the order of results and notifications, which the steps want to judge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp_0_8::model::{
    ClientInfo, ClientJsonRpcMessage, CreateElicitationRequestParam, CreateElicitationResult,
    CreateMessageRequestParam, CreateMessageResult, ListRootsResult, ServerJsonRpcMessage,
};
use rmcp_0_8::service::{RequestContext, RoleClient};
use rmcp_0_8::transport::Transport;
use rmcp_0_8::{ClientHandler, ErrorData};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::sha256::sha256;

/// The name that the client gives itself.
const NAME: &str = "interop-rs";

/// Parameters of the SDK's type from the JSON that they stand for.
pub(super) fn params<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("parameters that the SDK knows")
}

/// Every message that left the transport, in order.
#[derive(Clone, Default)]
pub(super) struct Inbox {
    messages: Arc<Mutex<Vec<Value>>>,
    /// How many there are, for those who wait for more.
    count: watch::Sender<usize>,
}

impl Inbox {
    fn note(&self, message: &ServerJsonRpcMessage) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(json!(message));
        self.count.send_replace(messages.len());
    }

    pub(super) fn len(&self) -> usize {
        *self.count.borrow()
    }

    /// The messages since `start`.
    pub(super) fn since(&self, start: usize) -> Vec<Value> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)[start..].to_vec()
    }

    /// The first notification `method` since `start` that fits; the deadline of the step ends the wait.
    pub(super) async fn arrival(&self, start: usize, method: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut count = self.count.subscribe();
        loop {
            count.mark_unchanged();
            let found = self.since(start).into_iter().find(|message| is(message, method) && fits(&message["params"]));
            if let Some(message) = found {
                return message["params"].clone();
            }
            count.changed().await.expect("the sender is ours");
        }
    }
}

pub(super) fn is(message: &Value, notification: &str) -> bool {
    message["method"].as_str().and_then(|method| method.strip_prefix("notifications/")) == Some(notification)
}

/// A transport with a copy of everything for the inbox.
pub(super) struct Noted<T> {
    pub(super) inner: T,
    pub(super) inbox: Inbox,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Noted<T> {
    type Error = T::Error;

    fn send(&mut self, item: ClientJsonRpcMessage) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let message = self.inner.receive().await?;
        self.inbox.note(&message);
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

/// What the client answers when asked (steps change it), and what it was asked.
#[derive(Clone)]
pub(super) struct Answers {
    state: Arc<Mutex<AnswersState>>,
}

pub(super) struct AnswersState {
    pub(super) roots: Vec<Value>,
    pub(super) elicitation: Value,
    /// What the server asked, by kind.
    asked: BTreeMap<&'static str, Vec<Value>>,
}

impl Default for Answers {
    fn default() -> Self {
        let roots = vec![json!({ "uri": "file:///interop/one", "name": "one" })];
        let elicitation = json!({ "action": "accept", "content": { "name": "Ada", "check": true, "integer": 7 } });
        Answers { state: Arc::new(Mutex::new(AnswersState { roots, elicitation, asked: BTreeMap::new() })) }
    }
}

impl Answers {
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut AnswersState) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn asked(&self, what: &'static str) -> Vec<Value> {
        self.with(|state| state.asked.entry(what).or_default().clone())
    }
}

impl ClientHandler for Answers {
    fn get_info(&self) -> ClientInfo {
        params(json!({
            "protocolVersion": "2025-06-18",
            "capabilities": { "sampling": {}, "elicitation": {}, "roots": { "listChanged": true } },
            "clientInfo": { "name": NAME, "version": "1.0.0" },
        }))
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParam,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let request = json!(request);
        let prompt = request["messages"][0]["content"]["text"].clone();
        let seen = json!({ "prompt": prompt, "system": request["systemPrompt"], "maxTokens": request["maxTokens"] });
        self.with(|state| state.asked.entry("sampling").or_default().push(seen));
        let text = format!("Answer to: {}", prompt.as_str().unwrap_or_default());
        let content = json!({ "type": "text", "text": text });
        Ok(params(
            json!({ "role": "assistant", "content": content, "model": "interop-model", "stopReason": "endTurn" }),
        ))
    }

    async fn create_elicitation(
        &self,
        request: CreateElicitationRequestParam,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateElicitationResult, ErrorData> {
        let request = json!(request);
        let schema = sha256(request["requestedSchema"].to_string().as_bytes());
        Ok(params(self.with(|state| {
            state
                .asked
                .entry("elicitation")
                .or_default()
                .push(json!({ "message": request["message"], "schema": schema }));
            state.elicitation.clone()
        })))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(params(json!({ "roots": self.with(|state| state.roots.clone()) })))
    }
}
