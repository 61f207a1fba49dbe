//! What watches the proxy: rules (`deploy/prometheus`), dashboard (`deploy/grafana`), and the compose files that run both.
//!
//! `rules` and `dashboard` look at the files alone, `live` puts a real Prometheus before the real program, so that a name that
//! is not in `/metrics` any more is found here and not by somebody who waits for an alert.

mod compose;
mod dashboard;
mod live;
mod promql;
mod rules;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A file below `deploy`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `text` with `to` in place of `from`, which stands in it once.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} stands in it once");
    text.replace(from, to)
}

/// A program of Debian's package prometheus, which `tests/run` unpacks.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let (usual, target) = (std::env::var("PATH").unwrap_or_default(), target.display());
    command.env("PATH", format!("{usual}:{target}/promtool:{target}/prometheus"));
    command
}

/// The rules, each with its name.
fn rules() -> Vec<(String, Value)> {
    let file = yaml("prometheus/rules.yml");
    let groups = file["groups"].as_array().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let name = |rule: &Value| rule["alert"].as_str().or_else(|| rule["record"].as_str()).expect("a name").to_owned();
    rules.map(|rule| (name(rule), rule.clone())).collect()
}
