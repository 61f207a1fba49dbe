//! Lines become evidence, whatever they are: records of ours, lines of an old server's access log, something else.
//!
//! Promise: every line is counted in one place, and what is wrong is named with file and line.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use super::access;
use super::evidence::{Bounds, Evidence, Taken};
use super::input::{self, FileName, InputError, Inputs, ProblemKind, Progress};
use super::line::{Line, Millis, NotALine, Text, Who};
use super::outcome::Input;
use crate::traffic::{self, AddressForm, Client, Principal, Pseudonyms};

/// Problems that a report lists at most.
const LISTED: usize = 100;

/// Why no report can be made; exit code 4.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be found or read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A record of a version that is not known here.
    #[error(
        "{file}, line {line}: a record of schema {schema:?}, and this version reads {}; use the version that wrote it",
        crate::traffic::SCHEMA
    )]
    Schema {
        /// The file.
        file: FileName,
        /// The line.
        line: u64,
        /// What it says.
        schema: String,
    },
}

/// How lines are read.
#[derive(Debug)]
pub struct Reading {
    /// Which records count.
    pub bounds: Bounds,
    /// Where the old server served HTTP+SSE, for its access logs.
    pub paths: access::Paths,
    /// Makes pseudonyms of the addresses in access logs, so that they are those of the traffic log; without, addresses
    /// stay as they are.
    pub pseudonyms: Option<Pseudonyms>,
}

/// Reads all of `inputs`; `progress` is told how far it is.
///
/// # Errors
/// When an input cannot be read, or holds records that only another version understands.
pub fn read(
    inputs: Inputs,
    reading: Reading,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Evidence, Input), ReadError> {
    let mut intake = Intake::new(reading);
    let files: Vec<FileName> = inputs.names().cloned().collect();
    let summary = inputs.for_each_line(|line| intake.line(&line), progress)?;
    intake.end_of_file();
    if let Some(error) = intake.schema {
        return Err(error);
    }
    let mut input = intake.input;
    input.files = usize::try_from(summary.files).unwrap_or(usize::MAX);
    input.bytes = summary.bytes;
    input.lines = summary.lines;
    for problem in &summary.problems {
        let is_all = problem.kind == ProblemKind::Nuls && !intake.useful.contains(&problem.file);
        if is_all || hides_records(&problem.kind) {
            intake.evidence.unread.push(problem.to_string());
        }
        add(&mut input, problem.to_string());
    }
    for file in files.iter().filter(|file| !intake.read.contains(file)) {
        input.empty_files += 1;
        add(&mut input, format!("{file}: there is no line in it"));
    }
    Ok((intake.evidence, input))
}

/// What is missing behind the last record that was read shows by no number; elsewhere a hole in `log.seq` tells.
fn hides_records(kind: &ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::CutArchive
            | ProblemKind::DamagedArchive(_)
            | ProblemKind::Replaced
            | ProblemKind::Shrunk
            | ProblemKind::SkippedFolder
            | ProblemKind::TooLong
    )
}

fn add(input: &mut Input, problem: String) {
    input.problem_count += 1;
    if input.problems.len() < LISTED {
        input.problems.push(problem);
    }
}

struct Intake {
    evidence: Evidence,
    input: Input,
    bounds: Bounds,
    paths: access::Paths,
    pseudonyms: Pseudonyms,
    schema: Option<ReadError>,
    /// The file that is read.
    file: Option<FileName>,
    /// Files with lines.
    read: HashSet<FileName>,
    /// Those of them with a line that tells something.
    useful: HashSet<FileName>,
    /// Whether a line of the file that is read told something, and whether one did not.
    told: (bool, bool),
    /// The boot and the time of its last record.
    last: Option<(u32, Millis)>,
    /// Broken records since then: they were made before the next one.
    broken: u64,
}

impl Intake {
    fn new(reading: Reading) -> Self {
        Intake {
            evidence: Evidence::default(),
            input: Input::default(),
            bounds: reading.bounds,
            paths: reading.paths,
            pseudonyms: reading.pseudonyms.unwrap_or_else(|| Pseudonyms::ephemeral(AddressForm::Full)),
            schema: None,
            file: None,
            read: HashSet::new(),
            useful: HashSet::new(),
            told: (false, false),
            last: None,
            broken: 0,
        }
    }

