//! What was given: every record, by boot and number.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::log::{File, HOUR, MINUTE};

/// Who: the identity, and the address where that is not authenticated.
pub(super) type Account = (String, String);

#[derive(Debug, Clone)]
pub(super) struct Record {
    /// As it says, but never later than now.
    pub(super) at: i64,
    pub(super) name: String,
    pub(super) fields: Value,
}

impl Record {
    pub(super) fn text(&self, key: &str) -> &str {
        self.fields[key].as_str().unwrap_or_default()
    }

    pub(super) fn account(&self) -> Account {
        let is_one = matches!(self.text("identity.source"), "sub" | "client_id" | "header" | "mtls");
        let address = if is_one { "" } else { self.text("client.address") };
        (self.text("identity").to_owned(), address.to_owned())
    }

    pub(super) fn is_of_client(&self) -> bool {
        self.name.starts_with("legacy.") && !self.is_modern()
    }

    /// Whether its client came by Streamable HTTP.
    pub(super) fn is_modern(&self) -> bool {
        matches!(self.name.as_str(), "legacy.upgrade" | "modern.seen")
    }
}

/// One start: its records by number.
#[derive(Debug, Default)]
pub(super) struct Boot {
    pub(super) instance: String,
    pub(super) records: BTreeMap<u64, Record>,
    /// Steps of its clock: the number of the heartbeat that noticed, its time, by how much.
    pub(super) steps: Vec<(u64, i64, i64)>,
}

impl Boot {
    pub(super) fn times(&self) -> impl Iterator<Item = i64> {
        self.records.values().map(|record| record.at)
    }

    pub(super) fn first(&self) -> i64 {
        self.times().min().expect("a record")
    }

    pub(super) fn last(&self) -> i64 {
        self.times().max().expect("a record")
    }

    pub(super) fn stopped(&self) -> bool {
        self.records.values().any(|record| record.name == "proxy.stop")
    }

    fn find_steps(&self) -> Vec<(u64, i64, i64)> {
        let step = |(seq, record): (&u64, &Record)| {
            #[expect(clippy::cast_possible_truncation, reason = "small")]
            let by = (record.fields["clock.step_s"].as_f64()? * 1000.0) as i64;
            (by.abs() > MINUTE).then_some((*seq, record.at, by))
        };
        self.records.iter().filter_map(step).collect()
    }

    /// Every time that record `seq`, which says `at`, may have been written at: by the clock of then, and of later.
    pub(super) fn readings(&self, seq: u64, at: i64) -> Vec<i64> {
        let mut times = vec![at];
        let mut moved = at;
        for (_, noticed, by) in self.steps.iter().filter(|step| step.0 > seq) {
            moved = (moved + by).min(*noticed);
            times.push(moved);
        }
        times
    }

    /// How much later than it says record `seq` may have been written.
    pub(super) fn slow(&self, seq: u64) -> i64 {
        let steps = self.steps.iter().filter(|step| step.0 > seq);
        steps
            .scan(0, |sum, (_, _, by)| {
                *sum += by;
                Some(*sum)
            })
            .max()
            .unwrap_or(0)
            .max(0)
    }
}

/// All that was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) boots: BTreeMap<(String, String), Boot>,
    /// When damaged lines were written at the latest.
    pub(super) damaged: Vec<i64>,
    /// Boots after whose record a file breaks off.
    pub(super) cut: Vec<(String, String)>,
    pub(super) future: bool,
}

impl Given {
    /// Whether nothing says what became of a replica that was there after `start`.
    pub(super) fn someone_vanished(&self, start: i64, until: i64) -> bool {
        self.boots.values().any(|boot| {
            let same = || self.boots.values().filter(|other| other.instance == boot.instance);
            let last = same().map(Boot::last).max().expect("itself");
            let is_told_of = |other: &Boot| other.stopped() || other.last() >= until - HOUR;
            last > start && !same().any(|other| other.last() == last && is_told_of(other))
        })
    }
}

pub(super) fn ours(fields: &Value) -> bool {
    fields["schema"] == "sse-sunset/1" && fields["log.seq"].is_u64() && fields["@timestamp"].is_string()
}

pub(super) fn gather(files: &[File], until: i64) -> Given {
    let mut given = Given::default();
    for file in files {
        let mut broken = 0;
        let mut last = None;
        for line in file.split_inclusive('\n') {
            let is_cut = !line.ends_with('\n');
            let line = line.trim_end_matches(['\r', '\n']);
            match serde_json::from_str::<Value>(line) {
                Ok(fields) if ours(&fields) => {
                    let says: jiff::Timestamp = fields["@timestamp"].as_str().expect("text").parse().expect("a time");
                    let says = says.as_millisecond();
                    let name = fields["event.name"].as_str().expect("text").to_owned();
                    let key = (
                        fields["service.instance.id"].as_str().expect("text").to_owned(),
                        fields["boot.id"].as_str().expect("text").to_owned(),
                    );
                    let seq = fields["log.seq"].as_u64().expect("a number");
                    let record = Record { at: says.min(until), name, fields };
                    given.future |= says > until + 5_000;
                    given.damaged.extend(std::iter::repeat_n(record.at, std::mem::take(&mut broken)));
                    let boot = given.boots.entry(key.clone()).or_default();
                    boot.instance.clone_from(&key.0);
                    boot.records.entry(seq).or_insert(record);
                    last = Some(key);
                }
                Err(_) if is_cut && line.starts_with('{') => given.cut.extend(last.clone()),
                Err(_) if line.starts_with("{\"@timestamp\":\"") => broken += 1,
                _ => {}
            }
        }
        given.damaged.extend(std::iter::repeat_n(until, broken));
    }
    for boot in given.boots.values_mut() {
        boot.steps = boot.find_steps();
    }
    given
}
