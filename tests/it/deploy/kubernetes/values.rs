//! The chart's values: all do something, what is none is refused, and the options are those of the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sse_sunset::config::OPTIONS;

use super::meaning::{list, map, text};
use super::render::{chart, good, helm, overlay, pod, read, release, template, values, yaml};

/// Hold credentials, so a Secret is their place.
const SECRET: [&str; 4] = ["upstream-header", "fleet", "fleet-key", "fleet-key-file"];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let to = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).expect("a copy");
        }
    }
}

#[test]
fn chart_leaves_nothing_to_its_linter() {
    for size in ["solo", "fleet"] {
        let said = good(helm(&["lint", "--strict"], &chart(), &values(size)));
        assert!(said.contains("0 chart(s) failed") && !said.contains("[WARNING]"), "{said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("sse-sunset");
    copy(&chart(), &broken);
    let path = broken.join("templates/services.yaml");
    fs::write(&path, read("helm/sse-sunset/templates/services.yaml").replace("ports:", "ports")).expect("a file");
    assert!(!helm(&["lint", "--strict"], &broken, &values("solo")).status.success(), "no YAML");
}

#[test]
fn values_that_the_chart_does_not_know_are_refused() {
    assert!(template(&values("solo")).status.success());
    for (place, value, said) in [
        ("/config/upstrem", json!("http://a/mcp"), "upstrem"),
        ("/config/upstream", json!("mcp-server:3001"), "upstream"),
        ("/config/upstream", Value::Null, "upstream"),
        ("/config/public-url", json!("https://mcp.example.com/"), "public-url"),
        // YAML takes a bare off for this.
        ("/config/passthrough", json!(false), "passthrough"),
        ("/config/no-upgrade", json!("yes"), "no-upgrade"),
        ("/config/upstream-header", json!("X-Key: secret"), "upstream-header"),
        ("/config/listen", json!("0.0.0.0:1"), "listen"),
        ("/fleet/url", json!("redis://user:password@redis"), "url"),
        ("/fleet/enabled", json!("yes"), "enabled"),
        ("/canary", json!({"shedule": "* * * * *"}), "shedule"),
        ("/drain", json!({"seconds": "25s"}), "seconds"),
        ("/drain", json!({"seconds": 5, "delaySeconds": 6}), "delaySeconds"),
        ("/replicas", json!(2), "replicas"),
    ] {
        let mut wrong = values("solo");
        super::put(&mut wrong, place, value);
        let output = template(&wrong);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaint.contains(said), "{place}: {complaint}");
    }
}

/// Another value for each that the chart has, by its path.
fn others() -> Vec<(&'static str, Value)> {
    let selector = json!([{"podSelector": {"matchLabels": {"a": "b"}}}]);
    vec![
        ("/config/sse-path", json!("/events")),
        ("/image/repository", json!("registry.example.com/a")),
        ("/image/tag", json!("9")),
        ("/image/digest", json!(format!("sha256:{}", "0".repeat(64)))),
        ("/image/pullPolicy", json!("Always")),
        ("/imagePullSecrets", json!([{"name": "a"}])),
        ("/keysSecret", json!("a")),
        ("/credentialsSecret", json!("a")),
        ("/drain/preStopSeconds", json!(0)),
        ("/drain/seconds", json!(60)),
        ("/drain/delaySeconds", json!(20)),
        ("/storage/size", json!("9Gi")),
        ("/storage/className", json!("a")),
        ("/resources/requests/cpu", json!("2")),
        ("/resources/requests/memory", json!("9Gi")),
        ("/resources/limits/memory", json!("9Gi")),
        ("/canary/enabled", json!(false)),
        ("/canary/schedule", json!("0 * * * *")),
        ("/report/enabled", json!(false)),
        ("/report/schedule", json!("0 * * * *")),
        ("/networkPolicy/enabled", json!(false)),
        ("/networkPolicy/clients", selector.clone()),
        ("/networkPolicy/prometheus", selector),
        ("/fleet/enabled", json!(false)),
        ("/fleet/url", json!("redis://redis.example.com:6379")),
        ("/fleet/minReplicas", json!(2)),
        ("/fleet/maxReplicas", json!(9)),
        ("/fleet/sessionsPerReplica", json!(1_000_000)),
        ("/fleet/redis/enabled", json!(false)),
        ("/fleet/redis/image", json!("a:1")),
        ("/extraVolumes", json!([{"name": "a", "emptyDir": {}}])),
        ("/extraVolumeMounts", json!([{"name": "a", "mountPath": "/a"}])),
        ("/podAnnotations/prometheus.io~1scrape", json!("false")),
        ("/podAnnotations/prometheus.io~1port", json!("1")),
        ("/podAnnotations/prometheus.io~1path", json!("/")),
        ("/nodeSelector", json!({"a": "b"})),
        ("/tolerations", json!([{"operator": "Exists"}])),
    ]
}

/// The paths of everything in `value` that is no filled map.
fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    if map(value).is_empty() {
        into.insert(path.to_owned());
    }
    for (name, value) in map(value) {
        leaves(value, &format!("{path}/{}", name.replace('/', "~1")), into);
    }
}

