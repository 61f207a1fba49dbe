//! Every client in every deployment, and what must come of it.

use super::client::{Client, Said, Sdk};
use super::door::Routing;
use super::scenario::{
    FACADE, FACADE_OWN_HOST, Found, NATIVE, NATIVE_PYTHON, NATIVE_TYPESCRIPT, OWN_HOST, SAME_HOST, SCENARIOS, Scenario,
    WITH_A_QUERY, WITHOUT_WELL_KNOWN,
};
use super::story::{STEPS, Story, each_client};
use super::table;
use super::world::{Audiences, Setup, World};

/// What a client lives through, step by step, where it can log in at all.
fn expected(client: Sdk) -> [&'static str; 6] {
    match client {
        // No step-up over HTTP+SSE in any version; the text is shown.
        Sdk::TypeScript(_) => ["works, 1 login", "works", "works", "works, 1 login", "insufficient scope", "works"],
        // It posts again what was refused, and a POST that is refused ends its writer.
        Sdk::Python("1.12.4") => ["works, 1 login", "works", "works", "works, 1 login", "hangs", "error"],
        Sdk::Python(_) => ["works, 1 login", "works", "works", "works, 1 login", "works, 1 login", "works"],
    }
}

/// What is wrong in a story of a client that can log in.
fn wrong(story: &Story) -> Vec<String> {
    let mut wrong = Vec::new();
    for (step, expected) in STEPS.iter().zip(expected(story.client)) {
        let found = story.kind(step);
        if found != expected {
            wrong.push(format!("{}: {step}: {}, expected: {expected}", story.client.title(), story.words(step)));
        }
    }
    if !story.steps.get(2).is_some_and(|expired| expired.renewed) {
        wrong.push(format!("{}: the token that expired was not renewed", story.client.title()));
    }
    wrong
}

