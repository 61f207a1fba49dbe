//! A report in every form that people and programs read.
//!
//! Every name in a report was chosen by a stranger. Each form makes it harmless in its own way: the terminal gets no
//! escapes, the spreadsheet no formulas, the ticket no markup.

mod csv;
mod markdown;
pub mod page;
mod phases;
mod safe;
#[cfg(test)]
mod sample;
mod sentences;
mod text;
mod words;

pub use self::csv::csv;
pub use self::markdown::markdown;
pub use self::safe::{printable, wrap};
pub use self::text::{Style, text};
pub use self::words::duration;

use super::outcome::Report;

/// The report as JSON, as it stands in `outcome`; it ends with a line feed.
///
/// Whatever a terminal could obey is escaped, also what JSON would let stand: a report in JSON is looked at as well.
#[must_use]
pub fn json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report).expect("a report holds nothing that JSON cannot") + "\n";
    safe::json(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_the_whole_report_and_no_raw_control_character() {
        let mut report = sample::rich();
        let hostile = "a\u{1b}[2J\u{7f}\n\u{9b}2J\u{202e}\u{e0041}b";
        hostile.clone_into(&mut report.clients[0].name);
        let text = json(&report);
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{e0041}'));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["schema"], "sse-sunset-report/1");
        assert_eq!(value["verdict"], "not_yet");
        assert_eq!(value["window"]["until"], "2026-11-21T12:00:00Z");
        assert_eq!(value["clients"].as_array().map(Vec::len), Some(report.clients.len()));
        assert_eq!(value["clients"][0]["name"], hostile, "a program gets the name as it came");
        assert_eq!(value["clients"][1]["rhythm"], "weekly");
        assert_eq!(value["uses"].as_array().map(Vec::len), value["days"].as_array().map(Vec::len));
    }
}
