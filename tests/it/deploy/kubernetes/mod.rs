//! What `deploy/kubernetes` and `deploy/helm` come to is what Kubernetes takes, fits together, is the same both ways, and runs.

mod meaning;
mod readme;
mod render;
mod running;
mod schema;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use meaning::{list, map, problems, text};
use render::{OVERLAYS, everything, find, name, overlay, pod, read, release, yaml};

#[test]
fn manifests_are_ones_by_the_api_of_an_old_and_a_new_version() {
    for (way, objects) in everything() {
        assert!(objects.len() >= 8, "{way}: {}", objects.len());
        for object in &objects {
            for version in schema::VERSIONS {
                let faults = schema::faults(version, object);
                assert!(faults.is_empty(), "{way}: {:?}: {faults:#?}", name(object));
            }
        }
    }
    let [old, new] = schema::VERSIONS;
    let set = find(&overlay("solo"), "StatefulSet", "sse-sunset").clone();
    for (place, value) in [
        ("/spec/template/spec/containers/0/readinesProbe", json!({})),
        ("/spec/template/spec/terminationGracePeriodSeconds", json!("45s")),
        ("/spec/serviceNames", json!("a")),
    ] {
        let mut wrong = set.clone();
        put(&mut wrong, place, value);
        assert!(!schema::faults(old, &wrong).is_empty() && !schema::faults(new, &wrong).is_empty(), "{place}");
    }
    assert!(
        !schema::faults(new, &json!({"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler"}))
            .is_empty()
    );
}

/// Puts `value` where `place` (a JSON pointer) says; null takes away what is there.
fn put(object: &mut Value, place: &str, value: Value) {
    let (parent, last) = place.rsplit_once('/').expect("a pointer");
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{place}"));
    match last.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) if value.is_null() => drop(parent.as_object_mut().expect("an object").remove(last).expect("is there")),
        Err(_) => parent[last] = value,
    }
}

#[test]
fn manifests_name_only_what_is_there() {
    for (way, objects) in everything() {
        let problems = problems(&objects);
        assert!(problems.is_empty(), "{way}: {problems:#?}");
    }
}

