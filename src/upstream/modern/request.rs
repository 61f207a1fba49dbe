//! A request as 2026-07-28 wants it: everything the server needs to know stands in it (UPSTREAMS C, envelope E).

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::headers;
use super::shape::{Profile, Version};
use crate::mcp::{self, Array, Message, Object, RequestId, RpcError, code};
use crate::upstream::Exchange;

/// Start of the names in `_meta` that belong to the protocol; a legacy client has no business with them.
const RESERVED: &str = "io.modelcontextprotocol/";

/// Longest `clientInfo` that goes up as it is, in bytes: it is kept with the session, and goes with every request.
const LONGEST_INFO: usize = 16 << 10;
/// Longest name, version or title in a longer one.
const LONGEST_NAME: usize = 256;

/// Who a session's client is, as every request says it.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct Facts {
    /// What it can take.
    pub(super) profile: Profile,
    /// Its `clientInfo`.
    info: String,
}

/// A request on its way up. Sent again it has another id, and the same params but for what is added.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Box<str>,
    /// `Mcp-Method`
    method_header: HeaderValue,
    /// `Mcp-Name`, where the method has one.
    name: Option<String>,
    /// Where the server does not decode names (go-sdk), the name as it is.
    name_is_raw: bool,
    params: String,
}

/// What a request that was asked for input is sent again with.
#[derive(Debug, Default)]
pub(super) struct Supplement {
    /// The client's answers, by the server's keys.
    pub(super) responses: Vec<(String, String)>,
    /// The server's `requestState`, as it came.
    pub(super) state: Option<String>,
}

impl Facts {
    /// Of the client's `initialize`, and the version that it was told if it was another than it asked for.
    pub(in crate::upstream) fn of(initialize: &Message, told: Option<&str>) -> Self {
        let params = initialize.params_text().unwrap_or("{}");
        let profile = match told {
            Some(version) => Profile::settled_on(params, Version::settled(version)),
            None => Profile::of(params),
        };
        let info = Object::of(params).and_then(|params| params.get("clientInfo").map(str::to_owned));
        Facts { info: introduction(info.as_deref()), profile }
    }

    /// For what is asked in no client's name.
    pub(in crate::upstream) fn of_nobody() -> Self {
        Facts { info: introduction(None), profile: Profile::of("{}") }
    }
}

impl Request {
    /// A request of `method`. Fails where no server could be asked so.
    pub(super) fn of(method: &str, params: Option<&str>, facts: &Facts, level: Option<&str>) -> Result<Self, RpcError> {
        let Some(method_header) = headers::method(method) else { return Err(super::unknown(method)) };
        let mut given = object(params)?;
        let name = match method {
            "tools/call" | "prompts/get" => Some("name"),
            "resources/read" => Some("uri"),
            _ => None,
        };
        let name = name.map(|name| text_of(&given, name)).transpose()?;
        let meta = meta(given.get("_meta"), facts, level);
        given.set("_meta", meta);
        // Tasks of 2025-11-25 are no part of 2026-07-28.
        given.remove("task");
        Ok(Request {
            method: method.into(),
            method_header,
            name,
            name_is_raw: false,
            params: given.finish().into_owned(),
        })
    }

    #[must_use]
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The arguments of a call.
    pub(super) fn arguments(&self) -> Option<String> {
        Object::of(&self.params)?.get("arguments").map(str::to_owned)
    }

    /// Names its subject without encoding from now on, where a header can carry it so.
    pub(super) fn spell_out(&mut self) {
        self.name_is_raw = true;
    }

    /// As it goes up where it is sent once.
    pub(super) fn exchange(&self, client: &HeaderMap) -> Exchange {
        self.exchange_with(None, client, &[]).1
    }

    /// As it goes up, with the id it has this time.
    pub(super) fn exchange_with(
        &self,
        supplement: Option<&Supplement>,
        client: &HeaderMap,
        more: &[(HeaderName, HeaderValue)],
    ) -> (RequestId, Exchange) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let params = match supplement {
            None => Cow::Borrowed(self.params.as_str()),
            Some(supplement) => Cow::Owned(supplement.added_to(&self.params)),
        };
        let id = RequestId::text(&format!("s{}", LAST.fetch_add(1, Ordering::Relaxed) + 1));
        let body = mcp::request(&id, &self.method, &params);
        let name = self.name.as_deref().map(|name| {
            let raw = self.name_is_raw.then(|| headers::raw_value(name)).flatten();
            raw.unwrap_or_else(|| headers::value(name))
        });
        let exchange = headers::exchange(client, self.method_header.clone(), name, more, body);
        (id, exchange)
    }
}

