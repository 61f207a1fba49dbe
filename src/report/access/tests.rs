use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Access<'_> {
    parse(line.as_bytes()).unwrap_or_else(|| panic!("not read: {line}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The line that nginx writes for `GET /sse` with what is given in place of single fields.
fn combined(who: &str, request: &str, status: &str, user_agent: &str) -> String {
    format!("{who} [10/Oct/2026:13:55:36 -0700] \"{request}\" {status} 2326 \"-\" \"{user_agent}\"")
}

#[test]
fn combined_line_is_read() {
    let line = r#"192.0.2.7 - frank [10/Oct/2026:13:55:36 -0700] "GET /sse?key=secret HTTP/1.1" 200 2326 "http://www.example.com/start.html" "python-httpx/0.28.1""#;
    let expected = Access {
        kind: Kind::Combined,
        at: at("2026-10-10T20:55:36Z"),
        method: "GET".into(),
        path: "/sse".into(),
        status: 200,
        user_agent: Some("python-httpx/0.28.1".into()),
        address: "192.0.2.7".into(),
        duration: None,
    };
    assert_eq!(read(line), expected);
    let more = format!("{line} \"203.0.113.9\" 0.123 \"a \\\" b\" -");
    assert_eq!(read(&more), expected, "fields behind make no difference");
    assert!(matches!(read(line), Access { path: Cow::Borrowed(_), user_agent: Some(Cow::Borrowed(_)), .. }));
}

#[test]
fn common_line_without_user_agent_is_read() {
    let access = read(r#"2001:db8::7 - - [31/Dec/2026:23:59:59 +0000] "POST /messages/ HTTP/1.1" 202 -"#);
    assert_eq!((access.address.as_ref(), access.status, access.user_agent.as_deref()), ("2001:db8::7", 202, None));
    assert_eq!(access.at, at("2026-12-31T23:59:59Z"));
}

#[test]
fn combined_quotes_are_unescaped_in_both_spellings() {
    for written in [r"say \x22hi\x22 \xC3\xBC", r#"say \"hi\" ü"#, r#"say \"hi\" \xc3\xbc"#] {
        let line = combined("192.0.2.7 - -", "GET /sse HTTP/1.1", "200", written);
        assert_eq!(read(&line).user_agent.as_deref(), Some("say \"hi\" ü"), "{written}");
    }
    let line = combined("192.0.2.7 - -", "GET /sse HTTP/1.1", "200", r"ends with a backslash\\");
    assert_eq!(read(&line).user_agent.as_deref(), Some("ends with a backslash\\"));
    let line = combined("192.0.2.7 - -", "GET /sse HTTP/1.1", "200", r"not hex \xZZ, cut \x2");
    assert_eq!(read(&line).user_agent.as_deref(), Some(r"not hex \xZZ, cut \x2"));
}

#[test]
fn texts_are_printable_and_capped() {
    let line = combined("192.0.2.7 - -", "GET /sse HTTP/1.1", "200", r"\x1B[31mred\x00");
    assert_eq!(read(&line).user_agent.as_deref(), Some(r"\u{1b}[31mred\u{0}"));
    let long = combined("192.0.2.7 - -", "GET /sse HTTP/1.1", "200", &"x".repeat(9000));
    assert_eq!(read(&long).user_agent.map(|text| text.len()), Some(512));
}

#[test]
fn combined_user_with_spaces_and_brackets_moves_nothing() {
    let who = "192.0.2.7 - a [01/Jan/2020:00:00:00 +0000] b";
    let line = combined(who, "GET /sse HTTP/1.1", "200", "node");
    assert_eq!((read(&line).at, read(&line).address.as_ref()), (at("2026-10-10T20:55:36Z"), "192.0.2.7"));
}

#[test]
fn combined_address_may_stand_behind_the_host() {
    let address = |who: &str| read(&combined(who, "GET /sse HTTP/1.1", "200", "node")).address.into_owned();
    assert_eq!(address("mcp.example.com:443 192.0.2.7 - -"), "192.0.2.7");
    assert_eq!(address("client.example.com - -"), "client.example.com");
    assert_eq!(address("192.0.2.7 192.0.2.8 -"), "192.0.2.7", "an identity that looks like an address is none");
}

#[test]
fn request_lines_that_are_broken_or_empty_are_no_requests() {
    for request in ["", "-", r"\x16\x03\x01\x02", "GET", " GET /sse", "GET  HTTP/1.1"] {
        let line = combined("192.0.2.7 - -", request, "400", "-");
        let access = read(&line);
        assert_eq!((access.method.as_ref(), access.path.as_ref()), ("", ""), "{request:?}");
        assert_eq!(legacy(&access, &Paths::default()), None);
    }
}

#[test]
fn path_has_no_query_host_or_fragment() {
    let path = |target: &str| {
        read(&combined("192.0.2.7 - -", &format!("POST {target} HTTP/1.1"), "202", "-")).path.into_owned()
    };
    assert_eq!(path("/messages?sessionId=secret"), "/messages");
    assert_eq!(path(r"/messages\x3FsessionId=secret"), "/messages");
    assert_eq!(path("/messages#secret"), "/messages");
    assert_eq!(path("https://mcp.example.com:443/messages?session_id=secret"), "/messages");
    assert_eq!(path("https://mcp.example.com?session_id=secret"), "/");
    assert_eq!(path("/a b"), "/a b");
    assert_eq!(path("/to?url=http://x/y"), "/to");
    assert_eq!(path("/http://x/y"), "/http://x/y");
    assert_eq!(read(&combined("192.0.2.7 - -", "GET /sse", "200", "-")).path, "/sse", "HTTP/0.9");
}

#[test]
fn caddy_line_is_read() {
    let line = r#"{"level":"info","ts":1790381608.0767596,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"10.0.0.2","remote_port":"43004","client_ip":"192.0.2.7","proto":"HTTP/1.1","method":"GET","host":"mcp.example.com","uri":"/sse?token=secret","headers":{"User-Agent":["node \"20\""],"Accept":["text/event-stream"]},"tls":{"resumed":false,"version":772}},"bytes_read":0,"user_id":"","duration":31.5,"size":0,"status":200,"resp_headers":{"Server":["Caddy"]}}"#;
    let access = read(line);
    assert_eq!(access.at, at("2026-09-26T00:13:28.07676Z"));
    assert_eq!((access.kind, access.status), (Kind::Caddy, 200));
    assert_eq!((access.method.as_ref(), access.path.as_ref()), ("GET", "/sse"));
    assert_eq!((access.address.as_ref(), access.user_agent.as_deref()), ("192.0.2.7", Some("node \"20\"")));
    assert_eq!(access.duration, Some(Duration::from_millis(31_500)));
}

/// Caddy's line with these members.
fn caddy(ts: &str, duration: &str, request: &str) -> String {
    format!(r#"{{"ts":{ts},"request":{{{request}"method":"GET","uri":"/sse"}},"duration":{duration},"status":200}}"#)
}

#[test]
fn caddy_times_are_read_in_every_format() {
    let expected = at("2026-09-21T14:13:20.5Z");
    for ts in [
        "1790000000.5",
        "1790000000500.0",
        "1790000000500",
        "1790000000500000000",
        r#""2026-09-21T14:13:20.500Z""#,
        r#""2026-09-21T16:13:20.500+0200""#,
        r#""2026/09/21 14:13:20.500""#,
        r#""2026/09/21 14:13:20.500000000""#,
    ] {
        assert_eq!(read(&caddy(ts, "0.1", r#""remote_ip":"192.0.2.7","#)).at, expected, "{ts}");
    }
    let whole = at("2026-09-21T14:13:20Z");
    for ts in ["1790000000", r#""2026/09/21 14:13:20""#, r#""21/Sep/2026:14:13:20 +0000""#] {
        assert_eq!(read(&caddy(ts, "0.1", r#""remote_ip":"192.0.2.7","#)).at, whole, "{ts}");
    }
    for ts in [r#""yesterday""#, "null", "1e300", "true", "[]"] {
        assert_eq!(parse(caddy(ts, "0.1", r#""remote_ip":"192.0.2.7","#).as_bytes()), None, "{ts}");
    }
}

#[test]
fn caddy_durations_are_read_in_every_format() {
    let duration = |text: &str| read(&caddy("1790000000", text, r#""remote_ip":"192.0.2.7","#)).duration;
    assert_eq!(duration("92.05"), Some(Duration::from_millis(92_050)));
    assert_eq!(duration("92050000000"), Some(Duration::from_millis(92_050)));
    assert_eq!(duration(r#""1m32.05s""#), Some(Duration::from_millis(92_050)));
    assert_eq!(duration(r#""6.31ms""#), Some(Duration::from_micros(6_310)));
    for none in ["-1.5", "-1", "null", r#""-6ms""#, r#""long""#, "{}"] {
        assert_eq!(duration(none), None, "{none}");
    }
}

#[test]
fn caddy_address_is_the_best_that_the_version_wrote() {
    let address = |request: &str| read(&caddy("1790000000", "1.0", request)).address.into_owned();
    assert_eq!(address(r#""remote_ip":"10.0.0.1","client_ip":"192.0.2.7","#), "192.0.2.7");
    assert_eq!(address(r#""remote_ip":"2001:db8::7","#), "2001:db8::7");
    assert_eq!(address(r#""remote_addr":"[2001:db8::7]:4711","#), "2001:db8::7");
    assert_eq!(address(r#""remote_addr":"192.0.2.7:4711","#), "192.0.2.7");
    assert_eq!(parse(caddy("1790000000", "1.0", "").as_bytes()), None);
}

/// The example of the AWS documentation, with this client, request and user-agent.
fn alb(client: &str, request: &str, user_agent: &str) -> String {
    format!(
        "h2 2026-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 {client} 10.0.0.66:9000 0.000 0.002 0.000 \
         200 200 5 257 \"{request}\" \"{user_agent}\" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 \
         arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 \
         \"Root=1-58337327-72bd00b0343d75b906739c42\" \"-\" \"-\" 1 2026-07-02T22:22:48.364000Z \"forward\" \"-\" \"-\" \
         \"10.0.0.66:9000\" \"200\" \"-\" \"-\" TID_1234abcd5678ef90"
    )
}

#[test]
fn alb_line_is_read() {
    let line = alb("10.0.1.252:48160", "GET https://mcp.example.com:443/sse?x=1 HTTP/2.0", "curl/7.46.0");
    let expected = Access {
        kind: Kind::Alb,
        at: at("2026-07-02T22:23:00.186641Z"),
        method: "GET".into(),
        path: "/sse".into(),
        status: 200,
        user_agent: Some("curl/7.46.0".into()),
        address: "10.0.1.252".into(),
        duration: Some(Duration::from_micros(11_822_641)),
    };
    assert_eq!(read(&line), expected);
}

#[test]
fn alb_addresses_lose_their_ports_and_missing_requests_are_none() {
    let address = |client: &str| read(&alb(client, "GET http://x:80/ HTTP/1.1", "-")).address.into_owned();
    assert_eq!(address("[2001:db8::7]:4711"), "2001:db8::7");
    assert_eq!(address("2001:db8::7:4711"), "2001:db8::7");
    let line = alb("192.0.2.7:1", "- http://x:80- -", "-");
    assert_eq!((read(&line).method.as_ref(), read(&line).user_agent), ("", None));
    let unanswered = alb("192.0.2.7:1", "GET http://x:80/ HTTP/1.1", "-").replace(" 200 200 5", " - - 5");
    assert_eq!(read(&unanswered).status, 0);
}

#[test]
fn alb_json_is_read_with_the_names_of_every_export() {
    let tail = r#""elb_status_code":"202","user_agent":"node","request_creation_time":"2026-07-02T22:22:59Z"}"#;
    for head in [
        r#"{"time":"2026-07-02T22:23:00Z","client_ip":"192.0.2.7","client_port":4711,"request_verb":"POST","request_url":"https://x:443/messages?sessionId=s","#,
        r#"{"time":"2026-07-02T22:23:00Z","client:port":"192.0.2.7:4711","request":"POST https://x:443/messages?sessionId=s HTTP/1.1","#,
        r#"{"timestamp":"2026-07-02T22:23:00Z","client":"192.0.2.7:4711","request":"POST https:\/\/x:443\/messages?sessionId=s HTTP\/1.1","#,
        r#"{"timestamp":"2026-07-02T22:23:00Z","client":"192.0.2.7","request_method":"POST","request_url":"/messages","request":null,"#,
    ] {
        let line = format!("{head}{tail}");
        let access = read(&line);
        assert_eq!((access.kind, access.status, access.at), (Kind::AlbJson, 202, at("2026-07-02T22:23:00Z")), "{head}");
        assert_eq!((access.method.as_ref(), access.path.as_ref()), ("POST", "/messages"), "{head}");
        assert_eq!((access.address.as_ref(), access.user_agent.as_deref()), ("192.0.2.7", Some("node")), "{head}");
        assert_eq!(access.duration, Some(Duration::from_secs(1)), "{head}");
    }
    let number =
        r#"{"time":"2026-07-02T22:23:00Z","client":"2001:db8::7","request":"GET / HTTP/1.1","elb_status_code":460}"#;
    assert_eq!((read(number).status, read(number).address.as_ref()), (460, "2001:db8::7"));
}

#[test]
fn lines_of_something_else_are_not_read() {
    for line in [
        "",
        "{",
        "{}",
        "[]",
        "hello",
        "\"",
        "[10/Oct/2026:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1",
        "192.0.2.7 - - [10/Oct/2026:13:55:36 -0700] \"GET / HTTP/1.1\"",
        "192.0.2.7 - - [10/Oct/2026:13:55:36 -0700] \"GET / HTTP/1.1\" 2000 1",
        "192.0.2.7 - - [10/Okt/2026:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1",
        r#"{"@timestamp":"2026-07-02T22:23:00Z","event.name":"legacy.connect","schema":"sse-sunset/1"}"#,
    ] {
        assert_eq!(parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn legacy_requests_are_told_apart() {
    let kind = |request: &str, status: &str| {
        legacy(&read(&combined("192.0.2.7 - -", request, status, "-")), &Paths::default())
    };
    assert_eq!(kind("GET /sse HTTP/1.1", "200"), Some(LegacyKind::Stream));
    assert_eq!(kind("GET /sse/ HTTP/1.1", "200"), Some(LegacyKind::Stream));
    assert_eq!(kind("POST /messages/?session_id=s HTTP/1.1", "202"), Some(LegacyKind::Post));
    assert_eq!(kind("POST /message?sessionId=s HTTP/1.1", "200"), Some(LegacyKind::Post));
    for status in ["301", "401", "404", "410", "429", "499", "503", "000", "-", "204"] {
        assert_eq!(kind("GET /sse HTTP/1.1", status), Some(LegacyKind::Refused), "{status}");
    }
    for status in ["404", "500", "000"] {
        assert_eq!(kind("POST /messages HTTP/1.1", status), Some(LegacyKind::Refused), "{status}");
    }
    for other in
        ["POST /sse HTTP/1.1", "GET /messages HTTP/1.1", "HEAD /sse HTTP/1.1", "GET /ssex HTTP/1.1", "GET / HTTP/1.1"]
    {
        assert_eq!(kind(other, "200"), None, "{other}");
    }
}

#[test]
fn legacy_paths_are_those_that_were_named() {
    let paths = Paths::new(&["/api/events/"], &["/api/post"]);
    let kind = |request: &str| legacy(&read(&combined("192.0.2.7 - -", request, "200", "-")), &paths);
    assert_eq!(kind("GET /api/events HTTP/1.1"), Some(LegacyKind::Stream));
    assert_eq!(kind("POST /api/post HTTP/1.1"), Some(LegacyKind::Post));
    assert_eq!(kind("GET /sse HTTP/1.1"), None);
}

/// What a request may be made of.
#[derive(Debug, Clone)]
struct Made {
    second: i64,
    method: &'static str,
    path: String,
    query: String,
    status: u16,
    user_agent: String,
    address: std::net::IpAddr,
}

fn made() -> impl Strategy<Value = Made> {
    let method = prop_oneof![Just("GET"), Just("POST"), Just("DELETE"), Just("M-SEARCH")];
    let user_agent = prop_oneof!["[ -~]{1,40}", "\\PC{1,20}"].prop_filter("it is nothing", |text| text != "-");
    (
        0_i64..4_000_000_000,
        method,
        "/[a-zA-Z0-9/._~-]{0,20}",
        "[ -~]{0,20}",
        100_u16..600,
        user_agent,
        any::<std::net::IpAddr>(),
    )
        .prop_map(|(second, method, path, query, status, user_agent, address)| Made {
            second,
            method,
            path,
            query: query.replace(['"', '\\'], "_"),
            status,
            user_agent,
            address,
        })
}

impl Made {
    fn check(&self, line: &str, kind: Kind) -> Result<(), TestCaseError> {
        let access = parse(line.as_bytes());
        prop_assert!(access.is_some(), "not read: {}", line);
        let access = access.expect("it was read");
        prop_assert_eq!(access.kind, kind);
        prop_assert_eq!(access.at, Timestamp::from_second(self.second).expect("in range"));
        prop_assert_eq!((access.method.as_ref(), access.path.as_ref()), (self.method, self.path.as_str()));
        prop_assert_eq!(access.status, self.status);
        prop_assert_eq!(access.user_agent.as_deref(), Some(self.user_agent.as_str()), "{}", line);
        prop_assert_eq!(access.address.as_ref(), self.address.to_string());
        Ok(())
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.second).expect("in range")
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&line);
    }

    #[test]
    fn changed_lines_are_read_without_a_panic(
        which in 0_usize..3, at in any::<prop::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let line = match which {
            0 => combined("192.0.2.7 - -", r"GET /sse?a=\x22 HTTP/1.1", "200", r#"a \"b\" \\"#),
            1 => alb("[2001:db8::7]:4711", "GET https://x:443/sse HTTP/1.1", "node"),
            _ => caddy("1790000000.5", "0.1", r#""remote_ip":"192.0.2.7","headers":{"User-Agent":["node"]},"#),
        };
        let mut line = line.into_bytes();
        let at = at.index(line.len());
        line.splice(at..(at + 2).min(line.len()), bytes);
        if let Some(access) = parse(&line) {
            prop_assert!(!access.path.contains('?'), "a query got out");
            let _ = legacy(&access, &Paths::default());
        }
    }

    #[test]
    fn combined_lines_come_back(made in made(), apache in any::<bool>()) {
        let escaped: String = made.user_agent.bytes().map(|byte| match byte {
            b'"' | b'\\' if apache => format!("\\{}", char::from(byte)),
            b'"' | b'\\' | 0..32 | 127.. => format!("\\x{byte:02X}"),
            byte => char::from(byte).to_string(),
        }).collect();
        let time = made.time().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
        let line = format!(
            "{} - - [{time}] \"{} {}?{} HTTP/1.1\" {} 17 \"http://r/\\\"\" \"{escaped}\"",
            made.address, made.method, made.path, made.query, made.status
        );
        made.check(&line, Kind::Combined)?;
    }

    #[test]
    fn caddy_lines_come_back(made in made(), as_text in any::<bool>()) {
        let ts = if as_text { serde_json::json!(made.time().to_string()) } else { serde_json::json!(made.second) };
        let line = serde_json::json!({
            "ts": ts, "status": made.status, "duration": 0.5,
            "request": {
                "client_ip": made.address, "method": made.method, "uri": format!("{}?{}", made.path, made.query),
                "headers": { "User-Agent": [made.user_agent] },
            },
        });
        made.check(&line.to_string(), Kind::Caddy)?;
    }

    #[test]
    fn alb_lines_come_back(made in made()) {
        let url = format!("https://mcp.example.com:443{}?{}", made.path, made.query);
        let escaped: String = made.user_agent.bytes().map(|byte| match byte {
            b'"' | b'\\' | 0..32 | 127.. => format!("\\x{byte:02X}"),
            byte => char::from(byte).to_string(),
        }).collect();
        let line = format!(
            "https {} app/x/1 {} 10.0.0.1:80 0.1 0.2 0.3 {} 200 1 2 \"{} {url} HTTP/1.1\" \"{escaped}\" - - arn",
            made.time(), std::net::SocketAddr::new(made.address, 4711), made.status, made.method
        );
        made.check(&line, Kind::Alb)?;
        let line = serde_json::json!({
            "time": made.time().to_string(), "client_ip": made.address, "request_verb": made.method, "request_url": url,
            "elb_status_code": made.status, "user_agent": made.user_agent,
        });
        made.check(&line.to_string(), Kind::AlbJson)?;
    }
}
