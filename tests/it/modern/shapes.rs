//! What each version of client can read: everything else is shaped until it fits (UPSTREAMS C.1).
//!
//! That it fits is what the schema of the version says, for every message of every test here.

use serde_json::{Value, json};

use super::stage::{Stage, text};
use crate::support::modern::RESOURCE;
use crate::support::schema::LEGACY;

fn tool<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let mut tools = answer["result"]["tools"].as_array().expect("tools").iter();
    tools.find(|tool| tool["name"] == name).expect("the tool")
}

#[tokio::test]
async fn audio_is_replaced_for_clients_that_cannot_hear() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let answer = stage.client.call("audio", json!({})).await;
        assert_eq!(text(&answer), "listen", "what they know stays");
        let kind = &answer["result"]["content"][1]["type"];
        assert_eq!(kind == "audio", version > "2024-11-05", "{version}: {answer}");
        stage.end().await;
    }
}

#[tokio::test]
async fn resource_link_is_replaced_for_clients_that_cannot_follow() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let answer = stage.client.call("resource-link", json!({})).await;
        let item = &answer["result"]["content"][0];
        assert_eq!(item["type"] == "resource_link", version > "2025-03-26", "{version}: {item}");
        assert!(item.to_string().contains(RESOURCE) && item.to_string().contains("r1"), "{version}: {item}");
        stage.end().await;
    }
}

#[tokio::test]
async fn prompts_are_shaped_as_results_of_tools_are() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let answer = stage.client.ask("prompts/get", json!({"name": "greet"})).await;
        let messages = answer["result"]["messages"].as_array().expect("messages");
        let kinds: Vec<&str> = messages.iter().filter_map(|message| message["content"]["type"].as_str()).collect();
        assert_eq!(kinds.len(), 3, "{answer}");
        assert_eq!(
            (kinds[1] == "audio", kinds[2] == "resource_link"),
            (version > "2024-11-05", version > "2025-03-26")
        );
        stage.end().await;
    }
}

#[tokio::test]
async fn structured_content_is_an_object_or_a_text() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let knows = version > "2025-03-26";
        let object = stage.client.call("structured-object", json!({})).await;
        assert_eq!(text(&object), "{\"x\":1}");
        assert_eq!(object["result"].get("structuredContent").is_some(), knows, "{version}: {object}");
        for (name, value) in [("structured-array", json!([1, 2])), ("structured-scalar", json!("a text"))] {
            let answer = stage.client.call(name, json!({})).await;
            // Either beside the text or in it; nobody loses it.
            let wrapped = answer["result"].get("structuredContent");
            assert!(wrapped.is_none_or(|wrapped| knows && wrapped["result"] == value), "{version}: {answer}");
            let told = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
            let said: Value = serde_json::from_str(told).unwrap_or_else(|_| json!(told));
            assert!(wrapped.is_some() || said == value, "{version}: {answer}");
        }
        stage.end().await;
    }
}

#[tokio::test]
async fn output_schema_is_of_an_object_or_not_there() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let answer = stage.client.ask("tools/list", json!(null)).await;
        let knows = version > "2025-03-26";
        assert_eq!(tool(&answer, "structured-object").get("outputSchema").is_some(), knows, "{version}");
        for name in ["structured-array", "structured-scalar"] {
            let schema = tool(&answer, name).get("outputSchema").cloned();
            assert!(schema.as_ref().is_none_or(|schema| knows && schema["type"] == "object"), "{version}: {schema:?}");
            // What the tool returns fits what it promises.
            let result = stage.client.call(name, json!({})).await;
            let structured = result["result"].get("structuredContent");
            assert_eq!(schema.is_some(), structured.is_some(), "{version} {name}");
            if let (Some(schema), Some(structured)) = (schema, structured) {
                assert!(jsonschema::is_valid(&schema, structured), "{schema} {structured}");
            }
        }
        stage.end().await;
    }
}

#[tokio::test]
async fn header_annotations_in_schemas_stay_what_they_are() {
    let mut stage = Stage::open().await;
    let answer = stage.client.ask("tools/list", json!(null)).await;
    let schema = &tool(&answer, "region")["inputSchema"];
    assert_eq!(schema["properties"]["region"]["type"], "string");
    stage.end().await;
}

#[tokio::test]
async fn blobs_are_read_by_everybody() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let answer = stage.client.ask("resources/read", json!({"uri": "blob:///b"})).await;
        assert_eq!(answer["result"]["contents"][0]["blob"], "AAEC");
        stage.end().await;
    }
}

#[tokio::test]
async fn tools_that_sampling_brings_along_need_a_client_that_knows_them() {
    for version in LEGACY {
        let mut stage = Stage::version(version).await;
        let id = stage.client.begin_call("sample-tools", json!({})).await;
        let message = stage.client.message().await;
        if version == "2025-11-25" {
            assert_eq!(message["params"]["tools"][0]["name"], "t", "{message}");
            stage.client.reply(&message, super::stage::sampled()).await;
            stage.client.answer(id).await;
        } else {
            assert_eq!((&message["id"], &message["result"]["isError"]), (&json!(id), &json!(true)), "{message}");
        }
        stage.end().await;
    }
}
