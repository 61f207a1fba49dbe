//! The compose files that watch: one proxy (`solo`), and what is put over three replicas (`watch.yaml`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::super::files::{REPLICAS, option_of, with_defaults};
use super::super::{keys, option, said, strings};
use super::{path, read, yaml};
use crate::binary::first_line;
use crate::support::{Behaviour, FakeUpstream, http_client, within};

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
                assert!(has(command[0], &format!("--{}", option_of(variable))), "{folder}, {name}: {variable}");
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

/// The names of the secrets that our program is told to read, by flags and by variables.
fn secrets_read(service: &Value) -> BTreeSet<&str> {
    let words = strings(&service["command"]).into_iter().filter_map(|word| word.split_once('='));
    let variables = service["environment"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
    let told = words.map(|(_, value)| value).chain(variables);
    told.filter_map(|value| value.strip_prefix("/run/secrets/")).collect()
}

#[test]
fn secrets_that_are_read_are_those_that_are_given_and_each_is_made_by_the_readme() {
    for ((folder, file), proxies) in both().iter().zip([&["sunset"][..], &REPLICAS[..]]) {
        for (name, service) in file["services"].as_object().expect("services") {
            if service["image"] == "sse-sunset" {
                let given: BTreeSet<&str> = strings(&service["secrets"]).into_iter().collect();
                assert_eq!(secrets_read(service), given, "{folder}, {name}");
            }
        }
        for proxy in proxies {
            let service = &file["services"][proxy];
            let token = &service["environment"]["SSE_SUNSET_ADMIN_TOKEN_FILE"];
            assert_eq!(token, "/run/secrets/admin-token", "{folder}: {proxy} can be told something");
        }
        let readme = read(&format!("{folder}/README.md"));
        for secret in file["secrets"].as_object().expect("secrets").values() {
            let name = secret["file"].as_str().expect("a file").trim_start_matches("./");
            assert!(readme.contains(&format!("openssl rand -hex 32 > {name}")), "{folder}: {name}");
        }
    }
}

/// A command that takes two files by `--file`, typed once without it, would take the watching away.
#[test]
fn watching_is_put_over_the_fleet_by_the_env_file_and_by_no_command() {
    let example = read("compose/.env.example");
    let files = example.lines().find_map(|line| line.strip_prefix("# COMPOSE_FILE=")).expect("a line to switch it on");
    let files: Vec<String> = files.split(':').map(|file| format!("compose/{file}")).collect();
    assert_eq!(files, [FLEET, WATCH]);
    assert!(read("compose/README.md").contains("`COMPOSE_FILE`"));
    for page in ["compose/README.md", "compose/solo/README.md", SOLO, FLEET, WATCH] {
        assert!(!read(page).contains("docker compose -"), "{page} leaves the choice of files to .env");
    }
}

#[test]
fn grafana_shows_and_lets_nobody_in() {
    for (folder, file) in both() {
        let told = &file["services"]["grafana"]["environment"];
        for (name, value) in [
            ("GF_AUTH_BASIC_ENABLED", "false"),
            ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
            ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
        ] {
            assert_eq!(told[name], value, "{folder}: {name}");
        }
    }
}

/// What a README has typed into containers: the service, and the words after our program's name.
fn typed(folder: &str) -> Vec<(String, String)> {
    let readme = read(&format!("{folder}/README.md"));
    let commands = readme.split('`').filter_map(|span| span.strip_prefix("docker compose exec "));
    let ours = commands.filter_map(|command| command.split_once(" /sse-sunset "));
    ours.map(|(service, words)| (service.to_owned(), words.to_owned())).collect()
}

#[test]
fn readmes_type_into_containers_what_those_have() {
    for (folder, file) in both() {
        let typed = typed(folder);
        for (service, words) in &typed {
            assert_eq!(file["services"][service]["image"], "sse-sunset", "{folder}: {service}");
            let words: Vec<&str> = words.split(' ').collect();
            let command = &words[..if words[0] == "sunset" { 2 } else { 1 }];
            said(&[command, &["--help"]].concat());
        }
        for action in ["pause", "resume", "set"] {
            let start = format!("sunset {action} ");
            assert!(typed.iter().any(|(_, words)| words.starts_with(&start)), "{folder}: {action}");
        }
    }
}

/// The one proxy, with the words and variables it has there; only addresses and folders are others.
#[tokio::test]
async fn one_proxy_takes_the_whole_name_and_does_what_its_readme_types() {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = yaml(SOLO);
    let service = &file["services"]["sunset"];
    for secret in strings(&service["secrets"]) {
        fs::write(folder.path().join(secret), "0f".repeat(32)).expect("written");
    }
    let place = folder.path().display().to_string();
    let here = |text: &str| {
        let changes = [
            ("/run/secrets", place.as_str()),
            ("/var/lib/sse-sunset", &place),
            ("0.0.0.0:8080", "127.0.0.1:0"),
            ("0.0.0.0:9090", "127.0.0.1:0"),
            ("http://upstream:3001/mcp", upstream.url()),
        ];
        changes.iter().fold(with_defaults(text), |text, (from, to)| text.replace(from, to))
    };
    let variables = service["environment"].as_object().expect("variables");
    let variables: BTreeMap<&String, String> =
        variables.iter().map(|(name, value)| (name, here(value.as_str().expect("a text")))).collect();
    let program = env!("CARGO_BIN_EXE_sse-sunset");
    let mut serve = Command::new(program);
    serve.args(strings(&service["command"]).into_iter().map(here)).envs(&variables).kill_on_drop(true);
    serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut serving = serve.spawn().expect("the binary");
    let line = first_line(&mut serving).await;
    let started: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));

    // A modern client, who knows nothing of any proxy.
    let params =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "new", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string();
    let url = format!("http://{}/mcp", started["listen"].as_str().expect("an address"));
    let request = http_client().post(url).header("host", "localhost:8080").header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream").body(hello);
    assert_eq!(within("an answer", request.send()).await.expect("an answer").status(), 200);

    for (_, words) in typed("compose/solo") {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("exec '{program}' {words}")).envs(&variables).stdin(Stdio::null());
        // As the variable says it in the container, where no port is chosen by the kernel.
        shell.env("SSE_SUNSET_ADMIN", started["admin"].as_str().expect("an address"));
        let output = within(&words, shell.output()).await.expect("bash");
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).expect("text");
        let is_paused = told.lines().any(|line| line.starts_with("paused "));
        assert_eq!(is_paused, words.starts_with("sunset pause "), "{words}: {told}");
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
