//! The options of the switch-off.
//!
//! `serve` reads them among all others, `sunset plan` alone. The trap: what is left out has a default that depends on
//! other options, so a problem has to name the option that was typed, and not the one that was filled in.

mod values;

use jiff::Timestamp;

pub use values::{date, new_url, share};

use super::reader::Reader;
use super::units;
use super::{Problem, Raw, modern_url};
use crate::report::policy::read_exempt;
use crate::sunset::farewell::uri;
use crate::sunset::notice::LONGEST_URL;
use crate::sunset::{self, Config, Notice, Phase, Plan, Window};
use values::{Brownout, brownout, form, refusing};

/// Reads the options of the switch-off and what they rest on, and no others; `now` is what relative dates count from.
///
/// # Errors
/// All mistakes, `earlier` ones included.
pub fn resolve_sunset(raw: &Raw, earlier: Vec<Problem>, now: Timestamp) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(raw, earlier);
    let public_url = reader.optional("public-url", units::public_url);
    let passthrough = reader.value("passthrough", units::passthrough).unwrap_or_default();
    let upstream = reader.optional("upstream", units::upstream_url);
    let served = upstream.and_then(|upstream| modern_url(public_url.as_ref(), passthrough, upstream.path()));
    let config = reader.sunset(served, now);
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

