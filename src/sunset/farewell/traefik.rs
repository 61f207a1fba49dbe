//! Traefik: a file of dynamic configuration.
//!
//! The trap: Traefik gives no answers of its own (its maintainers declined that more than once), so the status comes from a list
//! of allowed addresses that holds nobody, and the body is what that list says: `Gone`. Files are templates, in comments too:
//! two braces in a row begin an action.

use std::fmt::Write as _;

use super::{Farewell, literal};

pub(super) fn write(farewell: &Farewell) -> String {
    let place = format!(
        "Where:  a file of the file provider (Traefik 3.1 or later). Its routers go before all others; without entryPoints they hold\n        \
         for the default ones. If your other routers name a host, add && Host(`...`) to these rules.\n\
         Missing: the body. Traefik has none of its own to give, so clients get the status, the headers and the word Gone. If a\n        \
         web server of yours can serve a file, let it serve this line as /sse-gone.json, and take the # from the lines below\n        \
         that end in #body (with the address of that server):\n        {}\n",
        json(&farewell.body())
    );
    let mut text = farewell.comment(&place);
    text += "http:\n  routers:\n";
    let stream = format!("Path(`{}`)", farewell.stream);
    let answers = [
        ("sse-sunset-stream", format!("{stream} && (Method(`GET`) || Method(`HEAD`){})", post(farewell))),
        ("sse-sunset-messages", messages(farewell)),
    ];
    for (name, rule) in answers {
        let rule = yaml(&rule);
        let _ = write!(
            text,
            "    {name}:
      rule: {rule}
      priority: 100000
      middlewares: [sse-sunset]
      service: noop@internal
"
        );
    }
    if farewell.upgrade.is_some() {
        let rule = format!(
            "{stream} && (Method(`POST`) || Method(`DELETE`) || Method(`GET`) && HeaderRegexp(`Mcp-Session-Id`, `.*`))"
        );
        let _ = write!(
            text,
            "    sse-sunset-upgrade:
      rule: {}
      priority: 100001
      middlewares: [sse-sunset-upgrade]
      service: sse-sunset-upgrade
",
            yaml(&rule)
        );
    }
    text += &middlewares(farewell);
    text += &services(farewell);
    text
}

fn post(farewell: &Farewell) -> &'static str {
    if farewell.upgrade.is_some() { "" } else { " || Method(`POST`)" }
}

/// Slashes in a row are one when rules see a path, unless that was switched off.
fn messages(farewell: &Farewell) -> String {
    let path = literal(&farewell.messages);
    let session = "(QueryRegexp(`sessionId`, `.*`) || QueryRegexp(`session_id`, `.*`))";
    format!("Method(`POST`) && (PathRegexp(`^{path}/?$`) || PathRegexp(`{path}/?$`) && {session})")
}

fn middlewares(farewell: &Farewell) -> String {
    let mut text = "  middlewares:
    sse-sunset:
      chain:
        middlewares:
        - sse-sunset-headers
        #- sse-sunset-body #body
        - sse-sunset-gone
    sse-sunset-gone:
      ipAllowList:
        sourceRange: [255.255.255.255/32] # from where no request comes
        rejectStatusCode: 410
    #sse-sunset-body: #body
    #  errors: { status: [\"410\"], service: sse-sunset-body, query: /sse-gone.json } #body
    sse-sunset-headers:
      headers:
        customResponseHeaders:
          #Content-Type: application/problem+json #body
"
    .to_owned();
    // A name stands once; several values are one with commas (RFC 9110 §5.3).
    let mut joined: Vec<(String, String)> = Vec::new();
    for (name, value) in farewell.headers() {
        match joined.last_mut() {
            Some((last, values)) if *last == name => *values = format!("{values}, {value}"),
            _ => joined.push((name, value)),
        }
    }
    for (name, value) in joined {
        let _ = writeln!(text, "          {name}: {}", yaml(&value));
    }
    if let Some(upgrade) = &farewell.upgrade {
        let _ = write!(text, "    sse-sunset-upgrade:\n      replacePath: {{ path: {} }}\n", yaml(&upgrade.path));
    }
    text
}

fn services(farewell: &Farewell) -> String {
    // An entry without a value is refused, so the line that has one stands in the comment with it.
    let head = if farewell.upgrade.is_some() { "  services:\n" } else { "  #services: #body\n" };
    let mut text = format!(
        "{head}    #sse-sunset-body: #body\n    #  loadBalancer: {{ servers: [{{ url: \"http://127.0.0.1:8000\" }}] }} #body\n"
    );
    if let Some(upgrade) = &farewell.upgrade {
        let _ = write!(
            text,
            "    sse-sunset-upgrade:
      loadBalancer:
        passHostHeader: false
        responseForwarding: {{ flushInterval: \"-1\" }}
        servers:
        - url: {}
",
            yaml(&upgrade.origin())
        );
    }
    text
}

/// A scalar of YAML in which no template begins: a brace is written by its number.
fn yaml(text: &str) -> String {
    super::yaml(text).replace('{', "\\u007b").replace('}', "\\u007d")
}

/// JSON whose texts hold no brace.
fn json(body: &str) -> String {
    let Some(inner) = body.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return String::new() };
    format!("{{{}}}", inner.replace('{', "\\u007b").replace('}', "\\u007d"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::farewell;
    use super::*;

    #[test]
    fn nothing_is_left_that_a_template_could_read() {
        for upgrade in [None, Some("http://127.0.0.1:3001/mcp")] {
            let text = write(&farewell(upgrade));
            assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        }
    }

    #[test]
    fn body_in_the_comment_is_the_answers() {
        let farewell = farewell(None);
        let text = write(&farewell);
        let line = text.lines().find_map(|line| line.strip_prefix("#         {")).expect("the line");
        let value: serde_json::Value = serde_json::from_str(&format!("{{{line}")).expect("JSON");
        assert_eq!(value, farewell.notice.problem());
    }

    #[test]
    fn braces_are_written_by_their_numbers() {
        assert_eq!(yaml(r#"a"b\{{c}}'$%"#), r#""a\"b\\\u007b\u007bc\u007d\u007d'$%""#);
        assert_eq!(json(r#"{"a":"{{b}}"}"#), r#"{"a":"\u007b\u007bb\u007d\u007d"}"#);
    }

    #[test]
    fn links_are_one_header() {
        assert_eq!(middlewares(&farewell(None)).matches("Link: ").count(), 1);
    }
}
