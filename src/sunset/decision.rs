//! Which phase holds, from what was said by hand, what the plan says, and what the guard says to that.
//!
//! Nothing here waits. Where the evidence has to be judged first, that is said ([`Stop::Report`]), and whoever decides comes
//! again with the report: a pause must not wait for a judgement that it makes needless.

use jiff::{SignedDuration, Timestamp};

use super::guard::Outlook;
use super::order::{Denied, Order, Set};
use super::state::{Hand, Pause, Rehearsal, State};
use super::{Config, Phase, Share};
use crate::report::outcome::Report;

/// What is decided from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    /// Whether there is a state directory.
    pub(super) remembers: bool,
    pub(super) now: Timestamp,
    /// The evidence as it was judged a moment ago, if it was.
    pub(super) report: Option<&'a Report>,
}

/// Why nothing was decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The evidence has to be judged first.
    Report,
    /// It must not be.
    Denied(Denied),
}

/// A phase, and how it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) phase: Phase,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) share: Share,
    pub(super) ends_running: bool,
    /// Set by hand, for this reason.
    pub(super) why: Option<String>,
}

/// A phase that is not let in, and who stands in its way.
pub(super) type HeldBack = Option<(Phase, Outlook)>;

impl Ground<'_> {
    fn outlook(&self, phase: Phase, share: Share) -> Result<Outlook, Stop> {
        let report = self.report.ok_or(Stop::Report)?;
        Ok(Outlook::of(report, self.config, phase, share, self.now))
    }

    /// Whether `phase` is possible at all.
    fn check(&self, phase: Phase, is_dry_run: bool) -> Result<(), Stop> {
        if phase >= Phase::Announce && self.config.notice.new_url.is_none() && !is_dry_run {
            return Err(Stop::Denied(Denied::NoUrl(phase)));
        }
        if phase == Phase::Freeze && !self.remembers {
            return Err(Stop::Denied(Denied::NoState));
        }
        Ok(())
    }
}

impl State {
    /// Takes down what somebody says.
    pub(super) fn take(&mut self, order: &Order, ground: &Ground<'_>) -> Result<(), Stop> {
        match order {
            Order::Set(set) => return self.set(set, ground),
            Order::Pause { why } => self.pause = Some(Pause { since: ground.now, why: why.clone() }),
            Order::Resume { .. } => self.pause = None,
        }
        Ok(())
    }

    fn set(&mut self, set: &Set, ground: &Ground<'_>) -> Result<(), Stop> {
        let Some(phase) = set.phase else {
            self.hand = None;
            return Ok(());
        };
        ground.check(phase, set.is_dry_run)?;
        let basis_points = set.share.map(|share| share.basis_points);
        if set.is_dry_run {
            let rehearsal = Rehearsal { phase, since: ground.now, basis_points, is_by_hand: true };
            self.rehearsal = (phase >= Phase::Freeze).then_some(rehearsal);
            return Ok(());
        }
        let is_forced = set.force == Some(phase) || ground.config.forced.contains(&phase);
        if phase.hits_users() && !is_forced {
            let outlook = ground.outlook(phase, set.share.unwrap_or(ground.config.share))?;
            if !outlook.is_clear() {
                return Err(Stop::Denied(Denied::Guard(phase, Box::new(outlook))));
            }
        }
        let until = set.lasts.and_then(|lasts| ground.now.checked_add(SignedDuration::try_from(lasts).ok()?).ok());
        self.hand = Some(Hand {
            phase,
            since: ground.now,
            until,
            basis_points,
            ends_running: set.end_running,
            why: set.why.clone(),
        });
        Ok(())
    }

    /// Which phase holds, and which one the guard does not let in.
    pub(super) fn choose(&mut self, ground: &Ground<'_>) -> Result<(Chosen, HeldBack), Stop> {
        if self.hand.as_ref().is_some_and(|hand| hand.until.is_some_and(|until| until <= ground.now)) {
            self.hand = None;
        }
        let config = ground.config;
        let usual = Chosen { share: config.share, ends_running: config.end_running, ..Chosen::default() };
        if let Some(pause) = &self.pause {
            // What was announced stays announced: the dates are still the dates. The guard is not asked: nobody is refused.
            let planned = config.plan.at(ground.now).phase;
            let phase = self.hand.as_ref().map_or(planned, |hand| hand.phase).min(Phase::Announce);
            let chosen = Chosen { phase, since: Some(pause.since), why: Some(pause.why.clone()), ..usual };
            return Ok((chosen, None));
        }
        let Some(hand) = &self.hand else { return self.planned(ground, &usual) };
        let chosen = Chosen {
            phase: hand.phase,
            since: Some(hand.since),
            until: hand.until,
            share: hand.basis_points.map_or(usual.share, |basis_points| Share { basis_points }),
            ends_running: hand.ends_running || usual.ends_running,
            why: Some(hand.why.clone()),
        };
        Ok((chosen, None))
    }

