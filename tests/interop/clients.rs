//! The legacy clients, and how a conversation of one is run.

use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};

use serde_json::Value;

use crate::packages::{fixtures, node, python};
use crate::rmcp_client;

/// Over which transport a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    StreamableHttp,
}

/// What runs a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `clients/conversation.mjs` with this name of `clients/sdk.mjs`, and `@VERSION` if it is to ask for another version
    /// of the protocol than its newest.
    Node(&'static str),
    /// `clients/conversation.py` in the environment of this version.
    Python(&'static str),
    /// The same, told not to ask for `server/discover`.
    PythonWithoutProbe(&'static str),
    /// The same, told to ask for this version of the protocol.
    PythonAsking(&'static str, &'static str),
    /// `rmcp_client`, in this process.
    Rmcp,
}

/// What stands in for a client where a conversation over Streamable HTTP is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direct {
    Itself,
    /// The same version without its probe, which would find the newer era of a server that has both: another
    /// conversation than the one to compare with.
    WithoutProbe(Program),
    /// A newer version of the same SDK, as this one is too old for Streamable HTTP: it words things its own way.
    Newer(Program),
}

/// An official client in one version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// As people call it.
    pub(crate) title: &'static str,
    pub(crate) program: Program,
    /// What speaks Streamable HTTP where it is to be compared with a conversation without the proxy.
    pub(crate) direct: Direct,
    /// The name it gives itself, as the traffic log has it.
    pub(crate) name: &'static str,
    /// Its `client.family` in the traffic log.
    pub(crate) family: &'static str,
}

/// The client of 2026 that servers of that era are tried with.
pub(crate) const MODERN: Program = Program::Node("typescript-2.4.0-modern");

/// Every client that takes part.
pub(crate) static CLIENTS: [Client; 9] = [
    Client {
        title: "TypeScript SDK 1.8.0",
        program: Program::Node("typescript-1.8.0"),
        // 1.8.0 has no Streamable HTTP.
        direct: Direct::Newer(Program::Node("typescript-1.32.2")),
        name: "interop-ts",
        family: "typescript-sdk",
    },
    Client {
        title: "TypeScript SDK 1.32.2",
        program: Program::Node("typescript-1.32.2"),
        direct: Direct::Itself,
        name: "interop-ts",
        family: "typescript-sdk",
    },
    Client {
        title: "TypeScript client 2.4.0",
        program: Program::Node("typescript-2.4.0"),
        direct: Direct::Itself,
        name: "interop-ts",
        family: "typescript-sdk",
    },
    Client {
        title: "TypeScript client 2.4.0 (auto)",
        program: Program::Node("typescript-2.4.0-auto"),
        direct: Direct::WithoutProbe(Program::Node("typescript-2.4.0")),
        name: "interop-ts",
        family: "typescript-sdk",
    },
    Client {
        title: "mcp-remote 0.15.1",
        program: Program::Node("mcp-remote-0.15.1"),
        direct: Direct::Itself,
        name: "interop-ts",
        family: "mcp-remote",
    },
    Client {
        title: "Python SDK 1.9.0",
        program: Program::Python("1.9.0"),
        // 1.9.0 has Streamable HTTP, but cannot read the events without data that newer servers begin with.
        direct: Direct::Newer(Program::Python("1.30.0")),
        name: "interop-py",
        family: "python-sdk",
    },
    Client {
        title: "Python SDK 1.30.0",
        program: Program::Python("1.30.0"),
        direct: Direct::Itself,
        name: "interop-py",
        family: "python-sdk",
    },
    Client {
        title: "Python SDK 2.3.0",
        program: Program::Python("2.3.0"),
        direct: Direct::WithoutProbe(Program::PythonWithoutProbe("2.3.0")),
        name: "interop-py",
        family: "python-sdk",
    },
    Client {
        title: "rmcp 0.8.5",
        program: Program::Rmcp,
        direct: Direct::Itself,
        name: "interop-rs",
        // It names no user-agent, and the name that it gives is ours.
        family: "other",
    },
];

/// The client with this title.
pub(crate) fn client(title: &str) -> &'static Client {
    CLIENTS.iter().find(|client| client.title == title).expect("a client of the list")
}

