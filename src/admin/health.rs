//! How the process does: readiness and status, from what its parts say of themselves.

use std::sync::Arc;

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, Body};
use crate::clock;
use crate::drain::{Phase, Watch};
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::net::Tls;
use crate::report::live::Live;
use crate::report::outcome::Report;
use crate::session::Sessions;
use crate::sunset::Sunset;
use crate::traffic::Log;
use crate::upstream::{Era, Upstream};

/// What is looked at, and what does not change.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// The traffic log.
    pub log: Log,
    /// Where it goes, for people.
    pub log_target: String,
    /// The evidence, and the state directory in which it is kept.
    pub live: Arc<Live>,
    /// The switch-off.
    pub sunset: Sunset,
    /// The other replicas.
    pub fleet: Fleet,
    /// The sessions of this one.
    pub sessions: Sessions,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// How far the shutdown has come.
    pub drain: Watch,
    /// Names this replica.
    pub instance: String,
    /// When the process started.
    pub started: Timestamp,
    /// The upgraded server, without its path.
    pub upstream_origin: String,
    /// How it is spoken to.
    pub upstream: Upstream,
    /// What clients are shown, if TLS is spoken here.
    pub tls: Option<Tls>,
    /// Changes with the configuration.
    pub config_hash: String,
}

impl Vitals {
    /// 503 from the moment on at which balancers shall look elsewhere. A log or a state directory that fails makes no replica
    /// unready: its clients are served, and the others' fail for the same reason.
    pub(super) fn readiness(&self) -> Response<Body> {
        let degraded = self.degraded();
        let (status, word) = match (self.drain.phase(), degraded.is_empty()) {
            (Phase::Serving, true) => (StatusCode::OK, "ready"),
            (Phase::Serving, false) => (StatusCode::OK, "degraded"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        };
        let mut answer = answer::json(&json!({"status": word, "degraded": degraded}));
        *answer.status_mut() = status;
        answer
    }

    /// What does not work, though clients are served.
    fn degraded(&self) -> Vec<String> {
        let health = self.log.health();
        let (target, lost) = (&self.log_target, health.lost());
        let log = health.is_failing().then(|| {
            format!(
                "traffic log: {target} cannot be written; {lost} records are lost so far, and the verdict is unknown for \
                 that time. See the diagnostics for why, make room, or POST /reopen"
            )
        });
        let state = self.live.store_health().and_then(|store| Some((store.error?, store.path, store.saved)));
        let state = state.map(|(error, path, saved)| {
            let since = saved.map_or_else(|| "this process started".to_owned(), clock::rfc3339);
            format!(
                "state directory: {} cannot be written ({error}); a restart may forget what happened since {since}. Make \
                 room or repair it; it is tried again all the time",
                path.display()
            )
        });
        let phase = self.sunset.unsaved().map(|error| {
            format!("phase: what was set by hand cannot be kept ({error}); a restart would forget it. It is tried again all the time")
        });
        let shared = self.sunset.unshared().map(|problem| {
            format!("phase: the other replicas do not know what holds here ({problem}); they are told as soon as they can be")
        });
        log.into_iter().chain(state).chain(phase).chain(shared).chain(self.fleet.degraded()).collect()
    }

    /// How the traffic log does.
    pub(super) fn log_health(&self) -> Value {
        let health = self.log.health();
        json!({"target": self.log_target, "failing": health.is_failing(), "lost": health.lost()})
    }

    /// How the state directory does; null without one.
    fn state_health(&self) -> Value {
        self.live.store_health().map_or(Value::Null, |store| {
            json!({
                "path": store.path.display().to_string(),
                "failing": store.error.is_some(),
                "error": store.error,
                "saved": store.saved.map(clock::rfc3339),
            })
        })
    }

    /// Until when the certificate is good that clients are shown; null without TLS.
    fn tls_health(&self) -> Value {
        self.tls.as_ref().map_or(Value::Null, |tls| {
            let not_after = tls.not_after().and_then(|time| Timestamp::from_second(time).ok());
            json!({"not_after": not_after.map(clock::rfc3339)})
        })
    }

    /// How the fleet stands, and how many sessions here have ids under which of its keys; null for a process that is alone.
    fn fleet_status(&self) -> Value {
        let mut status = self.fleet.status();
        if let Value::Object(members) = &mut status {
            members.insert("sessions_by_key".to_owned(), json!(self.sessions.by_key()));
        }
        status
    }

    /// Everything that is known, and what the live report says first.
    pub(super) fn status(&self, report: &Report) -> Value {
        let metrics = &self.metrics;
        let now = Timestamp::now();
        let state = match self.drain.phase() {
            Phase::Serving => "serving",
            Phase::Leaving => "leaving",
            Phase::Closing => "closing",
            Phase::Over => "over",
        };
        let sessions = json!({
            "active": metrics.sessions_active.get(),
            "lingering": metrics.sessions_lingering.get(),
            "opened": metrics.sessions_opened.total(),
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "instance": self.instance,
            "boot": self.log.boot_id(),
            "started": clock::rfc3339(self.started),
            "uptime_s": now.duration_since(self.started).as_secs().max(0),
            "state": state,
            "era": self.upstream.era().map_or("unknown", Era::as_str),
            "era_option": self.upstream.options().era_as_str(),
            "prefer": self.upstream.options().prefer.as_str(),
            "phase": metrics.phase.get(),
            "verdict": report.verdict,
            "upstream": self.upstream_origin,
            "sessions": sessions,
            "traffic_log": self.log_health(),
            "state_dir": self.state_health(),
            "tls": self.tls_health(),
            "fleet": self.fleet_status(),
            "config_hash": self.config_hash,
            "reason": report.reason,
            "earliest_safe": report.earliest_safe,
            "next": report.next,
        })
    }
}
