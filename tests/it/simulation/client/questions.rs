//! What a client is asked, and what it says to that.
//!
//! Servers of 2026-07-28 mark their questions, because more is owed for them: only what the client can answer is asked, and
//! no question outlives its call.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::chance::Chance;
use super::super::ledger::token;
use super::{Client, Line};

/// A question that was not answered yet.
#[derive(Debug)]
pub(super) struct Open {
    /// The line that it came on.
    line: u64,
    /// The token of the call that asks.
    of: String,
}

/// What the client says it can be asked.
pub(super) fn draw_capabilities(chance: &mut Chance) -> Value {
    let mut capabilities = json!({});
    for (name, value) in [("elicitation", json!({})), ("sampling", json!({})), ("roots", json!({"listChanged": true}))]
    {
        if !chance.one_in(3) {
            capabilities[name] = value;
        }
    }
    capabilities
}

fn capability(method: &str) -> &'static str {
    match method {
        "elicitation/create" => "elicitation",
        "sampling/createMessage" => "sampling",
        _ => "roots",
    }
}

impl Client {
    pub(super) fn on_question(self: &Arc<Self>, line: &Line, method: &str, id: &Value, params: &Value) {
        self.touch(&params["session"], "a question");
        if let Some(of) = params["token"].as_str() {
            self.check_token(of, "a question");
        }
        let is_modern = params["modern"] == true;
        if is_modern {
            self.on_modern_question(line, method, id, params);
        }
        let (answers, late, how) = {
            let mut state = self.state();
            (!state.chance.one_in(6), state.chance.ms(0, 3_000), state.chance.below(12))
        };
        if !answers {
            return;
        }
        let about = &params["about"];
        let token = token(self.name, 0);
        let result = match (is_modern, method) {
            (true, _) if how == 0 => json!({"code": -1, "message": "User rejected"}),
            (true, "elicitation/create") if how == 1 => json!({"action": "decline"}),
            (true, "elicitation/create") => json!({"action": "accept", "content": {"about": about}}),
            (true, "sampling/createMessage") => {
                json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": about}})
            }
            (true, _) => json!({"roots": [{"uri": "file:///r", "name": about}]}),
            (false, _) => json!({"token": token, "about": about}),
        };
        let member = if is_modern && how == 0 { "error" } else { "result" };
        let message = json!({"jsonrpc": "2.0", "id": id, member: result});
        let (client, key) = (Arc::clone(self), id.to_string());
        tokio::spawn(async move {
            sleep(late).await;
            client.state().questions.remove(&key);
            client.post(message, None, None);
        });
    }

    fn on_modern_question(&self, line: &Line, method: &str, id: &Value, params: &Value) {
        let of = params["token"].as_str().unwrap_or_default().to_owned();
        let mut state = self.state();
        let is_declared = state.capabilities.get(capability(method)).is_some();
        let number = of.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        let ask = number.and_then(|number| state.asks.get(number));
        let is_over = ask.is_none_or(|ask| ask.answers > 0 || ask.cancelled_surely);
        let is_new = state.questions.insert(id.to_string(), Open { line: line.number, of }).is_none();
        drop(state);
        if !is_declared {
            self.violation(&format!("{method}, which it cannot answer"));
        }
        if is_over || !is_new {
            self.violation(&format!("a question of a call that is over, or twice: {params}"));
        }
        if params["_meta"].get("io.modelcontextprotocol/x").is_some() {
            self.violation(&format!("what is reserved: {params}"));
        }
    }

    pub(super) fn on_withdrawal(&self, params: &Value) {
        self.state().questions.remove(&params["requestId"].to_string());
    }

    /// Questions that are open though their call is over, on the line that they came on.
    pub(in super::super) fn left_over_questions(&self) -> Vec<String> {
        let state = self.state();
        let Some(line) = &state.line else { return Vec::new() };
        let is_over = |of: &str| {
            state
                .asks
                .iter()
                .enumerate()
                .any(|(number, ask)| token(self.name, number) == of && (ask.answers > 0 || ask.cancelled_surely))
        };
        let left = state.questions.iter().filter(|(_, open)| open.line == line.number && is_over(&open.of));
        left.map(|(id, open)| format!("{id} of {}", open.of)).collect()
    }
}
