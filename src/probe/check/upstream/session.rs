//! A session from its opening to its end: what the server gives to it, and what it says of one that it does not know.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::finding::{Advice, On};
use super::super::http::{Head, Http, NoAnswer, Reply, media_type};
use super::super::text::milliseconds;
use super::door::Entry;
use super::names;
use super::version::{self, Session};

/// What is looked at here.
pub(super) const NAMES: &[&str] = &[
    "era",
    "version",
    "host",
    "origin",
    "session-id",
    "media-type",
    "compression",
    "notifications",
    "latency",
    "legacy-version",
    "stale-session",
    "get-stream",
    "delete",
];
/// Pings that are timed.
const PINGS: usize = 5;
/// A median above this is felt at every call.
const SLOW: Duration = Duration::from_secs(1);

/// Opens a session, looks at everything, and deletes it. Gives the median time of a ping.
pub(super) async fn look(on: &mut On<'_, '_>, entry: Entry) -> Option<Duration> {
    let Entry { http, stale, is_renamed } = entry;
    let Some((http, session, is_renamed)) = version::open(on, http, is_renamed).await else {
        on.skipped(NAMES, "no session to look at");
        return None;
    };
    names::look(on, &http, &session, is_renamed).await;
    if session.is_modern {
        return modern(on, &http, &session).await;
    }
    session_id(on, session.has_id);
    media(on, &session);
    on.ok("compression", "none, as asked");
    notifications(on, &session.initialized);
    let median = latency(on, &http, &session).await;
    legacy_version(on, &http).await;
    stale_session(on, session.has_id, &stale);
    let stream = get_stream(on, &http, &session).await;
    delete(on, &http, &session).await;
    // Not before: some servers take a stream that breaks for the end of the session (UPSTREAMS 0.8).
    drop(stream);
    median
}

/// What there is to see where nothing is held between requests.
async fn modern(on: &mut On<'_, '_>, http: &Http, session: &Session) -> Option<Duration> {
    on.ok("session-id", "none in this era, and none needed");
    media(on, session);
    on.ok("compression", "none, as asked");
    let median = latency(on, http, session).await;
    subscriptions(on, http, session).await;
    on.skipped(&["notifications", "legacy-version", "stale-session", "delete"], "no such thing in this era");
    median
}

