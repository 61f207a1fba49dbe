//! What no schema says: objects name each other, and what they name has to be there. [`problems`] tells what does not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value};
use sse_sunset::config::{OPTIONS, PREFIX};

use super::render::{name, pod, read};

static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn map(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or(&NOTHING)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether an object with `labels` is meant by `selector`, which has to name something.
pub(super) fn is_meant(selector: &Value, labels: &Value) -> bool {
    !map(selector).is_empty() && map(selector).iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// The Secret of keys that README.md has people make: its name and its keys.
pub(super) fn keys() -> (String, BTreeSet<String>) {
    let readme = read("kubernetes/README.md");
    let command =
        readme.split("create secret generic ").nth(1).and_then(|rest| rest.split("```").next()).expect("a command");
    let literals = command.split("--from-literal=").skip(1);
    let keys = literals.map(|literal| literal.split('=').next().expect("a key").to_owned()).collect();
    (command.split_whitespace().next().expect("a name").to_owned(), keys)
}

/// The environment of a container as it comes to be, and what is wrong with it. What the pod alone knows is `POD`.
pub(super) fn environment(objects: &[Value], container: &Value) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut all, mut problems) = (BTreeMap::new(), Vec::new());
    for source in list(&container["envFrom"]) {
        if let Some(wanted) = source["configMapRef"]["name"].as_str() {
            let found = objects.iter().find(|object| name(object) == ("ConfigMap".to_owned(), wanted.to_owned()));
            let Some(found) = found else {
                problems.push(format!("no ConfigMap {wanted}"));
                continue;
            };
            all.extend(map(&found["data"]).iter().map(|(name, value)| (name.clone(), text(value).to_owned())));
        } else if source["secretRef"]["optional"] != true {
            problems.push(format!("nobody makes {source}"));
        }
    }
    for variable in list(&container["env"]) {
        let value = variable["value"].as_str().unwrap_or("POD").to_owned();
        if all.insert(text(&variable["name"]).to_owned(), value).is_some() {
            problems.push(format!("{} twice", variable["name"]));
        }
    }
    (all, problems)
}

/// The words of a container's command, with the variables that stand in them.
pub(super) fn words(container: &Value, environment: &BTreeMap<String, String>) -> Vec<String> {
    let expanded = |word: &Value| {
        environment.iter().fold(text(word).to_owned(), |word, (name, value)| word.replace(&format!("$({name})"), value))
    };
    list(&container["args"]).map(expanded).collect()
}

/// Everything that does not fit.
pub(super) fn problems(objects: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for object in objects {
        let (kind, named) = name(object);
        if !known.insert((kind.clone(), named.clone())) {
            problems.push(format!("{kind} {named} twice"));
        }
        let mut found = match kind.as_str() {
            "Service" => service(objects, object),
            "NetworkPolicy" => policy(objects, object),
            "PodDisruptionBudget" if pods(objects, &object["spec"]["selector"]["matchLabels"]).is_empty() => {
                vec!["selects nothing".to_owned()]
            }
            "HorizontalPodAutoscaler" => scaler(objects, object),
            _ => Vec::new(),
        };
        if pod(object).is_some() {
            found.extend(workload(objects, object));
        }
        problems.extend(found.into_iter().map(|problem| format!("{kind} {named}: {problem}")));
    }
    problems
}

/// The templates of all pods that `selector` means.
fn pods<'a>(objects: &'a [Value], selector: &Value) -> Vec<&'a Value> {
    objects.iter().filter_map(pod).filter(|pod| is_meant(selector, &pod["metadata"]["labels"])).collect()
}

fn has_port(pods: &[&Value], port: &Value) -> bool {
    let ports =
        |pod: &Value| list(&pod["spec"]["containers"]).flat_map(|it| list(&it["ports"])).cloned().collect::<Vec<_>>();
    !pods.is_empty() && pods.iter().all(|pod| ports(pod).iter().any(|known| known["name"] == *port))
}

fn service(objects: &[Value], service: &Value) -> Vec<String> {
    let behind = pods(objects, &service["spec"]["selector"]);
    let lost = list(&service["spec"]["ports"]).filter(|port| !has_port(&behind, &port["targetPort"]));
    lost.map(|port| format!("no pod has the port {}", port["targetPort"])).collect()
}

