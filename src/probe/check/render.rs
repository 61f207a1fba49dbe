//! Findings as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::json;

use super::finding::{Finding, Report, Status};

/// Room for the longest id, so that lines that come one by one stand in columns.
const ID_WIDTH: usize = 25;
/// Room for the longest status.
const STATUS_WIDTH: usize = 7;

/// How text is written.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether statuses are coloured.
    pub colour: bool,
    /// Columns there are; what is longer goes on in the next line.
    pub width: usize,
}

/// One finding: a line, and below warnings and failures what they mean and what to do.
#[must_use]
pub fn line(finding: &Finding, style: Style) -> String {
    let status = paint(finding.status, style.colour);
    let mut text = format!("{status}  {:<ID_WIDTH$}  {}\n", finding.id, finding.seen);
    let notes = [("means", &finding.meaning), ("do", &finding.remedy)];
    for (label, note) in notes {
        if let Some(note) = note {
            let first = format!("{label:>STATUS_WIDTH$}  ");
            wrap(&mut text, &first, STATUS_WIDTH + 2, note, style.width);
        }
    }
    text
}

/// The last line.
#[must_use]
pub fn summary(report: &Report) -> String {
    let [ok, warnings, failures, skipped] =
        [Status::Ok, Status::Warning, Status::Failure, Status::Skipped].map(|status| report.count(status));
    let verdict = match (failures, warnings) {
        (0, 0) => "ready",
        (0, _) => "ready, with warnings",
        _ => "not ready",
    };
    let counted = |count, word| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let (warnings, failures) = (counted(warnings, "warning"), counted(failures, "failure"));
    format!("{verdict}: {ok} ok, {warnings}, {failures}, {skipped} skipped\n")
}

/// All of it, as one object.
#[must_use]
pub fn json(report: &Report) -> String {
    let count = |status| report.count(status);
    let document = json!({
        "findings": report.findings,
        "summary": {
            "ok": count(Status::Ok),
            "warnings": count(Status::Warning),
            "failures": count(Status::Failure),
            "skipped": count(Status::Skipped),
            "ready": !report.has_failures(),
        },
    });
    format!("{document:#}\n")
}

fn paint(status: Status, colour: bool) -> String {
    let word = format!("{:<STATUS_WIDTH$}", status.word());
    let code = match status {
        Status::Ok => 32,
        Status::Warning => 33,
        Status::Failure => 31,
        Status::Skipped => 2,
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

/// Appends `note`, broken between words so that no line is longer than `width`.
fn wrap(text: &mut String, first: &str, indent: usize, note: &str, width: usize) {
    let mut column = first.len();
    text.push_str(first);
    for word in note.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width.max(40) {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(status: Status) -> Finding {
        let note = |text: &str| (status == Status::Warning).then(|| text.to_owned());
        Finding {
            id: "upstream.session-id".to_owned(),
            status,
            seen: "gives none".to_owned(),
            meaning: note("one two three four five six seven eight nine ten"),
            remedy: note("switch it on"),
        }
    }

    #[test]
    fn notes_stand_below_their_line_and_are_wrapped() {
        let style = Style { colour: false, width: 40 };
        let expected = "warning  upstream.session-id        gives none\n\
                        \x20 means  one two three four five six\n\
                        \x20        seven eight nine ten\n\
                        \x20    do  switch it on\n";
        assert_eq!(line(&finding(Status::Warning), style), expected);
        assert_eq!(line(&finding(Status::Ok), style), "ok       upstream.session-id        gives none\n");
    }

    #[test]
    fn colour_is_around_the_status_only() {
        let text = line(&finding(Status::Ok), Style { colour: true, width: 80 });
        assert!(text.starts_with("\x1b[32mok     \x1b[0m  upstream"), "{text:?}");
    }

    #[test]
    fn json_holds_list_and_summary() {
        let report = Report { findings: vec![finding(Status::Warning), finding(Status::Ok)] };
        let document: serde_json::Value = serde_json::from_str(&json(&report)).expect("JSON");
        assert_eq!(document["findings"][0]["status"], "warning");
        assert_eq!(document["findings"][0]["remedy"], "switch it on");
        assert_eq!(document["findings"][1].get("remedy"), None);
        assert_eq!(document["summary"]["ready"], true);
        assert_eq!(document["summary"]["warnings"], 1);
    }
}
