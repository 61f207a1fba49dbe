//! What to tell a client's owner: how the well-known clients and SDKs move to Streamable HTTP.
//!
//! The texts are data (`fixes.toml`), each with its source, so that they can be checked and kept up to date.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::outcome::Moves;

/// How one family of clients moves.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// What clients refer to: the family's name, `other`, or `auto`.
    pub key: String,
    /// The product or library, as people call it.
    pub title: String,
    /// `auto`, `config` or `code`.
    #[serde(deserialize_with = "moves")]
    pub moves: Moves,
    /// What to do, in one sentence.
    pub summary: String,
    /// The configuration or the code, as it should be; `https://HOST/mcp` stands for the new URL.
    #[serde(default)]
    pub snippets: Vec<Snippet>,
    /// Where this is documented.
    pub sources: Vec<String>,
    /// When that was looked up, and for which version.
    pub checked: String,
}

/// A piece of configuration or code.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Snippet {
    /// Where it belongs: a file's name, a command line.
    pub place: String,
    /// `json`, `python`, …
    pub language: String,
    /// The text.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    fix: Vec<Fix>,
}

static BOOK: LazyLock<Vec<Fix>> = LazyLock::new(|| {
    let book: Book = toml::from_str(include_str!("fixes.toml")).expect("fixes.toml is well-formed, a test reads it");
    book.fix
});

/// The key of what suits no family.
pub const GENERAL: &str = "other";

/// The key of what suits whoever was upgraded on the old URL, whatever the family.
pub const AUTO: &str = "auto";

/// All of them.
#[must_use]
pub fn all() -> &'static [Fix] {
    &BOOK
}

/// How clients of `family` move; what suits everyone if there is nothing special.
#[must_use]
pub fn of(family: &str) -> &'static Fix {
    let find = |key: &str| BOOK.iter().find(|fix| fix.key == key);
    find(family).or_else(|| find(GENERAL)).expect("the book has a general entry, a test looks")
}

fn moves<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Moves, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "auto" => Ok(Moves::Auto),
        "config" => Ok(Moves::Config),
        "code" => Ok(Moves::Code),
        "unknown" => Ok(Moves::Unknown),
        _ => Err(serde::de::Error::custom("moves is auto, config, code or unknown")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::traffic::FAMILIES;

    #[test]
    fn fixes_cover_every_family_once_and_nothing_else() {
        let keys: Vec<&str> = all().iter().map(|fix| fix.key.as_str()).collect();
        let once: BTreeSet<&str> = keys.iter().copied().collect();
        assert_eq!(keys.len(), once.len(), "a key stands twice");
        let families: BTreeSet<&str> = FAMILIES.iter().copied().chain([AUTO]).collect();
        assert_eq!(once, families, "a family has no advice, or advice has no family");
        assert_eq!(of(AUTO).moves, Moves::Auto);
        assert_eq!(of("cline").key, "cline");
        assert_eq!(of("nobody knows").key, GENERAL);
    }

    #[test]
    fn fixes_name_their_sources_and_when_they_were_looked_up() {
        for fix in all() {
            assert!(!fix.sources.is_empty(), "{} has no source", fix.key);
            for source in &fix.sources {
                let host = source.strip_prefix("https://").unwrap_or_default();
                assert!(host.contains('.') && !source.contains([' ', '<', '>']), "{}: {source}", fix.key);
            }
            let checked: Result<jiff::civil::Date, _> = fix.checked.parse();
            assert!(checked.is_ok(), "{}: {} is no date", fix.key, fix.checked);
        }
    }

    #[test]
    fn fixes_say_what_to_do_in_a_line() {
        for fix in all() {
            assert!(fix.summary.ends_with('.') && !fix.summary.contains('\n'), "{}: {}", fix.key, fix.summary);
            assert!(fix.summary.len() <= 320, "{}: {} is too long", fix.key, fix.summary.len());
            assert!(!fix.title.is_empty());
            assert_eq!(fix.moves == Moves::Unknown, fix.key == GENERAL, "{}", fix.key);
        }
    }

    #[test]
    fn snippets_can_be_copied() {
        for fix in all() {
            for snippet in &fix.snippets {
                let (place, text) = (format!("{}, {}", fix.key, snippet.place), &snippet.text);
                assert!(!text.trim().is_empty() && !text.contains('\t'), "{place}");
                assert!(!text.contains("/sse"), "{place} names the old endpoint");
                match snippet.language.as_str() {
                    "json" => assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{place} is no JSON"),
                    "toml" => assert!(toml::from_str::<toml::Table>(text).is_ok(), "{place} is no TOML"),
                    "yaml" => assert!(text.lines().all(|line| line.contains(':')), "{place} is no YAML"),
                    "sh" | "text" | "typescript" | "python" | "java" | "kotlin" | "go" | "rust" | "ruby" | "csharp" => {
                    }
                    other => panic!("{place}: nobody checks {other}"),
                }
            }
            let has_url = fix.snippets.iter().any(|snippet| snippet.text.contains("HOST"));
            assert!(fix.snippets.is_empty() || has_url, "{}: no snippet shows where the new URL goes", fix.key);
        }
    }
}
