//! What is asked of a report: which time has to be silent, who is answered for, which clients are shown.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;

use super::evidence::DAY_MS;
use super::line::Millis;
use super::outcome::Waiver;

/// The window, unless the operator chooses another: what the mature systems use, and longer than a month's rhythm
/// needs only with the factor of 1.5 (EVIDENCE, What makes the simple rule fail).
pub const WINDOW_MS: Millis = 30 * DAY_MS;

/// The questions.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The end of the window.
    pub until: Millis,
    /// When the report is made.
    pub now: Millis,
    /// Length of the window.
    pub window: Millis,
    /// Whether records before some time were left out on demand.
    pub since: Option<Millis>,
    /// Who answers for whom.
    pub waivers: Vec<Waiver>,
    /// Which clients to show; all of them decide.
    pub shown: Vec<Pattern>,
    /// Whether to show those too that never came over SSE.
    pub is_for_all: bool,
    /// What the next command has to name again: the logs and options as they were typed.
    pub words: String,
    /// The same for a later day: without the time that was judged.
    pub words_later: String,
    /// The state of the running proxy, and not files read from the outside.
    pub is_live: bool,
    /// Such a proxy that has no state directory: it knows nothing of the time before it was started.
    pub is_forgetful: bool,
}

impl Policy {
    /// Everything as usual, judged at `now`.
    #[must_use]
    pub fn at(now: Millis) -> Self {
        Policy {
            until: now,
            now,
            window: WINDOW_MS,
            since: None,
            waivers: Vec::new(),
            shown: Vec::new(),
            is_for_all: false,
            words: "LOG...".to_owned(),
            words_later: "LOG...".to_owned(),
            is_live: false,
            is_forgetful: false,
        }
    }

    /// The beginning of the window.
    #[must_use]
    pub fn window_start(&self) -> Millis {
        self.until.saturating_sub(self.window)
    }
}

/// A text in which `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands between the stars.
    parts: Vec<String>,
}

impl Pattern {
    /// Reads a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Pattern { parts: text.split('*').map(str::to_owned).collect() }
    }

    /// Only `text`, stars and all.
    #[must_use]
    pub fn exactly(text: &str) -> Self {
        Pattern { parts: vec![text.to_owned()] }
    }

    /// Whether all of `text` is described.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, more)) = self.parts.split_first() else { return false };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some((last, between)) = more.split_last() else { return rest.is_empty() };
        for part in between {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last.as_str())
    }

    /// Whether an identity is described, with or without its kind: `name:Cursor` by `Cursor`.
    #[must_use]
    pub fn matches_identity(&self, identity: &str) -> bool {
        self.matches(identity) || identity.split_once(':').is_some_and(|(_, name)| self.matches(name))
    }
}

/// What a file says about clients: `[[waiver]]` for reports, `[[exempt]]` for the switch-off.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    #[serde(default)]
    waiver: Vec<Entry>,
    #[serde(default)]
    exempt: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    client: String,
    owner: String,
    reason: String,
    expires: String,
}

/// Reads waivers.
///
/// ```toml
/// [[waiver]]
/// client = "name:Cursor*"      # an identity as the report shows it; * stands for anything
/// owner = "Ada, platform team"
/// reason = "moves with their release on 3 December"
/// expires = "2026-12-05"       # the last day it is in force
/// ```
///
/// # Errors
/// Says what is wrong with the file and what it should look like.
pub fn read_waivers(path: &Path) -> Result<Vec<Waiver>, String> {
    let book = read_book(path, "waiver")?;
    // Taken for one another, the one would hide use and the other would spare nobody.
    if !book.exempt.is_empty() {
        return Err(format!("{}: [[exempt]] is for serve --exempt; a waiver is [[waiver]]", path.display()));
    }
    answered_for(path, "waiver", book.waiver)
}

