//! What clients meet while the proxy is away.

use reqwest::{Error, Response};

use super::{Balancer, Change, Kind, Plan, Route, address, proxy_for, with_each_balancer};
use crate::support::port::Port;
use crate::support::{Behaviour, FakeUpstream, LegacyClient, http_client, within};

const SESSION: &str = "0123456789abcdef";

/// How long streams wait, shortened.
fn hasty(kind: Kind) -> Vec<Change> {
    let change = |file, from, to: &str| vec![(file, from, to.to_owned())];
    match kind {
        Kind::Nginx => vec![],
        Kind::Haproxy => change("haproxy.cfg", "  retries 30\n", "  retries 0\n"),
        Kind::Caddy => change("streams.caddy", "lb_try_duration 30s", "lb_try_duration 1s"),
        Kind::Envoy => change("split.yaml", "num_retries: 60", "num_retries: 1"),
        Kind::Traefik => {
            change("servers.yaml", "attempts: 30, initialInterval: 1s", "attempts: 2, initialInterval: 1ms")
        }
    }
}

/// What a request for a stream comes to.
async fn stream(balancer: &Balancer) -> Result<Response, Error> {
    let request = http_client().get(balancer.url("/sse")).header("accept", "text/event-stream");
    within("an answer, or none", request.send()).await
}

async fn clients_are_not_turned_away_for_ever(kind: Kind) {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let nobody = Port::reserve();
    let plan = Plan::new(kind, Route::Split, address(upstream.url()), nobody.address).with(hasty(kind));
    let balancer = Balancer::start(plan).await;
    let met = stream(&balancer).await;
    match kind {
        Kind::Nginx | Kind::Haproxy | Kind::Caddy => {
            let error = met.expect_err("no answer at all");
            assert!(error.is_request() && !error.is_connect() && !error.is_timeout(), "{kind:?}: {error:?}");
        }
        // They cannot close without a word: an empty stream has TypeScript come back as well.
        Kind::Envoy => {
            let answer = met.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            assert_eq!(within("the end", answer.text()).await.expect("an end"), ": nobody is there\n\n");
        }
        // And it has nothing of the kind to give.
        Kind::Traefik => assert_eq!(met.expect("an answer").status(), 502),
    }
    // Whoever posts is told.
    let url = balancer.url(&format!("/messages?sessionId={SESSION}"));
    let posted = within("an answer", http_client().post(url).body("{}").send()).await.expect("an answer");
    assert!(posted.status().is_server_error(), "{kind:?}: {}", posted.status());
    // And those who do not need the proxy do not notice.
    let modern = http_client().post(balancer.url("/mcp")).body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(within("an answer", modern.send()).await.expect("an answer").status(), 200, "{kind:?}");
    let logs = balancer.logs();
    assert!(!logs.contains(SESSION), "{kind:?}: {logs}");
}

/// What asks for a stream while the proxy restarts is served when it is back. nginx has nothing that waits.
async fn stream_waits_for_the_proxy(kind: Kind) {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let place = Port::reserve();
    let balancer = Balancer::start(Plan::new(kind, Route::Split, address(upstream.url()), place.address)).await;
    let url = balancer.url("");
    let waiting = tokio::spawn(async move { LegacyClient::connect_to(&url, &[]).await });
    // A request that was made later has its answer, so the first one has met nobody by now.
    let later = http_client().post(balancer.url("/messages")).body("{}");
    assert!(within("an answer", later.send()).await.expect("an answer").status().is_server_error(), "{kind:?}");
    assert!(!waiting.is_finished(), "{kind:?}");
    let listen = place.address.to_string();
    let proxy = proxy_for(Route::Split, &upstream, &[("listen", &listen)]);
    let mut client = within("a stream", waiting).await.expect("no panic");
    client.initialize().await;
    drop(client);
    proxy.stop().await;
}

with_each_balancer!(clients_are_not_turned_away_for_ever);

#[tokio::test]
async fn stream_waits_for_the_proxy_in_haproxy() {
    stream_waits_for_the_proxy(Kind::Haproxy).await;
}

#[tokio::test]
async fn stream_waits_for_the_proxy_in_caddy() {
    stream_waits_for_the_proxy(Kind::Caddy).await;
}

#[tokio::test]
async fn stream_waits_for_the_proxy_in_envoy() {
    stream_waits_for_the_proxy(Kind::Envoy).await;
}

#[tokio::test]
async fn stream_waits_for_the_proxy_in_traefik() {
    stream_waits_for_the_proxy(Kind::Traefik).await;
}

/// The same file with one thing wrong is found out.
#[tokio::test]
async fn answer_that_turns_clients_away_for_ever_is_found() {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let nobody = Port::reserve();
    let wrong = ("split.conf", "error_page 502 504 = @nobody;", String::new());
    let plan = Plan::new(Kind::Nginx, Route::Split, address(upstream.url()), nobody.address).with(vec![wrong]);
    let balancer = Balancer::start(plan).await;
    assert_eq!(stream(&balancer).await.expect("an answer").status(), 502);
}
