//! One record of the traffic log, read back.
//!
//! Reads every version of the schema's fields that was ever written: what is absent is `None`, what is unknown is passed
//! over. Borrows from the line, because a report reads millions of them.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use crate::traffic::{Engagement, SCHEMA};

/// Milliseconds since 1970, UTC.
pub type Millis = i64;

/// A wall clock is never set by more: 1,000 years, in seconds.
const LONGEST_STEP_S: f64 = 31_557_600_000.0;

/// A text of the log: borrowed, unless it holds escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

// By hand, because serde's derive borrows `Cow` only where no `Option` is around it.
impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Words)
    }
}

/// The fields that a report needs.
#[derive(Debug, Deserialize)]
struct Fields<'a> {
    #[serde(rename = "@timestamp", borrow)]
    at: Text<'a>,
    #[serde(rename = "event.name", borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    schema: Text<'a>,
    #[serde(rename = "service.instance.id", borrow)]
    instance: Text<'a>,
    #[serde(rename = "boot.id", borrow)]
    boot: Text<'a>,
    #[serde(rename = "log.seq")]
    seq: u64,
    #[serde(rename = "log.lost")]
    lost: Option<u64>,
    #[serde(rename = "clock.step_s")]
    clock_step_s: Option<f64>,
    #[serde(rename = "sessions.active")]
    active: Option<i64>,
    #[serde(borrow)]
    passthrough: Option<Text<'a>>,
    #[serde(rename = "fleet.boots", borrow, default)]
    peers: Vec<Text<'a>>,
    #[serde(rename = "legacy.session", borrow)]
    session: Option<Text<'a>>,
    #[serde(borrow)]
    identity: Option<Text<'a>>,
    #[serde(rename = "identity.source", borrow)]
    source: Option<Text<'a>>,
    #[serde(rename = "client.family", borrow)]
    family: Option<Text<'a>>,
    #[serde(rename = "client.address", borrow)]
    address: Option<Text<'a>>,
    #[serde(rename = "auth.client_id", borrow)]
    client_id: Option<Text<'a>>,
    #[serde(rename = "user_agent.original", borrow)]
    user_agent: Option<Text<'a>>,
    #[serde(rename = "legacy.reconnect", default)]
    reconnect: bool,
    #[serde(rename = "mcp.client.name", borrow)]
    client_name: Option<Text<'a>>,
    #[serde(rename = "mcp.client.version", borrow)]
    client_version: Option<Text<'a>>,
    #[serde(rename = "mcp.client.bridge", borrow)]
    bridge: Option<Text<'a>>,
    #[serde(rename = "legacy.uses")]
    uses: Option<u64>,
    #[serde(rename = "session.end.reason", borrow)]
    end_reason: Option<Text<'a>>,
    #[serde(rename = "legacy.engagement")]
    engagement: Option<Engagement>,
    #[serde(rename = "legacy.last_use", borrow)]
    last_use: Option<Text<'a>>,
    #[serde(rename = "legacy.refused.reason", borrow)]
    refused_reason: Option<Text<'a>>,
    #[serde(rename = "legacy.refused.dry_run", default)]
    dry_run: bool,
    #[serde(rename = "sunset.phase", borrow)]
    phase: Option<Text<'a>>,
    #[serde(rename = "sunset.phase.before", borrow)]
    phase_before: Option<Text<'a>>,
    #[serde(rename = "sunset.by", borrow)]
    phase_by: Option<Text<'a>>,
    #[serde(rename = "sunset.why", borrow)]
    phase_why: Option<Text<'a>>,
    #[serde(rename = "sunset.until", borrow)]
    phase_until: Option<Text<'a>>,
    #[serde(rename = "sunset.paused", default)]
    paused: bool,
    #[serde(rename = "sunset.held_back", borrow)]
    held_back: Option<Text<'a>>,
    #[serde(rename = "sunset.dry_run", borrow)]
    rehearsed: Option<Text<'a>>,
}

/// A record.
#[derive(Debug)]
pub struct Line<'a> {
    /// When.
    pub at: Millis,
    /// Which replica.
    pub instance: Text<'a>,
    /// Which start of it.
    pub boot: Text<'a>,
    /// Its place in that start's log.
    pub seq: u64,
    /// What.
    pub event: Event<'a>,
}

