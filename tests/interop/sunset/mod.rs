//! What the users of real clients see while HTTP+SSE is switched off, phase by phase, and what the log says of them.
//!
//! The switch-off is played once in a run (`rehearsal.rs`), and each test looks at one side of it.

mod client;
mod gate;
mod rehearsal;
mod rmcp;
mod table;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use client::{DUAL, Dual, KNOWN, LEGACY, Legacy, Said, Visit};
use gate::Exchange;
use rehearsal::{End, NEW_URL, NEWCOMER, Scene, found};

/// The scenes in which everybody that comes is refused.
const REFUSING: [Scene; 5] = [Scene::FreezeNew, Scene::Brownout, Scene::BrownoutByHttp, Scene::Tombstone, Scene::Gone];

/// Requests in an order that does not depend on which of those that are made at once comes first.
fn sorted(exchanges: &[Exchange]) -> Vec<String> {
    let mut all: Vec<_> = exchanges.iter().map(|one| format!("{} {}", one.method, one.path)).collect();
    all.sort_unstable();
    all
}

/// What came, and what the server logged, apart.
fn parted(visit: &Visit) -> (Value, Vec<Value>) {
    let mut works = visit.said.works().clone();
    let logged = works["logged"].take();
    (works, logged.as_array().expect("a list").clone())
}

fn streams(exchanges: &[Exchange]) -> usize {
    exchanges.iter().filter(|one| one.is_stream()).count()
}

#[test]
fn announcement_changes_nothing_for_any_client_and_freeze_nothing_for_those_who_were_there() {
    let found = found();
    for scene in [Scene::Announce, Scene::FreezeKnown] {
        for (before, after) in found.visits(Scene::Observe).iter().zip(found.visits(scene)) {
            assert_eq!(before.client, after.client);
            let (came, logged) = parted(after);
            assert_eq!((&came, &logged), (&parted(before).0, &vec![]), "{scene:?} {:?}", after.client);
            assert!(came.to_string().contains("still here"), "{scene:?} {:?}: {came}", after.client);
            assert_eq!(sorted(&after.exchanges), sorted(&before.exchanges), "{scene:?} {:?}", after.client);
        }
        assert_eq!(found.visits(scene).len(), LEGACY.len());
    }
}

#[test]
fn warning_reaches_what_clients_do_with_logs_and_changes_nothing_else() {
    let found = found();
    for (before, after) in found.visits(Scene::Observe).iter().zip(found.visits(Scene::Notify)) {
        let (came, logged) = parted(after);
        assert_eq!(came, parted(before).0, "{:?}", after.client);
        assert_eq!(logged.len(), 1, "{:?}: {logged:?}", after.client);
        assert_eq!((&logged[0]["level"], &logged[0]["logger"]), (&json!("warning"), &json!("sse-sunset")));
        assert!(logged[0]["data"].as_str().is_some_and(|text| text.contains(NEW_URL)), "{logged:?}");
    }
}

#[test]
fn error_of_initialize_tells_users_where_to_go() {
    let found = found();
    for (scene, says) in [
        (Scene::FreezeNew, "HTTP+SSE takes no new clients"),
        (Scene::Brownout, "HTTP+SSE is off until 20"),
        (Scene::Tombstone, "HTTP+SSE was switched off"),
    ] {
        for visit in found.visits(scene) {
            let text = visit.said.text();
            if visit.client == Legacy::Rmcp {
                // It ignores every error before it is initialized, and waits for the stream's end.
                assert_eq!(text, "connection closed: initialize response", "{scene:?}");
                continue;
            }
            assert!(text.contains(says) && text.contains(NEW_URL), "{scene:?} {:?}: {:?}", visit.client, visit.said);
            let code = "MCP error -32010: ";
            assert_eq!(text.starts_with(code), !matches!(visit.client, Legacy::Python(_)), "{scene:?}: {text}");
            if let (Legacy::Python(_), Said::Error { as_printed, .. }) = (visit.client, &visit.said) {
                assert_eq!(as_printed, "unhandled errors in a TaskGroup (1 sub-exception)");
            }
        }
    }
}

