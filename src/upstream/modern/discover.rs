//! `server/discover`: what a server of 2026-07-28 says of itself, and whether it is one (UPSTREAMS D.1).
//!
//! Only what the server says is evidence. A refused credential, a failure and silence leave the question open; any other
//! refusal means a server that does not know the method, which is one with sessions.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::listen::{Key, Kinds};
use super::request::{Facts, Request};
use super::shape;
use crate::mcp::{MODERN_VERSION, Message, MessageKind, Object, code};
use crate::upstream::{Answer, Exchange, Fault, Item, Replies, Upstream};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers that do not fit, a capability that is missing (MCP 2026-07-28, basic §Error Codes).
const OF_THIS_ERA: [i64; 2] = [code::HEADER_MISMATCH, code::MISSING_CAPABILITY];
/// Principals whose discoveries are kept.
const KEPT: usize = 256;
/// A server cannot have its word kept for longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a server of this era says of itself.
#[derive(Debug)]
pub(in crate::upstream) struct Discovery {
    /// The result, as it came.
    pub(super) result: String,
    pub(super) offers: Offers,
}

/// What it offers of that which is asked for in another way than before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offers {
    pub(super) logging: bool,
    pub(super) subscribe: bool,
    /// The lists that it announces changes of.
    pub(super) changes: Kinds,
}

/// What came of asking.
#[derive(Debug)]
pub(in crate::upstream) enum Discovered {
    /// It speaks 2026-07-28. Whether it said so now, to whoever asked.
    Modern(Arc<Discovery>, bool),
    /// It does not.
    Legacy,
    /// It wants another credential first.
    Rejected(Answer),
    /// It did not say.
    Unknown(Fault),
}

/// What was discovered, for as long as the server said that it holds (`ttlMs`), for whom it said that it does
/// (`cacheScope`).
#[derive(Debug, Default)]
pub(in crate::upstream) struct Discoveries {
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    scope: Scope,
    until: Instant,
    discovery: Arc<Discovery>,
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Everybody,
    /// Whoever the server would take for the same client: by anything that is not known to say nothing of who asks.
    Of(Key),
}

impl Discoveries {
    fn find(&mut self, whose: &Key) -> Option<Arc<Discovery>> {
        let now = Instant::now();
        self.kept.retain(|kept| kept.until > now);
        let fits = |kept: &&Kept| match &kept.scope {
            Scope::Everybody => true,
            Scope::Of(theirs) => theirs == whose,
        };
        self.kept.iter().find(fits).map(|kept| Arc::clone(&kept.discovery))
    }

    fn keep(&mut self, discovery: &Arc<Discovery>, whose: Key) {
        #[derive(Deserialize)]
        struct Hints<'a> {
            #[serde(rename = "ttlMs", default)]
            ttl_ms: f64,
            #[serde(rename = "cacheScope", default)]
            cache_scope: Option<&'a str>,
        }
        let Ok(hints) = serde_json::from_str::<Hints<'_>>(&discovery.result) else { return };
        let Ok(ttl) = Duration::try_from_secs_f64(hints.ttl_ms / 1000.0) else { return };
        if ttl.is_zero() {
            return;
        }
        let scope = match hints.cache_scope {
            Some("public") => Scope::Everybody,
            _ => Scope::Of(whose),
        };
        self.kept.retain(|kept| kept.scope != scope);
        if self.kept.len() >= KEPT {
            self.kept.remove(0);
        }
        self.kept.push(Kept { scope, until: Instant::now() + ttl.min(LONGEST), discovery: Arc::clone(discovery) });
    }
}

