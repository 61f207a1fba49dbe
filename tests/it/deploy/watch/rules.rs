//! The rules by themselves: as promtool sees them, and as whoever is woken by one reads it.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::documentation::anchors;

use super::{path, program, read, rules, yaml};

/// The tests that promtool runs.
const TESTS: [&str; 2] = ["alerts.yml", "days.yml"];

fn promtool(words: &[&str], file: &Path) -> (bool, String) {
    let output = program("promtool").args(words).arg(file).output();
    let Output { status, stdout, stderr } = output.expect("promtool, which tests/run puts below target");
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// Copies of all files in `folder`, with these rules.
fn with_rules(folder: &Path, rules: &Value) {
    fs::create_dir_all(folder.join("tests")).expect("a folder");
    for name in ["prometheus.yml", "targets.yml"]
        .map(str::to_owned)
        .into_iter()
        .chain(TESTS.map(|test| format!("tests/{test}")))
    {
        fs::copy(path("prometheus").join(&name), folder.join(&name)).expect("a copy");
    }
    // JSON is YAML.
    fs::write(folder.join("rules.yml"), rules.to_string()).expect("a file");
}

/// The rules, in which the one called `name` says `expression`.
fn changed(name: &str, expression: &str) -> Value {
    let mut file = yaml("prometheus/rules.yml");
    let groups = file["groups"].as_array_mut().expect("groups");
    let mut all = groups.iter_mut().flat_map(|group| group["rules"].as_array_mut().expect("rules"));
    let rule = all.find(|rule| rule["alert"] == name).expect("the rule");
    rule["expr"] = expression.into();
    file
}

#[test]
fn prometheus_takes_configuration_and_rules() {
    let (is_good, said) =
        promtool(&["check", "config", "--lint=all", "--lint-fatal"], &path("prometheus/prometheus.yml"));
    assert!(is_good, "{said}");
    // It followed the names of the other files.
    assert!(said.contains(&format!("SUCCESS: {} rules found", rules().len())), "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    with_rules(folder.path(), &changed("SseSunsetDown", "up{job=} == 0"));
    let (is_good, said) = promtool(&["check", "config"], &folder.path().join("prometheus.yml"));
    assert!(!is_good && said.contains("SseSunsetDown"), "{said}");
}

#[test]
fn rules_fire_when_they_should_and_not_otherwise() {
    for test in TESTS {
        let (is_good, said) = promtool(&["test", "rules"], &path("prometheus/tests").join(test));
        assert!(is_good, "{test}: {said}");
    }
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    for (name, _) in rules().into_iter().filter(|(_, rule)| rule["alert"].is_string()) {
        let test = TESTS.iter().find(|test| read(&format!("prometheus/tests/{test}")).contains(&format!("\"{name}\"")));
        let test = test.unwrap_or_else(|| panic!("{name} has no case"));
        for never_or_always in ["vector(1) < 0", "up{job=\"sse-sunset\"} >= 0 or absent(up{job=\"sse-sunset\"})"] {
            let folder = tempfile::tempdir().expect("a folder");
            with_rules(folder.path(), &changed(&name, never_or_always));
            let test = folder.path().join("tests").join(test);
            let (is_good, said) = promtool(&["test", "rules"], &test);
            assert!(!is_good && said.contains("FAILED"), "{name} is {never_or_always}, and nothing noticed: {said}");
        }
    }
}

/// A record that is not taken is lost (`traffic::writer`): nobody shall wait for a memory to fill, or for a command that helps.
#[test]
fn alert_about_a_log_that_cannot_be_written_says_what_is_lost_and_when() {
    let (_, rule) = rules().into_iter().find(|(name, _)| name == "SseSunsetEvidenceNotWritten").expect("the alert");
    let said = |part: &str| rule["annotations"][part].as_str().expect("a text").to_owned();
    let (description, action) = (said("description"), said("action"));
    assert!(description.contains("lost at once") && description.contains("UNKNOWN"), "{description}");
    assert!(!description.contains("memory") && !action.contains("/reopen"), "{description} {action}");
    assert!(action.contains("by itself"), "{action}");
}

/// What is missing for whoever is woken.
fn faults(name: &str, rule: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if !name.starts_with("SseSunset") {
        faults.push(format!("{name}: not ours by its name"));
    }
    if !["critical", "warning", "info"].iter().any(|severity| rule["labels"]["severity"] == *severity) {
        faults.push(format!("{name}: {} is no severity", rule["labels"]["severity"]));
    }
    for part in ["summary", "description", "action", "runbook"] {
        if rule["annotations"][part].as_str().is_none_or(str::is_empty) {
            faults.push(format!("{name}: no {part}"));
        }
    }
    let runbook = rule["annotations"]["runbook"].as_str().unwrap_or_default();
    let Some((file, section)) = runbook.split_once('#') else {
        return [faults, vec![format!("{name}: {runbook} is no section")]].concat();
    };
    if file != "deploy/RUNBOOK.md" {
        faults.push(format!("{name}: {file} is not the runbook"));
    } else if !anchors(&read("RUNBOOK.md")).contains(section) {
        faults.push(format!("{name}: the runbook has no section {section}"));
    }
    faults
}

#[test]
fn each_alert_says_what_it_means_and_what_to_do() {
    let alerts: Vec<_> = rules().into_iter().filter(|(_, rule)| rule["alert"].is_string()).collect();
    let found: Vec<_> = alerts.iter().flat_map(|(name, rule)| faults(name, rule)).collect();
    assert!(found.is_empty(), "{found:#?}");
    let mut names: Vec<_> = alerts.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), alerts.len(), "two of one name");

    let (name, good) = &alerts[0];
    let broken = |part: &str, value: Value| {
        let mut rule = good.clone();
        *rule.pointer_mut(part).expect("a part") = value;
        faults(name, &rule).len()
    };
    assert_eq!(broken("/annotations/action", json!("")), 1);
    assert_eq!(broken("/labels/severity", json!("loud")), 1);
    assert_eq!(broken("/annotations/runbook", json!("deploy/README.md#watching")), 1);
}
