//! What happens when: the dates of the phases, and the phase that holds at a time.
//!
//! All times are UTC. A phase that has no date is left out; each of those that have one lasts until the next.

use jiff::Timestamp;

use super::phase::Phase;

/// The dates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// From when it is announced.
    pub announce: Option<Timestamp>,
    /// From when newcomers are refused.
    pub freeze: Option<Timestamp>,
    /// When everybody is refused for a while, in order, apart from one another.
    pub brownouts: Vec<Window>,
    /// From when everybody is refused.
    pub tombstone: Option<Timestamp>,
    /// From when there is nothing left.
    pub gone: Option<Timestamp>,
}

/// A brownout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: Timestamp,
    /// The first one after it.
    pub until: Timestamp,
}

/// What the plan has for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The phase.
    pub phase: Phase,
    /// Since when it holds; none for `observe`.
    pub since: Option<Timestamp>,
    /// Until when it holds; none where nothing follows.
    pub until: Option<Timestamp>,
    /// Since when newcomers are refused, if they are: in brownouts too.
    pub frozen: Option<Timestamp>,
}

/// A change of phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// To which phase.
    pub phase: Phase,
    /// Until when it holds.
    pub until: Option<Timestamp>,
}

impl Plan {
    /// Whether it has no date at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }

    /// What is wrong with the order of the dates, each with what to do about it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let dates: Vec<(Phase, Timestamp)> = self.lasting().collect();
        for pair in dates.windows(2) {
            if let [(before, from), (after, then)] = pair
                && from >= then
            {
                problems.push(format!("--{after} {then} is not after --{before} {from}"));
            }
        }
        for window in &self.brownouts {
            let Window { from, until } = window;
            if from >= until {
                problems.push(format!("the brownout at {from} ends before it begins"));
            }
            for (phase, date) in dates.iter().filter(|(phase, _)| *phase < Phase::Brownout) {
                if from < date {
                    problems.push(format!("the brownout at {from} begins before --{phase} {date}"));
                }
            }
            for (phase, date) in dates.iter().filter(|(phase, _)| *phase > Phase::Brownout) {
                if until > date {
                    problems.push(format!("the brownout at {from} ends after --{phase} {date}"));
                }
            }
        }
        for pair in self.brownouts.windows(2) {
            if let [before, after] = pair
                && before.until >= after.from
            {
                problems.push(format!("the brownouts at {} and {} touch; leave a pause", before.from, after.from));
            }
        }
        problems
    }

    /// What holds at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Planned {
        let steps = self.steps();
        let current = steps.iter().rev().find(|step| step.at <= now);
        let frozen = self.freeze.filter(|date| *date <= now);
        match current {
            Some(step) => Planned { phase: step.phase, since: Some(step.at), until: step.until, frozen },
            None => Planned { phase: Phase::Observe, since: None, until: steps.first().map(|step| step.at), frozen },
        }
    }

    /// What could hold at `now`, the strictest first: the brownout of the moment, then every lasting phase whose date has
    /// come.
    #[must_use]
    pub fn candidates(&self, now: Timestamp) -> Vec<Step> {
        let steps = self.steps();
        let brownout = self.brownouts.iter().find(|window| window.from <= now && now < window.until);
        let brownout =
            brownout.map(|window| Step { at: window.from, phase: Phase::Brownout, until: Some(window.until) });
        let lasting: Vec<Step> = self
            .lasting()
            .filter(|(_, at)| *at <= now)
            .map(|(phase, at)| {
                let until = steps.iter().map(|step| step.at).find(|next| *next > now.max(at));
                Step { at, phase, until }
            })
            .collect();
        let mut candidates: Vec<Step> = lasting.into_iter().chain(brownout).collect();
        candidates.sort_by_key(|step| std::cmp::Reverse(step.phase));
        candidates
    }

    /// When another phase begins, after `now`.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.steps().into_iter().map(|step| step.at).find(|at| *at > now)
    }

    /// Every change, in order: after a brownout comes again what was before it.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.lasting().map(|(phase, at)| Step { at, phase, until: None }).collect();
        for window in &self.brownouts {
            let before = self.lasting().filter(|(_, at)| *at <= window.from).map(|(phase, _)| phase).last();
            steps.push(Step { at: window.from, phase: Phase::Brownout, until: None });
            steps.push(Step { at: window.until, phase: before.unwrap_or_default(), until: None });
        }
        // What follows a window gives way to what begins with its end.
        steps.sort_by_key(|step| (step.at, step.phase));
        steps.dedup_by(|later, earlier| {
            let same = later.at == earlier.at;
            if same {
                earlier.phase = later.phase;
            }
            same
        });
        let ends: Vec<Option<Timestamp>> =
            steps.iter().skip(1).map(|step| Some(step.at)).chain(std::iter::once(None)).collect();
        for (step, until) in steps.iter_mut().zip(ends) {
            step.until = until;
        }
        steps
    }

    /// The phases that last, with their dates.
    fn lasting(&self) -> impl Iterator<Item = (Phase, Timestamp)> {
        let dates = [
            (Phase::Announce, self.announce),
            (Phase::Freeze, self.freeze),
            (Phase::Tombstone, self.tombstone),
            (Phase::Gone, self.gone),
        ];
        dates.into_iter().filter_map(|(phase, date)| Some((phase, date?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u32) -> Timestamp {
        format!("2026-12-{day:02}T00:00:00Z").parse().expect("a time")
    }

    fn plan() -> Plan {
        Plan {
            announce: Some(day(1)),
            freeze: Some(day(5)),
            brownouts: vec![Window { from: day(10), until: day(11) }, Window { from: day(15), until: day(16) }],
            tombstone: Some(day(20)),
            gone: Some(day(25)),
        }
    }

    #[test]
    fn phase_lasts_until_the_next_and_comes_back_after_a_brownout() {
        let plan = plan();
        let second = jiff::SignedDuration::from_secs(1);
        for (at, phase) in [
            (day(1) - second, Phase::Observe),
            (day(1), Phase::Announce),
            (day(5), Phase::Freeze),
            (day(10), Phase::Brownout),
            (day(11) - second, Phase::Brownout),
            (day(11), Phase::Freeze),
            (day(15), Phase::Brownout),
            (day(19), Phase::Freeze),
            (day(20), Phase::Tombstone),
            (day(28), Phase::Gone),
        ] {
            assert_eq!(plan.at(at).phase, phase, "{at}");
        }
        let brownout = plan.at(day(10));
        assert_eq!((brownout.until, brownout.frozen), (Some(day(11)), Some(day(5))));
        assert_eq!(plan.at(day(2)).frozen, None);
        assert_eq!(plan.at(day(28)).until, None);
        assert_eq!(plan.next_change(day(16)), Some(day(20)));
        assert_eq!(plan.next_change(day(25)), None);
    }

    #[test]
    fn candidates_are_all_that_could_hold_with_the_strictest_first() {
        let phases = |at| plan().candidates(at).iter().map(|step| step.phase).collect::<Vec<_>>();
        assert_eq!(phases(day(10)), [Phase::Brownout, Phase::Freeze, Phase::Announce]);
        assert_eq!(phases(day(12)), [Phase::Freeze, Phase::Announce]);
        assert_eq!(phases(day(25)), [Phase::Gone, Phase::Tombstone, Phase::Freeze, Phase::Announce]);
        assert_eq!(plan().candidates(day(12))[0].until, Some(day(15)));
    }

    #[test]
    fn brownout_that_ends_with_a_phase_gives_way_to_it() {
        let plan = Plan {
            announce: Some(day(1)),
            brownouts: vec![Window { from: day(10), until: day(20) }],
            tombstone: Some(day(20)),
            ..Plan::default()
        };
        assert_eq!(plan.problems(), [""; 0]);
        assert_eq!(plan.at(day(20)).phase, Phase::Tombstone);
        assert_eq!(plan.steps().len(), 3);
    }

    #[test]
    fn dates_out_of_order_are_told() {
        assert_eq!(plan().problems(), [""; 0]);
        let wrong = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.problems().join("; ")
        };
        assert!(
            wrong(|plan| plan.gone = plan.tombstone).contains("--gone 2026-12-20T00:00:00Z is not after --tombstone")
        );
        assert!(wrong(|plan| plan.freeze = plan.announce).contains("--freeze"));
        assert!(wrong(|plan| plan.brownouts[0].until = day(10)).contains("ends before it begins"));
        assert!(wrong(|plan| plan.brownouts[0].from = day(2)).contains("begins before --freeze"));
        assert!(wrong(|plan| plan.brownouts[1].until = day(21)).contains("ends after --tombstone"));
        assert!(wrong(|plan| plan.brownouts[0].until = day(15)).contains("touch"));
    }

    #[test]
    fn plan_without_dates_observes_for_ever() {
        let plan = Plan::default();
        assert!(plan.is_empty());
        let planned = plan.at(day(1));
        assert_eq!((planned.phase, planned.since, planned.until), (Phase::Observe, None, None));
    }
}