/// Each of these was right before, and is found.
#[test]
fn manifests_that_do_not_fit_together_are_found() {
    const SET: (&str, &str) = ("StatefulSet", "sse-sunset");
    const IN: &str = "/spec/template/spec";
    let first = |rest: &str| format!("{IN}/containers/0{rest}");
    let cases: Vec<((&str, &str), String, Value, &str)> = vec![
        (SET, "/spec/selector/matchLabels/app.kubernetes.io~1component".into(), json!("front"), "its selector"),
        (SET, "/spec/serviceName".into(), json!("sse-sunset"), "no headless Service"),
        (SET, "/spec/replicas".into(), json!(3), "set the number of replicas back"),
        (SET, format!("{IN}/serviceAccountName"), json!("default"), "no ServiceAccount"),
        (SET, format!("{IN}/terminationGracePeriodSeconds"), json!(30), "killed before"),
        (SET, format!("{IN}/enableServiceLinks"), json!(true), "service links"),
        (SET, format!("{IN}/automountServiceAccountToken"), Value::Null, "token"),
        (SET, format!("{IN}/securityContext/runAsUser"), json!(0), "root"),
        (SET, format!("{IN}/securityContext/seccompProfile/type"), json!("Unconfined"), "seccomp"),
        (SET, format!("{IN}/volumes/0/secret/secretName"), json!("keys"), "nobody makes the Secret"),
        (SET, first("/livenessProbe/httpGet/port"), json!("metrics"), "livenessProbe: no port"),
        (SET, first("/securityContext/readOnlyRootFilesystem"), json!(false), "root file system"),
        (SET, first("/securityContext/capabilities/add"), json!(["NET_RAW"]), "capabilities"),
        (SET, first("/envFrom/0/configMapRef/name"), json!("options"), "no ConfigMap options"),
        (SET, first("/volumeMounts/0/name"), json!("evidence"), "volume evidence"),
        (SET, first("/ports/1/name"), json!("metrics"), "no pod has the port"),
        (
            SET,
            first("/env/0"),
            json!({"name": "SSE_SUNSET_FLEET", "value": "redis://a:1"}),
            "\"SSE_SUNSET_FLEET\" twice",
        ),
        (SET, first("/env/0"), json!({"name": "SSE_SUNSET_LISTN", "value": "a"}), "no option SSE_SUNSET_LISTN"),
        (
            SET,
            first("/env/0"),
            json!({"name": "SSE_SUNSET_FLEET_KEY_FILE", "value": "/run/keys/a"}),
            "the Secret has no a",
        ),
        (SET, first("/env/0"), json!({"name": "SSE_SUNSET_CONFIG_FILE", "value": "/etc/a"}), "leads to no volume"),
        (
            ("ConfigMap", "sse-sunset"),
            "/data/SSE_SUNSET_FLEET".into(),
            json!("redis://sse-sunset-redi:6379"),
            "no Service",
        ),
        (("ConfigMap", "sse-sunset"), "/data/SSE_SUNSET_SSE_PATH".into(), Value::Null, "no such variable"),
        (
            ("ConfigMap", "sse-sunset"),
            "/data/SSE_SUNSET_TRUSTED_PROXY".into(),
            json!("10.0.0.0/8"),
            "can pass for any client",
        ),
        (
            ("Service", "sse-sunset-redis"),
            "/spec/ports/0/port".into(),
            json!(6380),
            "no Service sse-sunset-redis with port",
        ),
        (("Service", "sse-sunset"), "/spec/ports/0/targetPort".into(), json!("web"), "no pod has the port"),
        (("NetworkPolicy", "sse-sunset"), "/spec/ingress/1/from".into(), Value::Null, "open to everybody"),
        (
            ("NetworkPolicy", "sse-sunset"),
            "/spec/ingress/1/from/0/podSelector/matchLabels/app.kubernetes.io~1component".into(),
            json!("reports"),
            "nobody is",
        ),
        (
            ("PodDisruptionBudget", "sse-sunset"),
            "/spec/selector/matchLabels/app.kubernetes.io~1name".into(),
            json!("a"),
            "selects nothing",
        ),
        (
            ("HorizontalPodAutoscaler", "sse-sunset"),
            "/spec/scaleTargetRef/kind".into(),
            json!("Deployment"),
            "nothing to scale",
        ),
        (
            ("CronJob", "sse-sunset-report"),
            "/spec/jobTemplate/spec/template/spec/containers/0/args/2".into(),
            json!("--admin=http://sse-sunset:9090"),
            "no Service sse-sunset with port 9090",
        ),
        (
            ("CronJob", "sse-sunset-canary"),
            "/spec/jobTemplate/spec/template/spec/volumes/0/secret/items/0/key".into(),
            json!("key"),
            "the Secret has no \"key\"",
        ),
    ];
    let right = overlay("fleet");
    for ((kind, named), place, value, expected) in cases {
        let mut objects = right.clone();
        let at =
            objects.iter().position(|object| name(object) == (kind.to_owned(), named.to_owned())).expect("is there");
        put(&mut objects[at], &place, value);
        let found = problems(&objects);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{place}: {expected}: {found:#?}");
    }
}

/// An object without what only one of the two tools writes, and with its variables in order.
fn plain(mut object: Value) -> Value {
    if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
        for label in ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"] {
            labels.remove(label);
        }
    }
    // What kustomize generates has no labels.
    if object["kind"] == "ConfigMap" {
        object["metadata"].as_object_mut().expect("an object").remove("labels");
    }
    let template = match object["kind"].as_str() {
        Some("CronJob") => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    };
    if let Some(template) = object.pointer_mut(template) {
        if let Some(annotations) = template["metadata"]["annotations"].as_object_mut() {
            annotations.remove("checksum/config");
        }
        for container in template["spec"]["containers"].as_array_mut().expect("containers") {
            // By default so, where the tag is not latest.
            if container["imagePullPolicy"] == "IfNotPresent" {
                container.as_object_mut().expect("an object").remove("imagePullPolicy");
            }
            if let Some(variables) = container["env"].as_array_mut() {
                variables.sort_by_key(|variable| variable["name"].to_string());
            }
        }
    }
    object
}

