//! What a report says: the verdict and everything it rests on, ready to be shown in any form.
//!
//! Its JSON is the machine-readable report (`--format json`, `/report.json`). Times are RFC 3339 in UTC, days are dates
//! in UTC, durations carry their unit in the name. Fields are only ever added within one schema.

mod movement;
mod phases;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

pub use movement::{Measured, Modern, Movement, Moving};
pub use phases::{DryRun, PhaseChange, Phases, RefusedIn, Refusing, Rehearsed, WouldBe, WouldBeRefused};

use crate::traffic::Engagement;

/// The schema of the JSON form.
pub const REPORT_SCHEMA: &str = "sse-sunset-report/1";

/// The answer (EVIDENCE, The verdict).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody needs SSE any more.
    Safe,
    /// The same, but a person should read the notes first.
    SafeWithNotes,
    /// The log cannot tell.
    Unknown,
    /// Someone needs it.
    NotYet,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 4] = [Verdict::Safe, Verdict::SafeWithNotes, Verdict::Unknown, Verdict::NotYet];

    /// As it stands in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Safe => "safe",
            Verdict::SafeWithNotes => "safe_with_notes",
            Verdict::Unknown => "unknown",
            Verdict::NotYet => "not_yet",
        }
    }

    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Verdict::Safe => "SAFE",
            Verdict::SafeWithNotes => "SAFE, with notes",
            Verdict::Unknown => "UNKNOWN",
            Verdict::NotYet => "NOT YET",
        }
    }

    /// The exit code of `report`; `strict` takes notes for a no.
    #[must_use]
    pub fn exit_code(self, strict: bool) -> u8 {
        match self {
            Verdict::Safe => 0,
            Verdict::SafeWithNotes => u8::from(strict),
            Verdict::NotYet => 1,
            Verdict::Unknown => 3,
        }
    }
}

/// A report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// The one reason that decides it, as a sentence.
    pub reason: String,
    /// From when on SSE can be switched off if nothing happens until then; none when it can be now, and when no date
    /// can be told.
    pub earliest_safe: Option<Timestamp>,
    /// What to do next, as a command or a sentence.
    pub next: String,
    /// What a person should know besides; each a sentence.
    pub notes: Vec<String>,
    /// The time that was judged: the window that has to be silent.
    pub window: Window,
    /// When the report was made.
    pub generated: Timestamp,
    /// What the evidence is worth.
    pub grade: Grade,
    /// Sums over all clients.
    pub totals: Totals,
    /// How far they have moved to Streamable HTTP.
    pub moving: Moving,
    /// How far the switch-off has come; empty where no record tells.
    pub phases: Phases,
    /// Dry runs of phases, and whom they would have turned away.
    pub dry_run: Vec<DryRun>,
    /// The days that `uses` lists refer to, oldest first, each day from the first evidence (or a year ago) to the end.
    pub days: Vec<Date>,
    /// Uses of all clients on each of `days`.
    pub uses: Vec<u64>,
    /// The clients, blocking ones first, then by last use.
    pub clients: Vec<Client>,
    /// How many of `clients` were left out by `--client` or `--who`.
    pub clients_hidden: usize,
    /// What proves that silence is silence.
    pub coverage: Coverage,
    /// The positive control.
    pub canary: Canary,
    /// What was read.
    pub input: Input,
}

/// The time that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Its beginning.
    pub since: Timestamp,
    /// Its end: when the report was made, unless `--until` says otherwise.
    pub until: Timestamp,
    /// Its length in seconds.
    pub length_s: u64,
}

/// What the evidence is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The proxy's own log.
    TrafficLog,
    /// Access logs of an old server, among others or alone: no engagement, no proof of coverage.
    AccessLog,
}

/// Sums over all clients, hidden ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Clients that block.
    pub blocking: usize,
    /// Clients that ever used the server.
    pub users: usize,
    /// Clients that never did.
    pub noise: usize,
    /// Sessions, open ones included.
    pub sessions: u64,
    /// Sessions open at the end of the window.
    pub open_sessions: u64,
    /// Use-level messages.
    pub uses: u64,
    /// Attempts that were turned away.
    pub refused: u64,
}

