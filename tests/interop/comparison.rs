//! What every client saw of a server through the proxy, held against a control without the proxy.
//!
//! Promise: no step where the control passes and the proxy fails goes unseen. Where the server has comparable HTTP+SSE
//! of its own, the control is the same client over that, and the lines must be the same bytes. Elsewhere it is the same
//! client straight over Streamable HTTP: what fails there the server itself cannot do; the lines must be the same
//! too, unless a newer version of the SDK has to stand in, which words things its own way: then the step must pass.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::clients::{CLIENTS, Client, Direct, Extent, Program, Transport, converse};
use crate::processes::Proxy;
use crate::servers::{Native, Running, SERVERS, Server};

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// As in the control.
    Same,
    /// The control passed, and this is not the same: our bug.
    Different { control: String, proxy: String },
    /// The control failed, so nothing is asked of the proxy; `works` tells whether it passed all the same.
    ControlFails { works: bool },
    /// Not tried: this client cannot.
    ClientLacks(String),
    /// Not tried: the server in this mode cannot.
    ServerLacks(String),
}

/// A client's conversation with a server through the proxy.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) client: &'static Client,
    /// Steps in their order.
    pub(crate) steps: Vec<(String, Verdict)>,
    /// What the proxy wrote about it.
    pub(crate) log: Vec<Value>,
}

/// All that was found about a server.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) conversations: Vec<Conversation>,
    /// What the profile says that the server lacks and the control found it to have.
    pub(crate) stale: Vec<String>,
}

/// The findings about a server; whoever asks first has all the conversations held.
pub(crate) fn findings(server: &'static Server) -> &'static Findings {
    static FOUND: [OnceLock<Findings>; SERVERS.len()] = [const { OnceLock::new() }; SERVERS.len()];
    let place = SERVERS.iter().position(|one| one.profile == server.profile).expect("a server of the list");
    FOUND[place].get_or_init(|| find_out(server))
}

fn find_out(server: &'static Server) -> Findings {
    let upgraded = server.start();
    let stale = stale(server, &upgraded);
    let native = server.start_native();
    let mut direct: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut conversations = Vec::new();
    for client in &CLIENTS {
        let through_proxy = || {
            let proxy = Proxy::start(&upgraded.mcp_url());
            let lines = converse(client.program, Transport::Sse, &proxy.sse_url(), server.profile, Extent::Whole);
            (lines, proxy.stop())
        };
        let (control, (through, log)) = if let Some(native) = &native {
            let program = match client.direct {
                Direct::WithoutProbe(program) if server.native == Native::HttpSseOfBothEras => program,
                _ => client.program,
            };
            let native = || converse(program, Transport::Sse, &native.sse_url(), server.profile, Extent::Whole);
            // Two processes, which know nothing of each other.
            side_by_side(native, through_proxy)
        } else {
            // One process, which takes one conversation at a time.
            let program = client.direct_program();
            let straight =
                || converse(program, Transport::StreamableHttp, &upgraded.mcp_url(), server.profile, Extent::Whole);
            (direct.entry(format!("{program:?}")).or_insert_with(straight).clone(), through_proxy())
        };
        conversations.push(Conversation { client, steps: compare(server, client, &control, &through), log });
    }
    Findings { conversations, stale }
}

fn side_by_side<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

/// Tries what the profile says that the server lacks, once, without the proxy.
fn stale(server: &Server, upgraded: &Running) -> Vec<String> {
    let newest = Program::Node("typescript-1.32.2");
    let lines = converse(newest, Transport::StreamableHttp, &upgraded.mcp_url(), server.profile, Extent::Lacking);
    lines.into_iter().filter(|line| is_ok(line)).collect()
}

fn compare(server: &Server, client: &Client, control: &[String], through: &[String]) -> Vec<(String, Verdict)> {
    let must_be_same_line = server.native != Native::None || !matches!(client.direct, Direct::Newer(_));
    let control: BTreeMap<String, &String> = control.iter().map(|line| (text(line, "step"), line)).collect();
    let verdict = |step: &str, line: &String| {
        if value(line).get("skipped").is_some() {
            let why = text(line, "skipped");
            return if text(line, "whose") == "client" { Verdict::ClientLacks(why) } else { Verdict::ServerLacks(why) };
        }
        let Some(control) = control.get(step).filter(|control| is_ok(control)) else {
            return Verdict::ControlFails { works: is_ok(line) };
        };
        if *control == line || (!must_be_same_line && is_ok(line)) {
            return Verdict::Same;
        }
        Verdict::Different { control: (*control).clone(), proxy: line.clone() }
    };
    let mut steps: Vec<(String, Verdict)> = Vec::new();
    for line in through {
        let step = text(line, "step");
        steps.push((step.clone(), verdict(&step, line)));
    }
    // A conversation through the proxy that ends early must not hide what it did not come to.
    for (step, control) in control {
        if is_ok(control) && !steps.iter().any(|(known, _)| *known == step) {
            steps.push((step, Verdict::Different { control: control.clone(), proxy: "nothing".to_owned() }));
        }
    }
    steps
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn text(line: &str, key: &str) -> String {
    value(line)[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}")).to_owned()
}

fn is_ok(line: &str) -> bool {
    value(line)["ok"] == true
}
