//! `check` before real servers: nothing that works with real clients may fail in it.

use std::process::Command;

use serde_json::Value;

use crate::servers::{
    EVERYTHING, FASTMCP, PYTHON_1, PYTHON_1_STATELESS, PYTHON_2, PYTHON_2_STATELESS, RMCP, RMCP_STATELESS, Server,
    TYPESCRIPT_2, TYPESCRIPT_2_REJECT,
};

/// The ids that are a warning with `server`; none may be a failure.
fn warnings(server: &Server) -> Vec<String> {
    let running = server.start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    let output =
        command.args(["check", "--format", "json", "--upstream", &running.mcp_url()]).output().expect("an end");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(output.status.success(), "{}: {report:#}", server.profile);
    let findings = report["findings"].as_array().expect("findings").iter();
    let warnings = findings.filter(|finding| finding["status"] == "warning");
    warnings.map(|finding| finding["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn check_finds_nothing_that_fails_with_servers_that_work() {
    assert_eq!(warnings(&EVERYTHING), ["upstream.stale-session"], "it answers 400");
    assert_eq!(warnings(&PYTHON_1_STATELESS), ["upstream.session-id"]);
    for server in [&PYTHON_1, &PYTHON_2, &FASTMCP, &RMCP] {
        assert_eq!(warnings(server), [""; 0], "{}", server.profile);
    }
    // These keep no session either, and need none in the era that they speak.
    for server in [&TYPESCRIPT_2_REJECT, &TYPESCRIPT_2, &PYTHON_2_STATELESS, &RMCP_STATELESS] {
        assert_eq!(warnings(server), [""; 0], "{}", server.profile);
    }
}
