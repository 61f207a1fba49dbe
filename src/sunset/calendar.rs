//! The calendar of a switch-off: what happens when, to whom, and what clients are told, ready to be shown in any form.
//!
//! Its JSON is what programs read (`sunset plan --format json`). It tells what is planned; whether the guard lets a phase
//! begin is known on its day only, and every form says so.

mod ics;
mod text;

use jiff::Timestamp;
use serde::Serialize;

pub use ics::ics;
pub use text::text;

use super::notice::iso;
use super::phase::Phase;
use super::{Config, Form, Notice};
use crate::report::outcome::Waiver;

/// The schema of the JSON form.
pub const SCHEMA: &str = "sse-sunset-plan/1";
/// What happens to clients after a brownout.
const AS_BEFORE: &str = "as before the brownout";

/// A calendar.
#[derive(Debug, Clone, Serialize)]
pub struct Calendar {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// When it was made.
    pub generated: Timestamp,
    /// What the plan has for that time.
    pub now: Now,
    /// Every change of phase, in order.
    pub steps: Vec<Row>,
    /// The headers of every answer on the legacy paths from `announce` on.
    pub headers: Vec<Header>,
    /// Where Streamable HTTP is spoken.
    pub new_url: Option<String>,
    /// A page for people that says more.
    pub info_url: Option<String>,
    /// What a session that is refused is told, by phase.
    pub refusals: Vec<Refusal>,
    /// What the guard holds back; each a sentence.
    pub guard: Vec<String>,
    /// Phases that are entered whomever they hit.
    pub forced: Vec<Phase>,
    /// The phase of which it is written whom it would refuse, besides all that happens.
    pub dry_run: Option<Phase>,
    /// Who is refused by nothing before it is all gone.
    pub exempt: Vec<Waiver>,
    /// What a person should know besides; each a sentence.
    pub notes: Vec<String>,
}

/// What the plan has for the time at which a calendar is made.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Now {
    /// The phase.
    pub phase: Phase,
    /// Until when; none where nothing follows.
    pub until: Option<Timestamp>,
}

/// A change of phase.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// When.
    pub at: Timestamp,
    /// Until when it holds; none for the last.
    pub until: Option<Timestamp>,
    /// The day of the week, in UTC: `Mon`.
    pub weekday: String,
    /// To which phase.
    pub phase: Phase,
    /// The brownout's number, from 1.
    pub brownout: Option<usize>,
    /// Whether it is what was before a brownout, and again after it.
    pub is_return: bool,
    /// How long it holds, in seconds.
    pub length_s: Option<i64>,
    /// What happens to clients.
    pub clients: String,
}

/// A header that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a session that is refused is told.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// In which phase; of brownouts, the first.
    pub phase: Phase,
    /// The text.
    pub text: String,
}

impl Calendar {
    /// The calendar of `config`, as it is at `now`.
    #[must_use]
    pub fn new(config: &Config, now: Timestamp) -> Self {
        let steps = rows(config);
        let planned = config.plan.at(now);
        let notice = &config.notice;
        let says = !steps.is_empty();
        Calendar {
            schema: SCHEMA,
            generated: now,
            now: Now { phase: planned.phase, until: planned.until },
            headers: if says { headers(notice) } else { Vec::new() },
            new_url: notice.new_url.clone(),
            info_url: notice.info_url.clone(),
            refusals: refusals(&steps, notice),
            guard: guard(&steps, &config.forced),
            forced: config.forced.clone(),
            dry_run: config.dry_run,
            exempt: config.exempt.clone(),
            notes: notes(config, &steps, now),
            steps,
        }
    }

    /// The calendar as JSON; it ends with a line feed.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a calendar holds nothing that JSON cannot") + "\n"
    }

    /// How many brownouts it has.
    fn brownouts(&self) -> usize {
        self.steps.iter().filter_map(|row| row.brownout).max().unwrap_or(0)
    }
}

impl Row {
    /// What it is called among `brownouts` windows: `brownout 2 of 6`.
    fn name(&self, brownouts: usize) -> String {
        match self.brownout {
            Some(number) if brownouts > 1 => format!("{} {number} of {brownouts}", self.phase),
            _ => self.phase.to_string(),
        }
    }
}

fn rows(config: &Config) -> Vec<Row> {
    let (mut brownouts, mut highest) = (0, Phase::Observe);
    let row = |step: super::plan::Step| {
        // Phases that last only rise: one that was there already has come back.
        let is_return = step.phase != Phase::Brownout && step.phase <= highest;
        if step.phase == Phase::Brownout {
            brownouts += 1;
        } else {
            highest = highest.max(step.phase);
        }
        Row {
            at: step.at,
            until: step.until,
            weekday: step.at.strftime("%a").to_string(),
            phase: step.phase,
            brownout: (step.phase == Phase::Brownout).then_some(brownouts),
            is_return,
            length_s: step.until.map(|until| until.as_second() - step.at.as_second()),
            clients: if is_return { AS_BEFORE.to_owned() } else { clients(config, step.phase) },
        }
    };
    config.plan.steps().into_iter().map(row).collect()
}

