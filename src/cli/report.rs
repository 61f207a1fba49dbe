//! `report`: reads logs and answers whether SSE can be switched off.
//!
//! The exit code is the answer (EVIDENCE, The verdict): 0 safe, 1 not yet (with --strict also safe with notes), 2 usage,
//! 3 unknown, 4 the logs cannot be read.

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, ToSpan as _};

use super::progress::Bar;
use super::{USAGE, complain};
use crate::report::access::Paths;
use crate::report::evidence::{Bounds, DAY_MS};
use crate::report::outcome::Report;
use crate::report::policy::{Pattern, Policy, read_waivers, shell_word};
use crate::report::render::{self, Style, page};
use crate::report::{self, Reading, input};
use crate::traffic::{AddressForm, Pseudonyms};

const UNREADABLE: u8 = 4;
/// Columns when the output is no terminal.
const WIDTH: usize = 120;
/// More logs than this are not named one by one in what to type next.
const MANY: usize = 5;

/// The words of `report`.
pub(super) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("report")
        .about("Tell from the traffic log whether SSE can be switched off, and what stands against it")
        .arg(
            Arg::new("log")
                .value_name("LOG")
                .required(true)
                .num_args(1..)
                .help("Traffic logs of all replicas, rotated and packed pieces too (gzip, zstd), in any order; globs; - for \
                       standard input. Access logs of the old server (nginx or Apache combined, Caddy, ALB) give a first, \
                       weaker answer"),
        )
        .arg(option("format", "FORMAT", "text, json, csv, md or html").default_value("text").value_parser(PossibleValuesParser::new(["text", "json", "csv", "md", "html"])))
        .arg(option("window", "LENGTH", "How long everybody has to be silent: 14d, 4w").default_value("30d").value_parser(window))
        .arg(option("since", "TIME", "Leave out what was recorded before: 2026-11-01, or a full RFC 3339 time").value_parser(beginning))
        .arg(option("until", "TIME", "Judge as of this time; a date means its end [default: now]").value_parser(end))
        .arg(option("client", "PATTERN", "Show only these clients (* stands for anything); all of them decide").action(ArgAction::Append))
        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("Show clients too that came by Streamable HTTP only, and never over SSE"))
        .arg(option("who", "VALUE", "Show only whoever has this address, subject or client id; needs --state-dir where the log holds pseudonyms").action(ArgAction::Append))
        .arg(option("state-dir", "DIR", "The proxy's state directory, with the key of the pseudonyms").value_parser(value_parser!(PathBuf)))
        .arg(option("waivers", "FILE", "TOML file: who answers for which client, why, and until when").value_parser(value_parser!(PathBuf)))
        .arg(Arg::new("strict").long("strict").action(ArgAction::SetTrue).help("Exit with 1 when it is safe with notes"))
        .arg(option("sse-path", "PATH", "Where the old server served streams, for its access logs").action(ArgAction::Append).default_value("/sse"))
        .arg(option("messages-path", "PATH", "Where it took messages").action(ArgAction::Append).default_values(["/messages", "/message"]))
        .after_help(
            "Exit codes: 0 safe, 1 not yet (with --strict also safe with notes), 2 usage, 3 unknown, 4 a log cannot be read.",
        )
}

/// Reads, judges, prints.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let now = Timestamp::now().as_millisecond();
    let policy = match policy(options, now) {
        Ok(policy) => policy,
        Err(problem) => return complain(USAGE, &problem),
    };
    let key = match options.get_one::<PathBuf>("state-dir").map(|dir| Pseudonyms::read_from(dir, AddressForm::Hmac)) {
        Some(Err(error)) => return complain(USAGE, &format!("--state-dir: {error}")),
        Some(Ok(key)) => Some(key),
        None => None,
    };
    let policy = Policy { shown: shown(options, key.as_ref()), ..policy };
    let reading = Reading {
        bounds: Bounds {
            since: policy.since,
            until: options.get_one::<Timestamp>("until").map(|at| at.as_millisecond()),
            now,
        },
        paths: Paths::new(&words(options, "sse-path"), &words(options, "messages-path")),
        pseudonyms: key,
    };
    let logs: Vec<String> = options.get_many::<String>("log").into_iter().flatten().cloned().collect();
    let mut bar = Bar::on_stderr();
    let read = input::open(&logs)
        .map_err(Into::into)
        .and_then(|inputs| report::read(inputs, reading, &mut |progress| bar.advance(progress)));
    drop(bar);
    let report = match read {
        Ok((evidence, input)) => report::judge(&evidence, input, &policy),
        Err(error) => return complain(UNREADABLE, &error.to_string()),
    };
    let printed = print(&report, options.get_one::<String>("format").map_or("text", String::as_str));
    match printed {
        // Who closed the pipe has read enough; the answer is the same.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(UNREADABLE, &format!("cannot write the report: {error}"))
        }
        _ => ExitCode::from(report.verdict.exit_code(options.get_flag("strict"))),
    }
}

