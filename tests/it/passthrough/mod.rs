//! What is passed through: nothing is noticed of the proxy, and nothing is held back, in either direction.

mod bare;
mod census;
mod ends;

use bare::{Bare, names, value};

use crate::support::{Behaviour, FakeUpstream, Proxy, RawClient, Way, http_client, tls, within};

async fn both(options: &[(&'static str, &str)]) -> (Bare, Proxy) {
    let upstream = Bare::start().await;
    let proxy = Proxy::start(&upstream.url(), options);
    (upstream, proxy)
}

async fn all() -> (Bare, Proxy) {
    both(&[("passthrough", "all")]).await
}

async fn asking(proxy: &Proxy, request: &str) -> RawClient {
    let mut client = RawClient::connect(proxy).await;
    client.send(request).await;
    client
}

const NOWHERE: &str = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn target_goes_up_byte_for_byte() {
    let (upstream, proxy) = all().await;
    for target in ["/a%2Fb", "//a", "/a/../b", "/a;b=c?d=%20&&e=|", "/.well-known/x?", "/mcp?sessionId=1"] {
        let mut client = asking(&proxy, &get(target)).await;
        let (mut conn, head) = upstream.request().await;
        assert_eq!(head.lines().next(), Some(&*format!("GET {target} HTTP/1.1")));
        conn.answer("connection: close\r\n", "here").await;
        client.read_until("here").await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn headers_are_the_clients_but_for_those_of_its_connection() {
    let (upstream, proxy) = both(&[
        ("passthrough", "all"),
        ("allowed-origin", "https://app.example.com"),
        ("upstream-header", "x-api-key: the operator's"),
    ])
    .await;
    let passing = [
        "accept: application/json, text/event-stream",
        "accept-encoding: gzip, br",
        "authorization: Bearer token",
        "cache-control: no-cache",
        "cookie: a=b",
        "if-none-match: \"1\"",
        "last-event-id: 7",
        "mcp-method: tools/call",
        "mcp-param-region: eu",
        "mcp-protocol-version: 2026-07-28",
        "mcp-session-id: the server's",
        "range: bytes=0-1",
        "user-agent: test",
        "x-own: 1",
    ];
    let staying = [
        "Connection: keep-alive, X-Named",
        "Expect: 100-continue",
        "Forwarded: for=6.6.6.6",
        "Keep-Alive: 5",
        "Origin: https://app.example.com",
        "Proxy-Authorization: Basic x",
        "Sec-Fetch-Site: cross-site",
        "TE: trailers",
        "Trailer: x",
        "Upgrade: h2c",
        "X-Forwarded-For: 6.6.6.6",
        "X-Named: 1",
        "X-Real-IP: 6.6.6.6",
        "x_under: 1",
    ];
    let lines = passing.iter().chain(&staying).copied().collect::<Vec<_>>().join("\r\n");
    let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\nx-api-key: the client's\r\n{lines}\r\n\r\n");
    let mut client = asking(&proxy, &request).await;
    let (mut conn, head) = upstream.request().await;
    for line in passing {
        let (name, expected) = line.split_once(": ").expect("a header");
        assert_eq!(value(&head, name), Some(expected), "{head}");
    }
    let ours = ["forwarded", "host", "via", "x-api-key", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    let mut expected: Vec<&str> =
        passing.iter().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    expected.extend(ours);
    expected.sort_unstable();
    assert_eq!(names(&head), expected, "{head}");
    assert_eq!(value(&head, "host"), Some(&*upstream.authority()));
    assert_eq!(value(&head, "x-api-key"), Some("the operator's"));
    assert_eq!(value(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert!(value(&head, "via").expect("via").starts_with("1.1 sse-sunset-"));
    conn.answer("", "").await;
    client.read_until("\r\n\r\n").await;
    drop(client);
    // Whoever brings back what the proxy says of itself has gone in a circle.
    let via = value(&head, "via").expect("via");
    let mut client = asking(&proxy, &format!("GET /x HTTP/1.1\r\nHost: localhost\r\nVia: {via}\r\n\r\n")).await;
    client.read_until("508 Loop Detected").await;
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn answer_keeps_its_headers_but_for_those_of_the_upstreams_connection() {
    let (upstream, proxy) = both(&[("passthrough", "all"), ("allowed-origin", "https://app.example.com")]).await;
    let mut client =
        asking(&proxy, "GET /x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example.com\r\n\r\n").await;
    let (mut conn, _) = upstream.request().await;
    let authority = upstream.authority();
    let headers = format!(
        "date: Thu, 01 Jan 2026 00:00:00 GMT\r\nset-cookie: a=b\r\nset-cookie: c=d\r\nmcp-session-id: s\r\netag: \"1\"\r\n\
         content-encoding: gzip\r\nlocation: http://{authority}/mcp/\r\nvary: Accept\r\nwww-authenticate: Bearer\r\n\
         access-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\nalt-svc: h3=\":443\"\r\n\
         connection: x-named\r\nx-named: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n"
    );
    conn.answer(&headers, "body").await;
    client.read_until("body").await;
    let text = client.text();
    let (head, _) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(
        names(head),
        [
            "access-control-allow-origin",
            "access-control-expose-headers",
            "content-encoding",
            "content-length",
            "date",
            "etag",
            "location",
            "mcp-session-id",
            "set-cookie",
            "set-cookie",
            "vary",
            "vary",
            "www-authenticate",
        ]
    );
    assert_eq!(value(head, "location"), Some("/mcp/"), "no way leads around the proxy");
    assert_eq!(value(head, "access-control-allow-origin"), Some("https://app.example.com"));
    let exposed = value(head, "access-control-expose-headers").expect("exposed");
    assert_eq!(exposed, "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_send_what_they_ask_for_and_others_nothing() {
    let (_upstream, proxy) = both(&[("passthrough", "mcp"), ("allowed-origin", "https://app.example.com")]).await;
    let preflight = async |origin: &str| {
        let request = http_client().request(reqwest::Method::OPTIONS, proxy.url("/mcp")).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", "mcp-session-id,x-own");
        within("an answer", request.send()).await.expect("an answer")
    };
    let granted = preflight("https://app.example.com").await;
    assert_eq!(granted.status(), 204);
    assert_eq!(granted.headers()["access-control-allow-methods"], "GET, POST, DELETE");
    assert_eq!(granted.headers()["access-control-allow-headers"], "mcp-session-id,x-own");
    assert_eq!(granted.headers()["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(preflight("https://evil.example").await.status(), 403);
    proxy.stop().await;
}

#[tokio::test]
async fn request_goes_up_piece_by_piece() {
    let (upstream, proxy) = all().await;
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = asking(&proxy, &format!("{head}5\r\nfirst\r\n")).await;
    let (mut conn, head) = upstream.request().await;
    assert_eq!(value(&head, "transfer-encoding"), Some("chunked"));
    conn.read_until("first").await;
    client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    conn.read_until("0\r\n\r\n").await;
    assert_eq!(String::from_utf8_lossy(&conn.came), "5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n");
    conn.answer("", "done").await;
    client.read_until("done").await;
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn answer_comes_down_piece_by_piece_while_the_request_still_goes_up() {
    let (upstream, proxy) = all().await;
    let mut client = asking(&proxy, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf.").await;
    let (mut conn, head) = upstream.request().await;
    assert_eq!(value(&head, "content-length"), Some("10"));
    conn.read_until("half.").await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    conn.send("8\r\ndata: 1\n\r\n").await;
    client.read_until("data: 1").await;
    client.send("whole").await;
    conn.read_until("whole").await;
    conn.send("8\r\ndata: 2\n\r\n0\r\n\r\n").await;
    client.read_until("0\r\n\r\n").await;
    let text = client.text();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, "8\r\ndata: 1\n\r\n8\r\ndata: 2\n\r\n0\r\n\r\n");
    assert_eq!(value(head, "transfer-encoding"), Some("chunked"));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn every_method_passes() {
    let (upstream, proxy) = all().await;
    let mut empty = asking(&proxy, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    let (mut conn, head) = upstream.request().await;
    assert_eq!(value(&head, "content-length"), Some("0"), "some servers want to hear it");
    conn.answer("connection: close\r\n", "here").await;
    empty.read_until("here").await;
    for method in ["HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND"] {
        let mut client = asking(&proxy, &format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let (mut conn, head) = upstream.request().await;
        assert_eq!(head.lines().next(), Some(&*format!("{method} /x HTTP/1.1")));
        assert_eq!(value(&head, "transfer-encoding"), None, "nothing is added: {head}");
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n").await;
        if method != "HEAD" {
            conn.send("content").await;
            client.read_until("content").await;
        }
        client.read_until("content-length: 7\r\n").await;
        // The connection is good for another request: the frames were right.
        client.send(get("/y")).await;
        let head = conn.head().await;
        assert!(head.starts_with("GET /y "), "{head}");
        conn.answer("connection: close\r\n", "again").await;
        client.read_until("again").await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn redirect_names_neither_the_servers_address_nor_the_operators_secret() {
    let upstream = Bare::start().await;
    let proxy = Proxy::start(&format!("{}?code=SECRET", upstream.url()), &[("passthrough", "mcp")]);
    for (scheme, target) in [("http", "/mcp"), ("https", "/mcp?x=1")] {
        let mut client = asking(&proxy, &get(target)).await;
        let (mut conn, head) = upstream.request().await;
        let asked = head.split(' ').nth(1).expect("a target").to_owned();
        assert!(asked.contains("code=SECRET"), "{asked}");
        // Starlette behind uvicorn, with the text of Express.
        let moved = asked.replacen("/mcp", "/mcp/", 1);
        let location = format!("{scheme}://{}{moved}", upstream.authority());
        let text = format!("Temporary Redirect. Redirecting to {location}");
        let length = text.len();
        conn.send(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
        .await;
        client.read_until("\r\n\r\n").await;
        client.send(NOWHERE).await;
        let text = client.read_to_end().await;
        assert!(text.contains(&format!("\r\nlocation: {}\r\n", target.replacen("/mcp", "/mcp/", 1))), "{text}");
        assert!(!text.contains("SECRET") && !text.contains(&upstream.authority()), "{text}");
        assert!(text.contains("HTTP/1.1 404"), "the connection is good for another request: {text}");
    }
    proxy.stop().await;
}

/// hyper's client would leave such a body out and say nothing.
#[tokio::test]
async fn body_that_cannot_go_up_is_refused() {
    let (_upstream, proxy) = all().await;
    for method in ["GET", "HEAD"] {
        let head = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n");
        let mut client = asking(&proxy, &format!("{head}Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
        let text = client.read_to_end().await;
        assert!(text.starts_with("HTTP/1.1 411 "), "{text}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn mode_says_which_paths_pass() {
    let upstream = FakeUpstream::start(Behaviour { sessions: false, sse: false, token: None }).await;
    for (mode, mcp, other) in [("off", 404, 404), ("mcp", 405, 404), ("all", 405, 405)] {
        let proxy = Proxy::start(upstream.url(), &[("passthrough", mode)]);
        for (path, status) in [("/mcp", mcp), ("/mcp/", mcp), ("/other", other), ("/api/messages", other)] {
            // The path of messages is one of the server's only where all of them are.
            let expected = if path == "/api/messages" && mode != "all" { 405 } else { status };
            let answer = within("an answer", http_client().get(proxy.url(path)).send()).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), expected, "{mode} {path}");
        }
        let mut client = proxy.client().await;
        assert!(client.initialize().await["result"].is_object(), "legacy clients are served as ever");
        drop(client);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn upstream_is_reached_by_tls_and_http2_as_for_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = tls::Authority::new();
    let (cert, key) = authority.identity("proxy").pem();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let (ca, cert, key) = (file("ca", authority.pem()), file("cert", cert), file("key", key));
    for (http2, version) in [(false, "1.1"), (true, "2")] {
        let way = Way { tls: Some(authority.acceptor(true, http2)), http2 };
        let upstream = FakeUpstream::start_over(way, Behaviour { sessions: true, sse: true, token: None }).await;
        let options = [
            ("passthrough", "mcp"),
            ("upstream-ca", &*ca),
            ("upstream-client-cert", &cert),
            ("upstream-client-key", &key),
            ("upstream-http", version),
        ];
        let proxy = Proxy::start(upstream.url(), &options);
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
        let answer = within("an answer", http_client().post(proxy.url("/mcp")).body(body).send()).await.expect("one");
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("mcp-session-id"));
        assert!(answer.text().await.expect("a body").contains("protocolVersion"));
        proxy.stop().await;
        // Without the authority nobody vouches for the server.
        let proxy = Proxy::start(upstream.url(), &[("passthrough", "mcp"), ("upstream-http", version)]);
        let answer = within("an answer", http_client().get(proxy.url("/mcp")).send()).await.expect("an answer");
        assert_eq!(answer.status(), 502);
        assert!(answer.text().await.expect("a text").contains("nothing was sent"));
        proxy.stop().await;
    }
}