impl Supplement {
    fn added_to(&self, params: &str) -> String {
        let Some(mut params) = Object::of(params) else { return params.to_owned() };
        if !self.responses.is_empty() {
            let members: Vec<String> =
                self.responses.iter().map(|(key, response)| format!("{}:{response}", mcp::quoted(key))).collect();
            params.set("inputResponses", format!("{{{}}}", members.join(",")));
        }
        if let Some(state) = &self.state {
            params.set("requestState", state.as_str());
        }
        params.finish().into_owned()
    }
}

/// The client's `params`; none are none.
pub(super) fn object(params: Option<&str>) -> Result<Object<'_>, RpcError> {
    let wrong =
        || RpcError::new(code::INVALID_PARAMS, "invalid_params", "params must be an object (sent by the client)");
    Object::of(params.unwrap_or("{}")).ok_or_else(wrong)
}

/// The text that stands in `params` under `name`.
pub(super) fn text_of(params: &Object<'_>, name: &str) -> Result<String, RpcError> {
    let text = params.get(name).and_then(|text| serde_json::from_str(text).ok());
    let wrong = format!("params.{name} must be a string (sent by the client)");
    text.ok_or_else(|| RpcError::new(code::INVALID_PARAMS, "invalid_params", wrong))
}

/// Who the client says it is, as 2026-07-28 takes it (schema, Implementation).
///
/// Nothing of it is needed, and servers of before took little notice; a server of 2026-07-28 refuses a request for it, the
/// question which era it is of included.
fn introduction(given: Option<&str>) -> String {
    let mut info = given.and_then(Object::of).or_else(|| Object::of("{}")).expect("an empty object is one");
    let is_text = |json: &str| json.starts_with('"');
    let is_long = given.is_some_and(|given| given.len() > LONGEST_INFO);
    let is_name = |json: &str| is_text(json) && (!is_long || json.len() <= LONGEST_NAME);
    let has_source = |icon: &str| Object::of(icon).and_then(|icon| icon.get("src").map(is_text)) == Some(true);
    info.retain(|name, value| match name {
        // Icons may be whole pictures, and nobody needs more than names.
        "name" | "version" | "title" => is_name(value),
        _ if is_long => false,
        "description" | "websiteUrl" => is_text(value),
        "icons" => Array::of(value).is_some_and(|icons| icons.items().all(has_source)),
        _ => true,
    });
    for (name, otherwise) in [("name", "unknown"), ("version", "")] {
        if !info.get(name).is_some_and(is_name) {
            info.set(name, mcp::quoted(otherwise));
        }
    }
    info.finish().into_owned()
}

/// Whether it may name a request that reports progress: a text or a whole number. Some clients say `null` for none.
fn is_token(json: &str) -> bool {
    json.starts_with('"') || json.parse::<f64>().is_ok_and(|number| number.fract() == 0.0)
}

