//! The table of options in the README says what the program has: every option, no other, and the same defaults.

use std::collections::BTreeSet;

use sse_sunset::config::{OPTIONS, OptionSpec};

const README: &str = include_str!("../../README.md");

fn section() -> &'static str {
    let after = README.split("\n## Options\n").nth(1).expect("a section on options");
    after.split("\n## ").next().expect("its text")
}

/// The options that each row names, with what it says of their defaults: one word for all of them or one for each.
fn rows(section: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let rows = section.lines().filter(|line| line.starts_with("| `--"));
    rows.map(|row| {
        // What stands between the values of one option is no border.
        let row = row.replace("\\|", "/");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = cells[1].split("`--").skip(1).map(|rest| rest.split(['`', ' ']).next().unwrap_or_default());
        // With a semicolon where a default is described by words that hold a comma.
        let between = if cells[2].contains(';') { ';' } else { ',' };
        let defaults = cells[2].split(between).map(|default| default.trim().to_owned());
        (names.map(str::to_owned).collect(), defaults.collect())
    })
    .collect()
}

/// Whether `told` is how the README tells the option's default: as it stands, or in words where there is none.
fn tells(told: &str, option: &OptionSpec) -> bool {
    let value = told.trim_matches('`');
    match option.default {
        Some("false") if option.is_switch => value.is_empty() || value == "off",
        Some(default) => value == default,
        // Some of these words name other options; none is a value by itself.
        None => !told.starts_with('`') || told.starts_with("`--") || option.name == "tls-client-auth",
    }
}

/// What is wrong with `section`.
fn faults(section: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for (names, defaults) in rows(section) {
        for (at, name) in names.iter().enumerate() {
            let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
                faults.push(format!("--{name} is no option"));
                continue;
            };
            if !named.insert(option.name) {
                faults.push(format!("--{name} stands there twice"));
            }
            let told = if defaults.len() == 1 { defaults.first() } else { defaults.get(at) };
            match told {
                Some(told) if tells(told, option) => {}
                told => faults.push(format!("--{name} has the default {:?}, and not {told:?}", option.default)),
            }
        }
        if defaults.len() > 1 && defaults.len() != names.len() {
            faults.push(format!("{names:?} have {} defaults: {defaults:?}", defaults.len()));
        }
    }
    for option in OPTIONS.iter().filter(|option| !named.contains(option.name)) {
        // What is said in a sentence needs no row.
        let is_told =
            section.contains(&format!("`--{}`", option.name)) || section.contains(&format!("`{}`", option.variable()));
        if !is_told {
            faults.push(format!("--{} is missing", option.name));
        }
    }
    faults
}

#[test]
fn readme_lists_every_option_with_its_default_and_no_other() {
    let faults = faults(section());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn mistakes_in_the_table_are_found() {
    for (from, to, expected) in [
        ("| `--stall` | `60s` |", "| `--stall` | `61s` |", "--stall has the default Some(\"60s\")"),
        ("| `--stall` | `60s` |", "", "--stall is missing"),
        ("| `--stall` |", "| `--stalls` |", "--stalls is no option"),
        ("| `--stall` |", "| `--linger` |", "--linger stands there twice"),
        ("`5s`, `10m`", "`10m`, `5s`", "--call-timeout has the default Some(\"10m\")"),
        ("10000, 64, 64, 4MiB", "10000, 64, 4MiB", "have 3 defaults"),
        ("| `--state-dir DIR` | none |", "| `--state-dir DIR` | `/tmp` |", "--state-dir has the default None"),
    ] {
        assert!(section().contains(from), "{from}");
        let faults = faults(&section().replace(from, to));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{to}: {faults:#?}");
    }
}
