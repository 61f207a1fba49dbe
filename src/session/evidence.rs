//! What one session leaves in the traffic log.
//!
//! Promise: one `legacy.end` for every `legacy.connect`; `legacy.use` at the first use-level message and then once an
//! hour with use; the totals of `legacy.end` are exact. A session under the operator's signature leaves none of them, unless it
//! turns out to be more than a probe (`canary`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::Payload;
use super::canary::Canary;
use super::ending::CLIENT_GONE;
use super::reunion::Kin;
use crate::auth::Sender;
use crate::clock;
use crate::mcp::{Message, RequestId};
use crate::metrics::{ClientFamily, Metrics};
use crate::sunset::Account;
use crate::traffic::{
    Canary as CanaryRecord, Client, ClientInfo, ClientRecord, Connect, Connection, End, Engagement, Identify, Log,
    Pseudonyms, Record, Refused, Use, printable,
};

/// Why clients are turned away: all that [`Books::refuse`] is told.
pub(super) const REFUSALS: &[&str] =
    &["auth", "brownout", "freeze", "gone", "host", "limit", "origin", "request", "tombstone"];

/// Where records and counts go.
#[derive(Debug, Clone)]
pub struct Books {
    /// The traffic log.
    pub log: Log,
    /// Makes pseudonyms of addresses and subjects.
    pub pseudonyms: Arc<Pseudonyms>,
    /// The program's numbers.
    pub metrics: Arc<Metrics>,
}

/// One session's account.
#[derive(Debug)]
pub struct Evidence {
    books: Books,
    /// The session's label in the log.
    label: String,
    /// How many sessions were opened before.
    number: u64,
    client: Client,
    /// Where the uses of such clients are counted.
    family: ClientFamily,
    connection: Connection,
    since: Instant,
    engagement: Engagement,
    requests: u64,
    uses: u64,
    errors: u64,
    undelivered: u64,
    reconnects: u64,
    last_use: Option<Timestamp>,
    /// When the client lost its stream, if it has none.
    left: Option<Instant>,
    /// The UTC hour of the last `legacy.use`, and the uses counted in records so far.
    reported: Option<(i64, u64)>,
    /// The session is synthetic by proof, so far: nothing of it was written.
    canary: Option<Box<Canary>>,
}

/// What `initialize` says of a client.
#[derive(Deserialize)]
struct InitializeParams {
    #[serde(rename = "protocolVersion", default)]
    protocol_version: String,
    #[serde(rename = "clientInfo")]
    client_info: Option<ClientInfo>,
}

impl Books {
    /// How `client` stands in a record of the session `label`.
    #[must_use]
    pub fn client(&self, label: &str, client: &Client) -> ClientRecord {
        let identity = client.identity(&self.pseudonyms);
        ClientRecord {
            session: label.to_owned(),
            identity: identity.value,
            source: identity.source.name(),
            weak: client.principal.is_opaque,
            family: client.family(),
            address: self.pseudonyms.address(client.address),
            auth_client_id: client.principal.client_id.clone(),
        }
    }

    /// Writes that a client was turned away with `status`, under a label of its own or of its session.
    pub async fn refuse(
        &self,
        label: &str,
        client: &Client,
        connection: Connection,
        reason: &'static str,
        status: u16,
    ) {
        self.metrics.refused.of(reason).inc();
        let client = self.client(label, client);
        self.log.write(Record::Refused(Refused { client, connection, reason, status, dry_run: false })).await;
    }

    /// Who `client` is to the switch-off.
    #[must_use]
    pub fn account(&self, client: &Client) -> Account {
        Account::of(client, &self.pseudonyms)
    }
}

impl Evidence {
    /// Opens the account; nothing is written yet. One that `is_signed` is active like any other, and is counted as opened
    /// when it turns out to be a client's.
    #[must_use]
    pub fn open(books: Books, label: String, client: Client, connection: Connection, is_signed: bool) -> Self {
        let number = books.metrics.enter_session();
        if !is_signed {
            books.metrics.sessions_opened.of(client.family()).inc();
        }
        let family = books.metrics.client_family(client.family());
        Evidence {
            books,
            connection,
            label,
            number,
            client,
            family,
            since: Instant::now(),
            engagement: Engagement::Connect,
            requests: 0,
            uses: 0,
            errors: 0,
            undelivered: 0,
            reconnects: 0,
            last_use: None,
            left: None,
            reported: None,
            canary: is_signed.then(|| Box::new(Canary::new())),
        }
    }

