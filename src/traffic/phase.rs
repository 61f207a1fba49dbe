//! The record of the switch-off: which phase holds, who said so, and why (DESIGN, Sunset).
//!
//! Why it is written down: a refusal is told from an outage, and a decision from an accident, only by who entered which phase
//! when. Phases are named by their names: what they mean belongs to rows above this one.

use serde::Serialize;

use super::identity::printable;

/// Who had the phase changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseBy {
    /// A date of the plan has come.
    Plan,
    /// A person said so.
    Operator,
    /// The process was started, and this is what holds since then.
    Start,
    /// Somebody would be hit who still uses the server, so the next phase is not entered; or nobody is any more.
    Guard,
    /// Another replica had it changed, by an order that it was given: this one follows.
    Fleet,
}

/// The phase changed, was paused or resumed, or is held back; or a dry run of one began or ended.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// The name of the phase that holds now.
    #[serde(rename = "sunset.phase")]
    pub phase: &'static str,
    /// The name of the one that held before; the same where only something else changed.
    #[serde(rename = "sunset.phase.before")]
    pub before: &'static str,
    /// Who had it changed.
    #[serde(rename = "sunset.by")]
    pub by: PhaseBy,
    /// Why, in the operator's words, or what happened; printable and capped.
    #[serde(rename = "sunset.why", skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Until when it holds, as far as is planned (RFC 3339).
    #[serde(rename = "sunset.until", skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whether the switch-off is paused: what the phase would refuse is served.
    #[serde(rename = "sunset.paused", skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The name of the phase that the guard does not let in.
    #[serde(rename = "sunset.held_back", skip_serializing_if = "Option::is_none")]
    pub held_back: Option<&'static str>,
    /// The name of the phase whose refusals are written and not carried out.
    #[serde(rename = "sunset.dry_run", skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<&'static str>,
}

impl Phase {
    /// The record of `phase`, which holds from now on, with nothing paused, held back or rehearsed. A `why` without words is
    /// left out.
    #[must_use]
    pub fn new(phase: &'static str, before: &'static str, by: PhaseBy, why: &str) -> Self {
        let why = printable(why.trim());
        Phase { phase, before, by, why, until: None, paused: false, held_back: None, dry_run: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Record;
    use super::*;

    #[test]
    fn record_has_the_fields_that_the_report_reads_and_leaves_out_what_is_not_so() {
        let mut phase = Phase::new("freeze", "announce", PhaseBy::Plan, " ");
        let told = |phase: &Phase| serde_json::to_value(Record::Phase(phase.clone())).expect("JSON");
        let least = json!({"sunset.phase": "freeze", "sunset.phase.before": "announce", "sunset.by": "plan"});
        assert_eq!((told(&phase), Record::Phase(phase.clone()).name()), (least, "sunset.phase"));
        phase = Phase {
            until: Some("2026-12-10T09:05:00Z".to_owned()),
            paused: true,
            held_back: Some("brownout"),
            dry_run: Some("tombstone"),
            ..Phase::new("freeze", "freeze", PhaseBy::Operator, "wait for the release\n")
        };
        let all = json!({
            "sunset.phase": "freeze", "sunset.phase.before": "freeze", "sunset.by": "operator",
            "sunset.why": "wait for the release", "sunset.until": "2026-12-10T09:05:00Z", "sunset.paused": true,
            "sunset.held_back": "brownout", "sunset.dry_run": "tombstone",
        });
        assert_eq!(told(&phase), all);
    }

    #[test]
    fn reason_of_an_operator_is_printable_and_short() {
        let why = Phase::new("gone", "tombstone", PhaseBy::Operator, &format!("a\u{1b}[2J\n{}", "é".repeat(600))).why;
        assert!(why.len() <= 512 && !why.chars().any(char::is_control), "{} bytes: {why}", why.len());
        assert!(why.starts_with("a\\u{1b}[2J\\n"), "{why}");
    }
}
