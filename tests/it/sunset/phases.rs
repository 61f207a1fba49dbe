//! What clients see in each phase.

use reqwest::Method;
use serde_json::json;

use super::{JSON, NEW_URL, Stage, ask, done, get, greet, initialize, records, set, text, use_once};
use crate::support::{Behaviour, LegacyClient, http_client, within};

const DATES: [(&str, &str); 3] =
    [("announce", "2020-01-01"), ("sunset", "2099-12-20T09:30:00Z"), ("tombstone", "2099-12-20T09:30:00Z")];

#[tokio::test]
async fn announcement_stands_on_every_answer_of_the_legacy_paths_and_on_no_other() {
    let stage = Stage::new().await;
    let info = ("info-url", "https://example.com/sse");
    let proxy = stage.proxy(&[&DATES[..], &[info]].concat());
    let client = proxy.client().await;
    let refused = ask(&proxy, Method::POST, "/messages?sessionId=nobody", &[]).await;
    let wrong = ask(&proxy, Method::GET, "/messages", &[]).await;
    let page = get(&proxy, &[("accept", "text/html")]).await;
    let answers = [client.stream_headers(), refused.headers(), wrong.headers(), page.headers()];
    for (headers, whose) in answers.into_iter().zip(["stream", "404", "405", "page"]) {
        assert_eq!(headers["deprecation"], "@1577836800", "{whose}");
        assert_eq!(headers["sunset"], "Sun, 20 Dec 2099 09:30:00 GMT", "{whose}");
        let links: Vec<_> = headers.get_all("link").iter().map(|link| link.to_str().expect("visible")).collect();
        let successor = format!("<{NEW_URL}>; rel=\"successor-version\"");
        assert_eq!(links[0], successor, "{whose}");
        assert!(links.iter().any(|link| link.contains("rel=\"sunset\"")), "{whose} {links:?}");
    }
    let page = page.text().await.expect("a page");
    assert!(page.contains("HTTP+SSE ends on 2099-12-20T09:30Z.") && page.contains(NEW_URL), "{page}");
    let raw = String::from_utf8(client.raw.clone()).expect("text");
    let expected = format!(
        ": HTTP+SSE ends on 2099-12-20T09:30Z. Set the server's URL to {NEW_URL} (Streamable HTTP).\nevent: endpoint\n"
    );
    assert!(raw.starts_with(&expected), "{raw}");
    let upgraded = http_client()
        .post(proxy.url("/sse"))
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(initialize("dual").to_string());
    let upgraded = within("an upgrade", upgraded.send()).await.expect("an answer");
    assert_eq!(upgraded.status(), 200);
    assert!(!upgraded.headers().contains_key("sunset") && !upgraded.headers().contains_key("deprecation"));
    proxy.stop().await;
}

#[tokio::test]
async fn nothing_is_said_before_the_announcement_nor_to_who_bears_no_comment() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[("announce", "2099-12-01"), ("no-keep-alive", "Java-http-client/")]);
    let client = proxy.client().await;
    assert!(!client.stream_headers().contains_key("sunset") && !client.stream_headers().contains_key("link"));
    assert!(client.raw.starts_with(b"event: endpoint\n"));
    set(&proxy, "announce").await;
    let java = LegacyClient::connect(&proxy, &[("user-agent", "Java-http-client/17")]).await;
    assert!(java.raw.starts_with(b"event: endpoint\n"));
    assert!(java.stream_headers().contains_key("link"));
    let other = proxy.client().await;
    assert!(other.raw.starts_with(b": HTTP+SSE"));
    proxy.stop().await;
}

#[tokio::test]
async fn tombstone_opens_the_stream_and_answers_initialize_with_where_to_go() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    let mut running = proxy.client().await;
    greet(&mut running, "running").await;
    set(&proxy, "tombstone").await;
    let mut client = proxy.client().await;
    let error = greet(&mut client, "late").await["error"].clone();
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains(NEW_URL) && message.chars().count() <= 200, "{message}");
    assert!((-32019..=-32000).contains(&error["code"].as_i64().expect("a code")), "{error}");
    assert_eq!((&error["data"]["reason"], &error["data"]["url"]), (&json!("sse_tombstone"), &json!(NEW_URL)));
    client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(client.answer(1).await["error"]["data"]["reason"], "sse_tombstone");
    running.call(5, "echo", json!({"text": "still here"})).await;
    assert!(running.answer(5).await.get("result").is_some(), "running sessions go on");
    assert!(stage.upstream.seen().iter().all(|seen| seen.body["params"]["clientInfo"]["name"] != "late"));
    drop((client, running));
    let log = proxy.stop().await;
    let refused = records(&log, "legacy.refused");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert_eq!(
        (&refused[0]["legacy.refused.reason"], &refused[0]["identity"], &refused[0]["http.response.status_code"]),
        (&json!("tombstone"), &json!("name:late"), &json!(200))
    );
    assert_eq!(refused[0]["legacy.refused.dry_run"], false);
}

