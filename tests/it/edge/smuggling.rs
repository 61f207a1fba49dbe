//! One request in is at most one request up, and after any doubt about where it ends the connection ends.
//!
//! Each attempt is bytes on a connection of their own; `smuggled` stands behind them wherever a second reader might see a
//! request. Where the reading is the only one there is, [`NEXT`] stands there, and is answered.

use super::stage::{Attempt, Stage, goes_up, message, stays};

/// An honest request, which ends the connection.
const NEXT: &str = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// The answer to the attempt, and none after it.
const REFUSED: &[u16] = &[400];

/// A chunk, with whatever stands behind its size.
fn chunk(body: &str, behind: &str) -> String {
    format!("{:x}{behind}\r\n{body}\r\n", body.len())
}

#[tokio::test]
async fn lengths_that_contradict_or_are_none_are_refused() {
    let stage = Stage::set().await;
    let (head, smuggled) = (stage.head(), stage.smuggled());
    let with = |name: &'static str, fields: &dyn Fn(usize) -> String, behind: &str| {
        let body = message(name);
        format!("{head}{}\r\n{body}{behind}", fields(body.len()))
    };
    let twice = with("the same twice", &|n| format!("Content-Length: {n}\r\nContent-Length: {n}\r\n"), NEXT);
    let mut attempts = vec![goes_up("the same twice", &[202, 404], twice)];
    let refused: [(&'static str, &dyn Fn(usize) -> String); 9] = [
        ("two", &|n| format!("Content-Length: 0\r\nContent-Length: {n}\r\n")),
        ("a list", &|n| format!("Content-Length: {n}, {n}\r\n")),
        ("a sign", &|n| format!("Content-Length: +{n}\r\n")),
        ("below zero", &|_| "Content-Length: -1\r\n".to_owned()),
        ("hexadecimal", &|n| format!("Content-Length: 0x{n:x}\r\n")),
        ("more than there is", &|_| "Content-Length: 18446744073709551617\r\n".to_owned()),
        ("empty", &|_| "Content-Length:\r\n".to_owned()),
        ("a space within", &|n| format!("Content-Length: 1 {n}\r\n")),
        ("a space before the colon", &|n| format!("Content-Length : {n}\r\n")),
    ];
    attempts.extend(refused.map(|(name, fields)| stays(name, REFUSED, with(name, fields, &smuggled))));
    // What is missing does not come from the next request, and what is too much is none.
    let body = message("too short");
    attempts.push(stays("too short", &[400, 400], format!("{head}Content-Length: {}\r\n\r\n{body}{smuggled}", 40)));
    let body = message("too long");
    attempts.push(stays("too long", &[202], format!("{head}Content-Length: {}\r\n\r\n{body}", body.len() + 5)));
    stage.play(&attempts).await;
}

