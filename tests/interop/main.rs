//! Real legacy clients against real upgraded servers, through the real binary.
//!
//! One test a server: every client holds one whole conversation with it through the proxy and one without, and where
//! the control passes the proxy must not fail (`comparison.rs` says which control, and how alike they must be). Servers
//! of the era of 2026 are spoken to directly by clients of that era, and in every older version of the protocol through
//! the proxy. What clients show their users while HTTP+SSE is switched off is in `sunset/`. One more test of each holds
//! the tables in docs/ against what was found; `UPDATE_DOCS=1` writes them. `fleet.rs` holds the same conversations with
//! replicas in the proxy's place. What the clients and servers need is
//! installed here, from the pinned lists.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that finds something missing shall panic, and its tasks end with it"
)]

mod check;
#[path = "../faults/child.rs"]
#[allow(dead_code, reason = "shared with tests/faults, which also stops, kills and measures processes")]
mod child;
mod clients;
mod comparison;
#[path = "../it/deploy/files.rs"]
#[allow(dead_code, reason = "shared with tests/it, which looks at all of it")]
mod files;
mod fleet;
#[path = "../faults/fleet/nginx.rs"]
#[allow(dead_code, reason = "shared with tests/faults, which also has it take replicas in turn")]
mod nginx;
mod oauth;
mod packages;
#[path = "../faults/port.rs"]
mod port;
mod processes;
#[path = "../it/support/redis.rs"]
#[allow(dead_code, reason = "shared with tests/it, which also has it stop, speak TLS and know users")]
mod redis;
mod rmcp_client;
mod rmcp_server;
mod servers;
mod sha256;
mod sunset;
mod table;
mod upgrade;
#[path = "../faults/wait.rs"]
mod wait;

use std::collections::BTreeSet;

use clients::{Client, VERSIONS};
use comparison::{Findings, Verdict, findings, findings_by_version};
use serde_json::Value;
use servers::{
    EVERYTHING, FASTMCP, PYTHON_1, PYTHON_1_JSON, PYTHON_1_STATELESS, PYTHON_2, PYTHON_2_BY_RESULT, PYTHON_2_STATELESS,
    RMCP, RMCP_STATELESS, SERVERS, Server, TYPESCRIPT_2, TYPESCRIPT_2_REJECT,
};

/// No client sees a difference, nothing is skipped in silence, and the log tells who it was and what it did.
fn assert_no_difference(server: &'static Server, least_steps: usize) {
    let found = findings(server);
    assert!(found.stale.is_empty(), "{} can do what its profile says it lacks: {:#?}", server.profile, found.stale);
    assert_conversations(server, found, least_steps);
}

fn assert_conversations(server: &Server, found: &Findings, least_steps: usize) {
    let mut wrong = Vec::new();
    for conversation in &found.conversations {
        let title = format!("{} ({})", conversation.client.title, conversation.version);
        for (step, verdict) in &conversation.steps {
            match verdict {
                Verdict::Different { control, proxy } => {
                    wrong.push(format!("{title}: {step}\n  control: {control}\n  proxy:   {proxy}"));
                }
                Verdict::ControlFails { .. } if server.native.is_modern() => {
                    wrong.push(format!("{title}: {step}: the server alone cannot, and its profile does not say so"));
                }
                _ => {}
            }
        }
        let same = conversation.steps.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Same)).count();
        if same < least_steps {
            let rest: Vec<_> =
                conversation.steps.iter().filter(|(_, verdict)| !matches!(verdict, Verdict::Same)).collect();
            wrong.push(format!("{title}: only {same} steps could be compared; the others: {rest:#?}"));
        }
    }
    assert!(wrong.is_empty(), "with {}:\n{}", server.profile, wrong.join("\n"));
    for conversation in &found.conversations {
        for log in &conversation.logs {
            assert_log_is_whole(log);
        }
        assert_logs_tell(&conversation.logs.concat(), conversation.client);
    }
}

fn events<'a>(log: &'a [Value], name: &str) -> Vec<&'a Value> {
    log.iter().filter(|record| record["event.name"] == name).collect()
}

fn assert_log_is_whole(log: &[Value]) {
    assert_eq!(log.first().expect("a log")["event.name"], "proxy.start");
    assert_eq!(log.last().expect("a log")["event.name"], "proxy.stop");
    let mut sequence: Vec<u64> = log.iter().filter_map(|record| record["log.seq"].as_u64()).collect();
    // Sessions that end at the same moment are written in either order.
    sequence.sort_unstable();
    assert_eq!(sequence, (0..log.len() as u64).collect::<Vec<_>>(), "log.seq has no hole");
}