/// All clients but these live through their story as before the server as it was.
fn assert_as_before(scenario: &'static Scenario, cannot_log_in: &[Sdk]) -> &'static Found {
    let found = scenario.found();
    let mut wrong_ones = Vec::new();
    for story in &found.stories {
        if cannot_log_in.contains(&story.client) {
            if story.kind("login") != "error" {
                wrong_ones.push(format!("{} logs in all of a sudden", story.client.title()));
            }
        } else {
            wrong_ones.extend(wrong(story));
        }
    }
    assert!(wrong_ones.is_empty(), "{}:\n{}", scenario.title, wrong_ones.join("\n"));
    found
}

/// Through the proxy a call runs once, whatever a client posts.
fn assert_calls_run_once(found: &Found) {
    for story in &found.stories {
        let counts = story.steps.iter().filter_map(|step| match &step.said {
            Said::Works(text) => text.strip_prefix("Count: "),
            _ => None,
        });
        for (run, count) in (1..).zip(counts) {
            assert_eq!(count, run.to_string(), "{}: {:?}", story.client.title(), story.steps);
        }
    }
}

/// Of what was handed out, nothing stands in a log.
fn assert_no_secret(found: &Found) {
    assert!(found.logs.contains("\"TRACE\"") && found.secrets.len() > 20, "there is something to be found");
    for secret in &found.secrets {
        if let Some(at) = found.logs.find(secret.as_str()) {
            let line = found.logs[..at].rfind('\n').map_or(0, |end| end + 1);
            panic!("a secret is logged, after: {}", &found.logs[line..at]);
        }
    }
}

#[test]
fn oauth_clients_log_in_before_a_typescript_server_as_it_was() {
    assert_as_before(&NATIVE_TYPESCRIPT, &[]);
}

#[test]
fn oauth_clients_log_in_before_a_python_server_as_it_was() {
    // It looks for the authorization server at the origin, where this server publishes none.
    assert_as_before(&NATIVE_PYTHON, &[Sdk::TypeScript("1.8.0")]);
}

#[test]
fn oauth_clients_see_no_difference_on_the_same_host() {
    let found = assert_as_before(&SAME_HOST, &[]);
    assert_calls_run_once(found);
    assert_audiences(found, &format!("{}/sse", found.origin));
}

#[test]
fn oauth_clients_see_no_difference_on_a_host_of_the_proxys_own() {
    let found = assert_as_before(&OWN_HOST, &[]);
    assert_calls_run_once(found);
    assert_audiences(found, &format!("{}/sse", found.origin));
}

#[test]
fn oauth_clients_log_in_without_well_known() {
    // The server publishes the authorization server's metadata at the origin, so that all of them find it.
    let found = assert_as_before(&WITHOUT_WELL_KNOWN, &[]);
    assert_calls_run_once(found);
}

#[test]
fn oauth_clients_that_read_the_challenge_log_in_by_a_query() {
    assert_calls_run_once(assert_as_before(&WITH_A_QUERY, &[Sdk::TypeScript("1.8.0")]));
}

#[test]
fn oauth_facade_serves_every_client_where_only_the_new_url_is_known() {
    for scenario in [&FACADE, &FACADE_OWN_HOST] {
        let found = assert_as_before(scenario, &[]);
        assert_calls_run_once(found);
        assert_audiences(found, &found.resource);
        assert_no_secret(found);
        for story in &found.stories {
            let first = story.visited.first().expect("a login");
            assert!(first.starts_with(&found.origin), "{}: the login begins at {first}", story.client.title());
        }
    }
}

/// Where the server takes tokens for its own URL only, those for the old one are refused again and again: whoever asks for
/// them is told so, instead of renewing them for ever.
#[test]
fn oauth_loop_ends_where_the_server_takes_no_token_for_the_old_url() {
    // A world for each: the proxy counts by client, and all of them come from one address.
    let found = each_client(|client| {
        let world = World::start(&Setup {
            routing: Routing::SameHost,
            audiences: Audiences::ServerKnowsItself,
            options: &["--oauth-resource", "exact"],
            ..NATIVE
        });
        let login = Client::start(client, &world.sse_url()).connect();
        let proxy = world.proxy.as_ref().expect("a proxy");
        (client, login, world.authority.counts(&client.title()), proxy.said_so_far()(), world.door.origin())
    });
    for (client, login, counts, log, origin) in found {
        if client == Sdk::TypeScript("1.8.0") {
            // It names no resource, and gets what the authorization server issues then.
            assert_eq!(login, Said::Works("connected".to_owned()));
            continue;
        }
        let Said::Error(text) = &login else { panic!("{}: {login:?}, {counts:?}", client.title()) };
        assert!(counts.requests <= 20, "{}: {counts:?}", client.title());
        if let Sdk::Python(_) = client {
            // It logs in once, and tells its user that this did not help.
            assert!(text.contains("401 Unauthorized"), "{}: {text}", client.title());
            continue;
        }
        assert!(text.contains("403"), "{}: {text}", client.title());
        let errors: Vec<_> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
        let [error] = *errors else { panic!("{}: {errors:?}", client.title()) };
        assert!(error.contains(&format!("{origin}/sse")), "the audience is named: {error}");
    }
}

/// The server's own metadata on the old URL: who compares the two, gives up before anybody logs in.
#[test]
fn oauth_metadata_of_the_upstream_keeps_out_who_compares_it_with_the_url() {
    let world = World::start(&Setup {
        routing: Routing::SameHost,
        audiences: Audiences::OldAndNew,
        options: &["--oauth-resource", "upstream"],
        ..NATIVE
    });
    let found = each_client(|client| (client, Client::start(client, &world.sse_url()).connect()));
    for (client, login) in found {
        match client {
            Sdk::TypeScript("1.8.0") | Sdk::Python("1.12.4" | "1.20.0") => {
                assert_eq!(login, Said::Works("connected".to_owned()), "{}", client.title());
            }
            _ => {
                let Said::Error(text) = &login else { panic!("{}: {login:?}", client.title()) };
                assert!(text.contains("does not match expected"), "{}: {text}", client.title());
            }
        }
    }
}

/// All tokens are for `audience`.
fn assert_audiences(found: &Found, audience: &str) {
    for story in &found.stories {
        assert_eq!(story.audiences, [audience], "{}", story.client.title());
    }
}

#[test]
fn oauth_table_tells_what_was_found() {
    // From the other end than the tests above, so that two threads do not wait for each other's stories.
    for scenario in SCENARIOS.iter().rev() {
        scenario.found();
    }
    let table = table::render(&SCENARIOS);
    std::fs::write(crate::packages::home().join("oauth.md"), &table).expect("a file for the table");
    eprintln!("{table}");
}