#[test]
fn status_is_all_that_clients_show_of_a_refusal_by_http() {
    let found = found();
    for (scene, status, reason, [python, rmcp]) in [
        (Scene::BrownoutByHttp, 503, "503 Service Unavailable", ["Server error", "server error"]),
        (Scene::Gone, 410, "410 Gone", ["Client error", "client error"]),
    ] {
        for visit in found.visits(scene) {
            let text = visit.said.text();
            let expected = match visit.client {
                Legacy::TypeScript(_) => format!("SSE error: Non-200 status code ({status})"),
                Legacy::Remote => "MCP error -32000: Connection closed".to_owned(),
                Legacy::Python(_) => format!("{python} '{reason}' for url 'URL'"),
                Legacy::Rmcp => format!("Client error: HTTP status {rmcp} ({reason}) for url (URL)"),
            };
            assert_eq!(table::plain(text), expected, "{scene:?}");
            if let (Legacy::Remote, Said::Error { stderr, .. }) = (visit.client, &visit.said) {
                let printed = format!("Connection error: SseError: SSE error: Non-200 status code ({status})");
                assert_eq!(table::printed(stderr), Some(printed));
            }
        }
    }
}

#[test]
fn call_that_runs_when_its_session_ends_tells_users_where_to_go() {
    let found = found();
    for end in [End::Brownout, End::Gone] {
        for stay in found.stays(end) {
            let title = format!("{end:?} {:?}: {stay:#?}", stay.client);
            assert!(stay.running.text().contains(NEW_URL), "{title}");
            let (next, later) = (stay.next.text(), stay.later.text());
            match stay.client {
                Legacy::TypeScript(_) | Legacy::Remote => {
                    // What it posts to is gone, until its new stream names another.
                    let told = if end == End::Gone { NEW_URL } else { "HTTP 404" };
                    assert!(next.contains(told) && later.contains(NEW_URL), "{title}");
                }
                Legacy::Python(_) => {
                    assert!(["Connection closed", "ClosedResourceError"].contains(&next), "{title}");
                    assert_eq!(later, "ClosedResourceError", "{title}");
                }
                Legacy::Rmcp => assert_eq!((next, later), ("Transport closed", "Transport closed"), "{title}"),
            }
            assert_eq!(stay.streams, usize::from(stay.client.reconnects()), "{title}");
        }
    }
}

#[test]
fn refused_client_does_not_try_again() {
    let found = found();
    for scene in REFUSING {
        for visit in found.visits(scene) {
            let title = format!("{scene:?} {:?}: {:?}", visit.client, sorted(&visit.exchanges));
            assert!(!visit.tries_on, "{title}");
            // mcp-remote looks twice what is there before it connects.
            let looks = if visit.client == Legacy::Remote { 2 } else { 0 };
            assert_eq!(streams(&visit.exchanges), 1 + looks, "{title}");
            let by_http = matches!(scene, Scene::BrownoutByHttp | Scene::Gone);
            let messages = visit.exchanges.iter().filter(|one| one.is_message()).count();
            assert_eq!(messages, usize::from(!by_http), "{title}");
        }
    }
}

#[test]
fn clients_of_both_transports_end_up_on_streamable_http_in_every_phase() {
    let found = found();
    let scenes: Vec<_> = found.duals.iter().map(|(scene, _)| *scene).collect();
    for scene in REFUSING.into_iter().chain([Scene::Announce]) {
        assert!(scenes.contains(&scene), "{scene:?} was looked at");
    }
    for (scene, duals) in &found.duals {
        assert_eq!(duals.len(), DUAL.len());
        for dual in duals {
            let title = format!("{scene:?} {:?}: {} {:?}", dual.client, dual.line, sorted(&dual.exchanges));
            match dual.client {
                Dual::Example | Dual::VsCode => assert_eq!(dual.line["transport"], "http", "{title}"),
                Dual::Remote => assert_eq!(dual.line["works"]["text"], "Echo: still here", "{title}"),
            }
            assert!(dual.line.to_string().contains("Echo: "), "{title}");
            assert!(!dual.exchanges.iter().any(Exchange::is_message), "{title}");
        }
    }
}

