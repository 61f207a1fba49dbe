//! The files of `deploy/systemd`, installed below a folder by the commands of its README, and read from there by systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::binary::{binary, first_line, signal};
use crate::support::within;

const UNITS: [&str; 4] =
    ["sse-sunset.service", "sse-sunset.socket", "sse-sunset-canary.service", "sse-sunset-canary.timer"];

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd")
}

pub(super) fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `text` with `from` replaced, which must be there as often as is said.
pub(super) fn replaced(text: &str, from: &str, to: &str, times: usize) -> String {
    assert_eq!(text.matches(from).count(), times, "{from:?}");
    text.replace(from, to)
}

fn run(program: &str, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(program);
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = command.args(args).env("PATH", path).env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a name of a user or group stands for here, as the one of the files is not on this machine.
pub(super) fn own(flag: &str) -> String {
    String::from_utf8_lossy(&run("id", &[flag]).stdout).trim().to_owned()
}

/// The first commands of the README, with another root.
static INSTALLED: LazyLock<TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a folder");
    let readme = read("README.md");
    let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("commands");
    let mut script = replaced(block, "cargo build --release\n", "", 1);
    script = replaced(&script, "../../target/release/sse-sunset", env!("CARGO_BIN_EXE_sse-sunset"), 1);
    script = replaced(&script, "cd deploy/systemd", &format!("cd {}", folder().display()), 1);
    script =
        replaced(&script, "systemd-sysusers\n", &format!("systemd-sysusers --root={}\n", root.path().display()), 1);
    script = replaced(&script, "--owner=sse-sunset", &format!("--owner={}", own("-un")), 2);
    for absolute in ["/usr/local/", "/usr/share/", "/etc/"] {
        for before in [" ", "="] {
            script =
                script.replace(&format!("{before}{absolute}"), &format!("{before}{}{absolute}", root.path().display()));
        }
    }
    script = script.replace("\n/usr/local/", &format!("\n{}/usr/local/", root.path().display()));
    let output = run("bash", &["-euo", "pipefail", "-c", &script]);
    assert!(output.status.success(), "{script}\n{}", said(&output));
    root
});

fn root() -> &'static Path {
    INSTALLED.path()
}

/// What `systemd-analyze verify` has to say of the units, with `change` made to one of them.
fn verified(changed: &str, change: impl Fn(String) -> String) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let here = root().display();
    let paths: Vec<String> = UNITS
        .iter()
        .map(|name| {
            // It looks whether programs are there.
            let text = read(name).replace("/usr/local/", &format!("{here}/usr/local/"));
            let text = if *name == changed { change(text) } else { text };
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        })
        .collect();
    let mut args = vec!["verify", "--man=no"];
    args.extend(paths.iter().map(String::as_str));
    let output = run("systemd-analyze", &args);
    let said = said(&output);
    // It also complains of what this machine has of its own.
    let ours =
        said.lines().filter(|line| line.contains("sse-sunset") || line.contains(&*folder.path().to_string_lossy()));
    (output.status.success(), ours.collect::<Vec<_>>().join("\n"))
}

#[test]
fn units_are_ones_that_systemd_takes_without_a_word() {
    let (is_good, said) = verified("", |text| text);
    assert!(is_good && said.is_empty(), "{said}");
    for (unit, from, to, expected) in [
        ("sse-sunset.service", "WatchdogSec=", "WatchdogSecs=", "WatchdogSecs"),
        ("sse-sunset.service", "bin/sse-sunset serve", "bin/nothing serve", "nothing"),
        ("sse-sunset.service", "LimitNOFILE=65536", "LimitNOFILE=many", "many"),
        ("sse-sunset.socket", "127.0.0.1:8080", "127.0.0.1:port", "127.0.0.1:port"),
        ("sse-sunset-canary.timer", "*:0/5", "*:0/5/", "Failed to parse calendar"),
        ("sse-sunset-canary.service", "Type=oneshot", "Type=once", "once"),
    ] {
        let (is_good, said) = verified(unit, |text| text.replacen(from, to, 1));
        assert!((!is_good || !said.is_empty()) && said.contains(expected), "{from} in {unit}: {is_good}: {said}");
    }
}

#[test]
fn units_are_installed_where_systemd_looks_and_name_what_is_installed() {
    for unit in UNITS {
        let installed = fs::read_to_string(root().join("etc/systemd/system").join(unit)).expect("installed");
        assert_eq!(installed, read(unit));
        for line in installed.lines() {
            // Options of the files and pages of the manual, too.
            for word in line.split([' ', '=']).filter(|_| !line.starts_with('#')) {
                let word = word.trim_start_matches('-');
                if word.starts_with("/usr/local/") || word.starts_with("/etc/") && !word.ends_with("secrets.env") {
                    assert!(root().join(&word[1..]).exists(), "{unit}: {word}");
                } else if let Some(page) = word.strip_prefix("man:").and_then(|page| page.strip_suffix("(1)")) {
                    assert!(root().join(format!("usr/local/share/man/man1/{page}.1")).exists(), "{unit}: {word}");
                }
            }
        }
    }
    let service = read("sse-sunset.service");
    for folder in ["LogsDirectory", "StateDirectory"] {
        assert!(service.contains(&format!("\n{folder}=sse-sunset\n")), "{folder}");
    }
}

