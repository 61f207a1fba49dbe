//! `healthcheck`: asks a running proxy whether it is ready, for container images that hold nothing but this program.
//!
//! Exit codes: 0 ready, 1 not ready or not there, 2 usage.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::{FAILED, USAGE, ask, complain};

/// Whoever runs the check has a limit for the whole.
const PATIENCE: Duration = Duration::from_secs(3);

/// The words of `healthcheck`.
pub(super) fn command() -> Command {
    Command::new("healthcheck")
        .about("Ask a running proxy whether it is ready: exit code 0 if so, else 1")
        .arg(ask::admin())
}

/// Asks, and says what came of it on standard output.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let address = match ask::asked(options) {
        Ok(address) => address,
        Err(problem) => return complain(USAGE, &problem),
    };
    match ask::get(address, "/readyz", PATIENCE) {
        Ok((200, body)) => {
            let _ = writeln!(std::io::stdout(), "{}", body.trim());
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            let _ = writeln!(std::io::stdout(), "HTTP {status}: {}", body.trim());
            ExitCode::from(FAILED)
        }
        Err(error) => complain(FAILED, &format!("{address}: {error:#}")),
    }
}