fn by_name(objects: Vec<Value>) -> BTreeMap<(String, String), Value> {
    objects.into_iter().map(|object| (name(&object), plain(object))).collect()
}

#[test]
fn chart_and_overlays_come_to_the_same() {
    for size in OVERLAYS {
        let (overlay, mut chart) = (by_name(overlay(size)), by_name(release(&render::values(size))));
        assert_eq!(overlay.keys().collect::<Vec<_>>(), chart.keys().collect::<Vec<_>>(), "{size}");
        for (name, object) in &overlay {
            assert_eq!(object, &chart[name], "{size}: {name:?}");
        }
        let set = chart.get_mut(&("StatefulSet".to_owned(), "sse-sunset".to_owned())).expect("is there");
        put(set, "/spec/minReadySeconds", json!(11));
        assert_ne!(overlay, chart, "and a difference is seen");
    }
}

#[test]
fn images_are_of_this_version_and_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = yaml(&read("helm/sse-sunset/Chart.yaml"));
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
    assert!(text(&chart["kubeVersion"]).contains(schema::VERSIONS[0]), "{chart}");
    let compose: Value = yaml(&read("compose/compose.yaml"));
    for (way, objects) in everything() {
        for container in objects.iter().filter_map(pod).flat_map(|pod| list(&pod["spec"]["containers"])) {
            let expected = match text(&container["name"]) {
                "redis" => compose["services"]["redis"]["image"].clone(),
                _ => json!(format!("sse-sunset:{version}")),
            };
            assert_eq!(container["image"], expected, "{way}");
        }
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut values = render::values("solo");
    values["image"] = json!({"repository": "registry.example.com/sse-sunset", "digest": digest});
    let set = find(&release(&values), "StatefulSet", "sse-sunset").clone();
    assert_eq!(
        set["spec"]["template"]["spec"]["containers"][0]["image"],
        json!(format!("registry.example.com/sse-sunset@{digest}"))
    );
}

