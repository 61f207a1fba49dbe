//! sse-sunset: see `cli` for the words it takes, `app` for what it runs.

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sse_sunset::cli::run(std::env::args_os())
}