#[tokio::test]
async fn encodings_other_than_chunked_are_refused_and_a_length_beside_it_ends_the_connection() {
    let stage = Stage::set().await;
    let (head, smuggled) = (stage.head(), stage.smuggled());
    let with = |name: &str, fields: &str, behind: &str| {
        format!("{head}{fields}\r\n\r\n{}0\r\n\r\n{behind}", chunk(&message(name), ""))
    };
    let mut attempts: Vec<Attempt> = [
        ("plain", "Transfer-Encoding: chunked"),
        ("in capitals", "TRANSFER-ENCODING: CHUNKED"),
        ("behind a tab", "Transfer-Encoding:\tchunked"),
    ]
    .map(|(name, fields)| goes_up(name, &[202, 404], with(name, fields, NEXT)))
    .into();
    // Read as RFC 9112 §6.3 says, and the connection ends: whoever believed the length reads no second request here.
    for (name, fields) in [
        ("a length before", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("a length behind", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
    ] {
        attempts.push(goes_up(name, &[202], with(name, fields, &smuggled)));
    }
    let fields = format!("Content-Length: {}\r\nTransfer-Encoding: chunked", 5 + smuggled.len());
    attempts.push(stays("within the length", REFUSED, format!("{head}{fields}\r\n\r\n0\r\n\r\n{smuggled}")));
    attempts.extend(
        [
            ("identity", "Transfer-Encoding: identity"),
            ("identity last", "Transfer-Encoding: chunked, identity"),
            ("gzip first", "Transfer-Encoding: gzip, chunked"),
            ("listed twice", "Transfer-Encoding: chunked, chunked"),
            ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            ("and another", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
            ("another and", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
            ("behind a vertical tab", "Transfer-Encoding: \x0bchunked"),
            ("with a letter more", "Transfer-Encoding: xchunked"),
            ("with a parameter", "Transfer-Encoding: chunked;q=1"),
            ("quoted", "Transfer-Encoding: \"chunked\""),
            ("a space before the colon", "Transfer-Encoding : chunked"),
            ("a tab before the colon", "Transfer-Encoding\t: chunked"),
            ("folded", "Transfer-Encoding:\r\n chunked"),
            ("indented", "X: a\r\n Transfer-Encoding: chunked"),
        ]
        .map(|(name, fields)| stays(name, REFUSED, with(name, fields, &smuggled))),
    );
    let old = with("in HTTP/1.0", "Transfer-Encoding: chunked", &smuggled).replacen("HTTP/1.1", "HTTP/1.0", 1);
    attempts.push(stays("in HTTP/1.0", REFUSED, old));
    let body = message("an underscore");
    let fields = format!("Transfer_Encoding: chunked\r\nContent-Length: {}", body.len());
    attempts.push(goes_up("an underscore", &[202, 404], format!("{head}{fields}\r\n\r\n{body}{NEXT}")));
    stage.play(&attempts).await;
}

#[tokio::test]
async fn chunks_are_read_strictly() {
    let stage = Stage::set().await;
    let (head, smuggled) = (stage.head() + "Transfer-Encoding: chunked\r\n\r\n", stage.smuggled());
    let served = |name: &'static str, behind: &str, end: &str| {
        goes_up(name, &[202, 404], format!("{head}{}{end}{NEXT}", chunk(&message(name), behind)))
    };
    let mut attempts = vec![
        served("an extension", ";a=b", "0\r\n\r\n"),
        served("a space behind", " ", "0\r\n\r\n"),
        served("many zeros", "", "00000000;a\r\n\r\n"),
        // They go no further.
        served(
            "trailers",
            "",
            "0\r\nHost: evil.example\r\nAuthorization: smuggled\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n",
        ),
    ];
    let long_extension = format!(";a={}", "b".repeat(20_000));
    for (name, behind) in [
        ("a long extension", &*long_extension),
        ("an extension with LF", ";a\nb"),
        ("an extension with CR", ";a\rb"),
        ("LF behind the size", "\n"),
    ] {
        attempts.push(stays(name, REFUSED, format!("{head}{}0\r\n\r\n{smuggled}", chunk(&message(name), behind))));
    }
    for (name, size) in [
        ("overflow", "1000000000000000000a"),
        ("below zero", "-1"),
        ("a prefix", "0x2a"),
        ("no digits", "zz"),
        ("empty", ""),
        ("a space before", " 2a"),
        ("underscore", "2_a"),
    ] {
        attempts.push(stays(name, REFUSED, format!("{head}{size}\r\n{}\r\n0\r\n\r\n{smuggled}", message(name))));
    }
    let long_trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (name, behind, end) in [
        ("data beyond the size", "xx\r\n", "0\r\n\r\n"),
        ("LF behind the data", "\n", "0\r\n\r\n"),
        ("a trailer that is none", "\r\n", "0\r\nnonsense\r\n\r\n"),
        ("a long trailer", "\r\n", &long_trailer),
    ] {
        let body = message(name);
        attempts.push(stays(name, REFUSED, format!("{head}{:x}\r\n{body}{behind}{end}{smuggled}", body.len())));
    }
    // It waits for the rest, in vain.
    let body = message("no end in sight");
    attempts.push(stays("no end in sight", &[202], format!("{head}fffffffffffffff0\r\n{body}\r\n0\r\n\r\n{smuggled}")));
    // The body is whole, so the message counts; what follows is no request.
    let body = chunk(&message("LF behind the last"), "");
    attempts.push(goes_up("LF behind the last", &[202, 400], format!("{head}{body}0\r\n\n{smuggled}")));
    stage.play(&attempts).await;
}

#[tokio::test]
async fn lines_end_with_cr_lf_and_are_not_folded() {
    let stage = Stage::set().await;
    let (head, smuggled) = (stage.head(), stage.smuggled());
    let within = |name: &'static str, fields: &str| {
        let body = message(name);
        format!("{head}{fields}\r\nContent-Length: {}\r\n\r\n{body}{smuggled}", body.len())
    };
    let mut attempts: Vec<Attempt> = [
        ("folded", "X: a\r\n b"),
        ("folded by a tab", "X: a\r\n\tTransfer-Encoding: chunked"),
        ("a bare CR", "X: a\rTransfer-Encoding: chunked"),
        ("NUL in a value", "X: a\0b"),
        ("NUL in a name", "X\0: a"),
        ("a bell in a value", "X: a\x07b"),
        ("DEL in a value", "X: a\x7fb"),
        ("no name", ": a"),
        ("no colon", "nonsense"),
        ("a name that is no token", "X(a): b"),
    ]
    .map(|(name, fields)| stays(name, REFUSED, within(name, fields)))
    .into();
    let get = |name| stays(name, &[], format!("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX: a\n\n{smuggled}"));
    attempts.extend([
        stays("LF in a value", &[], within("LF in a value", "X: a\nTransfer-Encoding: chunked")),
        get("LF ends the head"),
        stays("LF alone", &[], format!("{}{smuggled}", NEXT.replace('\r', ""))),
        stays("LF behind the first line", &[], format!("GET / HTTP/1.1\nHost: localhost\r\n\r\n{smuggled}")),
        stays("CR alone", REFUSED, format!("{}{smuggled}", NEXT.replace('\n', ""))),
        // RFC 9112 §2.2: a server ignores an empty line before a request.
        stays("an empty line first", &[404], format!("\r\n{NEXT}")),
    ]);
    stage.play(&attempts).await;
}

#[tokio::test]
async fn head_in_pieces_that_ends_a_line_with_lf_is_refused_too() {
    let stage = Stage::set().await;
    let mut client = crate::support::RawClient::connect(&stage.proxy).await;
    client.send(NEXT.replace("Connection: close\r\n", "")).await;
    client.read_until("nothing is served here").await;
    client.came.clear();
    for piece in ["GET /nowhere HTTP/1.1\r", "\nHost: localhost\r\nX: a", "\n", "\r\n", &stage.smuggled()] {
        client.send_while_taken(piece.as_bytes()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.read_to_end().await, "");
    stage.play(&[]).await;
}

/// Only the whole preface of HTTP/2 is refused; what begins like it is a request, and so are those behind it.
#[tokio::test]
async fn head_behind_one_that_begins_like_http2_is_looked_at_too() {
    let stage = Stage::set().await;
    let mut client = crate::support::RawClient::connect(&stage.proxy).await;
    client.send("PRI /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.read_until("nothing is served here").await;
    client.came.clear();
    client.send(NEXT.replace("Connection: close\r\n", "X: a\n")).await;
    client.send_while_taken(stage.smuggled().as_bytes()).await;
    assert_eq!(client.read_to_end().await, "");
    stage.play(&[]).await;
}

#[tokio::test]
async fn request_names_one_host_and_one_target() {
    let stage = Stage::set().await;
    let smuggled = stage.smuggled();
    let get = |target: &str, fields: &str, behind: &str| format!("GET {target} HTTP/1.1\r\n{fields}\r\n{behind}");
    let mut attempts: Vec<Attempt> = [
        ("an absolute target", "http://localhost/nowhere"),
        ("dots", "/x/../sse"),
        ("encoded control characters", "/%00%0d%0a"),
        ("an asterisk", "*"),
    ]
    .map(|(name, target)| stays(name, &[404, 404], get(target, "Host: localhost\r\n", NEXT)))
    .into();
    attempts.extend(
        [
            ("another host in the target", "http://evil.example/nowhere", "Host: localhost\r\n"),
            ("a user in the target", "http://localhost@evil.example/nowhere", "Host: localhost\r\n"),
            ("no host beside the target", "http://localhost/nowhere", ""),
            ("a relative target", "nowhere", "Host: localhost\r\n"),
            ("two hosts", "/nowhere", "Host: localhost\r\nHost: localhost\r\n"),
            ("two different hosts", "/nowhere", "Host: localhost\r\nHost: evil.example\r\n"),
            ("an empty host", "/nowhere", "Host:\r\n"),
            ("no host", "/nowhere", ""),
            ("a list of hosts", "/nowhere", "Host: localhost, evil.example\r\n"),
            ("a port that is none", "/nowhere", "Host: localhost:99999\r\n"),
            ("a user", "/nowhere", "Host: localhost@evil.example\r\n"),
        ]
        .map(|(name, target, fields)| stays(name, &[421], get(target, fields, &smuggled))),
    );
    attempts.extend(
        [
            ("NUL", "/no\0where"),
            ("a tab", "/no\twhere"),
            ("a space", "/no where"),
            ("two spaces", " /nowhere"),
            ("bytes beyond ASCII", "/caf\u{e9}"),
        ]
        .map(|(name, target)| stays(name, REFUSED, get(target, "Host: localhost\r\n", &smuggled))),
    );
    stage.play(&attempts).await;
}

#[tokio::test]
async fn other_methods_versions_and_protocols_leave_no_second_reading() {
    let stage = Stage::set().await;
    let smuggled = stage.smuggled();
    let start = |line: &str, behind: &str| format!("{line}\r\nHost: localhost\r\n\r\n{behind}");
    let mut attempts: Vec<Attempt> = [
        ("HTTP/0.9", "GET /nowhere"),
        ("HTTP/1.2", "GET /nowhere HTTP/1.2"),
        ("HTTP/2.0", "GET /nowhere HTTP/2.0"),
        ("small letters", "GET /nowhere http/1.1"),
        ("a method that is no token", "G\"T /nowhere HTTP/1.1"),
        ("no method", " /nowhere HTTP/1.1"),
    ]
    .map(|(name, line)| stays(name, REFUSED, start(line, &smuggled)))
    .into();
    // Where a method begins so, bytes are taken for those of a body: whether a line of its head ends with LF alone is not seen.
    for (name, method) in [("a method in small letters", "get"), ("a method of signs", "!x")] {
        let fields = format!("Host: localhost\r\nContent-Length: {}\r\n", smuggled.len() + 5);
        let split = format!("X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
        attempts.push(stays(name, &[], format!("{method} /nowhere HTTP/1.1\r\n{fields}{split}")));
    }
    let upgrade = |to: &str| start(&format!("GET /nowhere HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: {to}"), NEXT);
    attempts.extend([
        stays("a long method", REFUSED, start(&format!("{} /nowhere HTTP/1.1", "A".repeat(70_000)), &smuggled)),
        stays("a tunnel", &[405], format!("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n{smuggled}")),
        // Not switched to, so what follows is HTTP/1.1, and nothing else.
        stays("an upgrade", &[404, 404], upgrade("websocket")),
        stays("an upgrade to h2c", &[404, 404], upgrade("h2c\r\nHTTP2-Settings: AAMAAABkAAQ")),
        stays("h2c at once", &[], format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0{smuggled}")),
        stays("HTTP/1.0", &[404], start("GET /nowhere HTTP/1.0", &smuggled)),
    ]);
    // A body is a body, also where nobody wanted one.
    for (name, line) in [("GET with a body", "GET /nowhere"), ("refused with a body", "POST /messages?sessionId=x")] {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", smuggled.len());
        attempts.push(stays(name, &[404, 404], format!("{head}{smuggled}{NEXT}")));
    }
    stage.play(&attempts).await;
}

/// What is passed through is framed anew too: no length, no chunk and no trailer is the client's.
#[tokio::test]
async fn what_is_passed_through_is_read_once_and_framed_anew() {
    let stage = Stage::set_with(("passthrough", "mcp")).await;
    let (path, smuggled) = (stage.mcp_path(), stage.smuggled().replacen(stage.endpoint(), &stage.mcp_path(), 1));
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    let chunked = |name: &str, behind: &str| format!("{}0\r\n\r\n{behind}", chunk(&message(name), ";a=b"));
    let served = |name: &'static str, statuses, rest: String| goes_up(name, statuses, format!("{head}{rest}"));
    let refused = |name: &'static str, rest: String| stays(name, REFUSED, format!("{head}{rest}"));
    let length = |name: &str| format!("Content-Length: {}\r\n", message(name).len());
    let attempts = [
        served("chunks", &[400, 404], format!("Transfer-Encoding: chunked\r\n\r\n{}", chunked("chunks", NEXT))),
        served(
            "a length beside chunks",
            &[400],
            format!(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                chunked("a length beside chunks", &smuggled)
            ),
        ),
        served(
            "named by Connection",
            &[400, 404],
            format!(
                "{}Connection: content-length, host\r\n\r\n{}{NEXT}",
                length("named by Connection"),
                message("named by Connection")
            ),
        ),
        served(
            "trailers",
            &[400, 404],
            format!(
                "Transfer-Encoding: chunked\r\n\r\n{}0\r\nHost: evil.example\r\nX: smuggled\r\n\r\n{NEXT}",
                chunk(&message("trailers"), "")
            ),
        ),
        refused("gzip", format!("Transfer-Encoding: gzip, chunked\r\n\r\n{}", chunked("gzip", &smuggled))),
        refused("two lengths", format!("Content-Length: 1\r\n{}\r\n{smuggled}", length("two lengths"))),
        stays("LF", &[], format!("{head}X: a\nTransfer-Encoding: chunked\r\n\r\n{}", chunked("LF", &smuggled))),
    ];
    stage.play(&attempts).await;
}
