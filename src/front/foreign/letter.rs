//! A POST on its way to the replica that owns its session.
//!
//! The headers go as the client sent them, not as they go up: what tells whom a session belongs to may be among those that stay
//! here (`--credential-header` may name any), and the owner makes of them what it makes of those of its own clients. Hashes of
//! credentials do not go: they are keyed, and each process has a key of its own.

use std::fmt;
use std::str;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::value::RawValue;

use super::super::post::Content;
use super::super::visitor::Voucher;
use super::wire::{self, Reader, Writer};
use crate::mcp::{RequestId, RpcError};
use crate::upstream::Hop;

const FORM: u8 = 1;

/// The kinds of content.
const WHOLE: u8 = 0;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A POST.
pub(super) struct Letter {
    /// The session that it is for.
    pub(super) id: String,
    /// Whose word there is on its sender.
    pub(super) voucher: Voucher,
    /// The client's side of its connection.
    pub(super) hop: Hop,
    /// As the client sent them.
    pub(super) headers: HeaderMap,
    /// What was read of its body.
    pub(super) content: Content,
}

impl fmt::Debug for Letter {
    /// Without what is in it: credentials, the id of a session, a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Letter(…)")
    }
}

impl Letter {
    pub(super) fn write(&self) -> Bytes {
        let body: &[u8] = match &self.content {
            Content::Whole(body) => body,
            Content::Request(..) | Content::Response(..) => &[],
        };
        let room: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 9).sum();
        let mut writer = Writer::new(FORM, room + body.len());
        writer.text(self.id.as_bytes());
        writer.option(self.voucher.certificate.as_ref().map(<[u8; 32]>::as_slice));
        writer.option(self.voucher.name.as_ref().map(http::HeaderValue::as_bytes));
        writer.address(self.hop.client);
        writer.option(self.hop.host.as_ref().map(http::HeaderValue::as_bytes));
        writer.byte((self.hop.proto == "https").into());
        writer.headers(&self.headers);
        match &self.content {
            Content::Whole(_) => writer.byte(WHOLE),
            Content::Request(id, error) => write_unreadable(&mut writer, REQUEST, id, error),
            Content::Response(id, error) => write_unreadable(&mut writer, RESPONSE, id, error),
        }
        writer.rest(body)
    }

    /// What another replica wrote; `None` when it is no letter.
    pub(super) fn read(bytes: Bytes) -> Option<Letter> {
        let mut reader = Reader::new(FORM, bytes)?;
        let id = reader.string()?;
        let certificate = reader.option()?.map(|key| <[u8; 32]>::try_from(&*key)).transpose().ok()?;
        let name = read_value(&mut reader)?;
        let client = reader.address()?;
        let host = read_value(&mut reader)?;
        let proto = match reader.byte()? {
            0 => "http",
            1 => "https",
            _ => return None,
        };
        let headers = reader.headers()?;
        let content = match reader.byte()? {
            WHOLE => Content::Whole(reader.rest()),
            REQUEST => read_unreadable(reader, Content::Request)?,
            RESPONSE => read_unreadable(reader, Content::Response)?,
            _ => return None,
        };
        let voucher = Voucher { certificate, name };
        Some(Letter { id, voucher, hop: Hop { client, host, proto }, headers, content })
    }
}

#[allow(clippy::option_option, reason = "unreadable, missing, there")]
fn read_value(reader: &mut Reader) -> Option<Option<http::HeaderValue>> {
    match reader.option()? {
        Some(bytes) => wire::value(bytes).map(Some),
        None => Some(None),
    }
}

fn write_unreadable(writer: &mut Writer, kind: u8, id: &RequestId, error: &RpcError) {
    writer.byte(kind);
    writer.text(id.as_json().as_bytes());
    writer.signed(error.code);
    writer.text(error.message.as_bytes());
    writer.text(error.data.to_string().as_bytes());
}

