//! `sunset plan`: the calendar of the switch-off, from the options that `serve` is given. 0: printed; 1: cannot be
//! written; 2: something is wrong with the options.
//!
//! It takes every option of `serve`, so that a command line, an environment or a file that serves can be asked as it is;
//! those that say nothing about the switch-off are neither shown nor read.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use jiff::Timestamp;

use crate::cli::{FAILED, USAGE, complain, options};
use crate::config::{self, OPTIONS};
use crate::sunset::{Calendar, calendar};

/// Columns where standard output is no terminal.
const WIDTH: usize = 120;
/// The heading of what it reads.
const HEADING: &str = "Switching off";
/// What it reads besides.
const OTHERS: [&str; 6] = ["config", "upstream", "public-url", "passthrough", "state-dir", "fleet"];

/// The words of `sunset plan`.
pub(super) fn command() -> Command {
    let plan = OPTIONS.iter().fold(Command::new("plan"), |command, option| {
        let is_read = option.heading == HEADING || OTHERS.contains(&option.name);
        command.arg(options::arg(option).hide(!is_read))
    });
    plan.about("Print the calendar of the switch-off, as serve would follow it")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .help("text, json, or ics for calendars")
                .default_value("text")
                .value_parser(["text", "json", "ics"]),
        )
        .after_help(
            "It takes all options of serve, as flags, environment and --config file, so that what serves can be asked as it \
             is; those that are not shown here change nothing. Relative dates (+2m) count from now.",
        )
}

/// Prints the calendar that `matches` ask for.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let now = Timestamp::now();
    let (raw, problems) = options::given(matches);
    let config = match config::resolve_sunset(&raw, problems, now) {
        Ok(config) => config,
        Err(problems) => return options::refuse(&problems),
    };
    let calendar = Calendar::new(&config, now);
    let text = match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => calendar.json(),
        Some("ics") => match calendar::ics(&calendar) {
            Some(text) => text,
            None => return complain(USAGE, "--format ics: there is no date; give --announce DATE, or another"),
        },
        _ => calendar::text(&calendar, width()),
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Who closed the pipe has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(FAILED, &format!("cannot write the calendar: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn width() -> usize {
    let terminal = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    terminal.map_or(WIDTH, |(width, _)| usize::from(width.0))
}
