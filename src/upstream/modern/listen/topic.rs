//! What a stream may speak of, and the notifications that say it.
//!
//! What reaches a client is the server's own text, less the mark of the subscription. Where a change may have been
//! missed, the same notification is made up here.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::super::shape;
use crate::mcp::Message;

/// Longest notification that is kept for a client as the server wrote it, beside its URI; a longer one is made up anew,
/// so that what waits for a slow client is bounded by what it subscribed to.
const LONGEST_TEXT: usize = 4096;

/// The lists whose changes a session wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds {
    /// `notifications/tools/list_changed`.
    pub(crate) tools: bool,
    /// `notifications/prompts/list_changed`.
    pub(crate) prompts: bool,
    /// `notifications/resources/list_changed`.
    pub(crate) resources: bool,
}

/// One thing that a stream may speak of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// The content of the resource of that URI.
    Resource(Arc<str>),
}

/// A notification for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub(super) subject: Subject,
    pub(super) text: Bytes,
}

/// What a notification is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    List(Topic),
    /// A resource, which may lie below one that was subscribed to (MCP 2026-07-28, `ResourceUpdatedNotificationParams`).
    Resource(Arc<str>),
}

impl Kinds {
    /// The topics of these lists.
    pub(super) fn topics(self) -> impl Iterator<Item = Topic> {
        let all = [(self.tools, Topic::Tools), (self.prompts, Topic::Prompts), (self.resources, Topic::Resources)];
        all.into_iter().filter_map(|(is_wanted, topic)| is_wanted.then_some(topic))
    }
}

impl Topic {
    /// News of all of it, as if the server had sent them.
    #[must_use]
    pub(super) fn news(&self) -> News {
        let subject = match self {
            Topic::Resource(uri) => Subject::Resource(Arc::clone(uri)),
            list => Subject::List(list.clone()),
        };
        News { subject, text: self.made_up() }
    }

    fn made_up(&self) -> Bytes {
        let list = |list: &str| format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
        let text = match self {
            Topic::Tools => list("tools"),
            Topic::Prompts => list("prompts"),
            Topic::Resources => list("resources"),
            Topic::Resource(uri) => {
                let uri = Value::from(&**uri);
                format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":{uri}}}}}"#)
            }
        };
        text.into()
    }

    /// Whether news of `subject` are news of this.
    #[must_use]
    pub(super) fn covers(&self, subject: &Subject) -> bool {
        match (self, subject) {
            (topic, Subject::List(list)) => topic == list,
            (Topic::Resource(whole), Subject::Resource(part)) => match part.strip_prefix(&**whole) {
                Some(below) => below.is_empty() || whole.ends_with('/') || below.starts_with(['/', '?', '#']),
                None => false,
            },
            (_, Subject::Resource(_)) => false,
        }
    }
}

impl News {
    /// What a message of the stream tells the client; `None` when it is not for clients.
    #[must_use]
    pub(super) fn of(message: &Message) -> Option<News> {
        #[derive(serde::Deserialize)]
        struct Updated {
            uri: String,
        }
        let subject = match message.method()? {
            "notifications/tools/list_changed" => Subject::List(Topic::Tools),
            "notifications/prompts/list_changed" => Subject::List(Topic::Prompts),
            "notifications/resources/list_changed" => Subject::List(Topic::Resources),
            "notifications/resources/updated" => Subject::Resource(message.params::<Updated>()?.uri.into()),
            _ => return None,
        };
        let text = shape::notification(std::str::from_utf8(message.bytes()).ok()?);
        let text = if text.len() > LONGEST_TEXT { subject.topic().made_up() } else { text.into_owned().into() };
        Some(News { subject, text })
    }
}

impl Subject {
    fn topic(&self) -> Topic {
        match self {
            Subject::List(topic) => topic.clone(),
            Subject::Resource(uri) => Topic::Resource(Arc::clone(uri)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp;

    fn news(text: &str) -> Option<News> {
        let messages = mcp::parse(&Bytes::copy_from_slice(text.as_bytes())).expect("a message");
        News::of(messages.first().expect("one"))
    }

    fn text(of: &str) -> String {
        String::from_utf8(news(of).expect("for clients").text.to_vec()).expect("UTF-8")
    }

    #[test]
    fn news_lose_what_belongs_to_the_subscription_and_no_other_byte() {
        for (sent, told) in [
            (
                r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"L1"}}}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","params":{"uri":"a:\u0062", "_meta":{"io.modelcontextprotocol/subscriptionId":1}},"method":"notifications/resources/updated"}"#,
                r#"{"jsonrpc":"2.0","params":{"uri":"a:\u0062"},"method":"notifications/resources/updated"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed","params":{"_meta":{"a":1.0,"io.modelcontextprotocol/subscriptionId":1}}}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed","params":{"_meta":{"a":1.0}}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0", "method":"notifications/resources/list_changed"}"#,
                r#"{"jsonrpc":"2.0", "method":"notifications/resources/list_changed"}"#,
            ),
        ] {
            assert_eq!(text(sent), told);
        }
    }

    #[test]
    fn message_that_is_not_for_clients_is_no_news() {
        for method in ["notifications/subscriptions/acknowledged", "notifications/message", "notifications/cancelled"] {
            assert_eq!(news(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"uri":"a:b"}}}}"#)), None);
        }
        assert_eq!(news(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":7}}"#), None);
    }

    #[test]
    fn news_too_long_to_wait_are_made_up() {
        let long = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"a:\"b","x":"{}"}}}}"#,
            "x".repeat(LONGEST_TEXT)
        );
        assert_eq!(
            text(&long),
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:\"b"}}"#
        );
    }

    #[test]
    fn topic_covers_the_resource_and_what_lies_below_it() {
        let covers = |whole: &str, part: &str| Topic::Resource(whole.into()).covers(&Subject::Resource(part.into()));
        for part in ["file:///a", "file:///a/b", "file:///a?x", "file:///a#x"] {
            assert!(covers("file:///a", part), "{part}");
        }
        assert!(covers("file:///a/", "file:///a/b"));
        for part in ["file:///ab", "file:///", "file:///b/a"] {
            assert!(!covers("file:///a", part), "{part}");
        }
        assert!(Topic::Tools.covers(&Subject::List(Topic::Tools)));
        assert!(!Topic::Tools.covers(&Subject::List(Topic::Prompts)));
    }
}
