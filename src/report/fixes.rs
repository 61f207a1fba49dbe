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
    /// What clients refer to: the family's name, or `other`.
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
