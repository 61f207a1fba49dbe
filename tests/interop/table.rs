//! What was found, as the table in the README: features by servers, each cell the clients that saw no difference.
//!
//! Promise: everything in it comes from the run, in an order that does not change, and what a cell leaves out is named
//! below the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::clients::CLIENTS;
use crate::comparison::{Conversation, Findings, Verdict};
use crate::servers::{Native, Server};

/// The lines between which the README holds the table.
const MARKS: [&str; 2] = ["<!-- interop: written by tests/interop -->", "<!-- /interop -->"];

/// Length of the README's lines.
const LINE: usize = 120;

/// The rows, each with the steps of the conversations that it stands for.
const FEATURES: [(&str, &[&str]); 20] = [
    ("handshake, ping", &["initialize", "ping"]),
    ("lists", &["tools_list", "prompts_list", "resources_list", "resource_templates_list"]),
    ("calls, structured content", &["echo", "structured_content", "echo_after"]),
    ("all of Unicode", &["unicode"]),
    ("1 MiB both ways", &["one_mebibyte"]),
    ("request of 3 MiB", &["three_mebibyte_request"]),
    ("result of 10 MiB", &["ten_mebibyte_result"]),
    ("progress", &["progress"]),
    ("logging", &["logging"]),
    ("sampling", &["sampling"]),
    ("elicitation", &["elicitation"]),
    ("roots", &["roots"]),
    ("subscriptions", &["subscription"]),
    ("resources, prompts, completion", &["resource_read", "prompt_get", "completion"]),
    ("cancellation", &["cancellation"]),
    ("50 calls at once", &["parallel_calls"]),
    ("errors", &["error_unknown_tool", "error_invalid_arguments", "error_invalid_params", "error_unknown_resource"]),
    ("unknown methods", &["error_unknown_method"]),
    ("credentials", &["headers"]),
    ("`list_changed`", &["tools_list_changed"]),
];

/// What a client's conversation says about a feature.
enum Said {
    Same,
    Different,
    /// Not compared, and why.
    NotCompared(String),
    /// Not there to be compared.
    ServerLacks(String),
}

fn said(conversation: &Conversation, steps: &[&str]) -> Said {
    let verdicts: Vec<&Verdict> = conversation
        .steps
        .iter()
        .filter(|(step, _)| steps.contains(&step.as_str()))
        .map(|(_, verdict)| verdict)
        .collect();
    assert!(!verdicts.is_empty(), "{} took none of {steps:?}", conversation.client.title);
    if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Different { .. })) {
        return Said::Different;
    }
    for verdict in verdicts {
        match verdict {
            Verdict::ServerLacks(why) => return Said::ServerLacks(why.clone()),
            Verdict::ClientLacks(why) => return Said::NotCompared(why.clone()),
            Verdict::ControlFails { works: true } => {
                return Said::NotCompared("fails without the proxy, works with it".to_owned());
            }
            Verdict::ControlFails { works: false } => {
                return Said::NotCompared("fails without the proxy too".to_owned());
            }
            Verdict::Same | Verdict::Different { .. } => {}
        }
    }
    Said::Same
}

/// What the table leaves out: by feature and reason, for each client (none if the reason is the servers') the servers.
type Notes = BTreeMap<(usize, String), Vec<(Option<&'static str>, Vec<&'static str>)>>;

/// The table with all that belongs to it.
pub(crate) fn render(found: &[(&'static Server, &'static Findings)]) -> String {
    let mut notes = Notes::new();
    let mut table = String::from("| |");
    for (server, _) in found {
        let _ = write!(table, " {} |", server.title);
    }
    let _ = write!(table, "\n|---|{}", "---|".repeat(found.len()));
    for (row, (feature, steps)) in FEATURES.iter().enumerate() {
        let _ = write!(table, "\n| {feature} |");
        for (server, findings) in found {
            let _ = write!(table, " {} |", cell(row, steps, server, findings, &mut notes));
        }
    }
    format!("{}\n\n{}\n{}\n{}", legend(), table, left_out(&notes, found.len()), about(found))
}

