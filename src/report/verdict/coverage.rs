//! Whether silence is silence: what time the replicas prove, and what of the log is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::super::evidence::{Boot, Evidence, PULSE_MS, Stretch, subtract, union};
use super::super::line::Millis;
use super::super::outcome::{Coverage, Replica, Span};
use super::super::policy::{Policy, timestamp};

/// The longest time that may be uncovered at a stretch.
const LONGEST_GAP_MS: Millis = 3_600_000;
/// A boot whose last record is no older than this may still run.
const ALIVE_MS: Millis = LONGEST_GAP_MS;
/// Part of the window that may be uncovered: one in a hundred.
const UNCOVERED_PARTS: Millis = 100;
/// Gaps, holes and the like that a report lists at most.
const LISTED: usize = 100;

/// What is proven, and what stands against it.
#[derive(Debug)]
pub(super) struct Proof {
    /// For the report.
    pub coverage: Coverage,
    /// Times that nobody covers, from the first record to the end of the window, in order.
    pub uncovered: Vec<Stretch>,
    /// Why silence proves nothing, most telling first.
    pub doubts: Vec<Doubt>,
    /// Boots that run at the end of the window, by index.
    pub alive: BTreeSet<usize>,
    /// Replicas of which nothing is known since some time within the window, though nothing says that they ended.
    pub vanished: Vec<(String, Millis)>,
}

/// Why silence within the window proves nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Doubt {
    /// There is no record at all.
    NoRecords,
    /// There are only lines of an old server's access log.
    AccessLogOnly {
        /// How many of them are of legacy clients.
        legacy: u64,
    },
    /// A running proxy that keeps no state.
    NoState,
    /// The first record is younger than the window.
    Young {
        /// When it was written.
        first: Millis,
    },
    /// Nobody proves this time.
    Gap(Stretch),
    /// All gaps together are too long.
    Ratio {
        /// The covered part.
        ratio: f64,
        /// When the gaps left in the window are short enough, if no more are added.
        clean: Millis,
    },
    /// Records are missing.
    Hole {
        /// The last of them were written before.
        until: Millis,
        /// What, as part of a sentence.
        what: String,
    },
    /// An input that could not be read to its end.
    Unread(String),
    /// A boot of which nothing was given.
    MissingBoot(String),
}

impl Doubt {
    /// From when on the window is free of it, if nothing else goes wrong; none when only more input helps.
    pub(super) fn clean(&self, window: Millis) -> Option<Millis> {
        match self {
            Doubt::NoRecords
            | Doubt::AccessLogOnly { .. }
            | Doubt::NoState
            | Doubt::Unread(_)
            | Doubt::MissingBoot(_) => None,
            Doubt::Young { first } => Some(first.saturating_add(window)),
            // What is left of it in a window that has moved on may be as long as any gap.
            Doubt::Gap((_, to)) => Some(to.saturating_sub(LONGEST_GAP_MS).saturating_add(window)),
            Doubt::Ratio { clean, .. } => Some(*clean),
            Doubt::Hole { until, .. } => Some(until.saturating_add(window)),
        }
    }
}

