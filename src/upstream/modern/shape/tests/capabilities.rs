//! The handshake: what the client declared goes up, what the server discovered comes down.

use serde_json::json;

use super::*;

fn up(version: Version, declared: &str) -> String {
    let profile = client(version, declared);
    schema::assert_valid(schema::MODERN, "ClientCapabilities", &value(profile.capabilities_up()));
    profile.capabilities_up().to_owned()
}

#[test]
fn version_is_the_one_asked_for_or_the_newest() {
    for version in Version::ALL {
        assert_eq!(Version::settled(version.as_str()), version);
        assert_eq!(client(version, "{}").version(), version);
    }
    for asked in ["", "2024-10-07", "2026-07-28", "1.0"] {
        assert_eq!(Version::settled(asked), Version::V2025_11_25, "{asked}");
    }
    assert!(Version::ALL.is_sorted());
}

#[test]
fn capabilities_go_up_in_the_words_of_the_modern_era() {
    let newest = [
        ("{}", "{}"),
        (r#"{ "roots":{"listChanged":true} }"#, r#"{ "roots":{} }"#),
        (r#"{"sampling":{"x":1.0}}"#, r#"{"sampling":{"x":1.0}}"#),
        (r#"{"sampling":{"tools":{},"context":{}}}"#, r#"{"sampling":{"tools":{},"context":{}}}"#),
        (r#"{"elicitation":{}}"#, r#"{"elicitation":{"form":{}}}"#),
        (
            r#"{"elicitation":{"form":{"applyDefaults":true},"url":{}}}"#,
            r#"{"elicitation":{"form":{"applyDefaults":true},"url":{}}}"#,
        ),
        (r#"{"elicitation":{"url":{}}}"#, r#"{"elicitation":{"url":{}}}"#),
        (r#"{"experimental":{"a":{"b":["c"]}}}"#, r#"{"experimental":{"a":{"b":["c"]}}}"#),
        (r#"{"experimental":{"a":true,"b":{}}}"#, r#"{"experimental":{"b":{}}}"#),
        (r#"{"tasks":{"list":{}},"new":{"x":1}}"#, r#"{"new":{"x":1}}"#),
        (
            r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{}}}"#,
        ),
        (r#"{"roots":true,"sampling":null,"elicitation":true}"#, r#"{"roots":{},"elicitation":{"form":{}}}"#),
        (r#"{"experimental":null}"#, "{}"),
        ("[]", "{}"),
    ];
    for (declared, expected) in newest {
        assert_eq!(up(Version::V2025_11_25, declared), expected, "{declared}");
    }
    assert_eq!(Profile::of("no JSON").capabilities_up(), "{}");
}

#[test]
fn what_a_revision_has_no_words_for_is_not_offered() {
    for version in [Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18] {
        assert_eq!(up(version, r#"{"sampling":{"tools":{}}}"#), r#"{"sampling":{}}"#);
        assert_eq!(up(version, r#"{"elicitation":{"url":{}}}"#), r#"{"elicitation":{"form":{}}}"#);
        // Who declares it has it, whatever revision it names.
        assert_eq!(up(version, r#"{"elicitation":{}}"#), r#"{"elicitation":{"form":{}}}"#);
    }
}

fn opened(version: Version, discovered: &Value) -> Value {
    let result = value(&initialize_result(version, &discovered.to_string(), "up.example"));
    schema::assert_valid(version.as_str(), "InitializeResult", &result);
    result
}

#[test]
fn initialize_is_answered_from_what_was_discovered() {
    let info = json!({ "name": "s", "version": "1", "title": "S", "icons": [{ "src": "a:b" }] });
    let discovered = json!({
        "resultType": "complete", "ttlMs": 0, "cacheScope": "public", "supportedVersions": ["2026-07-28"],
        "capabilities": {
            "tools": { "listChanged": true }, "logging": {}, "completions": {}, "new": {},
            "extensions": { "io.modelcontextprotocol/tasks": {} }, "tasks": {},
        },
        "instructions": "read \"this\"",
        "_meta": { "io.modelcontextprotocol/serverInfo": info },
    });
    schema::assert_valid(schema::MODERN, "DiscoverResult", &discovered);
    for version in Version::ALL {
        let expected = json!({
            "protocolVersion": version.as_str(),
            "capabilities": { "tools": { "listChanged": true }, "logging": {}, "completions": {}, "new": {} },
            "serverInfo": info,
            "instructions": "read \"this\"",
        });
        assert_eq!(opened(version, &discovered), expected);
    }
}

#[test]
fn server_without_a_name_or_version_gets_one() {
    let named = |info: Value| {
        let discovered = json!({ "capabilities": {}, "_meta": { "io.modelcontextprotocol/serverInfo": info } });
        opened(Version::V2025_11_25, &discovered)["serverInfo"].clone()
    };
    assert_eq!(named(json!(null)), json!({ "name": "up.example", "version": "0" }));
    assert_eq!(named(json!({ "name": "s" })), json!({ "name": "s", "version": "0" }));
    assert_eq!(named(json!({ "name": "s", "version": 2 })), json!({ "name": "s", "version": "0" }));
    // Python sends it, and it is a string.
    assert_eq!(named(json!({ "name": "s", "version": "" })), json!({ "name": "s", "version": "" }));
    assert_eq!(named(json!({ "version": "1" })), json!({ "name": "up.example", "version": "1" }));
    let bare = opened(Version::V2024_11_05, &json!({ "instructions": 1 }));
    assert_eq!(bare["capabilities"], json!({}));
    assert_eq!(bare.get("instructions"), None);
}

#[test]
fn capabilities_without_bounds_do_not_go_with_every_request() {
    let long = "x".repeat(16 << 10);
    let with = |name: &str| format!(r#"{{"elicitation":{{}},"{name}":{{"a":{{"b":"{long}"}}}}}}"#);
    for name in ["experimental", "extensions"] {
        assert_eq!(up(Version::V2025_11_25, &with(name)), r#"{"elicitation":{"form":{}}}"#, "{name}");
    }
    assert_eq!(up(Version::V2025_11_25, &with("new")), "{}");
}