#[test]
fn service_is_tried_again_as_long_as_it_fails_but_not_with_a_wrong_configuration() {
    let service = read("sse-sunset.service");
    let (unit, rest) = service.split_once("\n[Service]\n").expect("two parts");
    // In the other part it would be no more than a warning.
    assert!(unit.lines().any(|line| line == "StartLimitIntervalSec=0"), "five failures end it for good");
    for line in ["Restart=on-failure", "RestartPreventExitStatus=2"] {
        assert!(rest.lines().any(|other| other == line), "{line}");
    }
}

#[test]
fn secrets_are_read_by_the_service_and_by_nobody_else() {
    for secret in ["probe.key", "admin.token"] {
        let path = root().join("etc/sse-sunset").join(secret);
        let mode = fs::metadata(&path).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
        let command = format!("install --mode=600 --owner=sse-sunset /dev/stdin /etc/sse-sunset/{secret}\n");
        assert!(read("README.md").contains(&command), "{secret}");
        assert!(read("sse-sunset.toml").contains(&format!("\"/etc/sse-sunset/{secret}\"")), "{secret}");
    }
    let secret = |name: &str| fs::read(root().join("etc/sse-sunset").join(name)).expect("made");
    assert_ne!(secret("probe.key"), secret("admin.token"));
}

#[test]
fn services_leave_an_attacker_little() {
    for unit in ["sse-sunset.service", "sse-sunset-canary.service"] {
        let path = root().join("etc/systemd/system").join(unit).display().to_string();
        let exposure = |path: &str| run("systemd-analyze", &["security", "--offline=yes", "--threshold=12", path]);
        let output = exposure(&path);
        assert!(output.status.success(), "{}", said(&output));
        let folder = tempfile::tempdir().expect("a folder");
        let weak = folder.path().join(unit);
        fs::write(&weak, read(unit).replace("CapabilityBoundingSet=\n", "")).expect("written");
        assert!(!exposure(&weak.display().to_string()).status.success(), "{unit} with all capabilities");
    }
}

#[test]
fn system_calls_that_are_withheld_are_none_that_the_program_asks_for_at_its_start() {
    // It switches core files off by one of those that belong to @resources in some versions.
    let output = run("systemd-analyze", &["syscall-filter", "@resources", "@privileged"]);
    let withheld = said(&output);
    assert!(output.status.success() && withheld.contains("setrlimit"), "{withheld}");
    assert!(!withheld.lines().any(|line| line.trim() == "prlimit64"), "{withheld}");
}

#[test]
fn user_of_the_units_is_made() {
    // It was made by the commands of the README.
    let users = fs::read_to_string(root().join("etc/passwd")).expect("users");
    let line = users.lines().find(|line| line.starts_with("sse-sunset:")).expect("the user");
    assert!(line.contains(":/var/lib/sse-sunset:") && line.ends_with("/nologin"), "{line}");
    for unit in ["sse-sunset.service", "sse-sunset-canary.service"] {
        assert!(read(unit).contains("\nUser=sse-sunset\nGroup=sse-sunset\n"), "{unit}");
    }
    let broken = tempfile::tempdir().expect("a folder");
    let folder = broken.path().join("etc/sysusers.d");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("a.conf"), read("sse-sunset.sysusers").replace("u sse-sunset", "user sse-sunset"))
        .expect("a file");
    let said = said(&run("systemd-sysusers", &[&format!("--root={}", broken.path().display())]));
    assert!(said.contains("a.conf:2") && !broken.path().join("etc/passwd").exists(), "{said}");
}

#[test]
fn readme_names_units_and_files_that_there_are() {
    let readme = read("README.md");
    for entry in fs::read_dir(folder()).expect("a folder") {
        let name = entry.expect("a file").file_name().into_string().expect("a plain name");
        assert!(name == "README.md" || readme.contains(&name), "{name}");
    }
    for word in readme.split([' ', '\n', '`', ',', ';', '|', '/', '\'']).filter(|word| word.starts_with("sse-sunset")) {
        let is_unit = [".service", ".socket", ".timer", ".toml"].iter().any(|end| word.ends_with(end));
        assert!(!is_unit || folder().join(word).exists(), "{word}");
    }
}

/// `sse-sunset.toml` with folders and addresses of this test.
fn options(folder: &Path) -> String {
    let here = folder.display();
    let mut text = read("sse-sunset.toml");
    for (from, to) in [
        ("\"127.0.0.1:9090\"", "\"127.0.0.1:0\"".to_owned()),
        ("\"/var/log/sse-sunset/traffic.log\"", format!("\"{here}/traffic.log\"")),
        ("\"/var/lib/sse-sunset\"", format!("\"{here}/state\"")),
        ("\"/etc/sse-sunset/probe.key\"", format!("\"{}\"", root().join("etc/sse-sunset/probe.key").display())),
        ("\"/etc/sse-sunset/admin.token\"", format!("\"{}\"", root().join("etc/sse-sunset/admin.token").display())),
        ("drain-delay = \"5s\"", "drain-delay = \"0s\"".to_owned()),
    ] {
        text = replaced(&text, from, &to, 1);
    }
    text
}

