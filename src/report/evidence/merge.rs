//! What several replicas know, put together: each has the records of its own starts, and the verdict is on all of them.
//!
//! Promise: where no start is in both, the result is that of one evidence that took all records.
//!
//! The trap: the numbers of accounts and starts are places in lists, and each evidence has lists of its own. And where a start
//! is in both all the same, what its accounts did cannot be told apart any more: it is counted twice, which makes nobody
//! look more silent.

use std::collections::HashMap;

use super::{Boot, Evidence};

impl Evidence {
    /// Takes in what `other` knows. Of a start that both know, the evidence with more of its records is believed.
    pub fn merge(&mut self, other: &Evidence) {
        let places = self.places_for(&other.boots);
        let place = |(boot, seq): (u32, u64)| {
            let there = usize::try_from(boot).ok()?;
            Some((u32::try_from(*places.get(there)?).ok()?, seq))
        };
        let moved = self.people.merge(&other.people, place);
        for (boot, at) in other.boots.iter().zip(&places) {
            if self.boots.get(*at).is_some_and(|known| known.runs.count() >= boot.runs.count()) {
                continue;
            }
            let mut boot = boot.clone();
            boot.renumber(|id| usize::try_from(id).ok().and_then(|id| moved.get(id).copied().flatten()));
            match self.boots.get_mut(*at) {
                Some(known) => *known = boot,
                None => self.boots.push(boot),
            }
        }
        self.index.clear();
        self.movers.merge(&other.movers);
        self.phases.merge(&other.phases);
        for (day, runs) in &other.canaries {
            *self.canaries.entry(*day).or_default() += runs;
        }
        self.last_canary = self.last_canary.max(other.last_canary);
        if let Some((at, count)) = other.damaged {
            let (last, known) = self.damaged.unwrap_or((at, 0));
            self.damaged = Some((last.max(at), known + count));
        }
        self.unread.extend(other.unread.iter().cloned());
        self.cut.extend(other.cut.iter().filter_map(|boot| Some(place((*boot, 0))?.0)));
    }

    /// Where each of `boots` is found here, or will be once those that are new stand behind the others.
    fn places_for(&self, boots: &[Boot]) -> Vec<usize> {
        let key = |boot: &Boot| (boot.instance.clone(), boot.id.clone());
        let known: HashMap<_, _> = self.boots.iter().zip(0..).map(|(boot, at)| (key(boot), at)).collect();
        let mut next = self.boots.len();
        let mut place = |boot: &Boot| {
            known.get(&key(boot)).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        };
        boots.iter().map(&mut place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::line::Line;
    use super::super::{Bounds, DAY_MS};
    use super::*;
    use crate::report::outcome::{Input, State, Verdict};
    use crate::report::policy::Policy;
    use crate::report::{judge, render};

    const NOW: i64 = 100 * DAY_MS;

    fn line(boot: &str, seq: u64, at: i64, name: &str, more: &str) -> String {
        let (instance, boot) = boot.split_once('/').expect("instance/boot");
        let at = jiff::Timestamp::from_millisecond(at).expect("a time");
        format!(
            r#"{{"@timestamp":"{at}","event.name":"{name}","schema":"sse-sunset/1","service.instance.id":"{instance}","boot.id":"{boot}","log.seq":{seq}{more}}}"#
        )
    }

    fn who(session: &str, identity: &str) -> String {
        format!(
            r#","legacy.session":"{session}","identity":"{identity}","identity.source":"client_id","client.family":"other","client.address":"1""#
        )
    }

    fn evidence(lines: &[String]) -> Evidence {
        let mut evidence = Evidence::default();
        for line in lines {
            let bounds = Bounds { since: None, until: None, now: NOW };
            evidence.take(&Line::parse(line.as_bytes()).expect("a record"), &bounds);
        }
        evidence
    }

    fn report(evidence: &Evidence) -> String {
        render::json(&judge(evidence, Input::default(), &Policy::at(NOW)))
    }

    /// Two replicas: x used the server on both and has a session open on b.
    fn replicas() -> [Vec<String>; 2] {
        let beats = |boot: &str, from: u64| {
            let beat = |seq: u64| {
                line(boot, seq, NOW - 40 * DAY_MS + i64::try_from(seq).expect("small"), "proxy.heartbeat", "")
            };
            (0..from).map(beat).collect::<Vec<_>>()
        };
        let mut a = beats("a/1", 3);
        a.push(line("a/1", 3, NOW - 9 * DAY_MS, "legacy.use", &who("s", "client_id:x")));
        a.push(line("a/1", 4, NOW - 8 * DAY_MS, "legacy.refused", &who("t", "client_id:y")));
        a.push(line("a/1", 5, NOW - 1, "proxy.stop", ""));
        let mut b = beats("b/1", 1);
        b.push(line("b/1", 1, NOW - 2 * DAY_MS, "legacy.use", &who("s", "client_id:z")));
        b.push(line("b/1", 2, NOW - 1000, "legacy.use", &who("u", "client_id:x")));
        b.push(line("b/1", 3, NOW - 1, "canary.seen", r#","canary.latency_s":0.1"#));
        [a, b]
    }

    #[test]
    fn accounts_and_sessions_keep_their_owners() {
        let [a, b] = replicas();
        let all = evidence(&[a.clone(), b.clone()].concat());
        for (first, second) in [(&a, &b), (&b, &a)] {
            let mut merged = evidence(first);
            merged.merge(&evidence(second));
            assert_eq!(report(&merged), report(&all));
            let judged = judge(&merged, Input::default(), &Policy::at(NOW));
            let open: Vec<&str> =
                judged.clients.iter().filter(|row| row.state == State::Open).map(|row| row.identity.as_str()).collect();
            assert!(open.contains(&"client_id:x") && judged.verdict == Verdict::NotYet, "{open:?}");
        }
    }

    #[test]
    fn records_after_a_merge_find_their_start() {
        let [a, b] = replicas();
        let (known, rest) = b.split_at(2);
        let mut merged = evidence(&a);
        merged.merge(&evidence(known));
        let bounds = Bounds { since: None, until: None, now: NOW };
        for line in rest {
            merged.take(&Line::parse(line.as_bytes()).expect("a record"), &bounds);
        }
        assert_eq!(report(&merged), report(&evidence(&[a, b].concat())));
    }

    #[test]
    fn start_that_both_know_is_there_once_and_as_whole_as_either_has_it() {
        let [a, b] = replicas();
        let (part, _) = b.split_at(2);
        for (first, second) in [(part, b.as_slice()), (b.as_slice(), part)] {
            let mut merged = evidence(&[a.clone(), first.to_vec()].concat());
            merged.merge(&evidence(second));
            assert_eq!(merged.boots.iter().map(|boot| boot.runs.count()).collect::<Vec<_>>(), [6, 4]);
            let judged = judge(&merged, Input::default(), &Policy::at(NOW));
            assert_eq!(judged.totals.open_sessions, 2, "those of the start that runs");
            assert_eq!(judged.coverage.missing_records, 0, "{:?}", judged.coverage.holes);
        }
    }

    #[test]
    fn damage_and_what_could_not_be_read_stay_told() {
        let [a, b] = replicas();
        let (mut one, mut other) = (evidence(&a), evidence(&b));
        one.damaged(5);
        other.damaged(9);
        other.damaged(7);
        other.unread.push("b was not read".to_owned());
        other.cut_off(Some(0));
        one.merge(&other);
        assert_eq!((one.damaged, one.cut, one.unread.len()), (Some((9, 3)), vec![1], 1));
    }
}