/// The versions of the protocol that legacy clients speak.
pub(crate) const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The SDKs of `ASKING`.
pub(crate) const ASKING_SDKS: [&str; 2] = ["TypeScript SDK 1.32.2", "Python SDK 1.30.0"];

/// The same clients, told to ask for another version of the protocol than their newest.
pub(crate) static ASKING: [Client; 6] = [
    asking(0, Program::Node("typescript-1.32.2@2024-11-05")),
    asking(0, Program::Node("typescript-1.32.2@2025-03-26")),
    asking(0, Program::Node("typescript-1.32.2@2025-06-18")),
    asking(1, Program::PythonAsking("1.30.0", "2024-11-05")),
    asking(1, Program::PythonAsking("1.30.0", "2025-03-26")),
    asking(1, Program::PythonAsking("1.30.0", "2025-06-18")),
];

const fn asking(sdk: usize, program: Program) -> Client {
    let (name, family) = [("interop-ts", "typescript-sdk"), ("interop-py", "python-sdk")][sdk];
    Client { title: ASKING_SDKS[sdk], program, direct: Direct::Itself, name, family }
}

impl Client {
    /// The program of its direct conversation.
    pub(crate) fn direct_program(&self) -> Program {
        match self.direct {
            Direct::Itself => self.program,
            Direct::WithoutProbe(program) | Direct::Newer(program) => program,
        }
    }

    /// What speaks the era of 2026 in its place: the newest client of the same language, if there is one.
    pub(crate) fn modern_program(&self) -> Program {
        match self.program {
            Program::Python(_) | Program::PythonWithoutProbe(_) | Program::PythonAsking(..) => Program::Python("2.3.0"),
            Program::Node(_) | Program::Rmcp => MODERN,
        }
    }

    /// Whether `modern_program` tells what it sees in the same words.
    pub(crate) fn speaks_like_modern_program(&self) -> bool {
        self.program != Program::Rmcp
    }
}

/// Whether a conversation is a whole one, or only what the server's profile says that it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    Lacking,
}

/// Leave to hold a conversation: two at a time, so that no deadline is missed for want of a processor.
pub(crate) struct Turn;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

impl Turn {
    pub(crate) fn take() -> Self {
        let free = TURNS.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = TURNS.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        TURNS.1.notify_one();
    }
}

/// What `clients/profiles.json` says about a server, for a conversation over `transport`.
fn profile(server: &str, transport: Transport) -> Value {
    let text = std::fs::read_to_string(fixtures().join("clients/profiles.json")).expect("the profiles");
    let all: Value = serde_json::from_str(&text).expect("profiles in JSON");
    let of_server = &all["servers"][server];
    let mut profile = all["tools"][of_server["tools"].as_str().expect("a known server")].clone();
    profile["lacks"] = of_server["lacks"].clone();
    if let (Transport::StreamableHttp, Some(more)) = (transport, of_server["lacks_in_the_session_era"].as_object()) {
        profile["lacks"].as_object_mut().expect("an object").extend(more.clone());
    }
    profile
}

/// Runs a conversation with the server of the profile `server` and gives the lines it printed.
pub(crate) fn converse(program: Program, transport: Transport, url: &str, server: &str, extent: Extent) -> Vec<String> {
    let _turn = Turn::take();
    let kind = match transport {
        Transport::Sse => "sse",
        Transport::StreamableHttp => "http",
    };
    let mut command = match program {
        Program::Rmcp => return rmcp_client::converse(transport, url, &profile(server, transport)),
        Program::Node(client) => {
            let mut command = Command::new("node");
            command.arg(fixtures().join("clients/conversation.mjs")).arg(client);
            command
        }
        Program::Python(version) | Program::PythonWithoutProbe(version) | Program::PythonAsking(version, _) => {
            let mode = match program {
                Program::PythonWithoutProbe(_) => "without-probe",
                Program::PythonAsking(_, protocol) => protocol,
                _ => "default",
            };
            let mut command = Command::new(python(version));
            command.arg(fixtures().join("clients/conversation.py")).arg(mode);
            command
        }
    };
    command.args([kind, url, server]).env("INTEROP_PACKAGES", node()).stdin(Stdio::null());
    if extent == Extent::Lacking {
        command.arg("lacking");
    }
    let output = command.output().expect("a client");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?} with {server} ended with {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("utf-8").lines().map(str::to_owned).collect()
}
