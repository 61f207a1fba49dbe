//! Status, content type and content encoding that do not fit the body; redirects.
//!
//! The trap: none of the three can be trusted (UPSTREAMS §0, 6), so every body is read, and where it holds no answer, the
//! error quotes status and text, because they are the diagnosis.

use super::stage::{Stage, Want, answer, check, refusal, row};
use crate::support::script::{Got, Script, Step, document, event, reply, send, stream};

const JSON: (&str, &str) = ("content-type", "application/json");
const PLAIN: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
const HTML: (&str, &str) = ("content-type", "text/html");
const EVENTS: (&str, &str) = ("content-type", "text/event-stream");

#[tokio::test]
async fn json_rpc_error_counts_under_any_status() {
    let under = |status: u16| move |id: &str| vec![reply(status, &[JSON], refusal(id))];
    let nameless = |status: u16| move |_: &str| vec![reply(status, &[JSON], refusal("null"))];
    check(vec![
        row("400", under(400), Want::Refusal),
        row("404", under(404), Want::Refusal),
        row("406", under(406), Want::Refusal),
        row("500", under(500), Want::Refusal),
        row("503", under(503), Want::Refusal),
        row("202", under(202), Want::Refusal),
        row("400 and id null", nameless(400), Want::Refusal),
        row("413 and id null", nameless(413), Want::Refusal),
        row("500 as an event", |id| vec![reply(500, &[EVENTS], event(&refusal(id)))], Want::Refusal),
        row("a result under 500", |id| vec![reply(500, &[JSON], answer(id))], Want::Answer),
    ])
    .await;
}

#[tokio::test]
async fn answer_counts_under_any_content_type() {
    let typed = |headers: &'static [(&str, &str)]| move |id: &str| vec![reply(200, headers, answer(id))];
    check(vec![
        row("text/plain", typed(&[PLAIN]), Want::Answer),
        row("none", typed(&[]), Want::Answer),
        row("empty", typed(&[("content-type", "")]), Want::Answer),
        row("html", typed(&[HTML]), Want::Answer),
        row("not a type", typed(&[("content-type", ";;\"")]), Want::Answer),
        row(
            "json, in capitals, with a charset",
            typed(&[("Content-Type", "Application/JSON; Charset=UTF-8")]),
            Want::Answer,
        ),
        row(
            "events, in capitals",
            |id| vec![reply(200, &[("Content-Type", "Text/Event-Stream;charset=UTF-8")], event(&answer(id)))],
            Want::Answer,
        ),
    ])
    .await;
}

