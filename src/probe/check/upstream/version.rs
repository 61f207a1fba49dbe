//! Which era the server is of: found by opening a session as the proxy will.
//!
//! The trap: a server of the modern era may answer `initialize` as if nothing were, and refuse everything after it
//! (UPSTREAMS 0.3). So a ping has to succeed before the era is believed, and one that gives no session id is asked for the
//! other era, which the proxy speaks to it then.

use http::HeaderMap;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::finding::{Advice, On};
use super::super::http::{Head, Http, NoAnswer, Reply, header_text, media_type, request};
use super::super::text::{milliseconds, quote};
use super::names;
use crate::mcp::{self, MODERN_VERSION, code};

/// The newest version of the session era.
const NEWEST: &str = "2025-11-25";
/// What most legacy clients ask for.
pub(super) const LEGACY: &str = "2024-11-05";
/// How that era refuses: no such version, a header missing, a parameter missing (UPSTREAMS B.2).
const MODERN_REFUSALS: [i64; 3] = [code::UNSUPPORTED_VERSION, code::HEADER_MISMATCH, code::INVALID_PARAMS];

/// A session that was opened, or what stands for it in the modern era.
pub(super) struct Session {
    /// Whether nothing is held between requests.
    pub(super) is_modern: bool,
    /// Session id and version, as every later request carries them.
    pub(super) headers: HeaderMap,
    /// The smallest request that there is.
    pub(super) ping_request: Value,
    /// Whether the server gave it an id.
    pub(super) has_id: bool,
    /// The answer to `initialize`.
    pub(super) opening: Reply,
    /// The answer to `notifications/initialized`.
    pub(super) initialized: Result<StatusCode, NoAnswer>,
    /// The answer to the first ping.
    pub(super) ping: Reply,
}

/// `initialize` with `version`.
pub(super) async fn initialize(http: &Http, version: &str) -> Result<Reply, NoAnswer> {
    let info = json!({"name": "sse-sunset-check", "version": env!("CARGO_PKG_VERSION")});
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": info});
    http.post(&HeaderMap::new(), &request("initialize", params)).await
}

/// The version that an answer to `initialize` names.
pub(super) fn negotiated(reply: &Reply) -> Option<String> {
    let result = reply.result()?;
    Some(quote(result.get("protocolVersion")?.as_str()?)).filter(|_| reply.status.is_success())
}

/// What later requests of the session carry (WIRE, Toward the upstream 2).
pub(super) fn session_headers(reply: &Reply, version: &str) -> HeaderMap {
    let id = reply.headers.get(mcp::SESSION_ID).map(|id| (mcp::SESSION_ID, id.clone()));
    let named = (version >= mcp::VERSION_HEADER_SINCE).then(|| HeaderValue::from_str(version).ok()).flatten();
    id.into_iter().chain(named.map(|version| (mcp::PROTOCOL_VERSION, version))).collect()
}

/// Ends what an answer to `initialize` began, if that has an id.
pub(super) async fn end(http: &Http, opening: &Reply) {
    if opening.headers.contains_key(mcp::SESSION_ID) {
        let headers = session_headers(opening, &negotiated(opening).unwrap_or_default());
        // Whatever is said: the check does not depend on it.
        let _ = http.head(Method::DELETE, &headers, &Value::Null).await;
    }
}

/// The answer to `initialize`, under another name if that of the proxy is refused.
async fn opened(on: &mut On<'_, '_>, http: Http, is_renamed: bool) -> Option<(Http, Reply, bool)> {
    match initialize(&http, NEWEST).await {
        Ok(reply) if names::is_refusal(&reply) && !is_renamed => {
            end(&http, &reply).await;
            let http = names::find_other(on, http, &reply).await?;
            let reply = initialize(&http, NEWEST).await.ok()?;
            Some((http, reply, true))
        }
        Ok(reply) => Some((http, reply, is_renamed)),
        Err(error) => {
            let remedy = "whoever runs the server: its log should show why it does not answer initialize; what \
                          stands before it (gateway, mesh) must not hold answers back";
            on.failure("era", format!("initialize: {error}"), Advice::new("no client can begin", remedy));
            None
        }
    }
}

/// Opens a session, and says which era and which version that is; with how the server is reached, and whether that is
/// under another name than the proxy's.
pub(super) async fn open(on: &mut On<'_, '_>, http: Http, is_renamed: bool) -> Option<(Http, Session, bool)> {
    let (http, opening, is_renamed) = opened(on, http, is_renamed).await?;
    if is_compressed(on, &opening) {
        return None;
    }
    let Some(version) = negotiated(&opening) else {
        let session = refused(on, &http, opening).await?;
        return Some((http, session, is_renamed));
    };
    let headers = session_headers(&opening, &version);
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let initialized = http.head(Method::POST, &headers, &notification).await.map(|head| head.status);
    let ping = match http.post(&headers, &request("ping", Value::Null)).await {
        Ok(reply) if reply.result().is_some() || reply.error_code() == Some(mcp::code::METHOD_NOT_FOUND) => reply,
        Ok(reply) => {
            let is_compressed = is_compressed(on, &reply);
            let session = if is_compressed { None } else { refused_after(on, &http, &reply).await };
            end(&http, &opening).await;
            return session.map(|session| (http, session, is_renamed));
        }
        Err(error) => {
            let remedy = "whoever runs the server: its log should show why";
            let meaning = "initialize works and nothing after it";
            on.failure("era", format!("ping: {error}"), Advice::new(meaning, remedy));
            end(&http, &opening).await;
            return None;
        }
    };
    let has_id = opening.headers.contains_key(mcp::SESSION_ID);
    if !has_id && let Some(discovery) = discovery(&http).await {
        let how = format!("initialize works too ({version}), but holds no session");
        let session = modern_session(on, discovery, &how);
        return Some((http, session, is_renamed));
    }
    on.ok("era", format!("session era: initialize answered in {}", milliseconds(opening.took)));
    on.ok("version", format!("{version}, {}", server_name(&opening)));
    let ping_request = request("ping", Value::Null);
    let session = Session { is_modern: false, headers, ping_request, has_id, opening, initialized, ping };
    Some((http, session, is_renamed))
}

