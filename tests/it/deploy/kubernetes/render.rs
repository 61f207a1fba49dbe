//! What `deploy/kubernetes` and `deploy/helm` come to, as the tools of operators render them: kubectl (kustomize) and Helm, which
//! tests/run puts below target/kubernetes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

pub(super) const OVERLAYS: [&str; 2] = ["solo", "fleet"];
/// As README.md calls it; the chart's names are then those of the overlays.
pub(super) const RELEASE: &str = "sse-sunset";

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn tools() -> PathBuf {
    root().join("target/kubernetes")
}

pub(super) fn chart() -> PathBuf {
    root().join("deploy/helm/sse-sunset")
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join("deploy").join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(super) fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Every document of `text`.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn run(program: &str, words: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(tools().join("bin").join(program));
    // No cluster and no settings of whoever runs this.
    command.env_clear().env("HOME", home.path()).env("KUBECONFIG", "/nonexistent").stdin(Stdio::null());
    command.args(words).output().unwrap_or_else(|error| panic!("{program}: {error}; tests/run fetches it"))
}

/// What `output` says, where it went well.
pub(super) fn good(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What `kubectl kustomize` makes of an overlay, text as it comes.
pub(super) fn kustomize(overlay: &Path) -> Output {
    run("kubectl", &["kustomize", overlay.to_str().expect("a path")])
}

/// The objects of an overlay. The generated `ConfigMap` has the name that is written, without the hash of its content.
pub(super) fn overlay(name: &str) -> Vec<Value> {
    let text = good(kustomize(&root().join("deploy/kubernetes/overlays").join(name)));
    let map = documents(&text).into_iter().find(|object| object["kind"] == "ConfigMap").expect("a ConfigMap");
    let hashed = map["metadata"]["name"].as_str().expect("a name").to_owned();
    assert!(
        hashed.starts_with("sse-sunset-") && text.matches(&hashed).count() >= 3,
        "used by the proxy and the canary"
    );
    documents(&text.replace(&hashed, "sse-sunset"))
}

/// The settings of an overlay's `sse-sunset.env`.
pub(super) fn settings(overlay: &str) -> BTreeMap<String, String> {
    let text = read(&format!("kubernetes/overlays/{overlay}/sse-sunset.env"));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').expect("a setting")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// The same for the chart. What its own Redis is called, it knows.
pub(super) fn values(overlay: &str) -> Value {
    let mut config = Map::new();
    let mut fleet = false;
    for (name, value) in settings(overlay) {
        match name.strip_prefix("SSE_SUNSET_").expect("an option") {
            "FLEET" => fleet = true,
            name => drop(config.insert(name.to_ascii_lowercase().replace('_', "-"), value.into())),
        }
    }
    json!({"config": config, "fleet": {"enabled": fleet}})
}

/// What Helm makes of `chart` with `values`.
pub(super) fn helm(command: &[&str], chart: &Path, values: &Value) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("values.yaml");
    fs::write(&file, values.to_string()).expect("a file");
    let mut words = command.to_vec();
    words.extend([chart.to_str().expect("a path"), "--values", file.to_str().expect("a path")]);
    run("helm", &words)
}

pub(super) fn template(values: &Value) -> Output {
    helm(&["template", RELEASE], &chart(), values)
}

pub(super) fn release(values: &Value) -> Vec<Value> {
    documents(&good(template(values)))
}

/// Both ways, of both sizes.
pub(super) fn everything() -> Vec<(String, Vec<Value>)> {
    let mut all: Vec<_> = OVERLAYS.iter().map(|name| (format!("overlay {name}"), overlay(name))).collect();
    all.extend(OVERLAYS.iter().map(|name| (format!("chart, {name}"), release(&values(name)))));
    all
}

pub(super) fn name(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}

pub(super) fn find<'a>(objects: &'a [Value], kind: &str, named: &str) -> &'a Value {
    let wanted = (kind.to_owned(), named.to_owned());
    objects.iter().find(|object| name(object) == wanted).unwrap_or_else(|| panic!("no {kind} {named}"))
}

/// The template of the pods that an object makes.
pub(super) fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "StatefulSet" | "Deployment" => Some(&object["spec"]["template"]),
        "CronJob" => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        _ => None,
    }
}
