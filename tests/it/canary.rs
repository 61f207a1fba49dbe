//! The operator's own probes: what they leave in the log and what takes their excuse back (`sessions`), and the canary as
//! cron meets it (`binary`).

use std::io::Write as _;

use serde_json::Value;
use sse_sunset::auth::{ProbeKey, Signer};
use tempfile::NamedTempFile;

use crate::support::{Behaviour, FakeUpstream, Proxy};

mod binary;
mod sessions;

const SESSIONS: Behaviour = Behaviour { sessions: true, sse: true, token: None };

/// A key in a file.
struct Key(NamedTempFile);

impl Key {
    fn of(text: &str) -> Self {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        Key(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("a plain path")
    }

    fn signer(&self) -> Signer {
        Signer::new(ProbeKey::read(self.0.path()).expect("a key"))
    }

    fn header(&self) -> String {
        self.signer().sign(None).to_str().expect("text").to_owned()
    }
}

fn shared_key() -> Key {
    Key::of("the key that both sides have\n")
}

/// A proxy that lingers as in production, with the key.
fn proxy(upstream: &FakeUpstream, key: &Key) -> Proxy {
    Proxy::start(upstream.url(), &[("probe-key-file", key.path()), ("linger", "15s")])
}

fn names(log: &[Value]) -> Vec<&str> {
    let all = log.iter().map(|record| record["event.name"].as_str().expect("a name"));
    all.filter(|name| !name.starts_with("proxy.")).collect()
}
