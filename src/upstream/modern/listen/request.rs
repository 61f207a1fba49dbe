//! One `subscriptions/listen`: what is asked, and what the server makes of it.
//!
//! The acknowledgement is the first message and names the subset that the server honours (MCP 2026-07-28,
//! basic/patterns/subscriptions §Acknowledgment). The trap: servers say "no" in five ways, and only some of them are
//! worth asking again.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::super::headers;
use super::topic::Topic;
use crate::mcp::{self, Message, MessageKind, RequestId, RpcError, code};
use crate::upstream::{Answer, End, Fault, Item, Replies, Transport};

/// The method.
const LISTEN: &str = "subscriptions/listen";
/// How long the server may take until it has acknowledged: nothing has to be worked out for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the upstream turned a credential down, to be passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// 401, or 403 with `insufficient_scope`.
    pub(crate) status: StatusCode,
    /// The `WWW-Authenticate` headers.
    pub(crate) challenges: Vec<HeaderValue>,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The stream is open.
    Acknowledged {
        /// What is still to come.
        replies: Box<Replies>,
        /// What of the topics the server honours; none of them, and it ends the stream or keeps it for nothing.
        honoured: BTreeSet<Topic>,
    },
    /// Not under this credential.
    Rejected(Rejection),
    /// The server does not know the method.
    Unsupported,
    /// Not now, for what the error says.
    NotNow(RpcError),
}

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: &'a str,
    method: &'static str,
    params: Params<'a>,
}

#[derive(Serialize)]
struct Params<'a> {
    #[serde(rename = "_meta")]
    meta: Meta,
    notifications: Filter<'a>,
}

/// The stream is the proxy's own, for many clients: it names itself.
#[derive(Serialize)]
struct Meta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: &'static str,
    #[serde(rename = "io.modelcontextprotocol/clientInfo")]
    client: ClientInfo,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: NoCapabilities,
}

/// Nobody is asked anything on this stream.
#[derive(Serialize)]
struct NoCapabilities {}

#[derive(Serialize)]
struct ClientInfo {
    name: &'static str,
    version: &'static str,
}

/// The `notifications` of request and acknowledgement.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tools_list_changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompts_list_changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources_list_changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_subscriptions: Option<Vec<Cow<'a, str>>>,
}

impl<'a> Filter<'a> {
    fn of(topics: &'a BTreeSet<Topic>) -> Self {
        let has = |topic| topics.contains(&topic).then_some(true);
        let uris: Vec<_> = topics
            .iter()
            .filter_map(|topic| match topic {
                Topic::Resource(uri) => Some(Cow::Borrowed(&**uri)),
                _ => None,
            })
            .collect();
        Filter {
            tools_list_changed: has(Topic::Tools),
            prompts_list_changed: has(Topic::Prompts),
            resources_list_changed: has(Topic::Resources),
            resource_subscriptions: (!uris.is_empty()).then_some(uris),
        }
    }

    /// What of `asked` it names.
    fn honours(self, asked: &BTreeSet<Topic>) -> BTreeSet<Topic> {
        let lists = [
            (self.tools_list_changed, Topic::Tools),
            (self.prompts_list_changed, Topic::Prompts),
            (self.resources_list_changed, Topic::Resources),
        ];
        let lists = lists.into_iter().filter_map(|(is_honoured, topic)| (is_honoured == Some(true)).then_some(topic));
        let resources = self.resource_subscriptions.unwrap_or_default().into_iter();
        let resources = resources.map(|uri| Topic::Resource(uri.into()));
        lists.chain(resources).filter(|topic| asked.contains(topic)).collect()
    }
}

/// Asks for `topics`, and waits until the server has said what it makes of it.
pub(super) async fn open(
    transport: Arc<dyn Transport>,
    client: Arc<HeaderMap>,
    id: String,
    topics: Arc<BTreeSet<Topic>>,
) -> Outcome {
    let body = Bytes::from(body(&id, &topics));
    let exchange = headers::exchange(&client, HeaderValue::from_static(LISTEN), None, &[], body);
    let opening = async {
        match transport.send(exchange).await {
            Ok(answer) if answer.rejects_credential() => Outcome::Rejected(Rejection::of(&answer)),
            Ok(answer) => first(answer, &topics).await,
            Err(fault) => Outcome::NotNow(fault.to_rpc()),
        }
    };
    timeout(PATIENCE, opening).await.unwrap_or_else(|_| Outcome::NotNow(Fault::Silent(PATIENCE).to_rpc()))
}

fn body(id: &str, topics: &BTreeSet<Topic>) -> Vec<u8> {
    let client = ClientInfo { name: "sse-sunset", version: env!("CARGO_PKG_VERSION") };
    let meta = Meta { version: mcp::MODERN_VERSION, client, capabilities: NoCapabilities {} };
    let params = Params { meta, notifications: Filter::of(topics) };
    let request = Request { jsonrpc: "2.0", id, method: LISTEN, params };
    serde_json::to_vec(&request).expect("strings and booleans always serialise")
}

