//! The program as a service of systemd: what it is passed and what it says, spoken to by the protocols themselves and by
//! systemd's own activator.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Mutex, mpsc};

use crate::binary::{binary, signal};
use crate::support::port::Port;
use crate::support::{http_client, within};

const SERVE: [&str; 5] = ["serve", "--upstream", "http://127.0.0.1:9/mcp", "--drain-delay", "0s"];

/// A service manager, as far as it listens. It takes what comes at once: a queue of datagrams has little room.
struct Manager {
    heard: Mutex<mpsc::UnboundedReceiver<String>>,
    folder: TempDir,
}

impl Manager {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        let (words, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok(length) = socket.recv(&mut buffer).await {
                if words.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Manager { heard: Mutex::new(heard), folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("notify")
    }

    async fn heard(&self) -> String {
        let mut heard = self.heard.lock().await;
        within("a word to the manager", heard.recv()).await.expect("a word")
    }

    /// Waits for `expected`, and passes over beats and lines for people.
    async fn hears(&self, expected: &str) -> String {
        loop {
            let heard = self.heard().await;
            if heard.starts_with(expected) {
                return heard;
            }
            assert!(heard == "WATCHDOG=1" || heard.starts_with("STATUS="), "{heard:?} instead of {expected:?}");
        }
    }
}

/// Runs `serve` with sockets as systemd passes them: descriptors from 3 on, under `names`.
fn serve_on(sockets: &[&TcpListener], names: &str, options: &[&str]) -> Command {
    let program = binary();
    let mut command = Command::new("sh");
    // What is passed through the shell are its own standard streams: to number descriptors takes unsafe code otherwise.
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; [ \"$0\" = 2 ] || exec 4<&-; \
                  export LISTEN_PID=$$ LISTEN_FDS=\"$0\"; exec \"$@\"";
    command.args(["-c", script, &sockets.len().to_string()]).arg(program.as_std().get_program());
    command.args(SERVE).args(options).env("LISTEN_FDNAMES", names);
    let stream = |index: usize| {
        sockets
            .get(index)
            .map_or_else(Stdio::null, |socket| OwnedFd::from(socket.try_clone().expect("a socket")).into())
    };
    command.stdin(stream(0)).stdout(stream(1)).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().expect("piped")).lines()
}

/// What it says when it accepts connections.
async fn announced(lines: &mut Lines<BufReader<ChildStderr>>) -> Value {
    let said = within("the announcement", async {
        loop {
            let line = lines.next_line().await.expect("readable").expect("a line");
            if line.contains("accepting connections") {
                return line;
            }
        }
    });
    serde_json::from_str(&said.await).expect("JSON, as standard error is no terminal")
}

async fn status(base: &str, path: &str) -> u16 {
    within("an answer", http_client().get(format!("http://{base}{path}")).send())
        .await
        .expect("an answer")
        .status()
        .into()
}

async fn ends(mut child: Child) -> Option<i32> {
    within("the end", child.wait()).await.expect("a status").code()
}

#[tokio::test]
async fn manager_is_told_of_start_life_standing_and_end() {
    let manager = Manager::start();
    let mut command = binary();
    command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "100000").stdout(Stdio::null());
    let mut child = command.args(SERVE).args(["--listen", "127.0.0.1:0", "--drain", "7s"]).spawn().expect("the binary");
    assert_eq!(manager.heard().await, "READY=1", "before anything else");
    let said = announced(&mut lines(&mut child)).await;
    let address = said["listen"].as_str().expect("an address");
    assert_eq!(said["socket_passed"], false);
    assert_eq!(status(address, "/nowhere").await, 404);
    assert_eq!(manager.hears("STATUS=").await, "STATUS=serving 0 sessions, phase observe");
    for _ in 0..3 {
        assert_eq!(manager.hears("WATCHDOG=1").await, "WATCHDOG=1");
    }
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").await.expect("sent");
    assert!(within("an answer", stream.read(&mut [0; 4096])).await.expect("an answer") > 0);
    while manager.hears("STATUS=").await != "STATUS=serving 1 session, phase observe" {}
    signal(&child, "TERM").await;
    // The deadline and what comes after it, in microseconds.
    let expected = "STOPPING=1\nEXTEND_TIMEOUT_USEC=37000000\nSTATUS=draining, 1 session left";
    assert_eq!(manager.hears("STOPPING=1").await, expected);
    assert_eq!(ends(child).await, Some(0));
}

#[tokio::test]
async fn manager_hears_of_a_reload_from_its_beginning_to_its_end() {
    let manager = Manager::start();
    let log = manager.folder.path().join("traffic.log");
    let mut command = binary();
    command
        .env("NOTIFY_SOCKET", manager.path())
        .args(SERVE)
        .args(["--listen", "127.0.0.1:0", "--traffic-log"])
        .arg(&log);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
    manager.hears("READY=1").await;
    std::fs::rename(&log, manager.folder.path().join("before")).expect("renamed");
    signal(&child, "HUP").await;
    manager.hears("RELOADING=1\nMONOTONIC_USEC=").await;
    manager.hears("READY=1").await;
    assert!(log.exists(), "what was asked for has been done by then");
    signal(&child, "TERM").await;
    manager.hears("STOPPING=1").await;
    assert_eq!(ends(child).await, Some(0));
}

#[tokio::test]
async fn client_that_connects_while_the_proxy_is_replaced_is_served() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let options = ["--admin", "off"];
    let mut first = serve_on(&[&socket], "http", &options).spawn().expect("a shell");
    let said = announced(&mut lines(&mut first)).await;
    assert_eq!((said["listen"].as_str(), &said["socket_passed"]), (Some(&*address.to_string()), &Value::Bool(true)));
    assert_eq!(status(&address.to_string(), "/nowhere").await, 404);
    signal(&first, "TERM").await;
    assert_eq!(ends(first).await, Some(0));
    // Nobody is there.
    let mut client = within("a connection", TcpStream::connect(address)).await.expect("it waits in the socket");
    client.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").await.expect("sent");
    let mut answer = [0; 4096];
    let early = tokio::time::timeout(Duration::from_millis(200), client.read(&mut answer)).await;
    early.expect_err("nobody is there");
    let mut second = serve_on(&[&socket], "http", &options).spawn().expect("a shell");
    let length = within("an answer", client.read(&mut answer)).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("text/event-stream"), "{answer}");
    announced(&mut lines(&mut second)).await;
    drop(client);
    signal(&second, "TERM").await;
    assert_eq!(ends(second).await, Some(0));
}

