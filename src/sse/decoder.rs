//! Reads an event stream from chunks that may be split anywhere.
//!
//! Promise: the same bytes give the same events under every split; the data of an event never exceeds the cap, and may
//! reach it; memory is bounded by the cap plus one chunk. Whether the data is UTF-8 and JSON is for the reader of the message to
//! say: the decoder passes bytes.
//!
//! The trap: a `\r` at the end of a chunk ends the line, and a `\n` that opens the next chunk belongs to it.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

/// What may stand on a line beside data of the cap's size: a byte order mark, the field's name, a space.
const LONGEST_FRAME: usize = b"\xEF\xBB\xBFdata: ".len();

/// One dispatched event that carries data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; `None` means `message`.
    pub kind: Option<Bytes>,
    /// The `data` lines, joined with `\n`.
    pub data: Bytes,
}

impl Event {
    /// Whether this is an ordinary message: servers name it or leave the name out.
    #[must_use]
    pub fn is_message(&self) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind.as_ref() == b"message")
    }
}

/// The stream holds an event or a line above the decoder's cap; nothing after it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event exceeds {cap} bytes")]
pub struct EventTooLarge {
    /// The cap in bytes.
    pub cap: usize,
}

/// A push decoder: [`feed`](Decoder::feed) bytes, then take events until there are none.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes received that do not yet form a whole line.
    buffer: BytesMut,
    /// How far `buffer` was already searched for a line end.
    searched: usize,
    /// The last line ended in `\r` at the end of the input: a following `\n` belongs to it.
    swallow_lf: bool,
    /// Nothing was read yet, so a byte order mark may come.
    at_start: bool,
    /// The `event` field of the event under construction.
    kind: Option<Bytes>,
    /// The `data` of the event under construction.
    data: Option<Data>,
    /// The last event id seen; survives the events, as the format says.
    last_id: Option<Bytes>,
    /// The last `retry` seen.
    retry: Option<Duration>,
    /// A bare JSON line outside of any field.
    stray: Option<Bytes>,
    /// Bound for one event's data, in bytes; a line may be longer by [`LONGEST_FRAME`].
    cap: usize,
}

/// Data lines: one line stays a slice of the input, several are joined.
#[derive(Debug)]
enum Data {
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::One(line) => line.len(),
            Data::Many(lines) => lines.len(),
        }
    }

    fn join(self, line: &Bytes) -> Data {
        let mut lines = match self {
            Data::One(first) => BytesMut::from(first.as_ref()),
            Data::Many(lines) => lines,
        };
        lines.extend_from_slice(b"\n");
        lines.extend_from_slice(line);
        Data::Many(lines)
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Data::One(line) => line,
            Data::Many(lines) => lines.freeze(),
        }
    }
}

impl Decoder {
    /// A decoder that refuses events above `cap` bytes.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Decoder {
            buffer: BytesMut::new(),
            searched: 0,
            swallow_lf: false,
            at_start: true,
            kind: None,
            data: None,
            last_id: None,
            retry: None,
            stray: None,
            cap,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Bytes that were fed and have not become an event.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len() + self.data.as_ref().map_or(0, Data::len)
    }

    /// The next whole event with data, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When an event or a line is larger than the cap; the decoder is of no use afterwards.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    return Ok(Some(event));
                }
            } else {
                self.field(line)?;
            }
        }
        Ok(None)
    }

    /// The last event id the server gave, if any.
    #[must_use]
    pub fn last_id(&self) -> Option<&Bytes> {
        self.last_id.as_ref()
    }

    /// How long the server wants clients to wait before they reconnect, if it said so.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Whatever stood outside of the format and looks like a JSON object, once the stream is over: go-sdk
    /// writes an error that comes late as a bare line. Half an event is discarded, as the format says.
    pub fn into_stray(mut self) -> Option<Bytes> {
        let rest = self.buffer.split().freeze();
        if rest.first() == Some(&b'{') {
            return Some(rest);
        }
        self.stray
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        if self.swallow_lf && !self.buffer.is_empty() {
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
            self.swallow_lf = false;
        }
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let found = memchr2(b'\n', b'\r', unsearched);
        let end = found.map_or(self.buffer.len(), |found| self.searched + found);
        // Whether the line's end is there yet makes no difference: that is a matter of the split.
        if end > self.cap + LONGEST_FRAME {
            return Err(EventTooLarge { cap: self.cap });
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        self.searched = 0;
        let mut line = self.buffer.split_to(end).freeze();
        self.swallow_lf = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.advance(3);
        }
        Ok(Some(line))
    }

    fn field(&mut self, line: Bytes) -> Result<(), EventTooLarge> {
        let colon = memchr::memchr(b':', &line);
        let name = line.slice(..colon.unwrap_or(line.len()));
        let mut value = colon.map_or_else(Bytes::new, |at| line.slice(at + 1..));
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match name.as_ref() {
            b"data" => {
                // Lines are joined with a line feed, which counts.
                let held = self.data.as_ref().map_or(0, |data| data.len() + 1);
                if held + value.len() > self.cap {
                    return Err(EventTooLarge { cap: self.cap });
                }
                self.data = Some(match self.data.take() {
                    None => Data::One(value),
                    Some(data) => data.join(&value),
                });
            }
            b"event" => self.kind = Some(value).filter(|kind| !kind.is_empty()),
            // An empty id takes back the one before: there is nothing to go on from.
            b"id" if !value.contains(&0) => self.last_id = Some(value).filter(|id| !id.is_empty()),
            b"retry" => self.retry = milliseconds(&value).or(self.retry),
            name if name.first() == Some(&b'{') => self.stray = Some(line),
            _ => {}
        }
        Ok(())
    }

    /// Ends the event under construction. Without data, or with empty data (priming), there is no event.
    fn dispatch(&mut self) -> Option<Event> {
        let kind = self.kind.take();
        let data = self.data.take()?.into_bytes();
        (!data.is_empty()).then_some(Event { kind, data })
    }
}

