//! `man`: the manual, made from the words of the program: a page for it and one for each command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_mangen::Man;

use super::{FAILED, USAGE, complain, print};

/// The words of `man`.
pub(super) fn command() -> Command {
    Command::new("man")
        .about("Print a page of the manual, or write all of them")
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .help("Command that the page is about, such as serve or sunset status; by default the program"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("command")
                .help("Directory to write all pages to, such as /usr/local/share/man/man1"),
        )
        .after_help("To read one without installing it: sse-sunset man serve | man -l -")
}

/// Prints or writes.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let mut program = super::command().disable_help_subcommand(true);
    program.build();
    if let Some(dir) = options.get_one::<PathBuf>("dir") {
        return match std::fs::create_dir_all(dir).and_then(|()| write(&program, dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(FAILED, &format!("cannot write to {}: {error}", dir.display())),
        };
    }
    let mut command = &program;
    for name in options.get_many::<String>("command").into_iter().flatten() {
        match command.find_subcommand(name) {
            Some(found) => command = found,
            None => return complain(USAGE, &format!("there is no command {name:?}; see sse-sunset --help")),
        }
    }
    match render(command) {
        Ok(page) => print(&page),
        Err(error) => complain(FAILED, &error.to_string()),
    }
}

fn page(command: &Command) -> Man {
    let source = concat!("sse-sunset ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).manual("sse-sunset manual")
}

fn render(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page(command).render(&mut text)?;
    Ok(tidied(&String::from_utf8_lossy(&text)).into_bytes())
}

/// What `clap_mangen` leaves to be desired: a date that is none must be there all the same, or what follows is taken for one;
/// one space is enough; and notes are called notes.
fn tidied(text: &str) -> String {
    let text = text.replacen(" 1  \"", " 1 \"\" \"", 1);
    text.replace("\n.br\n\n.br\n", "\n.sp\n").replace("\n.SH EXTRA\n", "\n.SH NOTES\n")
}

/// The page of `command` and those of its own commands.
fn write(command: &Command, dir: &Path) -> std::io::Result<()> {
    std::fs::write(dir.join(page(command).get_filename()), render(command)?)?;
    command.get_subcommands().try_for_each(|command| write(command, dir))
}
