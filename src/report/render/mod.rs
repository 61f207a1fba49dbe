//! A report in every form that people and programs read.
//!
//! Every name in a report was chosen by a stranger. Each form makes it harmless in its own way: the terminal gets no
//! escapes, the spreadsheet no formulas, the ticket no markup.

mod csv;
mod markdown;
pub mod page;
mod safe;
#[cfg(test)]
mod sample;
mod sentences;
mod text;
mod words;

pub use self::csv::csv;
pub use self::markdown::markdown;
pub use self::text::{Style, text};

use super::outcome::Report;

/// The report as JSON, as it stands in `outcome`; control characters are escaped, as JSON does.
#[must_use]
pub fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("a report holds nothing that JSON cannot") + "\n"
}
