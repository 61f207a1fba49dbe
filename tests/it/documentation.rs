//! What the documentation says of the program is so: options are those of `--help`, commands have the options they are shown
//! with, links lead somewhere.
//!
//! `UPDATE_DOCS=1` writes docs/options.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const INTRODUCTION: &str = "\
# Options

As `--help` prints them. Of `serve`, and of `sunset plan` which takes the same, each is a flag (`--max-body 8MiB`), an environment
variable (`SSE_SUNSET_MAX_BODY`) and a key of the TOML file given with `--config` (`max-body = \"8MiB\"`); flags win over the
environment, which wins over the file. Unknown names are errors, all mistakes are told at once, durations need a unit.
Other commands read three of these variables, too: `SSE_SUNSET_ADMIN`, `SSE_SUNSET_ADMIN_TOKEN_FILE` and `SSE_SUNSET_PROBE_KEY_FILE`, so that what
is typed beside a running proxy needs neither address nor token.

A socket that systemd passes takes the place of `--listen` (one called `admin`: of `--admin`); leave the option out then. `serve` raises its
limit of descriptors as far as it may. `sse-sunset completions bash|zsh|fish` and `sse-sunset man --dir DIR` write completions and pages of the
manual.

Exit codes of `serve`: 0 stopped in order, 1 could not start, 2 usage or configuration, 128+n ended by a second signal n.
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn help(words: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    // By which a terminal's width may be said.
    command.env_remove("COLUMNS");
    let output = command.args(words).arg("--help").output().expect("the program");
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The help of every command, by the words that lead to it, in the order of the help that names it.
pub(crate) fn all_help() -> Vec<(Vec<String>, String)> {
    fn collect(words: &[String], found: &mut Vec<(Vec<String>, String)>) {
        let text = help(words);
        let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // A name stands two columns in, the rest of what is said of it further right.
        let names = commands.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
        let names: Vec<String> = names.filter_map(|rest| Some(rest.split(' ').next()?.to_owned())).collect();
        found.push((words.to_vec(), text));
        for name in names.into_iter().filter(|name| name != "help") {
            collect(&[words, &[name]].concat(), found);
        }
    }
    let mut found = Vec::new();
    collect(&[], &mut found);
    found
}

/// The long options that a help text defines.
pub(crate) fn defined(help: &str) -> BTreeSet<String> {
    // What is said of an option stands further right, and may begin with the name of another.
    let is_head = |line: &&str| line.len() - line.trim_start().len() < 10 && line.trim_start().starts_with('-');
    let heads = help.lines().filter(is_head).map(str::trim_start);
    heads.flat_map(|head| head.split("  ").next().unwrap_or_default().split([' ', ',']).filter_map(long)).collect()
}

/// The name of an option in a word: `--name`, `--name=value`, `--name[=<BOOL>]`.
fn long(word: &str) -> Option<String> {
    let name = word.strip_prefix("--")?;
    let end = name.find(|one: char| !one.is_ascii_alphanumeric() && one != '-').unwrap_or(name.len());
    (end > 0).then(|| name[..end].to_owned())
}

/// All pages that people read.
fn pages() -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !["target", "node_modules"].contains(&name) && !name.starts_with('.') {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort();
    found
}

/// The shell commands in a page's blocks, a command to a line. A block may be part of a list, and have a name behind its language.
fn commands(page: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), None::<(bool, String)>);
    for line in page.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let language = info.split(' ').next().unwrap_or_default();
                open = Some((["sh", "bash", "console"].contains(&language), String::new()));
            }
            (Some(_), Some(_)) => {
                let block = open.take().filter(|(is_shell, _)| *is_shell);
                found.extend(block.iter().flat_map(|(_, text)| text.lines()).map(str::to_owned));
            }
            // What ends in a backslash goes on in the next line.
            (Some((_, text)), None) => match line.strip_suffix('\\') {
                Some(begun) => text.extend([begun, " "]),
                None => text.extend([line, "\n"]),
            },
            (None, None) => {}
        }
    }
    found
}

/// The anchors that GitHub gives a page's headings.
pub(crate) fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|one| one.is_alphanumeric() || ['-', '_'].contains(one)).collect()
        })
        .collect()
}

/// The targets of a page's links.
fn links(page: &str) -> Vec<&str> {
    page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

#[test]
fn page_of_options_is_what_help_prints() {
    let mut text = INTRODUCTION.to_owned();
    for (words, help) in all_help() {
        let name = [&["sse-sunset".to_owned()], &words[..]].concat().join(" ");
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"));
    }
    let path = root().join("docs/options.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, text).expect("written");
        return;
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == text, "docs/options.md is not what --help prints; write it with UPDATE_DOCS=1");
}

#[test]
fn commands_that_are_shown_have_options_that_exist() {
    let known: BTreeMap<String, BTreeSet<String>> =
        all_help().into_iter().map(|(words, help)| (words.join(" "), defined(&help))).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a page");
        for line in commands(&page) {
            let line = line.split(" #").next().unwrap_or_default();
            for command in line.split(['|', ';', '&', '(']) {
                let words: Vec<&str> = command.split_whitespace().collect();
                // The first word, or what follows another program's `--`; elsewhere it is the name of something else.
                let is_ours = |word: &str| word == "sse-sunset" || word.ends_with("/sse-sunset");
                let begins = |at: usize| at == 0 || words[at - 1] == "--";
                let Some(at) = (0..words.len()).find(|at| begins(*at) && is_ours(words[*at])) else {
                    continue;
                };
                let told = &words[at + 1..];
                // The longest run of words that is a command.
                let lead = (0..=told.len().min(2)).rev().map(|count| told[..count].join(" "));
                let name =
                    lead.into_iter().find(|name| known.contains_key(name)).expect("the program itself, at least");
                let names = told.iter().filter_map(|word| long(word));
                for option in names.filter(|option| !known[&name].contains(option) && option != "help") {
                    wrong.push(format!("{}: {name} has no --{option}", path.display()));
                }
                seen += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 15, "{seen} commands were found");
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a page");
        for link in links(&page).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            seen += 1;
            if !target.exists() {
                wrong.push(format!("{}: {link}", path.display()));
            } else if !anchor.is_empty() {
                let there = fs::read_to_string(&target).unwrap_or_default();
                if !anchors(&there).contains(anchor) {
                    wrong.push(format!("{}: {link}, no such heading", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 10, "{seen} links were found");
}

#[test]
fn what_is_looked_for_is_found() {
    let page = "# A b: `c`\n\n```sh\nsse-sunset serve --one \\\n    --two=3\n```\n\n```text\n--no\n```\n- a\n\n   ```sh name\n   two\n   ```\n[x](y.md#z)";
    assert_eq!(commands(page), ["sse-sunset serve --one      --two=3", "   two"]);
    assert_eq!(links(page), ["y.md#z"]);
    assert!(anchors(page).contains("a-b-c"));
    assert_eq!(anchors("# A b\ntext\n### What, if `x`?\n"), ["a-b", "what-if-x"].map(str::to_owned).into());
    assert_eq!(
        defined("  -h, --help  Print --not\n      --end-running[=<BOOL>]  Let\n"),
        ["end-running", "help"].map(str::to_owned).into()
    );
}
