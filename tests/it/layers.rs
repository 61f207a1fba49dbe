//! The rows of the design: a module imports only from rows below its own, and each outside crate has one home.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, by row. A new module must be put here first.
const ROWS: &[(u8, &[&str])] = &[
    (10, &["main"]),
    (9, &["cli"]),
    (8, &["app"]),
    (7, &["config"]),
    (6, &["front", "admin", "probe"]),
    (5, &["session", "passthrough"]),
    (4, &["sunset", "auth"]),
    (3, &["report", "fleet"]),
    (2, &["net", "upstream", "traffic"]),
    (1, &["drain", "metrics", "systemd"]),
    (0, &["sse", "mcp", "clock"]),
];

/// Where an outside crate may be named; `app` and `config` pass on what it made.
const HOMES: &[(&str, &[&str])] = &[
    ("reqwest", &["upstream", "probe", "app", "config"]),
    ("rustls", &["net", "upstream", "probe"]),
    ("rustls_platform_verifier", &["probe", "upstream"]),
    ("tokio_rustls", &["net", "probe"]),
    ("dashmap", &["session"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli", "main"]),
    ("toml", &["config", "report"]),
    ("socket2", &["net"]),
    ("rustix", &["cli", "net", "systemd"]),
    ("listenfd", &["systemd"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("h2", &["net"]),
    ("x509_parser", &["net"]),
    ("hyper_util", &["net", "passthrough", "upstream"]),
    ("hyper_rustls", &["upstream"]),
    ("tower_service", &["upstream"]),
    ("base64", &["auth", "fleet", "front", "report", "upstream"]),
    ("redis", &["fleet"]),
    ("tracing_subscriber", &["cli"]),
    ("prometheus_client", &["metrics"]),
    ("tokio_util", &["drain"]),
    ("form_urlencoded", &["auth"]),
    ("glob", &["report"]),
    ("flate2", &["report"]),
    ("zstd", &["report"]),
    ("indicatif", &["cli"]),
];

fn sources() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.clone()];
    let mut modules: BTreeMap<String, Vec<(PathBuf, String)>> = BTreeMap::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let inside = path.strip_prefix(&src).expect("below src");
        let module = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("a source");
        // Tests stand at the end of a file and may use what they like.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        modules.entry(module).or_default().push((path, code));
    }
    modules.remove("lib");
    modules
}

fn row(module: &str) -> u8 {
    let found = ROWS.iter().find(|(_, modules)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} stands in no row; put it into ROWS")).0
}

/// The modules that `code` names after `crate::`, also inside braces.
fn imports(code: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let after = code.split("crate::").skip(1).chain(code.split("sse_sunset::").skip(1));
    after.map(name).filter(|name| !name.is_empty()).collect()
}

/// Whether `code` names the crate, and not one whose name ends like it.
fn names(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let is_whole = |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    code.match_indices(&path).any(|(at, _)| is_whole(at))
}

#[test]
fn modules_import_only_from_rows_below() {
    let mut wrong = Vec::new();
    for (module, files) in sources() {
        for (path, code) in files {
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for import in imports(line) {
                    if import != module && row(&import) >= row(&module) {
                        wrong.push(format!("{}: {module} imports {import}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn outside_crates_have_one_home() {
    let mut wrong = Vec::new();
    for (module, files) in sources() {
        for (path, code) in files {
            for (name, homes) in HOMES {
                if names(&code, name) && !homes.contains(&module.as_str()) {
                    wrong.push(format!("{}: {name} belongs to {homes:?}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
