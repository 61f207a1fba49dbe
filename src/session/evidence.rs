//! What one session leaves in the traffic log.
//!
//! Promise: one `legacy.end` for every `legacy.connect`; `legacy.use` at the first use-level message and then once an
//! hour with use; the totals of `legacy.end` are exact.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::Credential;
use super::reunion::Kin;
use crate::clock;
use crate::mcp::Message;
use crate::metrics::{ClientFamily, Metrics};
use crate::traffic::{
    Client, ClientInfo, ClientRecord, Connect, Connection, End, Engagement, Identify, Log, Pseudonyms, Record, Refused,
    Use, printable,
};

/// Why clients are turned away: all that [`Books::refuse`] is told.
pub(super) const REFUSALS: &[&str] = &["host", "limit", "origin", "request"];

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
}

impl Evidence {
    /// Opens the account; nothing is written yet.
    #[must_use]
    pub fn open(books: Books, label: String, client: Client, connection: Connection) -> Self {
        let number = books.metrics.open_session(client.family());
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
        }
    }

    /// Writes `legacy.connect`, and that the client is turned away, if it is. The session's own task does so, and not
    /// the request that opened it: a log that hangs must not hold up the endpoint event, and a client that leaves
    /// meanwhile must not take the record with it.
    pub async fn connected(&self, refused: Option<&'static str>) {
        let record =
            Connect { client: self.books.client(&self.label, &self.client), connection: self.connection.clone() };
        self.books.log.write(Record::Connect(record)).await;
        if let Some(reason) = refused {
            let status = http::StatusCode::OK.as_u16();
            self.books.refuse(&self.label, &self.client, self.connection.clone(), reason, status).await;
        }
    }

    /// The client has lost its stream.
    pub fn left(&mut self) {
        self.left = Some(Instant::now());
    }

    /// It has another. The session goes on under its label.
    pub async fn reconnected(&mut self, client: Client, connection: Connection) {
        self.left = None;
        self.reconnects += 1;
        self.client.address = client.address;
        self.client.user_agent = client.user_agent;
        self.family = self.books.metrics.client_family(self.client.family());
        self.connection = Connection { reconnect: true, ..connection };
        let record =
            Connect { client: self.books.client(&self.label, &self.client), connection: self.connection.clone() };
        self.books.log.write(Record::Connect(record)).await;
    }

    /// What sessions of this client with `credential` have in common.
    #[must_use]
    pub(super) fn kin(&self, credential: &Credential) -> Option<Kin> {
        Kin::of(credential, self.client.user_agent.as_deref(), self.client.address)
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
        self.books.metrics.requests.inc();
        let engagement = Engagement::of_method(method);
        self.engagement = self.engagement.max(engagement);
        if method == "initialize" {
            self.identify(message).await;
        }
        if engagement == Engagement::Use {
            self.used(method).await;
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
        self.client.info = Some(info.clone());
        self.family = self.books.metrics.client_family(self.client.family());
        let client = self.books.client(&self.label, &self.client);
        let version = printable(&params.protocol_version);
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

    /// Closes the account: writes `legacy.end`.
    pub async fn close(self, reason: &'static str, bytes_out: u64) {
        let present = self.left.unwrap_or_else(Instant::now) - self.since;
        let record = End {
            client: self.books.client(&self.label, &self.client),
            duration_s: (present.as_secs_f64() * 1000.0).round() / 1000.0,
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
        self.books.metrics.end_session(reason);
        self.books.log.write(Record::End(record)).await;
    }
}