/// What a record tells.
#[derive(Debug)]
pub enum Event<'a> {
    /// `proxy.start`
    Start {
        /// Whether modern clients are passed through, and so counted; logs of earlier versions do not say.
        passthrough: Option<bool>,
    },
    /// `proxy.stop`
    Stop {
        /// Records lost since the start.
        lost: u64,
    },
    /// `proxy.heartbeat`
    Heartbeat {
        /// Records lost since the start.
        lost: u64,
        /// By how much the wall clock was set.
        clock_step_ms: Millis,
        /// Sessions open, if told.
        active: Option<i64>,
        /// As of the start: a piece of a log may lack that.
        passthrough: Option<bool>,
        /// Other boots that this one knows of, as `instance/boot`.
        peers: Vec<Text<'a>>,
    },
    /// `legacy.connect`
    Connect {
        /// Who.
        who: Who<'a>,
        /// Whether it is a session that goes on.
        reconnect: bool,
    },
    /// `legacy.identify`
    Identify {
        /// Who.
        who: Who<'a>,
        /// What it said: version and bridge.
        seen_as: String,
    },
    /// `legacy.use`
    Use {
        /// Who.
        who: Who<'a>,
        /// Uses since the last such record.
        uses: u64,
    },
    /// `legacy.end`
    End {
        /// Who.
        who: Who<'a>,
        /// Whether its client went on in another session, so that this was none.
        merged: bool,
        /// How far it went.
        engagement: Engagement,
        /// Uses in all.
        uses: u64,
        /// The last of them.
        last_use: Option<Millis>,
    },
    /// `legacy.refused`
    Refused {
        /// Who.
        who: Who<'a>,
        /// Why.
        reason: Text<'a>,
        /// It was served all the same.
        dry_run: bool,
    },
    /// `legacy.upgrade`
    Upgrade {
        /// Who.
        who: Who<'a>,
    },
    /// `modern.seen`
    Modern {
        /// Who.
        who: Who<'a>,
    },
    /// `canary.seen`
    Canary,
    /// `sunset.phase`
    Phase(Phase<'a>),
    /// Something that this version does not know.
    Other,
}

/// How far the switch-off has come. Names of phases stand as they were written: a later version may know more of them.
#[derive(Debug)]
pub struct Phase<'a> {
    /// The phase that holds.
    pub phase: Text<'a>,
    /// The one before.
    pub before: Option<Text<'a>>,
    /// Who had it changed.
    pub by: Text<'a>,
    /// Why.
    pub why: Option<Text<'a>>,
    /// Until when it holds.
    pub until: Option<Millis>,
    /// Whether it is paused.
    pub paused: bool,
    /// The phase that is not let in.
    pub held_back: Option<Text<'a>>,
    /// The phase that is rehearsed.
    pub dry_run: Option<Text<'a>>,
}

/// Of whom a record tells.
#[derive(Debug)]
pub struct Who<'a> {
    /// The session's label.
    pub session: Text<'a>,
    /// The identity.
    pub identity: Text<'a>,
    /// Where it was taken from.
    pub source: Text<'a>,
    /// The family.
    pub family: Text<'a>,
    /// The address, as a rule its pseudonym.
    pub address: Text<'a>,
    /// What else it was seen as.
    pub seen_as: Option<Text<'a>>,
}

/// Why a line is no record.
#[derive(Debug, PartialEq, Eq)]
pub enum NotALine {
    /// It is something else.
    Foreign,
    /// It was one, and is cut off or damaged.
    Broken(String),
    /// It is one of a version that is not known here.
    Schema(String),
}

impl<'a> Line<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Line<'a>, NotALine> {
        // The whole line is looked through at once, and not each of its texts by itself: a tenth of the time.
        let fields = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str::<Fields<'a>>(text),
            Err(_) => serde_json::from_slice(bytes),
        };
        match fields {
            Ok(fields) if fields.schema.0 == SCHEMA => Line::of(fields),
            Ok(fields) if is_ours(&fields.schema) => Err(NotALine::Schema(fields.schema.0.into_owned())),
            Ok(_) => Err(NotALine::Foreign),
            Err(error) => Err(what_it_is(bytes, &error)),
        }
    }

    fn of(mut fields: Fields<'a>) -> Result<Line<'a>, NotALine> {
        let at = millis(&fields.at)?;
        let name = std::mem::take(&mut fields.name);
        let lost = fields.lost.unwrap_or_default();
        let event = match &*name {
            "proxy.start" => Event::Start { passthrough: passes(&fields) },
            "proxy.stop" => Event::Stop { lost },
            "proxy.heartbeat" => Event::Heartbeat {
                lost,
                clock_step_ms: in_millis(fields.clock_step_s.unwrap_or_default()),
                active: fields.active,
                passthrough: passes(&fields),
                peers: fields.peers,
            },
            "canary.seen" => Event::Canary,
            "legacy.connect" => Event::Connect { reconnect: fields.reconnect, who: Who::of(&mut fields)? },
            "legacy.identify" => Event::Identify { seen_as: seen_as(&fields), who: Who::of(&mut fields)? },
            "legacy.use" => Event::Use { uses: fields.uses.unwrap_or(1), who: Who::of(&mut fields)? },
            "legacy.end" => Event::End {
                merged: fields.end_reason.as_deref() == Some("merged"),
                engagement: fields.engagement.ok_or_else(|| missing("legacy.engagement"))?,
                uses: fields.uses.unwrap_or_default(),
                last_use: fields.last_use.as_deref().map(millis).transpose()?,
                who: Who::of(&mut fields)?,
            },
            "legacy.refused" => Event::Refused {
                reason: fields.refused_reason.take().unwrap_or_default(),
                dry_run: fields.dry_run,
                who: Who::of(&mut fields)?,
            },
            "legacy.upgrade" => Event::Upgrade { who: Who::of(&mut fields)? },
            "modern.seen" => Event::Modern { who: Who::of(&mut fields)? },
            "sunset.phase" => Event::Phase(Phase::of(&mut fields)?),
            _ => Event::Other,
        };
        Ok(Line { at, instance: fields.instance, boot: fields.boot, seq: fields.seq, event })
    }
}