#[tokio::test]
async fn brownout_ends_running_sessions_where_that_is_wished_for() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    let mut client = proxy.client().await;
    greet(&mut client, "running").await;
    client.call(7, "hang", json!({})).await;
    let order = json!({"action": "set", "phase": "brownout", "force": "brownout", "end_running": true, "for_s": 3600, "why": "drill"});
    let status = done(&proxy, order).await;
    assert!(status["until"].is_string(), "{status}");
    let answer = client.answer(7).await;
    assert_eq!(answer["error"]["data"]["reason"], "sse_brownout", "{answer}");
    assert!(
        answer["error"]["message"].as_str().is_some_and(|text| text.starts_with("HTTP+SSE is off until ")),
        "{answer}"
    );
    assert!(client.event().await.is_none(), "the stream ends");
    let late = client.post_text(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#, &[]).await;
    assert!(late.status == 404 && late.body.contains(NEW_URL), "{late:?}");
    let ended = proxy.logged("legacy.end", 1).await;
    assert_eq!(ended[0]["session.end.reason"], "sunset");
    let log = proxy.stop().await;
    let refused = records(&log, "legacy.refused");
    assert_eq!((refused.len(), &refused[0]["legacy.refused.reason"]), (1, &json!("brownout")));
}

#[tokio::test]
async fn what_is_gone_is_gone_before_anything_is_asked_for_and_upgrades_go_on() {
    let stage = Stage::with(Behaviour { token: Some("good"), ..JSON }).await;
    let proxy = stage.proxy(&[("oauth-resource", "auto"), ("oauth-probe", "always")]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer good")]).await;
    greet(&mut client, "running").await;
    client.call(7, "hang", json!({})).await;
    set(&proxy, "gone").await;
    assert_eq!(client.answer(7).await["error"]["data"]["reason"], "sse_gone");
    assert!(client.event().await.is_none(), "the stream ends");
    for (method, path) in [(Method::GET, "/sse"), (Method::POST, "/messages?sessionId=x"), (Method::POST, "//messages")]
    {
        let gone = ask(&proxy, method.clone(), path, &[("accept", "text/event-stream")]).await;
        assert_eq!(gone.status(), 410, "{method} {path}");
        assert_eq!(gone.headers()["content-type"], "application/problem+json");
        assert_eq!(gone.headers()["cache-control"], "no-store");
        assert!(gone.headers()["link"].to_str().expect("visible").contains(NEW_URL));
        let problem: serde_json::Value = serde_json::from_str(&gone.text().await.expect("a body")).expect("JSON");
        assert_eq!((&problem["status"], &problem["successor"]), (&json!(410), &json!(NEW_URL)));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(NEW_URL)));
    }
    for (method, path) in [(Method::HEAD, "/sse"), (Method::PUT, "/sse"), (Method::GET, "/messages")] {
        assert_eq!(ask(&proxy, method.clone(), path, &[]).await.status(), 410, "{method} {path}");
    }
    let page = get(&proxy, &[("accept", "text/html")]).await;
    assert_eq!(page.status(), 410);
    assert!(page.text().await.expect("a page").contains("switched off"));
    let upgraded = http_client()
        .post(proxy.url("/sse"))
        .bearer_auth("good")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(initialize("dual").to_string());
    assert_eq!(within("an upgrade", upgraded.send()).await.expect("an answer").status(), 200);
    let log = proxy.stop().await;
    let refused = records(&log, "legacy.refused");
    let reasons: Vec<_> = refused.iter().map(|record| record["http.response.status_code"].clone()).collect();
    assert_eq!(reasons, [json!(200), json!(410)], "the session that ended, and the loop of one client once");
}

#[tokio::test]
async fn http_form_is_503_with_a_time_for_newcomers_and_not_for_those_who_come_back() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[("refuse-with", "http")]);
    let order = json!({"action": "set", "phase": "brownout", "force": "brownout", "for_s": 600, "why": "drill"});
    done(&proxy, order).await;
    let refused = get(&proxy, &[]).await;
    assert_eq!(refused.status(), 503);
    let wait: u64 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((500..=600).contains(&wait), "{wait}");
    assert!(refused.text().await.expect("a body").contains(NEW_URL));
    // TypeScript would give the session up for ever.
    let mut back = LegacyClient::connect(&proxy, &[("mcp-protocol-version", "2025-06-18")]).await;
    back.post(json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})).await;
    assert_eq!(back.answer(3).await["error"]["data"]["reason"], "sse_brownout");
    set(&proxy, "announce").await;
    use_once(&proxy, "late").await;
    drop(back);
    let log = proxy.stop().await;
    let refused = records(&log, "legacy.refused");
    let of = |at: usize| (&refused[at]["legacy.refused.reason"], &refused[at]["http.response.status_code"]);
    assert_eq!(
        (refused.len(), of(0), of(1)),
        (2, (&json!("brownout"), &json!(503)), (&json!("brownout"), &json!(200)))
    );
}

