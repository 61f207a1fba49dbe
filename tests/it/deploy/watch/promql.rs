//! Which series an expression asks for.
//!
//! Why not by the names alone: a label that no series has makes a query as empty as a name that is gone, and nobody notices.

/// What stands before a list of labels in parentheses.
const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that are no names either; aggregations may have their labels before what they aggregate.
const WORDS: [&str; 17] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];

/// The selectors in `expression`, without ranges and offsets: `up{job="x"}`.
pub(super) fn selectors(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' => quoted(rest).1,
            '[' => rest.split_once(']').expect("the end of a range").1,
            '0'..='9' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                let after = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':');
                let name = &rest[..rest.len() - after.len()];
                let after = after.trim_start();
                if LABEL_LISTS.contains(&name) && after.starts_with('(') {
                    after.split_once(')').expect("the end of the labels").1
                } else if WORDS.contains(&name) || LABEL_LISTS.contains(&name) || after.starts_with('(') {
                    after
                } else {
                    let (matchers, after) = if after.starts_with('{') { braced(after) } else { ("", after) };
                    found.push(format!("{name}{matchers}"));
                    after
                }
            }
            _ => &rest[first.len_utf8()..],
        };
    }
    found
}

/// The text in quotes that `text` begins with, and what follows.
fn quoted(text: &str) -> (&str, &str) {
    let quote = text.chars().next().expect("a quote");
    let mut is_escaped = false;
    let end = text[1..].find(|c| {
        let is_end = c == quote && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    text.split_at(end.expect("the end of a text") + 2)
}

/// The matchers that `text` begins with, and what follows.
fn braced(text: &str) -> (&str, &str) {
    let mut rest = &text[1..];
    loop {
        match rest.chars().next().expect("the end of the matchers") {
            '}' => return text.split_at(text.len() - rest.len() + 1),
            '"' | '\'' => rest = quoted(rest).1,
            other => rest = &rest[other.len_utf8()..],
        }
    }
}

#[test]
fn selectors_are_found_whatever_stands_around_them() {
    for (expression, expected) in [
        (
            "up{job=\"a}\\\"b\"} == 0 and on (job, instance) time() - x:y offset 1w > 0x1f",
            vec!["up{job=\"a}\\\"b\"}", "x:y"],
        ),
        ("sum by (le) (rate(a_bucket{i=~\".+\"}[5m])) / 1e3", vec!["a_bucket{i=~\".+\"}"]),
        ("max(count without(a) (b)) * on(c) group_left(d) e < bool 3", vec!["b", "e"]),
        ("sum_over_time((min(up) * f)[14d:5m]) or vector(1)", vec!["up", "f"]),
        ("sum(a) by (b) unless absent(c{})", vec!["a", "c{}"]),
    ] {
        assert_eq!(selectors(expression), expected, "{expression}");
    }
}
