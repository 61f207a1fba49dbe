//! Logs as the proxy would have written them, record by record and file by file.

use std::fmt::Write as _;
use std::path::Path;

use sse_sunset::report::evidence::{Bounds, Evidence};
use sse_sunset::report::outcome::{Input, Report};
use sse_sunset::report::policy::{Policy, timestamp};
use sse_sunset::report::{ReadError, Reading, access, input, judge, read};

pub(super) const SECOND: i64 = 1_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;
/// When reports are made: 2026-11-21T12:00:00Z, a Saturday.
pub(super) const NOW: i64 = 1_795_262_400_000;
/// As far apart as heartbeats may be without a silence between them, so that histories are short.
pub(super) const BEAT: i64 = 145 * SECOND;

/// A client as one record tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) identity: String,
    pub(super) source: &'static str,
    pub(super) address: String,
}

impl Who {
    pub(super) fn new(identity: &str, source: &'static str, address: &str) -> Who {
        Who { identity: identity.to_owned(), source, address: address.to_owned() }
    }

    /// Named by `clientInfo`.
    pub(super) fn named(name: &str, address: &str) -> Who {
        Who::new(&format!("name:{name}"), "client_info", address)
    }

    /// Authenticated.
    pub(super) fn principal(name: &str) -> Who {
        Who::new(&format!("client_id:{name}"), "client_id", "x")
    }

    fn fields(&self, session: &str) -> String {
        let Who { identity, source, address } = self;
        format!(
            r#","legacy.session":"{session}","identity":"{identity}","identity.source":"{source}","client.family":"other","client.address":"{address}""#
        )
    }
}

/// One start of one replica, and its records in any order; time gives them their numbers.
#[derive(Debug, Clone)]
pub(super) struct Boot {
    pub(super) instance: String,
    pub(super) id: String,
    pub(super) records: Vec<Record>,
}

/// A record, without what every record has.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// When it was written in truth.
    pub(super) at: i64,
    /// What its clock said.
    pub(super) says: i64,
    pub(super) name: &'static str,
    pub(super) more: String,
    /// What an end says of the last use, by the clock of then.
    pub(super) last_use: Option<i64>,
}

impl Boot {
    pub(super) fn new(instance: &str, id: &str) -> Boot {
        Boot { instance: instance.to_owned(), id: id.to_owned(), records: Vec::new() }
    }

    /// One that lives from `from` to `to`, with a heartbeat every [`BEAT`] and one at `to`.
    pub(super) fn alive(instance: &str, id: &str, from: i64, to: i64) -> Boot {
        let mut boot = Boot::new(instance, id);
        boot.add(from, "proxy.start", "");
        boot.beats(from + BEAT, to, BEAT);
        boot
    }

    pub(super) fn beats(&mut self, from: i64, to: i64, every: i64) {
        let mut at = from;
        while at < to {
            self.beat(at, "");
            at += every;
        }
        self.beat(to, "");
    }

    pub(super) fn beat(&mut self, at: i64, more: &str) {
        self.add(at, "proxy.heartbeat", more);
    }

    pub(super) fn add(&mut self, at: i64, name: &'static str, more: &str) {
        self.records.push(Record { at, says: at, name, more: more.to_owned(), last_use: None });
    }

    pub(super) fn connect(&mut self, at: i64, session: &str, who: &Who) {
        self.add(at, "legacy.connect", &who.fields(session));
    }

