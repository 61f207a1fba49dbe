//! nginx: rules of a `server` and two locations of their own that only these rules reach.
//!
//! The trap: a `location` by a pattern takes whole paths, for every method, from the operator's locations, and a request
//! that it does not want cannot go on to them. So the rules stand in the server, where `rewrite` is safe in an `if`. Each
//! answer is given before access is checked, as the proxy does.

use std::fmt::Write as _;

use super::{Farewell, SILENCE, Upgrade};

/// nginx has no way to write a dollar sign in a value but a variable, and only `http` can hold such a one.
const DOLLAR: &str = "geo $sse_sunset_dollar { default \"$\"; }";

pub(super) fn write(farewell: &Farewell) -> String {
    let answer = answer(farewell);
    let mut place =
        "Where:  include it in the server block that serves these paths (nginx 1.22 or later).\n".to_owned();
    if answer.contains("sse_sunset_dollar") {
        let _ =
            writeln!(place, "        A URL holds a dollar sign, for which http needs this line too:\n        {DOLLAR}");
    }
    let mut text = farewell.comment(&place);
    text += &rules(farewell);
    text += &answer;
    if let Some(upgrade) = &farewell.upgrade {
        text += &through(upgrade);
    }
    text
}

/// Who is meant: by method and path as they came, because nginx merges slashes in `$uri`.
fn rules(farewell: &Farewell) -> String {
    let (stream, messages) = (farewell.stream_pattern(), farewell.messages_pattern());
    let mut text = "set $sse_sunset \"$request_method $request_uri\";\n".to_owned();
    let mut rule = |pattern: String, to: &str| {
        let _ = writeln!(text, "if ($sse_sunset ~ \"^{pattern}$\") {{ rewrite ^ /.sse-sunset-{to} last; }}");
    };
    if farewell.upgrade.is_some() {
        rule(format!("(POST|DELETE) {stream}"), "upgrade");
    } else {
        rule(format!("POST {stream}"), "gone");
    }
    rule(format!("POST ({messages})"), "gone");
    if farewell.upgrade.is_some() {
        text += "if ($http_mcp_session_id != \"\") { set $sse_sunset \"$sse_sunset session\"; }\n";
        let _ =
            writeln!(text, "if ($sse_sunset ~ \"^GET {stream} session$\") {{ rewrite ^ /.sse-sunset-upgrade last; }}");
    }
    let _ = writeln!(
        text,
        "if ($sse_sunset ~ \"^(GET|HEAD) {stream}( session)?$\") {{ rewrite ^ /.sse-sunset-gone last; }}"
    );
    text
}

fn answer(farewell: &Farewell) -> String {
    let mut text =
        "location = /.sse-sunset-gone {\n    internal;\n    types { }\n    default_type application/problem+json;\n"
            .to_owned();
    for (name, value) in farewell.headers() {
        let _ = writeln!(text, "    add_header {name} {} always;", quote(&value));
    }
    let _ = writeln!(text, "    return 410 {};\n}}", quote(&farewell.body()));
    text
}

fn through(upgrade: &Upgrade) -> String {
    let mut text = format!(
        "location = /.sse-sunset-upgrade {{
    internal;
    proxy_pass {};
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_buffering off;
    proxy_request_buffering off;
    proxy_cache off;
    proxy_read_timeout {SILENCE};
    proxy_send_timeout {SILENCE};
    client_max_body_size 4m;
",
        upgrade.url()
    );
    if upgrade.is_tls {
        text += "    proxy_ssl_server_name on;
    proxy_ssl_verify on;
    proxy_ssl_verify_depth 4;
    proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
";
    }
    text + "}\n"
}

/// A value in which nginx finds no variable.
fn quote(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "\\'").replace('$', "${sse_sunset_dollar}");
    format!("'{text}'")
}

#[cfg(test)]
mod tests {
    use super::super::tests::farewell;
    use super::*;
    use crate::sunset::Notice;

    #[test]
    fn quotes_backslashes_and_dollars_are_no_syntax() {
        assert_eq!(quote(r#"{"a":"it's \"$host\" %"}"#), r#"'{"a":"it\'s \\"${sse_sunset_dollar}host\\" %"}'"#);
    }

    #[test]
    fn line_for_http_is_asked_for_only_where_a_dollar_needs_it() {
        assert!(write(&farewell(None)).contains(DOLLAR));
        let plain = Notice { new_url: Some("https://a/mcp".to_owned()), ..Notice::default() };
        assert!(!write(&Farewell::new("/sse", "/messages", &plain, None)).contains("dollar"));
    }

    #[test]
    fn certificates_of_the_server_are_checked() {
        assert!(write(&farewell(Some("https://mcp.internal/mcp"))).contains("proxy_ssl_verify on;"));
        assert!(!write(&farewell(Some("http://mcp.internal/mcp"))).contains("ssl"));
    }
}
