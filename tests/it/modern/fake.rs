//! The fake itself: a server that lets everything pass would prove nothing.

use serde_json::{Value, json};

use crate::support::modern::{Ending, Era, Goodbye, INVALID, Legacy, Listening, Manner, Modern, RESOURCE};
use crate::support::{http_client, within};

/// A request as it should be.
struct Proper {
    headers: Vec<(&'static str, String)>,
    body: Value,
}

impl Proper {
    fn new(method: &str, mut params: Value) -> Self {
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {}});
        let mut headers = vec![
            ("accept", "application/json, text/event-stream".to_owned()),
            ("accept-encoding", "identity".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("mcp-protocol-version", "2026-07-28".to_owned()),
            ("mcp-method", method.to_owned()),
        ];
        let name = params.get("name").or(params.get("uri")).and_then(Value::as_str);
        headers.extend(name.map(|name| ("mcp-name", name.to_owned())));
        Proper { headers, body: json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) }
    }

    fn call(tool: &str, arguments: &Value) -> Self {
        Self::new("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    /// Without a field of `_meta`.
    fn lacking(mut self, name: &str) -> Self {
        let meta = self.body["params"]["_meta"].as_object_mut().expect("an object");
        meta.remove(&format!("io.modelcontextprotocol/{name}")).expect("a field");
        self
    }

    /// Sends it, and gives the head of the answer.
    async fn open(self, server: &Modern) -> reqwest::Response {
        let mut request = http_client().post(server.url()).body(self.body.to_string());
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        within("an answer", request.send()).await.expect("an answer")
    }

    /// Sends it; the status, and the last message of the answer.
    async fn send(self, server: &Modern) -> (u16, Value) {
        let answer = self.open(server).await;
        let status = answer.status().as_u16();
        let text = within("its body", answer.text()).await.expect("a text");
        let last = text.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
        (status, serde_json::from_str(last.trim_start_matches("data: ")).unwrap_or_default())
    }
}

#[tokio::test]
async fn proper_requests_are_served_and_what_they_are_told_fits_the_schema() {
    for sse in [true, false] {
        let server = Modern::start(Manner { sse, ..Manner::default() }).await;
        let plain = ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"];
        for method in plain {
            let (status, message) = Proper::new(method, json!({})).send(&server).await;
            assert_eq!((status, &message["result"]["resultType"]), (200, &json!("complete")), "{method}: {message}");
        }
        for (method, params) in [
            ("resources/read", json!({"uri": "file:///r1.txt"})),
            ("prompts/get", json!({"name": "greet"})),
            ("tools/call", json!({"name": "echo", "arguments": {"text": "x"}})),
            ("tools/call", json!({"name": "elicit"})),
        ] {
            let (status, message) = Proper::new(method, params).send(&server).await;
            assert!(status == 200 && message["result"].is_object(), "{method}: {message}");
        }
        let name = Proper::call("écho", &json!({"text": "x"})).with("mcp-name", "=?base64?w6ljaG8=?=");
        assert_eq!(name.send(&server).await.1["result"]["content"][0]["text"], "x");
    }
}

#[tokio::test]
async fn every_tool_says_what_fits_the_schema() {
    let server = Modern::start(Manner::default()).await;
    server.tell();
    let tools = Proper::new("tools/list", json!({})).send(&server).await.1;
    // Those that break off or hold on say nothing; two lie on purpose, past the check.
    let others = ["wait-forever", "quit"];
    for name in tools["result"]["tools"].as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()) {
        if others.contains(&name) || INVALID.contains(&name) || !name.is_ascii() {
            continue;
        }
        let mut call = Proper::call(name, &json!({"json": "1"}));
        call.body["params"]["_meta"]["progressToken"] = json!(1);
        call.body["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = json!("debug");
        let (status, message) = call.send(&server).await;
        assert!(status == 200 && message["id"] == 1, "{name}: {message}");
    }
}

/// Opens a subscription and reads what comes first.
async fn listen(server: &Modern, notifications: Value) -> (reqwest::Response, Value) {
    let request = Proper::new("subscriptions/listen", json!({"notifications": notifications}));
    let mut answer = request.open(server).await;
    let first = next(&mut answer).await;
    (answer, first)
}

/// The next event of a stream that comes in one piece.
async fn next(answer: &mut reqwest::Response) -> Value {
    let chunk = within("an event", answer.chunk()).await.expect("an open stream").expect("an event");
    let text = String::from_utf8(chunk.to_vec()).expect("utf-8");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str(data).expect("JSON")
}

#[tokio::test]
async fn subscriptions_are_acknowledged_served_and_ended() {
    let server = Modern::start(Manner::default()).await;
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": [RESOURCE]});
    let (mut stream, first) = listen(&server, filter.clone()).await;
    assert_eq!(
        (&first["method"], &first["params"]["notifications"]),
        (&json!("notifications/subscriptions/acknowledged"), &filter)
    );
    server.wait_listening(&filter).await;
    assert_eq!((server.list_changed("prompts").await, server.updated("file:///other").await), (0, 0));
    assert_eq!((server.list_changed("tools").await, server.updated(RESOURCE).await), (1, 1));
    assert_eq!(next(&mut stream).await["method"], "notifications/tools/list_changed");
    assert_eq!(next(&mut stream).await["params"]["uri"], RESOURCE);
    server.end_listening(Goodbye::Result).await;
    assert_eq!(next(&mut stream).await["result"]["resultType"], "complete");
    assert!(within("the end", stream.chunk()).await.expect("an orderly end").is_none());

    let (stream, _) = listen(&server, filter.clone()).await;
    let seen = server.seen().pop().expect("a request");
    drop(stream);
    assert_eq!(server.ending(&seen).await, Ending::Abandoned);
    server.wait_listeners(0).await;
    assert_eq!(server.most_listeners(), 1);
}

#[tokio::test]
async fn subscriptions_are_granted_as_the_manner_says() {
    let filter = json!({"toolsListChanged": true, "promptsListChanged": true});
    let server = Modern::start(Manner::default()).await;
    server.change(|manner| manner.listening = Listening::Only(json!({"toolsListChanged": true})));
    let (_, first) = listen(&server, filter.clone()).await;
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}));
    server.change(|manner| manner.listening = Listening::Nothing);
    let (mut stream, first) = listen(&server, filter.clone()).await;
    assert_eq!(first["params"]["notifications"], json!({}));
    assert_eq!(next(&mut stream).await["result"]["resultType"], "complete");
    for (listening, status, code) in [(Listening::Limit(0), 200, -32603), (Listening::Unsupported, 404, -32601)] {
        server.change(|manner| manner.listening = listening);
        let request = Proper::new("subscriptions/listen", json!({"notifications": filter}));
        let (got, message) = request.send(&server).await;
        assert_eq!((got, &message["error"]["code"]), (status, &json!(code)));
    }
    let nothing = Proper::new("subscriptions/listen", json!({"notifications": {}}));
    nothing.send(&server).await;
    server.expect_refusals(&[0]);
}

