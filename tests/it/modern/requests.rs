//! Lists, reads, prompts, completion: one request up, one answer down, nothing changed but what must be.

use serde_json::{Value, json};

use super::stage::{Client, NEWEST, Stage, start, text};
use crate::support::modern::{INVALID, Manner, RESOURCE};

#[tokio::test]
async fn lists_are_passed_on_with_their_cursor() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ttl_ms: 5000, ..Manner::default() }).await;
        let first = stage.client.ask("resources/list", json!(null)).await;
        assert_eq!(
            (&first["result"]["nextCursor"], &first["result"]["resources"][0]["uri"]),
            (&json!("page-2"), &json!(RESOURCE))
        );
        let second = stage.client.ask("resources/list", json!({"cursor": "page-2"})).await;
        assert_eq!(second["result"]["resources"], json!([]));
        let prompts = stage.client.ask("prompts/list", json!({})).await;
        assert_eq!(prompts["result"]["prompts"][0]["name"], "greet");
        let templates = stage.client.ask("resources/templates/list", json!(null)).await;
        assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "file:///{path}");
        assert_eq!(templates["result"].as_object().expect("an object").len(), 1, "{templates}");
        stage.end().await;
    }
}

#[tokio::test]
async fn tools_whose_headers_are_against_the_rules_are_not_offered() {
    let mut stage = Stage::open().await;
    let answer = stage.client.ask("tools/list", json!(null)).await;
    let names: Vec<&str> =
        answer["result"]["tools"].as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"region") && names.contains(&"structured-scalar"), "{names:?}");
    assert!(INVALID.iter().all(|invalid| !names.contains(invalid)), "{names:?}");
    stage.end().await;
}

#[tokio::test]
async fn completion_is_passed_on() {
    let mut stage = Stage::open().await;
    let params = json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "Al"},
        "context": {"arguments": {"a": "b"}}});
    let answer = stage.client.ask("completion/complete", params).await;
    assert_eq!(answer["result"]["completion"]["values"], json!(["Al!"]));
    stage.end().await;
}

#[tokio::test]
async fn resource_that_is_missing_has_the_code_that_legacy_clients_know() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        let answer = stage.client.ask("resources/read", json!({"uri": "file:///none"})).await;
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["data"]["uri"]),
            (&json!(-32002), &json!("file:///none"))
        );
        let answer = stage.client.ask("prompts/get", json!({"name": "none"})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        stage.end().await;
    }
}