/// Reads who is exempt from being refused: the same, with `[[exempt]]` in the place of `[[waiver]]`.
///
/// # Errors
/// Says what is wrong with the file and what it should look like.
pub fn read_exempt(path: &Path) -> Result<Vec<Waiver>, String> {
    let book = read_book(path, "exempt")?;
    if !book.waiver.is_empty() {
        return Err(format!("{}: [[waiver]] is for report --waivers; an exemption is [[exempt]]", path.display()));
    }
    answered_for(path, "exempt", book.exempt)
}

fn read_book(path: &Path, kind: &str) -> Result<Book, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {file}: {error}"))?;
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.lines().count().max(1));
        format!("{file}, line {line}: {}; {}", error.message(), shape(kind))
    })
}

fn shape(kind: &str) -> String {
    format!("each entry is [[{kind}]] with client, owner, reason and expires = \"YYYY-MM-DD\"")
}

fn answered_for(path: &Path, kind: &str, entries: Vec<Entry>) -> Result<Vec<Waiver>, String> {
    let read = |entry| waiver(entry).map_err(|problem| format!("{}: {problem}; {}", path.display(), shape(kind)));
    entries.into_iter().map(read).collect()
}

fn waiver(entry: Entry) -> Result<Waiver, String> {
    let Entry { client, owner, reason, expires } = entry;
    for (name, value) in [("client", &client), ("owner", &owner), ("reason", &reason)] {
        if value.trim().is_empty() {
            return Err(format!("an entry has no {name}"));
        }
    }
    let name = client.split_once(':').map_or(client.as_str(), |(_, name)| name);
    if name.chars().filter(|c| c.is_alphanumeric()).count() < 3 {
        return Err("an entry for anybody would be for nobody; name the client, by three letters at least".to_owned());
    }
    let date: Date = expires.parse().map_err(|_| format!("expires = {expires:?} is not a date"))?;
    Ok(Waiver { client, owner, reason, expires: date })
}

/// `word` as a shell takes it for one word.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:+@%,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A time as milliseconds since 1970, as a timestamp.
#[must_use]
pub fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(if at < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_anything_and_all_must_match() {
        for (pattern, text) in
            [("a*", "abc"), ("*c", "abc"), ("a*c", "abc"), ("*", ""), ("a*b*c", "a1b2c"), ("abc", "abc")]
        {
            assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "abc"), ("a*c", "abcd"), ("*b", "abc"), ("a*a", "a"), ("", "a")] {
            assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
        assert!(Pattern::new("Cursor*").matches_identity("name:Cursor via mcp-remote"));
    }

    #[test]
    fn waiver_without_owner_or_for_everyone_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("waivers.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read_waivers(&path)
        };
        let good = "[[waiver]]\nclient = \"name:abc\"\nowner = \"o\"\nreason = \"r\"\nexpires = \"2026-12-05\"\n";
        assert_eq!(read(good).expect("waivers").len(), 1);
        assert!(read(&good.replace("\"o\"", "\" \"")).expect_err("wrong").contains("has no owner"));
        assert!(read(&good.replace("name:abc", "*:*a*")).expect_err("wrong").contains("anybody"));
        assert!(read(&good.replace("2026-12-05", "soon")).expect_err("wrong").contains("is not a date"));
        assert!(read(&good.replace("owner", "ower")).expect_err("wrong").contains("line"));
    }

    #[test]
    fn exemptions_have_the_shape_of_waivers_and_are_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("exempt.toml");
        let text = "[[exempt]]\nclient = \"name:abc\"\nowner = \"o\"\nreason = \"r\"\nexpires = \"2026-12-05\"\n";
        std::fs::write(&path, text).expect("written");
        let exempt = read_exempt(&path).expect("exemptions");
        assert_eq!((exempt.len(), exempt[0].client.as_str()), (1, "name:abc"));
        assert!(read_waivers(&path).expect_err("wrong").contains("serve --exempt"));
        std::fs::write(&path, text.replace("exempt", "waiver")).expect("written");
        assert!(read_exempt(&path).expect_err("wrong").contains("report --waivers"));
        std::fs::write(&path, text.replace("name:abc", "*")).expect("written");
        assert!(read_exempt(&path).expect_err("wrong").contains("each entry is [[exempt]]"));
    }
}