/// What happens to clients in `phase`.
fn clients(config: &Config, phase: Phase) -> String {
    let (sessions, others) = match config.share.basis_points {
        10_000 => ("new sessions".to_owned(), ""),
        points => {
            (format!("new sessions of {} of the clients", percent(points)), "; other clients are served as before")
        }
    };
    let how = match config.refuse_with {
        Form::Rpc => "an error that names the new URL",
        Form::Http => "503 and Retry-After",
    };
    let running = if config.end_running { "running ones end" } else { "running ones go on" };
    match phase {
        Phase::Observe => "all are served, and nothing is said".to_owned(),
        Phase::Announce => "all are served; answers say that HTTP+SSE ends".to_owned(),
        Phase::Freeze => "who was seen before is served; newcomers are refused".to_owned(),
        Phase::Brownout | Phase::Tombstone => format!("{sessions} get {how}; {running}{others}"),
        Phase::Gone => "every request of HTTP+SSE is answered 410; running sessions end".to_owned(),
    }
}

/// `5%`, `0.5%`, `0.25%`
fn percent(basis_points: u16) -> String {
    let (whole, fraction) = (basis_points / 100, basis_points % 100);
    let text = format!("{whole}.{fraction:02}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// As they are usually written, though HTTP/2 sends names in small letters.
fn headers(notice: &Notice) -> Vec<Header> {
    let capital = |name: &str| name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)).collect();
    let sent = notice.headers().into_iter();
    sent.filter_map(|(name, value)| {
        Some(Header { name: capital(name.as_str()), value: value.to_str().ok()?.to_owned() })
    })
    .collect()
}

fn refusals(steps: &[Row], notice: &Notice) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = Vec::new();
    for row in steps.iter().filter(|row| row.phase >= Phase::Freeze) {
        if refusals.iter().all(|told| told.phase != row.phase) {
            let until = row.until.filter(|_| row.phase == Phase::Brownout);
            refusals.push(Refusal { phase: row.phase, text: notice.text(row.phase, until) });
        }
    }
    refusals
}

fn guard(steps: &[Row], forced: &[Phase]) -> Vec<String> {
    let planned = |phase: &Phase| phase.hits_users() && steps.iter().any(|row| row.phase == *phase);
    let (entered, held): (Vec<Phase>, Vec<Phase>) =
        Phase::ALL.into_iter().filter(planned).partition(|phase| forced.contains(phase));
    let mut sentences = Vec::new();
    if let Some(first) = held.first() {
        let (is, it) = if held.len() == 1 { ("is", "it") } else { ("are", "they") };
        sentences.push(format!(
            "{} {is} held back while {it} would hit clients that used the server inside the window of the report, unless the \
             verdict is SAFE; --force {first} enters it all the same",
            list(&held)
        ));
    }
    if !entered.is_empty() {
        let begins = if entered.len() == 1 { "begins" } else { "begin" };
        sentences.push(format!("{} {begins} whomever it hits (--force)", list(&entered)));
    }
    sentences
}

fn notes(config: &Config, steps: &[Row], now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    if steps.is_empty() {
        notes.push("no date is set, so HTTP+SSE goes on; --announce DATE begins".to_owned());
    }
    if config.plan.announce.is_none() && !steps.is_empty() {
        notes.push(
            "nothing is announced before clients are refused; --announce DATE says it in every answer".to_owned(),
        );
    }
    let end = config.plan.gone.or(config.plan.tombstone);
    for exempt in &config.exempt {
        let expires = exempt.expires;
        if end.is_some_and(|end| expires < end.to_zoned(jiff::tz::TimeZone::UTC).date()) {
            notes.push(format!("the exemption of {} ends on {expires}, before the switch-off does", exempt.client));
        }
    }
    let past = |row: &&Row| row.until.is_some_and(|until| until <= now) && row.phase == Phase::Brownout;
    if let Some(last) = steps.iter().rfind(past) {
        notes.push(format!("the brownouts up to {} are over", iso(last.at)));
    }
    notes
}

