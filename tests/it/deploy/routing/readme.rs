//! The README of `deploy/routing`: what it has people type is known, and what it says of the files is in them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{KINDS, Kind};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/routing")
}

fn readme() -> String {
    fs::read_to_string(folder().join("README.md")).expect("a file")
}

/// The options of our program that `text` names in commands, each with the command's name.
fn options(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| line.strip_prefix("sse-sunset "));
    let named = commands.flat_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        words.filter(|word| word.starts_with("--")).map(move |word| (name.clone(), word.to_owned())).collect::<Vec<_>>()
    });
    named.collect()
}

fn is_known(command: &str, option: &str) -> bool {
    let help = Command::new(env!("CARGO_BIN_EXE_sse-sunset")).args([command, "--help"]).output().expect("the program");
    let help = String::from_utf8(help.stdout).expect("text");
    help.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == option)
}

#[test]
fn commands_have_options_that_the_program_has() {
    let options = options(&readme());
    assert!(options.len() > 10, "{options:?}");
    for (command, option) in options {
        assert!(is_known(&command, &option), "{command} {option}");
    }
    assert!(!is_known("serve", "--pass-through"), "and it tells others");
}

/// Without those that a table calls "the others".
#[test]
fn every_file_is_named() {
    let readme = readme();
    let others = ["split", "all", "direct", "streams"];
    let folders = KINDS.map(Kind::folder).into_iter().chain([folder().join("alb")]);
    for entry in folders.flat_map(|folder| fs::read_dir(folder).expect("a folder")) {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let stem = name.split('.').next().unwrap_or_default();
        assert!(others.contains(&stem) || readme.contains(stem), "{name}");
    }
}
