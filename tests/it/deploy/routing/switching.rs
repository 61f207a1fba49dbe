//! Back to the server in a minute, and what stays when the proxy is gone.

use serde_json::json;
use tokio::process::Command;

use super::{Balancer, Kind, Plan, Route, address, proxy_for, with_each_balancer};
use crate::support::gateway::LOOK;
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

/// A server that still has HTTP+SSE of its own beside Streamable HTTP. (Another proxy plays it.)
fn server_of_both(upstream: &FakeUpstream) -> Proxy {
    Proxy::start(upstream.url(), &[("passthrough", "all"), ("instance", "server")])
}

async fn call(client: &mut LegacyClient) {
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    assert_eq!(client.answer(1).await["result"]["content"][0]["text"], "x");
}

fn connects(proxy: &Proxy) -> usize {
    proxy.log().iter().filter(|record| record["event.name"] == "legacy.connect").count()
}

/// Into service and back: from the server to the proxy, and from there to the server again.
async fn there_and_back(kind: Kind, route: Route) {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let server = server_of_both(&upstream);
    let mut proxy = proxy_for(route, &upstream, &[]);
    let mut balancer = Balancer::start(Plan::new(kind, Route::Direct, server.address, proxy.address)).await;
    let mut before = LegacyClient::connect_to(&balancer.url(""), &[]).await;
    call(&mut before).await;
    assert_eq!((connects(&server), connects(&proxy)), (1, 0), "{kind:?}");

    balancer.switch(route, None).await;
    let mut meanwhile = arrive(&balancer, &proxy).await;
    call(&mut meanwhile).await;

    let of_server = connects(&server);
    balancer.switch(Route::Direct, None).await;
    let mut after = arrive(&balancer, &server).await;
    assert!(connects(&server) > of_server, "{kind:?}");
    call(&mut after).await;
    // Streams stay where they are until the proxy is stopped, and then end.
    proxy.begin_stop();
    assert!(meanwhile.event().await.is_none(), "{kind:?}");
    after.call(2, "echo", json!({"text": "y"})).await;
    assert_eq!(after.answer(2).await["result"]["content"][0]["text"], "y", "{kind:?}");
    drop((before, meanwhile, after));
    proxy.stop().await;
    server.stop().await;
}

/// Connects until it is `to` who serves: some balancers take a moment.
async fn arrive(balancer: &Balancer, to: &Proxy) -> LegacyClient {
    within("the other route", async {
        loop {
            let before = connects(to);
            let client = LegacyClient::connect_to(&balancer.url(""), &[]).await;
            if connects(to) > before {
                return client;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

async fn way_back_to_the_server_is_one_switch(kind: Kind) {
    tokio::join!(there_and_back(kind, Route::Split), there_and_back(kind, Route::All));
}

async fn tombstone_takes_the_place_of_the_proxy(kind: Kind) {
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let proxy = proxy_for(Route::Split, &upstream, &[]);
    let mut balancer = Balancer::start(Plan::new(kind, Route::Split, address(upstream.url()), proxy.address)).await;
    call(&mut LegacyClient::connect_to(&balancer.url(""), &[]).await).await;
    let mut tombstone = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    tombstone.args(["tombstone", "--for", kind.name(), "--new-url", "https://mcp.example.com/mcp"]);
    let printed = within("the end", tombstone.output()).await.expect("the program");
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("text");
    balancer.switch(Route::Direct, Some(printed)).await;
    let client = http_client();
    within("the tombstone", async {
        while !client.get(balancer.url("/sse")).send().await.is_ok_and(|answer| answer.status() == 410) {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    proxy.stop().await;
    let post = |path: &str| client.post(balancer.url(path)).body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).send();
    let gone = within("an answer", post("/messages?sessionId=x")).await.expect("an answer");
    assert_eq!(gone.status(), 410, "{kind:?}");
    assert!(gone.headers()["link"].to_str().expect("text").contains("https://mcp.example.com/mcp"), "{kind:?}");
    let served = within("an answer", post("/mcp")).await.expect("an answer");
    assert_eq!(served.status(), 200, "{kind:?}");
    assert_eq!(upstream.methods().last().map(String::as_str), Some("ping"), "{kind:?}");
}

with_each_balancer!(way_back_to_the_server_is_one_switch tombstone_takes_the_place_of_the_proxy);
