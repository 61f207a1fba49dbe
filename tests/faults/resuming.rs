//! A client that comes back with the id of its last event, and goes on posting to its first endpoint: the Rust SDK
//! 0.8.5. It runs in this process.

use rmcp_0_8::ServiceExt as _;
use rmcp_0_8::model::CallToolRequestParam;
use rmcp_0_8::service::{Peer, RoleClient};
use rmcp_0_8::transport::SseClientTransport;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fault_proxy::{FaultProxy, Manner};
use crate::proxy::Proxy;
use crate::server::{Sdk, Server};
use crate::wait::{self, seconds};

/// Longer than the client takes to come back.
const LIMIT: std::time::Duration = seconds(20);

/// Calls a tool under `token`, and gives the text that comes, or what else became of it.
fn call(runtime: &Runtime, peer: &Peer<RoleClient>, tool: &'static str, token: &str) -> JoinHandle<String> {
    let (peer, arguments) = (peer.clone(), json!({ "token": token }).as_object().cloned());
    runtime.spawn(async move {
        match timeout(LIMIT, peer.call_tool(CallToolRequestParam { name: tool.into(), arguments })).await {
            Ok(Ok(result)) => json!(result)["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
            other => format!("{other:?}"),
        }
    })
}

#[test]
fn rust_client_that_is_cut_off_resumes_its_session_and_gets_its_answer() {
    let mut server = Server::start(Sdk::TypeScript, &[]);
    let proxy = Proxy::start(&server.mcp_url(), &[]);
    let between = FaultProxy::start(proxy.address());
    let runtime = Runtime::new().expect("a runtime");
    let ended = |call: JoinHandle<String>| runtime.block_on(call).expect("no panic");
    let url = between.sse_url();
    let client = runtime.block_on(async {
        let transport = SseClientTransport::start(url).await.expect("an event stream");
        timeout(LIMIT, ().serve(transport)).await.expect("a handshake in time").expect("a handshake")
    });
    let peer = client.peer().clone();
    for round in 0..3 {
        let held = call(&runtime, &peer, "hold", &format!("held-{round}"));
        server.await_entry(&format!("run held-{round}"), seconds(10));
        between.set(Manner::Refuse);
        assert_eq!(between.cut_streams(), 1);
        // The answer comes while nobody is there to take it.
        server.tell("release");
        wait::until("the server has answered", seconds(5), || server.count("answered") == round + 1);
        between.set(Manner::Pass);
        assert_eq!(ended(held), format!("held held-{round}"));
        assert_eq!(ended(call(&runtime, &peer, "count", &format!("after-{round}"))), format!("counted after-{round}"));
    }
    assert_eq!(server.count("initialize"), 1, "it is one session upstream");
    assert_eq!(proxy.ends(), Vec::<String>::new(), "and one here");
    let came_back = |connect: &&Value| connect["legacy.reconnect"] == true;
    wait::until("three streams that came back", seconds(5), || {
        proxy.records("legacy.connect").iter().filter(came_back).count() == 3
    });
    assert!(server.runs().values().all(|times| *times == 1), "{:?}", server.runs());
}
