//! What all have to agree on, or to know of each other: named entries, each with a version.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The board at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    entries: BTreeMap<String, Entry>,
    /// Whether it was seen since the process started; before that, what is missing here says nothing.
    is_read: bool,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Another one whenever the entry changes.
    pub version: u64,
    /// What stands there.
    pub bytes: Bytes,
}

impl Board {
    /// The entry called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All entries whose names begin with `prefix`, by the rest of their names.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let from = self.entries.range(prefix.to_owned()..);
        from.map_while(move |(name, entry)| Some((name.strip_prefix(prefix)?, entry)))
    }

    /// Whether it was seen since the process started.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    pub(super) fn set(&mut self, name: &str, entry: Entry) {
        self.entries.insert(name.to_owned(), entry);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    pub(super) fn read(&mut self) {
        self.is_read = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_the_beginning_of_their_names() {
        let mut board = Board::default();
        for name in ["evidence/a", "evidence/b", "evidencf", "seen/a"] {
            board.set(name, Entry { version: 1, bytes: Bytes::new() });
        }
        let below: Vec<&str> = board.below("evidence/").map(|(rest, _)| rest).collect();
        assert_eq!(below, ["a", "b"]);
        assert!(board.get("evidence/a").is_some() && board.get("evidence").is_none());
    }
}
