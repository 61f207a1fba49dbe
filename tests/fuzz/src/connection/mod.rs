//! A whole connection: whatever a client writes, it gets well-formed answers in bounded time, and nothing is left.
//!
//! A second, ordinary client holds a session open, so that posts find one. Time is virtual: limits of minutes run out at
//! once, and a run that never ended would fail. The sockets are real, as `net::serve` takes nothing else.

mod answers;
mod proxy;
mod upstream;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use proxy::Proxy;

/// Stands for the id of the open session.
const SESSION: &[u8] = b"SESSION";
/// Where the client pauses. No text holds this byte: it occurs in no UTF-8.
const PAUSE: u8 = 0xFF;
/// Longer than any limit on a request that a client may reach.
const PATIENCE: Duration = Duration::from_secs(200);
/// Longer than anything may take once all clients are gone.
const AFTERMATH: Duration = Duration::from_secs(700);
/// How long bytes may be under way between two sockets of this machine, in real time.
const TRANSIT: Duration = Duration::from_millis(2);

/// `data` is what a client writes.
pub fn connection(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("the operating system has descriptors");
    runtime.block_on(converse(data));
}

async fn converse(data: &[u8]) {
    let proxy = Proxy::start();
    let mut ordinary = proxy.connect().await;
    ordinary.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("an open connection");
    let mut streamed = Vec::new();
    let id = loop {
        read_some(&mut ordinary, &mut streamed).await;
        if let Some(id) = answers::session_id(&streamed) {
            break id;
        }
    };

    let (mut reader, mut writer) = proxy.connect().await.into_split();
    let mut came = Vec::new();
    let write = async {
        for piece in replaced(data, SESSION, id.as_bytes()).split(|byte| *byte == PAUSE) {
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // From here on the client only waits, and the proxy ends the connection.
        std::future::pending::<()>().await;
    };
    let read = timeout(PATIENCE, reader.read_to_end(&mut came));
    let is_over = tokio::select! {
        () = write => unreachable!("it waits"),
        read = read => read.is_ok(),
    };
    let mut buffer = [0; 4096];
    std::thread::sleep(if is_over { Duration::ZERO } else { TRANSIT });
    while let Ok(count @ 1..) = reader.try_read(&mut buffer) {
        came.extend_from_slice(&buffer[..count]);
    }
    let is_streaming = answers::check(&came, &data.to_ascii_uppercase());
    assert!(is_over || is_streaming, "neither a stream nor over: {}", came.escape_ascii());
    drop((reader, writer));

    while let Ok(count @ 1..) = ordinary.try_read(&mut buffer) {
        streamed.extend_from_slice(&buffer[..count]);
    }
    answers::check_stream(&streamed);
    drop(ordinary);
    assert!(timeout(AFTERMATH, proxy.ended()).await.is_ok(), "something still runs");
}

async fn read_some(stream: &mut TcpStream, came: &mut Vec<u8>) {
    let count = stream.read_buf(came).await.expect("an open connection");
    assert!(count > 0, "the connection ended: {}", came.escape_ascii());
}

fn replaced(data: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
