//! Who was there before the freeze.
//!
//! Promise: once made, the list is kept as it is (state directory), so that a restart, or evidence that is forgotten as noise,
//! locks nobody out. Where it is missing it is made again from the evidence and from whatever logs are there.
//!
//! The trap: reading years of logs takes a while. Until the list is made nobody is refused for want of being on it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::report::evidence::{Bounds, Evidence};
use crate::report::live::Live;
use crate::report::{self, Reading, access, input};

/// The identities and addresses of those who were there before a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The time.
    pub before: Timestamp,
    identities: HashSet<String>,
    addresses: HashSet<String>,
}

impl Seen {
    /// Who was there before `before` by `live` and by the log at `path` and its older parts, if there is one; and whether all
    /// of that could be read.
    #[must_use]
    pub fn gather(before: Timestamp, live: &Live, path: Option<&Path>) -> (Self, bool) {
        let mut seen = Seen { before, ..Seen::default() };
        live.look(|evidence| seen.add(evidence));
        let mut is_whole = true;
        for part in path.map(parts).unwrap_or_default() {
            // One by one: a part that nobody may read must not take the others with it.
            match read(&part) {
                Ok(evidence) => seen.add(&evidence),
                Err(problem) => {
                    is_whole = false;
                    tracing::warn!(
                        problem,
                        "a part of the traffic log cannot be read for who was seen before the freeze; who is only told of there \
                         is taken for a newcomer"
                    );
                }
            }
        }
        (seen, is_whole)
    }

    fn add(&mut self, evidence: &Evidence) {
        let before = self.before.as_millisecond();
        for (identity, _, members) in evidence.people.groups() {
            for (_, person) in members.filter(|(_, person)| person.first_seen < before) {
                self.identities.insert(identity.to_owned());
                if !person.address.is_empty() {
                    self.addresses.insert(person.address.clone());
                }
            }
        }
    }

    /// Nobody was there.
    #[cfg(test)]
    pub(super) fn none_before(before: Timestamp) -> Self {
        Seen { before, ..Seen::default() }
    }

    /// Takes in those of another list.
    pub(super) fn join(&mut self, other: &Seen) {
        self.identities.extend(other.identities.iter().cloned());
        self.addresses.extend(other.addresses.iter().cloned());
    }

    /// Whether all of another list are there.
    pub(super) fn holds(&self, other: &Seen) -> bool {
        other.identities.is_subset(&self.identities) && other.addresses.is_subset(&self.addresses)
    }

    /// How many identities there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.identities.len()
    }

    pub(super) fn has_identity(&self, identity: &str) -> bool {
        self.identities.contains(identity)
    }

    pub(super) fn has_address(&self, address: &str) -> bool {
        self.addresses.contains(address)
    }
}

/// The log at `path`, and what rotation made of its past: `.1`, `.2.gz`, `-20261101.zst`.
fn parts(path: &Path) -> Vec<String> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let is_part =
        |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']));
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = files.filter(|file| file.file_name().to_str().is_some_and(is_part) && file.path().is_file());
    parts.filter_map(|file| file.path().to_str().map(str::to_owned)).collect()
}

fn read(part: &str) -> Result<Evidence, String> {
    let inputs = input::open(&[part.to_owned()]).map_err(|error| error.to_string())?;
    let reading = Reading {
        bounds: Bounds { since: None, until: None, now: Timestamp::now().as_millisecond() },
        paths: access::Paths::default(),
        pseudonyms: None,
    };
    let (evidence, _) = report::read(inputs, reading, &mut |_| {}).map_err(|error| error.to_string())?;
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u32, name: &str, at: &str) -> String {
        format!(
            r#"{{"@timestamp":"{at}","event.name":"legacy.identify","schema":"sse-sunset/1","service.instance.id":"here","boot.id":"b","log.seq":{seq},"legacy.session":"s{seq}","identity":"name:{name}","identity.source":"client_info","client.family":"other","client.address":"hmac:{name}","mcp.client.name":"{name}","mcp.client.version":"1","mcp.protocol.version":"2024-11-05"}}"#
        )
    }

    #[test]
    fn those_before_the_time_are_found_in_state_and_in_all_parts_of_the_log() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("traffic.log");
        let write = |name: &str, lines: &[String]| std::fs::write(dir.path().join(name), lines.join("\n") + "\n");
        write("traffic.log", &[line(1, "current", "2026-01-04T00:00:00Z"), line(2, "late", "2026-01-06T00:00:00Z")])
            .expect("written");
        write("traffic.log.1", &[line(0, "rotated", "2025-11-01T00:00:00Z")]).expect("written");
        write("traffic.logs", &[line(0, "foreign", "2025-11-01T00:00:00Z")]).expect("written");
        let live = Live::open(None, "here", "LOG".to_owned()).expect("evidence");
        live.observe(line(7, "live", "2026-01-01T00:00:00Z").as_bytes());
        let (seen, is_whole) = Seen::gather("2026-01-05T00:00:00Z".parse().expect("a time"), &live, Some(&path));
        assert!(is_whole);
        for known in ["current", "rotated", "live"] {
            assert!(seen.has_identity(&format!("name:{known}")), "{known}");
            assert!(seen.has_address(&format!("hmac:{known}")), "{known}");
        }
        for unknown in ["late", "foreign"] {
            assert!(!seen.has_identity(&format!("name:{unknown}")), "{unknown}");
        }
        assert_eq!(seen.count(), 3);
    }
}
