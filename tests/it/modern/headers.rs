//! `Mcp-Name` and `Mcp-Param-*`: what of a request stands in its headers, too.

use serde_json::json;

use super::stage::{Stage, text};
use crate::support::modern::Manner;

#[tokio::test]
async fn names_that_no_header_can_hold_are_encoded() {
    let mut stage = Stage::open().await;
    assert_eq!(text(&stage.client.call("écho", json!({"text": "x"})).await), "x");
    let prompt = stage.client.ask("prompts/get", json!({"name": "grüße"})).await;
    assert!(prompt["result"].is_object(), "{prompt}");
    let read = stage.client.ask("resources/read", json!({"uri": "file:///ü.txt"})).await;
    assert!(read["result"].is_object(), "{read}");
    // The server has looked at the values; these it does not know, but their headers have to fit, too.
    for name in [" padded ", "=?base64?eA==?=", "line\nbreak", "", "\t", "a\u{7f}"] {
        let answer = stage.client.call(name, json!({})).await;
        assert_eq!(answer["error"]["message"], format!("unknown tool {name}"));
    }
    let plain = stage.seen("tools/call").into_iter().find(|seen| seen.calls("écho")).expect("the call");
    assert_eq!(plain.header("mcp-name"), Some("=?base64?w6ljaG8=?="));
    stage.end().await;
}

#[tokio::test]
async fn name_of_plain_characters_is_sent_as_it_is() {
    let mut stage = Stage::open().await;
    stage.client.still_works().await;
    assert_eq!(stage.seen("tools/call")[0].header("mcp-name"), Some("echo"));
    stage.client.ask("resources/read", json!({"uri": "file:///r1.txt"})).await;
    assert_eq!(stage.seen("resources/read")[0].header("mcp-name"), Some("file:///r1.txt"));
    stage.end().await;
}

#[tokio::test]
async fn name_is_sent_bare_to_a_server_that_does_not_decode_it() {
    let mut stage = Stage::manner(Manner { raw_names: true, ..Manner::default() }).await;
    assert_eq!(text(&stage.client.call("écho", json!({"text": "x"})).await), "x");
    stage.upstream.expect_refusals(&[-32020]);
    let calls = stage.seen("tools/call");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1].headers["mcp-name"].as_bytes(), "écho".as_bytes());
    stage.end().await;
}

#[tokio::test]
async fn params_that_the_tool_wants_in_headers_stand_there() {
    let mut stage = Stage::open().await;
    stage.client.ask("tools/list", json!(null)).await;
    for arguments in [
        json!({"region": "eu", "page": {"limit": 42}, "dry": true}),
        json!({"region": "Hello, 世界", "page": {"limit": -7}, "dry": false}),
        json!({"region": " padded ", "page": {}, "dry": null}),
        json!({"region": "=?base64?literal?=", "page": null}),
        json!({"region": "a\r\nMcp-Name: other", "page": {"limit": 42.0}}),
        json!({}),
    ] {
        let answer = stage.client.call("region", arguments.clone()).await;
        assert!(answer["result"].is_object(), "{arguments}: {answer}");
    }
    let calls = stage.seen("tools/call");
    let params = |name: &str| calls.iter().map(|seen| seen.header(name)).collect::<Vec<_>>();
    assert_eq!(params("mcp-param-limit"), [Some("42"), Some("-7"), None, None, Some("42"), None]);
    assert_eq!(params("mcp-param-dry-run"), [Some("true"), Some("false"), None, None, None, None]);
    assert_eq!(calls.len(), 6, "each was right at once");
    stage.end().await;
}

#[tokio::test]
async fn tool_that_was_never_listed_costs_one_list_and_one_retry() {
    let mut stage = Stage::open().await;
    let answer = stage.client.call("region", json!({"region": "eu", "text": "x"})).await;
    assert_eq!(text(&answer), "x");
    stage.upstream.expect_refusals(&[-32020]);
    assert_eq!((stage.seen("tools/list").len(), stage.seen("tools/call").len()), (1, 2));
    stage.client.call("region", json!({"region": "us"})).await;
    assert_eq!(stage.seen("tools/call").len(), 3, "it is known by now");
    stage.end().await;
}

#[tokio::test]
async fn tool_on_a_later_page_is_found() {
    let mut stage = Stage::manner(Manner { tools_per_page: 10, ..Manner::default() }).await;
    let answer = stage.client.call("region", json!({"region": "eu", "text": "x"})).await;
    assert_eq!(text(&answer), "x");
    stage.upstream.expect_refusals(&[-32020]);
    assert!(stage.seen("tools/list").len() > 2);
    // A list page that the client reads teaches as well.
    let mut cursor = json!(null);
    let mut names = Vec::new();
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = stage.client.ask("tools/list", params).await["result"].clone();
        names.extend(page["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].to_string()));
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert!(names.len() > 25, "{names:?}");
    stage.end().await;
}

#[tokio::test]
async fn headers_that_changed_since_the_list_are_learnt_again() {
    let mut stage = Stage::open().await;
    stage.client.ask("tools/list", json!(null)).await;
    stage.upstream.change(|manner| manner.region_header = "Zone");
    let answer = stage.client.call("region", json!({"region": "eu", "text": "x"})).await;
    assert_eq!(text(&answer), "x");
    stage.upstream.expect_refusals(&[-32020]);
    let last = stage.seen("tools/call").pop().expect("a call");
    assert_eq!((last.header("mcp-param-zone"), last.header("mcp-param-region")), (Some("eu"), None));
    stage.end().await;
}

#[tokio::test]
async fn headers_that_never_fit_are_tried_twice_and_no_more() {
    let mut stage = Stage::open().await;
    // Whatever it is sent, the bare name is what this server compares, and that is not to be had.
    stage.upstream.change(|manner| manner.raw_names = true);
    let answer = stage.client.call("line\nbreak", json!({})).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    let calls = stage.seen("tools/call").len();
    assert!((1..=2).contains(&calls), "{calls} calls");
    stage.upstream.expect_refusals(&vec![-32020; calls]);
    stage.client.still_works().await;
    stage.end().await;
}