impl<'a> Phase<'a> {
    fn of(fields: &mut Fields<'a>) -> Result<Self, NotALine> {
        Ok(Phase {
            phase: fields.phase.take().ok_or_else(|| missing("sunset.phase"))?,
            before: fields.phase_before.take(),
            by: fields.phase_by.take().unwrap_or_default(),
            why: fields.phase_why.take(),
            until: fields.phase_until.as_deref().map(millis).transpose()?,
            paused: fields.paused,
            held_back: fields.held_back.take(),
            dry_run: fields.rehearsed.take(),
        })
    }
}

impl<'a> Who<'a> {
    fn of(fields: &mut Fields<'a>) -> Result<Self, NotALine> {
        Ok(Who {
            session: fields.session.take().unwrap_or_default(),
            identity: fields.identity.take().ok_or_else(|| missing("identity"))?,
            source: fields.source.take().unwrap_or_default(),
            family: fields.family.take().unwrap_or_default(),
            address: fields.address.take().unwrap_or_default(),
            seen_as: fields.client_id.take().or_else(|| fields.user_agent.take()),
        })
    }
}

fn missing(field: &str) -> NotALine {
    NotALine::Broken(format!("{field} is missing"))
}

fn millis(text: &str) -> Result<Millis, NotALine> {
    let at: Result<Timestamp, _> = text.parse();
    at.map(Timestamp::as_millisecond).map_err(|_| NotALine::Broken(format!("{text:?} is not a time")))
}

fn in_millis(seconds: f64) -> Millis {
    // No clock is off by more than this; sums of such steps stay within range.
    let seconds = seconds.clamp(-LONGEST_STEP_S, LONGEST_STEP_S);
    #[expect(clippy::cast_possible_truncation, reason = "within bounds, and not a number becomes 0")]
    let millis = (seconds * 1000.0) as Millis;
    millis
}

/// `Cursor 1.2 (mcp-remote 0.1.31)`
fn seen_as(fields: &Fields<'_>) -> String {
    let mut text = fields.client_name.as_deref().unwrap_or_default().to_owned();
    if let Some(version) = fields.client_version.as_deref().filter(|version| !version.is_empty()) {
        text.push(' ');
        text.push_str(version);
    }
    if let Some(bridge) = fields.bridge.as_deref() {
        text.push_str(" (");
        text.push_str(bridge);
        text.push(')');
    }
    text
}

/// `off`, or which paths.
fn passes(fields: &Fields<'_>) -> Option<bool> {
    fields.passthrough.as_deref().map(|paths| paths != "off")
}

fn is_ours(schema: &str) -> bool {
    SCHEMA.split_once('/').is_some_and(|(name, _)| schema.starts_with(name))
}

/// A line that is not the record it should be: cut off, damaged, or never one of ours.
fn what_it_is(bytes: &[u8], error: &serde_json::Error) -> NotALine {
    #[derive(Deserialize)]
    struct OnlySchema {
        schema: String,
    }
    if let Ok(only) = serde_json::from_slice::<OnlySchema>(bytes)
        && is_ours(&only.schema)
    {
        return if only.schema == SCHEMA { NotALine::Broken(reason(error)) } else { NotALine::Schema(only.schema) };
    }
    // Every record of ours begins with its time; less than that is too little to be told from other people's JSON.
    if !bytes.starts_with(b"{\"@timestamp\":\"") {
        return NotALine::Foreign;
    }
    // Whole JSON without our fields is another program's record: ECS begins with its time too.
    let is_whole = serde_json::from_slice::<de::IgnoredAny>(bytes).is_ok();
    let ours = memchr::memmem::find(bytes, b"\"schema\":\"sse-sunset").is_some();
    if is_whole && !ours { NotALine::Foreign } else { NotALine::Broken(reason(error)) }
}

/// The words of `serde_json`, without the place within the line, which is always the first.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
