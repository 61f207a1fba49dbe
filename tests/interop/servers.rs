//! The upgraded servers, and what stands in for them where the proxy is not.

use std::process::Command;

use crate::packages::{fixtures, python};
use crate::processes::ServerProcess;
use crate::rmcp_server::{Mode, RmcpServer};

/// What the proxy's conversations are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    /// The same server has HTTP+SSE of its own that can do the same: the same client over it must see the same bytes.
    HttpSse,
    /// The same, but over HTTP+SSE the server speaks the era of 2026 too, to clients that probe for it, which is
    /// another conversation; so these clients are compared with themselves without the probe.
    HttpSseOfBothEras,
    /// It has none, or one that can do more than this mode: the client's direct conversation over Streamable HTTP.
    None,
    /// It speaks the era of 2026, which no legacy client does: the same SDK's client of that era, straight.
    Modern,
    /// It speaks both eras, the older one without sessions, which leaves much undone: either the client's direct
    /// conversation over Streamable HTTP, or that of the client of 2026.
    BothEras,
}

impl Native {
    /// Whether the proxy has to translate between the eras.
    pub(crate) fn is_modern(self) -> bool {
        matches!(self, Native::Modern | Native::BothEras)
    }
}

/// How a server is started.
#[derive(Debug, Clone, Copy)]
enum Program {
    Everything,
    /// `servers/python_server.py` in the environment of this version, with these arguments.
    Python(&'static str, &'static [&'static str]),
    /// `servers/typescript.mjs`, which does this with clients of the session era.
    TypeScript(&'static str),
    /// In this process.
    Rmcp(Mode),
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
    /// Options that the proxy needs before it.
    pub(crate) options: &'static [&'static str],
}

pub(crate) static EVERYTHING: Server = Server {
    profile: "everything",
    title: "server-everything",
    about: "`@modelcontextprotocol/server-everything` 2026.8.31",
    native: Native::HttpSse,
    program: Program::Everything,
    options: &[],
};

pub(crate) static PYTHON_1: Server = Server {
    profile: "python-1.30",
    title: "Python 1.30",
    about: "FastMCP of the Python `mcp` 1.30.0",
    native: Native::HttpSse,
    program: Program::Python("1.30.0", &[]),
    options: &[],
};

pub(crate) static PYTHON_1_STATELESS: Server = Server {
    profile: "python-1.30-stateless",
    title: "Python 1.30 stateless",
    about: "the same with `stateless_http=True`",
    native: Native::None,
    program: Program::Python("1.30.0", &["--stateless"]),
    options: &[],
};

pub(crate) static PYTHON_1_JSON: Server = Server {
    profile: "python-1.30-json",
    title: "Python 1.30 JSON",
    about: "the same with `json_response=True`",
    native: Native::None,
    program: Program::Python("1.30.0", &["--json"]),
    options: &[],
};

pub(crate) static PYTHON_2: Server = Server {
    profile: "python-2.3",
    title: "Python 2.3",
    about: "MCPServer of the Python `mcp` 2.3.0",
    native: Native::HttpSseOfBothEras,
    program: Program::Python("2.3.0", &[]),
    options: &[],
};

pub(crate) static FASTMCP: Server = Server {
    profile: "fastmcp-4.1",
    title: "fastmcp 4.1",
    about: "the Python `fastmcp` 4.1.2",
    native: Native::HttpSseOfBothEras,
    program: Program::Python("2.3.0", &["--library", "fastmcp"]),
    options: &[],
};

pub(crate) static TYPESCRIPT_2_REJECT: Server = Server {
    profile: "typescript-2.4-reject",
    title: "TypeScript 2.4 `reject`",
    about: "`createMcpHandler` of `@modelcontextprotocol/server` 2.4.0 with `legacy: 'reject'`, which refuses `initialize`",
    native: Native::Modern,
    program: Program::TypeScript("reject"),
    options: &[],
};

pub(crate) static TYPESCRIPT_2: Server = Server {
    profile: "typescript-2.4",
    title: "TypeScript 2.4",
    about: "the first as it is by default, which answers `initialize` too",
    native: Native::BothEras,
    program: Program::TypeScript("stateless"),
    options: &[],
};

pub(crate) static PYTHON_2_STATELESS: Server = Server {
    profile: "python-2.3-stateless",
    title: "Python 2.3 stateless",
    about: "MCPServer of the Python `mcp` 2.3.0 with `stateless_http=True`",
    native: Native::Modern,
    program: Program::Python("2.3.0", &["--stateless"]),
    options: &[],
};

pub(crate) static PYTHON_2_BY_RESULT: Server = Server {
    profile: "python-2.3-by-result",
    title: "Python 2.3 `--prefer modern`",
    about: "the same with sessions, before which the proxy is told so",
    native: Native::Modern,
    program: Program::Python("2.3.0", &["--questions-by-result"]),
    options: &["--prefer", "modern"],
};

pub(crate) static RMCP_STATELESS: Server = Server {
    profile: "rmcp-3.9-stateless",
    title: "rmcp 3.9 stateless",
    about: "the Rust SDK 3.9.0 without sessions, which answers `initialize` and refuses what is not of 2026 after it",
    native: Native::Modern,
    program: Program::Rmcp(Mode::Stateless),
    options: &[],
};

pub(crate) static RMCP: Server = Server {
    profile: "rmcp-3.9",
    title: "rmcp 3.9",
    about: "the Rust SDK 3.9.0",
    native: Native::None,
    program: Program::Rmcp(Mode::Sessions),
    options: &[],
};

/// Every server, in the order of the tables' columns.
pub(crate) static SERVERS: [&Server; 12] = [
    &EVERYTHING,
    &PYTHON_1,
    &PYTHON_1_STATELESS,
    &PYTHON_1_JSON,
    &PYTHON_2,
    &FASTMCP,
    &RMCP,
    &TYPESCRIPT_2_REJECT,
    &TYPESCRIPT_2,
    &PYTHON_2_STATELESS,
    &PYTHON_2_BY_RESULT,
    &RMCP_STATELESS,
];

/// A server that runs; it ends when this is dropped.
pub(crate) enum Running {
    Process(ServerProcess),
    Here(RmcpServer),
}

impl Server {
    /// Its Streamable HTTP flavour.
    pub(crate) fn start(&self) -> Running {
        self.start_with("streamableHttp")
    }

    /// Its HTTP+SSE flavour, if it has a comparable one.
    pub(crate) fn start_native(&self) -> Option<Running> {
        matches!(self.native, Native::HttpSse | Native::HttpSseOfBothEras).then(|| self.start_with("sse"))
    }

    fn start_with(&self, transport: &str) -> Running {
        let command = match self.program {
            Program::Rmcp(mode) => return Running::Here(RmcpServer::start(mode)),
            Program::Everything => {
                let mut command = Command::new("node");
                command.arg(fixtures().join("servers/everything.mjs")).arg(transport);
                command
            }
            Program::TypeScript(legacy) => {
                let mut command = Command::new("node");
                command.arg(fixtures().join("servers/typescript.mjs")).arg(legacy);
                command
            }
            Program::Python(version, arguments) => {
                let mut command = Command::new(python(version));
                command.arg(fixtures().join("servers/python_server.py")).args(["--transport", transport]);
                command.args(arguments);
                command
            }
        };
        Running::Process(ServerProcess::start(command))
    }
}

impl Running {
    /// `http://HOST:PORT`
    fn base(&self) -> String {
        match self {
            Running::Process(process) => process.base.clone(),
            Running::Here(server) => server.base(),
        }
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.base())
    }

    pub(crate) fn mcp_url(&self) -> String {
        format!("{}/mcp", self.base())
    }
}
