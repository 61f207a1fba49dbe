//! `HAProxy`: rules of a frontend, and a backend where Streamable HTTP goes on.
//!
//! The trap: a rule is one line, however long, and values of headers are formats in which `%` begins a sample, while the body
//! is taken as it stands.

use std::fmt::Write as _;

use super::{Farewell, SILENCE, Upgrade};

pub(super) fn write(farewell: &Farewell) -> String {
    let mut place = "Where:  at the top of the frontend that serves these paths, before rules that demand credentials (HAProxy 2.6\n        \
                     or later). An include within a section does not exist: paste it.\n"
        .to_owned();
    if farewell.upgrade.is_some() {
        place += "        The backend section goes to the end of the file.\n";
    }
    let mut text = farewell.comment(&place);
    text += &conditions(farewell);
    let stream = if farewell.upgrade.is_some() {
        "sse-sunset-stream sse-sunset-read !sse-sunset-upgrade"
    } else {
        "sse-sunset-stream sse-sunset-read || sse-sunset-stream sse-sunset-post"
    };
    let _ = write!(
        text,
        "http-request return status 410 content-type application/problem+json string {}",
        quote(&farewell.body())
    );
    for (name, value) in farewell.headers() {
        let _ = write!(text, " hdr {name} {}", quote(&value.replace('%', "%%")));
    }
    let _ = writeln!(
        text,
        " if {stream} || sse-sunset-post sse-sunset-message || sse-sunset-post sse-sunset-tail sse-sunset-session"
    );
    if let Some(upgrade) = &farewell.upgrade {
        text += "use_backend sse-sunset-upgrade if sse-sunset-stream sse-sunset-upgrade\n\n";
        text += &backend(upgrade);
    }
    text
}

/// Conditions of one name are alternatives. Paths are compared as they came.
fn conditions(farewell: &Farewell) -> String {
    let Farewell { stream, messages, .. } = farewell;
    let mut text = format!(
        "acl sse-sunset-stream path -m str {stream}
acl sse-sunset-message path -m str {messages} {messages}/
acl sse-sunset-tail path -m end {messages} {messages}/
acl sse-sunset-session url_param(sessionId) -m found
acl sse-sunset-session url_param(session_id) -m found
acl sse-sunset-read method GET HEAD
acl sse-sunset-post method POST
"
    );
    if farewell.upgrade.is_some() {
        text += "acl sse-sunset-upgrade method POST DELETE\n";
        // Conditions cannot be nested, but a variable can hold what two of them say.
        text +=
            "http-request set-var(txn.sse_sunset) bool(true) if { method GET } { req.hdr(Mcp-Session-Id) -m found }\n";
        text += "acl sse-sunset-upgrade var(txn.sse_sunset) -m bool\n";
    }
    text
}

fn backend(upgrade: &Upgrade) -> String {
    let Upgrade { host, port, path, .. } = upgrade;
    let tls = if upgrade.is_tls {
        format!(" ssl verify required ca-file @system-ca sni str({0}) verifyhost {0}", upgrade.bare_host())
    } else {
        String::new()
    };
    format!(
        "backend sse-sunset-upgrade
  timeout connect 5s
  timeout server {SILENCE}
  option http-no-delay
  http-request set-path {path}
  http-request set-header Host {}
  server upstream {host}:{port}{tls}
",
        upgrade.authority()
    )
}

/// A word that is taken as it stands.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::farewell;
    use super::*;

    #[test]
    fn quotes_end_and_begin_again_around_one_that_is_meant() {
        assert_eq!(quote(r#"{"it's": "$HOME \ #"}"#), r#"'{"it'\''s": "$HOME \ #"}'"#);
    }

    #[test]
    fn headers_are_formats_and_the_body_is_none() {
        let text = write(&farewell(None));
        let (body, headers) = text.split_once(" hdr Cache-Control ").expect("a header after the body");
        assert!(headers.contains("b=%%25%%20%%[path]"), "{headers}");
        assert!(body.contains("b=%25%20%[path]"), "{body}");
    }

    #[test]
    fn certificates_of_the_server_are_checked() {
        let text = write(&farewell(Some("https://mcp.internal/mcp")));
        assert!(text.contains("server upstream mcp.internal:443 ssl verify required"), "{text}");
        assert!(text.contains("http-request set-header Host mcp.internal\n"), "{text}");
    }
}
