//! An upstream of which the test itself is every byte.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::within;

pub(super) struct Bare {
    listener: TcpListener,
}

/// One connection of the proxy.
pub(super) struct Conn {
    stream: TcpStream,
    pub(super) came: Vec<u8>,
}

impl Bare {
    pub(super) async fn start() -> Self {
        Bare { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    pub(super) fn authority(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/mcp", self.authority())
    }

    pub(super) async fn accept(&self) -> Conn {
        let (stream, _) = within("a connection", self.listener.accept()).await.expect("a connection");
        stream.set_nodelay(true).expect("an open socket");
        Conn { stream, came: Vec::new() }
    }

    /// The head of the next request, and its connection.
    pub(super) async fn request(&self) -> (Conn, String) {
        let mut conn = self.accept().await;
        let head = conn.head().await;
        (conn, head)
    }
}

impl Conn {
    /// Reads the head of a request and forgets it.
    pub(super) async fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").await;
        let text = String::from_utf8(std::mem::take(&mut self.came)).expect("ASCII");
        let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
        self.came = rest.as_bytes().to_vec();
        head.to_owned()
    }

    pub(super) async fn read_until(&mut self, text: &str) {
        within(text, async {
            while !String::from_utf8_lossy(&self.came).contains(text) {
                let read = self.stream.read_buf(&mut self.came).await.expect("an open connection");
                assert!(read > 0, "the proxy hung up before {text:?} came: {}", String::from_utf8_lossy(&self.came));
            }
        })
        .await;
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room for bytes", self.stream.write_all(bytes.as_ref())).await.expect("an open connection");
    }

    /// A whole answer with this body.
    pub(super) async fn answer(&mut self, headers: &str, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n{body}")).await;
    }

    /// Waits until the proxy hangs up.
    pub(super) async fn hung_up(mut self) {
        let _ = within("the proxy hangs up", self.stream.read_to_end(&mut self.came)).await;
    }

    /// Sends until the proxy takes no more, and tells how much that was.
    pub(super) async fn flood(&mut self, piece: &[u8]) -> usize {
        let mut sent = 0;
        loop {
            let taken = tokio::time::timeout(std::time::Duration::from_millis(500), self.stream.write(piece)).await;
            match taken {
                Ok(Ok(taken)) => sent += taken,
                Ok(Err(_)) | Err(_) => return sent,
            }
        }
    }
}

/// The headers of a head, sorted, but for those with values that differ in every run.
pub(super) fn names(head: &str) -> Vec<&str> {
    let mut names: Vec<&str> =
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

/// The value of a header.
pub(super) fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}
