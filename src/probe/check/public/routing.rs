//! Whether POSTs reach the session that the stream belongs to, whichever connection they come on, and whether answers
//! come at once.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::finding::{Advice, On};
use super::super::text::{milliseconds, quote};
use super::{Way, target};
use crate::probe::{AskFault, Endpoint, Fault, Posted, SseClient, SseStream};

/// POSTs on connections of their own: with two replicas, chances are 1 in 16 that all reach the right one by luck.
const CONNECTIONS: usize = 4;
/// Pings that are timed.
const PINGS: usize = 3;
/// What an answer may take longer than without the way, before something is said.
const LATE: Duration = Duration::from_secs(1);

/// A handshake, POSTs on several connections, pings.
pub(super) async fn look(
    on: &mut On<'_, '_>,
    way: &Way<'_>,
    stream: &mut SseStream,
    endpoint: &Endpoint,
    direct: Option<Duration>,
) {
    let patience = way.options.patience;
    let info = json!({"name": "sse-sunset-check", "version": env!("CARGO_PKG_VERSION")});
    let params = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info});
    let opening = match stream.ask(endpoint, "initialize", params, patience).await {
        Ok(answer) => answer,
        Err(fault) => {
            failed(on, way, "initialize", fault);
            on.skipped(&["routing", "buffering", "latency"], "no answer to initialize");
            return;
        }
    };
    if let Some((code, text)) = opening.message.error() {
        on.ok("routing", "POSTs reach the session of the stream");
        let meaning = "the way is good, and the server behind the proxy is not reached or refuses";
        let remedy = "check it with --upstream; the proxy's log says more";
        let seen = format!("initialize is answered with error {code}: {}", quote(&text));
        on.failure("latency", seen, Advice::new(meaning, remedy));
        on.skipped(&["buffering"], "no answer of the server");
        return;
    }
    // Whether it is taken shows with the pings.
    let _ = stream.tell(endpoint, "notifications/initialized", patience).await;
    if spread(on, way, endpoint).await {
        pings(on, way, stream, endpoint, direct).await;
    } else {
        on.skipped(&["buffering", "latency"], "POSTs do not reach the session");
    }
}

/// The same session on new connections, which a balancer may hand to any replica.
async fn spread(on: &mut On<'_, '_>, way: &Way<'_>, endpoint: &Endpoint) -> bool {
    for number in 1..=CONNECTIONS {
        let ping = json!({"jsonrpc": "2.0", "id": format!("sse-sunset-check-{number}"), "method": "ping"}).to_string();
        let fault = match SseClient::new(target(way.options, way.client.url())) {
            Ok(client) => match client.post(endpoint, ping, way.options.patience).await {
                Ok(posted) if posted.status.is_success() => continue,
                Ok(posted) => AskFault::Refused(Box::new(posted)),
                Err(fault) => AskFault::Post(fault),
            },
            Err(error) => AskFault::Post(Fault::Unreachable(error)),
        };
        failed(on, way, &format!("POST on another connection ({number} of {CONNECTIONS})"), fault);
        return false;
    }
    let all = CONNECTIONS + 1;
    on.ok("routing", format!("{all} POSTs on as many connections reached the session of the stream"));
    true
}

/// What it means that a POST or its answer failed.
fn failed(on: &mut On<'_, '_>, way: &Way<'_>, what: &str, fault: AskFault) {
    match fault {
        AskFault::Refused(posted) => refused(on, what, &posted),
        AskFault::Post(fault) => {
            let remedy = "whoever runs the balancer: let POST through to the proxy's --messages-path";
            let advice = Advice::new("clients cannot send anything", remedy);
            on.failure("routing", format!("{what}: {fault}"), advice);
        }
        AskFault::Stream(Fault::Silent(time)) => {
            if !on.is_told("routing") {
                on.ok("routing", "POSTs are accepted");
            }
            let seen =
                format!("{what}: accepted, and its answer does not come on the stream within {}", milliseconds(time));
            let meaning =
                "something on the way holds events back, or the server does not answer (check that with --upstream)";
            on.failure("buffering", seen, Advice::new(meaning, way.gateway.unbuffered()));
        }
        AskFault::Stream(fault) => {
            let remedy = "whoever runs the balancer: its log should show why the stream was closed";
            let advice = Advice::new("the stream does not live as long as one request", remedy);
            on.failure("buffering", format!("{what}: {fault}"), advice);
        }
    }
}

fn refused(on: &mut On<'_, '_>, what: &str, posted: &Posted) {
    let text = if posted.text.trim().is_empty() { String::new() } else { format!(": {}", quote(&posted.text)) };
    let seen = format!("{what}: HTTP {}{text}", posted.status.as_u16());
    let (meaning, remedy) = match posted.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let meaning = "the way is good as far as this; what comes after it asks for a credential";
            let remedy = "give one with --header 'Authorization: @FILE' to check the rest";
            return on.warning("routing", seen, Advice::new(meaning, remedy));
        }
        StatusCode::NOT_FOUND => (
            "the POST reached something that does not know the session: another replica, or a default backend",
            "whoever runs the balancer: route the proxy's --messages-path to it as well as its --sse-path; with \
             several replicas run one for now, or send all requests with one sessionId to one replica",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            "the path that clients post to does not lead to the proxy",
            "whoever runs the balancer: route POST of the proxy's --messages-path to it",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "something on the way refuses even small messages",
            "whoever runs the balancer: allow bodies as large as the proxy's --max-body (nginx: client_max_body_size \
             4m)",
        ),
        status if status.is_redirection() => (
            "clients do not follow redirects of a POST, or lose its body",
            "whoever runs the balancer: no redirect on the path that clients post to (a slash at its end, http to \
             https)",
        ),
        _ => ("clients cannot send anything", "whoever runs what answers there: its log should show why"),
    };
    on.failure("routing", seen, Advice::new(meaning, remedy));
}

/// Answers to pings, one after the other: each has to come at once.
async fn pings(
    on: &mut On<'_, '_>,
    way: &Way<'_>,
    stream: &mut SseStream,
    endpoint: &Endpoint,
    direct: Option<Duration>,
) {
    let mut times = Vec::new();
    for _ in 0..PINGS {
        match stream.ask(endpoint, "ping", Value::Null, way.options.patience).await {
            Ok(answer) => times.push(answer.took),
            Err(fault @ AskFault::Stream(_)) => {
                failed(on, way, "ping", fault);
                return on.skipped(&["latency"], "no answer to a ping");
            }
            Err(fault) => {
                let meaning = "POSTs reach the session at times only: behind the balancer stand several replicas, or \
                               it limits requests";
                let remedy = "whoever runs the balancer: its log should show this POST";
                on.failure("latency", format!("ping: {fault}"), Advice::new(meaning, remedy));
                return on.skipped(&["buffering"], "no answer to a ping");
            }
        }
    }
    times.sort_unstable();
    let (least, median) =
        (times.first().copied().unwrap_or_default(), times.get(PINGS / 2).copied().unwrap_or_default());
    let beside =
        direct.map_or_else(String::new, |direct| format!("; {} without the way through it", milliseconds(direct)));
    if least > direct.unwrap_or_default() + LATE {
        let seen = format!("answers come {} after their request at the earliest{beside}", milliseconds(least));
        let meaning = "something on the way collects events before it passes them on";
        on.warning("buffering", seen, Advice::new(meaning, way.gateway.unbuffered()));
    } else {
        on.ok("buffering", "events come one by one, as they are sent");
    }
    let seen =
        format!("ping {} at least, {} median ({PINGS} pings){beside}", milliseconds(least), milliseconds(median));
    on.ok("latency", seen);
}
