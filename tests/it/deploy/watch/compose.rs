//! The compose files that watch: one proxy (`solo`), and what is put over three replicas (`watch.yaml`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::files::{REPLICAS, with_defaults};
use super::super::{keys, option, said, strings};
use super::{path, read, yaml};

/// One proxy.
const SOLO: &str = "compose/solo/compose.yaml";
/// What is put over the three replicas, and what it is put over.
const WATCH: &str = "compose/watch.yaml";
const FLEET: &str = "compose/compose.yaml";

/// Puts `over` over `under`, as compose does it with its files: maps member by member, lists one after the other, but commands
/// are replaced.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                match under.get_mut(name) {
                    Some(known) if name != "command" => merge(known, value),
                    _ => drop(under.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(under), Value::Array(over)) => under.extend(over.iter().cloned()),
        (under, over) => *under = over.clone(),
    }
}

/// The files as an operator starts them: where they stand, and what they say.
fn both() -> [(&'static str, Value); 2] {
    let mut fleet = yaml(FLEET);
    merge(&mut fleet, &yaml(WATCH));
    [("compose/solo", yaml(SOLO)), ("compose", fleet)]
}

/// The services that one depends on, by a list or with conditions.
fn needed(service: &Value) -> Vec<&str> {
    let needed = &service["depends_on"];
    strings(needed).into_iter().chain(keys(needed)).collect()
}

fn attached(service: &Value) -> Vec<&str> {
    let networks = &service["networks"];
    strings(networks).into_iter().chain(keys(networks)).collect()
}

/// What a file names and does not have, and what it has and nobody uses.
fn loose_ends(folder: &str, file: &Value) -> Vec<String> {
    let mut loose = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> = BTreeSet::new();
    for kind in ["networks", "volumes", "secrets"] {
        unused.extend(keys(&file[kind]).into_iter().map(|name| (kind, name)));
    }
    let all = unused.clone();
    for (name, service) in file["services"].as_object().expect("services") {
        let networks = attached(service).into_iter().map(|network| ("networks", network));
        let secrets = strings(&service["secrets"]).into_iter().map(|secret| ("secrets", secret));
        let (files, volumes): (Vec<_>, Vec<_>) = strings(&service["volumes"])
            .into_iter()
            .filter_map(|volume| volume.split(':').next())
            .partition(|source| source.starts_with('.'));
        for used in networks.chain(secrets).chain(volumes.into_iter().map(|volume| ("volumes", volume))) {
            unused.remove(&used);
            if !all.contains(&used) {
                loose.push(format!("{name}: {used:?}"));
            }
        }
        loose.extend(
            files.iter().filter(|file| !path(folder).join(file).is_file()).map(|file| format!("{name}: {file}")),
        );
        loose.extend(
            needed(service)
                .iter()
                .filter(|other| file["services"][**other].is_null())
                .map(|other| format!("{name}: {other}")),
        );
        let image = service["image"].as_str().unwrap_or_default();
        let version = image.split_once(':').map_or("", |(_, version)| version);
        if image != "sse-sunset" && !version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()) {
            loose.push(format!("{name}: {image} has no version"));
        }
    }
    loose.extend(unused.iter().map(|left| format!("{left:?} is not used")));
    loose
}

