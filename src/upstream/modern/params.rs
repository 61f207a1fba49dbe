//! `x-mcp-header`: arguments of a tool that go into headers as well, and the tools that ask for it in a way that no client
//! may follow.
//!
//! A gateway may route by such a header, so a server refuses a call without it, and a client has to leave out tools whose
//! marks are not valid (MCP 2026-07-28, transports/streamable-http §Schema Extension). The traps: a property may be
//! *called* `x-mcp-header`, and a default may hold one; a mark is one only where a schema stands.

use std::borrow::Cow;
use std::collections::HashSet;

use ::http::{HeaderName, HeaderValue};

use super::headers;
use crate::mcp::{Array, Object};

/// The mark, whose value is the name of the header without its prefix.
const MARK: &str = "x-mcp-header";
/// What all these headers begin with.
const PREFIX: &str = "mcp-param-";
/// Schemas within schemas that are read. A mark that lies deeper makes its tool invalid.
const DEEPEST: usize = 64;
/// Largest integer that all parsers read alike, 2^53 - 1 (§Schema Extension).
const LARGEST_INTEGER: f64 = 9_007_199_254_740_991.0;
/// Longest part of a server's own text in a reason, in characters.
const LONGEST_QUOTE: usize = 80;

/// Keywords whose value is a schema, or (`items` of old) a list of them; those of draft 7 included.
const SCHEMAS: &[&str] = &[
    "items",
    "additionalItems",
    "prefixItems",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
/// Keywords whose value names schemas.
const NAMED_SCHEMAS: &[&str] = &["patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"];

/// Which arguments of one tool go into which headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ToolHeaders {
    root: Node,
}

/// One property on the way to those that are marked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// The header that repeats it.
    header: Option<HeaderName>,
    properties: Vec<(String, Node)>,
}

/// What [`note_tools`] finds in a list of tools.
#[derive(Debug)]
pub(super) struct Noted<'a> {
    /// The result, without the tools that are left out.
    pub(super) result: Cow<'a, str>,
    /// The names of tools that have headers, and those headers.
    pub(super) headers: Vec<(String, ToolHeaders)>,
    /// The names of tools that were left out, and why, for the log.
    pub(super) dropped: Vec<(String, String)>,
}

impl ToolHeaders {
    /// Reads the marks of an `inputSchema`.
    ///
    /// # Errors
    /// Why the tool must not be offered; the server's fault, worded for its operator.
    pub(super) fn of(input_schema: &str) -> Result<Self, String> {
        let mut reading = Reading::default();
        Ok(ToolHeaders { root: reading.reachable(input_schema)? })
    }

    /// Whether no argument goes into a header.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.root == Node::default()
    }

    /// The headers for a call with these `arguments`. What is absent or null has none; a value of another type than
    /// the schema says has one as well, if it is text, a number or a boolean: the server shall speak about the type,
    /// and not about the header.
    #[must_use]
    pub(super) fn values(&self, arguments: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
        let mut values = Vec::new();
        if let Some(arguments) = arguments.filter(|_| !self.is_empty()) {
            self.root.collect(arguments, &mut values);
        }
        values
    }
}

impl Node {
    fn collect(&self, value: &str, values: &mut Vec<(HeaderName, HeaderValue)>) {
        if let Some(header) = &self.header
            && let Some(text) = written(value)
        {
            values.push((header.clone(), headers::value(&text)));
        }
        if self.properties.is_empty() {
            return;
        }
        let Some(object) = Object::of(value) else { return };
        for (name, node) in &self.properties {
            if let Some(value) = object.get(name) {
                node.collect(value, values);
            }
        }
    }
}

/// A value as headers spell it (§Value Encoding, type conversion); `None` for what has no such spelling.
fn written(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b't' | b'f' => Some(json.to_owned()),
        b'-' | b'0'..=b'9' => {
            let number: f64 = json.parse().ok().filter(|number: &f64| number.is_finite())?;
            let is_integer = number.fract() == 0.0;
            // 1e3 and 42.0 are integers too, and servers compare with what JSON parsers make of them. `+ 0.0` makes
            // the negative zero an ordinary one.
            (!is_integer || number.abs() <= LARGEST_INTEGER).then(|| (number + 0.0).to_string())
        }
        _ => None,
    }
}

/// One pass over a schema.
#[derive(Debug, Default)]
struct Reading {
    /// Headers found so far. Their names know no case.
    seen: HashSet<HeaderName>,
    /// The properties that lead to where it is.
    path: Vec<String>,
    depth: usize,
}

