//! The deployments in which every client lives through its story, each once in a run.

use std::sync::OnceLock;

use serde_json::Value;

use super::authority::Tokens;
use super::door::Routing;
use super::story::{Story, stories};
use super::world::{Audiences, PYTHON, Setup, TYPESCRIPT, World};

/// A deployment, and what came of it.
pub(super) struct Scenario {
    /// The head of its column.
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) setup: Setup,
    found: OnceLock<Found>,
}

/// What was found in a deployment.
pub(super) struct Found {
    pub(super) stories: Vec<Story>,
    /// Everything that the proxy wrote: its log on stderr, and the traffic log.
    pub(super) logs: String,
    /// Everything that nobody may write.
    pub(super) secrets: Vec<String>,
    /// The public name.
    pub(super) origin: String,
    /// The server's own URL.
    pub(super) resource: String,
}

impl Scenario {
    const fn new(title: &'static str, about: &'static str, setup: Setup) -> Self {
        Scenario { title, about, setup, found: OnceLock::new() }
    }

    /// Runs it, if nobody did before.
    pub(super) fn found(&self) -> &Found {
        self.found.get_or_init(|| {
            let mut world = World::start(&self.setup);
            let stories = stories(&world);
            let mut logs = String::new();
            if let Some(proxy) = world.proxy.take() {
                let said = proxy.said_so_far();
                let log: Vec<Value> = proxy.stop();
                logs = said() + &log.iter().map(Value::to_string).collect::<String>();
            }
            let (secrets, origin) = (world.authority.secrets(), world.door.origin());
            Found { stories, logs, secrets, origin, resource: world.resource.clone() }
        })
    }
}

/// Before the server as it was.
pub(super) const NATIVE: Setup = Setup {
    server: TYPESCRIPT,
    routing: Routing::ServerOnly,
    audiences: Audiences::Own,
    tokens: Tokens::Jwt,
    options: &[],
};

pub(super) static NATIVE_TYPESCRIPT: Scenario = Scenario::new(
    "native, TypeScript",
    "the server as it was, TypeScript SDK 1.32.2 with HTTP+SSE of its own; no proxy",
    NATIVE,
);

pub(super) static NATIVE_PYTHON: Scenario = Scenario::new(
    "native, Python",
    "the same of the Python SDK 1.30.0, which does not publish its authorization server's metadata",
    Setup { server: PYTHON, ..NATIVE },
);

pub(super) static SAME_HOST: Scenario = Scenario::new(
    "same host",
    "the proxy has `/sse`, `/messages` and `/.well-known/`, the upgraded TypeScript server the rest of the same host; \
     the operator allows the old URL as audience",
    Setup { routing: Routing::SameHost, audiences: Audiences::OldAndNew, ..NATIVE },
);

pub(super) static OWN_HOST: Scenario = Scenario::new(
    "own host",
    "the proxy has a host of its own, the upgraded server is a Python one; tokens are opaque",
    Setup {
        server: PYTHON,
        routing: Routing::OwnHost,
        audiences: Audiences::OldAndNew,
        tokens: Tokens::Opaque,
        ..NATIVE
    },
);

pub(super) static WITHOUT_WELL_KNOWN: Scenario = Scenario::new(
    "without /.well-known",
    "as on the same host, but `/.well-known/` leads to the server; `--oauth-metadata-at sse-path`",
    Setup {
        routing: Routing::WithoutWellKnown,
        audiences: Audiences::OldAndNew,
        options: &["--oauth-metadata-at", "sse-path"],
        ..NATIVE
    },
);

pub(super) static WITH_A_QUERY: Scenario = Scenario::new(
    "by a query",
    "the same with a Python server, whose `/.well-known/` names no authorization server; `--oauth-metadata-at query`",
    Setup {
        server: PYTHON,
        routing: Routing::WithoutWellKnown,
        audiences: Audiences::OldAndNew,
        options: &["--oauth-metadata-at", "query"],
        ..NATIVE
    },
);

pub(super) static FACADE: Scenario = Scenario::new(
    "facade",
    "same host; server and authorization server know the new URL only; `--oauth-resource facade`",
    Setup { routing: Routing::SameHost, options: &["--oauth-resource", "facade", "--log-level", "trace"], ..NATIVE },
);

pub(super) static FACADE_OWN_HOST: Scenario = Scenario::new(
    "facade, own host",
    "the same on a host of its own, before a Python server; tokens are opaque",
    Setup {
        server: PYTHON,
        routing: Routing::OwnHost,
        tokens: Tokens::Opaque,
        options: &["--oauth-resource", "facade", "--log-level", "trace"],
        ..NATIVE
    },
);

/// The deployments in which legacy clients are to see what they saw before, in the order of the table.
pub(super) static SCENARIOS: [&Scenario; 8] = [
    &NATIVE_TYPESCRIPT,
    &NATIVE_PYTHON,
    &SAME_HOST,
    &OWN_HOST,
    &WITHOUT_WELL_KNOWN,
    &WITH_A_QUERY,
    &FACADE,
    &FACADE_OWN_HOST,
];
