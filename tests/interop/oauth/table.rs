//! What was found, as a table: clients by deployments, each cell how far the story goes as it should.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::client::CLIENTS;
use super::scenario::Scenario;
use super::story::STEPS;

/// The table, with what its cells stand for.
pub(super) fn render(scenarios: &[&Scenario]) -> String {
    let mut notes: BTreeMap<String, usize> = BTreeMap::new();
    let mut table = String::from("| |");
    for scenario in scenarios {
        let _ = write!(table, " {} |", scenario.title);
    }
    let _ = write!(table, "\n|---|{}", "---|".repeat(scenarios.len()));
    for client in CLIENTS {
        let _ = write!(table, "\n| {} |", client.title());
        for scenario in scenarios {
            let story = scenario.found().stories.iter().find(|story| story.client == client).expect("its story");
            let steps: Vec<String> = STEPS
                .iter()
                .map(|step| format!("{step}: {}", story.kind(step)))
                .filter(|step| !step.ends_with("not reached"))
                .collect();
            let next = notes.len() + 1;
            let note = *notes.entry(steps.join("; ")).or_insert(next);
            let _ = write!(table, " {note} |");
        }
    }
    table.push_str("\n\n");
    let mut notes: Vec<_> = notes.into_iter().collect();
    notes.sort_by_key(|(_, number)| *number);
    for (steps, number) in notes {
        let _ = writeln!(table, "{number}. {steps}");
    }
    table.push('\n');
    for scenario in scenarios {
        let _ = writeln!(table, "- {}: {}", scenario.title, scenario.about);
    }
    table
}