impl Reading {
    /// A schema that is reached by `properties` alone.
    fn reachable(&mut self, schema: &str) -> Result<Node, String> {
        let mut node = Node::default();
        let Some(object) = self.enter(schema)? else { return Ok(node) };
        if let Some(mark) = object.get(MARK) {
            node.header = Some(self.header(mark, &object)?);
        }
        for (keyword, value) in object.members() {
            match keyword {
                "properties" => {
                    let Some(properties) = Object::of(value) else { continue };
                    for (name, schema) in properties.members() {
                        self.path.push(name.to_owned());
                        let property = self.reachable(schema)?;
                        self.path.pop();
                        if property != Node::default() {
                            node.properties.push((name.to_owned(), property));
                        }
                    }
                }
                keyword => self.within(keyword, value)?,
            }
        }
        self.depth -= 1;
        Ok(node)
    }

    /// A schema that is reached in another way: no call has a value there that could be told beforehand.
    fn unreachable(&mut self, schema: &str) -> Result<(), String> {
        let Some(object) = self.enter(schema)? else { return Ok(()) };
        if object.get(MARK).is_some() {
            return Err(format!("{MARK} stands {}where no chain of \"properties\" alone leads", self.place()));
        }
        for (keyword, value) in object.members() {
            match keyword {
                "properties" => self.named(value)?,
                keyword => self.within(keyword, value)?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The schemas in the value of any keyword but `properties`. What is no schema (`default`, `enum`, words of others)
    /// may hold anything.
    fn within(&mut self, keyword: &str, value: &str) -> Result<(), String> {
        if NAMED_SCHEMAS.contains(&keyword) {
            self.named(value)
        } else if !SCHEMAS.contains(&keyword) {
            Ok(())
        } else if let Some(schemas) = mentioned(value).and_then(Array::of) {
            schemas.items().try_for_each(|schema| self.unreachable(schema))
        } else {
            self.unreachable(value)
        }
    }

    fn named(&mut self, value: &str) -> Result<(), String> {
        let Some(schemas) = mentioned(value).and_then(Object::of) else { return Ok(()) };
        schemas.members().try_for_each(|(_, schema)| self.unreachable(schema))
    }

    /// Goes one schema deeper, if there is anything to find in it.
    fn enter<'a>(&mut self, schema: &'a str) -> Result<Option<Object<'a>>, String> {
        let Some(object) = mentioned(schema).and_then(Object::of) else { return Ok(None) };
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("its schema names {MARK} more than {DEEPEST} schemas deep"));
        }
        Ok(Some(object))
    }

    /// The header that a mark asks for.
    fn header(&mut self, mark: &str, schema: &Object<'_>) -> Result<HeaderName, String> {
        let place = self.place();
        if self.path.is_empty() {
            return Err(format!("{MARK} stands at the root of the schema, which is no property"));
        }
        let Ok(name) = serde_json::from_str::<String>(mark) else {
            return Err(format!("{MARK} {place}is no string"));
        };
        if name.is_empty() {
            return Err(format!("{MARK} {place}is empty"));
        }
        // Just the characters of a token (RFC 9110 §5.6.2).
        let Ok(header) = HeaderName::try_from(format!("{PREFIX}{name}")) else {
            return Err(format!("{MARK} {place}is {}, which no header can be called", shown(&name)));
        };
        let kind = schema.get("type").and_then(|kind| serde_json::from_str::<String>(kind).ok());
        match kind.as_deref() {
            Some("string" | "integer" | "boolean") => {}
            Some(other) => {
                return Err(format!("{MARK} {place}is on a {}; only string, integer, boolean may", shown(other)));
            }
            None => return Err(format!("{MARK} {place}is on no single type; only string, integer, boolean may")),
        }
        if !self.seen.insert(header.clone()) {
            return Err(format!("{MARK} {place}is {}, as another is already", shown(&name)));
        }
        Ok(header)
    }

    /// Where it is, for people, with a space behind it.
    fn place(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("at {} ", shown(&self.path.join("."))) }
    }
}

/// `text`, unless it cannot hold a mark. One may be spelled with escapes.
fn mentioned(text: &str) -> Option<&str> {
    (text.contains(MARK) || text.contains("\\u")).then_some(text)
}

/// A text of the server's, for a reason: short, in quotes, in one line.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(LONGEST_QUOTE).collect::<String>())
}

