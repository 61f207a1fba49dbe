//! `serve`: reads its options, runs the proxy, and lets it drain.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgMatches, Command};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{FAILED, USAGE, complain, options};
use crate::app::App;
use crate::config::{self, Config, LogFormat, OPTIONS};
use crate::sunset::notice::iso;
use crate::sunset::{Phase, Plan};
use crate::systemd::{Notifier, Sockets};

/// The words of `serve`.
pub(super) fn command() -> Command {
    let serve = OPTIONS.iter().fold(Command::new("serve"), |command, option| command.arg(options::arg(option)));
    serve.about("Serve legacy HTTP+SSE clients in front of an upgraded server").after_help(
        "Every option is also an environment variable (--public-url is SSE_SUNSET_PUBLIC_URL) and a key of the --config \
         file; flags win over the environment, which wins over the file. Durations need a unit (15s, 2m).\n\n\
         A socket that systemd passes takes the place of --listen, one that is called admin that of --admin; systemd is told \
         when clients are served, how it stands, and for its watchdog that it lives.\n\n\
         Exit codes: 0 stopped in order, 1 could not start, 2 usage or configuration, 128+n ended by a second signal n.",
    )
}

/// Serves as `matches` say.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    use_all_descriptors();
    let sockets = match Sockets::from_env() {
        Ok(sockets) => sockets,
        Err(problem) => return complain(USAGE, &problem.to_string()),
    };
    let (mut raw, mut problems) = options::given(matches);
    problems.extend(config::stand_in(&mut raw, &sockets));
    let config = match config::resolve(&raw, problems, &host_name()) {
        Ok(config) => config,
        Err(problems) => return options::refuse(&problems),
    };
    let filter = match EnvFilter::try_new(&config.log_level) {
        Ok(filter) => filter,
        Err(error) => {
            return complain(USAGE, &format!("--log-level: {:?} is no filter: {error}", config.log_level));
        }
    };
    match start(config, sockets, filter) {
        Ok(code) => code,
        Err(error) => complain(FAILED, &format!("{error:#}")),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "sse-sunset".to_owned() } else { name.to_owned() }
}

fn start(config: Config, sockets: Sockets, filter: EnvFilter) -> anyhow::Result<ExitCode> {
    diagnose(&config, filter);
    leave_no_core();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(async {
        let mut signals = Signals::install()?;
        // Before anyone is told that the process is there: a signal that nobody waits for ends it.
        let mut hangup = signal(SignalKind::hangup())?;
        let config_for_banner = config.clone();
        let notifier = Notifier::from_env();
        let passed = sockets.clients.is_some();
        let app = App::build_on(sockets, notifier.clone(), config)?;
        let admin = app.admin_address()?;
        announce(&config_for_banner, passed, app.address()?, admin)?;
        if admin.is_some_and(is_exposed) {
            tracing::warn!(
                "the admin address is no loopback address: whoever reaches it sees who uses this proxy; keep it to a \
                 network you trust"
            );
        }
        let (log, tls, fleet) = (app.log(), app.tls(), app.fleet());
        let reopen = async {
            while hangup.recv().await.is_some() {
                tracing::info!("reopening the traffic log");
                notifier.reloading();
                // What goes wrong is among the diagnostics already.
                let _ = log.reopen().await;
                let fleet = fleet.clone();
                let _ = tokio::task::spawn_blocking(move || fleet.reload()).await;
                if let Some(tls) = tls.clone() {
                    // Beside the threads that serve clients: a file system may hang.
                    let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
                }
                notifier.reloaded();
            }
        };
        // The first signal drains, the second ends: both are awaited side by side with the work.
        let (first, drained) = tokio::sync::oneshot::channel::<()>();
        let insist = async move {
            signals.next().await;
            let _ = first.send(());
            signals.next().await
        };
        let shutdown = async {
            let _ = drained.await;
        };
        anyhow::Ok(tokio::select! {
            () = app.run(shutdown) => ExitCode::SUCCESS,
            number = insist => ExitCode::from(128 + number),
            () = reopen => ExitCode::from(FAILED),
        })
    })?;
    runtime.shutdown_background();
    Ok(code)
}

/// Raises the limit of descriptors as far as this process may: many a shell and container runtime gives 1,024 and lets a
/// process have more that asks, since programs with `select` cannot. How many clients there may be follows from it.
fn use_all_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Who may not is left with what there is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// A core file would hold every credential and message of the moment.
fn leave_no_core() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "cannot switch core files off; a crash may leave credentials on the disk");
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The number of the next one.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

fn is_human(format: LogFormat) -> bool {
    match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    }
}