impl Reader<'_> {
    /// `served` is where the proxy itself serves Streamable HTTP, if it does.
    pub(super) fn sunset(&mut self, served: Option<String>, now: Timestamp) -> Config {
        let plan = self.plan(now);
        if !plan.is_empty() && !self.is_given("new-url") {
            self.check_served(served.as_deref());
        }
        let config = Config {
            notice: self.notice(&plan, served, now),
            plan,
            refuse_with: self.value("refuse-with", form).unwrap_or_default(),
            share: self.value("share", share).unwrap_or_default(),
            end_running: self.value("end-running", units::switch).unwrap_or_default(),
            notify: self.value("notify", units::switch).unwrap_or_default(),
            exempt: self.optional("exempt", |path| read_exempt(path.as_ref())).unwrap_or_default(),
            forced: self.many("force", refusing),
            dry_run: self.optional("dry-run", refusing),
        };
        let mut tried = config.forced.iter().chain(&config.dry_run);
        let freezes = self.is_given("freeze") || tried.any(|phase| *phase == Phase::Freeze);
        if freezes && !self.is_given("state-dir") && !self.is_given("fleet") {
            self.problem(
                "freeze needs --state-dir DIR (or --fleet URL), to remember who was seen before it".to_owned(),
            );
        }
        config
    }

    fn plan(&mut self, now: Timestamp) -> Plan {
        let [announce, freeze, tombstone, gone] =
            ["announce", "freeze", "tombstone", "gone"].map(|name| self.date(name, now));
        let mut plan = Plan { announce, freeze, brownouts: Vec::new(), tombstone, gone };
        plan.brownouts = self.brownouts(&plan, now);
        for problem in plan.problems() {
            self.problem(problem);
        }
        plan
    }

    fn date(&mut self, name: &'static str, now: Timestamp) -> Option<Timestamp> {
        self.optional(name, |text| date(text, now))
    }

    fn brownouts(&mut self, plan: &Plan, now: Timestamp) -> Vec<Window> {
        let given = self.many("brownout", |text| brownout(text, now));
        let mut windows: Vec<Window> = Vec::new();
        for brownout in &given {
            match brownout {
                Brownout::Window(window) => windows.push(*window),
                Brownout::Ladder if given.len() > 1 => {
                    self.problem("--brownout: ladder stands alone; leave it or the other windows out".to_owned());
                    return Vec::new();
                }
                Brownout::Ladder => windows = self.ladder(plan),
            }
        }
        windows.sort_by_key(|window| window.from);
        windows
    }

    /// From the freeze (else the announcement) to the tombstone (else the end).
    fn ladder(&mut self, plan: &Plan) -> Vec<Window> {
        let begin = self.first_given(&["freeze", "announce"]);
        let end = self.first_given(&["tombstone", "gone"]);
        let (Some(begin), Some(end)) = (begin, end) else {
            self.problem(
                "--brownout ladder is spread from --freeze (or --announce) to --tombstone (or --gone): give a date for both"
                    .to_owned(),
            );
            return Vec::new();
        };
        let (Some(from), Some(until)) = (plan.freeze.or(plan.announce), plan.tombstone.or(plan.gone)) else {
            // Their own problems were told.
            return Vec::new();
        };
        sunset::ladder(from, until).unwrap_or_else(|| {
            let least = sunset::LADDER_LEAST.as_hours() / 24;
            self.problem(format!(
                "--brownout ladder needs {least} days from --{begin} {from} to --{end} {until} ({} keep the last day free); \
                 move a date, or give windows one by one",
                least + 1
            ));
            Vec::new()
        })
    }

    fn first_given(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.is_given(name))
    }

    fn notice(&mut self, plan: &Plan, served: Option<String>, now: Timestamp) -> Notice {
        let deprecation = self.date("deprecation", now);
        let sunset = self.date("sunset", now);
        if let (Some(sunset), false) = (sunset, plan.tombstone.is_none() && plan.gone.is_none()) {
            self.check_sunset(sunset, plan);
        }
        let last = self.first_given(&["sunset", "tombstone", "gone"]).unwrap_or_default();
        let first = self.first_given(&["deprecation", "announce"]).unwrap_or_default();
        let notice = Notice {
            new_url: self
                .optional("new-url", new_url)
                .map(|url| uri(url.as_str()))
                .or(served.filter(|url| url.len() <= LONGEST_URL)),
            info_url: self.optional("info-url", units::upstream_url).map(|url| uri(url.as_str())),
            deprecation: deprecation.or(plan.announce),
            sunset: sunset.or(plan.tombstone).or(plan.gone),
        };
        if let (Some(deprecation), Some(sunset)) = (notice.deprecation, notice.sunset)
            && deprecation > sunset
            // The order of the phases was told.
            && (first, last) != ("announce", "tombstone")
            && (first, last) != ("announce", "gone")
        {
            self.problem(format!(
                "--{last} {sunset} is before --{first} {deprecation}: the header Sunset must not be earlier than Deprecation \
                 (RFC 9745 §4); give a later --{last} or an earlier --{first}"
            ));
        }
        notice
    }

    /// What is announced has to be what happens: earlier, clients would be told that something ended which goes on; later,
    /// they would be refused before their time.
    fn check_sunset(&mut self, sunset: Timestamp, plan: &Plan) {
        let ends = [("tombstone", plan.tombstone), ("gone", plan.gone)];
        let ends: Vec<(&str, Timestamp)> = ends.into_iter().filter_map(|(name, date)| Some((name, date?))).collect();
        if let Some((name, date)) = ends.first().filter(|(_, date)| sunset < *date) {
            self.problem(format!(
                "--sunset {sunset} is before --{name} {date}: clients would be told that HTTP+SSE has ended while it goes on; \
                 leave --sunset out, or move one of the two"
            ));
        }
        if let Some((name, date)) = ends.last().filter(|(_, date)| sunset > *date) {
            self.problem(format!(
                "--sunset {sunset} is after --{name} {date}: clients would be refused before the date that they were told; \
                 leave --sunset out, or move one of the two"
            ));
        }
    }

    /// Every word to clients names the new URL, and it is no option that says which.
    fn check_served(&mut self, served: Option<&str>) {
        match served {
            Some(url) if url.len() > LONGEST_URL => self.problem(format!(
                "{url}, where Streamable HTTP is spoken, has more than {LONGEST_URL} characters, and no message to clients \
                 has room for it; give a shorter --new-url"
            )),
            Some(_) => {}
            None => self.problem(
                "the switch-off tells clients where to go: give --new-url, or --public-url with --passthrough (then it is \
                 the path of --upstream there)"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Given, Origin};
    use super::*;

    const NOW: &str = "2026-11-22T08:00:00.5Z";
    const URL: (&str, &str) = ("new-url", "https://mcp.example.com/mcp");

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn read(options: &[(&'static str, &str)]) -> Result<Config, Vec<String>> {
        let mut raw = Raw::new();
        for (name, value) in options {
            let given = raw.entry(name).or_insert(Given { values: Vec::new(), origin: Origin::Flag });
            given.values.extend(value.split(',').map(str::to_owned));
        }
        resolve_sunset(&raw, Vec::new(), at(NOW)).map_err(|all| all.iter().map(ToString::to_string).collect())
    }

    /// The one problem of `options` with a new URL and a state directory.
    fn problem(options: &[(&'static str, &str)]) -> String {
        let problems = read(&[&[URL, ("state-dir", "/state")], options].concat()).expect_err("something is wrong");
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.concat()
    }

    #[test]
    fn nothing_given_is_nothing_planned() {
        let config = read(&[]).expect("valid");
        assert!(config.plan.is_empty() && config.notice == Notice::default() && config.dry_run.is_none());
        assert_eq!(config.share.basis_points, 10_000);
    }

    #[test]
    fn dates_are_days_times_of_any_offset_and_from_now_on() {
        for (text, expected) in [
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2026-12-01T09:30:00+02:00", "2026-12-01T07:30:00Z"),
            ("2026-12-01T09:30:00.75Z", "2026-12-01T09:30:00Z"),
            ("+2m", "2026-11-22T08:02:00Z"),
            ("+1d 2h", "2026-11-23T10:00:00Z"),
        ] {
            assert_eq!(date(text, at(NOW)), Ok(at(expected)), "{text}");
        }
        for (text, problem) in [
            ("2026-12-01T09:30:00", "with its zone"),
            ("2026-12-01 09:30", "with its zone"),
            ("2026-13-01", "not a date"),
            ("soon", "not a date"),
            ("", "not a date"),
            ("+5", "needs a unit, such as 5m"),
            ("+", "no duration"),
            ("+-5m", "no duration"),
            ("+3000000d", "too far"),
        ] {
            let found = date(text, at(NOW));
            assert!(found.as_ref().is_err_and(|found| found.contains(problem)), "{text}: {found:?}");
        }
    }

    #[test]
    fn headers_have_the_dates_of_the_phases_unless_others_are_given() {
        let dates = [("announce", "2026-12-01"), ("tombstone", "2027-01-15"), ("gone", "2027-02-01")];
        let config = read(&[&[URL], &dates[..]].concat()).expect("valid");
        assert_eq!(config.notice.deprecation, Some(at("2026-12-01T00:00:00Z")));
        assert_eq!(config.notice.sunset, Some(at("2027-01-15T00:00:00Z")));
        let config = read(&[URL, dates[2]]).expect("valid");
        assert_eq!(config.notice.sunset, config.plan.gone);
        let own = [("deprecation", "2026-06-01"), ("sunset", "2027-01-20")];
        let config = read(&[&[URL], &dates[..], &own].concat()).expect("valid");
        assert_eq!(config.notice.deprecation, Some(at("2026-06-01T00:00:00Z")));
        assert_eq!(config.notice.sunset, Some(at("2027-01-20T00:00:00Z")));
    }

    #[test]
    fn sunset_is_neither_before_deprecation_nor_another_day_than_the_end() {
        let day = ("tombstone", "2026-12-10");
        let found = problem(&[("deprecation", "2026-12-11"), day]);
        assert!(found.contains("--tombstone 2026-12-10T00:00:00Z is before --deprecation"), "{found}");
        assert!(found.contains("RFC 9745"), "{found}");
        let found = problem(&[("announce", "2026-12-11"), ("sunset", "2026-12-10")]);
        assert!(found.contains("--sunset 2026-12-10T00:00:00Z is before --announce"), "{found}");
        assert!(read(&[URL, ("deprecation", "2026-12-10"), day]).is_ok(), "the same day is not earlier");
        assert!(problem(&[("sunset", "2026-12-09"), day]).contains("is before --tombstone"));
        assert!(problem(&[("sunset", "2026-12-11"), day]).contains("is after --tombstone"));
        assert!(read(&[URL, ("sunset", "2026-12-11"), day, ("gone", "2026-12-12")]).is_ok());
        assert!(problem(&[("sunset", "2026-12-13"), day, ("gone", "2026-12-12")]).contains("is after --gone"));
    }

    #[test]
    fn phases_out_of_order_are_one_problem() {
        let found = problem(&[("announce", "2026-12-02"), ("tombstone", "2026-12-01")]);
        assert!(found.contains("--tombstone 2026-12-01T00:00:00Z is not after --announce"), "{found}");
    }

    #[test]
    fn brownouts_are_intervals_in_any_order() {
        let list = "2026-12-02T14:00:00Z/2026-12-02T15:00:00+00:30,2026-12-01/5m, 2026-12-03T10:00:00Z/PT1H,+1h/+2h";
        let config = read(&[URL, ("brownout", list)]).expect("valid");
        let windows: Vec<String> =
            config.plan.brownouts.iter().map(|window| format!("{} {}", window.from, window.until)).collect();
        let expected = [
            "2026-11-22T09:00:00Z 2026-11-22T10:00:00Z",
            "2026-12-01T00:00:00Z 2026-12-01T00:05:00Z",
            "2026-12-02T14:00:00Z 2026-12-02T14:30:00Z",
            "2026-12-03T10:00:00Z 2026-12-03T11:00:00Z",
        ];
        assert_eq!(windows, expected);
        for (bad, expected) in [
            ("2026-12-01", "START/DURATION"),
            ("2026-12-01/5", "not a date"),
            ("2026-12-02/2026-12-01", "ends before it begins"),
            ("2026-12-01/0s", "a second at least"),
            ("2026-12-01/5 parsecs", "a second at least"),
        ] {
            let found = problem(&[("brownout", bad)]);
            assert!(found.contains("--brownout") && found.contains(expected), "{bad}: {found}");
        }
        assert!(problem(&[("brownout", "2026-12-01/2h,2026-12-01T01:00:00Z/5m")]).contains("touch"));
    }

    #[test]
    fn ladder_needs_dates_and_room_and_stands_alone() {
        let room = [("announce", "2026-12-01"), ("freeze", "2026-12-05"), ("tombstone", "2027-01-15")];
        let config = read(&[&[URL, ("state-dir", "/state"), ("brownout", "ladder")], &room[..]].concat());
        let plan = config.expect("valid").plan;
        assert_eq!(plan.brownouts.len(), 6);
        assert!(plan.brownouts[0].from > at("2026-12-05T00:00:00Z"));
        let found = problem(&[("brownout", "ladder"), ("freeze", "2026-12-01"), ("tombstone", "2026-12-08")]);
        assert!(found.contains("needs 8 days from --freeze 2026-12-01T00:00:00Z to --tombstone"), "{found}");
        assert!(problem(&[("brownout", "ladder"), ("announce", "2026-12-01")]).contains("give a date for both"));
        assert!(problem(&[&[("brownout", "ladder,2026-12-06/5m")], &room[..]].concat()).contains("stands alone"));
    }

    #[test]
    fn switch_off_names_where_to_go() {
        let missing = |options: &[(&'static str, &str)]| read(options).expect_err("no URL").concat();
        for option in [("announce", "2026-12-01"), ("brownout", "+1h/5m"), ("gone", "2026-12-01")] {
            assert!(missing(&[option]).contains("give --new-url, or --public-url"), "{option:?}");
        }
        assert!(read(&[("dry-run", "gone")]).is_ok(), "whom it would hit can be asked before anything is decided");
        let served = [
            ("announce", "2026-12-01"),
            ("public-url", "https://mcp.example.com/"),
            ("passthrough", "mcp"),
            ("upstream", "http://127.0.0.1:3001/mcp"),
        ];
        let config = read(&served).expect("valid");
        assert_eq!(config.notice.new_url.as_deref(), Some("https://mcp.example.com/mcp"));
        assert!(missing(&served[..3]).contains("--upstream"));
        let long = format!("https://mcp.example.com/{}", "a".repeat(80));
        assert!(missing(&[served[0], ("public-url", &long), served[2], served[3]]).contains("shorter --new-url"));
        let unplanned = read(&[("public-url", &long), served[2], served[3]]).expect("valid");
        assert_eq!(unplanned.notice.new_url, None, "a phase entered by hand has no room for it either");
        for (url, expected) in [
            (long.as_str(), "has 104 characters; with more than 80"),
            ("https://user:pass@mcp.example.com/mcp", "must not hold a user"),
            ("https://mcp.example.com/mcp?key=hunter2", "must not have a query"),
            ("mcp.example.com", "is not an http"),
        ] {
            let found = missing(&[served[0], ("new-url", url)]);
            assert!(found.contains(expected) && !found.contains("hunter2") && !found.contains("pass@"), "{found}");
        }
    }

    #[test]
    fn freeze_needs_a_memory() {
        for option in [("freeze", "2026-12-01"), ("dry-run", "freeze"), ("force", "gone,freeze")] {
            let found = read(&[URL, option]).expect_err("nothing to remember with").concat();
            assert!(found.contains("freeze needs --state-dir"), "{found}");
            for memory in [("state-dir", "/state"), ("fleet", "redis://redis")] {
                assert!(read(&[URL, option, memory]).is_ok(), "{memory:?}");
            }
        }
    }

    #[test]
    fn phases_that_are_forced_or_tried_refuse_somebody() {
        let config = read(&[URL, ("force", "brownout, tombstone"), ("dry-run", "gone")]).expect("valid");
        assert_eq!((config.forced, config.dry_run), (vec![Phase::Brownout, Phase::Tombstone], Some(Phase::Gone)));
        assert!(problem(&[("force", "gome")]).contains("is none of observe, announce"));
        assert!(problem(&[("dry-run", "announce")]).contains("refuses nobody"));
        assert!(problem(&[("refuse-with", "http503")]).contains("neither jsonrpc nor http"));
    }

    #[test]
    fn dates_of_a_file_need_no_quotes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sunset.toml");
        let text = "announce = 2026-12-01\ngone = 2027-01-01T09:00:00+01:00\nnew-url = \"https://a/mcp\"\nforce = [\"gone\"]\n";
        std::fs::write(&path, text).expect("written");
        let mut raw = Raw::new();
        assert_eq!(super::super::read_file(&path, &mut raw), []);
        let plan = resolve_sunset(&raw, Vec::new(), at(NOW)).expect("valid").plan;
        assert_eq!((plan.announce, plan.gone), (Some(at("2026-12-01T00:00:00Z")), Some(at("2027-01-01T08:00:00Z"))));
    }

    #[test]
    fn exempt_file_that_cannot_be_read_is_told() {
        assert!(problem(&[("exempt", "/nowhere/exempt.toml")]).contains("cannot read /nowhere/exempt.toml"));
    }
}