/// Looks at what `evidence` proves of the window.
pub(super) fn prove(evidence: &Evidence, policy: &Policy) -> Proof {
    let (start, until) = (policy.window_start(), policy.until);
    let boots = &evidence.boots;
    let alive: BTreeSet<usize> =
        boots.iter().enumerate().filter(|(_, boot)| is_alive(boot, boots, until)).map(|(at, _)| at).collect();
    let spans = union(boots.iter().flat_map(Boot::covered).collect());
    let first = boots.iter().map(|boot| boot.runs.earliest()).min();
    let last = boots.iter().map(|boot| boot.runs.latest()).max();
    let from = first.unwrap_or(until).min(until);
    let uncovered = uncovered(&spans, from, until);
    let within: Vec<Stretch> =
        uncovered.iter().filter(|gap| gap.1 > start).map(|gap| (gap.0.max(start), gap.1)).collect();
    let missing_time: Millis =
        within.iter().map(|gap| gap.1 - gap.0).sum::<Millis>() + (from - start).clamp(0, policy.window);
    let holes = holes(evidence, &alive, (start, until));
    let missing_boots = missing_boots(evidence, start);
    let mut doubts = Vec::new();
    match first {
        None => doubts.push(Doubt::NoRecords),
        Some(first) if first > start => doubts.push(Doubt::Young { first }),
        Some(_) => {}
    }
    doubts.extend(evidence.unread.iter().cloned().map(Doubt::Unread));
    doubts.extend(missing_boots.iter().cloned().map(Doubt::MissingBoot));
    doubts.extend(holes.iter().map(|(until, _, what)| Doubt::Hole { until: *until, what: what.clone() }));
    doubts.extend(within.iter().filter(|gap| gap.1 - gap.0 > LONGEST_GAP_MS).copied().map(Doubt::Gap));
    let ratio = ratio(policy.window - missing_time, policy.window);
    let allowed = policy.window / UNCOVERED_PARTS;
    if within.iter().map(|gap| gap.1 - gap.0).sum::<Millis>() > allowed {
        doubts.push(Doubt::Ratio { ratio, clean: clean(&within, allowed, policy.window) });
    }
    let coverage = Coverage {
        ratio,
        first: first.map(timestamp),
        last: last.map(timestamp),
        gap_count: within.len(),
        gaps: listed(within),
        missing_records: holes.iter().map(|(_, count, _)| *count).fold(0, u64::saturating_add),
        holes: holes.into_iter().map(|(_, _, what)| what).take(LISTED).collect(),
        missing_boots,
        clock_step_s: clock_step_s(boots),
        replicas: replicas(boots, &alive),
    };
    let vanished = vanished(boots, &alive, start);
    Proof { coverage, uncovered, doubts, alive, vanished }
}

/// A boot runs at `until` if nothing says that it ended: no `proxy.stop`, no later start of the same replica, and a
/// record not long ago.
fn is_alive(boot: &Boot, boots: &[Boot], until: Millis) -> bool {
    let last = boot.runs.latest();
    // Two processes that were given the same name run side by side: neither replaces the other.
    let replaced = || boots.iter().any(|other| other.instance == boot.instance && other.runs.earliest() > last);
    boot.stopped.is_none() && last >= until.saturating_sub(ALIVE_MS) && !replaced()
}

/// What `spans` leave open from `from` to `until`. A silence no longer than between two heartbeats is none.
fn uncovered(spans: &[Stretch], from: Millis, until: Millis) -> Vec<Stretch> {
    let mut open = subtract(&[(from, until)], spans);
    if open.last().is_some_and(|last| last.1 == until && until - last.0 <= PULSE_MS) {
        open.pop();
    }
    open
}

/// Missing records after `start`: until when, how many, and what to say of them.
fn holes(evidence: &Evidence, alive: &BTreeSet<usize>, (start, until): Stretch) -> Vec<(Millis, u64, String)> {
    let mut found = Vec::new();
    for (index, boot) in evidence.boots.iter().enumerate() {
        let name = boot.name();
        for ((from, to), count) in boot.holes().filter(|((_, to), _)| *to > start) {
            let records = if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
            let text = if from == Millis::MIN {
                format!("{records} of {name} are missing before {}", timestamp(to))
            } else {
                format!("{records} of {name} are missing between {} and {}", timestamp(from), timestamp(to))
            };
            found.push((to, count, text));
        }
        if let Some((at, count)) = boot.losses_after(start) {
            found.push((at, 0, format!("{name} says that it could not write {count} records until {}", timestamp(at))));
        }
        let begins_late = boot.runs.all().first().is_some_and(|run| run.low > 0);
        let known = i64::try_from(boot.open.len()).unwrap_or(i64::MAX);
        if let Some((at, active)) = boot.heartbeat.filter(|(_, active)| begins_late && *active > known)
            && alive.contains(&index)
        {
            let text = format!("{name} has {active} sessions open, and the logs show the beginning of {known} only");
            found.push((at, 0, text));
        }
    }
    let cut = evidence.cut.iter().filter_map(|boot| usize::try_from(*boot).ok()).filter_map(|index| {
        let latest = evidence.boots.get(index)?.runs.latest();
        // A record that is being written comes no later than a heartbeat after the one before.
        let is_being_written = alive.contains(&index) && until - latest <= PULSE_MS;
        (latest > start && !is_being_written).then_some(latest)
    });
    for at in cut {
        found.push((at, 1, format!("a file ends in the middle of a record, after {}", timestamp(at))));
    }
    if let Some((at, count)) = evidence.damaged.filter(|(at, _)| *at > start) {
        let text = format!("{count} records are cut off or damaged, the last of them before {}", timestamp(at));
        found.push((at, count, text));
    }
    found.sort_by_key(|(until, _, _)| std::cmp::Reverse(*until));
    found
}

