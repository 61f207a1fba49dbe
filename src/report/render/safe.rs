//! Strangers' strings on a terminal: printable, measured in columns, cut and wrapped.
//!
//! Promise: what leaves here holds no control character, no escape, nothing that turns the direction of writing or
//! takes no room, and is as wide as it is said to be. The trap: width is not the number of characters, and the width
//! of a text is not the sum of theirs; so it is always the whole that is measured.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Longest string that is looked at, in characters: more than any terminal is wide.
const LONGEST: usize = 2_000;
/// Marks that one character may carry; real scripts need two, and a tower of them covers the lines above.
const MARKS: usize = 2;

/// `text` with nothing in it that a terminal could obey. What is taken out is shown as an escape, so that a name that
/// tried is seen to have tried.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut marks = 0;
    for character in text.chars().take(LONGEST) {
        if character.is_control() || is_invisible(character) {
            safe.extend(character.escape_unicode());
            marks = 0;
        } else if character.width() == Some(0) {
            marks += 1;
            if marks <= MARKS && !safe.is_empty() {
                safe.push(character);
            }
        } else {
            safe.push(character);
            marks = 0;
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        safe.push('…');
    }
    safe
}

/// Characters that show nothing and change how others are shown (Unicode: format characters, variation selectors,
/// line and paragraph separators, fillers).
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}'
        | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// JSON in which nothing stands that a terminal could obey; it means the same. Such characters stand in strings only,
/// but for the line feeds between values, and there they may be written as escapes.
pub(super) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && (character.is_control() || is_invisible(character)) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// How many columns `text` takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text`, which is printable, in at most `columns`; what is cut off is told by `…`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (head, _) = split(text, columns.saturating_sub(1));
    format!("{}…", head.trim_end())
}

/// The longest head of `text` that fits into `columns`, and the rest.
fn split(text: &str, columns: usize) -> (&str, &str) {
    let mut end = 0;
    for (start, character) in text.char_indices() {
        let next = start + character.len_utf8();
        let Some(head) = text.get(..next) else { break };
        if width(head) > columns {
            break;
        }
        end = next;
    }
    text.split_at(end)
}

/// `text` made printable and broken into lines of at most `columns`, at spaces where there are some.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    // The widest character takes three columns, and a line has to hold one.
    let columns = columns.max(3);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in printable(text).split(' ').filter(|word| !word.is_empty()) {
        let joined = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&joined) <= columns {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        let mut rest = word;
        while width(rest) > columns {
            let (head, tail) = split(rest, columns);
            lines.push(head.to_owned());
            rest = tail;
        }
        rest.clone_into(&mut line);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn printable_shows_escapes_and_direction_marks_and_obeys_none() {
        assert_eq!(printable("a\u{1b}[31mb\r\n"), "a\\u{1b}[31mb\\u{d}\\u{a}");
        assert_eq!(printable("x\u{202e}gpj.exe\u{9b}2J"), "x\\u{202e}gpj.exe\\u{9b}2J");
        assert_eq!(printable("Zürich 東京 🦀 שלום"), "Zürich 東京 🦀 שלום");
    }

    #[test]
    fn printable_lets_no_tower_of_marks_grow() {
        let tower = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(printable(&tower), "a\u{301}\u{301}b");
        assert_eq!(printable("\u{301}a"), "a");
    }

    #[test]
    fn printable_says_when_it_stops() {
        assert_eq!(printable(&"a".repeat(LONGEST)).chars().count(), LONGEST);
        assert!(printable(&"a".repeat(LONGEST + 1)).ends_with("a…"));
    }

    #[test]
    fn cut_counts_columns_not_characters() {
        assert_eq!(cut("東京都庁", 8), "東京都庁");
        assert_eq!(cut("東京都庁", 6), "東京…");
        assert_eq!(cut("Cursor via mcp-remote", 9), "Cursor v…");
        assert_eq!(cut("anything", 1), "…");
    }

    #[test]
    fn wrap_breaks_at_spaces_and_else_in_the_word() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("https://example.com/long", 10), ["https://ex", "ample.com/", "long"]);
        assert_eq!(wrap("  ", 10), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn cut_and_wrap_never_exceed_the_columns(text in any::<String>(), columns in 3_usize..80) {
            let safe = printable(&text);
            prop_assert!(!safe.chars().any(char::is_control));
            prop_assert!(width(&cut(&safe, columns)) <= columns);
            for line in wrap(&text, columns) {
                prop_assert!(width(&line) <= columns, "{line:?} is wider than {columns}");
            }
        }
    }
}