    pub(super) fn reconnect(&mut self, at: i64, session: &str, who: &Who) {
        self.add(at, "legacy.connect", &format!(r#"{},"legacy.reconnect":true"#, who.fields(session)));
    }

    pub(super) fn identify(&mut self, at: i64, session: &str, who: &Who) {
        let more = r#","mcp.client.name":"x","mcp.client.version":"1","mcp.protocol.version":"2024-11-05""#;
        self.add(at, "legacy.identify", &format!("{}{more}", who.fields(session)));
    }

    pub(super) fn uses(&mut self, at: i64, session: &str, who: &Who, uses: u64) {
        let more = format!(r#"{},"mcp.method.name":"tools/call","legacy.uses":{uses}"#, who.fields(session));
        self.add(at, "legacy.use", &more);
    }

    pub(super) fn end(&mut self, at: i64, session: &str, who: &Who, end: &End) {
        let End { reason, engagement, uses, last_use } = end;
        let more = format!(
            r#"{},"session.end.reason":"{reason}","legacy.engagement":"{engagement}","legacy.uses":{uses}"#,
            who.fields(session)
        );
        self.records.push(Record { at, says: at, name: "legacy.end", more, last_use: *last_use });
    }

    pub(super) fn refuse(&mut self, at: i64, who: &Who, reason: &str, dry_run: bool) {
        let more = format!(
            r#"{},"legacy.refused.reason":"{reason}","http.response.status_code":503,"legacy.refused.dry_run":{dry_run}"#,
            who.fields("r")
        );
        self.add(at, "legacy.refused", &more);
    }

    /// In session `session`, which is there, a dry run would have refused it.
    pub(super) fn rehearse(&mut self, at: i64, session: &str, who: &Who, reason: &str) {
        let more = r#","http.response.status_code":200,"legacy.refused.dry_run":true"#;
        let more = format!(r#"{},"legacy.refused.reason":"{reason}"{more}"#, who.fields(session));
        self.add(at, "legacy.refused", &more);
    }

    /// The switch-off went on to `phase`; `more` is what else its record says.
    pub(super) fn phase(&mut self, at: i64, phase: &str, before: &str, more: &str) {
        let more = format!(r#","sunset.phase":"{phase}","sunset.phase.before":"{before}"{more}"#);
        self.add(at, "sunset.phase", &more);
    }

    /// It was served as Streamable HTTP on the old URL.
    pub(super) fn upgrade(&mut self, at: i64, who: &Who) {
        self.add(at, "legacy.upgrade", &format!(r#"{},"url.path":"/sse""#, who.fields("u")));
    }

    /// It came by Streamable HTTP, for the first time on that day.
    pub(super) fn modern(&mut self, at: i64, who: &Who) {
        self.add(at, "modern.seen", &who.fields(""));
    }

    /// Its start and heartbeats say what it passes through.
    pub(super) fn passes(&mut self, paths: &str) {
        for record in self.records.iter_mut().filter(|record| matches!(record.name, "proxy.start" | "proxy.heartbeat"))
        {
            let _ = write!(record.more, r#","passthrough":"{paths}""#);
        }
    }

    /// A session that opens, says its name, uses the server once at each of `uses`, and ends in order.
    pub(super) fn session(&mut self, session: &str, who: &Who, uses: &[i64]) {
        let (first, last) = (uses[0], uses[uses.len() - 1]);
        self.connect(first - 2 * SECOND, session, who);
        self.identify(first - SECOND, session, who);
        for at in uses {
            self.uses(*at, session, who, 1);
        }
        let end = End { reason: "client_closed", engagement: "use", uses: uses.len() as u64, last_use: Some(last) };
        self.end(last + SECOND, session, who, &end);
    }

    /// The lines, without line feeds.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut records: Vec<&Record> = self.records.iter().collect();
        records.sort_by_key(|record| record.at);
        let line = |(seq, record): (usize, &&Record)| {
            let Record { says, name, more, .. } = record;
            let last_use = record.last_use.map(|at| format!(r#","legacy.last_use":"{}""#, timestamp(at)));
            let last_use = last_use.unwrap_or_default();
            let Boot { instance, id, .. } = self;
            format!(
                r#"{{"@timestamp":"{}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"{instance}","boot.id":"{id}","log.seq":{seq}{more}{last_use}}}"#,
                timestamp(*says)
            )
        };
        records.iter().enumerate().map(line).collect()
    }
}

/// How a session ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: &'static str,
    pub(super) engagement: &'static str,
    pub(super) uses: u64,
    pub(super) last_use: Option<i64>,
}

/// A file of lines: its text.
pub(super) type File = String;

pub(super) fn file(lines: &[String]) -> File {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// A policy with a window.
pub(super) fn policy(until: i64, window: i64) -> Policy {
    Policy { window, ..Policy::at(until) }
}

pub(super) fn reading(now: i64) -> Reading {
    Reading { bounds: Bounds { since: None, until: None, now }, paths: access::Paths::default(), pseudonyms: None }
}

/// The report on `files`, in the order in which they are given, through the real reading path.
pub(super) fn report(files: &[File], policy: &Policy) -> Report {
    attempt(files, policy).expect("a report")
}

/// What `files` tell, and what was read.
pub(super) fn evidence(files: &[File]) -> (Evidence, Input) {
    let dir = tempfile::tempdir().expect("a directory");
    let names = write(dir.path(), files);
    read(input::open(&names).expect("files"), reading(NOW), &mut |_| {}).expect("records")
}

pub(super) fn attempt(files: &[File], policy: &Policy) -> Result<Report, ReadError> {
    let dir = tempfile::tempdir().expect("a directory");
    let names = write(dir.path(), files);
    let (evidence, input) = read(input::open(&names)?, reading(policy.now), &mut |_| {})?;
    Ok(judge(&evidence, input, policy))
}

pub(super) fn write(dir: &Path, files: &[File]) -> Vec<String> {
    let write = |(number, text): (usize, &File)| {
        let path = dir.join(format!("{number}.log"));
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    files.iter().enumerate().map(write).collect()
}