    /// The latest phase of the plan that may be entered.
    fn planned(&mut self, ground: &Ground<'_>, usual: &Chosen) -> Result<(Chosen, HeldBack), Stop> {
        let config = ground.config;
        let candidates = config.plan.candidates(ground.now);
        let points = config.share.basis_points;
        let is_candidate =
            |phase: Phase, at: Timestamp| candidates.iter().any(|step| step.phase == phase && step.at == at);
        self.let_in.retain(|(phase, at, of)| is_candidate(*phase, *at) && *of >= points);
        let mut held_back = None;
        for step in &candidates {
            let is_let_in = self.let_in.iter().any(|(phase, at, _)| *phase == step.phase && *at == step.at);
            if step.phase.hits_users() && !is_let_in {
                if !config.forced.contains(&step.phase) {
                    let outlook = ground.outlook(step.phase, config.share)?;
                    if !outlook.is_clear() {
                        held_back = held_back.or(Some((step.phase, outlook)));
                        continue;
                    }
                }
                self.let_in.push((step.phase, step.at, points));
            }
            let until = step.until.filter(|_| held_back.is_none());
            return Ok((Chosen { phase: step.phase, since: Some(step.at), until, ..usual.clone() }, held_back));
        }
        let until = config.plan.next_change(ground.now).filter(|_| held_back.is_none());
        Ok((Chosen { until, ..usual.clone() }, held_back))
    }

    /// Notes since when newcomers are refused: with the freeze, and on through what follows it. Who came while it was lifted is
    /// no newcomer.
    pub(super) fn freeze(&mut self, chosen: &Chosen, ground: &Ground<'_>) {
        if self.pause.is_some() {
            return;
        }
        let now = ground.now;
        let planned = ground.config.plan.freeze.filter(|date| *date <= now);
        let planned = planned.map(|date| self.lifted.map_or(date, |lifted| date.max(lifted)));
        (self.frozen, self.lifted) = match chosen.phase {
            Phase::Observe | Phase::Announce => (None, planned.map(|_| now)),
            Phase::Freeze => (self.frozen.or(planned).or(Some(now)), None),
            _ => (self.frozen.or(planned), None),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sunset::Plan;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn ground(config: &Config, now: Timestamp) -> Ground<'_> {
        Ground { config, remembers: true, now, report: None }
    }

    fn planned() -> Config {
        let plan = Plan { freeze: Some(at("2026-01-05T00:00:00Z")), ..Plan::default() };
        Config { plan, ..Config::default() }
    }

    #[test]
    fn pause_asks_for_no_judgement() {
        let plan = Plan { tombstone: Some(at("2026-01-05T00:00:00Z")), ..Plan::default() };
        let config = Config { plan, ..Config::default() };
        let mut state = State::default();
        let now = at("2026-02-01T00:00:00Z");
        assert_eq!(state.choose(&ground(&config, now)), Err(Stop::Report));
        state.take(&Order::Pause { why: "x".to_owned() }, &ground(&config, now)).expect("taken");
        let (chosen, held_back) = state.choose(&ground(&config, now)).expect("at once");
        assert_eq!((chosen.phase, held_back), (Phase::Announce, None));
        assert_eq!(state.let_in, [], "nothing is let in that nobody was asked about");
    }

    #[test]
    fn freeze_counts_from_its_date_and_after_it_was_lifted_from_its_return() {
        let (config, now, later) = (planned(), at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        let mut state = State::default();
        let frozen = Chosen { phase: Phase::Freeze, ..Chosen::default() };
        state.freeze(&frozen, &ground(&config, now));
        assert_eq!(state.frozen, config.plan.freeze);
        state.freeze(&Chosen { phase: Phase::Announce, ..Chosen::default() }, &ground(&config, now));
        assert_eq!((state.frozen, state.lifted), (None, Some(now)));
        state.freeze(&frozen, &ground(&config, later));
        assert_eq!(state.frozen, Some(now), "whoever came until then was let in");
    }

    #[test]
    fn share_that_grows_is_asked_about_again() {
        let plan = Plan { tombstone: Some(at("2026-01-05T00:00:00Z")), ..Plan::default() };
        let mut config = Config { plan, share: Share { basis_points: 100 }, ..Config::default() };
        config.forced.push(Phase::Tombstone);
        let (mut state, now) = (State::default(), at("2026-02-01T00:00:00Z"));
        state.choose(&ground(&config, now)).expect("forced");
        config.forced.clear();
        assert!(state.choose(&ground(&config, now)).is_ok(), "it was let in");
        config.share = Share::default();
        assert_eq!(state.choose(&ground(&config, now)), Err(Stop::Report));
    }
}
