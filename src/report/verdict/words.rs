//! The sentences of a report: the reason, the next command, the notes.

use super::super::evidence::DAY_MS;
use super::super::line::Millis;
use super::super::outcome::{Canary, Client, Input, Phases, Refusing, State, Verdict};
use super::super::policy::{Pattern, Policy, shell_word, timestamp};
use super::clients::Judged;
use super::coverage::{Doubt, Proof};

/// Shorter windows are noted: weekly and fortnightly clients slip through (EVIDENCE, What makes the simple rule fail).
const SHORT_WINDOW_MS: Millis = 14 * DAY_MS;
/// How old the last canary may be before that is noted. One that runs daily is younger.
const CANARY_AGE_MS: Millis = DAY_MS + DAY_MS / 2;
/// Replicas that notes name at most.
const LISTED: usize = 10;

/// A sentence beside the verdict.
#[derive(Debug)]
pub(super) struct Note {
    /// The sentence.
    pub text: String,
    /// Whether a person should read it before switching off, so that it makes SAFE "SAFE, with notes".
    pub is_weighty: bool,
}

/// The one reason that decides.
pub(super) fn reason(verdict: Verdict, judged: &[Judged], proof: &Proof, policy: &Policy) -> String {
    match verdict {
        Verdict::NotYet => {
            let Some(worst) = worst(judged) else { return String::new() };
            let others = match judged.iter().filter(|judged| judged.row.state.is_blocking()).count() - 1 {
                0 => String::new(),
                1 => "; 1 more blocks".to_owned(),
                more => format!("; {more} more block"),
            };
            format!("{}{others}.", blocks(worst, policy))
        }
        Verdict::Unknown => proof.doubts.first().map(|doubt| self::doubt(doubt, policy)).unwrap_or_default(),
        Verdict::SafeWithNotes | Verdict::Safe => {
            let window = length(policy.window);
            let last = judged.iter().filter_map(|judged| judged.row.last_use).max();
            let last = last.map(|at| format!("; the last use was {}", ago(at.as_millisecond(), policy.until)));
            let waived = judged.iter().filter(|judged| judged.row.state == State::Waived).count();
            if waived > 0 {
                let who = if waived == 1 {
                    "1 client that is waived".to_owned()
                } else {
                    format!("{waived} clients that are waived")
                };
                return format!(
                    "Nobody but {who} has used the server over SSE in {window} that are proven to be silent."
                );
            }
            format!(
                "Nobody has used the server over SSE in {window} that are proven to be silent{}.",
                last.unwrap_or_default()
            )
        }
    }
}

/// The client that blocks longest. Of equals the one that came last, so that the order of the table, which tells of movement
/// too, decides nothing.
fn worst(judged: &[Judged]) -> Option<&Judged> {
    let blocking = judged.iter().filter(|judged| judged.row.state.is_blocking());
    blocking.max_by(|a, b| {
        let key =
            |judged: &Judged| (judged.row.state == State::Open, judged.proven, judged.row.due, judged.row.last_seen);
        key(a).cmp(&key(b)).then_with(|| b.row.identity.cmp(&a.row.identity))
    })
}

/// Why one client blocks.
fn blocks(judged: &Judged, policy: &Policy) -> String {
    let row = &judged.row;
    let name = &row.name;
    if row.state == State::Open {
        let sessions =
            if row.open_sessions == 1 { "a session".to_owned() } else { format!("{} sessions", row.open_sessions) };
        return format!("{name} has {sessions} open that used the server");
    }
    let use_at = row.last_use.map(jiff::Timestamp::as_millisecond);
    let attempt = row.last_attempt.map(jiff::Timestamp::as_millisecond).filter(|at| Some(*at) > use_at);
    let gap = i64::try_from(row.longest_gap_s).unwrap_or(i64::MAX).saturating_mul(1000);
    let is_rare = gap.saturating_mul(3) / 2 > policy.window;
    let rhythm = if is_rare { format!(" and was silent for {} before", length(gap)) } else { String::new() };
    let phase = row.last_attempt_in.map(|phase| format!(" ({})", phase.name())).unwrap_or_default();
    match (attempt, use_at) {
        (Some(at), _) if judged.is_barred_stranger => format!(
            "{name} was turned away {}{phase}, and clients like it used the server before",
            ago(at, policy.until)
        ),
        (Some(at), _) => {
            format!("{name} was turned away {}{phase}, and a refusal is no silence", ago(at, policy.until))
        }
        (None, Some(at)) => format!("{name} used the server {}{rhythm}", ago(at, policy.until)),
        (None, None) => format!("{name} blocks"),
    }
}

