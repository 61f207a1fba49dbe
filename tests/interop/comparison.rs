//! What every client saw of a server through the proxy, held against a control without the proxy.
//!
//! Promise: no step where the control passes and the proxy fails goes unseen. Where the server has comparable HTTP+SSE
//! of its own, the control is the same client over that, and the lines must be the same bytes. Elsewhere it is the same
//! client straight over Streamable HTTP: what fails there the server itself cannot do; the lines must be the same
//! too, unless a newer version of the SDK has to stand in, which words things its own way: then the step must pass.
//! A server of the era of 2026 no legacy client can speak to: there the newest client of the same language stands in,
//! and the lines must be the same wherever neither the era nor the SDK words them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::clients::{ASKING, CLIENTS, Client, Direct, Extent, MODERN, Program, Transport, converse};
use crate::fleet::Fleet;
use crate::processes::Proxy;
use crate::servers::{Native, Running, SERVERS, Server};

/// Steps that clients of the era of 2026 tell in words of their own: theirs is another handshake, and errors are worded
/// by the SDK.
const OWN_WORDS: [&str; 7] = [
    "initialize",
    "cancellation",
    "error_unknown_tool",
    "error_invalid_arguments",
    "error_invalid_params",
    "error_unknown_resource",
    "error_unknown_method",
];

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
    /// The version of the protocol that was agreed on.
    pub(crate) version: String,
    /// What the client printed: a line a step.
    pub(crate) lines: Vec<String>,
    /// What every proxy that took part wrote about it.
    pub(crate) logs: Vec<Vec<Value>>,
    /// How many POSTs came to another replica than the one with the session.
    pub(crate) handed: u64,
}

/// What clients find at the legacy URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// One proxy.
    One,
    /// Replicas, any of which gets a request.
    Replicas,
}

/// What is left of a conversation once everything that it went through has ended.
struct Held {
    lines: Vec<String>,
    logs: Vec<Vec<Value>>,
    handed: u64,
}

impl Front {
    /// Has `program` hold its conversation with `server`, which runs, through proxies of its own with these options.
    fn hold(self, program: Program, over: Transport, (server, upgraded): (&Server, &Running), more: &[&str]) -> Held {
        let options = [server.options, more].concat();
        let speak = |url: &str| converse(program, over, url, server.profile, Extent::Whole);
        match self {
            Front::One => {
                let proxy = Proxy::start(&upgraded.mcp_url(), &options);
                let lines = speak(&proxy.sse_url());
                Held { lines, logs: vec![proxy.stop()], handed: 0 }
            }
            Front::Replicas => {
                let fleet = Fleet::start(&upgraded.mcp_url(), &options);
                let lines = speak(&fleet.sse_url());
                let handed = fleet.handed();
                Held { lines, logs: fleet.stop(), handed }
            }
        }
    }
}

impl Conversation {
    fn judge(client: &'static Client, controls: &[Controls], held: Held) -> Self {
        let Held { lines, logs, handed } = held;
        Conversation { client, steps: compare(controls, &lines), version: version(&lines), lines, logs, handed }
    }

    /// Held once more through replicas with these options, against this one: what passed here is the same bytes there.
    pub(crate) fn through_replicas(&self, with: (&Server, &Running), options: &[&str]) -> Self {
        let held = Front::Replicas.hold(self.client.program, Transport::Sse, with, options);
        Conversation::judge(self.client, &[controls(&self.lines, |_| true)], held)
    }
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

/// What versions of the protocol before 2025-06-18 do not know, by step: results and schemas with a structure, and (those who
/// speak them send none) the context of a completion.
const LATER: [(&str, &str); 3] =
    [("tools_list", "sha256"), ("structured_content", "structured"), ("completion", "name")];

/// What a step is held against.
enum Control {
    /// It must be this very line.
    Line(String),
    /// It must be this line, less what the version of the protocol does not know.
    Shaped(String),
    /// It must pass as this one did.
    Passed(String),
    /// It must pass; the control has no means to try it.
    Untried,
    /// The control failed, or the server cannot.
    Failed,
}

impl Control {
    fn shaped(self) -> Self {
        match self {
            Control::Line(line) => Control::Shaped(line),
            other => other,
        }
    }
}

/// What the steps of a conversation are held against.
type Controls = BTreeMap<String, Control>;

/// Conversations without the proxy, each held once.
struct Straight<'a> {
    server: &'static Server,
    upgraded: &'a Running,
    held: BTreeMap<String, Vec<String>>,
}