/// The client's own `_meta`, with what the protocol wants in it.
fn meta(given: Option<&str>, facts: &Facts, level: Option<&str>) -> String {
    let mut meta = given.and_then(Object::of).or_else(|| Object::of("{}")).expect("an empty object is one");
    meta.retain(|name, value| !name.starts_with(RESERVED) && (name != "progressToken" || is_token(value)));
    meta.set("io.modelcontextprotocol/protocolVersion", mcp::quoted(mcp::MODERN_VERSION));
    meta.set("io.modelcontextprotocol/clientInfo", facts.info.as_str());
    meta.set("io.modelcontextprotocol/clientCapabilities", facts.profile.capabilities_up());
    if let Some(level) = level {
        meta.set("io.modelcontextprotocol/logLevel", mcp::quoted(level));
    }
    meta.finish().into_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn facts() -> Facts {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",
            "capabilities":{"elicitation":{}},"clientInfo":{"name":"c","version":"1","x":1}}}"#;
        let message = crate::mcp::parse(&Bytes::from_static(text.as_bytes())).expect("a message").remove(0);
        Facts::of(&message, None)
    }

    fn body(exchange: &Exchange) -> Value {
        serde_json::from_slice(&exchange.body).expect("json")
    }

    #[test]
    fn request_says_who_asks_and_keeps_the_rest_as_it_came() {
        let params = r#"{ "name":"t","_meta":{"progressToken": 0,"io.modelcontextprotocol/x":1,"a/b":[]},"task":{},"arguments":{"z": 1.0} }"#;
        let request = Request::of("tools/call", Some(params), &facts(), Some("info")).expect("a request");
        let (id, exchange) = request.exchange_with(None, &HeaderMap::new(), &[]);
        let body = body(&exchange);
        assert_eq!(body["id"], id.as_json().trim_matches('"'));
        assert_eq!(
            body["params"]["_meta"],
            json!({
                "progressToken": 0, "a/b": [],
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1", "x": 1},
                "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
                "io.modelcontextprotocol/logLevel": "info",
            })
        );
        assert_eq!(body["params"].get("task"), None);
        assert!(String::from_utf8_lossy(&exchange.body).contains(r#""arguments":{"z": 1.0} }"#));
        assert_eq!(
            (&exchange.headers["mcp-method"], &exchange.headers["mcp-name"]),
            (&"tools/call".parse().expect("a header"), &"t".parse().expect("a header"))
        );
    }

    #[test]
    fn picture_of_a_client_does_not_go_with_every_request() {
        let info = |field: &str| {
            let long = "x".repeat(LONGEST_INFO);
            let given = format!(r#"{{"name":"c","version":"1","{field}":"{long}","icons":[{{"src":"data:"}}]}}"#);
            introduction(Some(&given))
        };
        for field in ["title", "description", "other"] {
            assert_eq!(info(field), r#"{"name":"c","version":"1"}"#, "{field}");
        }
        let long = "x".repeat(LONGEST_INFO);
        let named = introduction(Some(&format!(r#"{{"name":"{long}","version":"1"}}"#)));
        let named: Value = serde_json::from_str(&named).expect("json");
        assert_eq!(named, json!({"name": "unknown", "version": "1"}));
    }

    #[test]
    fn client_that_says_half_of_who_it_is_is_introduced_all_the_same() {
        let introduced = |info: &str| serde_json::from_str::<Value>(&introduction(Some(info))).expect("json");
        let unknown = json!({"name": "unknown", "version": ""});
        assert_eq!(serde_json::from_str::<Value>(&introduction(None)).expect("json"), unknown);
        for nothing in ["{}", "null", "[]", r#""c""#, r#"{"name":1,"version":null,"title":{},"icons":[{}]}"#] {
            assert_eq!(introduced(nothing), unknown, "{nothing}");
        }
        let whole = r#"{"name":"c","version":"1","title":"C","icons":[{"src":"a:b"}],"x":1}"#;
        assert_eq!(introduction(Some(whole)), whole, "byte for byte");
    }

    #[test]
    fn progress_token_is_a_text_or_a_whole_number() {
        for (token, is_one) in
            [(r#""t""#, true), ("0", true), ("-7", true), ("1e2", true), ("1.5", false), ("null", false), ("[]", false)]
        {
            let params = format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#);
            let request = Request::of("tools/list", Some(&params), &facts(), None).expect("a request");
            let body = body(&request.exchange(&HeaderMap::new()));
            assert_eq!(body["params"]["_meta"].get("progressToken").is_some(), is_one, "{token}");
        }
    }

    #[test]
    fn request_sent_again_has_another_id_and_the_same_params_with_what_was_asked_for() {
        let request = Request::of("prompts/get", Some(r#"{"name":"p"}"#), &facts(), None).expect("a request");
        let (first, before) = request.exchange_with(None, &HeaderMap::new(), &[]);
        let responses = vec![("a\"b".to_owned(), r#"{"roots":[]}"#.to_owned())];
        let supplement = Supplement { responses, state: Some(r#""v1\u0041""#.to_owned()) };
        let (second, after) = request.exchange_with(Some(&supplement), &HeaderMap::new(), &[]);
        assert_ne!(first, second);
        assert!(String::from_utf8_lossy(&after.body).contains(r#""requestState":"v1\u0041""#), "byte for byte");
        let (mut before, mut after) = (body(&before)["params"].take(), body(&after)["params"].take());
        let added = after.as_object_mut().expect("params");
        assert_eq!(added.remove("inputResponses"), Some(json!({"a\"b": {"roots": []}})));
        assert_eq!(added.remove("requestState"), Some(json!("v1A")));
        assert_eq!(before.take(), after.take());
    }

    #[test]
    fn request_that_no_server_could_be_asked_is_refused_in_words() {
        let refused = |method: &str, params: Option<&str>| {
            Request::of(method, params, &facts(), None).err().map(|error| (error.code, error.message))
        };
        assert_eq!(refused("tools/list", None), None);
        assert_eq!(refused("tools/list", Some("[]")).expect("refused").0, code::INVALID_PARAMS);
        let (code, text) = refused("resources/read", Some(r#"{"name":"x"}"#)).expect("refused");
        assert!(code == code::INVALID_PARAMS && text.contains("params.uri"), "{text}");
        assert_eq!(refused("naïve", None).expect("refused").0, code::METHOD_NOT_FOUND);
    }
}
