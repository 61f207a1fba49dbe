//! `healthcheck`: asks a running proxy whether it is ready, for container images that hold nothing but this program.
//!
//! Exit codes: 0 ready, 1 not ready or not there, 2 usage.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgMatches, Command};

use super::{FAILED, USAGE};

/// Where `serve` listens for operators unless told otherwise.
const DEFAULT: &str = "127.0.0.1:9090";
/// How long each step may take; whoever runs the check has a limit for the whole.
const STEP: Duration = Duration::from_secs(3);
/// More than any answer has, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// The words of `healthcheck`.
pub(super) fn command() -> Command {
    let admin = Arg::new("admin")
        .long("admin")
        .value_name("URL")
        // The variable that `serve` reads: in one container both have the same.
        .env("SSE_SUNSET_ADMIN")
        .hide_env(true)
        .default_value(DEFAULT)
        .help("Admin address of the running proxy, as http://HOST:PORT or HOST:PORT");
    Command::new("healthcheck").about("Ask a running proxy whether it is ready: exit code 0 if so, else 1").arg(admin)
}

/// Asks, and says what came of it on standard output.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    // An empty variable is one that is not set.
    let given = options.get_one::<String>("admin").filter(|given| !given.is_empty()).map_or(DEFAULT, String::as_str);
    let Some(address) = address(given) else {
        let _ = writeln!(
            std::io::stderr(),
            "sse-sunset: --admin: {given:?} is no admin address, such as http://127.0.0.1:9090 (a proxy with --admin off \
             cannot be asked)"
        );
        return ExitCode::from(USAGE);
    };
    match ask(address) {
        Ok((200, body)) => {
            let _ = writeln!(std::io::stdout(), "{}", body.trim());
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            let _ = writeln!(std::io::stdout(), "HTTP {status}: {}", body.trim());
            ExitCode::from(FAILED)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sse-sunset: {address}: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Where to ask. One that listens everywhere is asked on loopback.
fn address(given: &str) -> Option<SocketAddr> {
    let given = given.strip_prefix("http://").unwrap_or(given);
    let mut address = given.trim_end_matches('/').to_socket_addrs().ok()?.next()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address)
}

/// The status and body of `/readyz`.
fn ask(address: SocketAddr) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, STEP).context("nobody answers there")?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    // HTTP/1.0: the answer ends with the connection, and comes in no chunks.
    write!(stream, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).context("no answer")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("this is no HTTP") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("this is no HTTP")?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_in_every_form_and_asked_where_it_answers() {
        for (given, asked) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://127.0.0.1:9090/", "127.0.0.1:9090"),
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("http://[::]:9090", "[::1]:9090"),
        ] {
            assert_eq!(address(given), asked.parse().ok(), "{given}");
        }
        for given in ["off", "", "https://127.0.0.1:9090", "127.0.0.1"] {
            assert_eq!(address(given), None, "{given}");
        }
    }
}
