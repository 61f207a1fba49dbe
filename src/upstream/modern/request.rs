//! A request as 2026-07-28 wants it: everything the server needs to know stands in it (UPSTREAMS C, envelope E).

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde_json::value::to_raw_value;

use super::headers::{self, VERSION};
use super::shape::{Profile, Version};
use crate::mcp::{Message, Object, RequestId, RpcError, code};
use crate::upstream::Exchange;

/// Start of the names in `_meta` that belong to the protocol; a legacy client has no business with them.
const RESERVED: &str = "io.modelcontextprotocol/";

/// A client that does not name itself.
const UNNAMED: &str = r#"{"name":"unknown","version":""}"#;

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
        let info = info.filter(|info| Object::of(info).is_some());
        Facts { info: info.unwrap_or_else(|| UNNAMED.to_owned()), profile }
    }

    /// For what is asked in no client's name.
    pub(in crate::upstream) fn of_nobody() -> Self {
        Facts { info: UNNAMED.to_owned(), profile: Profile::of("{}") }
    }
}

impl Request {
    /// A request of `method`. Fails where no server could be asked so.
    pub(super) fn of(method: &str, params: Option<&str>, facts: &Facts, level: Option<&str>) -> Result<Self, RpcError> {
        let not_an_object =
            || RpcError::new(code::INVALID_PARAMS, "invalid_params", "params must be an object (sent by the client)");
        let Some(method_header) = headers::method(method) else { return Err(super::unknown(method)) };
        let mut given = Object::of(params.unwrap_or("{}")).ok_or_else(not_an_object)?;
        let name = match method {
            "tools/call" | "prompts/get" => Some("name"),
            "resources/read" => Some("uri"),
            _ => None,
        };
        let name = name.map(|name| {
            let value = given.get(name).and_then(|value| serde_json::from_str::<String>(value).ok());
            let text = format!("params.{name} must be a string (sent by the client)");
            value.ok_or_else(|| RpcError::new(code::INVALID_PARAMS, "invalid_params", text))
        });
        let name = name.transpose()?;
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

    /// Names its subject without encoding from now on. Returns whether that makes a difference.
    pub(super) fn spell_out(&mut self) -> bool {
        let Some(name) = &self.name else { return false };
        let differs = headers::raw_value(name).is_some_and(|raw| raw != headers::value(name));
        !std::mem::replace(&mut self.name_is_raw, differs) && differs
    }

    /// As it goes up for the first time.
    pub(super) fn exchange(&self, client: &HeaderMap, more: &[(HeaderName, HeaderValue)]) -> Exchange {
        self.framed(&self.params, client, more).1
    }

    /// As it goes up, with the id it has this time.
    pub(super) fn exchange_with(
        &self,
        supplement: Option<&Supplement>,
        client: &HeaderMap,
        more: &[(HeaderName, HeaderValue)],
    ) -> (RequestId, Exchange) {
        let params = match supplement {
            None => Cow::Borrowed(self.params.as_str()),
            Some(supplement) => Cow::Owned(supplement.added_to(&self.params)),
        };
        self.framed(&params, client, more)
    }

    fn framed(&self, params: &str, client: &HeaderMap, more: &[(HeaderName, HeaderValue)]) -> (RequestId, Exchange) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = RequestId::text(&format!("s{}", LAST.fetch_add(1, Ordering::Relaxed) + 1));
        let method = quoted(&self.method);
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"method":{method},"params":{params}}}"#, id.as_json());
        let name = self.name.as_deref().map(|name| {
            let raw = self.name_is_raw.then(|| headers::raw_value(name)).flatten();
            raw.unwrap_or_else(|| headers::value(name))
        });
        let exchange = headers::exchange(client, self.method_header.clone(), name, more, Bytes::from(body));
        (id, exchange)
    }
}

impl Supplement {
    fn added_to(&self, params: &str) -> String {
        let Some(mut params) = Object::of(params) else { return params.to_owned() };
        if !self.responses.is_empty() {
            let members: Vec<String> =
                self.responses.iter().map(|(key, response)| format!("{}:{response}", quoted(key))).collect();
            params.set("inputResponses", format!("{{{}}}", members.join(",")));
        }
        if let Some(state) = &self.state {
            params.set("requestState", state.as_str());
        }
        params.finish().into_owned()
    }
}

/// The client's own `_meta`, with what the protocol wants in it.
fn meta(given: Option<&str>, facts: &Facts, level: Option<&str>) -> String {
    let mut meta = given.and_then(Object::of).or_else(|| Object::of("{}")).expect("an empty object is one");
    meta.retain(|name, _| !name.starts_with(RESERVED));
    meta.set("io.modelcontextprotocol/protocolVersion", quoted(VERSION));
    meta.set("io.modelcontextprotocol/clientInfo", facts.info.as_str());
    meta.set("io.modelcontextprotocol/clientCapabilities", facts.profile.capabilities_up());
    if let Some(level) = level {
        meta.set("io.modelcontextprotocol/logLevel", quoted(level));
    }
    meta.finish().into_owned()
}

fn quoted(text: &str) -> String {
    to_raw_value(text).map(|raw| raw.get().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
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
