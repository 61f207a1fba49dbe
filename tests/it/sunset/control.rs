//! What operators do to the phase, what holds it back, and what of it stands in the log.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{JSON, NEW_URL, Stage, done, get, greet, records, say, set, stands, status, use_once};
use crate::support::{FakeUpstream, Proxy, http_client, within};

fn in_a_moment() -> String {
    (Timestamp::now() + Duration::from_millis(300)).to_string()
}

/// The phases in the log, with who had them changed.
fn story(log: &[Value]) -> Vec<(String, String)> {
    let word = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    records(log, "sunset.phase")
        .iter()
        .map(|record| (word(record, "sunset.phase"), word(record, "sunset.by")))
        .collect()
}

fn pairs(story: &[(&str, &str)]) -> Vec<(String, String)> {
    story.iter().map(|(phase, by)| ((*phase).to_owned(), (*by).to_owned())).collect()
}

#[tokio::test]
async fn phase_follows_its_dates_and_a_brownout_ends_by_itself() {
    let stage = Stage::new().await;
    let window = format!("2020-02-01/{}", Timestamp::now() + Duration::from_secs(8));
    let proxy = stage.proxy(&[("announce", "2020-01-01"), ("brownout", &window), ("force", "brownout")]);
    let mut client = proxy.client().await;
    assert_eq!(greet(&mut client, "early").await["error"]["data"]["reason"], "sse_brownout");
    let after = stands(&proxy, |status| status["phase"] == "announce").await;
    assert_eq!(after["by"], "plan");
    assert!(greet(&mut proxy.client().await, "late").await.get("result").is_some());
    drop(client);
    let log = proxy.stop().await;
    assert_eq!(story(&log), pairs(&[("brownout", "plan"), ("announce", "plan")]));
    let phases = records(&log, "sunset.phase");
    assert_eq!(phases[1]["sunset.phase.before"], "brownout");
    assert!(phases[0]["sunset.until"].is_string());
}

#[tokio::test]
async fn pause_and_resume_hold_when_they_are_answered_and_are_in_the_log() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    set(&proxy, "tombstone").await;
    let mut refused = proxy.client().await;
    assert!(greet(&mut refused, "a").await.get("error").is_some());
    let paused = done(&proxy, json!({"action": "pause", "why": "incident 7"})).await;
    assert_eq!((&paused["phase"], &paused["paused"]["why"]), (&json!("announce"), &json!("incident 7")));
    let mut served = proxy.client().await;
    assert!(greet(&mut served, "a").await.get("result").is_some());
    let resumed = done(&proxy, json!({"action": "resume", "why": "solved"})).await;
    assert_eq!((&resumed["phase"], &resumed["paused"]), (&json!("tombstone"), &Value::Null));
    let mut again = proxy.client().await;
    assert!(greet(&mut again, "a").await.get("error").is_some());
    let planned = done(&proxy, json!({"action": "set", "phase": null, "why": "by the dates"})).await;
    assert_eq!((&planned["phase"], &planned["by"]), (&json!("observe"), &json!("plan")));
    drop((refused, served, again));
    let log = proxy.stop().await;
    let phases = records(&log, "sunset.phase");
    let told: Vec<_> = phases.iter().map(|record| (&record["sunset.phase"], &record["sunset.why"])).collect();
    let expected =
        [("tombstone", "a test"), ("announce", "incident 7"), ("tombstone", "solved"), ("observe", "by the dates")]
            .map(|(phase, why)| (json!(phase), json!(why)));
    assert_eq!(told, expected.iter().map(|(phase, why)| (phase, why)).collect::<Vec<_>>());
    assert_eq!(phases[1]["sunset.paused"], true);
}

#[tokio::test]
async fn guard_names_whom_a_phase_would_hit_and_gives_way_to_its_name() {
    let stage = Stage::new().await;
    let proxy = stage.remembering(&[]);
    use_once(&proxy, "nightly").await;
    let order = json!({"action": "set", "phase": "tombstone", "why": "the date has come"});
    let answer = say(&proxy, order.clone()).await;
    assert_eq!(answer.status(), 409);
    let problem: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
    assert_eq!(problem["would_hit"][0]["identity"], "name:nightly", "{problem}");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("name:nightly") && detail.contains("--force tombstone"), "{detail}");
    assert_eq!(status(&proxy).await["phase"], "observe");
    let mut forced = order;
    forced["force"] = json!("tombstone");
    assert_eq!(done(&proxy, forced).await["phase"], "tombstone");
    let log = proxy.stop().await;
    assert_eq!(story(&log), pairs(&[("tombstone", "operator")]));
}