fn policy(objects: &[Value], policy: &Value) -> Vec<String> {
    let behind = pods(objects, &policy["spec"]["podSelector"]["matchLabels"]);
    let mut problems = Vec::new();
    let believed = |object: &Value| !object["data"][format!("{PREFIX}TRUSTED_PROXY")].is_null();
    for rule in list(&policy["spec"]["ingress"]) {
        let is_for_all = list(&rule["from"]).next().is_none();
        if is_for_all && list(&rule["ports"]).any(|port| port["port"] == "http") && objects.iter().any(believed) {
            problems.push("any pod of a network that is believed can pass for any client".to_owned());
        }
        let lost = list(&rule["ports"]).filter(|port| !has_port(&behind, &port["port"]));
        problems.extend(lost.map(|port| format!("no pod has the port {}", port["port"])));
        let own = list(&rule["from"]).filter(|peer| peer["namespaceSelector"].is_null());
        let nobody = own.filter(|peer| pods(objects, &peer["podSelector"]["matchLabels"]).is_empty());
        problems.extend(nobody.map(|peer| format!("nobody is {peer}")));
        let is_open = is_for_all && list(&rule["ports"]).any(|port| port["port"] != "http");
        problems.extend(is_open.then(|| "open to everybody".to_owned()));
    }
    problems
}

fn scaler(objects: &[Value], scaler: &Value) -> Vec<String> {
    let target = &scaler["spec"]["scaleTargetRef"];
    let wanted = (text(&target["kind"]).to_owned(), text(&target["name"]).to_owned());
    match objects.iter().find(|object| name(object) == wanted) {
        None => vec![format!("nothing to scale: {wanted:?}")],
        Some(target) if !target["spec"]["replicas"].is_null() => {
            vec!["each apply would set the number of replicas back".to_owned()]
        }
        Some(_) => Vec::new(),
    }
}

fn workload(objects: &[Value], object: &Value) -> Vec<String> {
    let Some(template) = pod(object) else { return Vec::new() };
    let spec = &template["spec"];
    let mut problems = confined(spec);
    let selector = &object["spec"]["selector"]["matchLabels"];
    if object["kind"] != "CronJob" && !is_meant(selector, &template["metadata"]["labels"]) {
        problems.push("its selector is not that of its pods".to_owned());
    }
    let has =
        |kind: &str, wanted: &Value| objects.iter().any(|it| it["kind"] == kind && it["metadata"]["name"] == *wanted);
    if !has("ServiceAccount", &spec["serviceAccountName"]) {
        problems.push(format!("no ServiceAccount {}", spec["serviceAccountName"]));
    }
    if object["kind"] == "StatefulSet" {
        let governs = |it: &&Value| it["kind"] == "Service" && it["metadata"]["name"] == object["spec"]["serviceName"];
        if objects.iter().find(governs).is_none_or(|service| service["spec"]["clusterIP"] != "None") {
            problems.push(format!("no headless Service {}", object["spec"]["serviceName"]));
        }
    }
    for container in list(&spec["containers"]) {
        problems.extend(mounts(object, spec, container));
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            for way in ["httpGet", "tcpSocket"] {
                let port = &container[probe][way]["port"];
                if !port.is_null() && !has_port(&[template], port) {
                    problems.push(format!("{probe}: no port {port}"));
                }
            }
        }
        if text(&container["image"]).starts_with("sse-sunset") {
            problems.extend(ours(objects, spec, container));
        }
    }
    problems
}

/// The profile "restricted" of the Pod Security Standards, a read-only root, and nothing of the API server.
pub(super) fn confined(spec: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut want = |what: &str, holds: bool| problems.extend((!holds).then(|| what.to_owned()));
    want("token", spec["automountServiceAccountToken"] == false);
    want("service links", spec["enableServiceLinks"] == false);
    let whole = &spec["securityContext"];
    want("root", whole["runAsNonRoot"] == true && whole["runAsUser"].as_u64().is_some_and(|user| user > 0));
    want("seccomp", whole["seccompProfile"]["type"] == "RuntimeDefault");
    for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        want(field, spec[field].is_null());
    }
    for container in list(&spec["containers"]) {
        let own = &container["securityContext"];
        want("escalation", own["allowPrivilegeEscalation"] == false);
        want("root file system", own["readOnlyRootFilesystem"] == true);
        want("capabilities", own["capabilities"] == serde_json::json!({"drop": ["ALL"]}));
        want("memory", container["resources"]["limits"]["memory"].is_string());
    }
    problems
}