    /// Writes `legacy.connect`, and that the client is turned away, if it is. The session's own task does so, and not
    /// the request that opened it: a log that hangs must not hold up the endpoint event, and a client that leaves
    /// meanwhile must not take the record with it.
    pub async fn connected(&mut self, refused: Option<&'static str>) {
        if let Some(canary) = &mut self.canary {
            canary.refused = refused;
            return;
        }
        self.write_connect().await;
        if let Some(reason) = refused {
            let status = http::StatusCode::OK.as_u16();
            self.books.refuse(&self.label, &self.client, self.connection.clone(), reason, status).await;
        }
    }

    async fn write_connect(&self) {
        let record =
            Connect { client: self.books.client(&self.label, &self.client), connection: self.connection.clone() };
        self.books.log.write(Record::Connect(record)).await;
    }

    /// Whether nothing was written of this session, because it is the operator's own by proof.
    #[must_use]
    pub(super) fn is_canary(&self) -> bool {
        self.canary.is_some()
    }

    /// Something was posted, before anything comes of it.
    pub(super) async fn hear(&mut self, payload: &Payload) {
        let Some(canary) = &mut self.canary else { return };
        match payload {
            Payload::Message(message) if Canary::bears(payload) => canary.said(message),
            _ => self.count_as_client().await,
        }
    }

    /// What was held back is written, at the time it is written, and from now on this is a session like any other.
    async fn count_as_client(&mut self) {
        let Some(canary) = self.canary.take() else { return };
        self.books.metrics.sessions_opened.of(self.client.family()).inc();
        self.books.metrics.requests.inc_by(self.requests);
        // As it was known when it connected.
        let info = self.client.info.take();
        self.connected(canary.refused).await;
        if let (Some(info), Some(version)) = (info, canary.version) {
            self.write_identify(info, version).await;
        }
    }

    /// The client has lost its stream.
    pub fn left(&mut self) {
        self.left = Some(Instant::now());
    }

    /// It has another. The session goes on under its label.
    pub async fn reconnected(&mut self, client: Client, connection: Connection) {
        self.count_as_client().await;
        self.left = None;
        self.reconnects += 1;
        self.client.address = client.address;
        self.client.user_agent = client.user_agent;
        self.family = self.books.metrics.client_family(self.client.family());
        self.connection = Connection { reconnect: true, ..connection };
        self.write_connect().await;
    }

    /// The client, as far as it is known.
    #[must_use]
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The client as the switch-off judges it.
    #[must_use]
    pub(super) fn account(&self) -> Account {
        self.books.account(&self.client)
    }

    /// The client is turned away in the midst of its session, or would be if it were no rehearsal.
    pub(super) async fn refused(&mut self, reason: &'static str, dry_run: bool) {
        if self.is_canary() {
            return;
        }
        let status = http::StatusCode::OK.as_u16();
        if !dry_run {
            return self.books.refuse(&self.label, &self.client, self.connection.clone(), reason, status).await;
        }
        let client = self.books.client(&self.label, &self.client);
        let connection = self.connection.clone();
        self.books.log.write(Record::Refused(Refused { client, connection, reason, status, dry_run })).await;
    }

    /// What sessions of this client have in common that are `sender`'s.
    #[must_use]
    pub(super) fn kin(&self, sender: &Sender) -> Option<Kin> {
        Kin::of(sender, self.client.user_agent.as_deref(), self.client.address)
    }

    /// The session's label in the log, for diagnostics.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Tells the sessions of one process apart, in order.
    #[must_use]
    pub fn number(&self) -> u32 {
        // Only the low bits: it is no count.
        u32::try_from(self.number & u64::from(u32::MAX)).unwrap_or_default()
    }