#[test]
fn values_all_change_something() {
    let mut known = BTreeSet::new();
    let defaults: Value = yaml(&read("helm/sse-sunset/values.yaml"));
    leaves(&defaults, "", &mut known);
    let changed: BTreeSet<String> = others().iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(known, changed, "each value is tried");
    // All of them, so that each can be changed alone.
    let merged = |path: &str, value: &Value| {
        let mut all = defaults.clone();
        all["config"] = values("fleet")["config"].clone();
        all["fleet"]["enabled"] = json!(true);
        if !path.is_empty() {
            super::put(&mut all, path, value.clone());
        }
        release(&all)
    };
    let before = merged("", &Value::Null);
    for (path, value) in others() {
        assert_ne!(merged(path, &value), before, "{path} changes nothing");
    }
}

#[test]
fn options_of_the_chart_are_those_of_the_program() {
    let schema: Value = serde_json::from_str(&read("helm/sse-sunset/values.schema.json")).expect("JSON");
    let config = map(&schema["properties"]["config"]["properties"]);
    let objects = overlay("solo");
    let containers = objects.iter().filter_map(pod).flat_map(|pod| list(&pod["spec"]["containers"]));
    let set_by_chart: BTreeSet<String> =
        containers.flat_map(|container| list(&container["env"])).map(|it| text(&it["name"]).to_owned()).collect();
    assert!(set_by_chart.contains("SSE_SUNSET_ADMIN"));
    let is_open = |name: &str| !SECRET.contains(&name) && name != "config";
    let theirs = OPTIONS.iter().filter(|option| is_open(option.name) && !set_by_chart.contains(&option.variable()));
    let theirs: BTreeSet<&str> = theirs.map(|option| option.name).collect();
    assert_eq!(config.keys().map(String::as_str).collect::<BTreeSet<_>>(), theirs);
    for option in OPTIONS.iter().filter(|option| theirs.contains(option.name)) {
        let kind = &config[option.name];
        assert_eq!(kind["type"] == "boolean", option.is_switch, "{}", option.name);
        assert_eq!(kind["$ref"] == "#/definitions/many", option.separator.is_some(), "{}", option.name);
    }
    for option in OPTIONS.iter().filter(|option| option.is_secret) {
        assert!(SECRET.contains(&option.name), "{} would stand in a ConfigMap", option.name);
    }
}

/// Whatever shape people give an option, the program gets it as it is typed on a command line.
#[test]
fn options_come_out_as_the_program_reads_them() {
    let mut all = values("solo");
    for (name, value) in [
        ("trusted-proxy", json!(["10.0.0.0/8", "fd00::/8"])),
        ("notify", json!(true)),
        ("max-sessions", json!(1_000_000)),
        ("upstream-http", json!(1.1)),
        ("share", json!("5%")),
        ("announce", json!("2026-12-01")),
    ] {
        all["config"][name] = value;
    }
    let objects = release(&all);
    let map = super::find(&objects, "ConfigMap", "sse-sunset");
    for (name, value) in [
        ("TRUSTED_PROXY", "10.0.0.0/8,fd00::/8"),
        ("NOTIFY", "true"),
        ("MAX_SESSIONS", "1000000"),
        ("UPSTREAM_HTTP", "1.1"),
        ("SHARE", "5%"),
        ("ANNOUNCE", "2026-12-01"),
    ] {
        assert_eq!(map["data"][format!("SSE_SUNSET_{name}")], value, "{name}");
    }
}
