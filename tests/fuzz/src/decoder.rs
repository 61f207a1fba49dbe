//! The event-stream decoder: the same under every split, within its cap, and what the format says.

use std::time::Duration;

use bytes::Bytes;
use sse_sunset::sse::{Decoder, Event};

/// Small enough for short inputs to reach it.
const SMALL_CAP: usize = 16;
/// Splits in two that are tried; longer streams are cut at evenly spaced places.
const MAX_CUTS: usize = 64;

/// Everything that a decoder tells.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    events: Vec<Event>,
    last_id: Option<Bytes>,
    retry: Option<Duration>,
    stray: Option<Bytes>,
}

/// `data` is the stream.
pub fn decoder(data: &[u8]) {
    for cap in [1 << 20, SMALL_CAP] {
        let (events, told) = decode(cap, [data]);
        assert!(events.iter().all(|event| event.data.len() <= cap), "an event above the cap");
        assert!(told.is_some() || data.len() > cap, "a stream within the cap was refused");
        for pieces in splits(data) {
            let (split_events, split_told) = decode(cap, pieces.iter().copied());
            assert_eq!((&split_events, &split_told), (&events, &told), "another split, {pieces:?}");
        }
        let format = by_the_format(data);
        assert!(format.events.starts_with(&events), "{events:?} is not what the format says: {:?}", format.events);
        if let Some(told) = told {
            assert_eq!(told, format);
        }
    }
}

/// The events, and the rest if the cap was not reached.
fn decode<'a>(cap: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Told>) {
    let mut decoder = Decoder::new(cap);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, None),
            }
        }
    }
    let (last_id, retry) = (decoder.last_id().cloned(), decoder.retry());
    (events.clone(), Some(Told { events, last_id, retry, stray: decoder.into_stray() }))
}

/// Byte by byte, and in two at many places.
fn splits(data: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let step = data.len().div_ceil(MAX_CUTS).max(1);
    let in_two = (0..data.len()).step_by(step).map(|at| vec![&data[..at], &data[at..]]);
    std::iter::once(data.chunks(1).collect()).chain(in_two)
}

/// The same in the plainest way: the whole stream at hand, line by line (HTML, §9.2.6 Interpreting an event stream).
/// Where the decoder departs from it: empty data and an empty id are none, and bare JSON is kept.
fn by_the_format(data: &[u8]) -> Told {
    let (lines, rest) = lines(data);
    let mut told = Told { events: Vec::new(), last_id: None, retry: None, stray: None };
    let (mut kind, mut data_lines) = (None, Vec::new());
    for line in lines {
        if line.is_empty() {
            let data = Bytes::from(data_lines.join(&b"\n"[..]));
            if !data.is_empty() {
                told.events.push(Event { kind, data });
            }
            (kind, data_lines) = (None, Vec::new());
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let unless_empty = || (!value.is_empty()).then(|| Bytes::copy_from_slice(value));
        match name {
            b"data" => data_lines.push(value),
            b"event" => kind = unless_empty(),
            b"id" if !value.contains(&0) => told.last_id = unless_empty(),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let milliseconds = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                told.retry = milliseconds.map(Duration::from_millis).or(told.retry);
            }
            [b'{', ..] => told.stray = Some(Bytes::copy_from_slice(line)),
            _ => {}
        }
    }
    if rest.starts_with(b"{") {
        told.stray = Some(Bytes::copy_from_slice(rest));
    }
    told
}

/// The ended lines without their ends and without a byte order mark, and what follows the last end.
fn lines(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut lines, mut rest) = (Vec::new(), data);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let end = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        lines.push(&rest[..at]);
        rest = &rest[at + end..];
    }
    if let Some(first) = lines.first_mut() {
        *first = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first);
    }
    (lines, rest)
}