fn cell(row: usize, steps: &[&str], server: &'static Server, findings: &Findings, notes: &mut Notes) -> String {
    let (mut same, mut compared) = (0, 0);
    for conversation in &findings.conversations {
        let mut note = |why: String, client: Option<&'static str>| {
            let lines = notes.entry((row, why)).or_default();
            match lines.iter_mut().find(|(known, _)| *known == client) {
                Some((_, servers)) if servers.contains(&server.title) => {}
                Some((_, servers)) => servers.push(server.title),
                None => lines.push((client, vec![server.title])),
            }
        };
        match said(conversation, steps) {
            Said::Same => (same, compared) = (same + 1, compared + 1),
            Said::Different => compared += 1,
            Said::NotCompared(why) => note(why, Some(conversation.client.title)),
            Said::ServerLacks(why) => note(why, None),
        }
    }
    if compared == 0 { "–".to_owned() } else { format!("{same}/{compared}") }
}

fn legend() -> String {
    format!(
        "Clients that saw no difference / clients that could be compared, of {}; – where the server cannot do it:",
        CLIENTS.len()
    )
}

/// What the cells do not count; what is the same for several features or clients is told once.
fn left_out(notes: &Notes, all_servers: usize) -> String {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for ((row, why), noted) in notes {
        let mut by_servers: Vec<(&[&str], Vec<&str>)> = Vec::new();
        for (client, servers) in noted {
            match by_servers.iter_mut().find(|(known, _)| known == servers) {
                Some((_, clients)) => clients.extend(client),
                None => by_servers.push((servers, client.iter().copied().collect())),
            }
        }
        for (servers, clients) in by_servers {
            let whom = match (clients.is_empty(), servers.len() == all_servers) {
                (true, _) => servers.join(", "),
                (false, true) => clients.join(", "),
                (false, false) => format!("{} with {}", clients.join(", "), servers.join(", ")),
            };
            let said = format!("{whom}: {why}");
            let feature = FEATURES[*row].0;
            match lines.iter_mut().find(|(known, _)| *known == said) {
                Some((_, features)) => features.push(feature),
                None => lines.push((said, vec![feature])),
            }
        }
    }
    let mut text = String::from("\nNot compared:\n\n");
    for (said, features) in lines {
        text.push_str(&wrapped(&format!("- **{}**: {said}.", features.join(", ")), "  "));
    }
    text
}

fn about(found: &[(&'static Server, &'static Findings)]) -> String {
    let list = |native: bool| {
        let servers = found.iter().map(|(server, _)| server).filter(|server| (server.native != Native::None) == native);
        servers.map(|server| format!("{} ({})", server.title, server.about)).collect::<Vec<_>>().join(", ")
    };
    let clients: Vec<_> = CLIENTS.iter().map(|client| client.title).collect();
    let paragraphs = [
        format!("Clients: {}.", clients.join(", ")),
        format!("Servers with HTTP+SSE of their own, over which the same client saw the same bytes: {}.", list(true)),
        format!("Servers compared with the client straight over Streamable HTTP: {}.", list(false)),
    ];
    paragraphs.map(|paragraph| wrapped(&paragraph, "")).join("\n")
}

/// `text` in lines as long as the README's, all but the first indented.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().expect("a line");
        if line.chars().count() + 1 + word.chars().count() > LINE {
            lines.push(format!("{indent}{word}"));
        } else {
            let separator = if line.is_empty() { "" } else { " " };
            *lines.last_mut().expect("a line") = format!("{line}{separator}{word}");
        }
    }
    lines.join("\n") + "\n"
}

/// Fails if the README tells something else; with `UPDATE_README=1` it is made to tell this.
pub(crate) fn assert_readme_holds(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("the README");
    let [(start, _), (end, _)] = MARKS.map(|mark| readme.match_indices(mark).next().expect("the README's marks"));
    let updated = format!("{}{}\n\n{table}\n{}", &readme[..start], MARKS[0], &readme[end..]);
    if std::env::var_os("UPDATE_README").is_some_and(|value| value == "1") {
        std::fs::write(&path, updated).expect("an updated README");
        return;
    }
    assert!(
        readme == updated,
        "the README tells something else than was found; UPDATE_README=1 writes this:\n\n{table}"
    );
}
