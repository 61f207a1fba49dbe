//! The processes that are measured: this program again, in another role, on a core of its own.
//!
//! Why the same program: the proxy is then built with the very same settings as its references, and nothing has to be
//! built or found beforehand.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use sse_sunset_counting::Allocations;
use tokio::net::TcpListener;

use crate::{measure, relay, stub};

/// A running process in a role.
#[derive(Debug)]
pub(crate) struct Role {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Role {
    /// Starts `role` with `arguments` on `core`, and waits until it listens.
    pub(crate) fn start(role: &str, core: usize, arguments: &[&str]) -> Result<Role> {
        let core = core.to_string();
        Role::begin(&[&[role, &core], arguments].concat(), Stdio::null)
    }

    /// The same, with what it allocates counted.
    pub(crate) fn start_counted(role: &str, core: usize, arguments: &[&str]) -> Result<Role> {
        let core = core.to_string();
        Role::begin(&[&["counted", role, &core], arguments].concat(), Stdio::piped)
    }

    fn begin(words: &[&str], pipe: fn() -> Stdio) -> Result<Role> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("role")
            .args(words)
            .stdin(pipe())
            .stdout(pipe())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("piped")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        let Some(address) = serde_json::from_str(&line)
            .ok()
            .and_then(|said: serde_json::Value| Some(said.get("listen")?.as_str()?.to_owned()))
        else {
            let _ = child.kill();
            said.read_to_string(&mut line)?;
            bail!("{words:?} did not start: {line}");
        };
        // Whatever it says later is shown: the first place to look when a run goes wrong.
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Ok(Role { child, address })
    }

    /// What listens at `address` already.
    pub(crate) fn of(child: Child, address: String) -> Role {
        Role { child, address }
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it allocated so far, if that is counted.
    pub(crate) fn allocations(&mut self) -> Result<Allocations> {
        self.child.stdin.as_mut().context("not counted")?.write_all(b"\n")?;
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().context("not counted")?).read_line(&mut line)?;
        let (count, bytes) = serde_json::from_str(&line)?;
        Ok(Allocations { count, bytes })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has cost so far.
    pub(crate) fn cost(&self) -> Result<measure::Cost> {
        measure::cost(self.pid())
    }
}

impl Role {
    /// Has it end in order, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this process, and whatever threads it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core % std::thread::available_parallelism()?.get().max(core + 1));
    // A machine with fewer cores, or a container without the right: the figures are then worse, not wrong.
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        eprintln!("cannot keep to core {core}: {error}");
    }
    Ok(())
}

/// As many descriptors as the system allows.
pub(crate) fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Counts what this process allocates, and tells it whenever there is a line to read.
fn count_allocations() {
    sse_sunset_counting::start();
    std::thread::spawn(|| {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let Allocations { count, bytes } = sse_sunset_counting::so_far();
            println!("[{count},{bytes}]");
        }
    });
}

/// Plays a role until the process is killed: the proxy with its own options; a relay with the address behind it; the stub
/// with `json` or `sse`, and if it has to be a port and the path of a ledger; or whatever `program` with its arguments.
pub(crate) fn play(words: &[String]) -> Result<()> {
    let is_counted = words.first().is_some_and(|word| word == "counted");
    let [role, core, arguments @ ..] = words.get(usize::from(is_counted)..).unwrap_or_default() else {
        bail!("a role needs a name and a core")
    };
    pin(core.parse()?)?;
    raise_descriptors();
    if is_counted {
        count_allocations();
    }
    if role == "program" {
        let [program, arguments @ ..] = arguments else { bail!("a program is needed") };
        return Err(Command::new(program).args(arguments).exec()).context(program.clone());
    }
    if role == "proxy" {
        let words = ["sse-sunset", "serve", "--listen", "127.0.0.1:0", "--admin", "off", "--log-format", "json"];
        let words = words.into_iter().map(str::to_owned).chain(arguments.iter().cloned()).map(Into::into);
        std::process::exit(i32::from(sse_sunset::cli::run(words) != std::process::ExitCode::SUCCESS));
    }
    let argument = arguments.first().cloned().unwrap_or_default();
    let port: u16 = arguments.get(1).map_or(Ok(0), |port| port.parse())?;
    let ledger = arguments.get(2).map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        eprintln!("{}", serde_json::json!({ "listen": listener.local_addr()?.to_string() }));
        match role.as_str() {
            "stub" => stub::serve(listener, argument == "sse", ledger).await,
            "raw" => relay::raw(listener, argument).await,
            "hyper" => relay::hyper(listener, argument).await,
            _ => bail!("no such role: {role}"),
        }
    })
}
