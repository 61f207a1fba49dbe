//! A server that answers in each of the ways there are, by the method; and that gets nothing but what a server may get.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sse_sunset::mcp::{self, MessageKind, RequestId};
use sse_sunset::upstream::{Answer, Exchange, Fault, Sending, Transport};

#[derive(Debug)]
pub(super) struct Upstream;

impl Transport for Upstream {
    fn send(&self, exchange: Exchange) -> Sending {
        let headers = &exchange.headers;
        for never in ["cookie", "origin", "host", "connection", "transfer-encoding", "content-length", "expect"] {
            assert!(!headers.contains_key(never), "{never} reached the server");
        }
        match exchange.method {
            Method::GET => ready(answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "no")),
            Method::DELETE => ready(answer(StatusCode::OK, "text/plain", "")),
            _ => posted(&exchange.body),
        }
    }
}

fn posted(body: &Bytes) -> BoxFuture<'static, Result<Answer, Fault>> {
    let messages = mcp::parse(body).expect("only whole messages go up");
    let [message] = messages.as_slice() else { panic!("a batch went up") };
    let MessageKind::Request { id, method } = message.kind() else {
        return ready(answer(StatusCode::ACCEPTED, "text/plain", ""));
    };
    let json = "application/json";
    let events = "text/event-stream";
    match method.as_ref() {
        "initialize" => {
            let mut greeting = answer(StatusCode::OK, json, result(id, r#"{"protocolVersion":"2025-06-18"}"#));
            greeting.headers.insert(mcp::SESSION_ID, HeaderValue::from_static("upstream"));
            ready(greeting)
        }
        "tools/list" => {
            let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}"#;
            let question = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
            let text = format!("data: {log}\n\ndata: {question}\r\rdata: {}\n\n", result(id, "{}"));
            ready(answer(StatusCode::OK, events, text))
        }
        "resources/list" => ready(answer(StatusCode::OK, events, "data: half")),
        "resources/read" => ready(answer(StatusCode::UNAUTHORIZED, json, "{}")),
        "prompts/list" => ready(answer(StatusCode::BAD_GATEWAY, "text/html", "<html>")),
        "prompts/get" => Box::pin(std::future::pending()),
        // What it got, in full: it may be more than the client takes at once.
        _ => ready(answer(StatusCode::OK, json, result(id, &format!("{{\"got\":{}}}", String::from_utf8_lossy(body))))),
    }
}

fn result(id: &RequestId, result: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}", id.as_json())
}

fn answer(status: StatusCode, media: &'static str, text: impl Into<Bytes>) -> Answer {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media))]);
    Answer { status, headers, body: stream::iter([Ok(text.into())]).boxed().into() }
}

fn ready(answer: Answer) -> Sending {
    Box::pin(std::future::ready(Ok(answer)))
}
