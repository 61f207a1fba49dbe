//! The blocks of commands in `deploy/kubernetes/README.md` that have a name, typed into a shell whose kubectl only writes down what it
//! is told: no cluster is here, but their words, their order and what they hand over are what they are.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::meaning::text;
use super::render::{documents, find, name, overlay, read, yaml};
use super::schema;

/// kubectl, as far as the blocks go by it: what is applied comes by standard input, and a copy is there afterwards.
const KUBECTL: &str = r#"
set -euo pipefail
kubectl() {
    printf '%s\n' "$*" >> said
    case "$*" in
        *"apply --filename -") cat >> applied; printf '\n---\n' >> applied ;;
        cp\ *) echo evidence > "${@: -1}" ;;
    esac
}
"#;

/// The block that has `name` behind its language, without the indentation of its fence.
pub(super) fn block(name: &str) -> String {
    let readme = read("kubernetes/README.md");
    let mut lines = readme.lines();
    let is_fence = |line: &&str| line.trim_start().starts_with("```") && line.ends_with(&format!(" {name}"));
    let fence = lines.find(is_fence).unwrap_or_else(|| panic!("no block {name}"));
    let indentation = fence.len() - fence.trim_start().len();
    let inside = lines.take_while(|line| line.trim() != "```");
    inside.flat_map(|line| [line.get(indentation..).unwrap_or_default(), "\n"]).collect()
}

/// What came of a block.
struct Done {
    folder: TempDir,
    /// What kubectl was told, line by line.
    said: Vec<String>,
    /// What it was given to apply.
    applied: Vec<Value>,
}

impl Done {
    /// The place of the first line that has `words` in it.
    fn at(&self, words: &str) -> usize {
        let found = self.said.iter().position(|line| line.contains(words));
        found.unwrap_or_else(|| panic!("{words}: {:#?}", self.said))
    }
}

/// Runs commands as in a copy of the folder that the README stands in.
fn typed(commands: &str) -> Done {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["kubernetes/podmonitor.yaml", "kubernetes/evidence.yaml", "prometheus/rules.yml"] {
        let copy = folder.path().join(file);
        fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        fs::write(copy, read(file)).expect("a file");
    }
    let here = folder.path().join("kubernetes");
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("{KUBECTL}{commands}")]).current_dir(&here).stdin(Stdio::null());
    let output = bash.output().expect("bash");
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    let written = |file: &str| fs::read_to_string(here.join(file)).unwrap_or_default();
    let said = written("said").lines().map(str::to_owned).collect();
    let applied = written("applied");
    let applied = if applied.is_empty() { Vec::new() } else { documents(&applied) };
    Done { folder, said, applied }
}

#[test]
fn rules_come_to_the_operator_as_they_are() {
    let done = typed(&block("rules"));
    done.at("--namespace sse-sunset apply --filename podmonitor.yaml");
    let [object] = &done.applied[..] else { panic!("{:#?}", done.applied) };
    assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(name(object), ("PrometheusRule".to_owned(), "sse-sunset".to_owned()));
    assert_eq!(object["spec"], yaml::<Value>(&read("prometheus/rules.yml")));
    assert!(!object["spec"]["groups"][0]["rules"].is_null());
}

#[test]
fn going_back_stops_the_proxy_and_what_walks_and_asks_it() {
    let done = typed(&block("back"));
    assert!(done.at("scale statefulset sse-sunset --replicas=0") < done.at("patch cronjob"));
    let objects = overlay("solo");
    for job in ["sse-sunset-canary", "sse-sunset-report"] {
        let patch = done.said[done.at(&format!("patch cronjob {job} "))].split("--patch ").nth(1).expect("a patch");
        let patch: Value = serde_json::from_str(patch).expect("JSON");
        assert_eq!(patch, json!({"spec": {"suspend": true}}));
        let mut patched = find(&objects, "CronJob", job).clone();
        patched["spec"]["suspend"] = patch["spec"]["suspend"].clone();
        for version in schema::VERSIONS {
            assert_eq!(schema::faults(version, &patched), Vec::<String>::new(), "{job}");
        }
    }
    // And so it is said of the other order what it does.
    let readme = read("kubernetes/README.md");
    let out = readme.split("\n## Out\n").nth(1).expect("the last section");
    let route = out.find("`/.well-known/*/sse` in the ingress to where they went before").expect("the route");
    assert!(route < out.find("--replicas=0").expect("the end of the proxy"));
}

#[test]
fn evidence_is_copied_from_every_volume_before_anything_is_deleted() {
    let commands = block("evidence");
    let one = "for replica in sse-sunset-0;";
    assert_eq!(commands.matches(one).count(), 1);
    // A fleet, of a release with another name.
    let replicas = ["legacy-sse-sunset-0", "legacy-sse-sunset-11"];
    let done = typed(&commands.replace(one, &format!("for replica in {};", replicas.join(" "))));
    assert!(done.at("wait --for=delete pod") < done.at("apply"), "the volumes are free by then: {:#?}", done.said);
    assert_eq!(done.applied.len(), replicas.len());
    let log = "/var/lib/sse-sunset/traffic.log";
    let objects = overlay("solo");
    let variables = &find(&objects, "StatefulSet", "sse-sunset")["spec"]["template"]["spec"]["containers"][0]["env"];
    assert!(super::list(variables).any(|it| it["name"] == "SSE_SUNSET_TRAFFIC_LOG" && it["value"] == log));
    for (replica, pod) in replicas.iter().zip(&done.applied) {
        let named = format!("evidence-{replica}");
        assert_eq!(name(pod), ("Pod".to_owned(), named.clone()));
        let claim = &pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"];
        assert_eq!(text(claim), format!("state-{replica}"));
        let ready = done.at(&format!("wait --for=condition=Ready pod/{named} "));
        let copy = done.at(&format!("{named}:{log} evidence/{replica}.log"));
        assert!(ready < copy && copy < done.at(&format!("delete pod {named}")), "{:#?}", done.said);
        assert!(done.folder.path().join(format!("kubernetes/evidence/{replica}.log")).exists());
    }
    let readme = read("kubernetes/README.md");
    let at = |words: &str| readme.find(words).unwrap_or_else(|| panic!("{words}"));
    assert!(at("--replicas=0") < at("kubectl cp") && at("kubectl cp") < at("delete --kustomize"));
    assert!(at("delete --kustomize") < at("delete persistentvolumeclaims"));
}

/// No command goes to whatever namespace happens to be the current one.
#[test]
fn commands_say_which_namespace_they_are_for() {
    let readme = read("kubernetes/README.md");
    let mut seen = 0;
    for section in readme.split("\n## ") {
        let once = section.find("kubectl config set-context --current --namespace sse-sunset").unwrap_or(usize::MAX);
        for (at, _) in section.match_indices("kubectl ") {
            let told = &section[at + "kubectl ".len()..];
            let is_free = ["--namespace sse-sunset ", "create namespace ", "label namespace ", "config "];
            let line = told.split(['\n', '`']).next().unwrap_or_default();
            assert!(at > once || is_free.iter().any(|start| told.starts_with(start)), "kubectl {line}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
