//! The pieces that access logs share: fields, request lines, escaped texts.
//!
//! What stands between quotes came from a client. A quote within is written `\"` (Apache), or `\x22` (nginx), so the first
//! quote without a backslash before it ends the field.

use std::borrow::Cow;

use crate::traffic::printable;

/// What our own log caps texts from outside at, in bytes.
const LONGEST: usize = 512;

/// The fields of a line: separated by spaces, in quotes where they may hold spaces.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Bare(&'a [u8]),
    /// Without the quotes, still escaped.
    Quoted(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Field::Bare(bytes) | Field::Quoted(bytes) => bytes,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let rest = self.0.trim_ascii_start();
        let (field, rest) = if let (b'"', quoted) = rest.split_first()? {
            let (field, rest) = quoted.split_at(closing_quote(quoted).unwrap_or(quoted.len()));
            (Field::Quoted(field), rest.get(1..).unwrap_or_default())
        } else {
            let (field, rest) = rest.split_at(memchr::memchr(b' ', rest).unwrap_or(rest.len()));
            (Field::Bare(field), rest)
        };
        self.0 = rest;
        Some(field)
    }
}

/// Where a field ends whose opening quote stands before `quoted`.
fn closing_quote(quoted: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'"', quoted).find(|at| {
        let before = quoted.get(..*at).unwrap_or_default();
        before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
    })
}

/// Method and path of a request line; both are empty where it is none (a TLS handshake on a plain port, nothing).
pub(super) fn request(line: &[u8]) -> (Cow<'_, str>, Cow<'_, str>) {
    let none = (Cow::Borrowed(""), Cow::Borrowed(""));
    let Some(space) = memchr::memchr(b' ', line) else { return none };
    let (method, rest) = line.split_at(space);
    let target = match memchr::memrchr(b' ', rest) {
        // nginx logs a target with spaces as it came.
        Some(at) if rest.get(at..).is_some_and(|last| last.starts_with(b" HTTP/")) => rest.get(..at),
        _ => Some(rest),
    };
    let target = target.unwrap_or_default().trim_ascii();
    let is_method = method.first().is_some_and(u8::is_ascii_alphabetic)
        && method.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    if !is_method || target.is_empty() {
        return none;
    }
    (text(method), path(unescaped(target)))
}

/// The path of a request's target: without scheme and host, query and fragment.
pub(super) fn path(target: Cow<'_, str>) -> Cow<'_, str> {
    let range = {
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let whole = target.get(..end).unwrap_or_default();
        let start = match whole.find("://") {
            Some(scheme) if !whole.starts_with('/') => {
                whole.get(scheme + 3..).and_then(|host| host.find('/')).map_or(end, |slash| scheme + 3 + slash)
            }
            _ => 0,
        };
        start..end
    };
    // An absolute target without a path asks for the root.
    let path = match target {
        _ if range.is_empty() => Cow::Borrowed("/"),
        Cow::Borrowed(target) => Cow::Borrowed(target.get(range).unwrap_or_default()),
        Cow::Owned(target) => Cow::Owned(target.get(range).unwrap_or_default().to_owned()),
    };
    clean(path)
}

/// A field as text: unescaped, printable, capped.
pub(super) fn text(field: &[u8]) -> Cow<'_, str> {
    clean(unescaped(field))
}

/// A field that is `-` where there is nothing.
pub(super) fn optional(field: &[u8]) -> Option<Cow<'_, str>> {
    (!matches!(field, b"" | b"-")).then(|| text(field))
}

/// Printable and capped, as our own log has texts from outside.
pub(super) fn clean(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= LONGEST && !text.contains(char::is_control) { text } else { Cow::Owned(printable(&text)) }
}

/// A status; 0 where there was none.
pub(super) fn status(field: &[u8]) -> Option<u16> {
    match field {
        // nginx and Caddy write 000 and 0 when nothing was sent.
        b"-" | b"0" | b"000" => Some(0),
        [b'1'..=b'9', _, _] => std::str::from_utf8(field).ok()?.parse().ok(),
        _ => None,
    }
}

/// What Apache and nginx wrote as `\"`, `\\`, `\n` or `\xHH`, taken back. Bytes that are no UTF-8 are replaced.
fn unescaped(field: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', field).is_none() {
        return String::from_utf8_lossy(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        bytes.extend_from_slice(plain);
        let (byte, length) = match escape {
            [_, b'x', high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 4),
                _ => (b'\\', 1),
            },
            [_, b'n', ..] => (b'\n', 2),
            [_, b'r', ..] => (b'\r', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, quoted @ (b'"' | b'\\' | b'/'), ..] => (*quoted, 2),
            _ => (b'\\', 1),
        };
        bytes.push(byte);
        rest = escape.get(length..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest);
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
