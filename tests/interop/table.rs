//! What was found, as the tables in docs/compatibility.md: features by servers, and by versions of the protocol; each cell the
//! clients that saw no difference.
//!
//! Promise: everything in them comes from the run, in an order that does not change, and what a cell leaves out is named
//! below the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::clients::{ASKING_SDKS, CLIENTS, VERSIONS};
use crate::comparison::{Conversation, Findings, Verdict};
use crate::servers::{Native, Server, TYPESCRIPT_2_REJECT};

/// A page of the documentation, and the lines between which it holds tables that a run writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) page: &'static str,
    pub(crate) marks: [&'static str; 2],
}

/// Where this table stands.
pub(crate) const PLACE: Place =
    Place { page: "docs/compatibility.md", marks: ["<!-- interop: written by tests/interop -->", "<!-- /interop -->"] };

/// Length of the documentation's lines.
const LINE: usize = 120;

/// The rows, each with the steps of the conversations that it stands for.
const FEATURES: [(&str, &[&str]); 22] = [
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
    ("questions at once and in rounds", &["questions_in_rounds"]),
    ("subscriptions", &["subscription"]),
    ("resources, prompts, completion", &["resource_read", "prompt_get", "completion"]),
    ("cancellation", &["cancellation"]),
    ("50 calls at once", &["parallel_calls"]),
    ("errors", &["error_unknown_tool", "error_invalid_arguments", "error_invalid_params", "error_unknown_resource"]),
    ("unknown methods", &["error_unknown_method"]),
    ("argument that is to stand in a header", &["mirrored_argument"]),
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

/// What a table leaves out: by feature and reason, for each client (none if the reason is the servers') the columns.
type Notes<'a> = BTreeMap<(usize, String), Vec<(Option<&'static str>, Vec<&'a str>)>>;

/// A column of a table: what it is about, and the conversations that its cells count.
struct Column<'a> {
    title: &'a str,
    conversations: Vec<&'a Conversation>,
    /// Of whose conversations it is noted what the cells leave out; of others, another column notes it.
    notes: &'a Findings,
}

/// The tables with all that belongs to them.
pub(crate) fn render(found: &[(&'static Server, &'static Findings)], asking: &Findings) -> String {
    let of_era = |modern: bool| found.iter().filter(move |(server, _)| server.native.is_modern() == modern);
    let of_server = |(server, findings): &(&'static Server, &'static Findings)| Column {
        title: server.title,
        conversations: all(findings),
        notes: findings,
    };
    let (first, spoken) = of_era(true).next().expect("a server");
    let of_version = |version: &'static str| Column {
        title: version,
        conversations: all(spoken).into_iter().chain(all(asking)).filter(|one| one.version == version).collect(),
        notes: asking,
    };
    assert_eq!(first.profile, TYPESCRIPT_2_REJECT.profile, "`asking` was held with the first server of 2026");
    let (session, modern): (Vec<_>, Vec<_>) =
        (of_era(false).map(of_server).collect(), of_era(true).map(of_server).collect());
    let versions = VERSIONS.map(of_version);
    let modern_and_versions: Vec<&Column<'_>> = modern.iter().chain(&versions).collect();
    let legends = [
        "With servers of the session era, clients that saw no difference / clients that could be compared",
        "With servers of the era of 2026, clients that can do it and see what a client of 2026 sees / clients that know it",
    ];
    let [of_session, of_modern] =
        legends.map(|legend| wrapped(&format!("{legend}, of {}; – where it cannot be done:", CLIENTS.len()), ""));
    let by_version = format!(
        "The last columns are by the version of the protocol that the client speaks, with the first of these servers; {} \
         were told to ask for versions that they do not ask for by themselves.",
        ASKING_SDKS.join(" and ")
    );
    let session = table(&session.iter().collect::<Vec<_>>(), session.len());
    let modern = table(&modern_and_versions, modern.len());
    [of_session, session, of_modern, modern, wrapped(&by_version, ""), about(found)].join("\n")
}

fn all(findings: &Findings) -> Vec<&Conversation> {
    findings.conversations.iter().collect()
}