#[test]
fn release_of_another_name_fits_together_too() {
    let output = render::helm(&["template", "legacy"], &render::chart(), &render::values("fleet"));
    let objects = render::documents(&render::good(output));
    assert!(objects.iter().all(|object| name(object).1.starts_with("legacy-sse-sunset")), "{objects:#?}");
    let problems = problems(&objects);
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn what_prometheus_is_to_be_told_is_about_these_pods() {
    let fleet = overlay("fleet");
    let set = find(&fleet, "StatefulSet", "sse-sunset");
    let metric = &find(&fleet, "HorizontalPodAutoscaler", "sse-sunset")["spec"]["metrics"][0]["pods"]["metric"]["name"];
    let adapter: Value = yaml(&read("kubernetes/prometheus-adapter.yaml"));
    let rule = &adapter["rules"]["custom"][0];
    assert_eq!(text(&rule["seriesQuery"]).split('{').next(), metric.as_str());
    for resource in ["namespace", "pod"] {
        assert_eq!(rule["resources"]["overrides"][resource]["resource"], resource);
    }
    let monitor: Value = yaml(&read("kubernetes/podmonitor.yaml"));
    let template = &set["spec"]["template"];
    let selector = map(&monitor["spec"]["selector"]["matchLabels"]);
    assert!(!selector.is_empty());
    for (label, value) in selector {
        assert_eq!(&template["metadata"]["labels"][label], value);
    }
    let ports: Vec<&Value> = list(&template["spec"]["containers"][0]["ports"]).collect();
    let scraped = &monitor["spec"]["podMetricsEndpoints"][0];
    let port = ports.iter().find(|port| port["name"] == scraped["port"]).expect("the port");
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], port["containerPort"].to_string());
    assert_eq!(annotations["prometheus.io/path"], scraped["path"]);

    // The rules ask for a job, which is called by a label of the pods, whatever the release is called.
    let label = text(&monitor["spec"]["jobLabel"]);
    let legacy = render::helm(&["template", "legacy"], &render::chart(), &render::values("fleet"));
    let legacy = render::documents(&render::good(legacy));
    let rules = read("prometheus/rules.yml");
    let jobs: Vec<&str> = rules.split("job=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!jobs.is_empty());
    for set in [set, find(&legacy, "StatefulSet", "legacy-sse-sunset")] {
        let job = &set["spec"]["template"]["metadata"]["labels"][label];
        assert!(jobs.iter().all(|asked| job == asked), "{label}: {job}, and asked for is {jobs:?}");
    }
    // Where pods are found by their annotations, the README says how the job comes by that name.
    let relabelling: Value = yaml(&readme::block("relabel_configs"));
    let job = list(&relabelling).find(|one| one["target_label"] == "job").expect("a rule for the job");
    let known = label.replace(|one: char| !one.is_ascii_alphanumeric(), "_");
    assert_eq!(job["source_labels"], json!([format!("__meta_kubernetes_pod_label_{known}")]));
    assert_eq!(job["regex"], format!("({})", jobs[0]), "and what is in parentheses becomes the name");
    for resource in ["namespace", "pod"] {
        assert!(list(&relabelling).any(|one| one["target_label"] == resource), "{resource}, for the adapter");
    }
}

/// The alert waits for a canary for so long, and a second one comes before, as a Job makes one try.
#[test]
fn canary_comes_often_enough_for_the_alert_about_it() {
    let rules: Value = yaml(&read("prometheus/rules.yml"));
    let mut all = list(&rules["groups"]).flat_map(|group| list(&group["rules"]));
    let alert = all.find(|rule| rule["alert"] == "SseSunsetCanaryFailing").expect("the alert");
    let waits = text(&alert["expr"]).split("> ").nth(1).and_then(|rest| rest.split_once(" * 60")).expect("minutes");
    let waits: u32 = waits.0.parse().expect("a number");
    for (way, objects) in everything() {
        let canary = find(&objects, "CronJob", "sse-sunset-canary");
        let every = text(&canary["spec"]["schedule"]).strip_prefix("*/").and_then(|rest| rest.strip_suffix(" * * * *"));
        let every: u32 = every.and_then(|every| every.parse().ok()).unwrap_or_else(|| panic!("{way}: {canary}"));
        assert!(every * 3 <= waits, "{way}: every {every} minutes, and after {waits} somebody is woken");
    }
}

/// What stands in comments, for people to fill in.
#[test]
fn what_is_left_to_fill_in_fits() {
    let mut objects = overlay("solo");
    for size in OVERLAYS {
        let settings = read(&format!("kubernetes/overlays/{size}/sse-sunset.env"));
        let proposed: Vec<_> = settings.lines().filter_map(|line| line.strip_prefix("# SSE_SUNSET_")).collect();
        let [trusted] = proposed[..] else { panic!("{size}: {proposed:?}") };
        let (name, network) = trusted.split_once('=').expect("a setting");
        assert_eq!(name, "TRUSTED_PROXY", "{size}");
        let address = network.split_once('/').expect("a network").0;
        assert!(address.parse::<std::net::IpAddr>().is_ok(), "{size}: {network}");
    }
    let policy = read("kubernetes/base/networkpolicy.yaml").replace("\n      # ", "\n      ");
    let policy: Value = yaml(&policy);
    for version in schema::VERSIONS {
        assert_eq!(schema::faults(version, &policy), Vec::<String>::new());
    }
    let at = |kind: &str, objects: &[Value]| {
        objects.iter().position(|object| name(object) == (kind.to_owned(), "sse-sunset".to_owned())).expect("is there")
    };
    // With both nothing is wrong; with the one alone every pod would be believed.
    let (map, open) = (at("ConfigMap", &objects), at("NetworkPolicy", &objects));
    put(&mut objects[map], "/data/SSE_SUNSET_TRUSTED_PROXY", json!("10.244.7.0/24"));
    assert_eq!(problems(&objects).len(), 1);
    objects[open] = policy;
    assert_eq!(problems(&objects), Vec::<String>::new());
}