/// Reads until the acknowledgement, or what comes instead.
async fn first(answer: Answer, asked: &BTreeSet<Topic>) -> Outcome {
    let status = answer.status.as_u16();
    let mut replies = Replies::of(answer);
    while let Some(item) = replies.next().await {
        match item {
            Item::Message(message) => match message.kind() {
                MessageKind::Notification { method } if **method == *"notifications/subscriptions/acknowledged" => {
                    let honoured = honoured(&message, asked);
                    return Outcome::Acknowledged { replies: Box::new(replies), honoured };
                }
                MessageKind::Response { .. } => return refusal(&message, status),
                // Nothing may come before the acknowledgement; what does is not for this stream.
                MessageKind::Notification { .. } | MessageKind::Request { .. } => {}
            },
            Item::Garbage(_) | Item::Waiting => {}
            Item::End(End { fault, .. }) => {
                let fault = fault.unwrap_or(Fault::Unanswered { status });
                return Outcome::NotNow(fault.to_rpc());
            }
        }
    }
    Outcome::NotNow(Fault::Unanswered { status }.to_rpc())
}

fn honoured(acknowledgement: &Message, asked: &BTreeSet<Topic>) -> BTreeSet<Topic> {
    #[derive(Deserialize)]
    struct Acknowledged<'a> {
        #[serde(borrow, default)]
        notifications: Filter<'a>,
    }
    let acknowledged = acknowledgement.params::<Acknowledged<'_>>();
    acknowledged.map(|acknowledged| acknowledged.notifications.honours(asked)).unwrap_or_default()
}

/// An answer in the place of the acknowledgement.
fn refusal(answer: &Message, status: u16) -> Outcome {
    match answer.error() {
        Some((code::METHOD_NOT_FOUND, _)) => Outcome::Unsupported,
        // TypeScript and Python allow 1,024 at once by default, and say so at HTTP 200.
        Some((code::INTERNAL_ERROR, text)) if text.to_ascii_lowercase().contains("limit") => {
            let text =
                format!("the server has no room for another subscription now: {}", Fault::quote(text.as_bytes()));
            Outcome::NotNow(RpcError::new(code::INTERNAL_ERROR, "subscription_limit", text).with("status", status))
        }
        Some((code, text)) => {
            let text = format!("the server refused {LISTEN}: {}", Fault::quote(text.as_bytes()));
            Outcome::NotNow(RpcError::new(code, "subscription_refused", text).with("status", status))
        }
        None => {
            let text = "the server ended the subscription before it had acknowledged it";
            Outcome::NotNow(RpcError::new(code::INTERNAL_ERROR, "subscription_ended", text))
        }
    }
}

/// Whether a message says that the server ends the stream whose request had this id. Specification and servers know two
/// ways beside closing it: the response, and `notifications/cancelled`.
#[must_use]
pub(super) fn is_end(message: &Message, id: &str) -> bool {
    match message.kind() {
        MessageKind::Response { .. } => true,
        MessageKind::Notification { method } if **method == *"notifications/cancelled" => {
            message.request_id_param().is_none_or(|named| named == RequestId::text(id))
        }
        _ => false,
    }
}

impl Rejection {
    fn of(answer: &Answer) -> Self {
        Rejection { status: answer.status, challenges: answer.challenges().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(topics: impl IntoIterator<Item = Topic>) -> BTreeSet<Topic> {
        topics.into_iter().collect()
    }

    #[test]
    fn request_names_what_is_asked_and_nothing_else() {
        let asked = topics([Topic::Resource("file:///a\"".into()), Topic::Tools]);
        let text = String::from_utf8(body("l1", &asked)).expect("UTF-8");
        let version = env!("CARGO_PKG_VERSION");
        let meta = format!(
            r#"{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"sse-sunset","version":"{version}"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
        );
        let filter = r#"{"toolsListChanged":true,"resourceSubscriptions":["file:///a\""]}"#;
        assert_eq!(
            text,
            format!(
                r#"{{"jsonrpc":"2.0","id":"l1","method":"subscriptions/listen","params":{{"_meta":{meta},"notifications":{filter}}}}}"#
            )
        );
    }

    #[test]
    fn request_fits_the_published_schema() {
        let text = include_str!("../../../../tests/schema/2026-07-28.json");
        let mut schema: serde_json::Value = serde_json::from_str(text).expect("a schema");
        schema["$ref"] = "#/$defs/SubscriptionsListenRequest".into();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        for asked in [topics([]), topics([Topic::Prompts, Topic::Resources, Topic::Resource("a:b".into())])] {
            let request = serde_json::from_slice(&body("l1", &asked)).expect("JSON");
            assert!(validator.is_valid(&request), "{request}");
        }
        assert!(!validator.is_valid(&serde_json::json!({})), "the schema refuses what is none");
    }

    #[test]
    fn acknowledgement_honours_only_what_was_asked() {
        let asked = topics([Topic::Tools, Topic::Prompts, Topic::Resource("a:b".into())]);
        let honours = |filter: &str| serde_json::from_str::<Filter<'_>>(filter).expect("a filter").honours(&asked);
        let all = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a:b","a:c"],"x":1}"#;
        assert_eq!(honours(all), asked);
        assert_eq!(honours(r#"{"toolsListChanged":false,"promptsListChanged":null}"#), topics([]));
        assert_eq!(honours(r#"{"resourceSubscriptions":["a:\u0062"]}"#), topics([Topic::Resource("a:b".into())]));
    }
}