/// What a person sees of it is the status and the start of the text.
#[tokio::test]
async fn text_instead_of_an_answer_is_quoted() {
    let text = |status: u16, headers: &'static [(&str, &str)], body: &'static str| {
        move |_: &str| vec![reply(status, headers, body)]
    };
    let answers = check(vec![
        row(
            "express, body too large",
            text(413, &[HTML], "<!DOCTYPE html>\n<html>\n<body><pre>PayloadTooLargeError</pre></body>\n</html>\n"),
            Want::Error("upstream_error", "HTTP 413: <!DOCTYPE html> <html> <body><pre>PayloadTooLargeError</pre>"),
        ),
        row(
            "Python, wrong host",
            text(421, &[PLAIN], "Invalid Host header"),
            Want::Error("upstream_error", "421: Invalid Host"),
        ),
        row(
            "Go, unknown method",
            text(400, &[PLAIN], "unknown method\n"),
            Want::Error("upstream_error", "400: unknown method"),
        ),
        row(
            "Java, no JSON-RPC",
            text(400, &[JSON], r#"{"code":1,"message":"m"}"#),
            Want::Error("upstream_error", "\"message\":\"m\""),
        ),
        row("empty 500", text(500, &[], ""), Want::Error("upstream_error", "HTTP 500: (no text)")),
        row(
            "a page under 200",
            text(200, &[HTML], "<h1>Login</h1>"),
            Want::Error("upstream_error", "HTTP 200: <h1>Login"),
        ),
        row(
            "control characters",
            text(502, &[PLAIN], "a\x1b[31m\u{7}b"),
            Want::Error("upstream_error", "HTTP 502: a[31mb"),
        ),
        row("long", |_| vec![reply(502, &[PLAIN], "x".repeat(100_000))], Want::Error("upstream_error", "xxx")),
    ])
    .await;
    assert_eq!(answers[0]["error"]["data"]["status"], 413);
    assert!(answers[7].to_string().len() < 1000, "a quote, not the text");
}

/// For programs that want to try again; the proxy does not (UPSTREAMS E 14).
#[tokio::test]
async fn retry_after_is_told_as_data() {
    let later = |status: u16| move |_: &str| vec![reply(status, &[PLAIN, ("retry-after", "17")], "later")];
    let answers = check(vec![
        row("429", later(429), Want::Error("upstream_error", "HTTP 429: later")),
        row("503", later(503), Want::Error("upstream_error", "HTTP 503: later")),
        row(
            "503 without a text",
            |_| vec![reply(503, &[("retry-after", "17")], "")],
            Want::Error("upstream_error", "HTTP 503"),
        ),
    ])
    .await;
    for answer in answers {
        assert_eq!(answer["error"]["data"]["retry_after"], "17", "{answer}");
    }
}

/// Without a GET stream on which an answer might still come (see `listening` for that).
#[tokio::test]
async fn success_without_a_body_is_one_error() {
    let empty = |status: u16, headers: &'static [(&str, &str)]| move |_: &str| vec![reply(status, headers, "")];
    let none = Want::Error("upstream_no_answer", "may have run");
    let answers = check(vec![
        row("202", empty(202, &[]), none),
        row("204", empty(204, &[]), none),
        row("200", empty(200, &[]), none),
        row("200 as JSON", empty(200, &[JSON]), none),
        // Go, `CloseSSEStream` under 2024-11-05 (UPSTREAMS A.2).
        row("200 as events", empty(200, &[EVENTS]), none),
        row("white space", |_| vec![document("\r\n \n")], none),
    ])
    .await;
    assert_eq!(
        (&answers[0]["error"]["data"]["status"], &answers[1]["error"]["data"]["status"]),
        (&202.into(), &204.into())
    );
}

/// 200 KB can become 200 MB; nothing is decompressed (SECURITY §5).
#[tokio::test]
async fn compressed_answer_is_refused_by_name() {
    let coded =
        |coding: &'static str| move |id: &str| vec![reply(200, &[JSON, ("content-encoding", coding)], answer(id))];
    let refused = |coding| Want::Error("upstream_encoding", coding);
    check(vec![
        row("gzip", coded("gzip"), refused("(gzip)")),
        row("br", coded("br"), refused("(br)")),
        row(
            "gzip of a stream",
            |_| vec![reply(200, &[EVENTS, ("content-encoding", "gzip")], b"\x1f\x8b\x08")],
            refused("(gzip)"),
        ),
        row("identity", coded("Identity"), Want::Answer),
    ])
    .await;
}

/// 100 and 103 come before the answer and are none (RFC 9110 §15.2).
#[tokio::test]
async fn interim_responses_are_no_answers() {
    check(vec![
        row("100", |id| vec![send("HTTP/1.1 100 Continue\r\n\r\n"), document(answer(id))], Want::Answer),
        row(
            "103",
            |id| vec![send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"), document(answer(id))],
            Want::Answer,
        ),
        row(
            "no HTTP at all",
            |_| vec![send("nonsense\r\n\r\n"), Step::Close],
            Want::Error("upstream_connection_lost", "may have run"),
        ),
        row(
            "HTTP/1.0 to the end of the connection",
            |id| {
                vec![
                    send(format!("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}", answer(id))),
                    Step::Close,
                ]
            },
            Want::Answer,
        ),
    ])
    .await;
}

/// Names scheme and host only: a path or query may hold secrets. 301 would make a GET of the POST.
#[tokio::test]
async fn redirect_that_changes_the_method_is_refused_by_name() {
    let to =
        |status: u16| move |_: &str| vec![reply(status, &[("location", "https://other.example/x?key=secret")], "")];
    let refused = Want::Error("upstream_redirect", "redirects to https://other.example; set --upstream");
    let answers =
        check(vec![row("301", to(301), refused), row("302", to(302), refused), row("303", to(303), refused)]).await;
    for answer in answers {
        assert!(!answer.to_string().contains("secret"), "{answer}");
    }
}

#[tokio::test]
async fn redirect_to_nowhere_is_one_error() {
    check(vec![
        row(
            "307 to the same place",
            |_| vec![moved("/mcp")],
            Want::Error("upstream_redirect", "redirects to http://127.0.0.1"),
        ),
        row("307 without a place", |_| vec![reply(307, &[], "")], Want::Error("upstream_error", "HTTP 307")),
        row("307 to no URL", |_| vec![moved("http://[")], Want::Error("upstream_error", "HTTP 307")),
        row("304", |_| vec![reply(304, &[], "")], Want::Error("upstream_error", "HTTP 304")),
    ])
    .await;
}

fn moved(location: &str) -> Step {
    reply(307, &[("location", location)], "moved")
}

/// Starlette redirects `/mcp` to `/mcp/`, behind TLS termination with the wrong scheme (UPSTREAMS A.2): only the path of
/// `Location` is used, the credential never leaves the configured origin. The way is remembered.
#[tokio::test]
async fn redirect_307_is_followed_once_on_the_configured_origin() {
    for (status, location) in
        [(307, "https://other.example:1/mcp/?theirs=1"), (308, "//other.example/mcp/"), (307, "mcp/")]
    {
        let mut stage = Stage::closed(move |got| {
            (got.target == "/mcp?code=c").then(|| vec![reply(status, &[("location", location)], "")])
        })
        .await;
        stage.client.initialize().await;
        stage.still_works().await;
        let upstream = stage.end().await;
        let targets: Vec<(String, String)> =
            upstream.got().iter().map(|got: &Got| (got.rpc().to_owned(), got.target.clone())).collect();
        assert_eq!(targets.iter().filter(|(_, target)| target == "/mcp?code=c").count(), 1, "remembered: {targets:?}");
        assert!(targets[1..].iter().all(|(_, target)| target == "/mcp/?code=c"), "{targets:?}");
        assert_eq!(targets[1].0, "initialize");
    }
}

/// A page about maintenance must not become the upstream, and a way that was good may end.
#[tokio::test]
async fn redirect_is_remembered_only_as_long_as_it_leads_somewhere() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let mut stage = Stage::open(move |got| {
        let number = got.calls("rude").then(|| turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed))?;
        match (number, got.target.as_str()) {
            (0, _) => Some(vec![moved("/maintenance")]),
            (_, "/maintenance?code=c") => Some(vec![reply(503, &[], "back soon")]),
            (2, _) => Some(vec![moved("/other")]),
            (4, "/other?code=c") => Some(vec![reply(404, &[], "gone")]),
            _ => None,
        }
    })
    .await;
    assert!(stage.ask().await["error"]["message"].as_str().expect("a text").contains("back soon"));
    // The configured way, then another that is good, then not any more.
    assert!(stage.ask().await["result"].is_object());
    // A 404 is the loss of the session too: it is opened again, and the call sent again.
    assert!(stage.ask().await["result"].is_object());
    assert!(stage.ask().await["result"].is_object());
    let upstream = stage.end().await;
    let targets: Vec<String> =
        upstream.got().into_iter().filter(|got| got.calls("rude")).map(|got| got.target).collect();
    assert_eq!(
        targets,
        [
            "/mcp?code=c",
            "/maintenance?code=c",
            "/mcp?code=c",
            "/other?code=c",
            "/other?code=c",
            "/mcp?code=c",
            "/mcp?code=c"
        ]
    );
}