    /// A request arrived.
    pub async fn request(&mut self, message: &Message) {
        let method = message.method().unwrap_or_default();
        self.requests += 1;
        if !self.is_canary() {
            self.books.metrics.requests.inc();
        }
        let engagement = Engagement::of_method(method);
        self.engagement = self.engagement.max(engagement);
        if method == "initialize" {
            self.identify(message).await;
        }
        if engagement == Engagement::Use {
            self.used(method).await;
        }
    }

    /// The upstream answered a request of the client.
    pub(super) fn was_answered(&mut self, id: &RequestId, is_error: bool) {
        if let Some(canary) = &mut self.canary {
            canary.answered(id, is_error);
        }
    }

    /// The client answered a request of the server, which is use.
    pub async fn answered(&mut self, method: &str) {
        self.engagement = Engagement::Use;
        self.used(method).await;
    }

    /// The proxy made a JSON-RPC error for the client.
    pub fn made_error(&mut self) {
        self.errors += 1;
        self.books.metrics.errors_made.inc();
    }

    /// Messages owed to the client could not be delivered.
    pub fn lost(&mut self, messages: u64) {
        self.undelivered += messages;
        self.books.metrics.undelivered.inc_by(messages);
    }

    async fn identify(&mut self, message: &Message) {
        let Some(params) = message.params::<InitializeParams>() else { return };
        let info = params.client_info.unwrap_or_else(|| ClientInfo::new("", ""));
        let version = printable(&params.protocol_version);
        if let Some(canary) = &mut self.canary {
            canary.version = Some(version);
            self.client.info = Some(info);
            return;
        }
        self.write_identify(info, version).await;
    }

    async fn write_identify(&mut self, info: ClientInfo, version: String) {
        self.client.info = Some(info.clone());
        self.family = self.books.metrics.client_family(self.client.family());
        let client = self.books.client(&self.label, &self.client);
        self.books.log.write(Record::Identify(Identify::new(client, &info, version))).await;
    }

    async fn used(&mut self, method: &str) {
        self.uses += 1;
        let now = Timestamp::now();
        self.family.uses.inc();
        self.family.last_use.note(now.as_duration().as_secs_f64());
        self.last_use = Some(now);
        let hour = clock::hour_now();
        let (last_hour, counted) = self.reported.unwrap_or((i64::MIN, 0));
        if hour == last_hour {
            return;
        }
        self.reported = Some((hour, self.uses));
        let record = Use {
            client: self.books.client(&self.label, &self.client),
            method: printable(method),
            uses: self.uses - counted,
        };
        self.books.log.write(Record::Use(record)).await;
    }

    /// Closes the account: writes `legacy.end`, or of a canary that went the whole way and left, `canary.seen`.
    pub async fn close(self, reason: &'static str, bytes_out: u64) {
        self.books.metrics.sessions_active.dec();
        if let Some(canary) = &self.canary {
            if let Some(walked) = canary.walked().filter(|_| reason == CLIENT_GONE) {
                let record = CanaryRecord {
                    handshake_ms: milliseconds(walked.handshake),
                    ping_ms: milliseconds(walked.ping),
                    path: self.connection.path.clone(),
                    server_address: self.connection.server_address.clone(),
                };
                self.books.metrics.last_canary.note(Timestamp::now().as_duration().as_secs_f64());
                self.books.metrics.canaries.inc();
                self.books.log.write(Record::Canary(record)).await;
            }
            return;
        }
        let present = self.left.unwrap_or_else(Instant::now) - self.since;
        let record = End {
            client: self.books.client(&self.label, &self.client),
            duration_s: milliseconds(present).round() / 1000.0,
            reason,
            engagement: self.engagement,
            requests: self.requests,
            uses: self.uses,
            errors: self.errors,
            reconnects: self.reconnects,
            undelivered: self.undelivered,
            bytes_out,
            last_use: self.last_use.map(clock::rfc3339),
        };
        self.books.metrics.sessions_ended.of(reason).inc();
        self.books.log.write(Record::End(record)).await;
    }
}

/// To the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