/// Whether changes can be heard of that the server says it announces.
async fn subscriptions(on: &mut On<'_, '_>, http: &Http, session: &Session) {
    let result = session.opening.result().unwrap_or_default();
    let says = |list: &str, what: &str| {
        let offered = || result.get("capabilities")?.get(list)?.get(what)?.as_bool();
        offered() == Some(true)
    };
    let changes =
        [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")];
    let announced: Vec<&str> =
        changes.into_iter().filter(|(list, _)| says(list, "listChanged")).map(|(_, filter)| filter).collect();
    if announced.is_empty() && !says("resources", "subscribe") {
        return on.ok("get-stream", "the server announces no changes, so nothing is sent but answers");
    }
    let Some(first) = announced.first() else {
        return on.ok("get-stream", "resources can be subscribed to");
    };
    let (headers, body) = version::modern_request("subscriptions/listen", json!({"notifications": {*first: true}}));
    let head = http.head(Method::POST, &headers, &body).await;
    match head {
        Ok(head) if head.status == StatusCode::OK && media_type(&head.headers) == "text/event-stream" => {
            on.ok("get-stream", "subscriptions/listen: changes that the server announces reach clients");
        }
        Ok(Head { status, .. }) => {
            let meaning = "clients are told that lists announce their changes, and hear of none";
            let remedy = "whoever runs the server: let it serve subscriptions/listen, or announce no changes";
            let seen = format!("announces changes, and answers subscriptions/listen with HTTP {}", status.as_u16());
            on.warning("get-stream", seen, Advice::new(meaning, remedy));
        }
        Err(error) => {
            let remedy = "whoever runs the gateway before the server: no response buffering";
            let advice = Advice::new("changes that the server announces do not reach clients", remedy);
            on.warning("get-stream", format!("subscriptions/listen: {error}"), advice);
        }
    }
}

fn session_id(on: &mut On<'_, '_>, has_id: bool) {
    if has_id {
        on.ok("session-id", "gives sessions an id");
        return;
    }
    let meaning = "the server is stateless: what it would send on its own (sampling, elicitation, roots, list_changed, \
                   subscriptions) cannot reach legacy clients";
    let remedy = "whoever runs the server: switch sessions on if your clients need any of that (Python: \
                  stateless_http=False; TypeScript: sessionIdGenerator; Go, C#: Stateless off); else nothing";
    on.warning("session-id", "gives no Mcp-Session-Id", Advice::new(meaning, remedy));
}

fn media(on: &mut On<'_, '_>, session: &Session) {
    let (first, second) = (session.opening.media_type(), session.ping.media_type());
    let seen = if first == second { first.clone() } else { format!("{first} for initialize, {second} for ping") };
    let known = |media: &str| matches!(media, "application/json" | "text/event-stream");
    if !known(&first) || !known(&second) {
        let meaning = "the proxy reads the answers whatever they call themselves; others do not";
        let remedy =
            "whoever runs the server, or the gateway before it: answer as application/json or text/event-stream";
        on.warning("media-type", format!("answers as {seen:?}"), Advice::new(meaning, remedy));
    } else if first == "application/json" && second == first {
        on.ok("media-type", "answers as JSON; a call that is answered so reports no progress");
    } else {
        on.ok("media-type", format!("answers as {seen}"));
    }
}

fn notifications(on: &mut On<'_, '_>, initialized: &Result<StatusCode, NoAnswer>) {
    let remedy = "whoever runs the server: answer notifications with 202 and no body (MCP 2025-11-25, transports \
                  §Sending Messages to the Server)";
    match initialized {
        Ok(StatusCode::ACCEPTED) => on.ok("notifications", "initialized accepted with 202"),
        Ok(status) if status.is_success() => {
            let meaning = "the proxy takes any success for it; other clients may wait for an answer";
            let seen = format!("initialized answered with {}, not 202", status.as_u16());
            on.warning("notifications", seen, Advice::new(meaning, remedy));
        }
        Ok(status) => {
            let meaning = "sessions work only where the server does not insist on the notification that it refuses";
            let seen = format!("initialized refused with {}", status.as_u16());
            on.failure("notifications", seen, Advice::new(meaning, remedy));
        }
        Err(error) => {
            let advice = Advice::new("everything after it waits", remedy);
            on.failure("notifications", format!("initialized: {error}"), advice);
        }
    }
}

async fn latency(on: &mut On<'_, '_>, http: &Http, session: &Session) -> Option<Duration> {
    let mut times = Vec::new();
    for _ in 0..PINGS {
        match http.post(&session.headers, &session.ping_request).await {
            Ok(reply) if reply.response.is_some() => times.push(reply.took),
            Ok(reply) => {
                flaky(on, &times, &reply.said());
                return None;
            }
            Err(error) => {
                flaky(on, &times, &error.to_string());
                return None;
            }
        }
    }
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    let (least, median, most) = (at(0), at(PINGS / 2), at(PINGS - 1));
    let seen = format!(
        "ping {} at least, {} median, {} at most ({PINGS} pings)",
        milliseconds(least),
        milliseconds(median),
        milliseconds(most)
    );
    if median < SLOW {
        on.ok("latency", seen);
    } else {
        let remedy = "whoever runs the server: look at its load and at the way to it; the proxy should stand near it";
        on.warning("latency", seen, Advice::new("every call takes that long at least", remedy));
    }
    Some(median)
}

fn flaky(on: &mut On<'_, '_>, times: &[Duration], said: &str) {
    let meaning = "the session works at times only: most likely it lives on one of several replicas";
    let remedy = "whoever runs the balancer before the server: requests with one Mcp-Session-Id must go to one \
                  replica, or the replicas share their sessions";
    let seen = format!("ping {} of {PINGS}: {said}", times.len() + 1);
    on.failure("latency", seen, Advice::new(meaning, remedy));
}

/// Most legacy clients ask for the first version there was, and close when they do not know the answer.
async fn legacy_version(on: &mut On<'_, '_>, http: &Http) {
    let asked = version::LEGACY;
    let remedy = "whoever runs the server: let it negotiate (no pinned version); the official SDKs all answer \
                  2024-11-05 to clients that ask for it";
    let reply = match version::initialize(http, asked).await {
        Ok(reply) => reply,
        Err(error) => {
            let advice = Advice::new("most legacy clients ask for this version", remedy);
            return on.failure("legacy-version", format!("initialize with {asked}: {error}"), advice);
        }
    };
    let Some(answered) = version::negotiated(&reply) else {
        let seen = format!("turns clients away that ask for {asked}: {}", reply.said());
        let advice = Advice::new("most legacy clients ask for this version", remedy);
        return on.failure("legacy-version", seen, advice);
    };
    version::end(http, &reply).await;
    if answered == asked {
        on.ok("legacy-version", format!("answers {asked} to clients that ask for it"));
    } else {
        let seen = format!("answers {answered} to clients that ask for {asked}");
        let advice = Advice::new("legacy clients that do not know that version close", remedy);
        on.warning("legacy-version", seen, advice);
    }
}

/// How a session that the server has lost will look (WIRE, Toward the upstream 7).
fn stale_session(on: &mut On<'_, '_>, has_id: bool, stale: &Reply) {
    let said = stale.said();
    let names_session = {
        let text = stale.text.to_ascii_lowercase();
        text.contains("session") || text.contains("not initialized")
    };
    let remedy = "whoever runs the server: answer 404 to a session id that it does not know (MCP 2025-11-25, \
                  transports §Session Management)";
    match stale.status.as_u16() {
        _ if !has_id => on.ok("stale-session", format!("no sessions that could be lost ({said})")),
        404 => on.ok("stale-session", format!("an unknown session is answered with {said}")),
        200..=299 if stale.error_code().is_none() => {
            let meaning = "the server takes any session id: after a restart the proxy cannot see that a session is \
                           lost, which harms nobody as long as the server answers";
            on.warning("stale-session", format!("an unknown session is served ({said})"), Advice::new(meaning, remedy));
        }
        200..=299 | 400 | 401 if names_session => {
            let meaning =
                "that is a lost session in disguise; the proxy knows it, asks again to be sure, and opens another";
            let seen = format!("an unknown session is answered with {said}, not 404");
            on.warning("stale-session", seen, Advice::new(meaning, remedy));
        }
        _ => {
            let meaning = "the proxy cannot tell that from any other error: when the server restarts, running \
                           sessions of legacy clients get errors until their clients connect again";
            let seen = format!("an unknown session is answered with {said}, which does not speak of sessions");
            on.failure("stale-session", seen, Advice::new(meaning, remedy));
        }
    }
}

/// The stream for what the server sends on its own; it is handed back open.
async fn get_stream(on: &mut On<'_, '_>, http: &Http, session: &Session) -> Option<Head> {
    let head = match http.head(Method::GET, &session.headers, &Value::Null).await {
        Ok(head) => head,
        Err(NoAnswer::Silent(time)) => {
            let meaning = "a Java server sends it with the first event only, which is fine; anything else that holds \
                           it back holds back events too";
            let remedy =
                "if this is no Java server: whoever runs the gateway before it switches response buffering off for it";
            let seen = format!("no head within {}", milliseconds(time));
            on.warning("get-stream", seen, Advice::new(meaning, remedy));
            return None;
        }
        Err(error) => {
            let remedy = "whoever runs the server: answer GET with a stream or with 405";
            let advice = Advice::new("nothing that the server sends on its own reaches clients", remedy);
            on.warning("get-stream", error.to_string(), advice);
            return None;
        }
    };
    let (status, media) = (head.status.as_u16(), media_type(&head.headers));
    match status {
        200 if media == "text/event-stream" => {
            let end = if session.has_id { "" } else { " (a stateless server has nothing to send)" };
            on.ok("get-stream", format!("there is one, for what the server sends on its own{end}"));
            return Some(head);
        }
        405 => on.ok("get-stream", "405: there is none, and nothing is sent but answers"),
        400 | 404 | 501 if !session.has_id => {
            on.ok("get-stream", format!("{status}: there is none, and nothing is sent but answers"));
        }
        _ => {
            let meaning =
                "the proxy takes it that there is no stream: what the server sends on its own does not reach clients";
            let remedy = "whoever runs the server, or the gateway before it: let GET through to the MCP endpoint; a \
                          server without a stream answers 405";
            on.warning("get-stream", format!("HTTP {status} {media}").trim_end(), Advice::new(meaning, remedy));
        }
    }
    None
}

async fn delete(on: &mut On<'_, '_>, http: &Http, session: &Session) {
    if !session.has_id {
        on.skipped(&["delete"], "no session id");
        return;
    }
    let seen = match http.head(Method::DELETE, &session.headers, &Value::Null).await {
        Ok(Head { status, .. }) if matches!(status.as_u16(), 200 | 202 | 204) => {
            return on.ok("delete", format!("{}: sessions end when their clients leave", status.as_u16()));
        }
        Ok(Head { status: StatusCode::METHOD_NOT_ALLOWED, .. }) => {
            return on.ok("delete", "405: the server ends sessions by itself");
        }
        Ok(head) => format!("HTTP {}", head.status.as_u16()),
        Err(error) => error.to_string(),
    };
    let meaning = "the proxy cannot end sessions: each stays on the server until it expires there, if it does";
    let remedy = "whoever runs the server, or the gateway before it: let DELETE through to the MCP endpoint";
    on.warning("delete", seen, Advice::new(meaning, remedy));
}
