//! `sunset`: how far the switch-off has come, and what comes next; a file per command.

mod plan;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::USAGE;

/// The words of `sunset`.
pub(super) fn command() -> Command {
    Command::new("sunset")
        .about("Switch HTTP+SSE off: see what is planned")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(plan::command())
}

/// Does what `matches` say.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("plan", options)) => plan::run(options),
        _ => ExitCode::from(USAGE),
    }
}