/// One log, or those of replicas one after the other.
fn assert_logs_tell(log: &[Value], client: &Client) {
    let events = |name| events(log, name);
    // One session speaks; mcp-remote opens others that never say a word.
    let identified = events("legacy.identify");
    assert_eq!(identified.len(), 1, "{}: {log:#?}", client.title);
    let identify = identified[0];
    assert_eq!(identify["mcp.client.name"], client.name);
    let via = if client.family == "mcp-remote" { " via mcp-remote" } else { "" };
    assert_eq!(identify["identity"], format!("name:{}{via}", client.name));
    assert_eq!(identify["client.family"], client.family);
    // server-everything asks for the roots by itself some time after the handshake, and to answer is use too.
    let first_use = &events("legacy.use")[0]["mcp.method.name"];
    assert!(first_use == "tools/call" || first_use == "roots/list", "{first_use}");
    assert_eq!(events("legacy.connect").len(), events("legacy.end").len(), "every session ends");
    let ended = |end: &&&Value| end["legacy.session"] == identify["legacy.session"];
    let end = *events("legacy.end").iter().find(ended).expect("its end");
    assert_eq!(end["legacy.engagement"], "use");
    // That a probing client is sent back to `initialize` is none.
    assert_eq!(end["legacy.errors"], 0, "{}", client.title);
    assert_eq!(end["session.end.reason"], "client_disconnect", "{}", client.title);
    assert!(end["legacy.uses"].as_u64().expect("a count") > 50, "{end}");
    assert!(!log.iter().any(|record| record.to_string().contains("interop-token")), "no credential is logged");
}

#[test]
fn clients_see_no_difference_with_server_everything() {
    assert_no_difference(&EVERYTHING, 26);
}

#[test]
fn clients_see_no_difference_with_a_python_1_server() {
    assert_no_difference(&PYTHON_1, 29);
}

#[test]
fn clients_see_no_difference_with_a_stateless_python_1_server() {
    assert_no_difference(&PYTHON_1_STATELESS, 23);
}

#[test]
fn clients_see_no_difference_with_a_python_1_server_that_answers_with_json() {
    assert_no_difference(&PYTHON_1_JSON, 24);
}

#[test]
fn clients_see_no_difference_with_a_python_2_server() {
    assert_no_difference(&PYTHON_2, 29);
}

#[test]
fn clients_see_no_difference_with_a_fastmcp_server() {
    assert_no_difference(&FASTMCP, 29);
}

#[test]
fn clients_see_no_difference_with_an_rmcp_server() {
    assert_no_difference(&RMCP, 29);
}

#[test]
fn clients_work_with_a_typescript_2_server_that_speaks_the_era_of_2026_only() {
    assert_no_difference(&TYPESCRIPT_2_REJECT, 29);
}

#[test]
fn clients_work_with_a_typescript_2_server_that_answers_initialize_too() {
    assert_no_difference(&TYPESCRIPT_2, 29);
}

#[test]
fn clients_work_with_a_stateless_python_2_server() {
    assert_no_difference(&PYTHON_2_STATELESS, 29);
}

#[test]
fn clients_work_with_a_python_2_server_that_has_sessions_and_asks_by_results() {
    assert_no_difference(&PYTHON_2_BY_RESULT, 29);
}

#[test]
fn clients_work_with_an_rmcp_server_that_refuses_the_session_era_after_initialize() {
    assert_no_difference(&RMCP_STATELESS, 29);
}

#[test]
fn every_version_of_the_protocol_works_with_a_server_of_the_era_of_2026_only() {
    let found = findings_by_version(&TYPESCRIPT_2_REJECT);
    assert_conversations(&TYPESCRIPT_2_REJECT, found, 29);
    let by_themselves = findings(&TYPESCRIPT_2_REJECT);
    let agreed: BTreeSet<_> =
        found.conversations.iter().chain(&by_themselves.conversations).map(|one| one.version.as_str()).collect();
    assert_eq!(agreed, BTreeSet::from(VERSIONS));
}

#[test]
fn documentation_tells_what_was_found() {
    // From the other end than the tests above, so that two threads do not wait for each other's conversations.
    let mut found: Vec<_> = SERVERS.iter().rev().map(|server| (*server, findings(server))).collect();
    found.reverse();
    let table = table::render(&found, findings_by_version(&TYPESCRIPT_2_REJECT));
    std::fs::write(packages::home().join("table.md"), &table).expect("a file for the table");
    table::assert_told(table::PLACE, &table);
}
