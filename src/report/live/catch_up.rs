//! What the traffic log knows and the state directory does not: a process that was killed had no time to write it, and one
//! whose state directory was full wrote nothing for days.
//!
//! The trap: a log may hold more than the end that is read here, and of more replicas. An old start of which only the end
//! stands there, and nothing in the state, would look like one whose beginning was lost.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use super::super::evidence::{Bounds, Evidence, Taken};
use super::super::line::Line;

/// How much of the end of a log is read. What a process writes in a second is far less.
const END: u64 = 16 << 20;

/// Takes in what the end of the log at `path` tells of the replica `instance` and `evidence` does not know; says how many
/// records that were.
///
/// # Errors
/// When the log is there and cannot be read.
pub(super) fn catch_up(evidence: &mut Evidence, instance: &str, path: &Path, bounds: &Bounds) -> io::Result<u64> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        metadata => metadata?,
    };
    // A pipe would be waited at, and a device has no end.
    if !metadata.is_file() {
        return Ok(0);
    }
    let ours = || evidence.boots.iter().filter(|boot| boot.instance == instance);
    let mut known: HashSet<String> = ours().map(|boot| boot.id.clone()).collect();
    let latest = ours().map(|boot| boot.runs.latest()).max();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(END)))?;
    let mut lines = BufReader::new(file);
    let (mut bytes, mut taken) = (Vec::new(), 0);
    // Where the reading begins in the middle of a record, the rest of that is none.
    while lines.read_until(b'\n', &mut bytes)? > 0 {
        if let Ok(line) = Line::parse(bytes.trim_ascii_end())
            && *line.instance == *instance
        {
            // A start that the state should know by its time, and does not: what is missing of it has to show.
            let follows = line.seq == 0 || latest.is_some_and(|latest| line.at > latest);
            if follows && !known.contains(&*line.boot) {
                known.insert(line.boot.to_string());
            }
            if known.contains(&*line.boot) && evidence.take(&line, bounds) != Taken::Duplicate {
                taken += 1;
            }
        }
        bytes.clear();
    }
    Ok(taken)
}
