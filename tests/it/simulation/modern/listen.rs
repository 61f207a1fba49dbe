//! `subscriptions/listen` as servers have it: all that was asked for, a part, nothing, or no such method.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};
use sse_sunset::upstream::Answer;

use super::super::chance::Chance;
use super::super::ledger::Name;
use super::super::thread::{Cut, Fate, Thread};
use super::super::upstream::{Server, document, stream, whose_token};
use super::streams::in_pieces;
use super::{Door, Manner, error};

/// What the server makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Way {
    All,
    /// Lists, and no resources.
    Lists,
    /// An acknowledgement of nothing, and the end (TypeScript).
    Nothing,
    /// No such method.
    Unknown,
    /// So many at a time.
    Few(usize),
}

/// A stream that is open, or was.
#[derive(Debug)]
pub(in super::super) struct Listen {
    thread: Arc<Thread>,
    id: Value,
    /// What it is told of: lists, and resources by their URI.
    wanted: BTreeSet<String>,
}

/// What changes on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Change {
    Tools,
    /// The resource of this client.
    Resource(Name),
    /// The streams end, in one way or another.
    Ends,
}

impl Way {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        chance.pick(&[Way::All, Way::All, Way::All, Way::Lists, Way::Nothing, Way::Unknown, Way::Few(1)])
    }
}

impl Listen {
    pub(super) fn kill(&self, fate: Fate) {
        self.thread.kill(fate);
    }
}

/// An open stream, which ends when nobody reads it.
struct Reader {
    server: Arc<Server>,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.server.modern.state().listens.remove(&self.number);
    }
}

fn asked(filter: &Value) -> BTreeSet<String> {
    let lists =
        [("toolsListChanged", "tools"), ("promptsListChanged", "prompts"), ("resourcesListChanged", "resources")];
    let lists = lists.into_iter().filter(|(name, _)| filter[name] == true).map(|(_, list)| list.to_owned());
    let uris = filter["resourceSubscriptions"].as_array().into_iter().flatten();
    lists.chain(uris.filter_map(|uri| uri.as_str().map(str::to_owned))).collect()
}

pub(in super::super) fn uri(name: Name) -> String {
    format!("sim://c{name}")
}

impl Server {
    pub(super) fn listen_modern(self: &Arc<Self>, headers: &HeaderMap, message: &Value) -> Answer {
        let (manner, id) = (self.modern.manner, message["id"].clone());
        let asked = asked(&message["params"]["notifications"]);
        self.check_filter(headers, &asked, message);
        self.modern.state().counts.listens += 1;
        let open = self.modern.state().listens.len();
        let honoured = match manner.listen {
            Way::Unknown => return document(404, error(&id, -32601, "Method not found", &Value::Null)),
            Way::Few(most) if open >= most => {
                return document(200, error(&id, -32603, "Subscription limit reached", &Value::Null));
            }
            Way::All | Way::Few(_) => asked,
            Way::Lists => asked.into_iter().filter(|topic| !topic.contains(':')).collect(),
            Way::Nothing => BTreeSet::new(),
        };
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        let uris: Vec<_> = honoured.iter().filter(|topic| topic.contains(':')).collect();
        let mut filter = json!({"resourceSubscriptions": uris});
        if honoured.contains("tools") {
            filter["toolsListChanged"] = true.into();
        }
        let params = json!({"notifications": filter, "_meta": meta});
        let thread = Thread::new(None);
        let acknowledged =
            json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params});
        thread.say(acknowledged.to_string());
        if honoured.is_empty() {
            thread.say(json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete"}}).to_string());
            thread.finish();
        }
        let cut = self.state().draw_cut(false).filter(|(_, cut)| *cut != Cut::Hang);
        let mut state = self.modern.state();
        state.counts.honoured += u64::from(!honoured.is_empty());
        state.last_open += 1;
        let number = state.last_open;
        state.listens.insert(number, Listen { thread: Arc::clone(&thread), id, wanted: honoured });
        drop(state);
        let reader = Reader { server: Arc::clone(self), number };
        stream(in_pieces(thread.connect(0, None, cut), reader, self.draw_chance()))
    }

    /// Only what the server offers is asked for, and resources only under the credential of those who want them.
    fn check_filter(&self, headers: &HeaderMap, asked: &BTreeSet<String>, message: &Value) {
        let (manner, whose) = (self.modern.manner, whose_token(headers));
        for topic in asked {
            let name = topic.strip_prefix("sim://c").and_then(|name| name.parse::<Name>().ok());
            let is_right = match name {
                Some(name) => {
                    let person = self.modern.state().people.get(&name).cloned();
                    manner.subscribes && person.is_some_and(|person| person.token == whose)
                }
                None => manner.lists_change && topic == "tools",
            };
            if !is_right {
                self.ledger.violation(format!("{topic} is asked for by {whose:?}: {message}"));
            }
        }
        if asked.is_empty() {
            self.ledger.violation(format!("nothing is asked for: {message}"));
        }
    }

    /// Whether whoever listens hears of all changes.
    pub(in super::super) fn tells_of_changes(&self) -> bool {
        let Manner { door, listen, lists_change, subscribes, .. } = self.modern.manner;
        // Who had a session with the server of before is served as if it had it still, and hears no more.
        let are_kept = door == Door::Serves && self.modern.state().counts.replaced > 0;
        self.modern.reigns() && listen == Way::All && lists_change && subscribes && !are_kept
    }

    /// Something changes, and who listens hears of it.
    pub(in super::super) fn change_modern(&self, change: &Change) {
        let mut state = self.modern.state();
        let open: Vec<_> = state.listens.values().map(|listen| listen.wanted.clone()).collect();
        self.ledger.note(|| format!("up: {change:?}, heard by {open:?}"));
        let mut told = 0;
        for listen in state.listens.values() {
            let meta = json!({"io.modelcontextprotocol/subscriptionId": listen.id});
            let (method, params) = match change {
                Change::Tools if listen.wanted.contains("tools") => ("tools/list_changed", json!({"_meta": meta})),
                Change::Resource(name) if listen.wanted.contains(&uri(*name)) => {
                    ("resources/updated", json!({"_meta": meta, "uri": uri(*name)}))
                }
                Change::Ends => {
                    listen.end();
                    continue;
                }
                Change::Tools | Change::Resource(_) => continue,
            };
            let method = format!("notifications/{method}");
            listen.thread.say(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
            told += 1;
        }
        state.counts.announced += told;
    }
}

impl Listen {
    /// Ends it in the way that its number says: servers have three.
    fn end(&self) {
        let by = self.id.as_str().map_or(0, str::len) + self.wanted.len();
        let message = match by % 3 {
            0 => Some(json!({"jsonrpc": "2.0", "id": self.id, "result": {"resultType": "complete"}})),
            1 => {
                let params = json!({"requestId": self.id, "reason": "bye"});
                Some(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
            }
            _ => None,
        };
        if let Some(message) = message {
            self.thread.say(message.to_string());
        }
        self.thread.finish();
    }
}
