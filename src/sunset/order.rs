//! What somebody says to the running proxy, and why it is not done.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guard::Outlook;
use super::{Phase, Share};

/// Longest reason that is taken, in bytes.
const LONGEST_WHY: usize = 512;

/// What to do. Read from the JSON that `POST /sunset` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Enter a phase by hand, or follow the plan again.
    Set(Set),
    /// Refuse nobody until further notice.
    Pause {
        /// Why; for the log.
        why: String,
    },
    /// End the pause.
    Resume {
        /// Why; for the log.
        why: String,
    },
}

/// A phase to enter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The phase; none to follow the plan.
    pub phase: Option<Phase>,
    /// After how long the plan holds again, in seconds; none: when somebody says so.
    #[serde(default, rename = "for_s", with = "seconds", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// Whom it hits; as the options say if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Whether running sessions end too.
    #[serde(default)]
    pub end_running: bool,
    /// The phase that is entered whomever it hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<Phase>,
    /// Only write whom it would refuse.
    #[serde(default)]
    pub is_dry_run: bool,
    /// Why; for the log.
    pub why: String,
}

/// Why something is not done. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Clients could not be told where to go.
    #[error(
        "{0} needs the URL that clients are told to use instead; start serve with --new-url URL (or --public-url and \
         --passthrough)"
    )]
    NoUrl(Phase),
    /// Nobody could say who was seen.
    #[error("freeze has to remember who was seen before; start serve with --state-dir DIR, or --fleet URL")]
    NoState,
    /// It would hit clients that use the server.
    #[error("{}", .1.objection(*.0))]
    Guard(Phase, Box<Outlook>),
    /// The order says too little or too much.
    #[error("{0}")]
    Order(String),
    /// A bug of ours.
    #[error("the phase could not be changed, which is a bug of sse-sunset")]
    Failed,
}

impl Order {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Order, Denied> {
        let order: Order = serde_json::from_slice(bytes).map_err(|error| {
            Denied::Order(format!(
                "{error}; send {{\"action\": \"set\", \"phase\": \"announce\", \"why\": \"…\"}}, or the action pause or resume"
            ))
        })?;
        let why = order.why().trim();
        if why.is_empty() || why.len() > LONGEST_WHY {
            return Err(Denied::Order(format!("say why, in {LONGEST_WHY} bytes at most: it goes into the log")));
        }
        if let Order::Set(set) = &order {
            set.check()?;
        }
        Ok(order)
    }

    /// Why; for the log.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Order::Set(Set { why, .. }) | Order::Pause { why } | Order::Resume { why } => why,
        }
    }
}

impl Set {
    fn check(&self) -> Result<(), Denied> {
        let hits = self.phase.is_some_and(Phase::hits_users);
        if self.phase.is_none() && (self.lasts.is_some() || self.is_dry_run || self.share.is_some() || self.end_running)
        {
            return Err(Denied::Order("following the plan takes nothing but why".to_owned()));
        }
        if self.share.is_some() && !hits {
            return Err(Denied::Order("share goes with brownout, tombstone and gone".to_owned()));
        }
        if self.share.is_some() && self.phase == Some(Phase::Gone) {
            return Err(Denied::Order("gone is for everybody: leave share out".to_owned()));
        }
        if self.end_running && !hits {
            return Err(Denied::Order("end_running goes with brownout and tombstone".to_owned()));
        }
        if self.force.is_some() && self.force != self.phase {
            return Err(Denied::Order("force names another phase than the one to enter".to_owned()));
        }
        if self.is_dry_run && self.lasts.is_some() {
            return Err(Denied::Order(
                "a dry run lasts until a dry run of observe ends it: leave for_s out".to_owned(),
            ));
        }
        Ok(())
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.map_or(0, |time| time.as_secs()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<u64>::deserialize(deserializer).map(|seconds| seconds.filter(|s| *s > 0).map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_read_as_it_is_written() {
        let set = Set {
            phase: Some(Phase::Brownout),
            lasts: Some(Duration::from_secs(600)),
            share: Some(Share { basis_points: 500 }),
            force: Some(Phase::Brownout),
            why: "rehearsal".to_owned(),
            ..Set::default()
        };
        for order in [Order::Set(set), Order::Pause { why: "incident".to_owned() }] {
            let written = serde_json::to_vec(&order).expect("serialises");
            assert_eq!(Order::read(&written).expect("an order"), order);
        }
    }

    #[test]
    fn orders_that_make_no_sense_are_told_what_would() {
        for (order, said) in [
            (r#"{"action":"pause","why":" "}"#, "say why"),
            (r#"{"action":"stop","why":"x"}"#, "pause or resume"),
            (r#"{"action":"set","phase":"brownot","why":"x"}"#, "brownot"),
            (r#"{"action":"set","phase":null,"for_s":5,"why":"x"}"#, "following the plan"),
            (r#"{"action":"set","phase":"freeze","share":500,"why":"x"}"#, "share goes with"),
            (r#"{"action":"set","phase":"gone","share":500,"why":"x"}"#, "everybody"),
            (r#"{"action":"set","phase":"announce","end_running":true,"why":"x"}"#, "end_running"),
            (r#"{"action":"set","phase":"gone","force":"tombstone","why":"x"}"#, "another phase"),
            (r#"{"action":"set","phase":"gone","share":0,"why":"x"}"#, "share"),
        ] {
            let denied = Order::read(order.as_bytes()).expect_err("makes no sense").to_string();
            assert!(denied.contains(said), "{order}: {denied}");
        }
    }
}
