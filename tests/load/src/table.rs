//! The figures, next to what they are to be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// The proxy and its references, in the order of the columns.
const REFERENCES: [&str; 5] = ["proxy", "hyper relay", "raw relay", "native", "direct"];

pub(crate) const FASTMCP: &str = "FastMCP 4.1.2";
pub(crate) const MCP_PROXY: &str = "mcp-proxy 6.7.19";

/// The proxy and others that do its job: a table of their own.
const ALTERNATIVES: [&str; 3] = ["proxy", FASTMCP, MCP_PROXY];

/// One figure for whoever has it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<&'static str, f64>,
    /// What somebody could not do, in words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) facts: BTreeMap<&'static str, String>,
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
        Row { name: name.into(), unit, values, facts: BTreeMap::new(), budget: None }
    }

    /// A figure that nobody but the proxy has.
    pub(crate) fn of_proxy(name: impl Into<String>, unit: &'static str, figure: f64) -> Self {
        Row::new(name, unit, BTreeMap::from([("proxy", figure)]))
    }

    /// The same, held against a budget.
    pub(crate) fn with(self, budget: Option<Budget>) -> Self {
        Row { budget, ..self }
    }

    fn is_of_alternatives(&self) -> bool {
        self.values.keys().chain(self.facts.keys()).any(|column| [FASTMCP, MCP_PROXY].contains(column))
    }

    /// A figure and, unless it is the proxy's, in brackets what `multiple` makes of the proxy's and this one.
    fn figure(&self, column: &str, multiple: fn(f64, f64) -> f64) -> String {
        let proxy = self.values.get("proxy").filter(|_| column != "proxy");
        match (self.values.get(column), proxy) {
            (None, _) => String::new(),
            (Some(value), Some(proxy)) if *value > 0.0 => {
                format!("{} ({}×)", number(*value), number(multiple(*proxy, *value)))
            }
            (Some(value), _) => number(*value),
        }
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

/// As Markdown: the table against the references, with the proxy's figure as a multiple of theirs; and if there is something for
/// it the one against the alternatives, with theirs as a multiple of the proxy's.
pub(crate) fn render(rows: &[Row]) -> String {
    let (beside, own): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.is_of_alternatives());
    let own = (!own.is_empty()).then(|| table(&own));
    let beside = (!beside.is_empty()).then(|| comparison(&beside));
    own.into_iter().chain(beside).collect::<Vec<_>>().join("\n")
}

fn comparison(rows: &[&Row]) -> String {
    let mut text =
        format!("| | unit | {} |\n|---|---|{}\n", ALTERNATIVES.join(" | "), "---|".repeat(ALTERNATIVES.len()));
    for row in rows {
        let cells = ALTERNATIVES.map(|column| {
            let fact = row.facts.get(column).map(String::as_str).unwrap_or_default();
            format!("{} {fact}", row.figure(column, |proxy, value| value / proxy)).trim().to_owned()
        });
        let _ = writeln!(text, "| {} | {} | {} |", row.name, row.unit, cells.join(" | "));
    }
    text
}

fn table(rows: &[&Row]) -> String {
    let mut text = format!("| | unit | {} | budget | measured | |\n", REFERENCES.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|---|---|", "---|".repeat(REFERENCES.len()));
    for row in rows {
        let cells = REFERENCES.map(|column| row.figure(column, |proxy, value| proxy / value));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_have_a_table_of_their_own_with_facts() {
        let mut beside = Row::new("echo", "calls/s", BTreeMap::from([("proxy", 20_000.0), (FASTMCP, 40.0)]));
        beside.facts.insert(FASTMCP, "with 16".to_owned());
        beside.facts.insert(MCP_PROXY, "fails: an answer is lost".to_owned());
        let own = Row::new("echo", "calls/s", BTreeMap::from([("proxy", 20_000.0), ("direct", 60_000.0)]));
        let text = render(&[own, beside]);
        let (own, beside) = text.split_once("\n\n").expect("two tables");
        assert!(own.ends_with("| echo | calls/s | 20000 |  |  |  | 60000 (0.333×) | | | |"), "{own}");
        let row = "| echo | calls/s | 20000 | 40.0 (0.002×) with 16 | fails: an answer is lost |\n";
        assert!(beside.ends_with(row), "{beside}");
    }
}
