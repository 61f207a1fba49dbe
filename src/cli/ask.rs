//! Asks the admin listener of a running proxy.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgMatches};

/// Where `serve` listens for operators unless told otherwise.
const DEFAULT: &str = "127.0.0.1:9090";
/// How long it may take to connect, and to send.
const STEP: Duration = Duration::from_secs(3);
/// More than any answer has, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// The option that says where to ask.
pub(super) fn admin() -> Arg {
    Arg::new("admin")
        .long("admin")
        .value_name("URL")
        // The variable that `serve` reads: in one container both have the same.
        .env("SSE_SUNSET_ADMIN")
        .hide_env(true)
        .default_value(DEFAULT)
        .help("Admin address of the running proxy, as http://HOST:PORT or HOST:PORT")
}

/// Where `options` say to ask.
///
/// # Errors
/// When that is no address.
pub(super) fn asked(options: &ArgMatches) -> Result<SocketAddr, String> {
    // An empty variable is one that is not set.
    let given = options.get_one::<String>("admin").filter(|given| !given.is_empty()).map_or(DEFAULT, String::as_str);
    address(given).ok_or_else(|| {
        format!(
            "--admin: {given:?} is no admin address, such as http://127.0.0.1:9090 (a proxy with --admin off cannot be asked)"
        )
    })
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

/// The status and body of `path`.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub(super) fn get(address: SocketAddr, path: &str, patience: Duration) -> anyhow::Result<(u16, String)> {
    // HTTP/1.0: the answer ends with the connection, and comes in no chunks.
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"), patience)
}

/// The same of a change to `path`.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub(super) fn post(
    address: SocketAddr,
    path: &str,
    token: &str,
    body: &str,
    patience: Duration,
) -> anyhow::Result<(u16, String)> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    ask(address, &request, patience)
}

fn ask(address: SocketAddr, request: &str, patience: Duration) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, STEP).context("nobody answers there")?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(STEP))?;
    stream.write_all(request.as_bytes())?;
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
