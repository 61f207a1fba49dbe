//! Changes to a JSON text that leave every other byte of it as it came (DESIGN rule 2).
//!
//! [`Object`] and [`Array`] look one level deep: they know where each member stands, and [`Object::finish`] writes the
//! text again with the changes put in. What lies deeper is opened by the caller, changed, and set. One pass over the
//! text each, whatever it nests; a text with no change comes back as it is, without a copy.
//!
//! The trap: names are compared as what they spell (`"\u0061"` is `"a"`), or a member would be left where a later reader
//! finds it. The one exception is a name with half a surrogate pair, which spells nothing and equals nothing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object under change.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    parts: Parts<'a>,
    /// What each of the parts is called, by index.
    names: Vec<Cow<'a, str>>,
    /// Names and values of the members that are new.
    appended: Vec<(String, String)>,
}

/// A JSON array under change.
#[derive(Debug, Clone)]
pub struct Array<'a> {
    parts: Parts<'a>,
}

/// A text between two brackets, taken apart at its commas.
#[derive(Debug, Clone)]
struct Parts<'a> {
    text: &'a str,
    /// Up to and with the opening bracket.
    head: &'a str,
    between: Vec<Part<'a>>,
    /// From the closing bracket on.
    foot: &'a str,
}

/// What stands between two commas.
#[derive(Debug, Clone)]
struct Part<'a> {
    /// White space, and in an object the name and its colon.
    before: &'a str,
    value: &'a str,
    /// White space.
    after: &'a str,
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Kept,
    Replaced(String),
    Removed,
}

impl<'a> Object<'a> {
    /// The members of `json`; `None` when it is no JSON object.
    #[must_use]
    pub fn of(json: &'a str) -> Option<Self> {
        let Members(members) = serde_json::from_str(json).ok()?;
        let parts = Parts::of(json, members.iter().map(|(_, value)| value.get()))?;
        let names = members.iter().map(|(name, _)| spelled(name.get())).collect();
        Some(Object { parts, names, appended: Vec::new() })
    }

    /// The text of the member `name` as it came, whatever was changed since; with doubled names the last, as most
    /// parsers do it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.names.iter().rposition(|known| known == name)?;
        self.parts.between.get(at).map(|part| part.value)
    }

    /// Names and texts of all members as they came, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.names.iter().map(AsRef::as_ref).zip(self.parts.values())
    }

    /// Gives `name` another value, which must be JSON; puts it at the end when there is no such member.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let last = self.names.iter().rposition(|known| known == name);
        self.remove(name);
        match last.and_then(|at| self.parts.between.get_mut(at)) {
            Some(part) => part.change = Change::Replaced(value.into()),
            None => self.appended.push((name.to_owned(), value.into())),
        }
    }

    /// Takes out every member of that name.
    pub fn remove(&mut self, name: &str) {
        let named = self.names.iter().zip(&mut self.parts.between).filter(|(known, _)| *known == name);
        named.for_each(|(_, part)| part.change = Change::Removed);
        self.appended.retain(|(known, _)| known != name);
    }

    /// Takes out every member that `keeps` does not want. One pass, however many there are.
    pub fn retain(&mut self, mut keeps: impl FnMut(&str, &'a str) -> bool) {
        for (name, part) in self.names.iter().zip(&mut self.parts.between) {
            if !keeps(name, part.value) {
                part.change = Change::Removed;
            }
        }
    }

    /// Gives members another value, which must be JSON, where `other` has one. One pass, however many there are.
    pub fn replace(&mut self, mut other: impl FnMut(&str, &'a str) -> Option<String>) {
        for (name, part) in self.names.iter().zip(&mut self.parts.between) {
            if let Some(value) = other(name, part.value) {
                part.change = Change::Replaced(value);
            }
        }
    }

    /// Whether [`Object::finish`] would give another text.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.appended.is_empty() || self.parts.is_changed()
    }

    /// The text with all changes.
    #[must_use]
    pub fn finish(self) -> Cow<'a, str> {
        if !self.is_changed() {
            return Cow::Borrowed(self.parts.text);
        }
        let new = self.appended.into_iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name)));
        Cow::Owned(self.parts.written(new))
    }
}

impl<'a> Array<'a> {
    /// The items of `json`; `None` when it is no JSON array.
    #[must_use]
    pub fn of(json: &'a str) -> Option<Self> {
        let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        Some(Array { parts: Parts::of(json, items.into_iter().map(RawValue::get))? })
    }

    /// The texts of all items as they came, whatever was changed since.
    pub fn items(&self) -> impl Iterator<Item = &'a str> {
        self.parts.values()
    }

    /// Puts another value, which must be JSON, in the place of an item. Nothing happens when there is no such item.
    pub fn set(&mut self, index: usize, value: impl Into<String>) {
        self.change(index, Change::Replaced(value.into()));
    }

    /// Takes an item out. The others keep their indices.
    pub fn remove(&mut self, index: usize) {
        self.change(index, Change::Removed);
    }

    fn change(&mut self, index: usize, change: Change) {
        if let Some(part) = self.parts.between.get_mut(index) {
            part.change = change;
        }
    }

    /// Whether [`Array::finish`] would give another text.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.parts.is_changed()
    }

    /// The text with all changes.
    #[must_use]
    pub fn finish(self) -> Cow<'a, str> {
        if !self.is_changed() {
            return Cow::Borrowed(self.parts.text);
        }
        Cow::Owned(self.parts.written(std::iter::empty()))
    }
}

