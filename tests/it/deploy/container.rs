//! The image of `deploy/container`: its Dockerfile, and the program in a root that holds what the image holds and no more.
//!
//! There is no container engine here. The root has the three libraries that the program may need and their loader, of those that distroless's
//! cc-debian12 has; it is read-only and belongs to somebody else. So a further library, a shell or a folder to write to that creeps
//! in fails here and not at the first start in a cluster.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::said;
use crate::binary::first_line;
use crate::support::port::Port;
use crate::support::tls::Authority;
use crate::support::{Behaviour, FakeUpstream, within};

/// What the image runs as.
const USER: &str = "65532";
const LIBRARIES: [&str; 3] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/container").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn image_is_checked_by_a_command_that_the_program_has_and_is_not_root() {
    let file = read("Dockerfile");
    let last = file.rsplit("\nFROM ").next().expect("a stage");
    let words = |instruction: &str| -> Vec<String> {
        let line =
            last.lines().find_map(|line| line.strip_prefix(instruction)).unwrap_or_else(|| panic!("{instruction}"));
        let words = &line[line.find('[').expect("a list")..];
        serde_json::from_str(words).expect("a list of words")
    };
    let (entry, check, default) = (words("ENTRYPOINT "), words("HEALTHCHECK "), words("CMD "));
    assert_eq!(check[..1], entry, "the same program");
    for command in [&check[1..], &default] {
        said(&[&command[0], "--help"]);
    }
    assert!(last.lines().any(|line| line == format!("USER {USER}:{USER}")), "{last}");
    assert!(last.lines().any(|line| line == "STOPSIGNAL SIGTERM"), "{last}");
    let compose = super::compose();
    let build = &compose["services"][super::REPLICAS[0]]["build"];
    assert_eq!(build["dockerfile"], "deploy/container/Dockerfile");
}