fn doubt(doubt: &Doubt, policy: &Policy) -> String {
    let window = length(policy.window);
    match doubt {
        Doubt::NoRecords if policy.is_live => "Nothing was recorded yet.".to_owned(),
        Doubt::NoRecords => "There is no record of the proxy in what was given.".to_owned(),
        Doubt::AccessLogOnly { legacy: 0 } => {
            "No line of the access log is on a path of HTTP+SSE; name yours with --sse-path and --messages-path.".to_owned()
        }
        Doubt::AccessLogOnly { .. } => "An old server's access log can show who comes, but not prove that nobody does.".to_owned(),
        Doubt::NoState => {
            "Without --state-dir this process knows only what happened since it was started; run sse-sunset report on the \
             log."
                .to_owned()
        }
        Doubt::Young { first } => {
            format!("The evidence begins {}, and {window} have to be silent.", ago(*first, policy.until))
        }
        Doubt::Gap((from, to)) => format!(
            "Nobody proves the {} from {} to {}; a client may have come then.",
            length(to - from),
            timestamp(*from),
            timestamp(*to)
        ),
        Doubt::Ratio { ratio, .. } => format!("Only {:.2} % of the {window} are covered; 99 % have to be.", ratio * 100.0),
        Doubt::Unread(what) | Doubt::Hole { what, .. } => format!("{what}."),
        Doubt::MissingBoot(name) => format!("Other replicas name {name}, and no record of it was given."),
    }
}

/// What to do next.
pub(super) fn next(verdict: Verdict, judged: &[Judged], proof: &Proof, policy: &Policy) -> String {
    let words = &policy.words;
    match verdict {
        Verdict::NotYet => {
            let client = worst(judged).map(|judged| shell_word(&judged.row.identity)).unwrap_or_default();
            format!("sse-sunset report {words} --client {client}")
        }
        Verdict::Unknown => match proof.doubts.first() {
            Some(Doubt::NoRecords) if !policy.is_live => {
                "give the file that serve --traffic-log writes: sse-sunset report traffic.log".to_owned()
            }
            Some(Doubt::AccessLogOnly { .. }) => {
                "put sse-sunset in front of the server and keep its log: sse-sunset serve --upstream URL --traffic-log \
                 traffic.log"
                    .to_owned()
            }
            Some(Doubt::NoState) => format!("sse-sunset report {words}"),
            Some(Doubt::Hole { .. } | Doubt::Unread(_) | Doubt::MissingBoot(_)) => {
                format!(
                    "add the missing pieces (rotated, packed or of other replicas): sse-sunset report {words} MORE-LOGS..."
                )
            }
            _ => format!("ask again after that date: sse-sunset report {}", policy.words_later),
        },
        Verdict::SafeWithNotes | Verdict::Safe => {
            format!("keep the record (sse-sunset report {words} --format html > evidence.html), then stop the proxy")
        }
    }
}

/// What the canary leaves unproven. In the phase gone, unless it is paused, it gets 410 like everybody, so that its age is that
/// when the phase began.
fn missed(canary: &Canary, phases: &Phases, policy: &Policy) -> Option<String> {
    let is_paused = phases.changes.last().is_some_and(|change| change.paused);
    let is_refused = phases.now.as_deref() == Some(Refusing::Gone.name()) && !is_paused;
    let end = phases.since.filter(|_| is_refused).unwrap_or(timestamp(policy.until));
    match canary.last {
        None => Some(
            "No signed canary session came along the public path within the window: run sse-sunset canary from cron."
                .to_owned(),
        ),
        Some(last) if end.as_millisecond() - last.as_millisecond() > CANARY_AGE_MS => Some(format!(
            "No signed canary session came along the public path since {last}: nothing shows that clients could have. Run \
             sse-sunset canary from cron."
        )),
        Some(_) => None,
    }
}

