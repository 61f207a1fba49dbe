//! `canary`: walks the public path once, and says in one line whether it is good; with `--every` again and again.
//!
//! Standard output has one line of a good run, and of every run with `--format json`; what is wrong goes to standard error,
//! for people. Exit codes: 0 good, 1 not, 2 usage: what cron and Kubernetes understand. Where there is neither, as beside
//! containers that hold nothing but this program, it repeats the walk itself.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::serve::Signals;
use super::{FAILED, USAGE};
use crate::auth::Signer;
use crate::clock;
use crate::config;
use crate::probe::Target;
use crate::probe::canary::{Config, Failure, Outcome, Signature, walk};

/// The words of `canary`.
pub(super) fn command() -> Command {
    let arg = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    Command::new("canary")
        .about("Walk the public path once as a legacy client (GET, endpoint, initialize, ping, end)")
        .arg(arg("url", "URL").required(true).help("The URL of the event stream, as legacy clients have it"))
        .arg(
            arg("probe-key-file", "FILE")
                .env("SSE_SUNSET_PROBE_KEY_FILE")
                .hide_env(true)
                .help("Key shared with serve, which proves that this is no client; without it the run counts as one"),
        )
        .arg(
            arg("header", "NAME: VALUE")
                .action(ArgAction::Append)
                .help("Header to send with every request; NAME: @FILE reads the value from a file"),
        )
        .arg(arg("ca", "FILE").help("Certificates (PEM) of authorities that may vouch for the server, too"))
        .arg(arg("timeout", "DURATION").default_value("15s").help("Time for the whole walk"))
        .arg(arg("every", "DURATION").help(
            "Walk again and again, this long from the start of one walk to that of the next, until SIGTERM or SIGINT; where \
             nothing else repeats it",
        ))
        .arg(
            arg("format", "FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("text, or json: one line, also when it fails"),
        )
        .after_help(
            "Exit codes: 0 the path is good, 1 it is not (what failed, and what to do, on standard error), 2 usage; with \
             --every as of the last walk.\n\
             Run it every few minutes: each signed run leaves canary.seen in the traffic log, the proof that silence in it \
             is silence of clients.",
        )
}

/// Walks as `options` say.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let (config, every) = match configure(options) {
        Ok(words) => words,
        Err(problems) => {
            complain(&problems);
            return ExitCode::from(USAGE);
        }
    };
    let is_json = options.get_one::<String>("format").is_some_and(|format| format == "json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string());
    let is_good = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match every {
                None => Ok(once(&config, is_json).await),
                Some(every) => repeat(options, is_json, every).await,
            }
        })
    });
    match is_good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(problem) => {
            complain(&[format!("cannot begin: {problem}")]);
            ExitCode::from(FAILED)
        }
    }
}

fn complain(problems: &[String]) {
    let mut stderr = std::io::stderr().lock();
    for problem in problems {
        let _ = writeln!(stderr, "sse-sunset canary: {problem}");
    }
}

/// Walks until somebody ends it. Gives how the last whole walk went. Files are read anew for each: keys and tokens change.
async fn repeat(options: &ArgMatches, is_json: bool, every: Duration) -> Result<bool, String> {
    let mut signals = Signals::install().map_err(|error| error.to_string())?;
    let mut due = tokio::time::interval(every);
    // A walk that took long is followed by a pause all the same.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_good = true;
    loop {
        let walk = async {
            due.tick().await;
            match configure(options) {
                Ok((config, _)) => once(&config, is_json).await,
                Err(problems) => {
                    complain(&problems);
                    false
                }
            }
        };
        tokio::select! {
            good = walk => is_good = good,
            _ = signals.next() => return Ok(is_good),
        }
    }
}

/// Walks once, and says what came of it. Gives whether all is good.
async fn once(config: &Config, is_json: bool) -> bool {
    let outcome = match walk(config).await {
        Ok(outcome) => outcome,
        Err(problem) => {
            complain(&[format!("cannot begin: {problem}")]);
            return false;
        }
    };
    let url = format!("{}{}", config.target.url.origin().ascii_serialization(), config.target.url.path());
    let written = if is_json {
        writeln!(std::io::stdout(), "{}", as_json(&outcome, &url))
    } else if let Some(failure) = &outcome.failure {
        write!(std::io::stderr(), "{}", explained(&outcome, failure, &url, config.signer.is_some()))
    } else {
        writeln!(std::io::stdout(), "{}", as_line(&outcome, &url))
    };
    // Nobody learned of a result that could not be written.
    outcome.failure.is_none() && written.is_ok()
}

