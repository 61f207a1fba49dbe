//! Clients that speak both transports, configured with the legacy URL: they end up on Streamable HTTP, whatever the server
//! speaks, and see of it what they see without the proxy.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::clients::{Transport, client};
use crate::comparison::{Conversation, Front, Verdict, upgraded};
use crate::packages::{fixtures, node};
use crate::processes::Proxy;
use crate::servers::{EVERYTHING, PYTHON_1_STATELESS, Server, TYPESCRIPT_2_REJECT};

/// Servers with sessions, without, and of the era of 2026 only.
static KINDS: [&Server; 3] = [&EVERYTHING, &PYTHON_1_STATELESS, &TYPESCRIPT_2_REJECT];

pub(crate) fn assert_upgraded(conversation: &Conversation, server: &Server) {
    let title = format!("{} with {}", conversation.client.title, server.title);
    let different: Vec<_> =
        conversation.steps.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Different { .. })).collect();
    assert!(different.is_empty(), "{title}: {different:#?}");
    let same = conversation.steps.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Same)).count();
    assert!(same >= 20, "{title}: only {same} steps could be compared: {:#?}", conversation.steps);
    let log = conversation.logs.concat();
    let named = |name: &str| log.iter().filter(|record| record["event.name"] == name).count();
    assert_eq!(named("legacy.identify"), 0, "{title}: no legacy session: {log:#?}");
    // mcp-remote tries the URL under a name of its own first.
    let mut upgrades = log.iter().filter(|record| record["event.name"] == "legacy.upgrade");
    let is_upgraded = upgrades.any(|record| record["client.family"] == conversation.client.family);
    assert!(is_upgraded, "{title}: {log:#?}");
}

#[test]
fn mcp_remote_with_the_legacy_url_ends_up_on_streamable_http() {
    for server in KINDS {
        assert_upgraded(&upgraded(Front::One, server, client("mcp-remote 0.15.1"), Transport::Sse), server);
    }
}

#[test]
fn typescript_sdk_with_the_legacy_url_has_its_whole_conversation_over_streamable_http() {
    for server in KINDS {
        assert_upgraded(
            &upgraded(Front::One, server, client("TypeScript SDK 1.32.2"), Transport::StreamableHttp),
            server,
        );
    }
}

/// What `clients/dual.mjs` came to.
pub(crate) fn dual(kind: &str, url: &str) -> Value {
    let mut command = Command::new("node");
    command.arg(fixtures().join("clients/dual.mjs")).args([kind, url]);
    let output = command.env("INTEROP_PACKAGES", node()).stdin(Stdio::null()).output().expect("a client");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind} ended with {}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn clients_that_fall_back_need_not_and_do_where_there_is_no_upgrade() {
    for server in KINDS {
        let running = server.start();
        for kind in ["typescript", "vscode"] {
            for (options, transport) in [(&[][..], "http"), (&["--no-upgrade"][..], "sse")] {
                let proxy = Proxy::start(&running.mcp_url(), options);
                let came_to = dual(kind, &proxy.sse_url());
                let title = format!("{kind} with {} {options:?}: {came_to}", server.title);
                assert_eq!(came_to["transport"], transport, "{title}");
                assert!(came_to["text"].as_str().is_some_and(|text| text.contains("both ways")), "{title}");
                let log = proxy.stop();
                let is_named = |name: &str| log.iter().any(|record| record["event.name"] == name);
                assert_eq!(is_named("legacy.upgrade"), transport == "http", "{title}");
                assert_eq!(is_named("legacy.identify"), transport == "sse", "{title}");
            }
        }
    }
}
