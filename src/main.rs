//! sse-sunset: see `cli` for the words it takes, `app` for what it runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    sse_sunset::cli::run(std::env::args_os())
}