/// What else a person should know.
pub(super) fn notes(
    judged: &[Judged],
    policy: &Policy,
    canary: &Canary,
    phases: &Phases,
    input: &Input,
    vanished: &[(String, Millis)],
) -> Vec<Note> {
    let is_access_log = input.access_lines > 0;
    let mut notes = Vec::new();
    let mut add = |is_weighty, text: String| notes.push(Note { text, is_weighty });
    for row in judged.iter().map(|judged| &judged.row) {
        if let Some(waiver) = &row.waiver {
            add(
                true,
                format!(
                    "{} would block; {} answers for it until {}: {}.",
                    row.identity, waiver.owner, waiver.expires, waiver.reason
                ),
            );
        }
    }
    let looked: Vec<&Client> =
        judged.iter().map(|judged| &judged.row).filter(|row| row.state == State::Looked).collect();
    if let Some(first) = looked.first() {
        let more = looked.len() - 1;
        let who = if more == 0 { first.identity.clone() } else { format!("{} and {more} more", first.identity) };
        add(true, format!("{who} came within the window and never got to use."));
    }
    if let Some(text) = missed(canary, phases, policy) {
        add(true, text);
    }
    let today = timestamp(policy.until).to_zoned(jiff::tz::TimeZone::UTC).date();
    for waiver in &policy.waivers {
        let concerns = |judged: &&Judged| Pattern::new(&waiver.client).matches_identity(&judged.row.identity);
        if waiver.expires < today {
            add(false, format!("The waiver for {} expired on {}.", waiver.client, waiver.expires));
        } else if !judged.iter().any(|judged| concerns(&judged)) {
            add(false, format!("The waiver for {} fits no client.", waiver.client));
        }
    }
    if is_access_log {
        add(true, "An old server's access log is among the evidence: it shows posts and not what was used, and proves no silence.".to_owned());
    }
    if input.from_the_future > 0 {
        add(true, format!("{} with a time that is still to come; taken as made now.", records(input.from_the_future)));
    }
    if input.left_out > 0 {
        add(true, format!("{} were left out by --since or --until.", records(input.left_out)));
    }
    if input.empty_files > 0 {
        add(true, "A file is empty: see the problems with the input.".to_owned());
    }
    if input.foreign > 0 {
        add(false, "There are lines that are no records: see the problems with the input.".to_owned());
    }
    for (replica, at) in vanished.iter().take(LISTED) {
        let at = timestamp(*at);
        add(
            true,
            format!(
                "{replica} did not say that it ended, and nothing of it was given since {at}: if it is still there, give the rest of its log."
            ),
        );
    }
    let unknown = judged.iter().map(|judged| judged.refused_unknown).fold(0, u64::saturating_add);
    if unknown > 0 {
        let who = judged.iter().filter(|judged| judged.refused_unknown > 0).count();
        let in_phases = judged.iter().map(|judged| judged.refused_unknown_in_phases).fold(0, u64::saturating_add);
        let advice = if in_phases == unknown {
            "the switch-off met newcomers or scanners; tell those of them that are yours the new URL"
        } else {
            "see that --allowed-host and the limits let real clients in"
        };
        add(
            true,
            format!(
                "{unknown} attempts within the window were turned away and are of nobody who used the server ({who} identities); a \
             refusal is no silence: {advice}."
            ),
        );
    }
    if policy.window < SHORT_WINDOW_MS {
        add(false, "A window of less than 14 days misses whoever comes every other week.".to_owned());
    }
    notes
}

/// Whether `--client` or `--who` asks for a row.
pub(super) fn shows(pattern: &Pattern, row: &Client) -> bool {
    pattern.matches_identity(&row.identity)
        || pattern.matches(&row.family)
        || row.addresses.iter().any(|address| pattern.matches(address))
        || row.seen_as.iter().any(|seen| pattern.matches(seen))
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

/// `3 days ago`
fn ago(at: Millis, until: Millis) -> String {
    if at.saturating_add(60_000) > until { "just now".to_owned() } else { format!("{} ago", length(until - at)) }
}

/// A length of time as people say it: `3 days`, `5 hours`.
fn length(length: Millis) -> String {
    let minutes = length / 60_000;
    let (count, unit) = match minutes {
        0..=119 => (minutes, "minute"),
        120..=2879 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}