/// Starts `serve` with this file; its first line.
async fn start(folder: &Path, text: &str) -> (Child, Result<Value, String>) {
    let path = folder.join("sse-sunset.toml");
    fs::write(&path, text).expect("written");
    let mut command: Command = binary();
    command.env_remove("SSE_SUNSET_ADMIN").args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&path);
    let mut child = command.stdout(Stdio::null()).spawn().expect("the binary");
    let line = first_line(&mut child).await;
    (child, serde_json::from_str(&line).map_err(|_| line))
}

/// Starts `serve` with this file and ends it; its first line.
async fn served_with(folder: &Path, text: &str) -> Result<Value, String> {
    let (mut child, said) = start(folder, text).await;
    if said.is_ok() {
        signal(&child, "TERM").await;
    }
    assert_eq!(within("the end", child.wait()).await.expect("a status").success(), said.is_ok());
    said
}

#[tokio::test]
async fn options_file_is_one_that_serve_takes_also_where_it_only_suggests() {
    let folder = tempfile::tempdir().expect("a folder");
    let as_it_is = options(folder.path());
    let said = served_with(folder.path(), &as_it_is).await.expect("taken");
    assert_eq!(said["state_dir"], folder.path().join("state").display().to_string());
    assert_eq!(said["sse_url"].as_str().map(|url| url.starts_with("http://127.0.0.1:")), Some(true));
    let mut suggestions = 0;
    let all: Vec<String> = as_it_is
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(suggestion) if suggestion.contains(" = ") => {
                suggestions += 1;
                suggestion.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    assert!(suggestions >= 3);
    let said = served_with(folder.path(), &all.join("\n")).await.expect("taken");
    assert_eq!(said["sse_url"], "https://mcp.example.com/sse");
    let wrong = served_with(folder.path(), &as_it_is.replace("upstream =", "upstreem =")).await.expect_err("not taken");
    assert!(wrong.contains("upstreem") || wrong.contains("--upstream"), "{wrong}");
}

/// What the README has an operator type into a proxy that runs. Phases need `new-url`, which the file suggests.
#[tokio::test]
async fn phases_are_changed_by_what_the_readme_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = replaced(&options(folder.path()), "# new-url = ", "new-url = ", 1);
    let (mut child, started) = start(folder.path(), &text).await;
    let started = started.expect("taken");
    let program = Path::new(env!("CARGO_BIN_EXE_sse-sunset")).parent().expect("a folder").display().to_string();
    let usual = std::env::var("PATH").unwrap_or_default();
    let readme = read("README.md");
    let mut typed = Vec::new();
    for command in readme.split('`').filter(|span| span.starts_with("sse-sunset sunset ")) {
        let here = replaced(command, " /etc/", &format!(" {}/etc/", root().display()), 1);
        let mut shell = Command::new("bash");
        shell.args(["-c", &here]).env("PATH", format!("{program}:{usual}")).stdin(Stdio::null());
        shell.env("SSE_SUNSET_ADMIN", started["admin"].as_str().expect("an address"));
        let output = within(command, shell.output()).await.expect("bash");
        let told = said(&output);
        assert!(output.status.success(), "{command}: {told}");
        let action = command.split(' ').nth(2).expect("an action");
        assert_eq!(told.lines().any(|line| line.starts_with("paused ")), action == "pause", "{command}: {told}");
        typed.push(action);
    }
    assert_eq!(typed, ["pause", "resume", "set"]);
    signal(&child, "TERM").await;
    assert!(within("the end", child.wait()).await.expect("a status").success());
}

#[test]
fn times_of_the_units_leave_room_for_those_of_the_program() {
    let seconds = |text: &str, key: &str| -> u64 {
        let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key}"));
        value.trim_matches(['"', 's']).parse().unwrap_or_else(|_| panic!("{key}{value}"))
    };
    let (service, canary, file) =
        (read("sse-sunset.service"), read("sse-sunset-canary.service"), read("sse-sunset.toml"));
    assert!(seconds(&service, "TimeoutStopSec=") >= seconds(&file, "drain = ") + 30, "killed before its last words");
    let help = said(&run(env!("CARGO_BIN_EXE_sse-sunset"), &["canary", "--help"]));
    assert!(help.contains("[default: 15s]") && seconds(&canary, "TimeoutStartSec=") > 15, "{help}");
    // Two descriptors a session, one that waits for its client another.
    let sessions = sse_sunset::config::OPTIONS.iter().find(|option| option.name == "max-sessions").expect("an option");
    let sessions: u64 = sessions.default.expect("a default").parse().expect("a number");
    assert!(seconds(&service, "LimitNOFILE=") >= 3 * sessions);
}
