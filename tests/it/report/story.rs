//! A story of sixty days, written as three replicas would have logged it.
//!
//! A nightly job that vanished, a weekly report that stays, an IDE that moved by itself when the proxy began to upgrade, an
//! agent that uses both, a crawler, an hour without any proxy, a brownout, a canary. Every number that a report shows can be counted in these lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// Days of the story.
pub(super) const DAYS: i64 = 60;
/// What the weekly client is called.
pub(super) const WEEKLY: &str = "name:Weekly report via mcp-remote";
/// What the nightly client is called.
pub(super) const NIGHTLY: &str = "client_id:nightly-batch";

/// What the client is called that is upgraded on day 25.
pub(super) const IDE: &str = "client_id:ide";
/// What the client is called that uses both.
pub(super) const AGENT: &str = "client_id:agent";

/// The end of the story: a Friday.
pub(super) fn end() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

/// A time of the story: days and hours after its beginning.
pub(super) fn at(day: i64, hours: f64) -> Timestamp {
    end() - SignedDuration::from_hours(24 * (DAYS - day)) + SignedDuration::from_secs_f64(hours * 3600.0)
}

/// The logs, by replica.
pub(super) struct Story {
    replicas: BTreeMap<&'static str, Vec<(Timestamp, String)>>,
    sessions: u32,
}

/// One client.
#[derive(Clone, Copy)]
pub(super) struct Who {
    pub(super) identity: &'static str,
    pub(super) source: &'static str,
    pub(super) family: &'static str,
    pub(super) address: &'static str,
    pub(super) user_agent: &'static str,
}

/// The weekly client.
pub(super) const WHO_WEEKLY: Who = Who {
    identity: WEEKLY,
    source: "client_info",
    family: "mcp-remote",
    address: "aaaa000000000001",
    user_agent: "node",
};
/// The nightly client.
pub(super) const WHO_NIGHTLY: Who = Who {
    identity: NIGHTLY,
    source: "client_id",
    family: "python-sdk",
    address: "aaaa000000000002",
    user_agent: "python-httpx/0.28.1",
};
/// The client that is upgraded on day 25: until then it had tried a POST in vain.
pub(super) const WHO_IDE: Who =
    Who { identity: IDE, source: "client_id", family: "vscode", address: "aaaa000000000003", user_agent: "node" };
/// The client that uses both: its new part the new URL, its old part the old one.
pub(super) const WHO_AGENT: Who = Who {
    identity: AGENT,
    source: "client_id",
    family: "python-sdk",
    address: "aaaa000000000004",
    user_agent: "python-httpx/0.28.1",
};
/// One that has known the new URL only.
pub(super) const WHO_NEWCOMER: Who = Who { identity: "client_id:newcomer", ..WHO_AGENT };
/// The crawler.
pub(super) const WHO_CRAWLER: Who = Who {
    identity: "name:mcp-crawler",
    source: "client_info",
    family: "other",
    address: "bbbb000000000000",
    user_agent: "crawler/1.0",
};

