//! Which era the upstream speaks, found once for all sessions (WIRE, Era).
//!
//! A server is believed to speak what it was last seen to speak; what a session finds, the others know. Only answers
//! that say so are evidence: a refused credential, a failure or silence is none. `modern` is spoken where nothing is
//! held upstream, because there a modern request can do all that a legacy one can, and more.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::modern::{Discoveries, Hub, Warned};
use super::{Link, Transport};
use crate::drain::Tasks;
use crate::mcp::code;

/// A way to speak MCP over Streamable HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Revisions 2025-03-26 to 2025-11-25: `initialize`, session ids, a GET stream.
    Session,
    /// 2026-07-28: nothing is held between requests.
    Modern,
}

impl Era {
    /// `session` or `modern`
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Era::Session => "session",
            Era::Modern => "modern",
        }
    }
}

/// What the operator says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EraOptions {
    /// The era, if it is not to be found.
    pub era: Option<Era>,
    /// The era to speak with servers that hold sessions and know both.
    pub prefer: Era,
}

impl EraOptions {
    /// `auto`, `session` or `modern`
    #[must_use]
    pub fn era_as_str(&self) -> &'static str {
        self.era.map_or("auto", Era::as_str)
    }
}

impl Default for EraOptions {
    fn default() -> Self {
        EraOptions { era: None, prefer: Era::Session }
    }
}

/// What is believed of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// It was never asked.
    Nothing,
    /// It gives out session ids.
    Sessions,
    /// It answers `initialize`, holds nothing, and does not know 2026-07-28.
    Stateless,
    Modern,
}

/// The upgraded server, as all sessions share it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Arc<dyn Transport>,
    options: EraOptions,
    /// What the server is called where it does not say itself.
    host: String,
    belief: AtomicU8,
    /// One asks for the era at a time: hundreds of clients that come back at once shall not all ask the same.
    probing: Semaphore,
    discoveries: Mutex<Discoveries>,
    hub: Hub,
    warned: Warned,
    /// The operator was told of `--prefer`.
    has_hinted: AtomicBool,
}

impl Upstream {
    /// The server behind `transport`, called `host` where it has no name. What is listened to for several sessions at once
    /// runs in `tasks`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, options: EraOptions, host: impl Into<String>, tasks: Tasks) -> Self {
        let hub = Hub::new(Arc::clone(&transport), tasks);
        let belief = match options.era {
            Some(Era::Modern) => Belief::Modern,
            Some(Era::Session) | None => Belief::Nothing,
        };
        Upstream {
            shared: Arc::new(Shared {
                transport,
                options,
                host: host.into(),
                belief: AtomicU8::new(belief as u8),
                probing: Semaphore::new(1),
                discoveries: Mutex::default(),
                hub,
                warned: Warned::default(),
                has_hinted: AtomicBool::new(false),
            }),
        }
    }

    /// The era that the server is believed to speak, once it is known.
    #[must_use]
    pub fn era(&self) -> Option<Era> {
        self.shared.options.era.or(match self.belief() {
            Belief::Nothing => None,
            Belief::Sessions | Belief::Stateless => Some(Era::Session),
            Belief::Modern => Some(Era::Modern),
        })
    }

    /// Whether the server gives out session ids, once that is known.
    #[must_use]
    pub fn keeps_sessions(&self) -> Option<bool> {
        match self.belief() {
            Belief::Nothing => None,
            Belief::Sessions => Some(true),
            Belief::Stateless | Belief::Modern => Some(false),
        }
    }

    /// What the operator said.
    #[must_use]
    pub fn options(&self) -> EraOptions {
        self.shared.options
    }

    /// A way to the server for one session, on which nothing was sent yet.
    #[must_use]
    pub fn link(&self) -> Link {
        Link::new(self.clone())
    }

    pub(super) fn transport(&self) -> &Arc<dyn Transport> {
        &self.shared.transport
    }

    pub(super) fn host(&self) -> &str {
        &self.shared.host
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    pub(super) fn warned(&self) -> &Warned {
        &self.shared.warned
    }

    pub(super) fn belief(&self) -> Belief {
        match self.shared.belief.load(Ordering::Relaxed) {
            belief if belief == Belief::Sessions as u8 => Belief::Sessions,
            belief if belief == Belief::Stateless as u8 => Belief::Stateless,
            belief if belief == Belief::Modern as u8 => Belief::Modern,
            _ => Belief::Nothing,
        }
    }

    /// The server was seen to speak so. An era that was set is not questioned.
    pub(super) fn believe(&self, belief: Belief) {
        if self.shared.options.era.is_some() {
            return;
        }
        let before = self.shared.belief.swap(belief as u8, Ordering::Relaxed);
        if before == belief as u8 {
            return;
        }
        match belief {
            Belief::Modern => {
                tracing::info!("the upstream speaks 2026-07-28; sessions are translated (era modern)");
            }
            Belief::Sessions | Belief::Stateless if before == Belief::Modern as u8 => {
                tracing::info!("the upstream does not speak 2026-07-28 any more; sessions pass through (era session)");
            }
            Belief::Sessions | Belief::Stateless | Belief::Nothing => {
                tracing::debug!(?belief, "the upstream speaks a revision with sessions");
            }
        }
    }

    /// An error that a call was answered with. Servers that hold sessions and know both eras cannot serve tools that return
    /// `input_required` in a session (Python 2, rmcp 3), and nothing but their error tells (UPSTREAMS D.1).
    pub fn hear_error(&self, code: i64, text: &str) {
        let tells = match code {
            code::INTERNAL_ERROR => text.contains("Handler returned an invalid result"),
            code::INVALID_REQUEST => text.contains("InputRequiredResult requires"),
            _ => false,
        };
        let is_old = self.belief() == Belief::Sessions;
        if tells && is_old && !self.shared.has_hinted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a tool of the upstream asks for input in the way of 2026-07-28, which the server cannot serve in a session; \
                 if its tools do so, start the proxy with --prefer modern"
            );
        }
    }

    /// Waits for the turn to ask for the era.
    pub(super) async fn probing(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.shared.probing.acquire().await.ok()
    }

    /// What `server/discover` said lately to whoever sends these headers.
    pub(super) fn discoveries<T>(&self, look: impl FnOnce(&mut Discoveries) -> T) -> T {
        look(&mut self.shared.discoveries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what was discovered: the server is another.
    pub(super) fn forget_discoveries(&self) {
        self.discoveries(|discoveries| *discoveries = Discoveries::default());
    }
}
