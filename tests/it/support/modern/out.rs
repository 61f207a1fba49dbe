//! What the server says about one request.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::wire::Message;
use super::{Seen, Shared};
use crate::support::schema::{self, MODERN};

/// The way back to whoever asked. Everything said is checked against the schema.
pub(super) struct Out {
    shared: Arc<Shared>,
    method: String,
    id: Value,
    progress_token: Value,
    log_level: Option<String>,
    sender: mpsc::Sender<Message>,
}

/// The levels of log messages, the least important first.
pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl Out {
    pub(super) fn new(shared: Arc<Shared>, seen: &Seen, sender: mpsc::Sender<Message>) -> Self {
        Out {
            shared,
            method: seen.rpc().to_owned(),
            id: seen.body["id"].clone(),
            progress_token: seen.params()["_meta"]["progressToken"].clone(),
            log_level: seen.meta("logLevel").as_str().map(str::to_owned),
            sender,
        }
    }

    pub(super) fn id(&self) -> &Value {
        &self.id
    }

    fn check(&self, definition: &'static str, value: &Value) {
        for fault in schema::faults(MODERN, definition, value) {
            self.shared.refuse(0, format!("this server itself, to {}: {fault}", self.method));
        }
    }

    async fn send(&self, message: Message) {
        // Else the client has hung up, which is noted elsewhere.
        let _ = self.sender.send(message).await;
    }

    pub(super) async fn notify(&self, method: &str, params: Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.check("ServerNotification", &message);
        self.send(Message::Json(message.to_string())).await;
    }

    /// Reports progress, if it was asked for.
    pub(super) async fn progress(&self, progress: u64, total: u64) {
        if !self.progress_token.is_null() {
            let params = json!({"progressToken": self.progress_token, "progress": progress, "total": total,
                "message": format!("{progress} of {total}")});
            self.notify("notifications/progress", params).await;
        }
    }

    /// Logs, if this level was asked for.
    pub(super) async fn log(&self, level: &str, data: &str) {
        let place = |level: &str| LEVELS.iter().position(|other| *other == level);
        if self.log_level.as_deref().and_then(place).is_some_and(|least| place(level) >= Some(least)) {
            self.notify("notifications/message", json!({"level": level, "logger": "fake", "data": data})).await;
        }
    }

    /// A result as complete as servers make it.
    pub(super) async fn complete(&self, mut result: Value) {
        let manner = self.shared.manner();
        result["resultType"] = json!("complete");
        if let Some(info) = manner.server_info.filter(|_| self.method != "subscriptions/listen") {
            result["_meta"]["io.modelcontextprotocol/serverInfo"] = info;
        }
        let cacheable =
            self.method.ends_with("/list") || ["resources/read", "server/discover"].contains(&self.method.as_str());
        if cacheable {
            result["ttlMs"] = json!(manner.ttl_ms);
            result["cacheScope"] = json!(manner.cache_scope);
        }
        self.check(schema::result(&self.method), &result);
        self.result(&result).await;
    }

    /// A result that asks for input.
    pub(super) async fn input_required(&self, result: Value) {
        self.check("InputRequiredResult", &result);
        self.result(&result).await;
    }

    /// A message as it stands, right or wrong.
    pub(super) async fn raw(&self, message: &Value) {
        self.send(Message::Json(message.to_string())).await;
    }

    /// A result as it stands, right or wrong.
    pub(super) async fn result(&self, result: &Value) {
        self.raw_result(&result.to_string()).await;
    }

    /// The same with bytes of its own.
    pub(super) async fn raw_result(&self, result: &str) {
        self.send(Message::Json(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, self.id))).await;
    }

    pub(super) async fn error(&self, code: i64, message: &str, data: Option<Value>) {
        let message = error(&self.id, code, message, data);
        self.check("JSONRPCErrorResponse", &message);
        self.send(Message::Json(message.to_string())).await;
    }

    /// An error as Go writes it once the stream has begun: a bare line.
    pub(super) async fn bare_error(&self, code: i64, message: &str) {
        self.send(Message::Line(error(&self.id, code, message, None).to_string())).await;
    }

    pub(super) async fn comment(&self) {
        self.send(Message::Line(": keepalive".to_owned())).await;
    }

    /// Waits until the client hangs up.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

pub(super) fn error(id: &Value, code: i64, message: &str, data: Option<Value>) -> Value {
    let mut error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
    if let Some(data) = data {
        error["error"]["data"] = data;
    }
    error
}
