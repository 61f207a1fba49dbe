//! What the check found: one line for each thing that was looked at.
//!
//! Promise: a warning or a failure cannot be made without saying what it means and what to do about it. Texts of
//! servers are shortened and stripped of control characters on their way in; credentials never get here.

use serde::Serialize;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, with a loss or a risk that somebody should know of.
    Warning,
    /// It will not work.
    Failure,
    /// It was not looked at, and why.
    Skipped,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failure => "failure",
            Status::Skipped => "skipped",
        }
    }
}

/// Which side of the proxy was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The upgraded server.
    Upstream,
    /// The URL that clients know.
    Public,
}

impl Side {
    /// The id of what is called `name` on this side: stable, for programs.
    #[must_use]
    pub fn id(self, name: &str) -> String {
        let side = match self {
            Side::Upstream => "upstream",
            Side::Public => "public",
        };
        format!("{side}.{name}")
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name, which never changes: `upstream.session-id`.
    pub id: String,
    /// How it is.
    pub status: Status,
    /// What was seen, with figures; for skipped ones, why.
    pub seen: String,
    /// What that means for legacy clients, where it is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// What to do, and in whose hands it is. Every warning and every failure has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What a warning or failure says: what it means, and what to do.
#[derive(Debug, Clone)]
pub(super) struct Advice {
    meaning: String,
    remedy: String,
}

impl Advice {
    pub(super) fn new(meaning: impl Into<String>, remedy: impl Into<String>) -> Self {
        Advice { meaning: meaning.into(), remedy: remedy.into() }
    }
}

/// All that was found, and who is told of each as it comes.
pub(super) struct Findings<'a> {
    list: Vec<Finding>,
    tell: &'a mut (dyn FnMut(&Finding) + Send),
}

impl<'a> Findings<'a> {
    pub(super) fn new(tell: &'a mut (dyn FnMut(&Finding) + Send)) -> Self {
        Findings { list: Vec::new(), tell }
    }

    pub(super) fn into_report(self) -> Report {
        Report { findings: self.list }
    }

    /// The findings of one side.
    pub(super) fn on(&mut self, side: Side) -> On<'_, 'a> {
        On { side, findings: self }
    }
}

/// Puts findings of one side on the list.
pub(super) struct On<'f, 'a> {
    side: Side,
    findings: &'f mut Findings<'a>,
}

impl On<'_, '_> {
    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Whether `name` was told of.
    pub(super) fn is_told(&self, name: &str) -> bool {
        let id = self.side.id(name);
        self.findings.list.iter().any(|finding| finding.id == id)
    }

    pub(super) fn ok(&mut self, name: &str, seen: impl Into<String>) {
        self.add(name, Status::Ok, seen.into(), None);
    }

    pub(super) fn warning(&mut self, name: &str, seen: impl Into<String>, advice: Advice) {
        self.add(name, Status::Warning, seen.into(), Some(advice));
    }

    pub(super) fn failure(&mut self, name: &str, seen: impl Into<String>, advice: Advice) {
        self.add(name, Status::Failure, seen.into(), Some(advice));
    }

    /// Says of each that was not told of yet that it was not looked at, and why.
    pub(super) fn skipped(&mut self, names: &[&str], why: &str) {
        for name in names {
            if !self.is_told(name) {
                self.add(name, Status::Skipped, why.to_owned(), None);
            }
        }
    }

    fn add(&mut self, name: &str, status: Status, seen: String, advice: Option<Advice>) {
        let (meaning, remedy) = advice.map(|advice| (advice.meaning, advice.remedy)).unzip();
        let finding = Finding { id: self.side.id(name), status, seen, meaning, remedy };
        (self.findings.tell)(&finding);
        self.findings.list.push(finding);
    }
}

/// The whole answer of a check.
#[derive(Debug, Clone)]
pub struct Report {
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many are so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    /// Whether something will not work.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.count(Status::Failure) > 0
    }
}