/// `a, b and c`
fn list(phases: &[Phase]) -> String {
    match phases {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(|phase| phase.name()).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

#[cfg(test)]
pub(super) mod sample {
    use super::*;
    use crate::sunset::{Plan, Share, Window};

    pub(in crate::sunset) fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    pub(in crate::sunset) fn config() -> Config {
        let window = |from, until| Window { from: at(from), until: at(until) };
        let plan = Plan {
            announce: Some(at("2026-12-01T00:00:00Z")),
            freeze: Some(at("2026-12-15T09:30:00Z")),
            brownouts: vec![
                window("2026-12-20T14:00:00Z", "2026-12-20T14:05:00Z"),
                window("2027-01-04T09:00:00Z", "2027-01-04T10:00:00Z"),
            ],
            tombstone: Some(at("2027-01-15T00:00:00Z")),
            gone: Some(at("2027-02-01T00:00:00Z")),
        };
        let notice = Notice {
            new_url: Some("https://mcp.example.com/mcp".to_owned()),
            info_url: None,
            deprecation: plan.announce,
            sunset: plan.tombstone,
        };
        Config { plan, notice, share: Share::default(), ..Config::default() }
    }

    pub(in crate::sunset) fn calendar() -> Calendar {
        Calendar::new(&config(), at("2026-11-22T08:00:00Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{at, calendar, config};
    use super::*;
    use crate::sunset::Share;

    #[test]
    fn rows_tell_every_change_and_what_comes_back() {
        let calendar = calendar();
        let told: Vec<(String, bool)> =
            calendar.steps.iter().map(|row| (row.name(calendar.brownouts()), row.is_return)).collect();
        let expected = [
            ("announce", false),
            ("freeze", false),
            ("brownout 1 of 2", false),
            ("freeze", true),
            ("brownout 2 of 2", false),
            ("freeze", true),
            ("tombstone", false),
            ("gone", false),
        ];
        assert_eq!(told, expected.map(|(name, is_return)| (name.to_owned(), is_return)));
        assert_eq!(calendar.steps[2].length_s, Some(300));
        assert_eq!((calendar.steps[0].weekday.as_str(), calendar.steps[7].length_s), ("Tue", None));
        assert_eq!((calendar.now.phase, calendar.now.until), (Phase::Observe, Some(calendar.steps[0].at)));
    }

    #[test]
    fn brownout_without_an_announcement_returns_to_observe() {
        let mut config = config();
        (config.plan.announce, config.plan.freeze) = (None, None);
        let calendar = Calendar::new(&config, at("2026-12-21T00:00:00Z"));
        assert_eq!((calendar.steps[1].phase, calendar.steps[1].is_return), (Phase::Observe, true));
        assert!(calendar.notes[0].contains("nothing is announced"), "{:?}", calendar.notes);
        assert!(calendar.notes[1].contains("up to 2026-12-20T14:00Z are over"), "{:?}", calendar.notes);
    }

    #[test]
    fn clients_are_told_as_the_options_say() {
        let mut config = config();
        config.share = Share { basis_points: 50 };
        config.end_running = true;
        config.refuse_with = Form::Http;
        config.forced = vec![Phase::Gone];
        let calendar = Calendar::new(&config, at("2026-11-22T08:00:00Z"));
        let brownout = &calendar.steps[2].clients;
        assert_eq!(
            brownout,
            "new sessions of 0.5% of the clients get 503 and Retry-After; running ones end; other clients are served as before"
        );
        assert_eq!(*brownout, calendar.steps[6].clients, "the tombstone does the same");
        assert_eq!(calendar.steps[3].clients, AS_BEFORE);
        assert!(calendar.guard[0].starts_with("brownout and tombstone are held back"), "{:?}", calendar.guard);
        assert_eq!(calendar.guard[1], "gone begins whomever it hits (--force)");
        assert_eq!([1, 10, 500, 1_225].map(percent), ["0.01%", "0.1%", "5%", "12.25%"]);
    }

    #[test]
    fn json_holds_the_steps_headers_and_texts() {
        let value: serde_json::Value = serde_json::from_str(&calendar().json()).expect("JSON");
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!(value["steps"][0]["at"], "2026-12-01T00:00:00Z");
        assert_eq!(value["steps"][2]["phase"], "brownout");
        assert_eq!(value["steps"][2]["length_s"], 300);
        assert_eq!(value["headers"][1]["name"], "Sunset");
        assert_eq!(value["headers"][1]["value"], "Fri, 15 Jan 2027 00:00:00 GMT");
        let refused: Vec<&str> =
            value["refusals"].as_array().expect("a list").iter().filter_map(|told| told["phase"].as_str()).collect();
        assert_eq!(refused, ["freeze", "brownout", "tombstone", "gone"]);
        assert!(value["refusals"][1]["text"].as_str().is_some_and(|text| text.contains("until 2026-12-20T14:05Z")));
    }

    #[test]
    fn exemption_that_ends_too_early_is_a_note() {
        let mut config = config();
        let exempt = |client: &str, expires: &str| Waiver {
            client: client.to_owned(),
            owner: "Ada".to_owned(),
            reason: "moves later".to_owned(),
            expires: expires.parse().expect("a date"),
        };
        config.exempt = vec![exempt("name:early", "2027-01-10"), exempt("name:late", "2027-02-01")];
        let notes = Calendar::new(&config, at("2026-11-22T08:00:00Z")).notes;
        assert_eq!(notes, ["the exemption of name:early ends on 2027-01-10, before the switch-off does"]);
    }

    #[test]
    fn empty_plan_says_what_begins_one() {
        let calendar = Calendar::new(&Config::default(), at("2026-11-22T08:00:00Z"));
        assert!(calendar.steps.is_empty() && calendar.headers.is_empty() && calendar.guard.is_empty());
        assert!(calendar.notes[0].contains("--announce DATE"));
    }
}