/// Two hops, or a way that leads in circles.
#[tokio::test]
async fn redirect_307_loop_is_one_error() {
    let mut stage = Stage::open(|got| {
        let there = if got.target == "/mcp?code=c" { "/other" } else { "/mcp" };
        got.calls("rude").then(|| vec![moved(there)])
    })
    .await;
    let answer = stage.ask().await;
    assert_eq!(answer["error"]["data"]["reason"], "upstream_redirect");
    stage.still_works().await;
    let upstream = stage.end().await;
    assert_eq!(upstream.count(|got| got.calls("rude")), 2, "followed once");
    let elsewhere = upstream.got().into_iter().filter(|got| got.target != "/mcp?code=c").count();
    assert_eq!(elsewhere, 1, "a way that led nowhere is not remembered");
}

/// What makes the request what it is goes the second way too.
#[tokio::test]
async fn redirect_keeps_body_headers_and_session() {
    let mut stage = Stage::open(|got| -> Option<Script> {
        match (got.calls("rude"), got.target.as_str()) {
            (true, "/mcp?code=c") => Some(vec![moved("/elsewhere")]),
            (true, _) => Some(stream(event(&answer(&got.id())))),
            _ => None,
        }
    })
    .await;
    assert!(stage.ask().await["result"].is_object());
    let upstream = stage.end().await;
    let calls: Vec<Got> = upstream.got().into_iter().filter(|got| got.calls("rude")).collect();
    assert_eq!((calls[0].target.as_str(), calls[1].target.as_str()), ("/mcp?code=c", "/elsewhere?code=c"));
    assert_eq!(calls[0].body, calls[1].body);
    for name in ["mcp-session-id", "mcp-protocol-version", "accept", "content-type", "host", "content-length"] {
        assert_eq!(calls[0].header(name), calls[1].header(name), "{name}");
        assert!(calls[0].header(name).is_some(), "{name}");
    }
}