/// The pod that reads a volume: what the strictest namespace takes, the volume where the proxy has it, and nobody's traffic.
#[test]
fn pod_that_reads_the_evidence_fits_the_volumes() {
    let reader: Value = yaml(&read("kubernetes/evidence.yaml"));
    for version in schema::VERSIONS {
        assert_eq!(schema::faults(version, &reader), Vec::<String>::new());
    }
    let spec = &reader["spec"];
    assert_eq!(meaning::confined(spec), Vec::<String>::new());
    let fleet = overlay("fleet");
    let set = find(&fleet, "StatefulSet", "sse-sunset");
    let proxy = &set["spec"]["template"]["spec"];
    for field in ["runAsUser", "runAsGroup"] {
        assert_eq!(spec["securityContext"][field], proxy["securityContext"][field], "{field}: whose files they are");
    }
    let claim = &set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    let first = format!("{}-0", text(&set["metadata"]["name"]));
    assert_eq!(spec["volumes"][0]["persistentVolumeClaim"]["claimName"], format!("{}-{first}", text(claim)));
    let near = &spec["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    let near = &near["podAffinityTerm"]["labelSelector"]["matchLabels"];
    assert_eq!(near["statefulset.kubernetes.io/pod-name"], first);
    let mount = |container: &Value| {
        list(&container["volumeMounts"]).find(|mount| mount["name"] == *claim).expect("the volume").clone()
    };
    let (theirs, ours) = (mount(&proxy["containers"][0]), mount(&spec["containers"][0]));
    assert_eq!((&ours["mountPath"], &ours["readOnly"]), (&theirs["mountPath"], &json!(true)));
    let version = text(&spec["containers"][0]["image"]).strip_prefix("busybox:").expect("a shell, cat and tar");
    assert!(version.split('.').count() == 3 && version.starts_with(|one: char| one.is_ascii_digit()), "{version}");
    // No Service, policy or budget takes it for a proxy.
    for object in &fleet {
        for selector in ["/spec/selector", "/spec/selector/matchLabels", "/spec/podSelector/matchLabels"] {
            let means = |selector| meaning::is_meant(selector, &reader["metadata"]["labels"]);
            assert!(!object.pointer(selector).is_some_and(means), "{:?}", name(object));
        }
    }
}

/// Every command of ours that the README types into a container is one, and the files it names are there.
#[test]
fn readme_types_commands_that_the_program_has() {
    let readme = read("kubernetes/README.md");
    let mut typed = 0;
    for command in readme.split("/sse-sunset ").skip(1).filter(|rest| rest.starts_with(char::is_alphabetic)) {
        let words: Vec<&str> =
            command.split(|end: char| "`\n".contains(end)).next().expect("a line").split(' ').collect();
        let count = if words[0] == "sunset" { 2 } else { 1 };
        let output = Command::new(env!("CARGO_BIN_EXE_sse-sunset")).args(&words[..count]).arg("--help").output();
        assert!(output.expect("the program").status.success(), "{words:?}");
        typed += 1;
    }
    assert!(typed >= 5, "{typed}");
    let folder = render::root().join("deploy/kubernetes");
    for file in ["prometheus-adapter.yaml", "podmonitor.yaml", "evidence.yaml", "overlays/solo/sse-sunset.env"] {
        assert!(readme.contains(file) && fs::exists(folder.join(file)).expect("a look"), "{file}");
    }
}
