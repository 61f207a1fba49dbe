//! `check`: looks at both sides before the cutover. 0: nothing fails; 1: something does; 2: usage.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use http::HeaderMap;

use super::{FAILED, USAGE};
use crate::auth::Signer;
use crate::config;
use crate::probe::check::{self, Finding, Options, Report, Style, Trust};

/// Columns where standard output is no terminal.
const WIDTH: usize = 100;

/// The words of `check`.
pub(super) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("check")
        .about("Look at the upgraded server, and at the public URL, before clients go through the proxy")
        .after_help(
            "Each line is ok, a warning or a failure, with what to do about it. It exits with 0 when nothing fails \
             (warnings allowed), with 1 when something does, with 2 on wrong usage. Run it where the proxy runs.",
        )
        .arg(
            option("upstream", "URL", "MCP endpoint of the upgraded server (Streamable HTTP)")
                .required_unless_present("public")
                .value_parser(config::probed_url),
        )
        .arg(
            option("public", "URL", "Event stream as clients know it, such as https://mcp.example.com/sse")
                .value_parser(config::probed_url),
        )
        .arg(
            option(
                "header",
                "NAME: VALUE",
                "Header to send to both, as a client would; NAME: @FILE reads the value from a file",
            )
            .action(ArgAction::Append),
        )
        .arg(
            option("upstream-host", "HOST", "Host header for the server, as given to serve").value_parser(config::host),
        )
        .arg(option("ca", "FILE", "Certificates (PEM) of authorities to trust, besides those of the system"))
        .arg(
            option("timeout", "DURATION", "Longest wait for any single answer")
                .default_value("10s")
                .value_parser(config::interval),
        )
        .arg(
            option(
                "watch",
                "DURATION",
                "How long to watch streams through the public URL for being cut; 0s: not at \
                    all",
            )
            .default_value("130s")
            .value_parser(config::duration),
        )
        .arg(
            option(
                "probe-key-file",
                "FILE",
                "Key shared with serve: the proxy then sends no keep-alive comments, which hide timeouts, and counts \
                 no client",
            )
            .env("SSE_SUNSET_PROBE_KEY_FILE")
            .hide_env(true),
        )
        .arg(option("format", "FORMAT", "text or json").default_value("text").value_parser(["text", "json"]))
}

/// Checks as `matches` say.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let options = match options(matches) {
        Ok(options) => options,
        Err(problem) => {
            let _ = writeln!(io::stderr(), "sse-sunset: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    let json = matches.get_one::<String>("format").is_some_and(|format| format == "json");
    let report = match look(&options, json) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sse-sunset: cannot start the runtime: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let last = if json { check::json(&report) } else { check::summary(&report) };
    let written = io::stdout().write_all(last.as_bytes());
    if report.has_failures() || written.is_err() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// Runs the check; text is written line by line, because watching takes its time.
fn look(options: &Options, json: bool) -> io::Result<Report> {
    let is_terminal = io::stdout().is_terminal();
    let width = terminal_size::terminal_size().filter(|_| is_terminal).map_or(WIDTH, |(width, _)| width.0.into());
    let style = Style { colour: is_terminal && std::env::var_os("NO_COLOR").is_none(), width };
    if options.public.is_some() && !options.watch.is_zero() && io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "this takes {} s and a little; --watch says how long", options.watch.as_secs());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut tell = |finding: &Finding| {
        if !json {
            // A reader that has left changes nothing about what is found.
            let _ = io::stdout().write_all(check::line(finding, style).as_bytes());
        }
    };
    let report = runtime.block_on(check::run(options, &mut tell));
    runtime.shutdown_background();
    Ok(report)
}

fn options(matches: &ArgMatches) -> Result<Options, String> {
    let mut headers = HeaderMap::new();
    for text in matches.get_many::<String>("header").into_iter().flatten() {
        let (name, value) = config::header(text).map_err(|problem| format!("--header {problem}"))?;
        headers.append(name, value);
    }
    let trust = match matches.get_one::<String>("ca") {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"));
            let pem = pem.and_then(|pem| Trust::with_pem(&pem));
            pem.map_err(|problem| format!("--ca: {path} {problem}"))?
        }
        None => Trust::default(),
    };
    let key = match matches.get_one::<String>("probe-key-file").filter(|path| !path.is_empty()) {
        Some(path) => Some(config::probe_key(path).map_err(|problem| format!("--probe-key-file: {path} {problem}"))?),
        None => None,
    };
    let duration = |name| matches.get_one(name).copied().unwrap_or_default();
    Ok(Options {
        upstream: matches.get_one("upstream").cloned(),
        public: matches.get_one("public").cloned(),
        headers,
        upstream_host: matches.get_one("upstream-host").cloned(),
        trust,
        patience: duration("timeout"),
        watch: duration("watch"),
        signer: key.map(Signer::new),
    })
}