/// Replicas whose last start did not end in order and does not run: they crashed for good, or the rest of their log was
/// not given.
fn vanished(boots: &[Boot], alive: &BTreeSet<usize>, start: Millis) -> Vec<(String, Millis)> {
    let mut last: BTreeMap<&str, (Millis, bool)> = BTreeMap::new();
    for (index, boot) in boots.iter().enumerate() {
        let state = (boot.runs.latest(), boot.stopped.is_some() || alive.contains(&index));
        let known = last.entry(&boot.instance).or_insert(state);
        *known = state.max(*known);
    }
    let gone = last.into_iter().filter(|(_, (at, is_accounted_for))| !is_accounted_for && *at > start);
    gone.map(|(instance, (at, _))| (instance.to_owned(), at)).collect()
}

/// Boots that others named after `start`, and of which nothing is known.
fn missing_boots(evidence: &Evidence, start: Millis) -> Vec<String> {
    let known: BTreeSet<String> = evidence.boots.iter().map(Boot::name).collect();
    let named: BTreeSet<&str> = evidence.boots.iter().flat_map(|boot| boot.named_after(start)).collect();
    named.into_iter().filter(|name| !known.contains(*name)).map(str::to_owned).collect()
}

/// When the sum of `gaps` within a window that moves on is at most `allowed`.
fn clean(gaps: &[Stretch], allowed: Millis, window: Millis) -> Millis {
    let mut rest: Millis = gaps.iter().map(|gap| gap.1 - gap.0).sum();
    let mut start = Millis::MIN;
    for (from, to) in gaps {
        if rest <= allowed {
            break;
        }
        rest -= to - from;
        // The window may begin within the gap, if that leaves little enough.
        start = to - (allowed - rest).max(0);
    }
    start.saturating_add(window)
}

fn listed(mut gaps: Vec<Stretch>) -> Vec<Span> {
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.1 - gap.0));
    gaps.into_iter().take(LISTED).map(span).collect()
}

fn span((from, to): Stretch) -> Span {
    Span { from: timestamp(from), to: timestamp(to) }
}

fn clock_step_s(boots: &[Boot]) -> u64 {
    let steps = boots.iter().flat_map(|boot| &boot.steps).map(|step| step.by.unsigned_abs() / 1000);
    steps.max().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people; 53 bits of milliseconds are 285,000 years")]
fn ratio(part: Millis, whole: Millis) -> f64 {
    if whole <= 0 { 0.0 } else { (part.max(0) as f64 / whole as f64).min(1.0) }
}

fn replicas(boots: &[Boot], alive: &BTreeSet<usize>) -> Vec<Replica> {
    let mut replicas: BTreeMap<&str, Vec<(usize, &Boot)>> = BTreeMap::new();
    for (index, boot) in boots.iter().enumerate() {
        replicas.entry(&boot.instance).or_default().push((index, boot));
    }
    let replica = |(instance, boots): (&str, Vec<(usize, &Boot)>)| Replica {
        instance: instance.to_owned(),
        boots: boots.len(),
        crashes: boots.iter().filter(|(index, boot)| boot.stopped.is_none() && !alive.contains(index)).count(),
        is_running: boots.iter().any(|(index, _)| alive.contains(index)),
        spans: union(boots.iter().flat_map(|(_, boot)| boot.covered()).collect()).into_iter().map(span).collect(),
    };
    replicas.into_iter().map(replica).collect()
}