#[tokio::test]
async fn sockets_are_told_apart_by_their_names() {
    let [clients, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [clients_at, admin_at] = [&clients, &admin].map(|socket| socket.local_addr().expect("an address").to_string());
    let mut child = serve_on(&[&admin, &clients], "admin:http", &[]).spawn().expect("a shell");
    let said = announced(&mut lines(&mut child)).await;
    assert_eq!(said["listen"], clients_at);
    assert_eq!(said["admin"], format!("http://{admin_at}"));
    assert_eq!((status(&clients_at, "/livez").await, status(&admin_at, "/livez").await), (404, 200));
    signal(&child, "TERM").await;
    assert_eq!(ends(child).await, Some(0));
}

#[tokio::test]
async fn sockets_that_cannot_be_meant_are_refused_with_what_to_do() {
    let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let open = TcpListener::bind("0.0.0.0:0").expect("a port");
    let address = one.local_addr().expect("an address").to_string();
    for (sockets, names, options, expected) in [
        (&[&one][..], "http", &["--listen", "127.0.0.1:1"][..], ["leave the option out", &*address]),
        (&[&one], "admin", &["--admin", "off"], ["leave the option out", &*address]),
        (&[&one, &other], "http:http", &[], ["two sockets", "[::]:8080"]),
        (&[&one, &other], "http:else", &[], ["\"else\"", "FileDescriptorName=http"]),
        // What follows from an address follows from the socket's.
        (&[&open], "http", &[], ["not a loopback address", "--public-url or --allowed-host"]),
    ] {
        let child = serve_on(sockets, names, options).spawn().expect("a shell");
        let output = within("the end", child.wait_with_output()).await.expect("an end");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{names} {options:?}: {text}");
        assert!(expected.iter().all(|expected| text.contains(expected)), "{names} {options:?}: {text}");
    }
}

#[tokio::test]
async fn diagnostics_that_nobody_reads_any_more_end_nothing() {
    let manager = Manager::start();
    let mut command = binary();
    command.env("NOTIFY_SOCKET", manager.path()).args(SERVE).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::null());
    let mut child = command.spawn().expect("the binary");
    // What reads is gone with the line, as a journal that is restarted.
    let said = announced(&mut lines(&mut child)).await;
    manager.hears("READY=1").await;
    signal(&child, "HUP").await;
    manager.hears("RELOADING=1").await;
    manager.hears("READY=1").await;
    assert_eq!(status(said["listen"].as_str().expect("an address"), "/nowhere").await, 404);
    signal(&child, "TERM").await;
    assert_eq!(ends(child).await, Some(0));
}

#[tokio::test]
async fn sockets_for_another_process_are_left_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut command = binary();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").stdin(OwnedFd::from(socket)).stdout(Stdio::null());
    let mut child = command.args(SERVE).args(["--listen", "127.0.0.1:0"]).spawn().expect("the binary");
    assert_eq!(announced(&mut lines(&mut child)).await["socket_passed"], false);
    signal(&child, "TERM").await;
    assert_eq!(ends(child).await, Some(0));
}

#[tokio::test]
async fn socket_of_systemds_own_activator_is_served() {
    let port = Port::reserve();
    let address = port.address.to_string();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", &address, "--fdname", "http"]).arg(Path::new(env!("CARGO_BIN_EXE_sse-sunset")));
    command.args(SERVE).args(["--admin", "off"]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("systemd-socket-activate, of the package systemd");
    let mut lines = lines(&mut child);
    let line = within("the socket", lines.next_line()).await.expect("readable").expect("a line");
    assert!(line.contains("Listening on"), "{line}");
    // It is started by the first who comes, and this one is served.
    assert_eq!(status(&address, "/nowhere").await, 404);
    let said = announced(&mut lines).await;
    assert_eq!((&said["listen"], &said["socket_passed"]), (&Value::from(address), &Value::Bool(true)));
    signal(&child, "TERM").await;
    assert_eq!(ends(child).await, Some(0));
}
