//! The figures, next to what they are to be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// Who was measured, in the order of the columns.
pub(crate) const COLUMNS: [&str; 5] = ["proxy", "hyper relay", "raw relay", "native", "direct"];

/// One figure for whoever has it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<&'static str, f64>,
    /// What DESIGN allows, in words; none for figures that are only reported.
    pub(crate) budget: Option<Budget>,
}

/// A budget and how it came out.
#[derive(Debug, Serialize)]
pub(crate) struct Budget {
    pub(crate) text: String,
    /// The figure that is held against the limit.
    pub(crate) value: f64,
    pub(crate) limit: f64,
    /// The limit is a floor.
    pub(crate) at_least: bool,
}

impl Row {
    /// A figure that is only reported.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: BTreeMap<&'static str, f64>) -> Self {
        Row { name: name.into(), unit, values, budget: None }
    }

    /// A figure that nobody but the proxy has.
    pub(crate) fn of_proxy(name: impl Into<String>, unit: &'static str, figure: f64) -> Self {
        Row::new(name, unit, BTreeMap::from([("proxy", figure)]))
    }

    /// The same, held against a budget.
    pub(crate) fn with(self, budget: Option<Budget>) -> Self {
        Row { budget, ..self }
    }
}

impl Budget {
    pub(crate) fn is_met(&self) -> bool {
        if self.at_least { self.value >= self.limit } else { self.value <= self.limit }
    }

    /// Whether the limit is missed by more than `factor`: what even a noisy machine does not explain.
    pub(crate) fn is_missed_by(&self, factor: f64) -> bool {
        if self.at_least { self.value * factor < self.limit } else { self.value > self.limit * factor }
    }
}

/// As JSON: each row with the proxy's figure as a multiple of every reference's.
pub(crate) fn with_ratios(rows: &[Row]) -> serde_json::Result<Vec<serde_json::Value>> {
    let with_ratios = |row: &Row| {
        let mut json = serde_json::to_value(row)?;
        if let (Some(proxy), Some(members)) = (row.values.get("proxy"), json.as_object_mut()) {
            let references = row.values.iter().filter(|(column, value)| **column != "proxy" && **value > 0.0);
            let ratios: BTreeMap<&str, f64> = references.map(|(column, value)| (*column, proxy / value)).collect();
            members.insert("ratios".to_owned(), serde_json::to_value(ratios)?);
        }
        Ok(json)
    };
    rows.iter().map(with_ratios).collect()
}

/// As Markdown. Behind the figure of a reference, in brackets, the proxy's figure as a multiple of it.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = format!("| | unit | {} | budget | measured | |\n", COLUMNS.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|---|---|", "---|".repeat(COLUMNS.len()));
    for row in rows {
        let proxy = row.values.get("proxy");
        let cell = |column: &&str| match (row.values.get(*column), proxy) {
            (None, _) => String::new(),
            (Some(value), Some(proxy)) if *column != "proxy" && *value > 0.0 => {
                format!("{} ({}×)", number(*value), number(proxy / value))
            }
            (Some(value), _) => number(*value),
        };
        let cells: Vec<String> = COLUMNS.iter().map(cell).collect();
        let _ = write!(text, "| {} | {} | {} |", row.name, row.unit, cells.join(" | "));
        let _ = match &row.budget {
            Some(budget) => {
                let word = if budget.is_met() { "met" } else { "**missed**" };
                writeln!(text, " {} | {} | {word} |", budget.text, number(budget.value))
            }
            None => writeln!(text, " | | |"),
        };
    }
    text
}

/// Three significant digits, whatever the size.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