/// Reads all options, and says everything that is wrong with them. The time is that of `--every`.
fn configure(options: &ArgMatches) -> Result<(Config, Option<Duration>), Vec<String>> {
    let text = |name: &str| options.get_one::<String>(name).map(String::as_str);
    let mut problems = Vec::new();
    let url = note(&mut problems, "url", text("url"), config::probed_url);
    // An empty variable is one that is not set.
    let key_file = text("probe-key-file").filter(|path| !path.is_empty());
    let key = note(&mut problems, "probe-key-file", key_file, config::probe_key);
    let authorities = note(&mut problems, "ca", text("ca"), config::authorities).unwrap_or_default();
    let timeout = note(&mut problems, "timeout", text("timeout"), config::interval).unwrap_or_default();
    let every = note(&mut problems, "every", text("every"), config::interval);
    let mut headers = HeaderMap::new();
    for header in options.get_many::<String>("header").into_iter().flatten() {
        match config::header(header) {
            Ok((name, value)) => drop(headers.append(name, value)),
            // Without the value: it may be a credential.
            Err(problem) => problems.push(format!("--header {problem}")),
        }
    }
    match url {
        Some(url) if problems.is_empty() => {
            let target = Target { url, headers, authorities, connect_timeout: timeout };
            Ok((Config { target, signer: key.map(Signer::new), timeout }, every))
        }
        _ => Err(problems),
    }
}

fn note<T>(
    problems: &mut Vec<String>,
    name: &str,
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    match read(text?) {
        Ok(value) => Some(value),
        Err(problem) => {
            problems.push(format!("--{name}: {:?} {problem}", text.unwrap_or_default()));
            None
        }
    }
}

/// A good run in a line.
fn as_line(outcome: &Outcome, url: &str) -> String {
    let mut line = format!("sse-sunset canary: ok {url}");
    for (step, took) in &outcome.steps {
        let _ = write!(line, " {}={}", step.name(), shown(*took));
    }
    let _ = write!(line, " total={}", shown(outcome.total));
    line + match outcome.signature {
        Signature::Accepted => " signed",
        Signature::None | Signature::NotRecognised => " unsigned (counts as a client; see --probe-key-file)",
    }
}

/// A failure for people.
fn explained(outcome: &Outcome, failure: &Failure, url: &str, is_signed: bool) -> String {
    let Failure { step, expected, got, remedy } = failure;
    let counted = match (outcome.signature, outcome.counted_as_client) {
        (Signature::Accepted, _) => "no: the run is signed, and in no client's numbers",
        (_, true) if is_signed => "yes: the signature was not recognised, and this run counted as a client",
        (_, true) => "yes: the run is not signed (--probe-key-file), and counted as a client",
        (_, false) => "no: no stream was opened",
    };
    format!(
        "sse-sunset canary: FAILED at {} after {}: {url}\n  expected  {expected}\n  got       {got}\n  to do     {remedy}\n  \
         counted   {counted}\n",
        step.name(),
        shown(outcome.total),
    )
}

fn as_json(outcome: &Outcome, url: &str) -> Value {
    let steps: serde_json::Map<String, Value> =
        outcome.steps.iter().map(|(step, took)| (step.name().to_owned(), milliseconds(*took).into())).collect();
    let mut line = json!({
        "@timestamp": clock::now(), "result": if outcome.failure.is_none() { "ok" } else { "failed" }, "url": url,
        "steps_ms": steps, "total_ms": milliseconds(outcome.total), "signature": outcome.signature.name(),
        "counted_as_client": outcome.counted_as_client,
    });
    let Some(fields) = line.as_object_mut() else { return line };
    if let Some((name, version)) = &outcome.server {
        fields.insert("server".into(), json!({"name": name, "version": version}));
    }
    if let Some(Failure { step, expected, got, remedy }) = &outcome.failure {
        let failure = json!({"step": step.name(), "expected": expected, "got": got, "remedy": remedy});
        fields.insert("failure".into(), failure);
    }
    line
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn shown(time: Duration) -> String {
    format!("{}ms", milliseconds(time))
}