    fn line(&mut self, line: &input::Line<'_>) {
        if self.file.as_ref() != Some(line.file) {
            self.end_of_file();
            self.file = Some(line.file.clone());
            self.read.insert(line.file.clone());
        }
        match Line::parse(line.bytes) {
            Ok(record) => self.record(&record),
            Err(NotALine::Schema(schema)) => {
                let error = ReadError::Schema { file: line.file.clone(), line: line.number, schema };
                self.schema.get_or_insert(error);
            }
            Err(_) if line.is_cut && line.bytes.first() == Some(&b'{') => {
                self.input.broken += 1;
                self.evidence.cut_off(self.last.map(|(boot, _)| boot));
                let text = format!("{}:{}: ends in the middle of a record", line.file, line.number);
                add(&mut self.input, text);
            }
            Err(NotALine::Broken(why)) => {
                self.input.broken += 1;
                self.broken += 1;
                add(&mut self.input, format!("{}:{}: a damaged record: {why}", line.file, line.number));
            }
            Err(NotALine::Foreign) => self.other(line),
        }
    }

    fn record(&mut self, record: &Line<'_>) {
        self.told.0 = true;
        match self.evidence.take(record, &self.bounds) {
            Taken::Counted => self.input.records += 1,
            Taken::FromTheFuture => {
                self.input.records += 1;
                self.input.from_the_future += 1;
            }
            Taken::Duplicate => self.input.duplicates += 1,
            Taken::LeftOut => {
                self.input.left_out += 1;
                return;
            }
        }
        self.damage(record.at);
        self.last = self.evidence.last_boot().map(|boot| (boot, record.at));
    }

    /// Records that could not be read were made no later than `at`.
    fn damage(&mut self, at: Millis) {
        for _ in 0..std::mem::take(&mut self.broken) {
            self.evidence.damaged(at);
        }
    }

    fn end_of_file(&mut self) {
        // Nothing follows, so nothing tells how late they were made.
        let latest = self.bounds.until.unwrap_or(self.bounds.now);
        self.damage(latest);
        self.last = None;
        let (has_told, _) = std::mem::take(&mut self.told);
        let Some(file) = self.file.take() else { return };
        if has_told {
            self.useful.insert(file);
            return;
        }
        // As containers and shippers wrap lines; a replica's log in such a form must not pass for its silence.
        let text = format!(
            "{file}: no line of it is a record; give the log as serve writes it (kubectl logs without --timestamps and \
             --prefix, docker's json-file through jq -rj .log)"
        );
        add(&mut self.input, text.clone());
        self.evidence.unread.push(text);
    }

    fn other(&mut self, line: &input::Line<'_>) {
        let Some(access) = access::parse(line.bytes) else {
            self.input.foreign += 1;
            if !std::mem::replace(&mut self.told.1, true) {
                add(
                    &mut self.input,
                    format!("{}:{}: neither a record nor an access log's line; counted", line.file, line.number),
                );
            }
            return;
        };
        self.input.access_lines += 1;
        self.told.0 = true;
        let Some(kind) = access::legacy(&access, &self.paths) else { return };
        self.input.legacy_access_lines += 1;
        let (identity, source, address) = self.name(&access);
        let text = |text: &str| Text(Cow::Owned(text.to_owned()));
        let who = Who {
            session: Text::default(),
            identity: text(&identity),
            source: text(source),
            family: text(traffic::family(None, None, access.user_agent.as_deref())),
            address: text(&address),
            seen_as: access.user_agent.as_deref().map(text),
        };
        self.evidence.access(&who, kind, access.at.as_millisecond(), &self.bounds);
    }

    /// The identity of whoever sent a request, as the traffic log would have it.
    fn name(&self, access: &access::Access<'_>) -> (String, &'static str, String) {
        let Ok(ip) = access.address.parse::<IpAddr>() else {
            return (format!("address:{}", access.address), "address", access.address.to_string());
        };
        let client = Client {
            principal: Principal::default(),
            info: None,
            user_agent: access.user_agent.as_deref().map(str::to_owned),
            address: ip,
        };
        let identity = client.identity(&self.pseudonyms);
        (identity.value, identity.source.name(), self.pseudonyms.address(ip))
    }
}
