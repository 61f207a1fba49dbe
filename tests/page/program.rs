//! The program itself, with a small upgraded server behind it and legacy clients in front.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::browser::PATIENCE;

/// `sse-sunset serve`, killed on drop.
pub(crate) struct Program {
    process: Child,
    /// Where clients are served.
    pub(crate) listen: String,
    /// Where operators are.
    pub(crate) admin: String,
}

impl Program {
    /// Starts it in front of a server that answers calls, with its log and its state in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sse-sunset"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--instance", "replica-1"])
            .args(["--upstream", &upstream(), "--log-format", "json"])
            .arg("--traffic-log")
            .arg(folder.join("traffic.log"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let line = lines.next().expect("a line").expect("readable");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(said["message"], "accepting connections", "{said}");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let text = |name: &str| said[name].as_str().expect("an address").to_owned();
        Program { process, listen: text("listen"), admin: text("admin") }
    }

    /// A legacy client called `name` that has called a tool. Its session ends when it is dropped.
    pub(crate) fn client(&self, name: &str) -> LegacyClient {
        let mut client = LegacyClient::connect(&self.listen);
        let info = json!({"name": name, "version": "1.4.2"});
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info});
        client.ask(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}));
        client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client.ask(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo"}}));
        client
    }

    /// Ends it at once, without a chance to say a word.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("an end");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client on HTTP+SSE with an open stream.
pub(crate) struct LegacyClient {
    address: String,
    stream: BufReader<TcpStream>,
    endpoint: String,
}

impl LegacyClient {
    fn connect(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET /sse HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n").expect("sent");
        let mut client =
            LegacyClient { address: address.to_owned(), stream: BufReader::new(stream), endpoint: String::new() };
        client.endpoint = client.data();
        client
    }

    /// The data of the next event. The lines between are fields, comments and sizes of chunks.
    fn data(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.stream.read_line(&mut line).expect("the stream goes on");
            assert!(length > 0, "the stream has ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return data.trim_end().to_owned();
            }
        }
    }

    /// Posts a request and awaits its answer.
    fn ask(&mut self, request: &Value) {
        self.post(request);
        let answer: Value = serde_json::from_str(&self.data()).expect("JSON");
        assert!(answer["id"] == request["id"] && answer["error"].is_null(), "{answer}");
    }

    fn post(&self, message: &Value) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (body, path) = (message.to_string(), self.endpoint.trim_start_matches(&format!("http://{}", self.address)));
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
}

/// A server that speaks Streamable HTTP: answers every request with JSON, and has no stream of its own. It lives as long
/// as the test.
fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    format!("http://{address}/mcp")
}

/// One request, one answer, and the connection ends.
fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while head.last().is_none_or(|line: &String| line != "\r\n") {
        let mut line = String::new();
        if !reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            return;
        }
        head.push(line);
    }
    let length =
        head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = match (message["method"].as_str(), &message["id"]) {
        (None, _) => ("405 Method Not Allowed", String::new()),
        (Some(_), Value::Null) => ("202 Accepted", String::new()),
        (Some(method), id) => {
            let result = if method == "initialize" {
                json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "small", "version": "1"}})
            } else {
                json!({"content": []})
            };
            ("200 OK", json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
        }
    };
    let _ = write!(
        reader.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    );
}
