//! What a session keeps to stand up again when the upstream has forgotten it (DESIGN, Sessions survive).
//!
//! The client's own messages, byte for byte: its `initialize` and `initialized`, the log level, the subscriptions. They are
//! noted when the upstream has accepted them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::mcp::{self, Message, MessageKind};

/// Bytes that one session keeps at most. A client with larger ones goes on, and is not restored.
const MAX_KEPT: usize = 256 << 10;

/// Sent where the client itself has not said it.
const INITIALIZED: Bytes = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);

/// What a request changes in the state of an upstream session, if it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that would have to be done again.
    None,
    Initialize,
    Level,
    Subscribe,
    Unsubscribe,
}

/// The messages that make an upstream session what it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Keepsake {
    initialize: Option<Bytes>,
    initialized: Option<Bytes>,
    level: Option<Bytes>,
    subscriptions: BTreeMap<String, Bytes>,
    /// What the server said may change.
    lists: Lists,
    /// Whether it said that it logs to its clients.
    logs: bool,
}

/// The lists that a server announces changes of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lists {
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Effect {
    pub(super) fn of_method(method: &str) -> Self {
        match method {
            "initialize" => Effect::Initialize,
            "logging/setLevel" => Effect::Level,
            "resources/subscribe" => Effect::Subscribe,
            "resources/unsubscribe" => Effect::Unsubscribe,
            _ => Effect::None,
        }
    }
}

impl Keepsake {
    /// The upstream accepted `request`, with `answer`.
    pub(super) fn note(&mut self, effect: Effect, request: &Bytes, answer: &Message) {
        if effect == Effect::None {
            return;
        }
        // A copy of its own: the message is a part of whatever it came in.
        let copy = || Some(Bytes::copy_from_slice(request)).filter(|copy| self.bytes() + copy.len() <= MAX_KEPT);
        match effect {
            Effect::None => {}
            Effect::Initialize => {
                *self = Keepsake::default();
                self.initialize = Some(Bytes::copy_from_slice(request)).filter(|copy| copy.len() <= MAX_KEPT);
                self.note_lists(answer);
            }
            Effect::Level => self.level = copy(),
            Effect::Subscribe => {
                if let (Some(uri), Some(copy)) = (uri(request), copy()) {
                    self.subscriptions.insert(uri, copy);
                }
            }
            Effect::Unsubscribe => {
                if let Some(uri) = uri(request) {
                    self.subscriptions.remove(&uri);
                }
            }
        }
    }

    /// The upstream accepted the client's `initialized`.
    pub(super) fn note_initialized(&mut self, notification: &Bytes) {
        if self.bytes() + notification.len() <= MAX_KEPT {
            self.initialized = Some(Bytes::copy_from_slice(notification));
        }
    }

    /// A handshake that the client did not make itself.
    pub(super) fn made(initialize: Bytes) -> Self {
        Keepsake { initialize: Some(initialize), ..Keepsake::default() }
    }

    /// What the server that answered the handshake anew says may change.
    pub(super) fn note_lists(&mut self, answer: &Message) {
        let capabilities = Capabilities::of(answer);
        self.logs = capabilities.logging.is_some();
        self.lists = Lists::of(&capabilities);
    }

    /// Whether a client of a server that logs wishes for warnings: it does unless it said that it wants less.
    pub(super) fn bears_warning(&self) -> bool {
        self.logs && self.level.as_ref().is_none_or(|level| !is_above_warning(level))
    }

    fn bytes(&self) -> usize {
        let one = [&self.initialize, &self.initialized, &self.level];
        one.into_iter().flatten().chain(self.subscriptions.values()).map(Bytes::len).sum()
    }

    /// The `initialize`, without which nothing can be restored.
    pub(super) fn initialize(&self) -> Option<&Bytes> {
        self.initialize.as_ref()
    }

    pub(super) fn initialized(&self) -> Bytes {
        self.initialized.clone().unwrap_or(INITIALIZED)
    }

    /// The requests that restore the rest.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Bytes> {
        self.level.iter().chain(self.subscriptions.values())
    }

    pub(super) fn lists(&self) -> Lists {
        self.lists
    }
}