fn milliseconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `stream` cut at `cuts`, with what the decoder knows at the end.
    fn decode(stream: &[u8], cuts: &[usize]) -> (Vec<Event>, Option<Bytes>, Option<Duration>, Option<Bytes>) {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Vec::new();
        let mut from = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        for end in ends {
            decoder.feed(&stream[from..end]);
            from = end;
            while let Some(event) = decoder.next_event().expect("below the cap") {
                events.push(event);
            }
        }
        let (id, retry) = (decoder.last_id().cloned(), decoder.retry());
        (events, id, retry, decoder.into_stray())
    }

    fn data(stream: &str) -> Vec<String> {
        let (events, ..) = decode(stream.as_bytes(), &[]);
        events.into_iter().map(|event| String::from_utf8(event.data.to_vec()).expect("utf-8")).collect()
    }

    #[test]
    fn every_line_end_separates_lines() {
        assert_eq!(data("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\r\n\n"), ["a", "b", "c", "d"]);
    }

    #[test]
    fn field_order_comments_and_bom_do_not_matter() {
        let stream = "\u{feff}: hello\ndata: x\nid: 7\n: again\nevent: message\nretry: 3000\n\n";
        let (events, id, retry, _) = decode(stream.as_bytes(), &[]);
        assert_eq!(events.len(), 1);
        assert!(events[0].is_message());
        assert_eq!(id.as_deref(), Some(&b"7"[..]));
        assert_eq!(retry, Some(Duration::from_secs(3)));
    }

    #[test]
    fn data_lines_are_joined_and_one_space_is_taken() {
        assert_eq!(data("data:  a\ndata\ndata:b\n\n"), [" a\n\nb"]);
    }

    #[test]
    fn priming_and_half_events_are_no_events() {
        assert!(data("data: \nid: 0\nretry: 3000\n\nevent: prime\n\ndata: half").is_empty());
    }

    #[test]
    fn kind_does_not_stick_to_the_next_event() {
        let (events, ..) = decode(b"event: other\ndata: 1\n\ndata: 2\n\n", &[]);
        assert_eq!(events[0].kind.as_deref(), Some(&b"other"[..]));
        assert!(!events[0].is_message());
        assert_eq!(events[1].kind, None);
    }

    #[test]
    fn bare_json_line_is_kept_as_stray() {
        let (_, _, _, stray) = decode(b"data: 1\n\n{\"jsonrpc\":\"2.0\"}\n", &[]);
        assert_eq!(stray.as_deref(), Some(&b"{\"jsonrpc\":\"2.0\"}"[..]));
        let (_, _, _, unended) = decode(b"{\"a\":1}", &[]);
        assert_eq!(unended.as_deref(), Some(&b"{\"a\":1}"[..]));
    }

    #[test]
    fn cap_holds_for_lines_and_for_joined_data_under_every_split() {
        let fits = |stream: &[u8]| {
            let verdicts: Vec<bool> = (0..=stream.len())
                .map(|cut| {
                    let mut decoder = Decoder::new(8);
                    decoder.feed(&stream[..cut]);
                    let first = decoder.next_event();
                    decoder.feed(&stream[cut..]);
                    first.and_then(|_| decoder.next_event()).is_ok()
                })
                .collect();
            assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{verdicts:?}");
            verdicts[0]
        };
        assert!(fits(b"\xEF\xBB\xBFdata: 12345678\n\n"));
        assert!(!fits(b"data: 123456789\n\n"));
        assert!(fits(b"data:1234\ndata:567\n\n"));
        assert!(!fits(b"data:1234\ndata:5678\n\n"));
        assert!(!fits(b": a comment that is too long\n\n"));
        assert!(!fits(b"data: and this has no end"));
    }

    /// Streams made of the pieces that matter, so that cuts fall into every kind of place.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("\u{feff}"),
            Just("data: "),
            Just("data:"),
            Just("event: "),
            Just("id: "),
            Just("retry: 10"),
            Just(":"),
            Just("message"),
            Just("{\"a\":\"ü\"}"),
            Just("\n"),
            Just("\r"),
            Just("\r\n"),
            Just("\n\n"),
            Just(" "),
            Just("\0"),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn events_are_the_same_under_every_split(
            stream in stream(),
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            prop_assert_eq!(decode(&stream, &[]), decode(&stream, &cuts));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<usize>()) {
            prop_assert_eq!(decode(&bytes, &[]), decode(&bytes, &[cut]));
        }
    }
}
