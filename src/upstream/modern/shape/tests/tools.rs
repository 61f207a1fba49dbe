//! Tools: what their lists tell, and that what their calls return fits it.

use Version::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25};
use serde_json::json;

use super::*;

/// The one tool, as a client of `version` is told of it.
fn tool(members: &str, version: Version) -> String {
    let list =
        format!(r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{{"name":"t",{members}}}]}}"#);
    let shaped = shaped("tools/list", &list, version);
    let tool = shaped.strip_prefix(r#"{"tools":[{"name":"t","#).and_then(|rest| rest.strip_suffix("}]}"));
    tool.unwrap_or_else(|| panic!("{shaped}")).to_owned()
}

const INPUT: &str = r#""inputSchema":{"type":"object"}"#;

#[test]
fn members_that_old_clients_do_not_know_stay() {
    let members = format!(
        r#"{INPUT}, "title":"T","icons":[{{"src":"a:b"}}],"annotations":{{"readOnlyHint":true}},"_meta":{{"x":1}}, "new":[1.0]"#
    );
    for version in Version::ALL {
        assert_eq!(tool(&members, version), members);
    }
}

#[test]
fn execution_which_speaks_of_tasks_is_dropped() {
    for version in Version::ALL {
        assert_eq!(tool(&format!(r#"{INPUT},"execution":{{"taskSupport":"required"}}"#), version), INPUT);
    }
}

#[test]
fn output_schema_is_dropped_before_2025_06_18() {
    let members = format!(r#"{INPUT},"outputSchema":{{"type":"object","properties":{{"a":{{}}}}}}"#);
    for version in [V2024_11_05, V2025_03_26] {
        assert_eq!(tool(&members, version), INPUT);
    }
    for version in [V2025_06_18, V2025_11_25] {
        assert_eq!(tool(&members, version), members);
    }
}

#[test]
fn output_schema_of_no_objects_is_wrapped() {
    let rows = [
        (
            r#"{"type":"array", "items":{"type":"number"}}"#,
            r#"{"type":"object","properties":{"result":{"type":"array", "items":{"type":"number"}}},"required":["result"]}"#,
        ),
        (
            r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"array","items":{"$ref":"#/$defs/a"},"$defs":{"a":{}}}"##,
            r##"{"type":"object","$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"a":{}},"properties":{"result":{"type":"array","items":{"$ref":"#/$defs/a"}}},"required":["result"]}"##,
        ),
        (
            r##"{"$ref":"#/definitions/a","definitions":{"a":{}}}"##,
            r##"{"type":"object","definitions":{"a":{}},"anyOf":[{"$ref":"#/definitions/a"},{"properties":{"result":{"$ref":"#/definitions/a"}},"required":["result"]}]}"##,
        ),
        (
            r#"{"type":["object","null"]}"#,
            r#"{"type":"object","anyOf":[{"type":["object","null"]},{"properties":{"result":{"type":["object","null"]}},"required":["result"]}]}"#,
        ),
    ];
    for (schema, expected) in rows {
        for version in [V2025_06_18, V2025_11_25] {
            let told = tool(&format!(r#"{INPUT},"outputSchema":{schema}"#), version);
            assert_eq!(told, format!(r#"{INPUT},"outputSchema":{expected}"#));
        }
    }
}

#[test]
fn output_schema_that_cannot_be_moved_is_dropped() {
    let deep = format!("{}{}", r#"{"items":"#.repeat(200), "{}".to_owned() + &"}".repeat(200));
    for schema in [
        r##"{"type":"array","items":{"$ref":"#"}}"##,
        r##"{"type":"array","items":{"$ref":"#/items"}}"##,
        r##"{"type":"array","items":{"$ref":"#name"}}"##,
        r#"{"type":"array","$id":"https://a/b"}"#,
        r##"{"items":{"$dynamicRef":"#a"}}"##,
        deep.as_str(),
    ] {
        assert_eq!(tool(&format!(r#"{INPUT},"outputSchema":{schema}"#), V2025_11_25), INPUT, "{schema}");
    }
}

#[test]
fn schemas_of_objects_get_the_form_old_clients_parse() {
    let odd = r#"{"type":"object","properties":{"a":true,"b":false,"c":{"type":"string"}},"required":true,"x":1.0}"#;
    let plain = r#"{"type":"object","properties":{"a":{},"b":{"not":{}},"c":{"type":"string"}},"x":1.0}"#;
    for version in Version::ALL {
        assert_eq!(tool(&format!(r#""inputSchema":{odd}"#), version), format!(r#""inputSchema":{plain}"#));
    }
    let told = tool(&format!(r#"{INPUT},"outputSchema":{odd}"#), V2025_06_18);
    assert_eq!(told, format!(r#"{INPUT},"outputSchema":{plain}"#));
    let told = tool(r#""inputSchema":{"type":"object","properties":[]}"#, V2025_11_25);
    assert_eq!(told, INPUT);
}

/// The trap of the module: the list and the call are shaped apart, and the client checks the one against the other.
#[test]
fn what_fitted_its_schema_still_does() {
    let tree = json!({ "$ref": "#/$defs/tree", "$defs": { "tree": {
        "type": ["object", "array"], "items": { "$ref": "#/$defs/tree" }, "required": ["a"],
    } } });
    let rows = [
        (json!({ "type": "array", "items": { "type": "integer" } }), json!([1, 2]), json!(["a"])),
        (json!({ "type": ["string", "null"] }), json!(null), json!(1)),
        (json!({ "anyOf": [{ "type": "object", "required": ["a"] }, { "type": "string" }] }), json!("s"), json!(1)),
        (
            json!({ "anyOf": [{ "type": "object", "required": ["a"] }, { "type": "string" }] }),
            json!({ "a": 1 }),
            json!({}),
        ),
        (tree.clone(), json!([{ "a": 1 }, []]), json!([{}])),
        (tree, json!({ "a": 1 }), json!({ "b": 1 })),
        (json!({ "type": "object", "properties": { "a": false } }), json!({ "b": 1 }), json!({ "a": 1 })),
        (json!({}), json!(1), json!(null)),
    ];
    for (schema, fits, breaks) in rows {
        for version in [V2025_06_18, V2025_11_25] {
            let told = tool(&format!(r#"{INPUT},"outputSchema":{schema}"#), version);
            let told = value(&format!("{{{told}}}"))["outputSchema"].clone();
            let returned = |structured: &Value| {
                let call = format!(r#"{{"content":[],"structuredContent":{structured}}}"#);
                value(&shaped("tools/call", &call, version))["structuredContent"].clone()
            };
            let told = jsonschema::validator_for(&told).expect("a schema");
            assert!(told.is_valid(&returned(&fits)), "{schema} {fits}");
            assert_eq!(told.is_valid(&returned(&breaks)), schema == json!({}), "{schema} {breaks}");
        }
    }
}
