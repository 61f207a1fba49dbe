#![allow(clippy::disallowed_methods, reason = "no process to shut down")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Incoming;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::drain::{Drain, Phase};
use crate::net::{Limits, serve};

type Events = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A connection whose every request is answered by the next of some streams.
struct Stage {
    client: TcpStream,
    serving: JoinHandle<()>,
    drain: Drain,
    /// Frames that were taken from the bodies.
    taken: Arc<AtomicUsize>,
}

impl Stage {
    async fn set(bodies: Vec<mpsc::Receiver<Bytes>>, content_type: &'static str) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
        let (stream, peer): (_, SocketAddr) = listener.accept().await.expect("a connection");
        let (drain, watch) = Drain::new();
        let taken = Arc::new(AtomicUsize::new(0));
        let bodies = Mutex::new(VecDeque::from(bodies));
        let count = Arc::clone(&taken);
        let service = move |_: Request<Incoming>, _| {
            let body = bodies.lock().expect("not poisoned").pop_front().expect("a body for every request");
            let count = Arc::clone(&count);
            let frames = stream::unfold((body, count), |(mut body, count)| async {
                let data = body.recv().await?;
                count.fetch_add(1, Ordering::Relaxed);
                Some((Ok(Frame::data(data)), (body, count)))
            });
            let mut answer = Response::new(Events::new(frames.boxed()));
            answer.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
            std::future::ready(answer)
        };
        let serving = tokio::spawn(serve(stream, peer, Limits::default(), watch, service));
        Stage { client, serving, drain, taken }
    }

    async fn say(&self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            self.client.writable().await.expect("a socket");
            let written = self.client.try_write(rest).unwrap_or(0);
            rest = &rest[written..];
        }
    }

    /// Reads to the first `end`, and no further; gives all of it.
    async fn hear(&self, end: &str) -> String {
        let mut heard = String::new();
        while !heard.ends_with(end) {
            let mut byte = Vec::with_capacity(1);
            assert!(self.more(&mut byte).await > 0, "it ended after {heard:?}");
            heard.push(char::from(byte[0]));
        }
        heard
    }

    async fn more(&self, heard: &mut Vec<u8>) -> usize {
        loop {
            self.client.ready(Interest::READABLE).await.expect("a socket");
            if let Ok(count) = self.client.try_read_buf(heard) {
                return count;
            }
        }
    }
}

fn channel() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(64)
}

const GET: &str = "GET /sse HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn what_comes_after_a_lull_is_chunked_and_the_connection_serves_the_next_request() {
    let ((first, one), (second, two)) = (channel(), channel());
    let stage = Stage::set(vec![one, two], "text/event-stream").await;
    for events in [first, second] {
        stage.say(GET).await;
        events.send("data: a\n\n".into()).await.expect("somebody listens");
        let head = stage.hear("9\r\ndata: a\n\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("transfer-encoding: chunked\r\n"), "{head}");
        // One after the other, so that each finds the stream silent. The size is in small letters: hyper writes capitals.
        for text in ["b", "longer than fifteen bytes!", ""] {
            events.send(text.into()).await.expect("somebody listens");
            if !text.is_empty() {
                assert_eq!(stage.hear(&format!("{text}\r\n")).await, format!("{:x}\r\n{text}\r\n", text.len()));
            }
        }
        drop(events);
        assert_eq!(stage.hear("0\r\n\r\n").await, "0\r\n\r\n");
    }
    drop(stage.client);
    stage.serving.await.expect("the connection is over");
}