/// Diagnostics go to standard error, panics of single sessions included.
fn diagnose(config: &Config, filter: EnvFilter) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Nobody may read them any more, as when a journal is restarted: saying so in the same place would be a panic within a panic.
    let builder = builder.log_internal_errors(false);
    if is_human(config.log_format) {
        builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init();
    } else {
        builder.json().init();
    }
    report_panics();
}

/// Has panics reported as diagnostics: where, and not with what words, which could hold what a client sent.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panic: a bug in sse-sunset, please report it");
    }));
}

fn is_exposed(admin: SocketAddr) -> bool {
    !admin.ip().to_canonical().is_loopback()
}

/// Says that connections are accepted, and where, whatever the log level: scripts wait for it.
fn announce(config: &Config, passed: bool, address: SocketAddr, admin: Option<SocketAddr>) -> std::io::Result<()> {
    let scheme = if config.net.tls.is_some() { "https" } else { "http" };
    let base = config.public_url.clone();
    let base = base.unwrap_or_else(|| format!("{scheme}://{address}{}", config.front.public_path));
    let url = format!("{base}{}", config.front.sse_path);
    let log = config.traffic_log.to_string();
    let mut stderr = std::io::stderr().lock();
    if !is_human(config.log_format) {
        let line = serde_json::json!({
            "level": "INFO", "message": "accepting connections", "listen": address.to_string(), "socket_passed": passed,
            "upstream": config.upstream.origin(), "era": config.era.era_as_str(),
            "prefer": config.era.prefer.as_str(), "sse_url": url, "traffic_log": log,
            "admin": admin.map(|address| format!("http://{address}")),
            "state_dir": config.state_dir.as_ref().map(|dir| dir.display().to_string()),
            "fleet": config.fleet.as_ref().map(|fleet| fleet.server.address()),
            "switching_off": steps(&config.sunset.plan),
        });
        return writeln!(stderr, "{line}");
    }
    writeln!(stderr, "sse-sunset {} accepting connections on {address}", env!("CARGO_PKG_VERSION"))?;
    if passed {
        writeln!(stderr, "  socket       was passed, and stays open when this process ends")?;
    }
    let upstream = config.upstream.origin();
    match config.era.era {
        Some(era) => writeln!(stderr, "  upstream     {upstream} (Streamable HTTP, era {})", era.as_str())?,
        None => writeln!(
            stderr,
            "  upstream     {upstream} (Streamable HTTP, era auto, prefers {})",
            config.era.prefer.as_str()
        )?,
    }
    writeln!(stderr, "  hand out     {url}")?;
    writeln!(stderr, "  traffic log  {log}")?;
    if let Some(fleet) = &config.fleet {
        writeln!(stderr, "  fleet        {} through Redis at {}", fleet.name, fleet.server.address())?;
    }
    if let Some(admin) = admin {
        let warning = if is_exposed(admin) { " (not on loopback: keep it to a network you trust)" } else { "" };
        writeln!(stderr, "  admin        http://{admin}{warning}")?;
    }
    if !config.sunset.plan.is_empty() {
        writeln!(stderr, "  switch-off   {}", steps(&config.sunset.plan).join(", "))?;
    }
    match &config.state_dir {
        Some(dir) => writeln!(
            stderr,
            "  state        {} (key of pseudonyms, and who used the server when: kept over restarts)",
            dir.display()
        )?,
        None if config.fleet.is_some() => writeln!(
            stderr,
            "  state        in Redis only: what this replica knows is kept by the others and there; for its own key of \
             pseudonyms and a past without Redis give --state-dir DIR"
        )?,
        None => writeln!(
            stderr,
            "  state        none: the live verdict is UNKNOWN at best and pseudonyms change with every start; keep both with \
             --state-dir DIR"
        )?,
    }
    Ok(())
}

/// The phases that last, with their dates, and how many brownouts come between.
fn steps(plan: &Plan) -> Vec<String> {
    let dates = [
        (Phase::Announce, plan.announce),
        (Phase::Freeze, plan.freeze),
        (Phase::Tombstone, plan.tombstone),
        (Phase::Gone, plan.gone),
    ];
    let dates = dates.into_iter().filter_map(|(phase, date)| Some(format!("{phase} {}", iso(date?))));
    let brownouts = match plan.brownouts.as_slice() {
        [] => None,
        [one] => Some(format!("a brownout {}", iso(one.from))),
        [first, ..] => Some(format!("{} brownouts from {} on", plan.brownouts.len(), iso(first.from))),
    };
    dates.chain(brownouts).collect()
}