/// What stands for a session with a server that holds none.
fn modern_session(on: &mut On<'_, '_>, discovery: Reply, how: &str) -> Session {
    on.ok("era", format!("modern era: {MODERN_VERSION}, which the proxy translates ({how})"));
    on.ok("version", format!("{MODERN_VERSION}, {}", server_name(&discovery)));
    let (headers, ping_request) = modern_request("server/discover", json!({}));
    let ping = discovery.clone();
    Session {
        is_modern: true,
        headers,
        ping_request,
        has_id: false,
        opening: discovery,
        initialized: Ok(StatusCode::ACCEPTED),
        ping,
    }
}

/// Whether an answer is compressed unasked, which nobody can read who did not ask for it.
fn is_compressed(on: &mut On<'_, '_>, reply: &Reply) -> bool {
    let encoding = header_text(&reply.headers, &header::CONTENT_ENCODING);
    let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) else { return false };
    let seen = format!("answers compressed ({}) although identity was asked for", quote(encoding));
    let remedy = "whoever runs the server, or the gateway before it: no compression where Accept-Encoding is \
                  identity, as RFC 9110 has it";
    on.failure("compression", seen, Advice::new("the proxy does not unpack answers", remedy));
    true
}

fn server_name(opening: &Reply) -> String {
    let result = opening.result().unwrap_or_default();
    let in_meta = || result.get("_meta")?.get("io.modelcontextprotocol/serverInfo");
    let info = result.get("serverInfo").or_else(in_meta).cloned().unwrap_or_default();
    let part = |name| info.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(quote);
    let name = part("name").unwrap_or_else(|| "a server without a name".to_owned());
    part("version").map_or_else(|| name.clone(), |version| format!("{name} {version}"))
}

/// `initialize` was turned away: by what kind of server?
async fn refused(on: &mut On<'_, '_>, http: &Http, reply: Reply) -> Option<Session> {
    let said = reply.said();
    let status = reply.status;
    // Neither says anything about the era (WIRE, Era).
    if status.is_server_error() || status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        let remedy =
            "whoever runs the server, or the gateway before it: its log should show why; run the check again then";
        on.failure("era", format!("initialize: {said}"), Advice::new("no client can begin", remedy));
    } else if let Some(discovery) = discovery(http).await {
        return Some(modern_session(on, discovery, &format!("initialize: {said}")));
    } else if is_legacy_server(http).await {
        let remedy = "set --upstream to the Streamable HTTP endpoint of the upgraded server (often /mcp)";
        let meaning = "there is nothing to translate: legacy clients can use this server as it is";
        on.failure("era", "the URL is itself an HTTP+SSE endpoint", Advice::new(meaning, remedy));
    } else {
        let remedy = "check the path of --upstream: it must be the MCP endpoint (often /mcp), with or without a \
                      slash at the end, and take POST";
        let media = reply.media_type();
        let seen = format!("initialize: {said}{}", if media.is_empty() { media } else { format!(" ({media})") });
        on.failure("era", seen, Advice::new("this is no MCP server of a version that the proxy knows", remedy));
    }
    None
}

/// `initialize` worked, and the request after it did not.
async fn refused_after(on: &mut On<'_, '_>, http: &Http, reply: &Reply) -> Option<Session> {
    let seen = format!("initialize works, the ping after it does not: {}", reply.said());
    let modern = reply.error_code().is_some_and(|code| MODERN_REFUSALS.contains(&code));
    if modern && let Some(discovery) = discovery(http).await {
        return Some(modern_session(on, discovery, &seen));
    }
    let meaning = "no client gets beyond its handshake";
    let remedy = "whoever runs the server: with several replicas, their sessions must be shared or requests with one \
                  Mcp-Session-Id go to one replica; else its log should show why";
    on.failure("era", seen, Advice::new(meaning, remedy));
    None
}

/// A request as the modern era has it (UPSTREAMS C), with the headers that repeat it.
pub(super) fn modern_request(method: &'static str, mut params: Value) -> (HeaderMap, Value) {
    let headers = [
        (mcp::PROTOCOL_VERSION, HeaderValue::from_static(MODERN_VERSION)),
        (mcp::METHOD, HeaderValue::from_static(method)),
    ];
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "sse-sunset-check", "version": env!("CARGO_PKG_VERSION")},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    if let Value::Object(params) = &mut params {
        params.insert("_meta".to_owned(), meta);
    }
    (HeaderMap::from_iter(headers), request(method, params))
}

/// What the server says of itself, if it speaks the modern era.
async fn discovery(http: &Http) -> Option<Reply> {
    let (headers, body) = modern_request("server/discover", json!({}));
    let reply = http.post(&headers, &body).await.ok()?;
    let speaks_it = {
        let versions = reply.result()?;
        versions.get("supportedVersions")?.as_array()?.iter().any(|version| version == MODERN_VERSION)
    };
    speaks_it.then_some(reply)
}

/// Whether a GET yields an `endpoint` event.
async fn is_legacy_server(http: &Http) -> bool {
    let Ok(head) = http.head(Method::GET, &HeaderMap::new(), &Value::Null).await else { return false };
    head.status == StatusCode::OK
        && media_type(&head.headers) == "text/event-stream"
        && Head::first_event(head, http.patience).await.as_deref() == Some("endpoint")
}