fn policy(options: &ArgMatches, now: i64) -> Result<Policy, String> {
    let time = |name| options.get_one::<Timestamp>(name).map(|at: &Timestamp| at.as_millisecond());
    let until = time("until").unwrap_or(now);
    let since = time("since");
    if since.is_some_and(|since| since >= until) {
        return Err("--since is not before --until".to_owned());
    }
    let waivers = match options.get_one::<PathBuf>("waivers") {
        Some(path) => read_waivers(path)?,
        None => Vec::new(),
    };
    let window = options.get_one::<i64>("window").copied().unwrap_or(report::policy::WINDOW_MS);
    Ok(Policy {
        until,
        window,
        since,
        waivers,
        is_for_all: options.get_flag("all"),
        words: typed(options, true),
        words_later: typed(options, false),
        ..Policy::at(now)
    })
}

/// The logs and options as they would be typed again; `until` some time, or now. What a shell made of a pattern is not
/// told file by file.
fn typed(options: &ArgMatches, until: bool) -> String {
    let logs = words(options, "log");
    let mut typed: Vec<String> =
        if logs.len() > MANY { vec!["LOG...".to_owned()] } else { logs.into_iter().map(shell_word).collect() };
    for name in ["window", "since", "until", "waivers", "state-dir"] {
        if (until || name != "until") && options.value_source(name) == Some(clap::parser::ValueSource::CommandLine) {
            let value = options.get_raw(name).and_then(|mut values| values.next()).map(|value| value.to_string_lossy());
            typed.push(format!("--{name} {}", shell_word(&value.unwrap_or_default())));
        }
    }
    typed.join(" ")
}

fn words<'a>(options: &'a ArgMatches, name: &str) -> Vec<&'a str> {
    options.get_many::<String>(name).into_iter().flatten().map(String::as_str).collect()
}

/// Which clients to show.
fn shown(options: &ArgMatches, key: Option<&Pseudonyms>) -> Vec<Pattern> {
    let mut shown: Vec<Pattern> = words(options, "client").into_iter().map(Pattern::new).collect();
    for value in words(options, "who") {
        shown.push(Pattern::exactly(value));
        if let Some(key) = key {
            shown.push(Pattern::exactly(&key.of("sub", value)));
            shown.extend(value.parse::<IpAddr>().ok().map(|ip| Pattern::exactly(&key.address(ip))));
        }
    }
    shown
}

fn print(report: &Report, format: &str) -> std::io::Result<()> {
    let stdout = std::io::stdout();
    let is_terminal = stdout.is_terminal();
    let text = match format {
        "json" => render::json(report),
        "csv" => render::csv(report),
        "md" => render::markdown(report),
        "html" => page::document(report, page::Mode::File),
        _ => {
            let width =
                terminal_size::terminal_size().filter(|_| is_terminal).map_or(WIDTH, |(width, _)| usize::from(width.0));
            let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            render::text(report, Style { width, colour })
        }
    };
    let mut stdout = stdout.lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn window(text: &str) -> Result<i64, String> {
    let shape = "is no length of time such as 30d or 4w";
    let span: Span = text.parse().map_err(|_| shape.to_owned())?;
    let length: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| shape.to_owned())?;
    let millis = i64::try_from(length.as_millis()).map_err(|_| shape.to_owned())?;
    let longest = 3660 * DAY_MS;
    if (DAY_MS..=longest).contains(&millis) { Ok(millis) } else { Err("must be from 1d to 3660d".to_owned()) }
}

fn beginning(text: &str) -> Result<Timestamp, String> {
    time(text, false)
}

fn end(text: &str) -> Result<Timestamp, String> {
    time(text, true)
}

/// A time, or the beginning or the end of a day in UTC.
fn time(text: &str, is_end: bool) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let shape = "is neither a date such as 2026-11-01 nor a time such as 2026-11-01T12:00:00Z";
    let date: Date = text.parse().map_err(|_| shape.to_owned())?;
    let date = if is_end { date.checked_add(1.day()).map_err(|_| shape.to_owned())? } else { date };
    Ok(date.to_zoned(TimeZone::UTC).map_err(|_| shape.to_owned())?.timestamp())
}
