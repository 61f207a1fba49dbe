//! Words typed by a person, and exit codes; a file per command.
//!
//! 0: done, or stopped in order. 1: could not start, failed while running, or a probe found a fault. 2: usage or
//! configuration. 128 + n: ended by a second signal n, without draining. `report` has more.

mod ask;
mod canary;
mod check;
mod completions;
mod healthcheck;
mod man;
mod options;
mod progress;
mod report;
mod serve;
mod sunset;
mod tombstone;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Command;

pub use serve::report_panics;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Runs the program for the words it was given.
#[must_use]
pub fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match matches.subcommand() {
        Some(("serve", options)) => serve::run(options),
        Some(("canary", options)) => canary::run(options),
        Some(("check", options)) => check::run(options),
        Some(("completions", options)) => completions::run(options),
        Some(("healthcheck", options)) => healthcheck::run(options),
        Some(("man", options)) => man::run(options),
        Some(("report", options)) => report::run(options),
        Some(("sunset", options)) => sunset::run(options),
        Some(("tombstone", options)) => tombstone::run(options),
        _ => ExitCode::from(USAGE),
    }
}

fn command() -> Command {
    Command::new("sse-sunset")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Keeps legacy MCP HTTP+SSE clients working in front of an upgraded server, and records who still comes")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(canary::command())
        .subcommand(check::command())
        .subcommand(healthcheck::command())
        .subcommand(report::command())
        .subcommand(sunset::command())
        .subcommand(tombstone::command())
        .subcommand(completions::command())
        .subcommand(man::command())
}

/// Writes `text` to standard output, all of it or none that counts.
fn print(text: &[u8]) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(FAILED, &format!("cannot write to standard output: {error}")),
    }
}

/// Says on standard error what is wrong.
fn complain(code: u8, problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sse-sunset: {problem}");
    ExitCode::from(code)
}
