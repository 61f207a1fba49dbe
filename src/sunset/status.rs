//! How the switch-off stands, for operators.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::control::{Standing, Sunset};
use super::guard::Outlook;
use super::{Config, Phase};
use crate::clock::rfc3339;
use crate::report::outcome::Waiver;

impl Sunset {
    /// Everything that holds, as JSON. Blocks: the evidence is judged for whom the next phases would hit.
    #[must_use]
    pub fn status(&self) -> Value {
        let standing = self.standing();
        let (config, now) = (self.config(), Timestamp::now());
        let chosen = &standing.chosen;
        let outlook = Outlook::of(&self.live().report_now(), config, Phase::Tombstone, chosen.share, now);
        // The end of a brownout that was held back is no change.
        let next = config.plan.steps().into_iter().find(|step| step.at > now && step.phase != chosen.phase);
        let mut status = json!({
            "phase": chosen.phase.name(),
            "since": chosen.since.map(rfc3339),
            "until": chosen.until.map(rfc3339),
            "by": if standing.state.agreed.pause.is_some() || standing.state.agreed.hand.is_some() { "operator" } else { "plan" },
            "why": chosen.why,
            "paused": standing.state.agreed.pause.as_ref().map(|pause| json!({"since": rfc3339(pause.since), "why": pause.why})),
            "set": standing.state.agreed.hand.as_ref().map(|hand| json!({
                "phase": hand.phase.name(), "since": rfc3339(hand.since), "until": hand.until.map(rfc3339), "why": hand.why,
            })),
            "held_back": standing.held_back.as_ref().map(|(phase, outlook)| json!({
                "phase": phase.name(), "why": outlook.objection(*phase),
            })),
            "dry_run": standing.state.rehearsal().map(|rehearsal| json!({
                "phase": rehearsal.phase.name(), "since": rfc3339(rehearsal.since),
            })),
            "frozen": frozen(&standing),
            "next": next.map(|step| json!({"phase": step.phase.name(), "at": rfc3339(step.at)})),
            "plan": plan(config),
            "verdict": outlook.verdict,
            "reason": outlook.reason,
            "in_use": outlook.in_use,
            "would_be_hit": outlook.count,
            "would_hit": outlook.would_hit,
            "share_percent": f64::from(chosen.share.basis_points) / 100.0,
            "end_running": chosen.ends_running,
            "exempt": config.exempt.iter().map(|exempt| exemption(exempt, now)).collect::<Vec<_>>(),
            "new_url": config.notice.new_url,
            "info_url": config.notice.info_url,
            "deprecation": config.notice.deprecation.map(rfc3339),
            "sunset": config.notice.sunset.map(rfc3339),
            "rules": standing.rules.number,
            "unsaved": standing.unsaved,
        });
        if let (Some(replicas), Some(members)) = (self.replicas(), status.as_object_mut()) {
            let fleet =
                json!({"shared": standing.unshared.is_none(), "unshared": standing.unshared, "replicas": replicas});
            members.insert("fleet".to_owned(), fleet);
        }
        status
    }

    /// The replicas that are there, this one first; none where there cannot be others.
    fn replicas(&self) -> Option<Vec<Value>> {
        if !self.shared.fleet.is_shared() {
            return None;
        }
        let others = self.with_other_options();
        let mut peers: Vec<String> = self.shared.fleet.peers().into_iter().map(|peer| peer.instance).collect();
        peers.sort_unstable();
        let all = std::iter::once(self.shared.instance.clone()).chain(peers);
        let replicas =
            all.map(|instance| json!({"same_options": !others.contains(&instance), "instance": instance})).collect();
        Some(replicas)
    }
}

/// Since when newcomers are refused, and how many were there before.
fn frozen(standing: &Standing) -> Value {
    let Some(since) = standing.state.agreed.frozen.filter(|_| standing.chosen.phase >= Phase::Freeze) else {
        return Value::Null;
    };
    json!({
        "since": rfc3339(since),
        // As far as it is carried out.
        "seen": standing.rules.carried_out.seen.as_ref().map(|seen| seen.count()),
        "gathering": standing.is_gathering,
    })
}

fn plan(config: &Config) -> Vec<Value> {
    let steps = config.plan.steps().into_iter();
    steps
        .map(|step| json!({"phase": step.phase.name(), "at": rfc3339(step.at), "until": step.until.map(rfc3339)}))
        .collect()
}

fn exemption(exempt: &Waiver, now: Timestamp) -> Value {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    json!({
        "client": exempt.client,
        "owner": exempt.owner,
        "reason": exempt.reason,
        "expires": exempt.expires,
        "in_force": exempt.expires >= today,
    })
}
