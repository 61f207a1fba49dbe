//! The files of `deploy/compose`, read as they are, and made to run on this machine: other addresses, and nothing else changed.
//!
//! Promise: whatever is to be replaced is there, once; so a file that no longer says it fails the test that uses it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The replicas, as nginx knows them.
pub(crate) const REPLICAS: [&str; 3] = ["sunset-1", "sunset-2", "sunset-3"];

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/compose")
}

pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `compose.yaml`, with what it merges in place.
pub(crate) fn compose() -> Value {
    serde_saphyr::from_str(&read("compose.yaml")).expect("YAML")
}

/// The words after the program's name in a service's command, with the defaults of variables in their place.
pub(crate) fn command(service: &str) -> Vec<String> {
    let compose = compose();
    let words = compose["services"][service]["command"].as_array().expect("a command");
    words.iter().map(|word| with_defaults(word.as_str().expect("a word"))).collect()
}

/// The variables of a service, with the defaults of those of compose in their place.
pub(crate) fn environment(service: &str) -> BTreeMap<String, String> {
    let compose = compose();
    let variables = compose["services"][service]["environment"].as_object().expect("variables");
    variables.iter().map(|(name, value)| (name.clone(), with_defaults(value.as_str().expect("a text")))).collect()
}

/// The option of ours that a variable stands for.
pub(crate) fn option_of(variable: &str) -> String {
    let name = variable.strip_prefix("SSE_SUNSET_").unwrap_or_else(|| panic!("{variable} is one of ours"));
    name.to_lowercase().replace('_', "-")
}

/// `${NAME:-default}` becomes `default`.
pub(crate) fn with_defaults(word: &str) -> String {
    let Some((before, rest)) = word.split_once("${") else { return word.to_owned() };
    let (variable, after) = rest.split_once('}').expect("an end of the variable");
    let (_, default) = variable.split_once(":-").expect("a default");
    format!("{before}{default}{}", with_defaults(after))
}

/// `nginx.conf` with other addresses, and its files in `folder`.
pub(crate) fn nginx(folder: &Path, listen: SocketAddr, replicas: [SocketAddr; 3]) -> String {
    let folder = folder.display();
    let text = read("nginx.conf");
    assert_eq!(text.matches("error_log /dev/stderr").count(), 2, "one for all, and one without session ids");
    let mut text = text.replace("/tmp/", &format!("{folder}/")).replace("error_log /dev/stderr", "error_log stderr");
    let mut changes = vec![
        ("listen 8080;".to_owned(), format!("listen {listen};")),
        ("/dev/stdout".to_owned(), format!("{folder}/access")),
    ];
    let servers = REPLICAS.iter().zip(replicas);
    changes.extend(servers.map(|(name, address)| (format!("server {name}:8080 "), format!("server {address} "))));
    for (from, to) in changes {
        assert_eq!(text.matches(&from).count(), 1, "{from} stands in nginx.conf once");
        text = text.replace(&from, &to);
    }
    text
}
