//! A deployment: authorization server, protected server, public name, and the proxy if there is one.

use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::authority::{Authority, Policy, Tokens};
use super::client::Sdk;
use super::door::{Door, Routing};
use crate::packages::{fixtures, python};
use crate::processes::{Proxy, ServerProcess};

/// How long the token of a login lasts: long enough to log in and call twice on a busy machine.
const LIFETIME: Duration = Duration::from_secs(8);

/// Which tokens the server takes, and the authorization server issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audiences {
    /// For the new URL, and for the old one, as operators set it up for the proxy.
    OldAndNew,
    /// Any is issued; the server takes those for its own URL only.
    ServerKnowsItself,
    /// Those for the server's own URL only, on both sides.
    Own,
}

/// What is put together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) server: Sdk,
    pub(super) routing: Routing,
    pub(super) audiences: Audiences,
    pub(super) tokens: Tokens,
    /// Options of the proxy.
    pub(super) options: &'static [&'static str],
}

/// The server of each SDK.
pub(super) const TYPESCRIPT: Sdk = Sdk::TypeScript("1.32.2");
pub(super) const PYTHON: Sdk = Sdk::Python("1.30.0");

/// All that a client meets.
pub(super) struct World {
    pub(super) authority: Authority,
    pub(super) proxy: Option<Proxy>,
    pub(super) door: Door,
    /// The server's own URL.
    pub(super) resource: String,
    _server: ServerProcess,
}

impl World {
    pub(super) fn start(setup: &Setup) -> Self {
        let authority = Authority::start();
        let door = Door::open(setup.routing);
        let native = setup.routing == Routing::ServerOnly;
        // On its own host the server's URL is its own; otherwise it is the public one.
        let origin = (setup.routing != Routing::OwnHost).then(|| door.origin());
        let mut audience = Vec::new();
        if setup.audiences == Audiences::OldAndNew && !native {
            audience.push(format!("{}/sse", door.origin()));
            // The new URL, where it is known before the server is.
            audience.extend(origin.as_ref().map(|origin| format!("{origin}/mcp")));
        }
        let server = start_server(setup.server, native, &authority, origin.as_deref(), &audience);
        door.server_is(server.base.trim_start_matches("http://").parse().expect("an address"));
        let resource = format!("{}/{}", origin.as_deref().unwrap_or(&server.base), if native { "sse" } else { "mcp" });
        let proxy = (!native).then(|| {
            let public = door.origin();
            let options: Vec<&str> = [&["--public-url", public.as_str()], setup.options].concat();
            let proxy = Proxy::start(&format!("{}/mcp", server.base), &options);
            door.proxy_is(proxy.address());
            proxy
        });
        // Where the operator added the old URL, who names none gets a token for it too.
        let default_audience = audience.first().unwrap_or(&resource).clone();
        let resources = if setup.audiences == Audiences::Own { vec![resource.clone()] } else { Vec::new() };
        authority.set_policy(Policy { tokens: setup.tokens, resources, default_audience, lifetime: LIFETIME });
        World { authority, proxy, door, resource, _server: server }
    }

    pub(super) fn sse_url(&self) -> String {
        format!("{}/sse", self.door.origin())
    }
}

fn start_server(
    sdk: Sdk,
    native: bool,
    authority: &Authority,
    origin: Option<&str>,
    audience: &[String],
) -> ServerProcess {
    let mut command = match sdk {
        Sdk::TypeScript(_) => {
            let mut command = Command::new("node");
            command.arg(fixtures().join("servers/oauth.mjs"));
            command
        }
        Sdk::Python(version) => {
            let mut command = Command::new(python(version));
            command.arg(fixtures().join("servers/oauth.py"));
            command
        }
    };
    command.arg(if native { "native" } else { "upgraded" }).args(["--issuer", &authority.issuer()]);
    command.args(origin.into_iter().flat_map(|origin| ["--origin", origin]));
    command.args(audience.iter().flat_map(|audience| ["--audience", audience]));
    ServerProcess::start(command)
}

/// Leave to take a step: a few at a time, so that no deadline is missed for want of a processor.
pub(super) struct Turn;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(3), Condvar::new());

impl Turn {
    pub(super) fn take() -> Self {
        let free = TURNS.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = TURNS.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        TURNS.1.notify_one();
    }
}