#[tokio::test]
async fn what_the_specification_forbids_is_refused_and_noted() {
    let server = Modern::start(Manner::default()).await;
    let echo = || Proper::call("echo", &json!({"text": "x"}));
    let region = || Proper::call("region", &json!({"region": "é", "page": {"limit": 3}, "dry": null}));
    let cases = [
        ("no Mcp-Method", echo().without("mcp-method"), 400, -32020),
        ("another Mcp-Method", echo().with("mcp-method", "tools/list"), 400, -32020),
        ("no Mcp-Name", echo().without("mcp-name"), 400, -32020),
        ("another Mcp-Name", echo().with("mcp-name", "=?base64?ZWNobzI=?="), 400, -32020),
        ("the name not encoded", Proper::call("écho", &json!({})), 400, -32020),
        ("no version header", echo().without("mcp-protocol-version"), 400, -32020),
        ("another version header", echo().with("mcp-protocol-version", "2025-11-25"), 400, -32020),
        ("no version in the envelope", echo().lacking("protocolVersion"), 400, -32602),
        ("no capabilities", echo().lacking("clientCapabilities"), 400, -32602),
        ("nobody", echo().lacking("clientInfo"), 400, -32602),
        ("no Mcp-Param-Region", region().with("mcp-param-limit", "3"), 400, -32020),
        ("another Mcp-Param-Limit", region().with("mcp-param-limit", "4"), 400, -32020),
        ("a header for what was not said", echo().with("mcp-param-region", "x"), 400, -32020),
        ("a wildcard", echo().with("accept", "*/*"), 406, -32000),
        ("a text", echo().with("content-type", "text/plain"), 415, -32000),
        ("ping", Proper::new("ping", json!({})), 404, -32601),
        ("initialize", Proper::new("initialize", json!({})), 404, -32601),
        ("setLevel", Proper::new("logging/setLevel", json!({"level": "info"})), 404, -32601),
        ("subscribe", Proper::new("resources/subscribe", json!({"uri": "x:y"})), 404, -32601),
        ("arguments that are a text", Proper::call("echo", &json!("x")), 400, -32602),
        ("a cursor that is a number", Proper::new("tools/list", json!({"cursor": 1})), 400, -32602),
    ];
    for (what, request, status, code) in cases {
        let (got, message) = request.send(&server).await;
        assert_eq!((got, &message["error"]["code"]), (status, &json!(code)), "{what}: {message}");
        server.expect_refusals(&[code]);
    }
    let mut newer = echo().with("mcp-protocol-version", "2027-01-01");
    newer.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2027-01-01");
    let (status, message) = newer.send(&server).await;
    assert_eq!((status, &message["error"]["data"]["supported"]), (400, &json!(["2026-07-28"])));
    server.expect_refusals(&[-32022]);
}

