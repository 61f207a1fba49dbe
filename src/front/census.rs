//! Who speaks Streamable HTTP already: `modern.seen`, once for each identity on each day, and `legacy.upgrade`.
//!
//! Promise: a client is named as its legacy sessions would be (EVIDENCE, Identity), or not at all. So a request whose
//! credential names nobody counts as its session's client, or as the one that it names itself; one that does neither (a call
//! to a server without sessions) is some client's that said who it is before.
//!
//! What it takes is read beside the stream and delays nothing. All that is remembered is bounded: beyond [`MOST_SEEN`]
//! identities a day the others are not written, which errs on the side of those who still block.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderValue, Method, request};

use super::visitor::Who;
use crate::clock;
use crate::drain::Tasks;
use crate::mcp;
use crate::passthrough::Tap;
use crate::session::Books;
use crate::traffic::{Client, ClientInfo, Connection, Modern, Record, Upgrade, client_info};

/// Identities that are remembered for a day.
const MOST_SEEN: usize = 100_000;
/// Sessions whose client is remembered, in each of two generations.
const MOST_SESSIONS: usize = 20_000;
/// How much of a request is looked at: clients name themselves at the start.
const MOST_HEARD: usize = 64 << 10;

/// What a request shows of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Showing {
    /// It speaks Streamable HTTP.
    Modern,
    /// And does so on the path of the legacy stream.
    Upgrade,
}

/// Keeps the count. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Census {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    books: Books,
    /// Write the records: a log that hangs holds up no request.
    tasks: Tasks,
    /// Keyed, so that what is remembered of a session id does not lead back to it.
    hasher: RandomState,
    seen: Mutex<Seen>,
    sessions: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The day in UTC of which this is.
    day: i64,
    /// Identities, hashed.
    identities: HashSet<u64>,
    /// Sessions and credentials of theirs, hashed.
    hints: HashSet<u64>,
    /// Whether there were more than are remembered.
    is_full: bool,
}

/// The clients of sessions by the hashes of their ids: the last ones to have been used.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, ClientInfo>,
    old: HashMap<u64, ClientInfo>,
}

/// A request whose client will be noted, once it is known and the server has taken the request.
#[derive(Debug)]
pub(super) struct Witness {
    census: Census,
    showing: Showing,
    connection: Option<Connection>,
    /// What tells the next such request.
    hint: Option<u64>,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    client: Client,
    /// Whether it is known who it is.
    is_known: bool,
    /// Whether the server has taken the request.
    is_taken: bool,
    /// The session that its answer opened.
    session: Option<HeaderValue>,
}

impl Census {
    pub(super) fn new(books: Books, tasks: Tasks) -> Self {
        let shared =
            Shared { books, tasks, hasher: RandomState::new(), seen: Mutex::default(), sessions: Mutex::default() };
        Census { shared: Arc::new(shared) }
    }

    /// A request of Streamable HTTP came.
    pub(super) fn count(&self) {
        self.shared.books.metrics.modern_requests.inc();
    }

    /// The same. Gives who watches it, if there is something to note: its client can be known, and was not noted today. A
    /// `connection` says that it came on the path of the legacy stream, and that its client moves.
    pub(super) fn witness(
        &self,
        head: &request::Parts,
        who: &Who,
        connection: Option<Connection>,
    ) -> Option<Arc<Witness>> {
        self.count();
        let showing = if connection.is_some() { Showing::Upgrade } else { Showing::Modern };
        let session = head.headers.get(mcp::SESSION_ID);
        let principal = &who.client().principal;
        // Most requests are of clients that were noted: they must cost next to nothing.
        let hint = if principal.names_someone() {
            Some(self.shared.hasher.hash_one((showing, principal)))
        } else {
            session.map(|session| self.shared.hasher.hash_one((showing, session)))
        };
        if hint.is_some_and(|hint| lock(&self.shared.seen).is_known(hint)) {
            return None;
        }
        let mut client = who.client().clone();
        let mut is_known = principal.names_someone();
        match session {
            Some(_) if is_known => {}
            Some(session) => {
                client.info = Some(lock(&self.shared.sessions).find(self.hash(session))?);
                is_known = true;
            }
            None if is_known || head.method == Method::POST => {}
            None => return None,
        }
        let account = Mutex::new(Account { client, is_known, is_taken: false, session: None });
        Some(Arc::new(Witness { census: self.clone(), showing, connection, hint, account }))
    }

    /// Notes a client that was served as `showing`.
    fn note(&self, client: &Client, showing: Showing, hint: Option<u64>, connection: Option<Connection>) {
        let identity = client.identity(&self.shared.books.pseudonyms);
        let mark = self.shared.hasher.hash_one((showing, &identity.value));
        let is_first = lock(&self.shared.seen).is_first(mark, hint);
        if !is_first {
            return;
        }
        self.write(client, connection);
    }

