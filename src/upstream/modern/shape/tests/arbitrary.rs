//! What a 2026-07-28 server may say, within its schema, as oddly as that allows.

use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};

/// Any JSON at all, of little depth.
pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(json!(1.5)),
        text(),
        Just(json!({})),
        Just(json!([])),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let name = prop_oneof![
            "[a-c]",
            Just("type".to_owned()),
            Just("$ref".to_owned()),
            Just("properties".to_owned()),
            Just("_meta".to_owned())
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z \"\\\\]{0,6}",
        Just("é\u{2028}".to_owned()),
        Just("#/$defs/a".to_owned()),
        Just("object".to_owned())
    ]
    .prop_map(Value::from)
}

/// An object of `needed` members, some of the `possible` ones, and some that nobody knows.
fn object(
    needed: Vec<(&'static str, BoxedStrategy<Value>)>,
    possible: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let needed: Vec<_> =
        needed.into_iter().map(|(name, value)| value.prop_map(move |value| Some((name, value)))).collect();
    let possible: Vec<_> = possible
        .into_iter()
        .map(|(name, value)| prop::option::weighted(0.4, value).prop_map(move |value| Some((name, value?))))
        .collect();
    let unknown = prop::option::weighted(0.2, any_json()).prop_map(|value| Some(("x-unknown", value?)));
    (needed, possible, unknown)
        .prop_map(|(needed, possible, unknown)| {
            let members = possible.into_iter().chain([unknown]).chain(needed).flatten();
            Value::Object(members.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
        })
        .boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    prop::sample::select(values.to_vec()).boxed()
}

fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(item, 0..4).prop_map(Value::from).boxed()
}

fn meta() -> BoxedStrategy<Value> {
    let info = json!({ "name": "s", "version": "" });
    one_of(&[
        json!({}),
        json!({ "a": 1 }),
        json!({ "io.modelcontextprotocol/serverInfo": info }),
        json!({ "io.modelcontextprotocol/subscriptionId": 1, "b": [] }),
    ])
}

fn extras() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let annotations = [json!({}), json!({ "audience": ["user"], "priority": 0.5, "lastModified": "2025" })];
    vec![("annotations", one_of(&annotations)), ("_meta", meta()), ("title", text().boxed())]
}

fn resource() -> BoxedStrategy<Value> {
    let body = [("text", text().boxed()), ("blob", one_of(&[json!("AA==")]))];
    Union::new(
        body.map(|body| object(vec![("uri", one_of(&[json!("a:b")])), body], vec![("mimeType", text().boxed())])),
    )
    .boxed()
}

/// A content block of any kind.
fn block() -> BoxedStrategy<Value> {
    let kind = |kind: &str| ("type", one_of(&[json!(kind)]));
    let media = |name: &str| {
        object(vec![kind(name), ("data", one_of(&[json!("AA==")])), ("mimeType", text().boxed())], extras())
    };
    Union::new([
        object(vec![kind("text"), ("text", text().boxed())], extras()),
        media("image"),
        media("audio"),
        object(vec![kind("resource_link"), ("name", text().boxed()), ("uri", one_of(&[json!("a:b")]))], extras()),
        object(vec![kind("resource"), ("resource", resource())], extras()),
    ])
    .boxed()
}

fn tool() -> BoxedStrategy<Value> {
    let keywords = || {
        vec![
            ("$schema", one_of(&[json!("https://json-schema.org/draft/2020-12/schema")])),
            ("properties", any_json().boxed()),
            ("required", any_json().boxed()),
            ("$defs", any_json().boxed()),
            ("items", any_json().boxed()),
        ]
    };
    let mut of_anything = keywords();
    of_anything.push(("type", any_json().boxed()));
    let mut possible = extras();
    possible.retain(|(name, _)| *name != "annotations");
    possible.push(("annotations", one_of(&[json!({ "title": "T", "readOnlyHint": true })])));
    possible.push(("outputSchema", object(vec![], of_anything)));
    possible.push(("outputSchema", object(vec![("type", one_of(&[json!("object")]))], keywords())));
    possible.push(("execution", any_json().boxed()));
    let input = object(vec![("type", one_of(&[json!("object")]))], keywords());
    object(vec![("name", text().boxed()), ("inputSchema", input)], possible)
}

