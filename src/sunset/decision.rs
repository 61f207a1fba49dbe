//! Which phase holds, from what was said by hand, what the plan says, and what the guard says to that.
//!
//! Nothing here waits. Where the evidence has to be judged first, that is said ([`Stop::Report`]), and whoever decides comes
//! again with the report: a pause must not wait for a judgement that it makes needless.

use jiff::{SignedDuration, Timestamp};

use super::agreed::Utterance;
use super::guard::Outlook;
use super::order::{Denied, Order, Set};
use super::state::{Hand, Pause, Rehearsal, State};
use super::{Config, Phase, Share};
use crate::report::outcome::Report;

/// What is decided from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    /// Whether who was seen is known again after a restart.
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
        let pause = match order {
            Order::Set(set) => return self.set(set, ground),
            Order::Pause { why } => Some(Pause { since: ground.now, why: why.clone() }),
            Order::Resume { .. } => None,
        };
        let said = &mut self.agreed.said.pause;
        *said = Some(Utterance::after(said.as_ref(), ground.now, order.why()));
        self.agreed.pause = pause;
        Ok(())
    }

    fn set(&mut self, set: &Set, ground: &Ground<'_>) -> Result<(), Stop> {
        let Some(phase) = set.phase else {
            self.set_hand(None, &set.why, ground);
            return Ok(());
        };
        ground.check(phase, set.is_dry_run)?;
        let basis_points = set.share.map(|share| share.basis_points);
        if set.is_dry_run {
            let rehearsal = Rehearsal { phase, since: ground.now, basis_points, is_by_hand: true };
            self.agreed.rehearsal = (phase >= Phase::Freeze).then_some(rehearsal);
            self.optional = None;
            let said = &mut self.agreed.said.rehearsal;
            *said = Some(Utterance::after(said.as_ref(), ground.now, &set.why));
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
        let why = set.why.clone();
        let hand = Hand { phase, since: ground.now, until, basis_points, ends_running: set.end_running, why };
        self.set_hand(Some(hand), &set.why, ground);
        Ok(())
    }

    fn set_hand(&mut self, hand: Option<Hand>, why: &str, ground: &Ground<'_>) {
        let said = &mut self.agreed.said.hand;
        *said = Some(Utterance::after(said.as_ref(), ground.now, why));
        self.agreed.hand = hand;
    }

    /// Which phase holds, and which one the guard does not let in.
    pub(super) fn choose(&mut self, ground: &Ground<'_>) -> Result<(Chosen, HeldBack), Stop> {
        if self.agreed.hand.as_ref().is_some_and(|hand| hand.until.is_some_and(|until| until <= ground.now)) {
            self.agreed.hand = None;
        }
        let config = ground.config;
        let usual = Chosen { share: config.share, ends_running: config.end_running, ..Chosen::default() };
        if let Some(pause) = &self.agreed.pause {
            // What was announced stays announced: the dates are still the dates. The guard is not asked: nobody is refused.
            let planned = config.plan.at(ground.now).phase;
            let phase = self.agreed.hand.as_ref().map_or(planned, |hand| hand.phase).min(Phase::Announce);
            let chosen = Chosen { phase, since: Some(pause.since), why: Some(pause.why.clone()), ..usual };
            return Ok((chosen, None));
        }
        let Some(hand) = &self.agreed.hand else { return self.planned(ground, &usual) };
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
        let mut held_back = None;
        for step in &candidates {
            if step.phase.hits_users() && !self.agreed.is_let_in(step.phase, step.at, points) {
                if !config.forced.contains(&step.phase) {
                    let outlook = ground.outlook(step.phase, config.share)?;
                    if !outlook.is_clear() {
                        held_back = held_back.or(Some((step.phase, outlook)));
                        continue;
                    }
                }
                self.agreed.let_in(step.phase, step.at, points);
            }
            let until = step.until.filter(|_| held_back.is_none());
            return Ok((Chosen { phase: step.phase, since: Some(step.at), until, ..usual.clone() }, held_back));
        }
        let until = config.plan.next_change(ground.now).filter(|_| held_back.is_none());
        Ok((Chosen { until, ..usual.clone() }, held_back))
    }

    /// Notes since when newcomers are refused: with the freeze, and on through what follows it. Who came while it was lifted is
    /// no newcomer.
    ///
    /// `may_lift` says whether it is for this replica to lift it: another one, whose clock goes ahead, may have begun what the
    /// plan has here for the next moment.
    pub(super) fn freeze(&mut self, chosen: &Chosen, ground: &Ground<'_>, may_lift: bool) {
        let agreed = &mut self.agreed;
        if agreed.pause.is_some() {
            return;
        }
        let now = ground.now;
        let planned = ground.config.plan.freeze.filter(|date| *date <= now);
        // Not the moment of every look, on which replicas would never agree: one when it begins, one when it ends.
        let begun = planned.map(|date| if agreed.lifted.is_some() { now } else { date });
        (agreed.frozen, agreed.lifted) = match chosen.phase {
            Phase::Observe | Phase::Announce if may_lift || agreed.hand.is_some() => {
                (None, planned.map(|_| agreed.lifted.unwrap_or(now)))
            }
            Phase::Observe | Phase::Announce => return,
            Phase::Freeze => (agreed.frozen.or(begun).or(Some(now)), None),
            _ => (agreed.frozen.or(begun), None),
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
        assert_eq!(state.agreed.let_in, [], "nothing is let in that nobody was asked about");
    }

    #[test]
    fn freeze_counts_from_its_date_and_after_it_was_lifted_from_its_return() {
        let (config, now, later) = (planned(), at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        let mut state = State::default();
        let frozen = Chosen { phase: Phase::Freeze, ..Chosen::default() };
        state.freeze(&frozen, &ground(&config, now), true);
        assert_eq!(state.agreed.frozen, config.plan.freeze);
        let announced = Chosen { phase: Phase::Announce, ..Chosen::default() };
        state.freeze(&announced, &ground(&config, now), true);
        let lifted = state.agreed.clone();
        assert_eq!((lifted.frozen, lifted.lifted), (None, Some(now)));
        let meanwhile = at("2026-02-15T00:00:00Z");
        state.freeze(&announced, &ground(&config, meanwhile), true);
        assert_eq!(state.agreed, lifted, "looking again changes nothing");
        state.freeze(&frozen, &ground(&config, later), true);
        assert_eq!(state.agreed.frozen, Some(later), "whoever came until then was let in");
    }

    #[test]
    fn freeze_that_another_replica_has_begun_by_its_clock_is_not_lifted() {
        let (config, before) = (planned(), at("2026-01-04T23:59:59Z"));
        let mut state = State::default();
        state.agreed.frozen = config.plan.freeze;
        let announced = Chosen { phase: Phase::Announce, ..Chosen::default() };
        state.freeze(&announced, &ground(&config, before), false);
        assert_eq!(state.agreed.frozen, config.plan.freeze);
        state.freeze(&announced, &ground(&config, before), true);
        assert_eq!(state.agreed.frozen, None);
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
