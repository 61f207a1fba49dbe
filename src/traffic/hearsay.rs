//! What a request of Streamable HTTP says of its client, read out of the start of its body.
//!
//! Promise: what stands in the part that is there is found, and neither the rest nor its end is needed. The trap: a
//! parser that wants the whole document finds nothing in the first 64 KiB of a large call.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ClientInfo;

/// Where a client of 2026-07-28 names itself on every request (MCP 2026-07-28, basic §_meta).
const META_NAME: &str = "io.modelcontextprotocol/clientInfo";

/// The client that the start of a request names: in `params.clientInfo` of an `initialize`, or in `params._meta`.
#[must_use]
pub fn client_info(start: &[u8]) -> Option<ClientInfo> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(start);
    // That it ends too soon does not matter.
    let _ = Within { depth: Depth::Message, found: &mut found }.deserialize(&mut reader);
    found
}

#[derive(Clone, Copy)]
enum Depth {
    Message,
    Params,
    Meta,
}

/// Looks for the name at one depth of the document, and notes it as soon as it is read.
struct Within<'a> {
    depth: Depth,
    found: &'a mut Option<ClientInfo>,
}

impl Within<'_> {
    fn deeper(&mut self, depth: Depth) -> Within<'_> {
        Within { depth, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match (self.depth, &*key) {
                (Depth::Message, "params") => map.next_value_seed(self.deeper(Depth::Params))?,
                (Depth::Params, "_meta") => map.next_value_seed(self.deeper(Depth::Meta))?,
                (Depth::Params, "clientInfo") | (Depth::Meta, META_NAME) => *self.found = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    /// A batch: the first that names a client.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let depth = self.depth;
        while self.found.is_none() && seq.next_element_seed(self.deeper(depth))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(start: &str) -> Option<String> {
        client_info(start.as_bytes()).map(|info| info.name)
    }

    #[test]
    fn client_is_found_where_either_era_names_it() {
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{},"clientInfo":{"name":"Cursor (via mcp-remote 0.1.31)","version":"1"}}}"#;
        assert_eq!(name(initialize).as_deref(), Some("Cursor"));
        let call = r#"{"method":"tools/call","params":{"name":"x","_meta":{"a":[1],"io.modelcontextprotocol/clientInfo":{"name":"b"}}}}"#;
        assert_eq!(name(call).as_deref(), Some("b"));
        assert_eq!(name(&format!("[{{\"method\":\"ping\"}},{initialize}]")).as_deref(), Some("Cursor"));
    }

    #[test]
    fn rest_of_the_request_is_not_needed() {
        let start =
            r#"{"params":{"_meta":{"io.modelcontextprotocol/clientInfo":{"name":"b"}},"arguments":{"text":"xxx"#;
        assert_eq!(name(start).as_deref(), Some("b"));
    }

    #[test]
    fn nobody_is_found_elsewhere_or_in_nonsense() {
        for text in [
            r#"{"clientInfo":{"name":"a"}}"#,
            r#"{"params":{"arguments":{"clientInfo":{"name":"a"}}}}"#,
            r#"{"params":{"clientInfo":7}}"#,
            r#"{"params":"clientInfo"}"#,
            "",
            "nonsense",
            "\u{feff}{",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
        let deep = "[".repeat(60 << 10);
        assert_eq!(name(&deep), None, "and the stack holds");
    }
}