/// What both stages stand on: exact versions of the same Debian, with what the crates are built with.
#[test]
fn image_stands_on_what_is_named_and_holds_what_the_build_needs() {
    let file = read("Dockerfile");
    let argument = |name: &str| {
        let line = file.lines().find_map(|line| line.strip_prefix(&format!("ARG {name}=")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let (build, base) = (argument("BUILD"), argument("BASE"));
    let version = build.strip_prefix("rust:").and_then(|tag| tag.split('-').next()).expect("a version");
    assert_eq!(version.split('.').count(), 3, "{build}");
    assert!(build.ends_with("-bookworm") && base.contains("cc-debian12"), "one Debian");
    // What is built by make is not built in a slim image, which has a compiler and no make.
    let lock: toml::Table = include_str!("../../../Cargo.lock").parse().expect("TOML");
    let crates = lock["package"].as_array().expect("crates");
    let needs_make = crates.iter().any(|it| it["name"].as_str() == Some("tikv-jemalloc-sys"));
    assert!(!needs_make || !build.contains("slim"), "{build}");
    let stages: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(stages, ["${BUILD} AS build", "${BASE}"]);
    assert!(read("README.md").contains(&build) && read("README.md").contains(&base), "README.md names both");
    assert!(!read("Dockerfile.dockerignore").lines().any(|line| line == "src" || line == "Cargo.lock"));
}

/// hadolint, which tests/run puts below target/kubernetes.
#[test]
fn dockerfile_leaves_nothing_to_its_linter() {
    let linter = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes/bin/hadolint");
    let lint = |text: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("Dockerfile");
        fs::write(&path, text).expect("a file");
        let output = std::process::Command::new(&linter)
            .args(["--no-color", "--failure-threshold", "style"])
            .arg(&path)
            .output();
        let output = output.unwrap_or_else(|error| panic!("hadolint: {error}; tests/run fetches it"));
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let file = read("Dockerfile");
    let (is_good, said) = lint(&file);
    assert!(is_good, "{said}");
    for (from, to, rule) in [
        ("WORKDIR /source", "WORKDIR source", "DL3000"),
        ("CMD [\"serve\"]", "CMD serve", "DL3025"),
        ("FROM ${BUILD}", "FROM rust:latest", "DL3007"),
    ] {
        let (is_good, said) = lint(&file.replace(from, to));
        assert!(!is_good && said.contains(rule), "{rule}: {said}");
    }
}

/// A root like the image's, made anew by every process that goes in; what is to outlive it lies in `folder`.
struct Image {
    folder: TempDir,
    libraries: Vec<&'static str>,
    /// What every process in it finds in its environment.
    variables: Vec<(String, String)>,
}

/// Makes the root on a file system of its own, and goes in. The first words: the root, the folder, the program, the loader and where
/// it belongs, the folder of libraries, and the libraries to have; after `--` the way in and the words.
const ENTER: &str = r#"
set -e
root=$1 folder=$2 program=$3 loader=$4 place=$5; shift 5
mount -t tmpfs -o mode=0755 none "$root"
cd "$root"
mkdir -p ".$place" proc dev etc/ssl/certs tmp run/keys var/lib/sse-sunset ".$(dirname "$loader")"
cp "$loader" ".$loader"
while [ "$1" != -- ]; do cp "$place/$1" ".$place/"; shift; done; shift
cp "$folder/ca.pem" etc/ssl/certs/ca-certificates.crt
echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' > etc/passwd
echo 'nonroot:x:65532:' > etc/group
# These two are the engine's.
echo '127.0.0.1 localhost upgraded.internal' > etc/hosts
: > etc/resolv.conf
: > sse-sunset
mount --bind "$program" sse-sunset
mount --bind "$folder/state" var/lib/sse-sunset
mount --bind "$folder/keys" run/keys
mount --rbind /proc proc
mount -o remount,bind,ro "$root"
cd /
exec "$@"
"#;

impl Image {
    fn new(authority: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["root", "state", "keys"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("a folder");
            // The volume is its user's, who is nobody here.
            fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("a mode");
        }
        fs::write(folder.path().join("ca.pem"), authority).expect("a file");
        Image { folder, libraries: LIBRARIES.to_vec(), variables: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program in its root, as its user: as root, or in a user namespace by anybody.
    fn command(&self, words: &[&str]) -> Command {
        let (loader, libraries) = match std::env::consts::ARCH {
            "x86_64" => ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu"),
            "aarch64" => ("/lib/ld-linux-aarch64.so.1", "/lib/aarch64-linux-gnu"),
            other => panic!("no image is built for {other}"),
        };
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(if is_root { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
        command.args(["sh", "-c", ENTER, "sh"]).arg(self.path("root")).arg(self.folder.path());
        command.args([env!("CARGO_BIN_EXE_sse-sunset"), loader, libraries]).args(&self.libraries).arg("--");
        if is_root {
            command.args(["chroot", &format!("--userspec={USER}:{USER}")]).arg(self.path("root"));
        } else {
            let (user, group) = (format!("--map-user={USER}"), format!("--map-group={USER}"));
            command.args(["unshare", "--user", &user, &group]).arg(format!("--root={}", self.path("root").display()));
        }
        // A container starts with no more than this. mount and chroot are not always where users look.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).kill_on_drop(true);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.arg("/sse-sunset").args(words);
        command
    }

    /// The exit code of `words`, and all that they said.
    async fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = within("the end", self.command(words).output()).await.expect("unshare");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    }

    /// Starts `serve` and waits until it accepts connections.
    async fn serve(&self, words: &[&str]) -> Child {
        let mut child = self.command(words).stderr(Stdio::piped()).spawn().expect("unshare");
        let line = first_line(&mut child).await;
        assert!(line.contains("accepting connections"), "{line}");
        child
    }
}

#[tokio::test]
async fn program_needs_nothing_but_what_the_image_has() {
    let authority = Authority::new();
    let image = Image::new(&authority.pem());
    let identity = authority.identity("localhost");
    identity.write_to(&image.path("keys"));
    fs::write(image.path("keys/probe.key"), "00112233445566778899aabbccddeeff").expect("a file");
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let (listen, admin) = (Port::reserve(), Port::reserve());
    // By a name, which the C library of the image looks up.
    let server = upstream.url().replace("127.0.0.1", "upgraded.internal");
    let (address, asked) = (listen.address.to_string(), admin.address.to_string());
    let file = |log: &'static str| {
        let words = ["serve", "--upstream", &server, "--listen", &address, "--admin", &asked, "--public-url"]
            .map(str::to_owned);
        let rest = [
            "--tls-cert",
            "/run/keys/cert.pem",
            "--tls-key",
            "/run/keys/key.pem",
            "--probe-key-file",
            "/run/keys/probe.key",
        ];
        let kept = ["--state-dir", "/var/lib/sse-sunset", "--traffic-log", log, "--drain-delay", "0s"];
        let url = format!("https://localhost:{}", listen.address.port());
        words.into_iter().chain([url]).chain(rest.into_iter().chain(kept).map(str::to_owned)).collect::<Vec<_>>()
    };
    let words = file("/var/lib/sse-sunset/traffic.log");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut serving = image.serve(&words).await;

    let id = serving.id().expect("running").to_string();
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    if rustix::process::geteuid().is_root() {
        assert!(
            status.lines().any(|line| line.split_whitespace().take(5).eq(["Uid:", USER, USER, USER, USER])),
            "{status}"
        );
    }
    assert!(status.lines().any(|line| line.starts_with("CapEff:") && line.ends_with("\t0000000000000000")), "{status}");

    let (code, said) = image.run(&["healthcheck", "--admin", &asked]).await;
    assert_eq!(code, Some(0), "{said}");
    // Through TLS, whose authority stands where the image has those of the public.
    let url = format!("https://localhost:{}/sse", listen.address.port());
    let (code, said) = image.run(&["canary", "--url", &url, "--probe-key-file", "/run/keys/probe.key"]).await;
    assert!(code == Some(0) && said.contains(" signed"), "{said}");
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
    assert_eq!(within("the end", serving.wait()).await.expect("a status").code(), Some(0));
    let log = fs::read_to_string(image.path("state/traffic.log")).expect("a log");
    let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["event.name"], "proxy.stop", "{log}");
    let (code, said) = image.run(&["report", "/var/lib/sse-sunset/traffic.log*"]).await;
    assert_eq!(code, Some(3), "too young to know: {said}");

    // And each of these would be found.
    let words = file("/traffic.log");
    let (code, said) = image.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(code == Some(1) && said.contains("Read-only file system"), "{said}");
    for missing in LIBRARIES {
        let libraries = LIBRARIES.into_iter().filter(|library| *library != missing).collect();
        let poorer = Image { libraries, ..Image::new("") };
        let (code, said) = poorer.run(&["--version"]).await;
        assert!(code == Some(127) && said.contains(missing), "{missing}: {code:?} {said}");
    }
}

/// `docker run` of the README: the words of the engine, and those of the program.
fn run_command() -> (Vec<String>, Vec<String>) {
    let readme = read("README.md").replace("\\\n", " ");
    let line = readme.lines().find_map(|line| line.strip_prefix("docker run ")).expect("docker run");
    let words: Vec<String> = line.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
    // The container has the name of the image.
    let image = words.windows(2).position(|pair| pair == ["sse-sunset", "serve"]).expect("the image");
    (words[..image].to_vec(), words[image + 1..].to_vec())
}

/// The words of a command as a shell reads them, of which the last may be quoted.
fn words_of(command: &str) -> Vec<&str> {
    match command.split_once(['"', '\'']) {
        Some((words, last)) => words.split_whitespace().chain([last.trim_end_matches(['"', '\''])]).collect(),
        None => command.split_whitespace().collect(),
    }
}

/// In the root that the image has, with its keys where the engine puts them.
#[tokio::test]
async fn container_of_the_readme_has_a_name_that_stays_and_does_what_is_typed_into_it() {
    let (readme, (engine, words)) = (read("README.md"), run_command());
    let told = |flag: &str| -> Vec<&str> {
        engine.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].as_str()).collect()
    };
    // The host name is the instance in the log: one that the engine makes up is another with every container.
    let (names, hosts) = (told("--name"), told("--hostname"));
    assert!(names.len() == 1 && hosts.len() == 1 && !words.contains(&"--instance".to_owned()), "{engine:?}");
    assert!(told("--volume").iter().any(|volume| volume.ends_with(":/var/lib/sse-sunset")), "{engine:?}");
    let mut image = Image::new(&Authority::new().pem());
    for mount in told("--mount") {
        let key = mount.split(',').find_map(|part| part.strip_prefix("dst=/run/keys/")).expect("a key");
        assert!(mount.contains(&format!(",src=$PWD/{key},")) && mount.ends_with(",readonly"), "{mount}");
        assert!(readme.contains(&format!("\nopenssl rand -hex 32 > {key} ")), "{key} is made");
        fs::write(image.path("keys").join(key), "0f".repeat(32)).expect("a file");
    }
    let variables = told("--env").into_iter().map(|variable| variable.split_once('=').expect("a value"));
    image.variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let (listen, admin) = (Port::reserve(), Port::reserve());
    image.variables.push(("SSE_SUNSET_ADMIN".to_owned(), admin.address.to_string()));
    let address = listen.address.to_string();
    let changes = [("http://mcp-server:3001/mcp", upstream.url()), ("0.0.0.0:8080", address.as_str())];
    let words = changes.iter().fold(words.join("\n"), |words, (from, to)| {
        assert_eq!(words.matches(from).count(), 1, "{from} stands in it once");
        words.replace(from, to)
    });
    let words: Vec<&str> = words.lines().collect();
    let _serving = image.serve(&words).await;

    // Signed, so that the canary counts as nobody.
    let url = format!("http://localhost:{}/sse", listen.address.port());
    let (code, said) = image.run(&["canary", "--url", &url, "--probe-key-file", "/run/keys/probe.key"]).await;
    assert!(code == Some(0) && said.contains(" signed"), "{said}");
    let mut actions = Vec::new();
    for span in readme.split('`').filter_map(|span| span.strip_prefix("docker exec ")) {
        let (container, command) = span.split_once(" /sse-sunset ").expect("our program");
        assert_eq!(container, names[0], "{span}");
        let words = words_of(command);
        let (code, said) = image.run(&words).await;
        // A report of so short a time is UNKNOWN.
        assert_eq!(code, Some(if words[0] == "report" { 3 } else { 0 }), "{span}: {said}");
        let is_paused = said.lines().any(|line| line.starts_with("paused "));
        assert_eq!(is_paused, words.contains(&"pause"), "{span}: {said}");
        actions.push(if words[0] == "sunset" { words[1] } else { words[0] });
    }
    assert_eq!(actions, ["status", "report", "pause", "resume"]);
}