#[tokio::test]
async fn bytes_that_need_not_change_do_not() {
    let mut stage = Stage::open().await;
    let odd = r#"{"b" : 1.50e1, "a":[ 1,  2 ],"u":"\u00e9\/", "big":12345678901234567890123}"#;
    stage.client.call("raw", json!({"json": odd})).await;
    let raw = String::from_utf8(stage.client.inner.raw.clone()).expect("utf-8");
    assert!(raw.contains(odd), "{raw}");
    let id = json!(1);
    stage.client.expect(&id, "tools/call");
    let arguments = r#"{"text" :"\u00e9", "n":1.0, "deep":{"z":1,"a":2}}"#;
    let message = format!(
        r#"{{"params":{{"arguments": {arguments},"name":"echo", "x-own":1e2}},"method":"tools/call","id":1,"jsonrpc":"2.0"}}"#
    );
    stage.client.inner.post_text(message, &[]).await;
    assert_eq!(text(&stage.client.message().await), "é");
    let seen = stage.seen("tools/call").pop().expect("a call");
    assert!(seen.raw.contains(arguments) && seen.raw.contains(r#""x-own":1e2"#), "{}", seen.raw);
    stage.end().await;
}

#[tokio::test]
async fn meta_of_the_client_goes_along_but_for_what_is_reserved() {
    let mut stage = Stage::open().await;
    let meta = json!({"progressToken": "p", "example.com/own": [1], "io.modelcontextprotocol/protocolVersion": "1",
        "io.modelcontextprotocol/logLevel": "debug", "io.modelcontextprotocol/x": 1});
    stage.client.ask("tools/call", json!({"name": "echo", "arguments": {"text": "x"}, "_meta": meta})).await;
    let seen = stage.seen("tools/call").remove(0);
    let meta = &seen.params()["_meta"];
    assert_eq!((&meta["progressToken"], &meta["example.com/own"]), (&json!("p"), &json!([1])));
    assert_eq!(seen.meta("protocolVersion"), "2026-07-28");
    assert!(seen.meta("logLevel").is_null() && seen.meta("x").is_null(), "{meta}");
    stage.end().await;
}

#[tokio::test]
async fn ids_upstream_are_our_own_and_the_clients_come_back_as_they_were() {
    let mut stage = Stage::open().await;
    for id in [json!(0), json!("0"), json!("ü"), json!(-7)] {
        stage.client.expect(&id, "tools/call");
        let params = json!({"name": "echo", "arguments": {"text": "x"}});
        stage.client.inner.post(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await;
        assert_eq!(stage.client.message().await["id"], id);
    }
    let mut ids: Vec<String> = stage.seen("tools/call").iter().map(|seen| seen.body["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    stage.end().await;
}

#[tokio::test]
async fn errors_of_handlers_are_relayed_whatever_their_status() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        let failed = stage.client.call("fail", json!({})).await;
        assert_eq!((&failed["result"]["isError"], text(&failed)), (&json!(true), "failed"));
        let broken = stage.client.call("broken", json!({})).await;
        assert_eq!(broken["error"], json!({"code": -32603, "message": "it broke", "data": {"why": "it did"}}));
        let unknown = stage.client.call("no-such", json!({})).await;
        assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
        stage.end().await;
    }
}

#[tokio::test]
async fn result_of_a_kind_that_nobody_knows_is_an_error() {
    let mut stage = Stage::open().await;
    assert_eq!(stage.client.call("future", json!({})).await["error"]["code"], -32603);
    assert_eq!(text(&stage.client.call("bare", json!({})).await), "older", "no kind is a complete one");
    stage.end().await;
}

#[tokio::test]
async fn capability_that_the_server_needs_is_named_to_the_client() {
    for sse in [true, false] {
        let manner = Manner { sse, ..Manner::default() };
        let mut stage = Stage::with(manner, NEWEST, json!({})).await;
        let answer = stage.client.call("needs-sampling", json!({})).await;
        // An error, or a failure of the tool; either way it says what is missing, in no code of the modern era.
        assert!(answer["error"]["code"] == -32603 || answer["result"]["isError"] == true, "{answer}");
        assert!(answer.to_string().contains("apability"), "{answer}");
        stage.end().await;
    }
    let mut stage = Stage::open().await;
    assert_eq!(text(&stage.client.call("needs-sampling", json!({})).await), "it has it");
    stage.end().await;
}

#[tokio::test]
async fn progress_token_is_the_clients_own() {
    for token in [json!("t"), json!(0), json!(7)] {
        let mut stage = Stage::open().await;
        let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": token}});
        let id = stage.client.begin("tools/call", params).await;
        let messages = stage.client.until_answer(id).await;
        let tokens: Vec<&Value> = messages.iter().take(3).map(|message| &message["params"]["progressToken"]).collect();
        assert_eq!(tokens, [&token; 3]);
        stage.end().await;
    }
}

#[tokio::test]
async fn credential_goes_along_with_every_request() {
    let manner = Manner { token: Some("good"), ..Manner::default() };
    let (upstream, proxy) = start(manner, &[]).await;
    let headers = [("authorization", "Bearer good")];
    let mut client = Client::connect_with(&proxy, NEWEST, &headers).await;
    client.handshake(json!({})).await;
    client.still_works().await;
    upstream.wait_listeners(1).await;
    drop(client);
    proxy.stop().await;
    assert!(upstream.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer good")));
}

#[tokio::test]
async fn server_that_is_out_of_order_is_quoted_and_not_asked_twice() {
    for status in [429, 500, 503] {
        let mut stage = Stage::open().await;
        stage.client.still_works().await;
        stage.upstream.change(|manner| manner.broken = Some(status));
        let answer = stage.client.call("echo", json!({"text": "x"})).await;
        let message = answer["error"]["message"].as_str().expect("an error");
        assert!(message.contains(&status.to_string()), "{answer}");
        assert_eq!(stage.seen("tools/call").len(), 2, "the one before, and this");
        stage.upstream.change(|manner| manner.broken = None);
        stage.client.still_works().await;
        stage.end().await;
    }
}