impl Straight<'_> {
    fn lines(&mut self, program: Program) -> &[String] {
        let hold = || {
            let (url, profile) = (self.upgraded.mcp_url(), self.server.profile);
            converse(program, Transport::StreamableHttp, &url, profile, Extent::Whole)
        };
        self.held.entry(format!("{program:?}")).or_insert_with(hold)
    }

    /// What `client` can do in the session era.
    fn of_its_era(&mut self, client: &Client) -> Controls {
        let same_words = !matches!(client.direct, Direct::Newer(_));
        controls(self.lines(client.direct_program()), |_| same_words)
    }

    /// What can be done in the era of 2026, told in the language of `client`.
    fn of_2026(&mut self, client: &Client) -> Controls {
        let same_words = client.speaks_like_modern_program();
        let lines = self.lines(client.modern_program());
        let controls = controls(lines, |step| same_words && !OWN_WORDS.contains(&step)).into_iter();
        let mut controls: Controls = controls.map(|(step, control)| (step, control.shaped())).collect();
        for line in lines.iter().filter(|line| value(line)["whose"] == "client") {
            controls.insert(text(line, "step"), Control::Untried);
        }
        controls
    }
}

fn controls(lines: &[String], same_words: impl Fn(&str) -> bool) -> Controls {
    let control = |line: &String| {
        let step = text(line, "step");
        let control = match (is_ok(line), same_words(&step)) {
            (true, true) => Control::Line(line.clone()),
            (true, false) => Control::Passed(line.clone()),
            (false, _) => Control::Failed,
        };
        (step, control)
    };
    lines.iter().map(control).collect()
}

/// The findings about `server`, one of the era of 2026, with the clients that are told which version to ask for.
pub(crate) fn findings_by_version(server: &'static Server) -> &'static Findings {
    static FOUND: OnceLock<Findings> = OnceLock::new();
    FOUND.get_or_init(|| {
        let upgraded = server.start();
        let mut straight = Straight { server, upgraded: &upgraded, held: BTreeMap::new() };
        let hold = |client: &'static Client| {
            let through = through_proxy(client.program, server, &upgraded);
            Conversation::judge(client, &[straight.of_2026(client)], through)
        };
        Findings { conversations: ASKING.iter().map(hold).collect(), stale: Vec::new() }
    })
}

fn find_out(server: &'static Server) -> Findings {
    let upgraded = server.start();
    let stale = stale(server);
    let native = server.start_native();
    let mut straight = Straight { server, upgraded: &upgraded, held: BTreeMap::new() };
    let mut conversations = Vec::new();
    for client in &CLIENTS {
        let through_proxy = || through_proxy(client.program, server, &upgraded);
        let (control, through) = if let Some(native) = &native {
            let program = match client.direct {
                Direct::WithoutProbe(program) if server.native == Native::HttpSseOfBothEras => program,
                _ => client.program,
            };
            let native = || converse(program, Transport::Sse, &native.sse_url(), server.profile, Extent::Whole);
            // Two processes, which know nothing of each other.
            let (native, through) = side_by_side(native, through_proxy);
            (vec![controls(&native, |_| true)], through)
        } else {
            // One process, which takes one conversation at a time.
            let control = match server.native {
                Native::Modern => vec![straight.of_2026(client)],
                Native::BothEras => vec![straight.of_its_era(client), straight.of_2026(client)],
                _ => vec![straight.of_its_era(client)],
            };
            (control, through_proxy())
        };
        conversations.push(Conversation::judge(client, &control, through));
    }
    Findings { conversations, stale }
}

