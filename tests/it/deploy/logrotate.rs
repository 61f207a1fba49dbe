//! logrotate with the file of `deploy/systemd`, on the log of the running program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::systemd::{own, read, replaced};
use crate::binary::{binary, first_line, signal};
use crate::support::within;

/// Runs logrotate, at once whatever the log's age.
fn rotate(folder: &Path, configuration: &str) -> Output {
    let path = folder.join("logrotate.conf");
    fs::write(&path, configuration).expect("written");
    let mut command = std::process::Command::new("logrotate");
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command.args(["--force", "--state"]).arg(folder.join("logrotate.state")).arg(&path);
    command.output().expect("logrotate; tests/run installs it")
}

/// The pieces of the log, the one that is written to included.
fn pieces(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("traffic.log")))
        .collect()
}

/// A client comes and goes; returns when both stand in the log.
async fn visit(address: &str, log: &Path) {
    let mut stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
    stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").await.expect("sent");
    assert!(within("an answer", stream.read(&mut [0; 4096])).await.expect("an answer") > 0);
    drop(stream);
    within("the record of the end", async {
        while !fs::read_to_string(log).is_ok_and(|text| text.contains("legacy.end")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn log_is_turned_under_the_running_proxy_and_no_record_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("traffic.log");
    let mut file = read("sse-sunset.logrotate");
    file = replaced(&file, "/var/log/sse-sunset/traffic.log {", &format!("{} {{", log.display()), 1);
    file = replaced(&file, "su sse-sunset sse-sunset", &format!("su {} {}", own("-un"), own("-gn")), 1);
    let mut command = binary();
    command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0", "--drain-delay", "0s"]);
    // A client that goes has gone.
    let mut child =
        command.args(["--linger", "0s", "--traffic-log"]).arg(&log).stdout(Stdio::null()).spawn().expect("the binary");
    let line = first_line(&mut child).await;
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let address = said["listen"].as_str().expect("an address");
    for round in 1..=2 {
        visit(address, &log).await;
        let output = rotate(folder.path(), &file);
        let second = jiff::Timestamp::now().as_second();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pieces = pieces(folder.path());
        assert!(pieces.len() == round && !log.exists(), "the proxy makes the new one: {pieces:?}");
        // Pieces carry their second.
        while jiff::Timestamp::now().as_second() == second {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    visit(address, &log).await;
    signal(&child, "TERM").await;
    assert_eq!(within("the end", child.wait()).await.expect("a status").code(), Some(0));
    let pieces = pieces(folder.path());
    let packed = pieces.iter().filter(|path| path.extension().is_some_and(|end| end == "gz")).count();
    assert_eq!((pieces.len(), packed), (3, 1), "all but the last that was renamed are packed: {pieces:?}");
    let report = report(&folder.path().join("traffic.log*"));
    assert_eq!((&report["input"]["files"], &report["totals"]["sessions"]), (&3.into(), &3.into()), "{report:#}");
    assert_eq!(report["coverage"]["missing_records"], 0, "{report:#}");
    // So it is by counting records, and would be noticed.
    fs::remove_file(pieces.iter().find(|path| path.extension().is_some_and(|end| end == "gz")).expect("one"))
        .expect("removed");
    assert_ne!(self::report(&folder.path().join("traffic.log*"))["coverage"]["missing_records"], 0);
}

fn report(glob: &Path) -> Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    let output = command.arg("report").arg(glob).args(["--format", "json"]).output().expect("the binary");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn file_is_one_that_logrotate_takes_without_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = read("sse-sunset.logrotate");
    let mistake = replaced(&file, "    delaycompress", "    delaycompres", 1);
    for (text, expected) in [(file, ""), (mistake, "unknown option 'delaycompres'")] {
        let text = text.replace("/var/log/sse-sunset/", &format!("{}/", folder.path().display()));
        let text = text.replace("su sse-sunset sse-sunset", &format!("su {} {}", own("-un"), own("-gn")));
        let output = rotate(folder.path(), &text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
    }
}
