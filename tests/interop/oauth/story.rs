//! What a person lives through with a legacy client: login, work, a token that expires, one that is taken back, a tool that
//! needs more than was granted, and work again.

use std::fmt;
use std::thread;
use std::time::SystemTime;

use super::client::{CLIENTS, Client, Said, Sdk};
use super::world::{Turn, World};

/// The steps, in order.
pub(super) const STEPS: [&str; 6] = ["login", "call", "expired", "revoked", "scope", "after"];

/// What one step came to, and what the authorization server saw of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) said: Said,
    /// Logins during this step.
    pub(super) logins: usize,
    /// Whether tokens were ever renewed. Not counted by step: on a busy machine they expire before we say so.
    pub(super) renewed: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.said {
            Said::Works(_) => formatter.write_str("works")?,
            Said::Error(text) => write!(formatter, "error {text:?}")?,
            Said::Hangs => formatter.write_str("hangs")?,
        }
        if self.logins > 0 {
            write!(formatter, ", {} login", self.logins)?;
        }
        Ok(())
    }
}

/// One client's story.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) client: Sdk,
    /// As many of `STEPS` as it got to.
    pub(super) steps: Vec<Outcome>,
    pub(super) audiences: Vec<String>,
    /// Where the browser went.
    pub(super) visited: Vec<String>,
}

impl Story {
    /// What the step of this name came to, in words.
    pub(super) fn words(&self, step: &str) -> String {
        self.outcome(step).map_or_else(|| "not reached".to_owned(), ToString::to_string)
    }

    /// The same without what differs from run to run.
    pub(super) fn kind(&self, step: &str) -> String {
        match self.outcome(step) {
            Some(Outcome { said: Said::Error(text), .. }) if text.contains("403") && text.contains("scope") => {
                "insufficient scope".to_owned()
            }
            Some(Outcome { said: Said::Error(_), .. }) => "error".to_owned(),
            _ => self.words(step),
        }
    }

    fn outcome(&self, step: &str) -> Option<&Outcome> {
        let index = STEPS.iter().position(|known| *known == step).expect("a known step");
        self.steps.get(index)
    }
}

/// Every client in this world, side by side.
pub(super) fn stories(world: &World) -> Vec<Story> {
    each_client(|client| tell(world, client))
}

/// What `act` gives for every client, side by side.
pub(super) fn each_client<T: Send>(act: impl Fn(Sdk) -> T + Sync) -> Vec<T> {
    let act = &act;
    thread::scope(|scope| {
        let running: Vec<_> = CLIENTS.iter().map(|client| scope.spawn(move || act(*client))).collect();
        running.into_iter().map(|one| one.join().expect("a story without panic")).collect()
    })
}

/// One client's story, up to the step where it cannot go on.
pub(super) fn tell(world: &World, sdk: Sdk) -> Story {
    let name = sdk.title();
    let authority = &world.authority;
    let mut client = Client::start(sdk, &world.sse_url());
    let mut steps: Vec<Outcome> = Vec::new();
    for step in STEPS {
        let before = authority.counts(&name);
        match step {
            "expired" => {
                if let Ok(left) = authority.expiry(&name).duration_since(SystemTime::now()) {
                    thread::sleep(left);
                }
            }
            "revoked" => authority.revoke(&name),
            _ => {}
        }
        let turn = Turn::take();
        let said = match step {
            "login" => client.connect(),
            "scope" => client.call("restricted"),
            _ => client.call("count"),
        };
        drop(turn);
        let after = authority.counts(&name);
        let goes_on = step != "login" || matches!(said, Said::Works(_));
        steps.push(Outcome { said, logins: after.logins - before.logins, renewed: after.refreshes > 0 });
        if !goes_on {
            break;
        }
    }
    let audiences = authority.audiences(&name);
    Story { client: sdk, steps, audiences, visited: std::mem::take(&mut client.visited) }
}