/// A conversation of a client that speaks Streamable HTTP, or tries it first, on the legacy URL.
pub(crate) fn upgraded(
    front: Front,
    server: &'static Server,
    client: &'static Client,
    transport: Transport,
) -> Conversation {
    let upgraded = server.start();
    let mut straight = Straight { server, upgraded: &upgraded, held: BTreeMap::new() };
    let control = match server.native {
        Native::Modern => straight.of_2026(client),
        _ => straight.of_its_era(client),
    };
    let held = front.hold(client.program, transport, (server, &upgraded), &[]);
    Conversation::judge(client, &[control], held)
}

/// A client's conversation with a server through a proxy of its own.
fn through_proxy(program: Program, server: &Server, upgraded: &Running) -> Held {
    // mcp-remote would be upgraded; `upgrade.rs` looks at that.
    Front::One.hold(program, Transport::Sse, (server, upgraded), &["--no-upgrade"])
}

fn side_by_side<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

/// Tries what the profile says that the server lacks, once, without the proxy; on a server of its own, as what fails leaves
/// things behind.
fn stale(server: &Server) -> Vec<String> {
    let upgraded = server.start();
    let session_era = Program::Node("typescript-1.32.2");
    let programs: &[Program] = match server.native {
        Native::Modern => &[MODERN],
        Native::BothEras => &[MODERN, session_era],
        _ => &[session_era],
    };
    let try_it = |program: &Program| {
        converse(*program, Transport::StreamableHttp, &upgraded.mcp_url(), server.profile, Extent::Lacking)
    };
    programs.iter().flat_map(try_it).filter(|line| is_ok(line)).collect()
}

/// What became of the steps: as in one of the controls, or not.
fn compare(controls: &[Controls], through: &[String]) -> Vec<(String, Verdict)> {
    let version = version(through);
    let mut steps: Vec<(String, Verdict)> = Vec::new();
    for line in through {
        let step = text(line, "step");
        let mut verdicts: Vec<_> = controls.iter().map(|control| verdict(control.get(&step), line, &version)).collect();
        let rank = |verdict: &Verdict| match verdict {
            Verdict::ControlFails { .. } => 2,
            Verdict::Different { .. } => 1,
            _ => 0,
        };
        verdicts.sort_by_key(rank);
        steps.push((step, verdicts.swap_remove(0)));
    }
    // A conversation through the proxy that ends early must not hide what it did not come to.
    for (step, control) in controls.iter().flatten() {
        let (Control::Line(control) | Control::Shaped(control) | Control::Passed(control)) = control else { continue };
        if !steps.iter().any(|(known, _)| known == step) {
            steps.push((step.clone(), Verdict::Different { control: control.clone(), proxy: "nothing".to_owned() }));
        }
    }
    steps
}

fn verdict(control: Option<&Control>, line: &String, version: &str) -> Verdict {
    if value(line).get("skipped").is_some() {
        let why = text(line, "skipped");
        return if text(line, "whose") == "client" { Verdict::ClientLacks(why) } else { Verdict::ServerLacks(why) };
    }
    let (same, control) = match control {
        None | Some(Control::Failed) => return Verdict::ControlFails { works: is_ok(line) },
        Some(Control::Line(control)) => (control == line, control.clone()),
        Some(Control::Shaped(control)) => (shaped(control, version) == shaped(line, version), control.clone()),
        Some(Control::Passed(control)) => (is_ok(line), control.clone()),
        Some(Control::Untried) => (is_ok(line), "not tried".to_owned()),
    };
    if same { Verdict::Same } else { Verdict::Different { control, proxy: line.clone() } }
}

/// A line without what `version` does not know.
fn shaped(line: &str, version: &str) -> Value {
    let mut line = value(line);
    for (step, later) in LATER {
        if version < "2025-06-18" && line["step"] == step {
            line["detail"].as_object_mut().expect("an object").remove(later);
        }
    }
    line
}

/// The version of the protocol that a conversation agreed on.
fn version(lines: &[String]) -> String {
    let handshake = lines.iter().map(|line| value(line)).find(|line| line["step"] == "initialize");
    let detail = handshake.map(|line| line["detail"].clone()).unwrap_or_default();
    detail["protocolVersion"].as_str().unwrap_or("none").to_owned()
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