impl<'a> Parts<'a> {
    /// Takes `text`, which is an object or an array, apart around its `values`.
    fn of(text: &'a str, values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let opening = text.find(['{', '['])?;
        let (mut from, mut end) = (opening + 1, None);
        let mut between = Vec::new();
        for value in values {
            let start = value.as_ptr().addr() - text.as_ptr().addr();
            let value_end = start + value.len();
            let rest = text.get(value_end..)?;
            let separator = value_end + (rest.len() - rest.trim_ascii_start().len());
            let before = text.get(from..start)?;
            between.push(Part { before, value, after: text.get(value_end..separator)?, change: Change::Kept });
            (from, end) = (separator + 1, Some(separator));
        }
        let end = end.or_else(|| text.rfind(['}', ']']))?;
        Some(Parts { text, head: text.get(..=opening)?, between, foot: text.get(end..)? })
    }

    fn values(&self) -> impl Iterator<Item = &'a str> {
        self.between.iter().map(|part| part.value)
    }

    fn is_changed(&self) -> bool {
        self.between.iter().any(|part| part.change != Change::Kept)
    }

    fn written(self, new: impl Iterator<Item = String>) -> String {
        let mut text = String::with_capacity(self.text.len());
        text.push_str(self.head);
        let mut is_first = true;
        let mut put = |pieces: [&str; 3]| {
            if !std::mem::take(&mut is_first) {
                text.push(',');
            }
            text.extend(pieces);
        };
        for Part { before, value, after, change } in &self.between {
            match change {
                Change::Kept => put([before, value, after]),
                Change::Replaced(value) => put([before, value, after]),
                Change::Removed => {}
            }
        }
        new.for_each(|member| put([&member, "", ""]));
        text.push_str(self.foot);
        text
    }
}

/// What a name says; one that says nothing stays in its JSON form, quotes and all.
fn spelled(name: &str) -> Cow<'_, str> {
    let inside = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name);
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    serde_json::from_str(name).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// Names, with their quotes, and values.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn object(json: &str) -> Object<'_> {
        Object::of(json).expect("an object")
    }

    #[test]
    fn object_keeps_the_bytes_of_what_is_not_changed() {
        let json = " {\t\"a\" : 1.0e+1 ,\n \"b\":[ 1,2 ] , \"c\" :\"\\u00e9\"\n}\r\n";
        assert!(matches!(object(json).finish(), Cow::Borrowed(text) if text == json));
        let mut changed = object(json);
        changed.set("b", "null");
        assert!(changed.is_changed());
        assert_eq!(changed.get("b"), Some("[ 1,2 ]"), "it reads the text as it came");
        assert_eq!(changed.finish(), " {\t\"a\" : 1.0e+1 ,\n \"b\":null , \"c\" :\"\\u00e9\"\n}\r\n");
    }

    #[test]
    fn object_without_a_member_is_still_json() {
        let without = |json: &'static str, name: &str| {
            let mut changed = object(json);
            changed.remove(name);
            changed.finish().into_owned()
        };
        assert_eq!(without(r#"{"a":1, "b":2, "c":3}"#, "a"), r#"{ "b":2, "c":3}"#);
        assert_eq!(without(r#"{"a":1, "b":2, "c":3}"#, "b"), r#"{"a":1, "c":3}"#);
        assert_eq!(without(r#"{"a":1, "b":2, "c":3}"#, "c"), r#"{"a":1, "b":2}"#);
        assert_eq!(without(r#"{"a":1}"#, "a"), "{}");
        assert_eq!(without(r#"{"a":1,"\u0061":2,"b":3,"a":4}"#, "a"), r#"{"b":3}"#);
        assert_eq!(without(r#"{"b":1}"#, "a"), r#"{"b":1}"#);
    }

    #[test]
    fn object_takes_new_members_at_its_end() {
        let mut empty = object("{ }");
        empty.set("a\"", "1");
        empty.set("b", "2");
        empty.set("b", "3");
        empty.set("c", "4");
        empty.remove("c");
        assert_eq!(empty.finish(), r#"{"a\"":1,"b":3}"#);
        let mut full = object(r#"{"a":1 }"#);
        full.set("b", "2");
        assert_eq!(full.finish(), r#"{"a":1 ,"b":2}"#);
    }

    #[test]
    fn object_is_changed_in_one_pass() {
        let mut object = object(r#"{"a":1, "b":2,"c":3 }"#);
        object.retain(|name, value| name != "a" && value != "3");
        object.replace(|name, _| (name == "b").then(|| "[]".to_owned()));
        assert_eq!(object.finish(), r#"{ "b":[]}"#);
    }

    #[test]
    fn object_of_doubled_names_reads_the_last_and_sets_one() {
        let mut doubled = object(r#"{"a":1,"b":2,"\u0061":3}"#);
        assert_eq!(doubled.get("a"), Some("3"));
        assert_eq!(doubled.members().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("a", "3")]);
        doubled.set("a", "4");
        assert_eq!(doubled.finish(), r#"{"b":2,"\u0061":4}"#);
    }

    #[test]
    fn object_whose_names_spell_nothing_passes() {
        let json = r#"{"\ud800":1,"a":{"\ud800":2}}"#;
        let mut odd = object(json);
        assert_eq!(odd.get("\u{fffd}"), None);
        odd.set("a", "2");
        assert_eq!(odd.finish(), r#"{"\ud800":1,"a":2}"#);
    }

    #[test]
    fn array_keeps_the_bytes_of_what_is_not_changed() {
        let json = "[ 1 , {\"a\": [ ]},\t\"x\" ]";
        assert!(matches!(Array::of(json).expect("an array").finish(), Cow::Borrowed(_)));
        let mut array = Array::of(json).expect("an array");
        array.set(1, "2");
        array.remove(0);
        array.set(7, "7");
        assert!(array.is_changed());
        assert_eq!(array.items().collect::<Vec<_>>(), ["1", "{\"a\": [ ]}", "\"x\""]);
        assert_eq!(array.finish(), "[ 2,\t\"x\" ]");
        assert_eq!(Array::of(" [\n] ").expect("an array").finish(), " [\n] ");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for json in ["", "1", "null", "{", "{}x", "{\"a\":1,}", "{a:1}", "[1,]", "[1 2]"] {
            assert!(Object::of(json).is_none() && Array::of(json).is_none(), "{json}");
        }
        assert!(Object::of("[]").is_none() && Array::of("{}").is_none());
    }

    #[test]
    fn deep_nesting_is_only_skipped() {
        let json = format!("{{\"a\":{}1{},\"b\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        let mut deep = object(&json);
        deep.remove("b");
        assert!(deep.finish().ends_with("]]}"));
    }

    /// White space, names and values as they may come.
    fn text() -> impl Strategy<Value = (Vec<String>, String)> {
        let space = "[ \t\r\n]{0,2}";
        let name = prop_oneof!["[a-c]", Just("\\u0061".to_owned()), Just("é\\n".to_owned())];
        let value = prop_oneof![
            Just("{\"a\" : [1, {}]}".to_owned()),
            Just("\"}],\\\"\"".to_owned()),
            Just("-1.5e3".to_owned()),
            Just("[ ]".to_owned())
        ];
        let member = (space, name, space, space, value, space)
            .prop_map(|(s1, name, s2, s3, value, s4)| (name.clone(), format!("{s1}\"{name}\"{s2}:{s3}{value}{s4}")));
        (space, prop::collection::vec(member, 0..6), space).prop_map(|(s1, members, s2)| {
            let (names, texts): (Vec<String>, Vec<String>) = members.into_iter().unzip();
            (names, format!("{s1}{{{}}}{s2}", texts.join(",")))
        })
    }

    proptest! {
        #[test]
        fn object_and_array_never_panic(json in ".{0,60}", near in r#"[{}\[\]"a-c:, 0-9\\]{0,40}"#) {
            for text in [&json, &near, &format!("{{{near}}}"), &format!("[{near}]")] {
                let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
                if let Some(mut object) = Object::of(text) {
                    prop_assert!(is_json);
                    object.remove("a");
                    object.set("b", "1");
                    let changed = object.finish();
                    prop_assert!(serde_json::from_str::<&RawValue>(&changed).is_ok(), "{}", changed);
                }
                if let Some(mut array) = Array::of(text) {
                    prop_assert!(is_json);
                    array.set(0, "1");
                    array.remove(1);
                    let changed = array.finish();
                    prop_assert!(serde_json::from_str::<&RawValue>(&changed).is_ok(), "{}", changed);
                }
            }
        }

        #[test]
        fn object_changes_what_was_asked_and_nothing_else((names, json) in text(), set in any::<bool>()) {
            let mut changed = object(&json);
            prop_assert_eq!(changed.clone().finish(), json.as_str());
            if set { changed.set("a", "\"new\"") } else { changed.remove("a") }
            let left: Vec<String> = changed.members().filter(|(name, _)| *name != "a")
                .map(|(_, value)| value.to_owned()).collect();
            let changed = changed.finish().into_owned();
            let mut expected: Value = serde_json::from_str(&json).expect("it was JSON");
            let members = expected.as_object_mut().expect("an object");
            if set { members.insert("a".to_owned(), "new".into()); } else { members.remove("a"); }
            prop_assert_eq!(serde_json::from_str::<Value>(&changed).expect("it is JSON"), expected);
            let again = object(&changed);
            let values: Vec<&str> = again.members().filter(|(name, _)| *name != "a").map(|(_, value)| value).collect();
            prop_assert_eq!(values, left);
            let others: HashSet<&String> = names.iter().filter(|name| !["a", "\\u0061"].contains(&name.as_str())).collect();
            prop_assert!(others.iter().all(|name| changed.contains(name.as_str())));
        }
    }
}
