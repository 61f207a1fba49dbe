//! A small server for the live page: the page at `/`, and at `/fragment` what the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What it says, and what it was asked.
#[derive(Default)]
struct State {
    page: String,
    policy: String,
    fragment: String,
    /// Goes up with each change of the fragment.
    version: u64,
    /// `If-None-Match` of each request for the fragment, and the status it got.
    asked: Vec<(Option<String>, u16)>,
}

pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    address: String,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(page: String, policy: String, fragment: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(State { page, policy, fragment, ..State::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (known, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let known = Arc::clone(&known);
                std::thread::spawn(move || answer(&stream, &known));
            }
        });
        Server { state, stop, address, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn say(&self, fragment: String) {
        let mut state = self.state();
        state.fragment = fragment;
        state.version += 1;
    }

    pub(crate) fn asked(&self) -> Vec<(Option<String>, u16)> {
        self.state().asked.clone()
    }

    /// Ends; from now on connections are refused.
    pub(crate) fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it, so that it sees that it should stop.
        let _ = TcpStream::connect(&self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("it did not panic");
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request, one answer, and the connection ends.
fn answer(mut stream: &TcpStream, state: &Mutex<State>) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, tag, body) = if path == "/fragment" {
        let known = head.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("if-none-match").then(|| value.trim().to_owned())
        });
        let tag = format!("\"{}\"", state.version);
        let status = if known.as_ref() == Some(&tag) { 304 } else { 200 };
        state.asked.push((known, status));
        (status, tag, if status == 304 { String::new() } else { state.fragment.clone() })
    } else {
        (if path == "/" { 200 } else { 404 }, "\"page\"".to_owned(), state.page.clone())
    };
    let policy = &state.policy;
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Said\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nETag: {tag}\r\n\
         Content-Security-Policy: {policy}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}
