//! Reads the keys of a message that the proxy looks at, and skips everything else unread.
//!
//! The trap: a key that stands there twice, or almost, is read one way here and another way behind. Such messages are
//! refused, so the readers here count what serde's own would overwrite.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The keys of `params` that say what a request is about.
pub(super) struct Subjects {
    pub(super) doubled: Option<&'static str>,
}

impl<'de> Deserialize<'de> for Subjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SubjectsVisitor;

        impl<'de> Visitor<'de> for SubjectsVisitor {
            type Value = Subjects;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Subjects, A::Error> {
                let (mut names, mut uris) = (0, 0);
                while let Some(Text(key)) = map.next_key()? {
                    match key.as_ref() {
                        "name" => names += 1,
                        "uri" => uris += 1,
                        _ => {}
                    }
                    map.next_value::<IgnoredAny>()?;
                }
                let doubled = [("name", names), ("uri", uris)].into_iter().find(|(_, count)| *count > 1);
                Ok(Subjects { doubled: doubled.map(|(key, _)| key) })
            }
        }

        deserializer.deserialize_map(SubjectsVisitor)
    }
}

/// The top-level members that the proxy looks at.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) jsonrpc: Option<Cow<'a, str>>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) method: Option<Cow<'a, str>>,
    pub(super) params: Option<&'a RawValue>,
    pub(super) result: Option<&'a RawValue>,
    pub(super) error: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;

        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(Text(key)) = map.next_key()? {
                    let doubled = match key.as_ref() {
                        "jsonrpc" => envelope.jsonrpc.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                        "id" => envelope.id.replace(map.next_value()?).is_some(),
                        "method" => envelope.method.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                        "params" => envelope.params.replace(map.next_value()?).is_some(),
                        "result" => envelope.result.replace(map.next_value()?).is_some(),
                        "error" => envelope.error.replace(map.next_value()?).is_some(),
                        other if is_near_envelope_key(other) => {
                            return Err(A::Error::custom(format_args!("ambiguous key {other:?}")));
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            false
                        }
                    };
                    if doubled {
                        return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
                    }
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// A key that a case-insensitive or NUL-terminated parser would take for an envelope key.
fn is_near_envelope_key(key: &str) -> bool {
    let key = key.split('\0').next().unwrap_or_default();
    ["jsonrpc", "id", "method", "params", "result", "error"].iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// A string that borrows from the text where it can.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}
