//! What users are shown, as the tables in docs/switching-off.md: clients by phases, each cell the text of sse-sunset, or the client's own.
//!
//! Promise: everything in them comes from the run; what a client says itself is quoted once, below.

use std::fmt::Write as _;

use super::client::{LEGACY, Legacy, Said, Visit};
use super::rehearsal::{End, Found, NEW_URL, Scene, Stay};
use crate::table::{Place, wrapped};

/// Where they stand.
pub(super) const PLACE: Place =
    Place { page: "docs/switching-off.md", marks: ["<!-- sunset: written by tests/interop -->", "<!-- /sunset -->"] };

/// The columns of the first table.
const SCENES: [(&str, Scene); 7] = [
    ("`announce`", Scene::Announce),
    ("with `--notify`", Scene::Notify),
    ("`freeze`, newcomers", Scene::FreezeNew),
    ("`brownout`", Scene::Brownout),
    ("with `--refuse-with http`", Scene::BrownoutByHttp),
    ("`tombstone`", Scene::Tombstone),
    ("`gone`", Scene::Gone),
];

/// What the second table is about.
const ENDS: [(&str, End); 2] = [("`brownout --end-running`", End::Brownout), ("`gone`", End::Gone)];

/// What clients say themselves, numbered.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, note: String) -> usize {
        let known = self.0.iter().position(|known| *known == note);
        known.unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        }) + 1
    }

    fn cell(&mut self, said: &Said, more: &str) -> String {
        match said {
            Said::Works(works) if works["logged"].as_array().is_some_and(|logged| !logged.is_empty()) => {
                "the text, as a warning".to_owned()
            }
            Said::Works(_) => "nothing".to_owned(),
            Said::Error { text, .. } if text.contains(NEW_URL) => "the text".to_owned(),
            Said::Error { text, stderr, .. } => {
                let mut note = format!("`{}`", plain(text));
                if let Some(printed) = printed(stderr) {
                    let _ = write!(note, ", and on stderr `{printed}`");
                }
                format!("no URL ({})", self.number(format!("{note}{more}")))
            }
        }
    }
}

/// The tables with all that belongs to them.
pub(super) fn render(found: &Found) -> String {
    let mut notes = Notes::default();
    let visits = table(&SCENES.map(|(title, _)| title.to_owned()), |client| {
        SCENES.map(|(_, scene)| visited(&mut notes, scene, visit(found, scene, client))).to_vec()
    });
    let titles = ENDS.map(|(title, _)| [format!("{title}: the call that runs"), "calls after it".to_owned()]);
    let stays =
        table(&titles.concat(), |client| ENDS.map(|(_, end)| stayed(&mut notes, stay(found, end, client))).concat());
    let mut quotes = String::new();
    for (number, note) in (1..).zip(&notes.0) {
        quotes.push_str(&wrapped(&format!("{number}. {note}"), "   "));
    }
    [
        wrapped(
            "What official clients show their users who connect in each phase, as `tests/interop` saw it. Only an error of \
             `initialize` carries a text to people, which is why `tombstone` comes before `gone`:",
            "",
        ),
        visits,
        wrapped(
            &format!(
                "\"The text\" names the new URL: {}. TypeScript puts `MCP error -32010: ` before it.",
                texts(found).join(", ")
            ),
            "",
        ),
        wrapped(&printed_by_python(found), ""),
        wrapped("And whose session ends in the midst of a call:", ""),
        stays,
        wrapped("What names no URL:", ""),
        quotes,
        wrapped(&attempts(found), ""),
    ]
    .join("\n")
}

/// Clients of a kind that are shown the same share a row.
fn table(titles: &[String], mut cells: impl FnMut(Legacy) -> Vec<String>) -> String {
    let mut rows: Vec<(&str, Vec<&str>, Vec<String>)> = Vec::new();
    for client in LEGACY {
        let cells = cells(client);
        match rows.last_mut() {
            Some((kind, versions, known)) if *kind == client.kind() && *known == cells => {
                versions.push(client.version());
            }
            _ => rows.push((client.kind(), vec![client.version()], cells)),
        }
    }
    let mut table = format!("| | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for (kind, versions, cells) in rows {
        let _ = writeln!(table, "| {kind} {} | {} |", versions.join(", "), cells.join(" | "));
    }
    table
}

fn visit(found: &Found, scene: Scene, client: Legacy) -> &Visit {
    found.visits(scene).iter().find(|visit| visit.client == client).expect("its visit")
}

fn stay(found: &Found, end: End, client: Legacy) -> &Stay {
    found.stays(end).iter().find(|stay| stay.client == client).expect("its stay")
}

fn visited(notes: &mut Notes, scene: Scene, visit: &Visit) -> String {
    notes.cell(&visit.said, if scene.keeps_waiting(visit.client) { ", after a minute" } else { "" })
}

fn stayed(notes: &mut Notes, stay: &Stay) -> [String; 2] {
    let running = notes.cell(&stay.running, "");
    // What the first of them says of a client that has no stream any more depends on whether it has noticed.
    let next = stay.client.reconnects().then(|| notes.cell(&stay.next, ""));
    let later = notes.cell(&stay.later, "");
    match next {
        Some(next) if next != later => [running, format!("{next}, then {later}")],
        _ => [running, later],
    }
}

/// The text of each phase, as clients show it that show nothing else.
fn texts(found: &Found) -> Vec<String> {
    let of = |scene| plain(visit(found, scene, Legacy::Python("1.30.0")).said.text());
    [Scene::FreezeNew, Scene::Brownout, Scene::Tombstone].map(|scene| format!("`{}`", of(scene))).to_vec()
}

fn printed_by_python(found: &Found) -> String {
    let Said::Error { as_printed, .. } = &visit(found, Scene::Tombstone, Legacy::Python("1.30.0")).said else {
        panic!("it was refused");
    };
    format!(
        "A Python program that prints what comes out of the SDK's context managers prints `{as_printed}`; the text stands \
         in the traceback, and in what `initialize()` raises."
    )
}

fn attempts(found: &Found) -> String {
    let streams = |client| visit(found, Scene::Gone, client).exchanges.iter().filter(|one| one.is_stream()).count();
    format!(
        "None of them tries again by itself when it is refused: each asks for {} stream, mcp-remote for {}, and ends. Clients \
         that try Streamable HTTP first (the TypeScript SDK's example, VS Code's way, mcp-remote by default) notice nothing \
         in any phase.",
        streams(Legacy::TypeScript("1.32.2")),
        streams(Legacy::Remote)
    )
}

/// The first line of `text`, without what differs between two runs.
pub(super) fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let words = line.split(' ').map(|word| {
        if let Some(at) = word.find("http://127.0.0.1:") {
            let rest = word[at..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || ":/.".contains(c));
            format!("{}URL{rest}", &word[..at])
        } else if word.len() == 20 && word.starts_with("20") && word.ends_with('Z') {
            "TIME".to_owned()
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first line in which mcp-remote says that something went wrong, without its process id.
pub(super) fn printed(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.contains("] Connection error: "))?;
    Some(line[line.find("] ")? + 2..].to_owned())
}
