//! Measures sse-sunset against its references, in one command and one table. See README.md beside this crate.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool for a terminal, whose tasks end with it"
)]

mod accounts;
mod alternatives;
mod client;
mod counts;
mod fleet;
mod logs;
mod measure;
mod others;
mod plan;
#[path = "../../faults/port.rs"]
#[allow(dead_code, reason = "shared with tests/faults")]
mod port;
#[path = "../../it/support/redis.rs"]
#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "shared with tests/it, where what is missing shall panic"
)]
mod redis;
mod relay;
mod roles;
mod soak;
mod staying;
mod stub;
mod syscalls;
mod table;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, Command};
use sse_sunset_counting::Counting;

/// As the proxy has it, but counted where a role asks for it; the relays share it.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: Counting<tikv_jemallocator::Jemalloc> = Counting(tikv_jemallocator::Jemalloc);

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[global_allocator]
static ALLOCATOR: Counting<std::alloc::System> = Counting(std::alloc::System);

/// By how much a budget may be missed in the short mode, on machines with other work to do.
const WIDE: f64 = 3.0;

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, role @ ..] = words.as_slice()
        && word == "role"
    {
        roles::play(role)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [_, word, rest @ ..] = words.as_slice()
        && matches!(word.as_str(), "make-log" | "read-log")
    {
        logs::play(word, rest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let options = Command::new("sse-sunset-load")
        .about("Measures sse-sunset against a native SSE server, a raw relay, a hyper relay and direct Streamable HTTP")
        .arg(flag("short", "A minute's worth: all answers are checked, figures that are off by far fail"))
        .arg(flag("json", "The table as JSON"))
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("LOAD")
                .action(ArgAction::Append)
                .value_parser(plan::LOADS)
                .help("Rows of this load only; may be given more than once"),
        )
        .arg(
            Arg::new("soak")
                .long("soak")
                .value_name("SECONDS")
                .value_parser(clap::value_parser!(u64).range(30..))
                .help("Instead of the table: sessions that come, work and vanish for so long, and a proxy that stays as it was"),
        )
        .get_matches();
    let short = options.get_flag("short");
    roles::pin(0)?;
    let descriptors = roles::raise_descriptors();
    let mut size = if short { plan::Size::short() } else { plan::Size::full() };
    // Beside the idle sessions there are 64 at work.
    let (fit, too_many): (Vec<_>, Vec<_>) =
        size.idle.into_iter().partition(|count| *count as u64 * 2 + 350 < descriptors);
    size.idle = fit;
    if let Some(least) = too_many.iter().min() {
        eprintln!(
            "{descriptors} descriptors are too few for {least} idle sessions: their rows are left out (ulimit -n)"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if let Some(seconds) = options.get_one::<u64>("soak") {
        let time = std::time::Duration::from_secs(*seconds);
        println!("{}", runtime.block_on(soak::run(soak::Length::Time(time)))?);
        return Ok(ExitCode::SUCCESS);
    }
    let only: Vec<&str> = options.get_many::<String>("only").into_iter().flatten().map(String::as_str).collect();
    let only = if only.is_empty() { plan::LOADS.to_vec() } else { only };
    let rows = runtime.block_on(async { plan::Stage::set()?.measure(&size, &only).await })?;
    if options.get_flag("json") {
        println!("{}", serde_json::to_string_pretty(&table::with_ratios(&rows)?)?);
    } else {
        print!("{}", table::render(&rows));
    }
    if short {
        eprintln!("{}", runtime.block_on(soak::run(soak::Length::Once))?);
    }
    let off = rows.iter().filter_map(|row| row.budget.as_ref()).any(|budget| budget.is_missed_by(WIDE));
    Ok(if short && off { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