#[tokio::test]
async fn exempt_clients_are_served_through_the_tombstone() {
    let stage = Stage::new().await;
    let exempt = stage.path("exempt.toml");
    let book = "[[exempt]]\nclient = \"name:nightly*\"\nowner = \"Ada\"\nreason = \"moves in January\"\nexpires = \"2099-12-31\"\n";
    std::fs::write(&exempt, book).expect("written");
    let proxy = stage.proxy(&[("exempt", text(&exempt))]);
    let status = set(&proxy, "tombstone").await;
    assert_eq!((&status["exempt"][0]["owner"], &status["exempt"][0]["in_force"]), (&json!("Ada"), &json!(true)));
    use_once(&proxy, "nightly-report").await;
    let mut other = proxy.client().await;
    assert!(greet(&mut other, "other").await.get("error").is_some());
    drop(other);
    proxy.stop().await;
}

#[tokio::test]
async fn share_hits_the_same_clients_each_time_and_about_as_many() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[("identity-header", "x-team")]);
    let order = json!({"action": "set", "phase": "brownout", "force": "brownout", "share": 5000, "why": "drill"});
    assert_eq!(done(&proxy, order).await["share_percent"], 50.0);
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut hit = Vec::new();
        for number in 0..40 {
            let team = format!("team-{number}");
            let mut client = LegacyClient::connect(&proxy, &[("x-team", &team)]).await;
            hit.push(greet(&mut client, "same").await.get("error").is_some());
        }
        rounds.push(hit);
    }
    assert_eq!(rounds[0], rounds[1]);
    let hit = rounds[0].iter().filter(|hit| **hit).count();
    assert!((8..=32).contains(&hit), "{hit} of 40");
    proxy.stop().await;
}

#[tokio::test]
async fn warning_comes_once_to_sessions_whose_server_logs() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[("notify", "true")]);
    let mut client = proxy.client().await;
    let declared = greet(&mut client, "listener").await;
    assert!(declared["result"]["capabilities"].get("logging").is_some(), "{declared}");
    set(&proxy, "announce").await;
    let warning = client.message().await;
    assert_eq!((&warning["method"], &warning["params"]["level"]), (&json!("notifications/message"), &json!("warning")));
    assert!(warning["params"]["data"].as_str().is_some_and(|text| text.contains(NEW_URL)), "{warning}");
    set(&proxy, "observe").await;
    set(&proxy, "announce").await;
    client.call(5, "echo", json!({"text": "x"})).await;
    assert_eq!(client.until_answer(5).await.len(), 1, "no second one");
    let mut later = proxy.client().await;
    greet(&mut later, "later").await;
    assert_eq!(later.message().await["params"]["level"], "warning");
    drop((client, later));
    proxy.stop().await;
}

#[tokio::test]
async fn refusal_answers_once_what_was_posted_twice() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    set(&proxy, "tombstone").await;
    let mut client = proxy.client().await;
    // As Python 1.12 with OAuth does.
    client.post(initialize("twice")).await;
    client.post(initialize("twice")).await;
    client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    let answers = client.until_answer(1).await;
    assert_eq!(answers.iter().map(|answer| &answer["id"]).collect::<Vec<_>>(), [&json!(0), &json!(1)]);
    drop(client);
    let log = proxy.stop().await;
    assert_eq!(records(&log, "legacy.refused").len(), 1);
}

#[tokio::test]
async fn notification_gets_nobody_in_and_a_pause_lets_in_who_came_back() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    set(&proxy, "tombstone").await;
    let mut back = LegacyClient::connect(&proxy, &[("mcp-protocol-version", "2025-06-18")]).await;
    back.post(json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})).await;
    back.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(back.answer(1).await["error"]["data"]["reason"], "sse_tombstone");
    assert_eq!(stage.upstream.seen().len(), 0, "no handshake was made for it");
    done(&proxy, json!({"action": "pause", "why": "incident 7"})).await;
    within("the end of the refusal", async {
        for id in 2.. {
            back.post(json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})).await;
            if back.answer(id).await.get("result").is_some() {
                return;
            }
        }
    })
    .await;
    drop(back);
    proxy.stop().await;
}
