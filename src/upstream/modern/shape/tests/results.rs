//! Results, errors, notifications: the rows of C that answer a client, and of C.1 on content.

use Version::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25};

use super::*;

/// The rest of a result, put around its own member.
fn modern(members: &str) -> String {
    format!(
        r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"s","version":"1"}}}},{members}}}"#
    )
}

/// Each block, and what stands for it per revision; `None` when it stays as it is.
fn content_row(block: &str, expected: [Option<&str>; 4]) {
    for (version, expected) in Version::ALL.into_iter().zip(expected) {
        let expected = expected.unwrap_or(block);
        let call = modern(&format!(r#""content":[{block}]"#));
        assert_eq!(shaped("tools/call", &call, version), format!(r#"{{"content":[{expected}]}}"#), "{version}");
        let prompt = modern(&format!(r#""messages":[{{"role":"user","content":{block}}}]"#));
        let expected = format!(r#"{{"messages":[{{"role":"user","content":{expected}}}]}}"#);
        assert_eq!(shaped("prompts/get", &prompt, version), expected, "{version}");
    }
}

#[test]
fn content_that_all_revisions_have_passes() {
    content_row(r#"{ "type":"text", "text":"\u00e9", "title":"x", "annotations":{"priority":1.0e-1}}"#, [None; 4]);
    content_row(r#"{"mimeType":"image/png","data":"AA==","type":"image"}"#, [None; 4]);
    content_row(r#"{"type":"resource","resource":{"uri":"a:b","text":"t","_meta":{}}}"#, [None; 4]);
}

#[test]
fn audio_becomes_an_embedded_resource_before_2025_03_26() {
    let audio =
        r#"{"type":"audio","data":"AA==","mimeType":"audio/wav","annotations":{"audience":["user"]},"_meta":{"x":1}}"#;
    let resource = r#"{"type":"resource","resource":{"uri":"audio:content-0","mimeType":"audio/wav","blob":"AA=="},"annotations":{"audience":["user"]},"_meta":{"x":1}}"#;
    content_row(audio, [Some(resource), None, None, None]);
}

#[test]
fn resource_link_becomes_text_before_2025_06_18() {
    let link = r#"{"type":"resource_link","name":"the \"log\"","uri":"file:///l","icons":[{"src":"a:b"}]}"#;
    let text = r#"{"type":"text","text":"the \"log\": file:///l"}"#;
    content_row(link, [Some(text), Some(text), None, None]);
}

#[test]
fn content_of_an_unknown_type_becomes_text_everywhere() {
    let text = r#"{"type":"text","text":"{\"type\":\"video\",\"v\":1}"}"#;
    content_row(r#"{"type":"video","v":1}"#, [Some(text); 4]);
    // A type spelled with an escape is what it spells.
    content_row(r#"{"type":"te\u0078t","text":"t"}"#, [None; 4]);
}

#[test]
fn audio_blocks_of_one_result_have_addresses_of_their_own() {
    let audio = r#"{"type":"audio","data":"","mimeType":"a/b"}"#;
    let shaped = shaped("tools/call", &modern(&format!(r#""content":[{audio},{audio}]"#)), V2024_11_05);
    assert!(shaped.contains("content-0") && shaped.contains("content-1"), "{shaped}");
}

#[test]
fn what_only_the_modern_era_says_is_taken_out_of_every_result() {
    let methods = [
        ("prompts/list", r#""prompts":[{"name":"p","title":"P","icons":[{"src":"a:b"}],"arguments":[]}]"#),
        ("resources/list", r#""resources":[{"name":"r","uri":"a:b","size":1,"_meta":{}}]"#),
        ("resources/templates/list", r#""resourceTemplates":[{"name":"t","uriTemplate":"a:{b}"}]"#),
        ("resources/read", r#""contents":[{"uri":"a:b","blob":"AA=="}]"#),
        ("completion/complete", r#""completion":{"values":["a"],"total":1,"hasMore":false}"#),
        ("x/unknown", r#""y":{"ttlMs":1}"#),
    ];
    for (method, members) in methods {
        let result =
            modern(&format!(r#""ttlMs":5,"cacheScope":"public",{members},"inputRequests":{{}},"requestState":"s""#));
        for version in Version::ALL {
            assert_eq!(shaped(method, &result, version), format!("{{{members}}}"), "{method}");
        }
    }
}

#[test]
fn meta_of_the_server_stays() {
    let result = r#"{"content":[], "_meta" : {"a":1, "io.modelcontextprotocol/subscriptionId":7,"io.modelcontextprotocol/other":2}}"#;
    let expected = r#"{"content":[], "_meta" : {"a":1,"io.modelcontextprotocol/other":2}}"#;
    assert_eq!(shaped("tools/call", result, V2025_11_25), expected);
    assert_eq!(shaped("tools/call", r#"{"content":[],"_meta":null}"#, V2025_11_25), r#"{"content":[]}"#);
    assert_eq!(shaped("tools/call", r#"{"content":[],"_meta":{}}"#, V2025_11_25), r#"{"content":[],"_meta":{}}"#);
}

#[test]
fn result_without_anything_to_change_is_not_copied() {
    let json = " {\"content\" : [ {\"type\":\"text\",\"text\":\"\\u00e9\"} ] , \"n\":1.0E+2}\n";
    for version in Version::ALL {
        let shaped = result("tools/call", json, &client(version, "{}")).expect("a result");
        assert!(matches!(shaped, std::borrow::Cow::Borrowed(text) if text == json));
    }
}

#[test]
fn result_of_an_unknown_type_is_an_error() {
    for kind in [r#""input_required""#, r#""task""#, "1"] {
        let json = format!(r#"{{"resultType":{kind},"content":[]}}"#);
        let error = result("tools/call", &json, &client(V2025_11_25, "{}")).expect_err("nobody knows it");
        assert_eq!(error.code, -32603);
        assert!(error.message.contains(kind), "{error:?}");
    }
    assert!(result("tools/call", "[]", &client(V2025_11_25, "{}")).is_err());
    assert_eq!(shaped("tools/call", r#"{"resultType":null,"content":[]}"#, V2025_11_25), r#"{"content":[]}"#);
}

#[test]
fn structured_content_is_dropped_before_2025_06_18_and_told_as_text_if_alone() {
    let with = |content: &str| format!(r#"{{"structuredContent":{{"a":1}},"content":[{content}]}}"#);
    let text = r#"{"type":"text","text":"t"}"#;
    for version in [V2024_11_05, V2025_03_26] {
        assert_eq!(shaped("tools/call", &with(text), version), format!(r#"{{"content":[{text}]}}"#));
        let alone = r#"{"content":[{"type":"text","text":"{\"a\":1}"}]}"#;
        assert_eq!(shaped("tools/call", &with(""), version), alone);
        assert_eq!(shaped("tools/call", r#"{"structuredContent":{"a":1}}"#, version), alone);
    }
    let words = r#"{"content":[],"structuredContent":"w\"w"}"#;
    assert_eq!(shaped("tools/call", words, V2024_11_05), r#"{"content":[{"type":"text","text":"w\"w"}]}"#);
    for version in [V2025_06_18, V2025_11_25] {
        assert_eq!(shaped("tools/call", &with(""), version), with(""));
    }
}

#[test]
fn structured_content_that_is_no_object_is_wrapped() {
    for (structured, expected) in [
        (r#"[ {"a":1} ]"#, r#"{"content":[],"structuredContent":{"result":[ {"a":1} ]}}"#),
        ("1.50", r#"{"content":[],"structuredContent":{"result":1.50}}"#),
        ("null", r#"{"content":[],"structuredContent":{"result":null}}"#),
    ] {
        for version in [V2025_06_18, V2025_11_25] {
            let call = format!(r#"{{"content":[],"structuredContent":{structured}}}"#);
            assert_eq!(shaped("tools/call", &call, version), expected);
        }
    }
    let failed = r#"{"content":[],"structuredContent":null,"isError":true}"#;
    assert_eq!(shaped("tools/call", failed, V2025_11_25), r#"{"content":[],"isError":true}"#);
}

#[test]
fn error_codes_are_those_of_old_revisions() {
    let rows = [
        ("resources/read", r#"{"code":-32602,"message":"m","data":{"uri":"a:b"}}"#, -32002),
        ("resources/read", r#"{"code":-32602,"message":"Resource Not Found: a:b"}"#, -32002),
        ("resources/read", r#"{"code":-32602,"message":"Invalid or expired requestState"}"#, -32602),
        ("tools/call", r#"{"code":-32602,"message":"tool not found"}"#, -32602),
        ("tools/call", r#"{"code":-32020,"message":"m"}"#, -32603),
        ("tools/call", r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}"#, -32603),
        ("tools/call", r#"{"code":-32022,"message":"m"}"#, -32603),
        ("tools/call", r#"{"code":-32000,"message":"m"}"#, -32000),
        ("tools/call", r#"{"code":1.5,"message":"m"}"#, -32603),
        ("tools/call", r#"{"message":"m"}"#, -32603),
    ];
    for (method, json, code) in rows {
        let (shaped, mut expected) = (value(&error(method, json)), value(json));
        expected["code"] = code.into();
        assert_eq!(shaped, expected, "{method} {json}");
    }
    let passing = r#"{ "code" : -32000, "message":"\u00e9" }"#;
    assert_eq!(error("resources/read", passing), passing);
    for odd in ["\"text\"", "{}", "null", r#"{"code":-1,"message":7}"#] {
        let shaped = value(&error("tools/call", odd));
        assert!(shaped["code"].is_i64() && shaped["message"].is_string(), "{shaped}");
    }
}

#[test]
fn failed_call_is_told_where_the_model_reads_it() {
    let Failed::Result(json) = failed_call("tools/call", "nobody \"answered\"") else { panic!("an error") };
    assert_eq!(shaped("tools/call", &json, V2024_11_05), json);
    assert_eq!(value(&json)["content"][0]["text"], "nobody \"answered\"");
    assert_eq!(value(&json)["isError"], true);
    let Failed::Error(error) = failed_call("prompts/get", "nobody answered") else { panic!("a result") };
    assert_eq!((error.code, error.message.as_str()), (-32603, "nobody answered"));
}

#[test]
fn notification_loses_its_marks_and_nothing_else() {
    let message = r#"{"jsonrpc":"2.0", "method":"notifications/resources/updated","params":{"uri":"a:b","_meta":{"io.modelcontextprotocol/subscriptionId":"L1"}}}"#;
    let expected = r#"{"jsonrpc":"2.0", "method":"notifications/resources/updated","params":{"uri":"a:b"}}"#;
    assert_eq!(notification(message), expected);
    let escaped = message.replace("io.model", "\\u0069o.model").replace(r#""L1""#, r#""L1","x":1"#);
    let expected =
        r#"{"jsonrpc":"2.0", "method":"notifications/resources/updated","params":{"uri":"a:b","_meta":{"x":1}}}"#;
    assert_eq!(notification(&escaped), expected);
    for untouched in [
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.50}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"io.modelcontextprotocol/ \\"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
        "no JSON \\",
    ] {
        assert!(matches!(notification(untouched), std::borrow::Cow::Borrowed(text) if text == untouched));
    }
}
