//! Big traffic logs, and how fast a report reads them.
//!
//! `make-log FOLDER RECORDS IDENTITIES` writes what three replicas would have written in sixty days, a file each;
//! `read-log FILE...` reads them as `sse-sunset report` does and tells time and memory of this process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sse_sunset::report::evidence::{Bounds, DAY_MS};
use sse_sunset::report::policy::{Policy, timestamp};
use sse_sunset::report::{Reading, access, input, judge, read};

use crate::measure::cost;

const MINUTE_MS: i64 = 60_000;
const DAYS: i64 = 60;
/// 2026-11-21T12:00:00Z, the end of every log.
const END: i64 = 1_795_262_400_000;
/// How long a session lasts, in minutes.
const SESSION: u64 = 4;

/// Plays one of the words above.
pub(crate) fn play(word: &str, rest: &[String]) -> Result<()> {
    match (word, rest) {
        ("make-log", [folder, records, identities]) => make(Path::new(folder), records.parse()?, identities.parse()?),
        ("read-log", files) => measure(files),
        _ => bail!("make-log FOLDER RECORDS IDENTITIES, or read-log FILE..."),
    }
}

fn make(folder: &Path, records: u64, identities: u64) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for replica in 0..3 {
        let path = folder.join(format!("traffic-{replica}.log"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut log = Writer { out: BufWriter::with_capacity(1 << 20, file), replica, seq: 0 };
        log.fill(records / 3, identities)?;
        log.out.flush()?;
    }
    Ok(())
}

struct Writer {
    out: BufWriter<File>,
    replica: u64,
    seq: u64,
}

impl Writer {
    fn fill(&mut self, records: u64, identities: u64) -> Result<()> {
        let start = END - DAYS * DAY_MS;
        // In minutes.
        let length = u64::try_from(DAYS * 24 * 60)?;
        let of_each = 5;
        let sessions = records.saturating_sub(length) / of_each;
        let mut open = VecDeque::new();
        let mut begun = 0;
        self.record(
            start,
            "proxy.start",
            r#","service.version":"0.1.0","config.hash":"2f6c","upstream.origin":"http://127.0.0.1:3000""#,
        )?;
        for now in 0..length {
            let at = start + i64::try_from(now)? * MINUTE_MS;
            self.heartbeat(at + 500, open.len())?;
            while (begun + 1) * length <= (now + 1) * sessions {
                self.begin(at + 1_000 + i64::try_from(begun % 50_000)?, begun, identities)?;
                open.push_back((now, begun));
                begun += 1;
            }
            while let Some((_, session)) = open.front().copied().filter(|(since, _)| since + SESSION <= now) {
                open.pop_front();
                self.end(at + 55_000, session, identities)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, at: i64, name: &str, more: &str) -> Result<()> {
        let (replica, seq) = (self.replica, self.seq);
        writeln!(
            self.out,
            r#"{{"@timestamp":"{:.3}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"mcp-{replica}","boot.id":"9b1c0e57a4d2f38{replica}","log.seq":{seq}{more}}}"#,
            timestamp(at)
        )?;
        self.seq += 1;
        Ok(())
    }

    fn heartbeat(&mut self, at: i64, active: usize) -> Result<()> {
        let more = format!(
            r#","sessions.active":{active},"sessions.lingering":0,"sessions.opened":{seq},"requests":{seq},"uses":{seq},"refused":0,"log.lost":0,"clock.step_s":0.0,"streams.resumed":0,"streams.adopted":0,"handshakes.made":0,"upstream.sessions.lost":0,"upstream.sessions.revived":0,"upstream.revivals.failed":0,"messages.replayed":0,"upstream.streams.resumed":0,"upstream.failures":0,"errors":0,"undelivered":0,"slow_consumers":0,"panics":0"#,
            seq = self.seq
        );
        self.record(at, "proxy.heartbeat", &more)
    }

    /// Who has session `session`: half of the identities are principals, half share a few names over many addresses.
    fn who(&self, session: u64, identities: u64, is_named: bool) -> String {
        // A constant without a common factor with most numbers spreads identities over replicas and days.
        let client = session.wrapping_mul(7_919).wrapping_add(self.replica) % identities.max(1);
        let address = client.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let label = format!("{:x}{session:07x}", self.replica);
        let identity = match client % 4 {
            0 | 1 => format!(r#""client_id:service-{client}","identity.source":"client_id""#),
            2 if is_named => r#""name:Cursor via mcp-remote","identity.source":"client_info""#.to_owned(),
            _ if is_named => format!(r#""name:agent-{}","identity.source":"client_info""#, client % 100),
            _ => r#""ua:python-httpx","identity.source":"user_agent""#.to_owned(),
        };
        format!(
            r#","legacy.session":"{label}","identity":{identity},"client.family":"mcp-remote","client.address":"{address:016x}""#
        )
    }

    fn begin(&mut self, at: i64, session: u64, identities: u64) -> Result<()> {
        let connection = r#","user_agent.original":"python-httpx/0.28.1","network.peer.address":"5f2a90c417be6d33","auth.scheme":"bearer","url.path":"/sse","server.address":"mcp.example.com","network.protocol.version":"1.1","legacy.reconnect":false"#;
        let info = r#","mcp.client.name":"Cursor","mcp.client.version":"1.7.44","mcp.client.bridge":"mcp-remote 0.1.31","mcp.protocol.version":"2025-06-18""#;
        let door = self.who(session, identities, false);
        let who = self.who(session, identities, true);
        self.record(at, "legacy.connect", &format!("{door}{connection}"))?;
        self.record(at + 40, "legacy.identify", &format!("{who}{info}"))?;
        for uses in [1, 3] {
            let more = format!(r#"{who},"mcp.method.name":"tools/call","legacy.uses":{uses}"#);
            self.record(at + 40 * uses, "legacy.use", &more)?;
        }
        Ok(())
    }

    fn end(&mut self, at: i64, session: u64, identities: u64) -> Result<()> {
        let who = self.who(session, identities, true);
        let more = format!(
            r#"{who},"session.duration_s":240.251,"session.end.reason":"client_closed","legacy.engagement":"use","legacy.requests":9,"legacy.uses":5,"legacy.errors":0,"legacy.reconnects":0,"legacy.undelivered":0,"legacy.bytes_out":18231,"legacy.last_use":"{:.3}""#,
            timestamp(at - MINUTE_MS)
        );
        self.record(at, "legacy.end", &more)
    }
}

fn measure(files: &[String]) -> Result<()> {
    let reading = Reading {
        bounds: Bounds { since: None, until: None, now: END },
        paths: access::Paths::default(),
        pseudonyms: None,
    };
    let before = cpu_seconds()?;
    let (evidence, input) = read(input::open(files)?, reading, &mut |_| {})?;
    let read_s = cpu_seconds()? - before;
    let (bytes, records) = (input.bytes, input.records);
    let before = cpu_seconds()?;
    let report = judge(&evidence, input, &Policy::at(END));
    let judged_s = cpu_seconds()? - before;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let speed = bytes as f64 / 1e6 / read_s;
    println!(
        "{:?}, {} clients; {records} records, {} MB: {read_s:.2} s of CPU to read ({speed:.0} MB/s), {judged_s:.2} s to judge; {} MiB held",
        report.verdict,
        report.clients.len(),
        bytes / 1_000_000,
        memory_mib()?
    );
    Ok(())
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> Result<f64> {
    Ok(cost(std::process::id())?.cpu_s)
}

/// The memory of this process now, in MiB: the evidence is still held.
fn memory_mib() -> Result<u64> {
    Ok(cost(std::process::id())?.rss >> 20)
}