impl Story {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Story { replicas: BTreeMap::new(), sessions: 0 }
    }

    /// The whole story.
    pub(super) fn told() -> Self {
        let mut story = Story::new();
        for (index, replica) in ["a", "b", "c"].into_iter().enumerate() {
            // Day 43, 02:00 to 04:30: nobody is there. Replicas come back at slightly different times.
            let back = 4.5 + f64::from(u32::try_from(index).expect("small")) / 60.0;
            story.lives(replica, at(0, 0.0), at(43, 2.0), true);
            story.lives(replica, at(43, back), end(), false);
        }
        for day in 0..20 {
            story.session("b", WHO_NIGHTLY, at(day, 14.0), 12);
        }
        for day in 0..DAYS {
            // The IDE tries its old URL with a POST first, and from day 25 on that works.
            match day {
                0..25 => story.session("a", WHO_IDE, at(day, 15.0), 2),
                _ => story.upgraded("a", WHO_IDE, at(day, 15.0)),
            }
            if day >= 10 {
                story.modern("b", WHO_NEWCOMER, at(day, 9.0));
            }
        }
        for day in (1..58).step_by(3) {
            story.session("c", WHO_AGENT, at(day, 16.0), 1);
            story.modern("a", WHO_AGENT, at(day, 17.0));
        }
        for week in 0..8 {
            story.session("a", WHO_WEEKLY, at(week * 7, 21.0), 3);
        }
        for day in 0..DAYS {
            for visit in 0..4 {
                story.visit("c", WHO_CRAWLER, at(day, 1.0 + f64::from(visit) * 5.0));
            }
            story.canary("a", at(day, 6.0));
        }
        story.switch_off();
        // A brownout on day 57 meets the weekly client before it has said its name.
        let nameless = door(WHO_WEEKLY);
        for minute in [0.0, 3.0, 9.0] {
            story.refused("c", nameless, at(57, 10.0 + minute / 60.0), "brownout");
        }
        story
    }

    /// What every replica says of the switch-off: announced by somebody, a dry run of the brownout, the brownout by plan.
    fn switch_off(&mut self) {
        let phases = [
            (
                at(40, 21.0),
                "announce",
                "observe",
                r#","sunset.by":"operator","sunset.why":"all owners have been told""#,
            ),
            (at(54, 0.0), "announce", "announce", r#","sunset.by":"operator","sunset.dry_run":"brownout""#),
            (at(57, 0.0), "announce", "announce", r#","sunset.by":"operator""#),
            (at(57, 9.75), "brownout", "announce", r#","sunset.by":"plan","sunset.until":"2026-11-17T22:15:00Z""#),
            (at(57, 10.25), "announce", "brownout", r#","sunset.by":"plan""#),
        ];
        for replica in ["a", "b", "c"] {
            for (at, phase, before, more) in phases {
                self.phase(replica, at, phase, before, more);
            }
        }
        // The dry run sees the stream of the weekly client, which says its name a moment later, and the agent.
        self.rehearsed("a", WHO_WEEKLY, at(56, 21.0));
        self.rehearsed("c", WHO_AGENT, at(55, 16.5));
    }

    /// A change of the phase, as one replica says it.
    pub(super) fn phase(&mut self, replica: &'static str, at: Timestamp, phase: &str, before: &str, more: &str) {
        let more = format!(r#","sunset.phase":"{phase}","sunset.phase.before":"{before}"{more}"#);
        self.add(replica, at, "sunset.phase", &more);
    }

    /// A session of five minutes that does no more than say its name, and that a dry run of the brownout would have refused.
    fn rehearsed(&mut self, replica: &'static str, who: Who, at: Timestamp) {
        let session = self.label();
        let door = door(who);
        self.add(replica, at, "legacy.connect", &format!("{}{}", fields(door, &session), connection(who)));
        self.turned_away(replica, door, at, &session, ("brownout", true));
        let named = r#","mcp.client.name":"x","mcp.client.version":"1.4","mcp.protocol.version":"2024-11-05""#;
        self.add(replica, at, "legacy.identify", &format!("{}{named}", fields(who, &session)));
        let over = at + SignedDuration::from_mins(5);
        self.add(replica, over, "legacy.end", &format!("{}{}", fields(who, &session), ending("handshake", 0, None)));
    }

    /// A start of `replica`, with heartbeats; `in_order` with its end.
    pub(super) fn lives(&mut self, replica: &'static str, from: Timestamp, to: Timestamp, in_order: bool) {
        self.add(replica, from, "proxy.start", r#","passthrough":"mcp""#);
        let mut beat = from + SignedDuration::from_secs(120);
        while beat < to {
            self.add(replica, beat, "proxy.heartbeat", r#","log.lost":0,"clock.step_s":0.0"#);
            beat += SignedDuration::from_secs(120);
        }
        if in_order {
            self.add(replica, to, "proxy.stop", r#","log.lost":0"#);
        }
    }

    /// A session of five minutes that used the server.
    pub(super) fn session(&mut self, replica: &'static str, who: Who, at: Timestamp, uses: u64) {
        let session = self.label();
        let minutes = |count: i64| at + SignedDuration::from_mins(count);
        self.add(replica, at, "legacy.connect", &format!("{}{}", fields(door(who), &session), connection(who)));
        let name = who.identity.split_once(':').map_or("", |(_, name)| name.split(" via ").next().unwrap_or(name));
        let named =
            format!(r#","mcp.client.name":"{name}","mcp.client.version":"1.4","mcp.protocol.version":"2024-11-05""#);
        self.add(replica, minutes(0), "legacy.identify", &format!("{}{named}", fields(who, &session)));
        let call = r#","mcp.method.name":"tools/call","legacy.uses":1"#;
        self.add(replica, minutes(1), "legacy.use", &format!("{}{call}", fields(who, &session)));
        let ended = ending("use", uses, Some(minutes(4)));
        self.add(replica, minutes(5), "legacy.end", &format!("{}{ended}", fields(who, &session)));
    }

    /// A session that only said its name.
    pub(super) fn visit(&mut self, replica: &'static str, who: Who, at: Timestamp) {
        let session = self.label();
        self.add(replica, at, "legacy.connect", &format!("{}{}", fields(who, &session), connection(who)));
        self.add(
            replica,
            at,
            "legacy.identify",
            &format!("{}{}", fields(who, &session), r#","mcp.client.name":"mcp-crawler","mcp.client.version":"0.1""#),
        );
        let over = at + SignedDuration::from_secs(1);
        self.add(replica, over, "legacy.end", &format!("{}{}", fields(who, &session), ending("handshake", 0, None)));
    }

    /// An attempt that was turned away.
    pub(super) fn refused(&mut self, replica: &'static str, who: Who, at: Timestamp, reason: &str) {
        let session = self.label();
        self.turned_away(replica, who, at, &session, (reason, false));
    }

    fn turned_away(
        &mut self,
        replica: &'static str,
        who: Who,
        at: Timestamp,
        session: &str,
        (reason, dry): (&str, bool),
    ) {
        let refusal = format!(
            r#","legacy.refused.reason":"{reason}","http.response.status_code":503,"legacy.refused.dry_run":{dry}"#
        );
        self.add(replica, at, "legacy.refused", &format!("{}{}{refusal}", fields(who, session), connection(who)));
    }

    /// A client that was served as Streamable HTTP on the old URL.
    pub(super) fn upgraded(&mut self, replica: &'static str, who: Who, at: Timestamp) {
        let session = self.label();
        self.add(replica, at, "legacy.upgrade", &format!("{}{}", fields(who, &session), connection(who)));
    }

    /// The first request of a day by Streamable HTTP.
    pub(super) fn modern(&mut self, replica: &'static str, who: Who, at: Timestamp) {
        let Who { identity, source, family, address, user_agent } = who;
        let more = format!(
            r#","identity":"{identity}","identity.source":"{source}","client.family":"{family}","client.address":"{address}","user_agent.original":"{user_agent}""#
        );
        self.add(replica, at, "modern.seen", &more);
    }

    /// A completed canary.
    pub(super) fn canary(&mut self, replica: &'static str, at: Timestamp) {
        self.add(replica, at, "canary.seen", "");
    }

    fn label(&mut self) -> String {
        self.sessions += 1;
        format!("{:012x}", self.sessions)
    }

    fn add(&mut self, replica: &'static str, at: Timestamp, name: &str, more: &str) {
        self.replicas.entry(replica).or_default().push((at, format!("{name}\0{more}")));
    }

    /// The log of one replica: in order of time, numbered, with a new boot at every start.
    pub(super) fn log(&self, replica: &str) -> String {
        let mut records: Vec<&(Timestamp, String)> = self.replicas.get(replica).into_iter().flatten().collect();
        records.sort_by_key(|(at, _)| *at);
        let mut log = String::new();
        let (mut boot, mut seq) = (0, 0);
        for (at, record) in records {
            let (name, more) = record.split_once('\0').expect("both parts");
            if name == "proxy.start" {
                (boot, seq) = (boot + 1, 0);
            }
            let _ = writeln!(
                log,
                r#"{{"@timestamp":"{at:.3}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"{replica}","boot.id":"{replica}{boot}","log.seq":{seq}{more}}}"#,
            );
            seq += 1;
        }
        log
    }

    /// The names of the replicas.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &'static str> {
        self.replicas.keys().copied()
    }
}

/// `who` as its connection looks: only a principal is known before it has said its name.
fn door(who: Who) -> Who {
    if who.source == "client_info" {
        Who { identity: "ua:node", source: "user_agent", family: "typescript-sdk", ..who }
    } else {
        who
    }
}

fn fields(who: Who, session: &str) -> String {
    let Who { identity, source, family, address, .. } = who;
    format!(
        r#","legacy.session":"{session}","identity":"{identity}","identity.source":"{source}","client.family":"{family}","client.address":"{address}""#
    )
}

fn connection(who: Who) -> String {
    let user_agent = who.user_agent;
    format!(
        r#","user_agent.original":"{user_agent}","network.peer.address":"cccc","url.path":"/sse","network.protocol.version":"1.1","legacy.reconnect":false"#
    )
}

fn ending(engagement: &str, uses: u64, last_use: Option<Timestamp>) -> String {
    let last = last_use.map(|at| format!(r#","legacy.last_use":"{at:.3}""#)).unwrap_or_default();
    format!(
        r#","session.duration_s":300.0,"session.end.reason":"client_disconnect","legacy.engagement":"{engagement}","legacy.requests":9,"legacy.uses":{uses},"legacy.errors":0,"legacy.reconnects":0,"legacy.undelivered":0,"legacy.bytes_out":1000{last}"#
    )
}