fn mounts(object: &Value, spec: &Value, container: &Value) -> Vec<String> {
    let mounted: BTreeSet<&str> = list(&container["volumeMounts"]).map(|mount| text(&mount["name"])).collect();
    let claims = list(&object["spec"]["volumeClaimTemplates"]).map(|claim| text(&claim["metadata"]["name"]));
    let there: BTreeSet<&str> = list(&spec["volumes"]).map(|volume| text(&volume["name"])).chain(claims).collect();
    let mut problems: Vec<String> =
        mounted.symmetric_difference(&there).map(|name| format!("volume {name} is not there, or not used")).collect();
    let (secret, keys) = keys();
    for volume in list(&spec["volumes"]).filter(|volume| !volume["secret"].is_null()) {
        if volume["secret"]["secretName"] != *secret {
            problems.push(format!("nobody makes the Secret {}", volume["secret"]["secretName"]));
        }
        let strange = list(&volume["secret"]["items"]).filter(|item| !keys.contains(text(&item["key"])));
        problems.extend(strange.map(|item| format!("the Secret has no {}", item["key"])));
    }
    problems
}

fn seconds(text: Option<&String>) -> u64 {
    text.and_then(|text| text.strip_suffix('s')).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// What is asked of a container with our program.
fn ours(objects: &[Value], spec: &Value, container: &Value) -> Vec<String> {
    let (environment, mut problems) = environment(objects, container);
    let (_, keys) = keys();
    for (variable, value) in &environment {
        if !OPTIONS.iter().any(|option| option.variable() == *variable) {
            problems.push(format!("no option {variable}"));
        }
        let mounts = list(&container["volumeMounts"]).map(|mount| text(&mount["mountPath"]));
        let is_file = ["_FILE", "_DIR", "_LOG"].iter().any(|end| variable.ends_with(end));
        if is_file && !mounts.into_iter().any(|mount| value.starts_with(mount)) {
            problems.push(format!("{variable} leads to no volume: {value}"));
        }
        if let Some(key) = value.strip_prefix("/run/keys/").filter(|key| !keys.contains(*key)) {
            problems.push(format!("{variable}: the Secret has no {key}"));
        }
    }
    for word in words(container, &environment) {
        if word.contains("$(") {
            problems.push(format!("{word}: no such variable"));
        }
        problems.extend(urls(objects, word.split_once('=').map_or(&word, |(_, value)| value)));
    }
    problems.extend(
        environment.iter().filter(|(name, _)| *name == "SSE_SUNSET_FLEET").filter_map(|(_, url)| urls(objects, url)),
    );
    let drain = environment.get(&format!("{PREFIX}DRAIN"));
    if text(&container["args"][0]) == "serve" {
        let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        let needed = seconds(drain).saturating_add(sleep);
        if spec["terminationGracePeriodSeconds"].as_u64().is_none_or(|grace| grace < needed.saturating_add(5)) {
            problems.push(format!("killed before it is drained, which takes {needed} s"));
        }
        if seconds(environment.get(&format!("{PREFIX}DRAIN_DELAY"))) >= seconds(drain) {
            problems.push("nothing is left of --drain after --drain-delay".to_owned());
        }
    }
    problems
}

/// A URL that leads to something of ours leads to a Service that is there, and to a port of it.
fn urls(objects: &[Value], url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (host, port) = rest.split('/').next()?.split_once(':')?;
    let port: u64 = port.parse().ok()?;
    let has = |it: &Value| list(&it["spec"]["ports"]).any(|known| known["port"] == port);
    let is_there = objects.iter().any(|it| it["kind"] == "Service" && it["metadata"]["name"] == *host && has(it));
    (!is_there).then(|| format!("no Service {host} with port {port}"))
}