#[tokio::test]
async fn messages_that_are_no_requests_and_leftovers_of_sessions_are_noted() {
    let server = Modern::start(Manner::default()).await;
    let mut answer = Proper::new("tools/list", json!({}));
    answer.body = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    assert_eq!(answer.send(&server).await.1["error"]["code"], -32600);
    server.expect_refusals(&[-32600]);
    let mut batch = Proper::new("tools/list", json!({}));
    batch.body = json!([batch.body]);
    assert_eq!(batch.send(&server).await.1["error"]["code"], -32600);
    server.expect_refusals(&[-32600]);
    for name in ["mcp-session-id", "last-event-id", "origin", "cookie"] {
        Proper::new("tools/list", json!({})).with(name, "x").send(&server).await;
        server.expect_refusals(&[0]);
    }
    for method in [http::Method::GET, http::Method::DELETE] {
        let gone = http_client().request(method, server.url()).header("accept-encoding", "identity").send().await;
        let gone = gone.expect("an answer");
        assert_eq!((gone.status().as_u16(), gone.headers()["allow"].as_bytes()), (405, &b"POST"[..]));
        server.expect_refusals(&[-32000]);
    }
    assert_eq!(Proper::new("no/such", json!({})).send(&server).await.0, 404, "relaying it is no fault");
}

#[tokio::test]
async fn retry_has_to_be_what_was_asked_for() {
    let server = Modern::start(Manner::default()).await;
    let asked = || async { Proper::call("elicit", &json!({"a": 1})).send(&server).await.1["result"].clone() };
    let retry = |state: &Value, responses: Value| {
        let mut request = Proper::call("elicit", &json!({"a": 1}));
        request.body["id"] = json!(2);
        request.body["params"]["requestState"] = state["requestState"].clone();
        request.body["params"]["inputResponses"] = responses;
        request
    };
    let who = json!({"who": {"action": "accept", "content": {"name": "x"}}});
    let state = asked().await;
    assert_eq!(state["inputRequests"]["who"]["method"], "elicitation/create");
    let done = retry(&state, who.clone()).send(&server).await.1;
    assert!(done["result"]["content"][0]["text"].as_str().expect("a text").contains("accept"), "{done}");
    retry(&state, who.clone()).send(&server).await;
    server.expect_refusals(&[-32602]);

    let mut same_id = retry(&asked().await, who.clone());
    same_id.body["id"] = json!(1);
    let mut arguments = retry(&asked().await, who.clone());
    arguments.body["params"]["arguments"] = json!({"a": 2});
    let token = retry(&asked().await, who.clone()).with("authorization", "Bearer other");
    let missing = retry(&asked().await, json!({}));
    let wrapped = retry(&asked().await, json!({"who": {"result": {"action": "accept"}}}));
    for wrong in [same_id, arguments, token, missing, wrapped] {
        let (status, message) = wrong.send(&server).await;
        assert!(status == 400 || message["error"]["code"] == -32602, "{message}");
        server.expect_refusals(&[-32602]);
    }
}

#[tokio::test]
async fn initialize_is_answered_as_the_manner_says() {
    for (legacy, status, code) in [
        (Legacy::Unsupported, 400, Some(-32022)),
        (Legacy::Unknown, 404, Some(-32601)),
        (Legacy::InvalidParams, 400, Some(-32602)),
        (Legacy::HeaderMismatch, 400, Some(-32020)),
        (Legacy::Strict, 200, None),
        (Legacy::Stateless, 200, None),
        (Legacy::Stateful, 200, None),
    ] {
        let server = Modern::start(Manner { legacy, ..Manner::default() }).await;
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let answer = http_client().post(server.url()).body(body.to_string()).send().await.expect("an answer");
        let (got, session) = (answer.status().as_u16(), answer.headers().contains_key("mcp-session-id"));
        assert_eq!((got, session), (status, legacy == Legacy::Stateful), "{legacy:?}");
        let message: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
        assert_eq!(message["error"]["code"].as_i64(), code, "{message}");
        // The first message that is not `initialize` is turned down where nothing of this era is served.
        let is_served = [Legacy::Stateless, Legacy::Stateful].contains(&legacy);
        let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string();
        let mut request = http_client().post(server.url()).body(list);
        if session {
            request = request.header("mcp-session-id", "session-0");
        }
        assert_eq!(request.send().await.expect("an answer").status() == 200, is_served, "{legacy:?}");
        if !is_served {
            server.expect_refusals(&[code.unwrap_or(-32602)]);
        }
    }
}

#[tokio::test]
async fn server_that_is_not_modern_says_so() {
    for (era, supported) in [(Era::Unsupported, true), (Era::Foreign, false), (Era::Text, false)] {
        let server = Modern::start(Manner { era, ..Manner::default() }).await;
        let (status, message) = Proper::new("server/discover", json!({})).send(&server).await;
        assert_eq!((status, message["error"]["data"]["supported"].is_array()), (400, supported), "{era:?}");
    }
}

#[tokio::test]
#[should_panic(expected = "the server had to refuse what nobody should send")]
async fn refusal_that_nobody_expected_fails_the_test() {
    let server = Modern::start(Manner::default()).await;
    Proper::new("tools/list", json!({})).without("mcp-method").send(&server).await;
}