    /// Writes the record: `legacy.upgrade` where there is a `connection`, else `modern.seen`.
    pub(super) fn write(&self, client: &Client, connection: Option<Connection>) {
        let books = self.shared.books.clone();
        // A session of a client that moved has a label, as legacy ones have.
        let told = books.client(&crate::traffic::random_hex(4), client);
        let record = match connection {
            Some(connection) => {
                books.metrics.upgrades.of(told.family).inc();
                Record::Upgrade(Upgrade { client: told, connection })
            }
            None => Record::Modern(Modern {
                identity: told.identity,
                source: told.source,
                weak: told.weak,
                family: told.family,
                address: told.address,
                auth_client_id: told.auth_client_id,
                user_agent: client.user_agent.clone(),
            }),
        };
        self.shared.tasks.spawn(async move { books.log.write(record).await });
    }

    /// Remembers whose session it is.
    pub(super) fn remember(&self, session: &HeaderValue, info: ClientInfo) {
        lock(&self.shared.sessions).insert(self.hash(session), info);
    }

    fn hash(&self, session: &HeaderValue) -> u64 {
        self.shared.hasher.hash_one(session)
    }
}

impl Witness {
    /// Hears the request, if that is needed to know whose it is.
    pub(super) fn tap(self: &Arc<Self>) -> Option<Tap> {
        if lock(&self.account).is_known {
            return None;
        }
        let witness = Arc::clone(self);
        Some(Tap::new(MOST_HEARD, move |heard| witness.hear(heard)))
    }

    fn hear(&self, heard: &[u8]) {
        let Some(info) = client_info(heard) else { return };
        let mut account = lock(&self.account);
        account.client.info = Some(info);
        account.is_known = true;
        self.close(&account);
    }

    /// The server has taken the request, and named `session`, if it opened one.
    pub(super) fn answered(&self, session: Option<&HeaderValue>) {
        let mut account = lock(&self.account);
        account.is_taken = true;
        account.session = session.cloned();
        self.close(&account);
    }

    fn close(&self, account: &Account) {
        let Account { client, is_known: true, is_taken: true, session } = account else { return };
        if let (Some(session), Some(info)) = (session, &client.info) {
            self.census.remember(session, info.clone());
        }
        self.census.note(client, self.showing, self.hint, self.connection.clone());
    }
}

impl Seen {
    /// Whether a request of this `hint` is of a client that was noted today.
    fn is_known(&mut self, hint: u64) -> bool {
        self.begin_day();
        self.hints.contains(&hint)
    }

    fn begin_day(&mut self) {
        let today = clock::day_now();
        if self.day != today {
            *self = Seen { day: today, ..Seen::default() };
        }
    }

    /// Whether `mark` was not seen today, and can be remembered; requests of this `hint` need not ask again.
    fn is_first(&mut self, mark: u64, hint: Option<u64>) -> bool {
        self.begin_day();
        if let Some(hint) = hint {
            if self.hints.len() >= MOST_SEEN {
                self.hints.clear();
            }
            self.hints.insert(hint);
        }
        if self.identities.contains(&mark) {
            return false;
        }
        if self.identities.len() >= MOST_SEEN {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    identities = MOST_SEEN,
                    "more clients were passed through today than are remembered; the others are not in the traffic log"
                );
            }
            return false;
        }
        self.identities.insert(mark)
    }
}

impl Generations {
    fn insert(&mut self, session: u64, info: ClientInfo) {
        if self.young.len() >= MOST_SESSIONS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(session, info);
    }

    fn find(&mut self, session: u64) -> Option<ClientInfo> {
        if let Some(info) = self.young.get(&session) {
            return Some(info.clone());
        }
        let info = self.old.remove(&session)?;
        self.insert(session, info.clone());
        Some(info)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_first_once_a_day_and_never_beyond_the_cap() {
        let mut seen = Seen::default();
        assert!(seen.is_first(1, None) && !seen.is_first(1, Some(7)) && seen.is_first(2, None));
        assert!(seen.is_known(7) && !seen.is_known(8));
        seen.day -= 1;
        assert!(!seen.is_known(7) && seen.is_first(1, None), "another day");
        seen.identities.extend(2..=MOST_SEEN as u64);
        assert!(!seen.is_first(u64::MAX, None) && seen.is_full);
        assert!(!seen.is_first(1, None), "those that are remembered stay so");
    }

    #[test]
    fn sessions_that_are_used_are_remembered_the_longest() {
        let info = |name: &str| ClientInfo::new(name, "1");
        let mut sessions = Generations::default();
        sessions.insert(0, info("used"));
        sessions.insert(1, info("idle"));
        for number in 2..2 + 3 * MOST_SESSIONS as u64 {
            sessions.insert(number, info("other"));
            if number % 1000 == 0 {
                assert_eq!(sessions.find(0).expect("remembered").name, "used");
            }
        }
        assert_eq!(sessions.find(1), None);
        assert!(sessions.young.len() + sessions.old.len() <= 2 * MOST_SESSIONS);
    }
}