/// What a server says of itself that matters here.
#[derive(Deserialize, Default)]
struct Capabilities {
    tools: Option<Changes>,
    prompts: Option<Changes>,
    resources: Option<Changes>,
    logging: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Changes {
    #[serde(rename = "listChanged", default)]
    announced: Option<bool>,
}

impl Capabilities {
    fn of(initialize_answer: &Message) -> Self {
        #[derive(Deserialize, Default)]
        struct InitializeResult {
            #[serde(default)]
            capabilities: Capabilities,
        }
        initialize_answer.result::<InitializeResult>().unwrap_or_default().capabilities
    }
}

/// Whether a `logging/setLevel` asks for what is graver than a warning only (RFC 5424 §6.2.1).
fn is_above_warning(request: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Params {
        level: String,
    }
    let level = mcp::parse(request).ok().and_then(|mut messages| messages.pop()?.params::<Params>());
    level.is_some_and(|params| matches!(params.level.as_str(), "error" | "critical" | "alert" | "emergency"))
}

impl Lists {
    fn of(capabilities: &Capabilities) -> Self {
        let is_announced = |list: &Option<Changes>| list.as_ref().and_then(|list| list.announced) == Some(true);
        let Capabilities { tools, prompts, resources, .. } = capabilities;
        Lists { tools: is_announced(tools), prompts: is_announced(prompts), resources: is_announced(resources) }
    }

    /// A notification for each of them.
    pub(super) fn notifications(self) -> impl Iterator<Item = Bytes> {
        let names = [(self.tools, "tools"), (self.prompts, "prompts"), (self.resources, "resources")];
        names.into_iter().filter(|(announced, _)| *announced).map(|(_, name)| {
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"notifications/{name}/list_changed"}}"#))
        })
    }
}

/// The resource that a request names.
fn uri(request: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Params {
        uri: String,
    }
    let message = mcp::parse(request).ok()?.pop()?;
    debug_assert!(matches!(message.kind(), MessageKind::Request { .. }));
    message.params::<Params>().map(|params| params.uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, params: &str) -> Bytes {
        Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#))
    }

    fn answer(result: &str) -> Message {
        let text = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
        mcp::parse(&text).expect("an answer").remove(0)
    }

    #[test]
    fn state_is_that_of_the_last_requests_and_a_new_handshake_clears_it() {
        let mut kept = Keepsake::default();
        let done = answer("{}");
        kept.note(Effect::Initialize, &request("initialize", "{}"), &answer("{}"));
        for (effect, method, params) in [
            (Effect::Level, "logging/setLevel", r#"{"level":"info"}"#),
            (Effect::Level, "logging/setLevel", r#"{"level":"debug"}"#),
            (Effect::Subscribe, "resources/subscribe", r#"{"uri":"a"}"#),
            (Effect::Subscribe, "resources/subscribe", r#"{"uri":"b"}"#),
            (Effect::Subscribe, "resources/subscribe", r#"{"uri":"b"}"#),
            (Effect::Unsubscribe, "resources/unsubscribe", r#"{"uri":"a"}"#),
        ] {
            assert_eq!(Effect::of_method(method), effect);
            kept.note(effect, &request(method, params), &done);
        }
        let requests: Vec<_> = kept.requests().map(|request| String::from_utf8_lossy(request).into_owned()).collect();
        assert_eq!(requests.len(), 2);
        assert!(requests[0].contains("debug") && requests[1].contains(r#""uri":"b""#), "{requests:?}");
        kept.note(Effect::Initialize, &request("initialize", "{}"), &done);
        assert_eq!(kept.requests().count(), 0);
    }

    #[test]
    fn lists_are_those_whose_changes_the_server_announces() {
        let mut kept = Keepsake::default();
        let result = r#"{"capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":false,"subscribe":true}}}"#;
        kept.note(Effect::Initialize, &request("initialize", "{}"), &answer(result));
        let said: Vec<_> = kept.lists().notifications().collect();
        assert_eq!(said, [r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#]);
    }

    #[test]
    fn warning_is_borne_where_the_server_logs_and_the_client_wants_no_less() {
        let mut kept = Keepsake::default();
        kept.note(Effect::Initialize, &request("initialize", "{}"), &answer(r#"{"capabilities":{"tools":{}}}"#));
        assert!(!kept.bears_warning());
        kept.note(Effect::Initialize, &request("initialize", "{}"), &answer(r#"{"capabilities":{"logging":{}}}"#));
        assert!(kept.bears_warning());
        for (level, bears) in [("error", false), ("warning", true), ("emergency", false), ("debug", true)] {
            let set = request("logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
            kept.note(Effect::Level, &set, &answer("{}"));
            assert_eq!(kept.bears_warning(), bears, "{level}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut kept = Keepsake::default();
        let done = answer("{}");
        let long = |length| format!(r#"{{"uri":"{}"}}"#, "x".repeat(length));
        kept.note(Effect::Initialize, &request("initialize", &long(MAX_KEPT)), &done);
        assert_eq!(kept.initialize(), None);
        kept.note(Effect::Initialize, &request("initialize", "{}"), &done);
        kept.note(Effect::Subscribe, &request("resources/subscribe", &long(MAX_KEPT / 2)), &done);
        kept.note(Effect::Subscribe, &request("resources/subscribe", &long(MAX_KEPT / 2 + 1)), &done);
        assert!(kept.initialize().is_some());
        assert_eq!(kept.requests().count(), 1);
    }
}