/// The first `servers` columns are servers.
fn table(columns: &[&Column<'_>], servers: usize) -> String {
    let mut notes = Notes::new();
    let mut table = String::from("| |");
    for column in columns {
        let _ = write!(table, " {} |", column.title);
    }
    let _ = write!(table, "\n|---|{}", "---|".repeat(columns.len()));
    for (row, (feature, steps)) in FEATURES.iter().enumerate() {
        let _ = write!(table, "\n| {feature} |");
        for column in columns {
            let _ = write!(table, " {} |", cell(row, steps, column, &mut notes));
        }
    }
    format!("{table}\n{}", left_out(&notes, servers))
}

fn cell<'a>(row: usize, steps: &[&str], column: &Column<'a>, notes: &mut Notes<'a>) -> String {
    let (mut same, mut compared) = (0, 0);
    for conversation in &column.conversations {
        let is_noted = column.notes.conversations.iter().any(|noted| std::ptr::eq(noted, *conversation));
        let mut note = |why: String, client: Option<&'static str>| {
            if !is_noted {
                return;
            }
            let lines = notes.entry((row, why)).or_default();
            match lines.iter_mut().find(|(known, _)| *known == client) {
                Some((_, columns)) if columns.contains(&column.title) => {}
                Some((_, columns)) => columns.push(column.title),
                None => lines.push((client, vec![column.title])),
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

/// What the cells do not count; what is the same for several features or clients is told once.
fn left_out(notes: &Notes<'_>, all_servers: usize) -> String {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for ((row, why), noted) in notes {
        let mut by_columns: Vec<(&[&str], Vec<&str>)> = Vec::new();
        for (client, columns) in noted {
            match by_columns.iter_mut().find(|(known, _)| known == columns) {
                Some((_, clients)) => clients.extend(client),
                None => by_columns.push((columns, client.iter().copied().collect())),
            }
        }
        for (columns, clients) in by_columns {
            let whom = match (clients.is_empty(), columns.len() == all_servers) {
                (true, _) => columns.join(", "),
                (false, true) => clients.join(", "),
                (false, false) => format!("{} with {}", clients.join(", "), columns.join(", ")),
            };
            let said = format!("{whom}: {why}");
            let feature = FEATURES[*row].0;
            match lines.iter_mut().find(|(known, _)| *known == said) {
                Some((_, features)) => features.push(feature),
                None => lines.push((said, vec![feature])),
            }
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nNot compared:\n\n");
    for (said, features) in lines {
        text.push_str(&wrapped(&format!("- **{}**: {said}.", features.join(", ")), "  "));
    }
    text
}

fn about(found: &[(&'static Server, &'static Findings)]) -> String {
    let list = |natives: &[Native]| {
        let servers = found.iter().map(|(server, _)| server).filter(|server| natives.contains(&server.native));
        servers.map(|server| format!("{} ({})", server.title, server.about)).collect::<Vec<_>>().join(", ")
    };
    let clients: Vec<_> = CLIENTS.iter().map(|client| client.title).collect();
    let paragraphs = [
        format!("Clients: {}.", clients.join(", ")),
        format!(
            "Servers with HTTP+SSE of their own, over which the same client saw the same bytes: {}.",
            list(&[Native::HttpSse, Native::HttpSseOfBothEras])
        ),
        format!("Servers compared with the client straight over Streamable HTTP: {}.", list(&[Native::None])),
        format!(
            "Servers of the era of 2026, compared with the TypeScript client 2.4.0 and the Python SDK 2.3.0, which speak it \
             straight: {}; and, where that can do the step, with the legacy client straight over Streamable HTTP: {}.",
            list(&[Native::Modern]),
            list(&[Native::BothEras])
        ),
    ];
    paragraphs.map(|paragraph| wrapped(&paragraph, "")).join("\n")
}

/// `text` in lines as long as the documentation's, all but the first indented.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
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

/// Fails if the documentation tells something else in this `place`; with `UPDATE_DOCS=1` it is made to tell this.
pub(crate) fn assert_told(place: Place, table: &str) {
    // One at a time: several tables may be written in one run.
    static WRITING: Mutex<()> = Mutex::new(());
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let Place { page, marks } = place;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).expect("the page");
    let [(start, _), (end, _)] = marks.map(|mark| text.match_indices(mark).next().expect("the page's marks"));
    let updated = format!("{}{}\n\n{table}\n{}", &text[..start], marks[0], &text[end..]);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, updated).expect("an updated page");
        return;
    }
    assert!(text == updated, "{page} tells something else than was found; UPDATE_DOCS=1 writes this:\n\n{table}");
}
