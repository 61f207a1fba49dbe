//! Programs of others that do the proxy's job, as they come from their registries: HTTP+SSE in front, Streamable HTTP behind.
//!
//! Promise: all of it is pinned, goes below `target/`, and is installed anew only when a list changes. They run by their
//! defaults, silent as in production, on the core of what is measured.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::plan::MEASURED_CORE;
use crate::port::Port;
use crate::roles::Role;
use crate::table::{FASTMCP, MCP_PROXY};

/// How long one may take until it listens.
const START: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    /// The command of the Python package `fastmcp`, given a URL and `--transport sse`.
    FastMcp,
    /// The npm library `mcp-proxy`, as `bridge.mjs`.
    McpProxy,
}

/// Where they are installed.
#[derive(Debug)]
pub(crate) struct Installed {
    python: PathBuf,
    node: PathBuf,
}

impl Other {
    pub(crate) fn column(self) -> &'static str {
        match self {
            Other::FastMcp => FASTMCP,
            Other::McpProxy => MCP_PROXY,
        }
    }
}

impl Installed {
    /// Installs what is not there yet.
    pub(crate) fn find() -> Result<Installed> {
        let program = std::env::current_exe()?;
        let home = program.ancestors().nth(2).context("no folder for what is built")?.join("alternatives");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (python, node) = (home.join("python"), home.join("node"));
        let requirements = here.join("../interop/packages/python-2.3.0.txt");
        install(&python, &[&requirements], || {
            run(Command::new("python3").args(["-m", "venv", "."]).current_dir(&python))?;
            let mut pip = Command::new(python.join("bin/pip"));
            run(pip.args(["install", "--quiet", "--no-deps", "--requirement", "python-2.3.0.txt"]).current_dir(&python))
        })?;
        let lists = ["package.json", "package-lock.json", ".npmrc", "bridge.mjs"];
        let lists = lists.map(|list| here.join("alternatives").join(list));
        install(&node, &lists.each_ref().map(PathBuf::as_path), || {
            let mut npm = Command::new("npm");
            // One of them has a script that fetches a list, for tunnels.
            run(npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&node))
        })?;
        Ok(Installed { python, node })
    }

    /// Starts one before the server at `upstream`, and waits until it listens. What it says goes to `said`.
    pub(crate) fn start(&self, other: Other, upstream: &str, said: &Path) -> Result<Role> {
        let port = Port::reserve();
        let (url, number) = (format!("http://{upstream}/mcp"), port.address.port().to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role", "program", &MEASURED_CORE.to_string()]);
        match other {
            Other::FastMcp => {
                command.arg(self.python.join("bin/fastmcp")).args([
                    "run",
                    &url,
                    "--transport",
                    "sse",
                    "--port",
                    &number,
                ]);
                command.args(["--log-level", "WARNING", "--no-banner"]).env("FASTMCP_CHECK_FOR_UPDATES", "off");
            }
            Other::McpProxy => {
                command.arg("node").arg(self.node.join("bridge.mjs")).args([&url, &number]);
                command.env("NODE_ENV", "production");
            }
        }
        let output = File::create(said)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut role = Role::of(command.spawn()?, port.address.to_string());
        let deadline = Instant::now() + START;
        while TcpStream::connect(port.address).is_err() {
            if role.has_ended()? {
                bail!("it ended: {}", last_words(said));
            }
            ensure!(Instant::now() < deadline, "it does not listen: {}", last_words(said));
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(role)
    }
}

/// The last line somebody said.
pub(crate) fn last_words(said: &Path) -> String {
    let said = fs::read_to_string(said).unwrap_or_default();
    said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("without a word").trim().to_owned()
}

/// Does `installation` in `folder`, which holds copies of `lists`, unless the same lists were installed there before.
fn install(folder: &Path, lists: &[&Path], installation: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = String::new();
    for list in lists {
        wanted += &fs::read_to_string(list).with_context(|| format!("{}", list.display()))?;
    }
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    for list in lists {
        fs::copy(list, folder.join(list.file_name().context("a file")?))?;
    }
    installation()?;
    Ok(fs::write(stamp, wanted)?)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_name_the_versions_that_are_installed() {
        let python = include_str!("../../interop/packages/python-2.3.0.txt");
        let version = FASTMCP.rsplit(' ').next().expect("a version");
        assert!(python.lines().any(|line| line == format!("fastmcp=={version}")), "{FASTMCP}");
        let node: serde_json::Value = serde_json::from_str(include_str!("../alternatives/package.json")).expect("JSON");
        let version = MCP_PROXY.rsplit(' ').next().expect("a version");
        assert_eq!(node["dependencies"]["mcp-proxy"], version, "{MCP_PROXY}");
    }
}
