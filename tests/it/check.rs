//! The check before the cutover: against good servers, and against each kind of trouble that it is for.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use sse_sunset::probe::check::{self, Finding, Options, Report, Status, Trust};

use crate::support::{Behaviour, within};

mod binary;
mod login;
mod public;
mod server;
mod tls;
mod upstream;

const SESSIONS: Behaviour = Behaviour { sessions: true, sse: true, token: None };

/// What a test wants looked at; waits are short, so that what hangs is told soon.
fn options(upstream: Option<&str>, public: Option<&str>) -> Options {
    let url = |text: &str| text.parse().expect("a URL");
    Options {
        upstream: upstream.map(url),
        public: public.map(url),
        headers: HeaderMap::new(),
        upstream_host: None,
        trust: Trust::default(),
        patience: Duration::from_secs(5),
        watch: Duration::ZERO,
        signer: None,
    }
}

/// Runs the check, and looks at what holds for every report: each finding was told as it came, stands there once, and says
/// what to do where something is wrong.
async fn checked(options: &Options) -> Found {
    let mut told: Vec<Finding> = Vec::new();
    let report: Report = {
        let mut tell = |finding: &Finding| told.push(finding.clone());
        within("the report", check::run(options, &mut tell)).await
    };
    assert_eq!(told, report.findings);
    let mut found = BTreeMap::new();
    for finding in report.findings {
        let wrong = matches!(finding.status, Status::Warning | Status::Failure);
        for note in [&finding.meaning, &finding.remedy] {
            assert_eq!(note.as_ref().is_some_and(|note| note.len() > 10), wrong, "{finding:#?}");
        }
        assert!(!finding.seen.is_empty(), "{finding:#?}");
        assert!(found.insert(finding.id.clone(), finding).is_none(), "told twice");
    }
    Found(found)
}

/// What was found, by id.
#[derive(Debug)]
struct Found(BTreeMap<String, Finding>);

impl Found {
    fn of(&self, id: &str) -> &Finding {
        self.0.get(id).unwrap_or_else(|| panic!("{id} was not looked at: {self:#?}"))
    }

    /// The finding, which is as `status` says.
    fn is(&self, id: &str, status: Status) -> &Finding {
        let finding = self.of(id);
        assert_eq!(finding.status, status, "{finding:#?}");
        finding
    }

    /// The ids that are so, without the side's prefix.
    fn all(&self, status: Status) -> Vec<&str> {
        let is_so = self.0.values().filter(|finding| finding.status == status);
        is_so.map(|finding| finding.id.as_str()).collect()
    }
}
