//! Every command of `deploy/RUNBOOK.md`, run from top to bottom in one shell, as an operator would: before a server, behind a real
//! nginx, with a legacy client that comes in between. Only the addresses of the first block are other ones.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::port::Port;
use crate::support::{Behaviour, FakeUpstream, LegacyClient, within};

/// What a line of the old server's access log looks like.
const ACCESS_LOG: &str = "192.0.2.7 - - [02/Nov/2026:10:00:00 +0000] \"GET /sse HTTP/1.1\" 200 512 \"-\" \"node\"\n";

/// One block of commands, and where it stands.
#[derive(Debug)]
struct Block {
    page: String,
    language: String,
    text: String,
}

fn blocks(runbook: &str) -> Vec<Block> {
    let (mut page, mut found, mut open) = (String::new(), Vec::new(), None::<Block>);
    for line in runbook.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { page: page.clone(), language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                let _ = writeln!(block.text, "{line}");
            }
            (None, None) => page = line.strip_prefix("## ").unwrap_or(&page).to_owned(),
        }
    }
    assert!(open.is_none(), "a block that does not end");
    found
}

/// A shell that is told one block after the other. Whatever it started ends with it.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn start(folder: &Path) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_sse-sunset")).parent().expect("a folder");
        let usual = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.arg("-s").current_dir(folder).env("PATH", format!("{}:{usual}", program.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut process = command.spawn().expect("bash");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Shell { input: process.stdin.take().expect("piped"), output, process }
    }

    /// Runs the commands as they are; what they print. Any that fails ends the test.
    async fn run(&mut self, commands: &str) -> String {
        // What runs in the background keeps the pipe open when the shell has ended.
        let told = format!(
            "exec 2>&1; set -euo pipefail; trap 'echo; echo failed-with-it' EXIT\n{commands}\necho; echo done-with-it\n"
        );
        self.input.write_all(told.as_bytes()).await.expect("a shell");
        let mut said = String::new();
        loop {
            let line = within(commands, self.output.next_line()).await.expect("text");
            match line.as_deref() {
                None | Some("failed-with-it") => panic!("failed:\n{commands}\nafter it said:\n{said}"),
                Some("done-with-it") => return said,
                Some(line) => {
                    let _ = writeln!(said, "{line}");
                }
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// nginx before the proxy; where the legacy paths lead is in a file that is included.
struct Front {
    port: Port,
    process: Child,
    folder: tempfile::TempDir,
}

impl Front {
    fn start(proxy: &Port) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let place = folder.path().display();
        let legacy = format!(
            "location ~ ^/(sse|messages)$ {{ proxy_pass http://{}; proxy_buffering off; proxy_http_version 1.1;\n\
             proxy_set_header Host $http_host; }}",
            proxy.address
        );
        fs::write(folder.path().join("legacy.conf"), legacy).expect("written");
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {place}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {place}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n{paths}\
             server {{ listen {}; include {place}/legacy.conf; }} }}",
            port.address
        );
        fs::write(folder.path().join("nginx.conf"), text).expect("written");
        let process = Front::run(folder.path());
        Front { port, process, folder }
    }

    fn run(folder: &Path) -> Child {
        let mut command = Command::new("nginx");
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        let said = fs::File::create(folder.join("said")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        command.kill_on_drop(true).spawn().expect("nginx")
    }

    /// Leads the legacy paths to what was printed for them.
    async fn include(&mut self, file: &Path) {
        fs::copy(file, self.folder.path().join("legacy.conf")).expect("copied");
        self.process.kill().await.expect("killed");
        self.process = Front::run(self.folder.path());
    }
}

#[tokio::test]
async fn every_command_of_the_runbook_works() {
    let runbook = super::files::read("../RUNBOOK.md");
    let blocks = blocks(&runbook);
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: false, token: None }).await;
    let (proxy, admin) = (Port::reserve(), Port::reserve());
    let mut front = Front::start(&proxy);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("access.log"), ACCESS_LOG).expect("written");
    let mut shell = Shell::start(folder.path());
    let (settings, commands) = blocks.split_first().expect("blocks");
    let names = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    let public = front.port.base();
    let mine = format!(
        "export UPSTREAM={}\nexport PUBLIC={public}\nexport NEW_URL={public}/mcp\nexport LISTEN={}\nexport ADMIN={}\n\
         export WATCH=1s\nexport SSE_SUNSET_ADMIN_TOKEN_FILE=$PWD/admin.token\n",
        upstream.url(),
        proxy.address,
        admin.address
    );
    assert_eq!((settings.language.as_str(), names(&settings.text)), ("sh settings", names(&mine)), "the same are set");
    shell.run(&mine).await;
    // What they started runs on.
    let mut former = Vec::new();
    let mut pages = Vec::new();
    for block in commands {
        assert_eq!(block.language, "sh", "{}", block.text);
        if pages.last() != Some(&block.page) {
            pages.push(block.page.clone());
            // A rollback begins in a new shell, in which nothing is set but what the first block sets.
            if block.page == "Rollback" {
                let next = Shell::start(folder.path());
                former.push(std::mem::replace(&mut shell, next));
                shell.run(&mine).await;
            }
            if block.page == "Watching" {
                let mut client = LegacyClient::connect_to(&public, &[]).await;
                client.initialize().await;
                client.call(2, "echo", json!({ "text": "hello" })).await;
                client.answer(2).await;
            }
        }
        if block.text.contains("%{http_code}") {
            front.include(&folder.path().join("sse-sunset-gone.conf")).await;
            shell.run(&format!("until {} > /dev/null; do sleep 0.1; done", block.text.trim())).await;
        }
        let said = shell.run(&block.text).await;
        for (command, word) in WORDS {
            assert!(!block.text.contains(command) || said.contains(word), "{command} did not say {word}:\n{said}");
        }
    }
    assert_eq!(pages, ["Cutover", "Watching", "Deciding", "Switching off", "Rollback", "Removal"]);
    let seen: String = commands.iter().map(|block| block.text.as_str()).collect();
    for (command, _) in WORDS {
        assert!(seen.contains(command), "{command} is looked at");
    }
    let left = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let left: BTreeSet<_> = left.filter_map(|name| name.into_string().ok()).collect();
    assert!(left.contains("evidence.tgz") && !left.contains("state") && !left.contains("admin.token"), "{left:?}");
}

/// What some of them have to say: a part of the command, and of its output.
const WORDS: [(&str, &str); 8] = [
    ("canary --url", "canary: ok"),
    ("report access.log", "UNKNOWN"),
    ("legacy.use", "legacy.use"),
    ("head -n 1 verdict.txt", "NOT YET"),
    ("sunset plan --config sunset.toml --announce 2027-01-11 --freeze", "brownout 1 of 6"),
    ("brownout --for 5m", "brownout"),
    ("tombstone --for nginx", "410"),
    ("%{http_code}", "410"),
];

#[tokio::test]
#[should_panic(expected = "failed:")]
async fn a_command_that_fails_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    Shell::start(folder.path()).run("false\ntrue\n").await;
}