/// One client: one identity. Anonymous ones (a name or user agent that many may share) are judged address by address
/// and shown together.
#[derive(Debug, Clone, Serialize)]
pub struct Client {
    /// The identity as it stands in the log: `name:Cursor via mcp-remote`, `client_id:reporting`.
    pub identity: String,
    /// The same for people, without what kind of identity it is: `Cursor via mcp-remote`.
    pub name: String,
    /// Where the identity was taken from, see `identity.source`.
    pub source: String,
    /// Whether the identity is authenticated or named by the operator, so that it stands for one client.
    pub is_principal: bool,
    /// Its family, of the closed list.
    pub family: String,
    /// Versions, bridges, user agents and `client_id`s it was seen with, a few of each.
    pub seen_as: Vec<String>,
    /// How many principals (addresses, for anonymous identities) it stands for.
    pub principals: usize,
    /// The address pseudonyms of those that block, or of the last ones seen: at most ten.
    pub addresses: Vec<String>,
    /// How far it ever went.
    pub engagement: Engagement,
    /// Its first record.
    pub first_seen: Timestamp,
    /// Its last record.
    pub last_seen: Timestamp,
    /// Its last use-level message.
    pub last_use: Option<Timestamp>,
    /// When it was last turned away, if that counts as an attempt to use.
    pub last_attempt: Option<Timestamp>,
    /// The phase that turned it away then, if one did.
    pub last_attempt_in: Option<Refusing>,
    /// Days with use.
    pub active_days: usize,
    /// Sessions, open ones included.
    pub sessions: u64,
    /// Sessions open at the end of the window.
    pub open_sessions: u64,
    /// Use-level messages.
    pub uses: u64,
    /// Attempts that were turned away.
    pub refused: u64,
    /// How many of them in which phase.
    pub refused_in: RefusedIn,
    /// How often dry runs would have turned it away, by phase. It was served.
    pub would_be_refused: WouldBeRefused,
    /// The longest time between two uses of one of its principals, in seconds.
    pub longest_gap_s: u64,
    /// How often it comes.
    pub rhythm: Rhythm,
    /// When its silence has lasted long enough: last use + max(window, 1.5 × longest gap).
    pub due: Option<Timestamp>,
    /// What it means for the verdict.
    pub state: State,
    /// The waiver that is in force for it.
    pub waiver: Option<Waiver>,
    /// How it can move.
    pub moves: Moves,
    /// The key of what to tell its owner: see `fixes`.
    pub fix: &'static str,
    /// Where it stands between SSE and Streamable HTTP; none for who never used the server over SSE and was not seen
    /// elsewhere.
    pub movement: Option<Movement>,
    /// What was seen of it by Streamable HTTP.
    pub modern: Option<Modern>,
    /// Uses on each of the report's days.
    pub by_day: Vec<u64>,
    /// Where in the log its last use stands: `replica/boot/seq`, to be found by `grep`.
    pub evidence: Option<String>,
}

/// What a client means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A session with use is open.
    Open,
    /// Its silence has not lasted long enough.
    Blocking,
    /// It would block, but somebody answers for it.
    Waived,
    /// Authenticated or named, came within the window, and never got to use.
    Looked,
    /// Its silence has lasted long enough.
    Quiet,
    /// Anonymous, and never got to use.
    Noise,
    /// It came by Streamable HTTP and never over SSE. Listed on demand only.
    Modern,
}

impl State {
    /// Its name in metrics, and in the report as JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Blocking => "blocking",
            State::Waived => "waived",
            State::Looked => "looked",
            State::Quiet => "quiet",
            State::Noise => "noise",
            State::Modern => "modern",
        }
    }

    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            State::Open => "open now",
            State::Blocking => "blocks",
            State::Waived => "waived",
            State::Looked => "never used",
            State::Quiet => "quiet",
            State::Noise => "noise",
            State::Modern => "modern",
        }
    }

    /// Whether SSE is in use, as far as that can be told: also by one that somebody answers for.
    #[must_use]
    pub fn is_in_use(self) -> bool {
        matches!(self, State::Open | State::Blocking | State::Waived)
    }

    /// Whether it stands against switching off.
    #[must_use]
    pub fn is_blocking(self) -> bool {
        matches!(self, State::Open | State::Blocking)
    }
}