#[tokio::test]
async fn phase_of_the_plan_is_held_back_as_long_as_it_would_hit_somebody() {
    let stage = Stage::new().await;
    let first = stage.remembering(&[]);
    use_once(&first, "nightly").await;
    first.stop().await;
    let date = in_a_moment();
    let proxy = stage.remembering(&[("announce", "2020-01-01"), ("tombstone", &date)]);
    let held = stands(&proxy, |status| status["held_back"].is_object()).await;
    assert_eq!((&held["phase"], &held["held_back"]["phase"]), (&json!("announce"), &json!("tombstone")));
    use_once(&proxy, "nightly").await;
    let log = proxy.stop().await;
    assert_eq!(story(&log).last(), pairs(&[("announce", "guard")]).last());
    let record = (*records(&log, "sunset.phase").last().expect("a record")).clone();
    assert_eq!(record["sunset.held_back"], "tombstone");
    assert!(record["sunset.why"].as_str().is_some_and(|why| why.contains("name:nightly")), "{record}");
    let forced = stage.remembering(&[("announce", "2020-01-01"), ("tombstone", &date), ("force", "tombstone")]);
    stands(&forced, |status| status["phase"] == "tombstone").await;
    forced.stop().await;
    // It was entered: after a restart nobody is asked again, although refused attempts count as use.
    let again = stage.remembering(&[("announce", "2020-01-01"), ("tombstone", &date)]);
    stands(&again, |status| status["phase"] == "tombstone").await;
    again.stop().await;
}

#[tokio::test]
async fn dry_run_refuses_nobody_and_says_whom_it_would_have() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[("dry-run", "tombstone")]);
    use_once(&proxy, "nightly").await;
    let dry = status(&proxy).await;
    assert_eq!((&dry["phase"], &dry["dry_run"]["phase"]), (&json!("observe"), &json!("tombstone")));
    assert_eq!(dry["would_hit"][0]["identity"], "name:nightly");
    let client = within("the client in the report", async {
        loop {
            // It may be one of a moment ago.
            let report = http_client().get(proxy.admin_url("/report.json")).send().await.expect("an answer");
            let report: Value = serde_json::from_str(&report.text().await.expect("a text")).expect("JSON");
            let mut clients = report["clients"].as_array().expect("clients").iter();
            if let Some(client) = clients.find(|client| client["identity"] == "name:nightly") {
                return client.clone();
            }
        }
    })
    .await;
    assert_eq!(
        (&client["refused"], &client["would_be_refused"]["tombstone"]["times"]),
        (&json!(0), &json!(1)),
        "{client}"
    );
    done(&proxy, json!({"action": "set", "phase": "observe", "is_dry_run": true, "why": "seen enough"})).await;
    use_once(&proxy, "other").await;
    let log = proxy.stop().await;
    let refused = records(&log, "legacy.refused");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert_eq!(
        (&refused[0]["legacy.refused.dry_run"], &refused[0]["identity"], &refused[0]["legacy.refused.reason"]),
        (&json!(true), &json!("name:nightly"), &json!("tombstone"))
    );
}

#[tokio::test]
async fn orders_need_the_token_and_make_sense() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    let order = json!({"action": "pause", "why": "x"}).to_string();
    let nobody = within("401", http_client().post(proxy.admin_url("/sunset")).body(order).send()).await.expect("401");
    assert_eq!(nobody.status(), 401);
    for (order, status) in [
        (json!({"action": "stop", "why": "x"}), 400),
        (json!({"action": "pause", "why": ""}), 400),
        (json!({"action": "set", "phase": "gone", "share": 10, "why": "x"}), 400),
    ] {
        assert_eq!(say(&proxy, order.clone()).await.status(), status, "{order}");
    }
    let log = proxy.stop().await;
    assert_eq!(story(&log), []);
}

#[tokio::test]
async fn phase_without_a_new_url_is_refused_with_what_to_do() {
    let upstream = FakeUpstream::start(JSON).await;
    let stage = Stage::new().await;
    let token = stage.path("token");
    let options = [("admin", "127.0.0.1:0"), ("admin-token-file", super::text(&token))];
    let proxy = Proxy::start(upstream.url(), &options);
    let answer = say(&proxy, json!({"action": "set", "phase": "announce", "why": "x"})).await;
    assert_eq!(answer.status(), 409);
    assert!(answer.text().await.expect("a text").contains("--new-url"));
    proxy.stop().await;
}

#[tokio::test]
async fn phase_is_in_the_metrics_and_in_the_status() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(&[]);
    set(&proxy, "announce").await;
    let of = |path: &'static str| {
        let request = http_client().get(proxy.admin_url(path)).send();
        async move { within(path, request).await.expect("an answer").text().await.expect("a text") }
    };
    let metrics = of("/metrics").await;
    assert!(metrics.contains("sse_sunset_phase{phase=\"announce\"} 1\n"), "{metrics}");
    assert!(metrics.contains("sse_sunset_phase{phase=\"observe\"} 0\n"));
    assert!(metrics.contains("sse_sunset_paused 0\n"));
    let status: Value = serde_json::from_str(&of("/status").await).expect("JSON");
    assert_eq!(status["phase"], "announce");
    assert!(get(&proxy, &[]).await.headers()["link"].to_str().expect("visible").contains(NEW_URL));
    proxy.stop().await;
}