/// Reads a result of `tools/list`: which calls need headers, and which tools the client must not see.
#[must_use]
pub(super) fn note_tools(result: &str) -> Noted<'_> {
    let mut noted = Noted { result: Cow::Borrowed(result), headers: Vec::new(), dropped: Vec::new() };
    let Some(mut object) = mentioned(result).and_then(Object::of) else { return noted };
    let Some(mut tools) = object.get("tools").and_then(Array::of) else { return noted };
    for (index, tool) in tools.clone().items().enumerate() {
        let Some(tool) = mentioned(tool).and_then(Object::of) else { continue };
        let name = tool.get("name").and_then(|name| serde_json::from_str::<String>(name).ok()).unwrap_or_default();
        match tool.get("inputSchema").map_or_else(|| Ok(ToolHeaders::default()), ToolHeaders::of) {
            Ok(headers) if headers.is_empty() => {}
            Ok(headers) => noted.headers.push((name, headers)),
            Err(reason) => {
                tools.remove(index);
                noted.dropped.push((name, reason));
            }
        }
    }
    if tools.is_changed() {
        object.set("tools", tools.finish());
        noted.result = object.finish().into_owned().into();
    }
    noted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(properties: &str) -> Result<ToolHeaders, String> {
        ToolHeaders::of(&format!(r#"{{"type":"object","properties":{properties}}}"#))
    }

    fn reason(schema: &serde_json::Value) -> String {
        ToolHeaders::of(&schema.to_string()).expect_err("no client may follow it")
    }

    /// The headers for a call, as `name: value`.
    fn called(tool: &ToolHeaders, arguments: &str) -> Vec<String> {
        let values = tool.values(Some(arguments));
        values.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect()
    }

    const ALL: &str = r#"{
        "region":{"type":"string","x-mcp-header":"Region"},
        "n":{"type":"integer","x-mcp-header":"N"},
        "flag":{"type":"boolean","x-mcp-header":"Flag"},
        "plain":{"type":"string"},
        "deep":{"type":"object","properties":{"er":{"type":"string","x-mcp-header":"!#$%&'*+-.^_`|~9"}}}
    }"#;

    #[test]
    fn values_are_read_at_their_paths() {
        let tool = headers(ALL).expect("valid");
        let call = r#"{"region":"eu","n":-7,"flag":true,"plain":"x","deep":{"er":"\u4e16","region":"no"}}"#;
        let expected = [
            "mcp-param-region: eu",
            "mcp-param-n: -7",
            "mcp-param-flag: true",
            "mcp-param-!#$%&'*+-.^_`|~9: =?base64?5LiW?=",
        ];
        assert_eq!(called(&tool, call), expected);
    }

    #[test]
    fn values_that_are_absent_null_or_structured_have_no_header() {
        let tool = headers(ALL).expect("valid");
        for call in [
            "{}",
            r#"{"region":null,"n":null,"flag":null,"deep":null}"#,
            r#"{"region":{},"n":[1],"flag":[],"deep":"er"}"#,
            "[]",
            "null",
        ] {
            assert_eq!(called(&tool, call), [""; 0], "{call}");
        }
        assert_eq!(tool.values(None), []);
    }

    #[test]
    fn values_are_numbers_as_parsers_read_them() {
        let tool = headers(ALL).expect("valid");
        for (number, expected) in [
            ("42", "42"),
            ("42.0", "42"),
            ("1e3", "1000"),
            ("-0", "0"),
            ("9007199254740991", "9007199254740991"),
            ("-9007199254740991", "-9007199254740991"),
            ("1.5", "1.5"),
            ("15e-1", "1.5"),
        ] {
            assert_eq!(called(&tool, &format!(r#"{{"n":{number}}}"#)), [format!("mcp-param-n: {expected}")]);
        }
        for unsafe_number in ["9007199254740992", "9007199254740993", "-1e300", "1e999"] {
            assert_eq!(called(&tool, &format!(r#"{{"n":{unsafe_number}}}"#)), [""; 0], "{unsafe_number}");
        }
    }

    #[test]
    fn value_of_another_type_is_told_so_that_the_server_speaks_of_the_type() {
        let tool = headers(ALL).expect("valid");
        let call = r#"{"region":7,"n":"seven","flag":"true"}"#;
        assert_eq!(called(&tool, call), ["mcp-param-region: 7", "mcp-param-n: seven", "mcp-param-flag: true"]);
    }

    #[test]
    fn value_named_twice_is_the_last() {
        let tool = headers(ALL).expect("valid");
        assert_eq!(called(&tool, r#"{"n":1,"\u006e":2}"#), ["mcp-param-n: 2"]);
    }

    #[test]
    fn mark_must_be_a_token() {
        for mark in [json!(""), json!("a b"), json!("a\r\nb"), json!("a:b"), json!("ä"), json!(7), json!(null)] {
            let schema = json!({"properties": {"a": {"type": "string", "x-mcp-header": mark}}});
            let reason = reason(&schema);
            assert!(reason.starts_with("x-mcp-header at \"a\" is "), "{mark}: {reason}");
            assert!(!reason.contains(['\r', '\n']), "{reason:?}");
        }
    }

    #[test]
    fn mark_must_be_unique_whatever_its_case_and_depth() {
        let schema = json!({"properties": {
            "a": {"type": "string", "x-mcp-header": "Region"},
            "b": {"type": "object", "properties": {"c": {"type": "string", "x-mcp-header": "REGION"}}},
        }});
        assert_eq!(reason(&schema), "x-mcp-header at \"b.c\" is \"REGION\", as another is already");
    }

    #[test]
    fn mark_must_be_on_text_integers_and_booleans() {
        for kind in [json!("number"), json!("object"), json!("array"), json!("null"), json!(["string", "null"])] {
            let reason = reason(&json!({"properties": {"a": {"type": kind, "x-mcp-header": "A"}}}));
            assert!(reason.contains("only string, integer, boolean may"), "{kind}: {reason}");
        }
        assert!(reason(&json!({"properties": {"a": {"x-mcp-header": "A"}}})).contains("no single type"));
    }

    #[test]
    fn mark_must_be_reachable_by_properties_alone() {
        let marked = json!({"type": "string", "x-mcp-header": "A"});
        let object = json!({"type": "object", "properties": {"a": marked}});
        let mut schemas = vec![json!({"x-mcp-header": "A", "type": "string"})];
        for schema in [&marked, &object] {
            schemas.extend(SCHEMAS.iter().map(|keyword| json!({"properties": {"b": {*keyword: schema}}})));
            schemas.extend(SCHEMAS.iter().map(|keyword| json!({*keyword: [true, schema]})));
            schemas.extend(NAMED_SCHEMAS.iter().map(|keyword| json!({*keyword: {"x": schema, "y": ["z"]}})));
        }
        for schema in schemas {
            let reason = reason(&schema);
            assert!(reason.contains("where no chain") || reason.contains("at the root"), "{schema}: {reason}");
        }
    }

    #[test]
    fn mark_is_none_where_no_schema_stands() {
        for schema in [
            json!({"properties": {"x-mcp-header": {"type": "number"}}}),
            json!({"properties": {"a": {"type": "object", "default": {"x-mcp-header": ""}}}}),
            json!({"examples": [{"x-mcp-header": ""}], "enum": [{"x-mcp-header": 1}], "const": {"x-mcp-header": 1}}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}, "description": "x-mcp-header"}),
            json!(true),
        ] {
            let tool = ToolHeaders::of(&schema.to_string()).expect("valid");
            assert!(tool.is_empty(), "{schema}");
        }
    }

    #[test]
    fn mark_spelled_with_escapes_is_one() {
        let tool = headers(r#"{"a":{"type":"string","\u0078-mcp-header":"A"}}"#).expect("valid");
        assert_eq!(called(&tool, r#"{"a":"b"}"#), ["mcp-param-a: b"]);
    }

    #[test]
    fn schema_of_any_depth_is_read_without_overflow() {
        let nest = |levels: usize| {
            let open = r#"{"properties":{"a":"#.repeat(levels);
            format!(r#"{open}{{"type":"string","x-mcp-header":"A"}}{}"#, "}}".repeat(levels))
        };
        assert!(ToolHeaders::of(&nest(DEEPEST - 1)).is_ok());
        assert!(ToolHeaders::of(&nest(DEEPEST)).expect_err("too deep").contains("64 schemas deep"));
        assert!(ToolHeaders::of(&nest(20_000)).is_err());
    }

    #[test]
    fn list_loses_its_invalid_tools_and_no_other_byte() {
        let good = r#"{"name":"good", "inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}"#;
        let bad = r#"{"name":"bad","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}"#;
        let plain = r#"{"name":"plain","inputSchema":{"type" : "object"}}"#;
        let list = format!(r#"{{"tools":[{good}, {bad},{plain}], "nextCursor":"c"}}"#);
        let noted = note_tools(&list);
        assert_eq!(noted.result, format!(r#"{{"tools":[{good},{plain}], "nextCursor":"c"}}"#));
        let (name, tool) = &noted.headers[..][0];
        assert_eq!((name.as_str(), noted.headers.len()), ("good", 1));
        assert_eq!(called(tool, r#"{"a":"b"}"#), ["mcp-param-a: b"]);
        let (name, reason) = &noted.dropped[..][0];
        assert_eq!((name.as_str(), noted.dropped.len()), ("bad", 1));
        assert!(reason.contains("\"number\""), "{reason}");
    }

    #[test]
    fn list_without_marks_comes_back_as_it_is() {
        for list in [r#"{"tools":[{"name":"a","inputSchema":{}}]}"#, r#"{"tools":7,"x-mcp-header":1}"#, "[]"] {
            let noted = note_tools(list);
            assert!(matches!(noted.result, Cow::Borrowed(text) if text == list));
            assert!(noted.headers.is_empty() && noted.dropped.is_empty());
        }
    }
}
