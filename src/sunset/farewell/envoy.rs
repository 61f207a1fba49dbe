//! Envoy: routes for a virtual host, and a cluster where Streamable HTTP goes on.
//!
//! The trap: values of headers are formats in which `%` begins a command, while the body is taken as it stands; and a body sets a
//! content type of its own, which has to be overwritten.

use std::fmt::Write as _;

use super::{Farewell, Upgrade, yaml};

pub(super) fn write(farewell: &Farewell) -> String {
    let mut place = "Where:  the routes go before all others of the virtual host that serves these paths. They answer before the router asks\n        \
                     anybody, but after HTTP filters: turn ext_authz, jwt_authn and the like off for them (typed_per_filter_config).\n"
        .to_owned();
    if farewell.upgrade.is_some() {
        place += "        The cluster goes to the clusters of static_resources.\n";
    }
    let mut text = farewell.comment(&place);
    text += "routes:\n";
    if let Some(upgrade) = &farewell.upgrade {
        route(&mut text, &farewell.stream_pattern(), "GET", true);
        text += &go_on(upgrade);
        route(&mut text, &farewell.stream_pattern(), "POST|DELETE", false);
        text += &go_on(upgrade);
    }
    let methods = if farewell.upgrade.is_some() { "GET|HEAD" } else { "GET|HEAD|POST" };
    for (pattern, methods) in [(farewell.stream_pattern(), methods), (farewell.messages_pattern(), "POST")] {
        route(&mut text, &pattern, methods, false);
        text += &gone(farewell);
    }
    if let Some(upgrade) = &farewell.upgrade {
        text += &cluster(upgrade);
    }
    text
}

/// The pseudo-header holds the query too; patterns match from end to end.
fn route(text: &mut String, pattern: &str, methods: &str, bears_session: bool) {
    let _ = write!(
        text,
        "- match:
    prefix: \"/\"
    headers:
    - name: \":method\"
      string_match: {{ safe_regex: {{ regex: {} }} }}
    - name: \":path\"
      string_match: {{ safe_regex: {{ regex: {} }} }}
",
        yaml(methods),
        yaml(pattern)
    );
    if bears_session {
        *text += "    - name: \"Mcp-Session-Id\"\n      present_match: true\n";
    }
}

fn gone(farewell: &Farewell) -> String {
    let mut text = format!(
        "  direct_response:
    status: 410
    body:
      inline_string: {}
  response_headers_to_add:
  - header: {{ key: \"Content-Type\", value: \"application/problem+json\" }}
    append_action: OVERWRITE_IF_EXISTS_OR_ADD
",
        yaml(&farewell.body())
    );
    for (name, value) in farewell.headers() {
        let _ = write!(
            text,
            "  - header: {{ key: {}, value: {} }}\n    append_action: APPEND_IF_EXISTS_OR_ADD\n",
            yaml(&name),
            yaml(&format(&value))
        );
    }
    text
}

/// Neither the whole answer nor silence has a limit: a stream ends when one of both sides ends it.
fn go_on(upgrade: &Upgrade) -> String {
    format!(
        "  route:
    cluster: sse-sunset-upgrade
    regex_rewrite:
      pattern: {{ regex: \"^[^?]*\" }}
      substitution: {}
    host_rewrite_literal: {}
    timeout: 0s
    idle_timeout: 0s
",
        yaml(&upgrade.path),
        yaml(&upgrade.authority())
    )
}

/// With the kind `LOGICAL_DNS` all addresses of the name are tried for a connection (`localhost` may be `::1` first, where
/// nobody listens); with `STRICT_DNS` each would be a server of its own.
fn cluster(upgrade: &Upgrade) -> String {
    let mut text = format!(
        "clusters:
- name: sse-sunset-upgrade
  type: LOGICAL_DNS
  dns_lookup_family: ALL
  connect_timeout: 5s
  load_assignment:
    cluster_name: sse-sunset-upgrade
    endpoints:
    - lb_endpoints:
      - endpoint:
          address:
            socket_address: {{ address: {}, port_value: {} }}
",
        yaml(upgrade.bare_host()),
        upgrade.port
    );
    if upgrade.is_tls {
        let host = yaml(upgrade.bare_host());
        let _ = write!(
            text,
            "  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: {host}
      common_tls_context:
        validation_context:
          trusted_ca: {{ filename: /etc/ssl/certs/ca-certificates.crt }}
          match_typed_subject_alt_names:
          - san_type: DNS
            matcher: {{ exact: {host} }}
"
        );
    }
    text
}

/// A format that gives `text`.
fn format(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::super::tests::farewell;
    use super::*;

    #[test]
    fn headers_are_formats_and_the_body_is_none() {
        let text = gone(&farewell(None));
        let (body, headers) = text.split_once("response_headers_to_add").expect("headers after the body");
        assert!(headers.contains("b=%%25%%20%%[path]"), "{headers}");
        assert!(body.contains("b=%25%20%[path]"), "{body}");
    }

    #[test]
    fn certificates_of_the_server_are_checked() {
        let text = write(&farewell(Some("https://mcp.internal/mcp")));
        assert!(
            text.contains("sni: \"mcp.internal\"") && text.contains("matcher: { exact: \"mcp.internal\" }"),
            "{text}"
        );
        assert!(!write(&farewell(Some("http://mcp.internal/mcp"))).contains("tls"));
    }
}
