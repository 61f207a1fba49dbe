//! Caddy: `handle` blocks for a site.
//!
//! The trap: values are searched for placeholders (`{host}`), whichever quotation they stand in; a backslash before the brace
//! prevents it. `{$` is replaced before anything is read, and nothing prevents that: see [`super::uri`]. The matcher
//! `path` takes `/SSE` for `/sse`, so paths are compared by patterns.

use std::fmt::Write as _;

use super::{Farewell, literal};

pub(super) fn write(farewell: &Farewell) -> String {
    let mut text = farewell.comment(
        "Where:  import it in the site that serves these paths (Caddy 2.6 or later). Remove handles of your own for them. Where the\n        \
         whole site demands credentials (basic_auth, forward_auth), put that into a handle of its own, or it comes first.\n",
    );
    let stream = format!("path_regexp ^{}$", literal(&farewell.stream));
    if let Some(upgrade) = &farewell.upgrade {
        let go_on = format!(
            "rewrite * {}\nreverse_proxy {} {{\n\tflush_interval -1\n\theader_up Host {{upstream_hostport}}\n}}\n",
            upgrade.path,
            upgrade.origin()
        );
        handle(&mut text, "sse-sunset-session", &["method GET", &stream, "header Mcp-Session-Id *"], &go_on);
        handle(&mut text, "sse-sunset-upgrade", &["method POST DELETE", &stream], &go_on);
    }
    let gone = gone(farewell);
    let methods = if farewell.upgrade.is_some() { "method GET HEAD" } else { "method GET HEAD POST" };
    handle(&mut text, "sse-sunset-stream", &[methods, &stream], &gone);
    let messages = literal(&farewell.messages);
    handle(&mut text, "sse-sunset-messages", &["method POST", &format!("path_regexp ^{messages}/?$")], &gone);
    let tail = ["method POST", &format!("path_regexp {messages}/?$"), "query sessionId=* session_id=*"];
    handle(&mut text, "sse-sunset-tail", &tail, &gone);
    text
}

fn handle(text: &mut String, name: &str, conditions: &[&str], actions: &str) {
    let _ = writeln!(text, "@{name} {{");
    for condition in conditions {
        let _ = writeln!(text, "\t{condition}");
    }
    let _ = writeln!(text, "}}\nhandle @{name} {{");
    for action in actions.lines() {
        let _ = writeln!(text, "\t{action}");
    }
    *text += "}\n";
}

fn gone(farewell: &Farewell) -> String {
    let mut text = "header Content-Type application/problem+json\n".to_owned();
    for (name, value) in farewell.headers() {
        // Added, because one without the sign takes the place of the one before.
        let sign = if name == "Link" { "+" } else { "" };
        let _ = writeln!(text, "header {sign}{name} {}", quote(&value));
    }
    let _ = writeln!(text, "respond {} 410", quote(&farewell.body()));
    text
}

/// A word in which Caddy finds no placeholder. Backticks cannot stand in it, and in URLs and JSON texts they need not.
fn quote(text: &str) -> String {
    format!("`{}`", text.replace('`', "%60").replace('{', "\\{").replace('}', "\\}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::farewell;
    use super::*;

    #[test]
    fn braces_are_no_placeholders() {
        assert_eq!(quote(r#"{"a":"it's {host} "}"#), r#"`\{"a":"it's \{host\} "\}`"#);
    }

    #[test]
    fn nothing_is_left_that_the_environment_could_replace() {
        let text = write(&farewell(Some("http://127.0.0.1:3001/mcp")));
        assert!(!text.contains("{$") && text.contains("%7B$HOME%7D"), "{text}");
    }

    #[test]
    fn links_are_added_and_do_not_take_each_others_place() {
        let text = gone(&farewell(None));
        assert_eq!(text.matches("header +Link ").count(), 3, "{text}");
        assert_eq!(text.matches("header Sunset ").count(), 1, "{text}");
    }
}
