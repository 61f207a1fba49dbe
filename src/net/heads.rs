//! Whether every line of a request's head ends as it should, with CR LF.
//!
//! Why: hyper takes a bare LF for the end of a line, as RFC 9112 §2.2 allows. A server in front that does not, and lets
//! one pass within a header's value, then sees one request where hyper sees two, and the second went past whatever it
//! checks. No client writes such heads, so a connection that brings one ends without an answer.
//!
//! The trap: hyper owns the connection, and what is head and what is body only it knows for sure. So this looks at bytes
//! only while a head is awaited, from what may be the start of one to its first empty line. What was sent together with the
//! request before it is not seen; servers in front send the next request when they have the answer to the last. And what does
//! not begin with a capital letter is taken for the rest of a body: so a request whose method does not is doubtful itself
//! ([`Heads::are_doubtful`]), or its head would go by unseen.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;
use memchr::memchr2;

/// The heads of one connection that speaks HTTP/1; on HTTP/2 lines mean nothing.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<Scan>);

#[derive(Debug, Default)]
struct Scan {
    at: At,
    is_doubtful: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first line; empty lines may come first (RFC 9112 §2.2).
    #[default]
    Start,
    /// At the start of a line.
    Line,
    /// Within one.
    Within,
    /// Behind a CR; whether the line was empty so far.
    Return { is_empty: bool },
    /// Behind the head, until the next one is awaited.
    Behind,
}

impl Heads {
    fn scan(&self) -> MutexGuard<'_, Scan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn feed(&self, bytes: &[u8]) {
        let mut scan = self.scan();
        let mut rest = bytes;
        while scan.at != At::Behind {
            if scan.at == At::Within {
                let Some(end) = memchr2(b'\r', b'\n', rest) else { return };
                rest = rest.get(end..).unwrap_or_default();
            }
            let Some((byte, after)) = rest.split_first() else { return };
            scan.take(*byte);
            rest = after;
        }
    }

    /// The answer is written: the next head may come.
    pub(super) fn await_next(&self) {
        self.scan().at = At::Start;
    }

    /// Whether a line of a head ended without a CR, or may have done so in that of `method`: registered methods begin with a
    /// capital letter, and a head that does not was not looked at.
    pub(super) fn are_doubtful(&self, method: &Method) -> bool {
        self.scan().is_doubtful || !method.as_str().starts_with(|first: char| first.is_ascii_uppercase())
    }
}

impl Scan {
    fn take(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::Start, b'\r' | b'\n') => At::Start,
            // The rest of a body that nobody read does not begin like a method, save by chance.
            (At::Start, byte) if !byte.is_ascii_uppercase() => At::Behind,
            (At::Line, b'\r') => At::Return { is_empty: true },
            (At::Return { is_empty }, b'\n') => {
                if is_empty {
                    At::Behind
                } else {
                    At::Line
                }
            }
            (at, b'\n') => {
                self.is_doubtful = true;
                if at == At::Line { At::Behind } else { At::Line }
            }
            (_, b'\r') => At::Return { is_empty: false },
            _ => At::Within,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_doubtful(pieces: &[&str]) -> bool {
        let heads = Heads::default();
        for piece in pieces {
            heads.feed(piece.as_bytes());
        }
        heads.are_doubtful(&Method::GET)
    }

    #[test]
    fn bare_line_feed_in_a_head_is_seen_however_it_is_split() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\n\nGET /b HTTP/1.1\r\n",
            "\r\nPOST / HTTP/1.1\r\nHost: a\r\n\n",
            "PUT / HTTP/1.1\n",
            "PRI / HTTP/1.1\r\nHost: a\n\r\n",
        ] {
            assert!(is_doubtful(&[head]), "{head:?}");
            for at in 1..head.len() {
                assert!(is_doubtful(&[&head[..at], &head[at..]]), "{head:?} split at {at}");
            }
        }
        for head in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", "GET /"] {
            assert!(!is_doubtful(&[head]), "{head:?}");
        }
    }

    #[test]
    fn method_that_may_have_gone_by_unseen_is_doubtful_itself() {
        let heads = Heads::default();
        for (method, doubtful) in
            [("GET", false), ("BASELINE-CONTROL", false), ("get", true), ("!x", true), ("1", true)]
        {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(heads.are_doubtful(&method), doubtful, "{method}");
        }
    }

    #[test]
    fn bodies_are_not_looked_at() {
        assert!(!is_doubtful(&["POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n{\n}\n", "\n\n"]));
        let heads = Heads::default();
        heads.feed(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n");
        heads.await_next();
        heads.feed(b"{\n\n}");
        assert!(!heads.are_doubtful(&Method::POST), "the rest of a body that was refused unread");
        heads.await_next();
        heads.feed(b"GET / HTTP/1.1\n");
        assert!(heads.are_doubtful(&Method::GET));
        let second = Heads::default();
        second.feed(b"PRI /x HTTP/1.1\r\n\r\n");
        second.await_next();
        second.feed(b"GET\n");
        assert!(second.are_doubtful(&Method::GET), "whatever came before");
    }
}
