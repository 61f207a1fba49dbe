//! The options of `serve`, for whatever command takes them: as words, and as they were given by flag, environment, file.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use super::USAGE;
use crate::config::{self, Given, OPTIONS, OptionSpec, Origin, Problem, Raw};

/// The option as a word of a command.
pub(super) fn arg(option: &'static OptionSpec) -> Arg {
    let arg = Arg::new(option.name)
        .long(option.name)
        .value_name(option.value_name)
        .help_heading(option.heading)
        .env(option.variable())
        .hide_env(true)
        .help(match option.default {
            Some(default) => format!("{} [default: {default}]", option.help),
            None => option.help.to_owned(),
        });
    match option.separator {
        Some(separator) => arg.action(ArgAction::Append).value_delimiter(separator),
        // `--name` alone; with `=`, or what follows it would be taken for its value.
        None if option.is_switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        None => arg,
    }
}

/// Gathers what flags, environment and file say, of a command that has all options, with what is wrong so far.
pub(super) fn given(options: &ArgMatches) -> (Raw, Vec<Problem>) {
    let mut raw = Raw::new();
    for option in OPTIONS {
        let origin = match options.value_source(option.name) {
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => Origin::Environment,
            _ => continue,
        };
        let values: Vec<String> = options.get_many::<String>(option.name).into_iter().flatten().cloned().collect();
        // An empty variable is one that is not set: that is how compose files and charts leave options out.
        if origin == Origin::Environment && values.iter().all(String::is_empty) {
            continue;
        }
        raw.insert(option.name, Given { values, origin });
    }
    let mut problems = config::unknown_variables(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))),
    );
    let file = raw.remove("config").and_then(|given| given.values.into_iter().next());
    if let Some(file) = file {
        problems.extend(config::read_file(&PathBuf::from(file), &mut raw));
    }
    (raw, problems)
}

/// Says on standard error everything that is wrong with the options.
pub(super) fn refuse(problems: &[Problem]) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    for problem in problems {
        let _ = writeln!(stderr, "sse-sunset: {problem}");
    }
    ExitCode::from(USAGE)
}