impl Offers {
    fn of(result: &str) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Capabilities {
            logging: Option<serde::de::IgnoredAny>,
            tools: Option<List>,
            prompts: Option<List>,
            resources: Option<List>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct List {
            #[serde(rename = "listChanged")]
            changes: Option<bool>,
            subscribe: Option<bool>,
        }
        let capabilities = Object::of(result).and_then(|result| {
            result.get("capabilities").and_then(|text| serde_json::from_str::<Capabilities>(text).ok())
        });
        let Capabilities { logging, tools, prompts, resources } = capabilities.unwrap_or_default();
        let changes = |list: &Option<List>| list.as_ref().and_then(|list| list.changes) == Some(true);
        Offers {
            logging: logging.is_some(),
            subscribe: resources.as_ref().and_then(|list| list.subscribe) == Some(true),
            changes: Kinds { tools: changes(&tools), prompts: changes(&prompts), resources: changes(&resources) },
        }
    }
}

/// What the server says of itself to whoever sends `headers`, lately or now.
pub(in crate::upstream) async fn discover(upstream: &Upstream, facts: &Facts, headers: &HeaderMap) -> Discovered {
    let whose = Key::of(headers);
    if let Some(discovery) = upstream.discoveries(|discoveries| discoveries.find(&whose)) {
        return Discovered::Modern(discovery, false);
    }
    ask(upstream, facts, headers).await
}

/// `server/discover` in no client's name, with a client's headers.
pub(in crate::upstream) fn question(headers: &HeaderMap) -> Option<Exchange> {
    let request = Request::of("server/discover", None, &Facts::of_nobody(), None).ok()?;
    Some(request.exchange(headers))
}

/// The same, without what is known.
pub(in crate::upstream) async fn ask(upstream: &Upstream, facts: &Facts, headers: &HeaderMap) -> Discovered {
    let Some(request) = Request::of("server/discover", None, facts, None).ok() else {
        return Discovered::Unknown(Fault::GivenUp);
    };
    let asking = async {
        let answer = match upstream.transport().send(request.exchange(headers)).await {
            Ok(answer) => answer,
            Err(fault) => return Discovered::Unknown(fault),
        };
        judge(answer).await
    };
    let discovered = timeout(PATIENCE, asking).await.unwrap_or(Discovered::Unknown(Fault::Silent(PATIENCE)));
    if let Discovered::Modern(discovery, _) = &discovered {
        upstream.discoveries(|discoveries| discoveries.keep(discovery, Key::of(headers)));
    }
    discovered
}

async fn judge(answer: Answer) -> Discovered {
    if answer.rejects_credential() {
        return Discovered::Rejected(answer);
    }
    let status = answer.status;
    let mut replies = Replies::of(answer);
    let mut fault = None;
    while let Some(item) = replies.next().await {
        match item {
            Item::Message(message) if matches!(message.kind(), MessageKind::Response { .. }) => {
                return judge_message(status, &message);
            }
            Item::Message(_) | Item::Garbage(_) | Item::Waiting => {}
            Item::End(end) => fault = end.fault,
        }
    }
    if is_refusal(status) {
        return Discovered::Legacy;
    }
    Discovered::Unknown(fault.unwrap_or(Fault::Unanswered { status: status.as_u16() }))
}

fn judge_message(status: StatusCode, message: &Message) -> Discovered {
    #[derive(Deserialize)]
    struct Versions<'a> {
        #[serde(rename = "supportedVersions", borrow, default)]
        supported: Vec<std::borrow::Cow<'a, str>>,
    }
    if let Some((code, text)) = message.error() {
        // Errors without a status of their own are those of servers that know no `server/discover`. What only a server of
        // this era complains of is none of them.
        return if !OF_THIS_ERA.contains(&code) && (status.is_success() || is_refusal(status)) {
            Discovered::Legacy
        } else {
            let text = Fault::quote(text.as_bytes());
            Discovered::Unknown(Fault::NotRpc { status: status.as_u16(), text, retry_after: None })
        };
    }
    let Some(result) = message.result_text() else { return Discovered::Legacy };
    match serde_json::from_str::<Versions<'_>>(result) {
        Ok(versions) if versions.supported.iter().any(|version| version == MODERN_VERSION) => {
            let offers = Offers::of(result);
            Discovered::Modern(Arc::new(Discovery { result: result.to_owned(), offers }), true)
        }
        _ => Discovered::Legacy,
    }
}

