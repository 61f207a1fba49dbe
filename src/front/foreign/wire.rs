//! How letters, answers and words are written: a form first, numbers big-endian, texts after their length, the longest text last
//! and without one.
//!
//! Promise: reading is total. What was not written so gives `None`, whatever it is.

use std::net::IpAddr;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Writes one.
pub(super) struct Writer {
    text: Vec<u8>,
}

impl Writer {
    /// Begins one of `form`. `room` is about how much follows.
    pub(super) fn new(form: u8, room: usize) -> Self {
        let mut text = Vec::with_capacity(room + 512);
        text.push(form);
        Writer { text }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.text.push(byte);
    }

    pub(super) fn short(&mut self, number: u16) {
        self.text.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.text.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        let length = u32::try_from(text.len()).expect("what may be as long as that goes last");
        self.text.extend_from_slice(&length.to_be_bytes());
        self.text.extend_from_slice(text);
    }

    pub(super) fn option(&mut self, text: Option<&[u8]>) {
        self.byte(text.is_some().into());
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.text(&address.octets()),
            IpAddr::V6(address) => self.text(&address.octets()),
        }
    }

    pub(super) fn headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.byte(1);
            self.text(name.as_str().as_bytes());
            self.text(value.as_bytes());
        }
        self.byte(0);
    }

    /// The end.
    pub(super) fn rest(mut self, text: &[u8]) -> Bytes {
        self.text.extend_from_slice(text);
        self.text.into()
    }
}

/// Reads one. What it gives are parts of the same bytes, not copies.
pub(super) struct Reader {
    left: Bytes,
}

impl Reader {
    /// Begins to read what has to be of `form`.
    pub(super) fn new(form: u8, bytes: Bytes) -> Option<Self> {
        let mut reader = Reader { left: bytes };
        (reader.byte()? == form).then_some(reader)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.left.try_get_u8().ok()
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        self.left.try_get_u16().ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.left.try_get_i64().ok()
    }

    pub(super) fn text(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.left.try_get_u32().ok()?).ok()?;
        (length <= self.left.len()).then(|| self.left.split_to(length))
    }

    pub(super) fn string(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.into()).ok()
    }

    /// A text that may be missing.
    #[allow(clippy::option_option, reason = "unreadable, missing, there")]
    pub(super) fn option(&mut self) -> Option<Option<Bytes>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.text().map(Some),
            _ => None,
        }
    }

    pub(super) fn address(&mut self) -> Option<IpAddr> {
        let octets = self.text()?;
        match octets.len() {
            4 => <[u8; 4]>::try_from(&*octets).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(&*octets).ok().map(IpAddr::from),
            _ => None,
        }
    }

    pub(super) fn headers(&mut self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        loop {
            match self.byte()? {
                0 => return Some(headers),
                1 => {
                    let name = HeaderName::from_bytes(&self.text()?).ok()?;
                    // It panics where there are too many otherwise.
                    headers.try_append(name, value(self.text()?)?).ok()?;
                }
                _ => return None,
            }
        }
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.left
    }
}

/// The value of a header.
pub(super) fn value(bytes: Bytes) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes).ok()
}
