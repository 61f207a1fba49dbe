//! `subscriptions/listen` (basic/patterns/subscriptions): who listens to what, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Response;
use serde_json::{Value, json};

use super::out::{Out, error};
use super::wire::{Body, json as answer_json};
use super::{Manner, Modern, Seen, Shared};

/// What the server does with those who want to listen.
#[derive(Debug, Clone, Default)]
pub(crate) enum Listening {
    /// Honours everything.
    #[default]
    All,
    /// Honours these kinds and URIs.
    Only(Value),
    /// Honours nothing: acknowledges, and ends at once (TypeScript, Go, mcp-go).
    Nothing,
    /// Has no room for more than so many: -32603 at 200 (TypeScript, Python).
    Limit(usize),
    /// -32601 at 404 (rmcp, fastmcp).
    Unsupported,
}

/// Someone who listens.
pub(super) struct Listener {
    number: usize,
    /// What was acknowledged.
    honoured: Value,
    out: Arc<Out>,
}

/// How a server ends a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// By the result of the request.
    Result,
    /// By `notifications/cancelled`, as the page on cancellation has it.
    Cancelled,
    /// Not at all: the stream ends.
    Nothing,
}

/// The part of `wanted` that is granted.
fn grant(wanted: &Value, allowed: &Value) -> Value {
    let mut granted = json!({});
    for kind in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
        if wanted[kind] == true && allowed[kind] == true {
            granted[kind] = json!(true);
        }
    }
    let has = |uri: &&Value| allowed["resourceSubscriptions"].as_array().is_some_and(|all| all.contains(*uri));
    let uris: Vec<&Value> = wanted["resourceSubscriptions"].as_array().into_iter().flatten().filter(has).collect();
    if !uris.is_empty() {
        granted["resourceSubscriptions"] = json!(uris);
    }
    granted
}

fn is_empty(filter: &Value) -> bool {
    let uris = filter["resourceSubscriptions"].as_array().map_or(0, Vec::len);
    let kinds = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
    uris == 0 && kinds.iter().all(|kind| filter[*kind] != true)
}

/// Opens a subscription; the refusal, where there is none.
pub(super) async fn open(shared: &Arc<Shared>, manner: &Manner, seen: &Seen, out: Out) -> Option<Response<Body>> {
    let wanted = &seen.params()["notifications"];
    if is_empty(wanted) {
        shared.refuse(0, "a subscription to nothing");
    }
    let honoured = match &manner.listening {
        Listening::All | Listening::Limit(_) => wanted.clone(),
        Listening::Only(allowed) => grant(wanted, allowed),
        Listening::Nothing => json!({}),
        Listening::Unsupported => {
            return Some(answer_json(404, &error(out.id(), -32601, "Method not found", None)));
        }
    };
    if matches!(manner.listening, Listening::Limit(limit) if listeners(shared) >= limit) {
        return Some(answer_json(200, &error(out.id(), -32603, "Subscription limit reached", None)));
    }
    let params = json!({"notifications": honoured, "_meta": subscription(&out)});
    out.notify("notifications/subscriptions/acknowledged", params).await;
    if is_empty(&honoured) {
        out.complete(json!({"_meta": subscription(&out)})).await;
        return None;
    }
    shared.state().listeners.push(Listener { number: seen.number, honoured, out: Arc::new(out) });
    let open = listeners(shared);
    let mut state = shared.state();
    state.most_listeners = state.most_listeners.max(open);
    drop(state);
    shared.changed();
    None
}

fn subscription(out: &Out) -> Value {
    json!({"io.modelcontextprotocol/subscriptionId": out.id()})
}

/// How many are there; those that hung up are forgotten.
fn listeners(shared: &Shared) -> usize {
    let mut state = shared.state();
    let gone: Vec<usize> = state.endings.iter().map(|(number, _)| *number).collect();
    state.listeners.retain(|listener| !gone.contains(&listener.number));
    state.listeners.len()
}

impl Modern {
    /// What the open subscriptions were granted, by the numbers of their requests.
    pub(crate) fn listening(&self) -> BTreeMap<usize, Value> {
        listeners(&self.shared);
        let state = self.shared.state();
        state.listeners.iter().map(|listener| (listener.number, listener.honoured.clone())).collect()
    }

    /// Waits until there is exactly one subscription, with this filter.
    pub(crate) async fn wait_listening(&self, filter: &Value) -> usize {
        self.until(&format!("one subscription to {filter}"), |server| {
            let all = server.listening();
            let (number, honoured) = all.first_key_value()?;
            (all.len() == 1 && honoured == filter).then_some(*number)
        })
        .await
    }

    /// Waits until `count` subscriptions are open.
    pub(crate) async fn wait_listeners(&self, count: usize) {
        self.until(&format!("{count} subscriptions"), |server| (server.listening().len() == count).then_some(())).await;
    }

    /// How many subscriptions were open at the same time, at most.
    pub(crate) fn most_listeners(&self) -> usize {
        self.shared.state().most_listeners
    }

    fn chosen(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Arc<Out>> {
        listeners(&self.shared);
        let state = self.shared.state();
        state.listeners.iter().filter(|listener| wanted(&listener.honoured)).map(|one| Arc::clone(&one.out)).collect()
    }

    /// Tells everybody who wants to know that the list of `kind` has changed; gives how many that were.
    pub(crate) async fn list_changed(&self, kind: &str) -> usize {
        let chosen = self.chosen(|honoured| honoured[format!("{kind}ListChanged")] == true);
        for out in &chosen {
            out.notify(&format!("notifications/{kind}/list_changed"), json!({"_meta": subscription(out)})).await;
        }
        chosen.len()
    }

    /// Tells everybody who wants to know that a resource was updated; gives how many that were.
    pub(crate) async fn updated(&self, uri: &str) -> usize {
        let has = |uris: &Vec<Value>| uris.iter().any(|one| one == uri);
        let chosen = self.chosen(|honoured| honoured["resourceSubscriptions"].as_array().is_some_and(has));
        for out in &chosen {
            let params = json!({"uri": uri, "_meta": subscription(out)});
            out.notify("notifications/resources/updated", params).await;
        }
        chosen.len()
    }

    /// Ends all subscriptions.
    pub(crate) async fn end_listening(&self, goodbye: Goodbye) {
        let all = std::mem::take(&mut self.shared.state().listeners);
        for listener in all {
            let out = listener.out;
            match goodbye {
                Goodbye::Result => out.complete(json!({"_meta": subscription(&out)})).await,
                Goodbye::Cancelled => {
                    let params = json!({"requestId": out.id(), "_meta": subscription(&out)});
                    out.notify("notifications/cancelled", params).await;
                }
                Goodbye::Nothing => {}
            }
        }
    }
}
