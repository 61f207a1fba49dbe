//! A client that writes its own bytes: half requests, slow ones, several at once.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Proxy, within};

/// A bare connection to the proxy.
pub(crate) struct RawClient {
    stream: TcpStream,
    /// Everything that came.
    pub(crate) came: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address).await.expect("a connection");
        stream.set_nodelay(true).expect("an open socket");
        RawClient { stream, came: Vec::new() }
    }

    /// Gives the connection away as it is.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// A connection whose `GET /sse` was answered with an endpoint, which is given too.
    pub(crate) async fn open_stream(proxy: &Proxy) -> (Self, String) {
        let mut client = Self::connect(proxy).await;
        client.send("GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").await;
        client.read_until("\n\n").await;
        let text = client.text();
        let endpoint = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an endpoint event");
        (client, endpoint.to_owned())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room for bytes", self.stream.write_all(bytes.as_ref())).await.expect("an open connection");
    }

    /// Sends as much of `bytes` as the proxy takes before it ends the connection.
    pub(crate) async fn send_while_taken(&mut self, bytes: &[u8]) {
        let _ = within("room for bytes", self.stream.write_all(bytes)).await;
    }

    /// Sends as much of `bytes` as is taken before the connection ends, and says how much.
    pub(crate) async fn count_taken(&mut self, bytes: &[u8]) -> usize {
        within("the end of the connection", async {
            let mut taken = 0;
            while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
                match self.stream.write(rest).await {
                    Ok(count @ 1..) => taken += count,
                    _ => break,
                }
            }
            taken
        })
        .await
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.came).into_owned()
    }

    pub(crate) async fn read_until(&mut self, text: &str) {
        within(text, async {
            while !self.text().contains(text) {
                let read = self.stream.read_buf(&mut self.came).await.expect("an open connection");
                assert!(read > 0, "the connection ended before {text:?} came: {}", self.text());
            }
        })
        .await;
    }

    /// Reads to the end of the connection, orderly or not, and gives everything that came.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let _ = within("the end of the connection", self.stream.read_to_end(&mut self.came)).await;
        self.text()
    }
}

/// A POST with `body`, as text.
pub(crate) fn post(endpoint: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {endpoint} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    )
}
