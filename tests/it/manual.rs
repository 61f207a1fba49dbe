//! What the program says of itself outside of `--help`: pages of the manual, and completions for shells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::documentation::{all_help, defined};

fn program(words: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sse-sunset")).env_remove("COLUMNS").args(words).output().expect("the program");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The `--options` that stand in `text`.
fn options(text: &str) -> BTreeSet<String> {
    let is_of_it = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c| !is_of_it(c)).filter(|word| word.starts_with("--") && word.len() > 2);
    words.map(|word| word.trim_end_matches('-').to_owned()).collect()
}

/// The options that a help text defines, as they are typed.
fn of_help(help: &str) -> BTreeSet<String> {
    defined(help).into_iter().map(|name| format!("--{name}")).collect()
}

fn mandoc(arguments: &[&str], page: &Path) -> Output {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mandoc");
    let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), own.display());
    let output = Command::new("mandoc").env("PATH", path).args(arguments).arg(page).output();
    output.expect("mandoc; tests/run puts it on the PATH")
}

/// What a checker has to say of a page, except that it tells no date: none would be true for long.
fn lint(page: &Path) -> String {
    let output = mandoc(&["-Tlint", "-Wwarning"], page);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().filter(|line| !line.ends_with("missing date, using \"\": TH")).collect()
}

#[test]
fn every_command_has_a_page_that_is_well_formed_and_names_its_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    program(&["man", "--dir", pages.to_str().expect("a plain path")]);
    let all = all_help();
    assert!(all.len() > 12, "{all:?}");
    for (words, help) in &all {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = [&["sse-sunset"], &words[..]].concat().join("-");
        let path = pages.join(format!("{name}.1"));
        let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(page, program(&[&["man"], &words[..]].concat()), "{name}: the same in both ways");
        assert_eq!(lint(&path), "", "{name}");
        let output = mandoc(&["-Tutf8", "-Owidth=100"], &path);
        // As a terminal without colours and bold letters shows it.
        let shown = String::from_utf8_lossy(&output.stdout);
        let mut text = String::new();
        for letter in shown.chars() {
            if letter == '\u{8}' {
                text.pop();
            } else {
                text.push(letter);
            }
        }
        let missing: Vec<String> = of_help(help).difference(&options(&text)).cloned().collect();
        assert!(missing.is_empty(), "{name}: {missing:?}\n{text}");
    }
    assert_eq!(fs::read_dir(&pages).expect("a folder").count(), all.len(), "and there are no others");
    let serve = of_help(&program(&["serve", "--help"]));
    for option in sse_sunset::config::OPTIONS {
        assert!(serve.contains(&format!("--{}", option.name)), "{}", option.name);
    }
    let broken = folder.path().join("broken.1");
    let page = fs::read_to_string(pages.join("sse-sunset-serve.1")).expect("a page");
    fs::write(&broken, page.replacen(".SH SYNOPSIS", ".SX SYNOPSIS", 1)).expect("written");
    assert!(lint(&broken).contains("SX"), "the checker knows a wrong page");
}

#[test]
fn page_that_there_is_not_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_sse-sunset")).args(["man", "serv"]).output().expect("the program");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("\"serv\""));
}

/// What bash offers for the last of `words`.
fn completed(script: &Path, words: &[&str]) -> BTreeSet<String> {
    let typed: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let driver = format!(
        "set -u; source '{}'; COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE=\"${{COMP_WORDS[*]}}\"; \
         COMP_POINT=${{#COMP_LINE}}; COMPREPLY=(); compopt() {{ :; }}; \
         function=$(complete -p sse-sunset | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
         \"$function\" sse-sunset \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        typed.join(" ")
    );
    let output = Command::new("bash").args(["--norc", "-c", &driver]).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).filter(|word| !word.is_empty()).collect()
}

#[test]
fn bash_completes_commands_options_and_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("sse-sunset.bash");
    fs::write(&script, program(&["completions", "bash"])).expect("written");
    let check = |path: &Path| Command::new("bash").arg("-n").arg(path).output().expect("bash");
    let output = check(&script);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let broken = folder.path().join("broken");
    fs::write(&broken, program(&["completions", "bash"]).replacen("esac", "", 1)).expect("written");
    assert!(!check(&broken).status.success(), "a broken one is none");
    let names: BTreeSet<String> =
        all_help().into_iter().filter(|(words, _)| words.len() == 1).map(|(words, _)| words.concat()).collect();
    assert!(names.contains("serve"), "{names:?}");
    assert!(completed(&script, &["sse-sunset", ""]).is_superset(&names));
    let one: BTreeSet<String> = ["--max-message-to-client".to_owned()].into();
    assert_eq!(completed(&script, &["sse-sunset", "serve", "--max-m"]), one);
    for (words, help) in all_help() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let offered = completed(&script, &[&["sse-sunset"], &words[..], &["--"]].concat());
        let has = of_help(&help);
        assert!(offered.is_superset(&has), "{words:?}: {:?}", has.difference(&offered));
    }
    assert_eq!(completed(&script, &["sse-sunset", "completions", "z"]), ["zsh".to_owned()].into());
    let wanted = folder.path().join("sunset.toml");
    fs::write(&wanted, "").expect("written");
    let begun = folder.path().join("sun").display().to_string();
    assert_eq!(completed(&script, &["sse-sunset", "serve", "--config", &begun]), [wanted.display().to_string()].into());
}

#[test]
fn zsh_and_fish_are_given_every_option_too() {
    let help = of_help(&program(&["serve", "--help"]));
    let zsh = program(&["completions", "zsh"]);
    assert!(zsh.starts_with("#compdef sse-sunset"), "{}", &zsh[..80]);
    let missing: Vec<&String> = help
        .iter()
        .filter(|option| !["=", "[", "=["].iter().any(|end| zsh.contains(&format!("{option}{end}"))))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let fish = program(&["completions", "fish"]);
    for option in &help {
        let words = format!("-l {}", &option[2..]);
        let is_whole = |at: usize| fish[at + words.len()..].starts_with([' ', '\n']);
        assert!(fish.match_indices(&words).any(|(at, _)| is_whole(at)), "{option}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_sse-sunset")).args(["completions", "tcsh"]).output().expect("the program");
    assert_eq!(output.status.code(), Some(2), "and others are told that they are not there");
}
