//! The log of a replica is lost: the report on the others' says so, and names it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::files::REPLICAS;
use super::nginx::Choice;
use super::stage::{Replica, Stage};
use crate::proxy;
use crate::wait::{self, seconds};

/// A replica tells of a newcomer within seconds, and in any case every minute whom it knows.
const TOLD: std::time::Duration = seconds(20);

fn report(logs: &[PathBuf], format: &str) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    // The exit code is the verdict: not yet, as somebody was there just now.
    let output = command.arg("report").args(logs).args(["--format", format]).output().expect("the binary");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn in_json(logs: &[PathBuf]) -> Value {
    serde_json::from_slice(&report(logs, "json")).expect("a report in JSON")
}

fn list(list: &Value) -> &[Value] {
    list.as_array().expect("a list")
}

fn instances(report: &Value) -> BTreeSet<&str> {
    let replicas = list(&report["coverage"]["replicas"]).iter();
    replicas.map(|replica| replica["instance"].as_str().expect("a name")).collect()
}

/// What of the logs is missing: boots that others named. No log has a hole of its own.
fn missing(report: &Value) -> Vec<&str> {
    let coverage = &report["coverage"];
    assert_eq!((&coverage["missing_records"], list(&coverage["holes"]).len()), (&Value::from(0), 0), "{coverage:#}");
    list(&coverage["missing_boots"]).iter().map(|boot| boot.as_str().expect("a boot")).collect()
}

/// Sessions, uses and principals of the one client.
fn everywhere(report: &Value) -> [u64; 3] {
    let clients = list(&report["clients"]);
    assert_eq!((clients.len(), &clients[0]["name"]), (1, &Value::from("everywhere")));
    ["sessions", "uses", "principals"].map(|key| clients[0][key].as_u64().expect("a count"))
}

/// Whom a replica named so far: `INSTANCE/BOOT`.
fn named(replica: &Replica) -> BTreeSet<String> {
    let beats = proxy::records(&replica.log(), "proxy.heartbeat");
    let boots = beats.iter().flat_map(|beat| beat["fleet.boots"].as_array().into_iter().flatten());
    boots.map(|boot| boot.as_str().expect("a boot").to_owned()).collect()
}

#[test]
fn report_without_the_log_of_a_replica_names_it() {
    let mut stage = Stage::start(Choice::InTurn);
    for place in 0..3 {
        let mut visitor = stage.visitor("everywhere", place);
        (0..3).for_each(|at| visitor.call(at));
    }
    wait::until("each has named both others", TOLD, || stage.replicas.iter().all(|replica| named(replica).len() == 2));
    let boots: BTreeSet<_> = stage.replicas.iter().flat_map(named).collect();
    for replica in &mut stage.replicas {
        replica.terminate();
    }
    let logs = stage.replicas.each_ref().map(Replica::log);

    let whole = in_json(&logs);
    assert_eq!((instances(&whole), missing(&whole)), (BTreeSet::from(REPLICAS), vec![]), "{:#}", whole["coverage"]);
    // Three sessions of one client: it is known by the same pseudonym everywhere.
    assert_eq!(everywhere(&whole), [3, 9, 1]);

    for (lost, name) in REPLICAS.into_iter().enumerate() {
        let rest: Vec<_> = (0..3).filter(|place| *place != lost).map(|place| logs[place].clone()).collect();
        let its = boots.iter().find(|boot| boot.starts_with(&format!("{name}/"))).expect("it was named");
        let partial = in_json(&rest);
        assert_eq!(missing(&partial), [its.as_str()], "{:#}", partial["coverage"]);
        assert!(!instances(&partial).contains(name));
        assert_eq!(everywhere(&partial), [2, 6, 1]);
        let text = String::from_utf8(report(&rest, "text")).expect("text");
        assert!(text.contains(its), "{text}");
    }
}