/// The records of refusals because of `phase`.
fn refused<'a>(log: &'a [Value], phase: &str) -> Vec<&'a Value> {
    let is = |record: &&Value| record["event.name"] == "legacy.refused" && record["legacy.refused.reason"] == phase;
    log.iter().filter(is).collect()
}

/// As log and report name it.
fn identity(client: Legacy, who: &str) -> String {
    let via = if client == Legacy::Remote { " via mcp-remote" } else { "" };
    format!("name:{}{via}", client.name(who))
}

#[test]
fn every_refused_client_left_a_record_of_the_phase() {
    let found = found();
    for client in LEGACY {
        // Once when it came, and once when its session ended.
        for (who, phase, times) in
            [(NEWCOMER, "freeze", 1), (KNOWN, "brownout", 2), (KNOWN, "tombstone", 1), (KNOWN, "gone", 1)]
        {
            let identity = identity(client, who);
            let records = refused(&found.log, phase).into_iter().filter(|record| record["identity"] == identity);
            // More where it has left and its session lingered still, or where mcp-remote has asked for another one.
            let count = records.count();
            assert!(count >= times, "{identity} in {phase}: {count}");
        }
        // Nobody is known before a stream is open: what is left is where it came from.
        let known = identity(client, KNOWN);
        let address =
            found.log.iter().find(|record| record["identity"] == known).expect("its use")["client.address"].clone();
        let is_its =
            |record: &&Value| record["client.address"] == address && record["http.response.status_code"] == 410;
        assert!(refused(&found.log, "gone").iter().any(is_its), "{known}");
    }
    let by_http = refused(&found.log_by_http, "brownout");
    assert!(by_http.iter().all(|record| record["http.response.status_code"] == 503), "{by_http:#?}");
    let addresses: BTreeSet<_> = by_http.iter().map(|record| record["client.address"].to_string()).collect();
    // And mcp-remote's looks where it speaks Streamable HTTP in the end.
    assert_eq!(addresses.len(), LEGACY.len() + 1, "{by_http:#?}");
}

#[test]
fn report_counts_refused_clients_as_ones_that_still_come() {
    let found = found();
    assert_eq!(found.report["verdict"], "not_yet", "{}", found.report["reason"]);
    let clients = found.report["clients"].as_array().expect("clients");
    let row = |identity: &str| clients.iter().find(|row| row["identity"] == identity).expect("its row");
    for client in LEGACY {
        let known = row(&identity(client, KNOWN));
        assert_eq!(known["state"], "blocking", "{known:#}");
        for phase in ["brownout", "tombstone", "gone"] {
            let its = |record: &&Value| record["identity"] == known["identity"];
            let count = refused(&found.log, phase).into_iter().filter(its).count();
            assert!(count > 0 && known["refused_in"][phase] == count, "{phase}: {count}, {known:#}");
        }
        assert!(known["last_attempt"].as_str() > known["last_use"].as_str(), "{known:#}");
        let newcomer = row(&identity(client, NEWCOMER));
        // rmcp waits a minute for another answer: it may still do when all sessions end.
        assert_eq!(
            (&newcomer["state"], &newcomer["refused_in"]["freeze"]),
            (&json!("noise"), &json!(1)),
            "{newcomer:#}"
        );
    }
    // Nobody had used this one before, and it says so.
    let (totals, notes) = (&found.report_by_http["totals"], found.report_by_http["notes"].to_string());
    assert!(totals["refused"].as_u64() >= Some(LEGACY.len() as u64), "{totals}");
    assert!(notes.contains("a refusal is no silence"), "{notes}");
}

#[test]
fn documentation_tells_what_users_are_shown() {
    let table = table::render(found());
    std::fs::write(crate::packages::home().join("sunset.md"), &table).expect("a file for the table");
    crate::table::assert_told(table::PLACE, &table);
}
