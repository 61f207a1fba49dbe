//! One client of each SDK, for what both have to bear.

use crate::driver::{Client, Driver};
use crate::server::Server;

/// Two clients with a session each, named after their SDK.
pub(crate) struct Both {
    pub(crate) typescript: Driver,
    pub(crate) python: Driver,
}

impl Both {
    /// The processes, with no client in them yet.
    pub(crate) fn start() -> Self {
        Both { typescript: Driver::typescript(), python: Driver::python() }
    }

    pub(crate) fn connect(url: &str) -> Self {
        let both = Self::start();
        both.typescript.connect("typescript", url, None);
        both.python.connect("python", url, None);
        both
    }

    pub(crate) fn clients(&self) -> [Client<'_>; 2] {
        [self.typescript.client("typescript"), self.python.client("python")]
    }

    pub(crate) fn assert_kept(&self, server: &Server) {
        self.typescript.ledger().assert_kept(server);
        self.python.ledger().assert_kept(server);
    }

    /// Nobody's stream ended.
    pub(crate) fn assert_streams_stayed(&self) {
        for client in [&self.typescript, &self.python] {
            for (name, account) in client.ledger().clients {
                assert_eq!(account.gets, [200], "{name} had one stream: {:?}", account.troubles);
            }
        }
    }
}