fn read_unreadable(mut reader: Reader, content: fn(RequestId, RpcError) -> Content) -> Option<Content> {
    let id = reader.text()?;
    let id: &RawValue = serde_json::from_str(str::from_utf8(&id).ok()?).ok()?;
    let id = RequestId::from_raw(id)?;
    let (code, message) = (reader.signed()?, reader.string()?);
    let data = serde_json::from_slice(&reader.text()?).ok()?;
    reader.rest().is_empty().then(|| content(id, RpcError { code, message, data }))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::code;

    fn value() -> impl Strategy<Value = HeaderValue> {
        let byte = prop_oneof![32_u8..127, 128..=255_u8];
        vec(byte, 0..40).prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a value"))
    }

    fn headers() -> impl Strategy<Value = HeaderMap> {
        vec(("[a-z][a-z0-9-]{0,12}", value()), 0..8).prop_map(|fields| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
            }
            headers
        })
    }

    fn content() -> impl Strategy<Value = Content> {
        let error = || {
            any::<(i32, String)>()
                .prop_map(|(code, text)| RpcError::new(code.into(), "reason", text).with("limit_bytes", 7))
        };
        let id = || {
            let text = "[ -~é]{0,40}".prop_map(|text| RequestId::text(&text));
            let number = any::<i64>().prop_map(|number| {
                RequestId::from_raw(&RawValue::from_string(number.to_string()).expect("JSON")).expect("an id")
            });
            prop_oneof![text, number]
        };
        prop_oneof![
            vec(any::<u8>(), 0..200).prop_map(|body| Content::Whole(body.into())),
            (id(), error()).prop_map(|(id, error)| Content::Request(id, error)),
            (id(), error()).prop_map(|(id, error)| Content::Response(id, error)),
        ]
    }

    fn letter() -> impl Strategy<Value = Letter> {
        let word = (any::<Option<[u8; 32]>>(), prop::option::of(value()));
        let hop = (any::<std::net::IpAddr>(), prop::option::of(value()), any::<bool>());
        (".{0,128}", word, hop, headers(), content()).prop_map(
            |(id, (certificate, name), (client, host, is_https), headers, content)| {
                let proto = if is_https { "https" } else { "http" };
                let voucher = Voucher { certificate, name };
                Letter { id, voucher, hop: Hop { client, host, proto }, headers, content }
            },
        )
    }

    proptest! {
        #[test]
        fn letter_says_what_was_written(letter in letter()) {
            let read = Letter::read(letter.write()).expect("a letter");
            prop_assert_eq!(read.id, letter.id);
            prop_assert_eq!(read.voucher, letter.voucher);
            prop_assert_eq!(read.hop.client, letter.hop.client);
            prop_assert_eq!(read.hop.host, letter.hop.host);
            prop_assert_eq!(read.hop.proto, letter.hop.proto);
            prop_assert_eq!(read.headers, letter.headers);
            prop_assert_eq!(read.content, letter.content);
        }

        #[test]
        fn letter_that_was_cut_or_changed_is_read_or_refused_and_no_more(
            letter in letter(), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let whole = letter.write();
            let _ = Letter::read(whole.slice(..cut.index(whole.len())));
            let mut changed = whole.to_vec();
            changed[at.index(whole.len())] = byte;
            let _ = Letter::read(changed.into());
        }

        #[test]
        fn garbage_is_no_letter_and_no_panic(garbage in vec(any::<u8>(), 0..300)) {
            // The first byte is the form, so that most of it is looked at.
            let _ = Letter::read([&[FORM][..], &garbage].concat().into());
            prop_assert!(Letter::read([&[FORM + 1][..], &garbage].concat().into()).is_none());
        }
    }

    fn plain(content: Content) -> Letter {
        let hop = Hop { client: std::net::Ipv4Addr::LOCALHOST.into(), host: None, proto: "http" };
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer hunter2"))]);
        Letter { id: "secret-id".to_owned(), voucher: Voucher::default(), hop, headers, content }
    }

    #[test]
    fn body_is_not_copied_when_it_is_read() {
        let letter = plain(Content::Whole(vec![b'x'; 4 << 20].into())).write();
        let Some(Letter { content: Content::Whole(body), .. }) = Letter::read(letter.clone()) else {
            panic!("a letter")
        };
        assert_eq!(body.len(), 4 << 20);
        assert!(letter.as_ptr_range().contains(&body.as_ptr()));
    }

    #[test]
    fn more_headers_than_a_map_can_hold_are_refused() {
        let mut writer = Writer::new(FORM, 0);
        writer.text(b"id");
        writer.option(None);
        writer.option(None);
        writer.address(std::net::Ipv4Addr::LOCALHOST.into());
        writer.option(None);
        writer.byte(0);
        for number in 0..40_000 {
            writer.byte(1);
            writer.text(format!("x-{number}").as_bytes());
            writer.text(b"");
        }
        writer.byte(0);
        writer.byte(WHOLE);
        assert!(Letter::read(writer.rest(b"{}")).is_none());
    }

    #[test]
    fn nothing_stands_behind_an_error_and_debug_shows_nothing() {
        let error = RpcError::new(code::INVALID_REQUEST, "message_too_large", "too large");
        let letter = plain(Content::Request(RequestId::text("a"), error));
        let longer = [&*letter.write(), b"x"].concat();
        assert!(Letter::read(longer.into()).is_none());
        assert_eq!(format!("{letter:?}"), "Letter(…)");
    }
}
