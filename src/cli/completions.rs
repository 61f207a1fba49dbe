//! `completions`: what a shell needs to complete the words of this program, made from the words themselves.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint};
use clap_complete::Shell;

use super::{USAGE, complain, print};

/// The shells, by their names.
const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// The words of `completions`.
pub(super) fn command() -> Command {
    Command::new("completions")
        .about("Print what a shell needs to complete the words of sse-sunset")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(SHELLS.map(|(name, _)| name)))
                .help("The shell"),
        )
        .after_help(
            "bash: sse-sunset completions bash > /usr/share/bash-completion/completions/sse-sunset\n\n\
             zsh: sse-sunset completions zsh > /usr/local/share/zsh/site-functions/_sse-sunset\n\n\
             fish: sse-sunset completions fish > /usr/share/fish/vendor_completions.d/sse-sunset.fish",
        )
}

/// Prints.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let named = options.get_one::<String>("shell");
    let Some((_, shell)) = SHELLS.into_iter().find(|(name, _)| named.is_some_and(|named| named == name)) else {
        return complain(USAGE, "completions are there for bash, zsh and fish");
    };
    // Into memory first: a closed pipe would be a panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut hinted(super::command()), "sse-sunset", &mut script);
    if shell == Shell::Bash {
        // The hyphen of our name is spelt in two ways there, and nothing would complete behind a command: clap-rs/clap#6421.
        script = String::from_utf8_lossy(&script).replace("sse__subcmd__sunset", "sse__sunset").into_bytes();
    }
    print(&script)
}

/// The same words, with files and folders completed as such.
fn hinted(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str().to_owned());
        match value.as_deref() {
            Some("FILE" | "LOG") => arg.value_hint(ValueHint::FilePath),
            Some("DIR") => arg.value_hint(ValueHint::DirPath),
            _ => arg,
        }
    });
    command.mut_subcommands(hinted)
}
