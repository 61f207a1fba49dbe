//! `sunset`: how far the switch-off has come, and what comes next; a file per command.

mod change;
mod plan;
mod status;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::USAGE;

/// The words of `sunset`.
pub(super) fn command() -> Command {
    Command::new("sunset")
        .about("Switch HTTP+SSE off: see what is planned and how it stands, set a phase, pause")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(plan::command())
        .subcommand(status::command())
        .subcommand(change::set())
        .subcommand(change::pause())
        .subcommand(change::resume())
}

/// Does what `matches` say.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("plan", options)) => plan::run(options),
        Some(("status", options)) => status::run(options),
        Some((action @ ("set" | "pause" | "resume"), options)) => change::run(action, options),
        _ => ExitCode::from(USAGE),
    }
}
