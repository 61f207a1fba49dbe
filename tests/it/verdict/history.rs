//! Histories by chance: replicas that start, stop and crash, clients of every habit, and what happens to their logs.

use std::fmt::Write as _;

use sse_sunset::report::outcome::Waiver;

use super::log::{BEAT, Boot, DAY, End, File, HOUR, MINUTE, NOW, SECOND, Who, file};
use crate::simulation::chance::Chance;

/// A history.
#[derive(Debug)]
pub(super) struct History {
    pub(super) window: i64,
    pub(super) boots: Vec<Boot>,
    pub(super) waivers: Vec<Waiver>,
}

/// What may happen to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Clocks that are wrong and are set.
    pub(super) has_odd_clocks: bool,
    /// Times without a replica, lost records.
    pub(super) has_gaps: bool,
}

struct Maker {
    chance: Chance,
    window: i64,
    begin: i64,
    boots: Vec<(Boot, Life)>,
    sessions: u64,
}

/// When a boot lived, and how it ended.
#[derive(Debug, Clone, Copy)]
struct Life {
    from: i64,
    to: i64,
    stops: bool,
}

/// A client and its habit.
struct Habit {
    doors: Vec<Who>,
    names: Vec<Who>,
    every: i64,
    first: i64,
    last: i64,
    goes_as_far_as: u64,
}

