//! Where the eras meet: what each server makes of the other era's requests.

use serde_json::{Value, json};
use sse_sunset::upstream::Answer;

use super::super::chance::Chance;
use super::super::upstream::{Server, document, text, token_of};
use super::{VERSION, error};

/// What a server of 2026-07-28 makes of clients of the session era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Door {
    /// Names the versions that it speaks (TypeScript).
    Version,
    /// Knows no `initialize`.
    NotFound,
    /// Misses what every request has to say.
    NoMeta,
    /// Misses the headers.
    NoHeader,
    /// In words.
    Text,
    /// Answers `initialize` without a session, and nothing after it (rmcp).
    Greets,
    /// Serves them too, and holds nothing (TypeScript).
    Serves,
}

/// What a server of the session era makes of requests of 2026-07-28 (UPSTREAMS B.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Refusal {
    /// TypeScript 1.
    UnknownVersion,
    /// Python 1.
    ServerError,
    /// Go.
    Versions,
    Text400,
    Text404,
}

impl Door {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        chance.pick(&[
            Door::Version,
            Door::Version,
            Door::NotFound,
            Door::NoMeta,
            Door::NoHeader,
            Door::Text,
            Door::Greets,
            Door::Serves,
            Door::Serves,
        ])
    }
}

impl Refusal {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        chance.pick(&[
            Refusal::UnknownVersion,
            Refusal::ServerError,
            Refusal::Versions,
            Refusal::Text400,
            Refusal::Text404,
        ])
    }

    pub(in super::super) fn of(self, id: &Value) -> Answer {
        let old = json!({"supported": ["2025-11-25", "2025-06-18"], "requested": VERSION});
        match self {
            Refusal::UnknownVersion => {
                document(400, error(&Value::Null, -32000, "Bad Request: Unsupported protocol version", &Value::Null))
            }
            Refusal::ServerError => {
                let text = "Bad Request: Unsupported protocol version: 2026-07-28";
                document(400, error(&json!("server-error"), -32600, text, &Value::Null))
            }
            Refusal::Versions => document(400, error(id, -32022, "Unsupported protocol version", &old)),
            Refusal::Text400 => text(400, "Bad Request", &[]),
            Refusal::Text404 => text(404, "Not Found", &[]),
        }
    }
}

impl Server {
    /// Whether it is of the era that it has always been, and says so to all.
    pub(in super::super) fn is_as_it_was(&self) -> bool {
        self.modern.state().counts.replaced == 0 && !matches!(self.modern.manner.door, Door::Greets | Door::Serves)
    }

    /// A client of the session era.
    pub(super) fn meet_at_door(&self, message: &Value) -> Answer {
        let (door, id) = (self.modern.manner.door, &message["id"]);
        let Some(method) = message["method"].as_str() else {
            return document(
                400,
                error(&Value::Null, -32600, "JSON-RPC responses cannot be posted here", &Value::Null),
            );
        };
        if id.is_null() {
            return text(202, "", &[]);
        }
        match (door, method) {
            (Door::Greets | Door::Serves, "initialize") => {
                let version = message["params"]["protocolVersion"].as_str().unwrap_or("2025-06-18");
                let result = json!({"protocolVersion": version, "token": token_of(message),
                    "serverInfo": {"name": "sim", "version": "2"}, "capabilities": {"tools": {}}});
                return self.one(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
            }
            (Door::Serves, "tools/call") => {
                let token = token_of(message).unwrap_or_default();
                self.ledger.execute(&token, 0);
                let result = json!({"token": token, "session": 0, "content": []});
                return self.one(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
            }
            (Door::Serves, _) => {
                let result = json!({"token": token_of(message), "tools": []});
                return self.one(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
            }
            _ => {}
        }
        if method == "initialize" {
            self.modern.state().counts.refused_initialize += 1;
        }
        match door {
            Door::Version => {
                let data = json!({"supported": [VERSION], "requested": message["params"]["protocolVersion"]});
                document(400, error(id, -32022, "Unsupported protocol version", &data))
            }
            Door::NotFound if method == "initialize" => {
                document(404, error(id, -32601, "Method not found", &Value::Null))
            }
            Door::NoHeader => document(400, error(id, -32020, "Missing Mcp-Method", &Value::Null)),
            Door::Text if method == "initialize" => text(400, "Bad Request: this server speaks 2026-07-28", &[]),
            // MCP 2026-07-28, basic §_meta: so must they all, and say more if they like.
            Door::NoMeta | Door::NotFound | Door::Text | Door::Greets | Door::Serves => {
                let text = "Invalid params: request requires protocolVersion in request _meta";
                document(400, error(id, -32602, text, &Value::Null))
            }
        }
    }
}
