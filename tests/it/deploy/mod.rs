//! What `deploy/compose` says is understood by those it is said to: the Compose Specification, nginx, and our own program;
//! and its files agree with each other.
//!
//! That it also works is held in tests/faults/fleet, with the same files. All else below `deploy` has modules of its own.

mod container;
#[path = "files.rs"]
mod files;
mod kubernetes;
mod logrotate;
mod routing;
mod runbook;
mod systemd;
mod watch;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use files::{REPLICAS, compose, nginx};

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn keys(map: &Value) -> BTreeSet<&str> {
    map.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// What the program prints on standard output.
fn said(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sse-sunset")).args(words).output().expect("the program");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// `--name=value`, taken apart.
fn option(word: &str) -> (&str, &str) {
    word.strip_prefix("--").and_then(|word| word.split_once('=')).unwrap_or_else(|| panic!("no option: {word}"))
}

#[test]
fn compose_file_is_one_by_the_specification() {
    let schema: Value = serde_json::from_str(include_str!("../../schema/compose-spec.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let file = compose();
    let wrong: Vec<String> =
        validator.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut broken = file;
    broken["services"]["nginx"]["portz"] = "8080".into();
    assert!(!validator.is_valid(&broken), "the schema knows a wrong file");
}

#[test]
fn compose_file_names_only_what_it_has() {
    let file = compose();
    let (services, networks, volumes) = (keys(&file["services"]), keys(&file["networks"]), keys(&file["volumes"]));
    let mut used = BTreeSet::new();
    for (name, service) in file["services"].as_object().expect("services") {
        for other in strings(&service["depends_on"]) {
            assert!(services.contains(other), "{name} depends on {other}");
        }
        let attached = if service["networks"].is_array() {
            strings(&service["networks"]).into_iter().collect()
        } else {
            keys(&service["networks"])
        };
        assert!(!attached.is_empty() && attached.is_subset(&networks), "{name}: {attached:?}");
        used.extend(attached);
        for secret in strings(&service["secrets"]) {
            assert!(keys(&file["secrets"]).contains(secret), "{name}: {secret}");
        }
        for volume in strings(&service["volumes"]).into_iter().filter(|volume| !volume.starts_with('.')) {
            let volume = volume.split(':').next().unwrap_or_default();
            assert!(volumes.contains(volume) && used.insert(volume), "{name}: {volume}, nobody else's");
        }
    }
    assert_eq!(used, networks.union(&volumes).copied().collect(), "nothing is left over");
}

#[test]
fn replicas_are_known_to_nginx_under_the_addresses_they_have() {
    let file = compose();
    let nginx = &file["services"]["nginx"];
    let mut addresses = BTreeSet::new();
    for replica in REPLICAS {
        let service = &file["services"][replica];
        assert_eq!(service["hostname"], replica);
        let address = service["networks"]["front"]["ipv4_address"].as_str().expect("an address");
        assert!(addresses.insert(address), "{address} twice");
        let host = format!("{replica}={address}");
        assert!(strings(&nginx["extra_hosts"]).contains(&host.as_str()), "{host}");
        assert!(strings(&nginx["depends_on"]).contains(&replica));
    }
    let balancer = nginx["networks"]["front"]["ipv4_address"].as_str().expect("an address");
    for word in files::command(REPLICAS[0]).iter().skip(1) {
        match option(word) {
            ("trusted-proxy", network) => assert_eq!(network, format!("{balancer}/32"), "nginx, and nobody else"),
            ("fleet-key-file", path) => {
                let secret = path.strip_prefix("/run/secrets/").expect("a secret");
                assert!(keys(&file["secrets"]).contains(secret), "{secret}");
            }
            ("state-dir", path) => {
                let volume = format!("state-1:{path}");
                assert!(strings(&file["services"][REPLICAS[0]]["volumes"]).contains(&volume.as_str()), "{volume}");
            }
            ("drain", drain) => {
                let seconds = |text: &str| text.trim_end_matches('s').parse::<u32>().expect("seconds");
                let grace = file["services"][REPLICAS[0]]["stop_grace_period"].as_str().expect("a time");
                assert!(seconds(grace) > seconds(drain), "killed before it is drained");
            }
            _ => {}
        }
    }
}

#[test]
fn replicas_are_given_options_that_the_program_has() {
    let help = said(&["serve", "--help"]);
    for replica in REPLICAS {
        let words = files::command(replica);
        assert_eq!(words[0], "serve");
        let flags = words[1..].iter().map(|word| option(word).0.to_owned());
        let variables = files::environment(replica);
        for name in flags.chain(variables.keys().map(|variable| files::option_of(variable))) {
            let flag = format!("--{name}");
            let is_it = |named: &str| named.trim_end_matches([',', ';', '.', ')']) == flag;
            assert!(
                help.lines().any(|line| line.trim_start().starts_with("--") && line.split(' ').any(is_it)),
                "{flag}"
            );
        }
    }
}

/// What neither they nor the server takes would be 404 for modern clients, once the whole name leads here.
#[test]
fn replicas_pass_on_what_nginx_hands_them() {
    let every_path = files::read("nginx.conf").lines().any(|line| line.trim() == "location / {");
    assert!(every_path, "nginx leaves nothing out");
    for replica in REPLICAS {
        let words = files::command(replica);
        assert!(words.iter().any(|word| word == "--passthrough=all"), "{replica}: {words:?}");
    }
}

#[test]
fn nginx_takes_its_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = |port| ([127, 0, 0, 1], port).into();
    let text = nginx(folder.path(), address(8080), [address(1), address(2), address(3)]);
    std::fs::write(folder.path().join("nginx.conf"), text).expect("a file");
    let mut command = Command::new("nginx");
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command.args(["-t", "-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    let output = command.output().expect("nginx");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
