//! Whatever comes: nothing panics, JSON stays JSON, and what the modern schema allowed the client's schema allows.

use proptest::prelude::*;
use serde_json::json;

use super::arbitrary::{any_capabilities, any_json, any_question, any_result};
use super::*;

fn any_version() -> impl Strategy<Value = Version> {
    prop::sample::select(Version::ALL.to_vec())
}

const METHODS: [&str; 9] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/read",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "x",
];

proptest! {
    #[test]
    fn what_the_modern_schema_allows_the_clients_schema_allows((method, modern) in any_result()) {
        let complaints = schema::complaints(schema::MODERN, schema::result_of(method), &modern);
        prop_assert!(complaints.is_empty(), "the strategy is wrong: {:?}", complaints);
        for version in Version::ALL {
            let text = modern.to_string();
            let shaped = result(method, &text, &client(version, "{}")).expect("a result");
            let complaints = schema::complaints(version.as_str(), schema::result_of(method), &value(&shaped));
            prop_assert!(complaints.is_empty(), "{} {:?}\n{}\n{}", version, complaints, text, shaped);
            let again = result(method, &shaped, &client(version, "{}")).expect("a result").into_owned();
            prop_assert_eq!(again, shaped, "shaped twice is shaped once");
        }
    }

    #[test]
    fn what_a_client_is_asked_its_schema_allows(
        (method, params) in any_question(),
        version in any_version(),
        capabilities in any_capabilities(),
    ) {
        let definition = match method {
            "sampling/createMessage" => "CreateMessageRequest",
            "elicitation/create" => "ElicitRequest",
            _ => "ListRootsRequest",
        };
        let request = |params: &Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let complaints = schema::complaints(schema::MODERN, definition, &request(&params));
        prop_assert!(complaints.is_empty(), "the strategy is wrong: {:?}", complaints);
        let profile = client(version, &capabilities.to_string());
        let text = params.to_string();
        if let Ok(asked) = request_to_client(method, &text, &profile, "e") {
            let revision = if definition == "ElicitRequest" { version.max(Version::V2025_06_18) } else { version };
            let complaints = schema::complaints(revision.as_str(), definition, &request(&value(&asked)));
            prop_assert!(complaints.is_empty(), "{} {:?}\n{}\n{}", version, complaints, text, asked);
        }
    }

    #[test]
    fn capabilities_that_go_up_are_objects_and_tell_no_tasks(version in any_version(), declared in any_capabilities()) {
        let profile = client(version, &declared.to_string());
        let up = value(profile.capabilities_up());
        // The published schema allows neither null nor fractions deep within `experimental`; its authors' servers do.
        let mut checked = up.clone();
        checked.as_object_mut().expect("an object").remove("experimental");
        let complaints = schema::complaints(schema::MODERN, "ClientCapabilities", &checked);
        prop_assert!(complaints.is_empty(), "{:?}\n{}", complaints, up);
        prop_assert!(up.get("tasks").is_none());
        prop_assert!(up["extensions"].get("io.modelcontextprotocol/tasks").is_none());
        for (name, can) in [("roots", profile.can.roots), ("sampling", profile.can.sampling)] {
            prop_assert_eq!(up.get(name).is_some(), can);
        }
        prop_assert_eq!(up["elicitation"].get("url").is_some(), profile.can.elicitation_url);
        prop_assert_eq!(up["sampling"].get("tools").is_some(), profile.can.sampling_tools);
    }

    #[test]
    fn nothing_panics_and_json_stays_json(
        json in any_json().prop_map(|json| json.to_string()),
        odd in r#"[{}\[\]"a-c:, 0-9\\]{0,40}"#,
        method in prop::sample::select(METHODS.to_vec()),
        version in any_version(),
    ) {
        let capabilities = r#"{"roots":{},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}}}"#;
        let profile = client(version, capabilities);
        let whole = format!(r#"{{"tools":[{json}],"content":[{json}],"messages":{json},"structuredContent":{json},"params":{json}}}"#);
        for text in [&json, &odd, &whole] {
            let texts = [
                result(method, text, &profile).ok().map(std::borrow::Cow::into_owned),
                request_to_client(method, text, &profile, "e").ok().map(std::borrow::Cow::into_owned),
                answer_to_server(method, text).ok().map(std::borrow::Cow::into_owned),
                Some(error(method, text).into_owned()),
                Some(initialize_result(version, text, "s")),
                Some(Profile::of(text).capabilities_up().to_owned()),
                serde_json::from_str::<Value>(text).ok().map(|_| notification(text).into_owned()),
            ];
            for shaped in texts.iter().flatten() {
                prop_assert!(serde_json::from_str::<Value>(shaped).is_ok(), "{}", shaped);
            }
            let _ = input_required(text);
        }
    }
}