/// A method and a result it may have.
pub(super) fn any_result() -> impl Strategy<Value = (&'static str, Value)> {
    let complete = || ("resultType", one_of(&[json!("complete")]));
    let cached = |member: (&'static str, BoxedStrategy<Value>)| {
        object(
            vec![complete(), ("ttlMs", one_of(&[json!(0)])), ("cacheScope", one_of(&[json!("public")])), member],
            vec![("_meta", meta()), ("nextCursor", text().boxed())],
        )
    };
    let plain = |member: (&'static str, BoxedStrategy<Value>),
                 mut possible: Vec<(&'static str, BoxedStrategy<Value>)>| {
        possible.push(("_meta", meta()));
        object(vec![complete(), member], possible)
    };
    let message = object(vec![("role", one_of(&[json!("user"), json!("assistant")])), ("content", block())], vec![]);
    let named = |name: &'static str| object(vec![("name", text().boxed()), (name, one_of(&[json!("a:b")]))], extras());
    let call =
        vec![("structuredContent", any_json().boxed()), ("isError", any::<bool>().prop_map(Value::from).boxed())];
    prop_oneof![
        4 => cached(("tools", list(tool()))).prop_map(|result| ("tools/list", result)),
        4 => plain(("content", list(block())), call).prop_map(|result| ("tools/call", result)),
        3 => plain(("messages", list(message)), vec![]).prop_map(|result| ("prompts/get", result)),
        1 => cached(("resources", list(named("uri")))).prop_map(|result| ("resources/list", result)),
        1 => cached(("resourceTemplates", list(named("uriTemplate"))))
            .prop_map(|result| ("resources/templates/list", result)),
        1 => cached(("contents", list(resource()))).prop_map(|result| ("resources/read", result)),
    ]
}

/// A method the client may be asked for, and parameters it may have.
pub(super) fn any_question() -> impl Strategy<Value = (&'static str, Value)> {
    let single = [
        json!({ "type": "tool_use", "id": "1", "name": "t", "input": {} }),
        json!({ "type": "tool_result", "toolUseId": "1", "content": [], "structuredContent": 1 }),
        json!({ "type": "text", "text": "t" }),
        json!({ "type": "audio", "data": "", "mimeType": "a/b" }),
    ];
    let content = prop_oneof![4 => one_of(&single), 1 => list(one_of(&single))].boxed();
    let message = object(vec![("role", one_of(&[json!("user")])), ("content", content)], vec![("_meta", meta())]);
    let sampling = object(
        vec![("maxTokens", one_of(&[json!(1)])), ("messages", list(message))],
        vec![
            ("tools", list(tool())),
            ("toolChoice", one_of(&[json!({ "mode": "auto" })])),
            ("includeContext", one_of(&[json!("none"), json!("thisServer")])),
        ],
    );
    let field = one_of(&[
        json!({ "type": "string", "format": "email", "default": "a" }),
        json!({ "type": "integer", "minimum": 0, "default": 1 }),
        json!({ "type": "boolean" }),
        json!({ "type": "string", "enum": ["a"], "enumNames": ["A"] }),
        json!({ "type": "string", "oneOf": [{ "const": "a", "title": "A" }], "enum": 1, "default": "a" }),
        json!({ "type": "string", "oneOf": 7 }),
        json!({ "type": "array", "items": { "type": "string", "enum": ["a"] } }),
    ]);
    let fields = prop::collection::btree_map("[a-d]", field, 0..3)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()));
    let schema = object(vec![("type", one_of(&[json!("object")])), ("properties", fields.boxed())], vec![]);
    let form = object(
        vec![("message", text().boxed()), ("requestedSchema", schema)],
        vec![("mode", one_of(&[json!("form")]))],
    );
    let url = [("mode", "url"), ("message", "m"), ("url", "https://a/")];
    let url = object(url.map(|(name, text)| (name, one_of(&[json!(text)]))).to_vec(), vec![]);
    prop_oneof![
        sampling.prop_map(|params| ("sampling/createMessage", params)),
        form.prop_map(|params| ("elicitation/create", params)),
        url.prop_map(|params| ("elicitation/create", params)),
        meta().prop_map(|meta| ("roots/list", json!({ "_meta": meta }))),
    ]
}

/// What clients may declare.
pub(super) fn any_capabilities() -> BoxedStrategy<Value> {
    let flag =
        || one_of(&[json!({}), json!({ "tools": {} }), json!({ "form": {}, "url": {} }), json!(true), Value::Null]);
    object(
        vec![],
        vec![
            ("roots", flag()),
            ("sampling", flag()),
            ("elicitation", flag()),
            ("experimental", any_json().boxed()),
            ("tasks", any_json().boxed()),
            ("extensions", one_of(&[json!({ "io.modelcontextprotocol/tasks": {}, "a/b": {} }), json!(1)])),
        ],
    )
}