pub(super) fn history(seed: u64, kind: Kind) -> History {
    let mut chance = Chance::new(seed, 0);
    // Short windows make short logs; in a long one, an hour is less than one in a hundred.
    let window = if chance.one_in(8) { 5 * DAY } else { chance.pick(&[36 * HOUR, 2 * DAY]) };
    // Mostly longer than the window: evidence that is too young is one rule of many.
    let length = window * i64::try_from(4 + chance.below(9)).expect("small") / 5;
    let mut maker = Maker { chance, window, begin: NOW - length, boots: Vec::new(), sessions: 0 };
    maker.replicas(kind);
    for number in 0..=maker.chance.below(6) {
        maker.client(number);
    }
    if maker.chance.one_in(2) {
        let at = maker.time(maker.begin, NOW);
        maker.somewhere(at, |boot, at| boot.add(at, "canary.seen", r#","canary.latency_s":0.1"#));
    }
    // By dice of its own: what else happens is the same without.
    let dice = std::mem::replace(&mut maker.chance, Chance::new(seed, 9));
    maker.moves();
    maker.chance = Chance::new(seed, 10);
    maker.phases();
    maker.chance = dice;
    if kind.has_odd_clocks {
        maker.clocks();
    }
    let waivers = maker.waivers();
    let boots = maker.boots.into_iter().map(|(boot, _)| boot).collect();
    History { window, boots, waivers }
}

impl Maker {
    fn time(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from(to - from).unwrap_or(0).max(1);
        from + i64::try_from(self.chance.below(span)).expect("small")
    }

    fn replicas(&mut self, kind: Kind) {
        let count = 1 + self.chance.below(2) + u64::from(self.chance.one_in(6)) * 2;
        for replica in 0..count {
            let mut from = if replica == 0 { self.begin } else { self.time(self.begin, NOW) };
            for number in 0.. {
                let is_last = number > 3 || !self.chance.one_in(3);
                let to = if is_last { NOW } else { self.time(from, NOW) };
                let mut stops = !self.chance.one_in(2);
                let mut to = to;
                if is_last {
                    stops = false;
                    // Some are gone for good.
                    if replica > 0 && self.chance.one_in(4) {
                        (to, stops) = (self.time(from, NOW), self.chance.one_in(2));
                    }
                }
                let life = Life { from, to: to.max(from + MINUTE).min(NOW), stops };
                self.boot(replica, number, life, kind);
                if is_last {
                    break;
                }
                let pause = if kind.has_gaps && self.chance.one_in(3) {
                    self.chance.ms(1, 7_000_000)
                } else {
                    self.chance.ms(1, 30_000)
                };
                from = life.to + i64::try_from(pause.as_millis()).expect("small");
                if from + MINUTE > NOW {
                    break;
                }
            }
        }
        if self.chance.one_in(3) {
            self.name_each_other();
        }
    }

    fn boot(&mut self, replica: u64, number: u64, life: Life, kind: Kind) {
        let id = format!("b{replica}{number}");
        let mut boot = Boot::new(&format!("r{replica}"), &id);
        boot.add(life.from, "proxy.start", r#","config.hash":"1""#);
        // The first replica proves the time; others may be as silent as they like.
        let every = if replica == 0 { BEAT } else { self.chance.pick(&[BEAT, 10 * MINUTE, HOUR]) };
        let (mut at, mut lost) = (life.from + every, 0);
        while at < life.to {
            if kind.has_gaps && self.chance.one_in(3_000) {
                lost += 1 + self.chance.below(3);
            }
            if kind.has_gaps && self.chance.one_in(3_000) {
                let silence = self.chance.ms(1_000, 5_000_000);
                at += i64::try_from(silence.as_millis()).expect("small");
            } else {
                let more = if lost > 0 { format!(r#","log.lost":{lost}"#) } else { String::new() };
                boot.beat(at, &more);
                at += every;
            }
        }
        let name = if life.stops { "proxy.stop" } else { "proxy.heartbeat" };
        let more = if lost > 0 { format!(r#","log.lost":{lost}"#) } else { String::new() };
        boot.add(life.to, name, &more);
        self.boots.push((boot, life));
    }

    /// Heartbeats list the boots that run beside them.
    fn name_each_other(&mut self) {
        let lives: Vec<(String, Life)> =
            self.boots.iter().map(|(boot, life)| (format!("{}/{}", boot.instance, boot.id), *life)).collect();
        for (index, (boot, _)) in self.boots.iter_mut().enumerate() {
            for record in boot.records.iter_mut().filter(|record| record.name == "proxy.heartbeat").step_by(7) {
                let others = lives
                    .iter()
                    .enumerate()
                    .filter(|(other, (_, life))| *other != index && (life.from..=life.to).contains(&record.at));
                let names: Vec<String> = others.map(|(_, (name, _))| format!("\"{name}\"")).collect();
                let _ = write!(record.more, r#","fleet.boots":[{}]"#, names.join(","));
            }
        }
    }

    fn client(&mut self, number: u64) {
        // Few names and addresses, so that clients share them.
        let address = |maker: &mut Maker| format!("a{}", maker.chance.below(4));
        let addresses: Vec<String> = (0..=self.chance.below(2)).map(|_| address(self)).collect();
        let product = self.chance.pick(&["ua:python-httpx", "ua:node"]);
        let doors: Vec<Who> = addresses.iter().map(|at| Who::new(product, "user_agent", at)).collect();
        let shared = self.chance.pick(&["mcp", "Cursor", "x"]);
        let names: Vec<Who> = match self.chance.below(4) {
            0 => addresses.iter().map(|at| Who::new(&format!("client_id:c{number}"), "client_id", at)).collect(),
            1 => doors.clone(),
            _ => addresses.iter().map(|at| Who::named(shared, at)).collect(),
        };
        let doors = if names[0].source == "client_id" { names.clone() } else { doors };
        let parts = [self.window / 6, self.window / 3, self.window * 7 / 10, self.window * 11 / 10, self.window * 3];
        let every = self.chance.pick(&parts);
        let (first, last) = (self.time(self.begin, NOW), self.time(self.begin, NOW + self.window));
        let habit = Habit { doors, names, every, first, last, goes_as_far_as: self.chance.below(6) };
        let mut at = habit.first;
        for _ in 0..12 {
            if at > habit.last.min(NOW) {
                break;
            }
            self.visit(&habit, at);
            let jitter = self.chance.ms(0, u64::try_from(habit.every / 5).expect("positive"));
            at += habit.every + i64::try_from(jitter.as_millis()).expect("small");
        }
        if self.chance.one_in(3) {
            // To the millisecond, and one beside it.
            let edge = NOW - self.window + self.chance.pick(&[-1, 0, 1]);
            self.visit(&habit, edge);
        }
        if self.chance.one_in(3) {
            for _ in 0..=self.chance.below(3) {
                self.refusal(&habit);
            }
        }
    }

    fn refusal(&mut self, habit: &Habit) {
        let at = self.time(self.begin, NOW);
        let mut who = if self.chance.one_in(3) { &habit.names[0] } else { &habit.doors[0] }.clone();
        if self.chance.one_in(3) {
            who.address = format!("a{}", self.chance.below(5));
        }
        let reason =
            self.chance.pick(&["limit", "host", "origin", "freeze", "gone", "brownout", "tombstone", "request"]);
        let is_dry = self.chance.one_in(4);
        self.somewhere(at, |boot, at| boot.refuse(at, &who, reason, is_dry));
    }

    /// Writes to a boot that lives at `at`, if any does.
    fn somewhere(&mut self, at: i64, write: impl FnOnce(&mut Boot, i64)) {
        let alive: Vec<usize> = self.alive(at);
        if !alive.is_empty() {
            let index = self.chance.pick(&alive);
            write(&mut self.boots[index].0, at);
        }
    }

    fn alive(&self, at: i64) -> Vec<usize> {
        let lives = self.boots.iter().enumerate();
        lives.filter(|(_, (_, life))| life.from < at && at < life.to).map(|(index, _)| index).collect()
    }

    /// A session: what goes on in it, and how it ends.
    fn visit(&mut self, habit: &Habit, at: i64) {
        let alive = self.alive(at);
        if alive.is_empty() {
            return;
        }
        let index = self.chance.pick(&alive);
        self.sessions += 1;
        let label = format!("s{}", self.sessions);
        let place = self.chance.index(habit.doors.len());
        let (door, name) = (habit.doors[place].clone(), habit.names[place].clone());
        let lasts = self.chance.pick(&[SECOND, MINUTE, 40 * MINUTE, 3 * HOUR, DAY, 8 * DAY]);
        let uses: Vec<i64> = match habit.goes_as_far_as {
            0 | 1 => Vec::new(),
            _ => {
                let count = 1 + self.chance.below(4);
                let mut uses: Vec<i64> = (0..count).map(|_| self.time(at + 2, at + 2 + lasts / 2)).collect();
                uses[0] = at + 2;
                uses.sort_unstable();
                uses
            }
        };
        let is_merged = self.chance.one_in(12);
        let comes_back = self.chance.one_in(6).then(|| self.time(at + 2, at + lasts));
        let (boot, life) = &mut self.boots[index];
        let end = (at + lasts).min(if life.stops { life.to - 1 } else { i64::MAX });
        boot.connect(at, &label, &door);
        if habit.goes_as_far_as > 0 && at + 1 < life.to {
            boot.identify(at + 1, &label, &name);
        }
        let done: Vec<i64> = uses.into_iter().filter(|use_at| *use_at < life.to && *use_at < end).collect();
        write_uses(boot, &label, &name, &done);
        if self.sessions.is_multiple_of(3) {
            boot.rehearse(at, &label, &door, "gone");
        }
        if let Some(at) = comes_back.filter(|at| *at < life.to && *at < end) {
            boot.reconnect(at, &label, &name);
        }
        if end < life.to || (life.stops && end <= life.to) {
            let engagement = match (habit.goes_as_far_as, done.is_empty()) {
                (_, false) => "use",
                (0, _) => "connect",
                (1, _) => "handshake",
                _ => "discovery",
            };
            let reason = if is_merged { "merged" } else { "client_closed" };
            let who = if habit.goes_as_far_as == 0 { &door } else { &name };
            let how = End { reason, engagement, uses: done.len() as u64, last_use: done.last().copied() };
            boot.end(end, &label, who, &how);
        }
    }

    /// Some boots pass modern clients through, and some clients come that way or are upgraded.
    fn moves(&mut self) {
        let ways =
            self.chance.pick(&[&["mcp"][..], &["off"], &["all", "off"], &["", "mcp"], &["mcp", "mcp", ""], &[""]]);
        let mut counts = Vec::new();
        for index in 0..self.boots.len() {
            let way = self.chance.pick(ways);
            counts.push(way != "off");
            if !way.is_empty() {
                self.boots[index].0.passes(way);
            }
        }
        for _ in 0..self.chance.below(9) {
            let (identity, source) = self.chance.pick(&[
                ("name:mcp", "client_info"),
                ("name:Cursor", "client_info"),
                ("name:x", "client_info"),
                ("ua:node", "user_agent"),
                ("client_id:c0", "client_id"),
                ("client_id:c1", "client_id"),
                ("client_id:c2", "client_id"),
                ("client_id:new", "client_id"),
            ]);
            let address = if source == "client_id" { "x".to_owned() } else { format!("a{}", self.chance.below(5)) };
            let who = Who::new(identity, source, &address);
            let is_upgrade = self.chance.one_in(2);
            for _ in 0..=self.chance.below(4) {
                let at = self.time(self.begin, NOW);
                let alive: Vec<usize> =
                    self.alive(at).into_iter().filter(|index| is_upgrade || counts[*index]).collect();
                if alive.is_empty() {
                    continue;
                }
                let index = self.chance.pick(&alive);
                let boot = &mut self.boots[index].0;
                if is_upgrade { boot.upgrade(at, &who) } else { boot.modern(at, &who) }
            }
        }
    }

    /// Phases come and go, at about the same time on all boots that live, and some starts tell what holds.
    fn phases(&mut self) {
        let names = ["observe", "announce", "freeze", "brownout", "tombstone", "gone"];
        let mut before = "observe";
        let mut times: Vec<i64> = (0..self.chance.below(5)).map(|_| self.time(self.begin, NOW)).collect();
        times.sort_unstable();
        for at in times {
            let phase = self.chance.pick(&names);
            let by = self.chance.pick(&["plan", "operator", "guard"]);
            let more = self.chance.pick(&["", r#","sunset.paused":true"#, r#","sunset.dry_run":"gone""#]);
            let more = format!(r#","sunset.by":"{by}"{more}"#);
            for index in self.alive(at) {
                let skew = i64::try_from(self.chance.below(2_000)).expect("small");
                let (boot, life) = &mut self.boots[index];
                boot.phase((at + skew).min(life.to - 1), phase, before, &more);
            }
            before = phase;
        }
        for index in 0..self.boots.len() {
            if self.chance.one_in(3) {
                let (boot, life) = &mut self.boots[index];
                boot.phase(life.from + 1, before, before, r#","sunset.by":"start""#);
            }
        }
    }

    /// One boot's clock is wrong for a while, or for good.
    fn clocks(&mut self) {
        let index = self.chance.index(self.boots.len());
        let (boot, life) = &self.boots[index];
        let beats: Vec<i64> =
            boot.records.iter().filter(|record| record.name == "proxy.heartbeat").map(|record| record.at).collect();
        let life = *life;
        let by = self.chance.pick(&[
            -2 * DAY,
            -HOUR,
            -5 * MINUTE,
            -30 * SECOND,
            30 * SECOND,
            5 * MINUTE,
            HOUR,
            DAY,
            4 * DAY,
        ]);
        let set = self.time(life.from, life.to);
        let is_noticed = !self.chance.one_in(4);
        let back = if self.chance.one_in(3) { self.time(set, life.to) } else { i64::MAX };
        let beat_after = |at: i64| beats.iter().copied().filter(|beat| *beat >= at).min();
        let (noticed, again) = (beat_after(set), beat_after(back));
        for record in &mut self.boots[index].0.records {
            // Before `set` it was wrong by as much as it is set then, the other way round.
            let says = |at: i64| if at < set || at >= back { at - by } else { at };
            record.last_use = record.last_use.map(says);
            record.says = says(record.at);
            for (heartbeat, by) in [(noticed, by), (again, -by)] {
                let is_it = Some(record.at) == heartbeat && record.name == "proxy.heartbeat" && is_noticed;
                if is_it && !record.more.contains("clock.step_s") {
                    let _ = write!(record.more, r#","clock.step_s":{}"#, by / 1000);
                }
            }
        }
    }

    fn waivers(&mut self) -> Vec<Waiver> {
        if !self.chance.one_in(4) {
            return Vec::new();
        }
        let today = jiff::Timestamp::from_millisecond(NOW).expect("in range").to_zoned(jiff::tz::TimeZone::UTC).date();
        let days = i64::try_from(self.chance.below(9)).expect("small") - 2;
        let client = self.chance.pick(&["name:mcp", "name:Cursor", "ua:node", "client_id:c0"]);
        let expires = today.saturating_add(jiff::Span::new().days(days));
        vec![Waiver { client: client.to_owned(), owner: "Ada".into(), reason: "moves".into(), expires }]
    }
}

/// The first use of a session, and then one record for each hour with use.
fn write_uses(boot: &mut Boot, label: &str, who: &Who, uses: &[i64]) {
    let mut since = 0;
    let mut last_hour = None;
    for at in uses {
        since += 1;
        if last_hour.replace(at.div_euclid(HOUR)) != Some(at.div_euclid(HOUR)) {
            boot.uses(*at, label, who, since);
            since = 0;
        }
    }
}

/// The files of a history: a replica's boots one after another, cut into pieces.
pub(super) fn files(history: &History, chance: &mut Chance) -> Vec<File> {
    let mut replicas: Vec<(&str, Vec<String>)> = Vec::new();
    for boot in &history.boots {
        match replicas.iter_mut().find(|(instance, _)| *instance == boot.instance) {
            Some((_, lines)) => lines.extend(boot.lines()),
            None => replicas.push((&boot.instance, boot.lines())),
        }
    }
    let mut files = Vec::new();
    for (_, lines) in &replicas {
        let mut rest = lines.as_slice();
        for _ in 0..chance.below(3) {
            let (piece, more) = rest.split_at(chance.index(rest.len() + 1));
            files.push(file(piece));
            rest = more;
        }
        files.push(file(rest));
    }
    files
}

/// Something happens to the files.
pub(super) fn damage(files: &mut Vec<File>, chance: &mut Chance) -> &'static str {
    let index = chance.index(files.len());
    let mut lines: Vec<String> = files[index].lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return "nothing";
    }
    let at = chance.index(lines.len());
    let what = match chance.below(10) {
        0 => {
            lines.remove(at);
            "a line is missing"
        }
        1 => {
            let end = (at + 1 + chance.index(200)).min(lines.len());
            lines.drain(at..end);
            "lines are missing"
        }
        2 if files.len() > 1 => {
            files.remove(index);
            return "a file is missing";
        }
        3 => {
            let text = file(&lines);
            text[..text.len() - 1 - chance.index(150)].clone_into(&mut files[index]);
            return "a file is cut off";
        }
        4 => {
            lines.insert(
                at,
                chance
                    .pick(&[
                        "garbage",
                        "{\"level\":\"info\"}",
                        "{\"@timestamp\":\"2026-11-21T00:00:00Z\",\"message\":\"hello\"}",
                        "[]",
                    ])
                    .to_owned(),
            );
            "a foreign line"
        }
        5 => {
            let copy = files[index].clone();
            files.push(copy);
            return "a file twice";
        }
        6 => {
            let other = (at + 1).min(lines.len() - 1);
            lines.swap(at, other);
            "neighbours swapped"
        }
        7 => {
            let length = lines[at].len();
            lines[at].truncate(1 + chance.index(length));
            "a line is cut off"
        }
        8 => {
            lines.truncate(at);
            "the end is missing"
        }
        _ => {
            lines.drain(..at);
            "the beginning is missing"
        }
    };
    files[index] = file(&lines);
    what
}
