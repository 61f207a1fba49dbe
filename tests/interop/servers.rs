//! The upgraded servers, and what stands in for them where the proxy is not.

use std::process::Command;

use crate::packages::{fixtures, node, python};
use crate::processes::ServerProcess;

/// What the proxy's conversations are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    /// The same server has HTTP+SSE of its own that can do the same: the same client over it must see the same bytes.
    HttpSse,
    /// It has none, or one that can do more than this mode: the client's direct conversation over Streamable HTTP.
    None,
}

/// How a server is started.
#[derive(Debug, Clone, Copy)]
enum Program {
    Everything,
    /// `servers/python_server.py` in the environment of this version, with these arguments.
    Python(&'static str, &'static [&'static str]),
}

/// A real server in one mode.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its name in `clients/profiles.json`.
    pub(crate) profile: &'static str,
    /// As people call it, short enough for the head of a column.
    pub(crate) title: &'static str,
    /// What exactly it is.
    pub(crate) about: &'static str,
    pub(crate) native: Native,
    program: Program,
}

pub(crate) static EVERYTHING: Server = Server {
    profile: "everything",
    title: "server-everything",
    about: "`@modelcontextprotocol/server-everything` 2026.8.31",
    native: Native::HttpSse,
    program: Program::Everything,
};

pub(crate) static PYTHON_1: Server = Server {
    profile: "python-1.30",
    title: "Python 1.30",
    about: "FastMCP of the Python `mcp` 1.30.0",
    native: Native::HttpSse,
    program: Program::Python("1.30.0", &[]),
};

/// Every server, in the order of the table's columns.
pub(crate) static SERVERS: [&Server; 2] = [&EVERYTHING, &PYTHON_1];

/// A server that runs; it ends when this is dropped.
pub(crate) struct Running {
    process: ServerProcess,
}

impl Server {
    /// Its Streamable HTTP flavour.
    pub(crate) fn start(&self) -> Running {
        self.start_with("streamableHttp")
    }

    /// Its HTTP+SSE flavour, if it has a comparable one.
    pub(crate) fn start_native(&self) -> Option<Running> {
        (self.native == Native::HttpSse).then(|| self.start_with("sse"))
    }

    fn start_with(&self, transport: &str) -> Running {
        let command = match self.program {
            Program::Everything => {
                let mut command = Command::new("node");
                command.arg(fixtures().join("servers/everything.mjs")).arg(transport);
                command
            }
            Program::Python(version, arguments) => {
                let mut command = Command::new(python(version));
                command.arg(fixtures().join("servers/python_server.py")).args(["--transport", transport]);
                command.args(arguments);
                command
            }
        };
        Running { process: ServerProcess::start(command) }
    }
}

impl Running {
    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.process.base)
    }

    pub(crate) fn mcp_url(&self) -> String {
        format!("{}/mcp", self.process.base)
    }
}