/// How often a client comes, by its days with use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rhythm {
    /// It never used the server.
    Never,
    /// On one day only.
    OneOff,
    /// On most days.
    Daily,
    /// On most days but week-ends.
    Weekdays,
    /// About once a week.
    Weekly,
    /// About once a month.
    Monthly,
    /// None of these.
    Irregular,
}

impl Rhythm {
    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Rhythm::Never => "–",
            Rhythm::OneOff => "one-off",
            Rhythm::Daily => "daily",
            Rhythm::Weekdays => "weekdays",
            Rhythm::Weekly => "weekly",
            Rhythm::Monthly => "monthly",
            Rhythm::Irregular => "irregular",
        }
    }
}

/// How a client can move to Streamable HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Moves {
    /// By itself: it was upgraded on the old URL.
    Auto,
    /// By a change of its configuration.
    Config,
    /// By a change of its code, or a new version of it.
    Code,
    /// It is not known what it is.
    Unknown,
}

impl Moves {
    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Moves::Auto => "auto",
            Moves::Config => "config",
            Moves::Code => "code",
            Moves::Unknown => "–",
        }
    }
}

/// Somebody answers for a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiver {
    /// The identity, or a pattern with `*`.
    pub client: String,
    /// Who answers for it.
    pub owner: String,
    /// Why it may be left out of account.
    pub reason: String,
    /// The last day on which it is in force.
    pub expires: Date,
}

/// What proves that silence is silence.
#[derive(Debug, Clone, Serialize)]
pub struct Coverage {
    /// The part of the window that is covered, from 0 to 1.
    pub ratio: f64,
    /// The first record of the proxy, if there is any.
    pub first: Option<Timestamp>,
    /// The last one.
    pub last: Option<Timestamp>,
    /// Times within the window that no replica covers, longest first, at most a hundred.
    pub gaps: Vec<Span>,
    /// How many there are.
    pub gap_count: usize,
    /// Records that are missing within the window, as far as they can be counted.
    pub missing_records: u64,
    /// Where records are missing within the window, at most a hundred; each a sentence.
    pub holes: Vec<String>,
    /// Boots that others named and of which no record was given.
    pub missing_boots: Vec<String>,
    /// The largest step of a wall clock, in seconds; every date above is later by as much.
    pub clock_step_s: u64,
    /// Each replica, over the time of `days`.
    pub replicas: Vec<Replica>,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

impl Span {
    /// Its length in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        u64::try_from(self.to.as_second() - self.from.as_second()).unwrap_or_default()
    }
}

/// One replica.
#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    /// `service.instance.id`
    pub instance: String,
    /// How often it was started.
    pub boots: usize,
    /// How often it ended without `proxy.stop`.
    pub crashes: usize,
    /// Whether it runs at the end of the window.
    pub is_running: bool,
    /// When it is covered, in order.
    pub spans: Vec<Span>,
}

/// The positive control: signed sessions along the public path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Canary {
    /// How many completed within the window.
    pub runs: u64,
    /// The last one.
    pub last: Option<Timestamp>,
}

/// What was read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Input {
    /// Files (standard input is one).
    pub files: usize,
    /// Bytes, unpacked.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
    /// Records of the proxy among them, each counted once.
    pub records: u64,
    /// Records that were given more than once.
    pub duplicates: u64,
    /// Lines of access logs.
    pub access_lines: u64,
    /// Those of them that are of legacy clients.
    pub legacy_access_lines: u64,
    /// Records outside `--since` and `--until`.
    pub left_out: u64,
    /// Records that carry a time after the report was made; taken as made now.
    pub from_the_future: u64,
    /// Records cut off or damaged.
    pub broken: u64,
    /// Files without a line.
    pub empty_files: u64,
    /// Lines that are nothing we know.
    pub foreign: u64,
    /// What was wrong, with file and line: at most a hundred.
    pub problems: Vec<String>,
    /// How many problems there were.
    pub problem_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_alike_in_json_and_metrics() {
        use State::{Blocking, Looked, Modern, Noise, Open, Quiet, Waived};
        for state in [Open, Blocking, Waived, Looked, Quiet, Noise, Modern] {
            assert_eq!(serde_json::to_value(state).expect("a name"), state.name());
        }
        assert_eq!([Open, Blocking, Waived, Looked, Quiet, Noise].map(State::name), crate::metrics::CLIENT_STATES);
    }
}