#[tokio::test]
async fn request_that_was_sent_ahead_is_answered_when_the_stream_is_over() {
    let ((first, one), (second, two)) = (channel(), channel());
    let stage = Stage::set(vec![one, two], "text/event-stream; charset=utf-8").await;
    stage.say(GET).await;
    first.send("a".into()).await.expect("somebody listens");
    stage.hear("1\r\na\r\n").await;
    stage.say(GET).await;
    first.send("b".into()).await.expect("somebody listens");
    assert_eq!(stage.hear("b\r\n").await, "1\r\nb\r\n");
    drop(first);
    stage.hear("0\r\n\r\n").await;
    second.send("c".into()).await.expect("somebody listens");
    assert!(stage.hear("1\r\nc\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn connection_is_closed_after_the_stream_where_the_client_asked_for_that_or_the_process_has_drained() {
    for (request, drains) in [("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false), (GET, true)] {
        let (events, body) = channel();
        let stage = Stage::set(vec![body], "text/event-stream").await;
        stage.say(request).await;
        events.send("a".into()).await.expect("somebody listens");
        stage.hear("1\r\na\r\n").await;
        if drains {
            stage.drain.enter(Phase::Over);
            // What is under way goes on.
            events.send("b".into()).await.expect("somebody listens");
            stage.hear("1\r\nb\r\n").await;
        }
        drop(events);
        stage.hear("0\r\n\r\n").await;
        assert_eq!(stage.more(&mut Vec::new()).await, 0, "{request}");
        stage.serving.await.expect("the connection is over");
    }
}

#[tokio::test]
async fn body_is_dropped_when_the_client_leaves() {
    let (events, body) = channel();
    let stage = Stage::set(vec![body], "text/event-stream").await;
    stage.say(GET).await;
    events.send("a".into()).await.expect("somebody listens");
    stage.hear("1\r\na\r\n").await;
    drop(stage.client);
    events.closed().await;
    stage.serving.await.expect("the connection is over");
}

#[tokio::test]
async fn client_that_does_not_read_holds_up_the_body_and_loses_nothing() {
    const PIECES: usize = 4_000;
    let (events, body) = channel();
    let stage = Stage::set(vec![body], "text/event-stream").await;
    stage.say(GET).await;
    events.send("first".into()).await.expect("somebody listens");
    stage.hear("5\r\nfirst\r\n").await;
    let piece = |number: usize| format!("{number:08}").repeat(1 << 9);
    let feeding = tokio::spawn(async move {
        for number in 0..PIECES {
            events.send(piece(number).into()).await.expect("somebody listens");
        }
    });
    let mut heard = Vec::new();
    // 16 MB, of which the sockets hold some; the body shall not be read far beyond that.
    while stage.taken.load(Ordering::Relaxed) < 64 {
        tokio::task::yield_now().await;
    }
    while !heard.ends_with(b"0\r\n\r\n") {
        assert!(stage.more(&mut heard).await > 0, "it ended early");
    }
    feeding.await.expect("all was sent");
    let mut wanted: Vec<String> = (0..PIECES).map(|number| format!("1000\r\n{}\r\n", piece(number))).collect();
    wanted.push("0\r\n\r\n".to_owned());
    assert!(heard == wanted.concat().as_bytes(), "something was lost or changed");
}

#[test]
fn only_streams_of_http_1_1_without_a_body_to_read_last() {
    let request = |method: Method, version: Version, body: &'static str| {
        let body = http_body_util::Full::new(Bytes::from_static(body.as_bytes()));
        let mut request = Request::new(body);
        (*request.method_mut(), *request.version_mut()) = (method, version);
        request
    };
    let answer = |kind: &'static str| {
        let mut answer = Response::new(());
        answer.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a value"));
        answer
    };
    let stream = answer("Text/Event-Stream;charset=utf-8");
    assert!(Wish::of(&request(Method::GET, Version::HTTP_11, "")).is_granted(&stream));
    assert!(!Wish::of(&request(Method::GET, Version::HTTP_11, "")).is_granted(&answer("text/html")));
    assert!(!Wish::of(&request(Method::GET, Version::HTTP_10, "")).is_granted(&stream));
    assert!(!Wish::of(&request(Method::GET, Version::HTTP_11, "x")).is_granted(&stream));
    assert!(!Wish::of(&request(Method::POST, Version::HTTP_11, "")).is_granted(&stream));
    let mut closed = answer("text/event-stream");
    closed.headers_mut().insert(header::CONNECTION, "close".parse().expect("a value"));
    assert!(!Wish::of(&request(Method::GET, Version::HTTP_11, "")).is_granted(&closed));
    assert!(!Wish::of(&request(Method::GET, Version::HTTP_11, "")).is_granted(&answer("text/event-streams")));
    let mut sized = stream;
    sized.headers_mut().insert(header::CONTENT_LENGTH, "1".parse().expect("a value"));
    assert!(!Wish::of(&request(Method::GET, Version::HTTP_11, "")).is_granted(&sized));
}