/// Whether a status turns the request down for what it is. Credentials, clocks and overload say nothing of eras.
pub(in crate::upstream) fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 407 | 408 | 425 | 429)
}

impl Discovery {
    /// What a client that asked for `version` is told in answer to its `initialize`.
    pub(super) fn initialize_result(&self, version: shape::Version, host: &str) -> String {
        shape::initialize_result(version, &self.result, host)
    }
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderName, HeaderValue};

    use super::*;

    fn key(headers: &[(&'static str, &'static str)]) -> Key {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Key::of(&headers.iter().map(pair).collect())
    }

    fn discovery(hints: &str) -> Arc<Discovery> {
        Arc::new(Discovery { result: format!("{{{hints}}}"), offers: Offers::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn word_of_the_server_is_kept_for_whom_and_as_long_as_it_says() {
        let (nobody, ann, ben) =
            (key(&[]), key(&[("authorization", "Bearer a")]), key(&[("authorization", "Bearer b")]));
        let mut kept = Discoveries::default();
        kept.keep(&discovery(r#""ttlMs":0,"cacheScope":"public""#), nobody.clone());
        kept.keep(&discovery(r#""ttlMs":-5"#), nobody.clone());
        kept.keep(&discovery(""), nobody.clone());
        assert!(kept.find(&nobody).is_none(), "nothing was promised");
        kept.keep(&discovery(r#""ttlMs":2000,"cacheScope":"private""#), ann.clone());
        assert!(kept.find(&ann).is_some());
        assert!(kept.find(&ben).is_none() && kept.find(&nobody).is_none());
        kept.keep(&discovery(r#""ttlMs":1000,"cacheScope":"public""#), ben.clone());
        assert!(kept.find(&nobody).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(kept.find(&nobody).is_none() && kept.find(&ann).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(kept.find(&ann).is_none());
    }

    /// What the server says to one client in private must not reach another, whatever tells them apart.
    #[tokio::test(start_paused = true)]
    async fn private_word_is_for_one_api_key_only() {
        let (ann, ben) = (key(&[("x-api-key", "a")]), key(&[("x-api-key", "b")]));
        let mut kept = Discoveries::default();
        kept.keep(&discovery(r#""ttlMs":2000,"cacheScope":"private""#), ann.clone());
        assert!(kept.find(&ann).is_some());
        assert!(kept.find(&ben).is_none() && kept.find(&key(&[])).is_none());
    }

    #[test]
    fn only_refusals_that_no_modern_server_makes_are_those_of_an_older_one() {
        let judged = |status: u16, code: i64| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no"}}}}"#);
            let message = crate::mcp::parse(&text.into()).expect("a message").remove(0);
            judge_message(StatusCode::from_u16(status).expect("a status"), &message)
        };
        for (status, code) in [(400, -32000), (400, -32600), (404, -32601), (200, -32601), (400, -32022)] {
            assert!(matches!(judged(status, code), Discovered::Legacy), "{status} {code}");
        }
        for (status, code) in [(400, -32020), (400, -32021), (500, -32603), (429, -32000), (403, -32000)] {
            assert!(matches!(judged(status, code), Discovered::Unknown(_)), "{status} {code}");
        }
    }

    #[test]
    fn offers_are_what_is_declared_and_nothing_else() {
        let offers = Offers::of(
            r#"{"capabilities":{"logging":{},"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}}}"#,
        );
        let changes = Kinds { tools: true, ..Kinds::default() };
        assert_eq!(offers, Offers { logging: true, subscribe: true, changes });
        assert_eq!(Offers::of(r#"{"capabilities":[]}"#), Offers::default());
    }
}