#[test]
fn compose_files_are_such_by_the_specification() {
    let schema: Value = serde_json::from_str(include_str!("../../../schema/compose-spec.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for file in [yaml(SOLO), yaml(WATCH)].into_iter().chain(both().map(|(_, file)| file)) {
        let wrong: Vec<String> =
            validator.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let mut broken = file;
        broken["services"]["canary"]["healthcheck"] = "none".into();
        assert!(!validator.is_valid(&broken), "the schema knows a wrong file");
    }
}

#[test]
fn compose_files_name_what_is_there_and_images_by_their_version() {
    for (folder, file) in both() {
        assert_eq!(loose_ends(folder, &file), Vec::<String>::new(), "{folder}");
        for (part, wrong) in [
            ("/services/grafana/image", "grafana/grafana:latest"),
            ("/services/canary/secrets/0", "other-key"),
            ("/services/prometheus/volumes/0", "../nowhere.yml:/etc/nowhere.yml"),
            ("/services/grafana/depends_on/0", "alertmanager"),
            ("/services/grafana/networks/0", "away"),
        ] {
            let mut broken = file.clone();
            *broken.pointer_mut(part).expect("a part") = wrong.into();
            assert!(!loose_ends(folder, &broken).is_empty(), "{part}");
        }
    }
}

#[test]
fn program_has_all_options_and_variables_that_it_is_given() {
    let has = |command: &str, flag: &str| {
        let help = said(&[command, "--help"]);
        help.lines().any(|line| line.trim_start().split(' ').next() == Some(flag))
    };
    assert!(has("serve", "--upstream") && !has("serve", "--every"));
    for (folder, file) in both() {
        for (name, service) in file["services"].as_object().expect("services") {
            if service["image"] != "sse-sunset" {
                continue;
            }
            let command = strings(&service["command"]);
            for word in &command[1..] {
                let flag = format!("--{}", option(word).0);
                assert!(has(command[0], &flag), "{folder}, {name}: {flag}");
            }
            for variable in keys(&service["environment"]) {
                let flag = variable.strip_prefix("SSE_SUNSET_").expect("one of ours").to_lowercase().replace('_', "-");
                assert!(has(command[0], &format!("--{flag}")), "{folder}, {name}: {variable}");
            }
        }
    }
}

/// The names and defaults of variables in the compose files.
fn variables(texts: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in texts {
        for rest in text.split("${").skip(1) {
            let (variable, _) = rest.split_once('}').expect("an end");
            let (name, default) = variable.split_once(":-").expect("a default");
            let known = found.insert(name.to_owned(), default.to_owned());
            assert!(known.is_none_or(|known| known == default), "{name} has one default");
        }
    }
    found
}

#[test]
fn examples_of_env_files_have_every_variable_with_its_default() {
    for (files, example) in [(vec![SOLO], "compose/solo/.env.example"), (vec![FLEET, WATCH], "compose/.env.example")] {
        let files: Vec<String> = files.into_iter().map(read).collect();
        let text = read(example);
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let lines: BTreeMap<String, String> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(lines, variables(&files), "{example}");
    }
}

#[test]
fn keys_are_kept_out_of_the_repository() {
    for (folder, file) in both() {
        let ignored = read(&format!("{folder}/.gitignore"));
        for secret in file["secrets"].as_object().expect("secrets").values() {
            let name =
                secret["file"].as_str().and_then(|file| file.strip_prefix("./")).expect("a file beside this one");
            assert!(ignored.lines().any(|line| line == name), "{folder}: {name}");
        }
        assert!(ignored.lines().any(|line| line == ".env"), "{folder}");
    }
}

#[test]
fn every_replica_is_scraped_by_its_own_name() {
    for ((folder, file), replicas) in both().iter().zip([&["sunset"][..], &REPLICAS[..]]) {
        let targets = yaml(&format!("{folder}/targets.yml"));
        let targets = strings(&targets[0]["targets"]);
        let expected: Vec<String> = replicas.iter().map(|replica| format!("{replica}:9090")).collect();
        assert_eq!(targets, expected, "{folder}");
        let watching = attached(&file["services"]["prometheus"]);
        for replica in replicas {
            let service = &file["services"][replica];
            assert_eq!(service["environment"]["SSE_SUNSET_ADMIN"], "0.0.0.0:9090", "{replica}");
            assert!(attached(service).iter().any(|network| watching.contains(network)), "{replica} can be reached");
        }
    }
}

#[test]
fn canary_comes_by_a_name_that_is_answered() {
    for ((folder, file), front) in both().iter().zip(["sunset", "nginx"]) {
        let canary = &file["services"]["canary"];
        let words: Vec<String> = strings(&canary["command"]).into_iter().map(with_defaults).collect();
        assert!(words.contains(&format!("--url=http://{front}:8080/sse")), "{folder}: {words:?}");
        assert!(needed(canary).contains(&front), "{folder}");
        let reached = attached(&file["services"][front]);
        assert!(attached(canary).iter().any(|network| reached.contains(network)), "{folder}");
    }
    let [(_, solo), (_, fleet)] = both();
    assert!(strings(&solo["services"]["sunset"]["command"]).contains(&"--allowed-host=sunset"));
    for replica in REPLICAS {
        assert_eq!(fleet["services"][replica]["environment"]["SSE_SUNSET_ALLOWED_HOST"], "nginx");
    }
}

#[test]
fn replicas_are_watched_as_one_proxy_is() {
    let [(_, solo), (_, fleet)] = both();
    for service in ["prometheus", "grafana"] {
        let one = solo["services"][service].to_string().replace("../../", "../");
        assert_eq!(one, fleet["services"][service].to_string(), "{service}");
    }
}
