//! The way to a server below HTTP: its name, its addresses, whether they take connections.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Url;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::finding::{Advice, On};
use super::text::milliseconds;
use super::tls;

/// What is looked at here, in order.
const NAMES: &[&str] = &["dns", "tcp", "tls", "certificate"];
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Looks at name, addresses and TLS, and says whether HTTP can be spoken.
pub(super) async fn look(on: &mut On<'_, '_>, url: &Url, trust: &tls::Trust, patience: Duration) -> bool {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let Some(addresses) = resolve(on, host, port, patience).await else {
        on.skipped(NAMES, "the name has no address");
        return false;
    };
    let Some(address) = connect(on, &addresses, patience).await else {
        on.skipped(NAMES, "no connection");
        return false;
    };
    if url.scheme() != "https" {
        on.skipped(NAMES, "plain HTTP");
        return true;
    }
    tls::look(on, host, address, trust, patience).await
}

async fn resolve(on: &mut On<'_, '_>, host: &str, port: u16, patience: Duration) -> Option<Vec<SocketAddr>> {
    // IPv6 addresses stand in brackets in a URL.
    let host = host.trim_matches(['[', ']']);
    let began = Instant::now();
    let found = timeout(patience, lookup_host((host, port))).await;
    let took = milliseconds(began.elapsed());
    let why = match found {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.dedup();
            if !addresses.is_empty() {
                let list = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
                let seen =
                    if list == host { format!("{host} is an address") } else { format!("{host} is {list} ({took})") };
                on.ok("dns", seen);
                return Some(addresses);
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {took}"),
    };
    on.failure(
        "dns",
        format!("{host} cannot be resolved: {why}"),
        Advice::new(
            "nobody reaches the server by this name from this machine",
            "correct the host in the URL, or have whoever runs the DNS zone (in a cluster: the service of that name) \
             publish it; run the check where the proxy will run",
        ),
    );
    None
}

/// Tries all addresses, as clients take any of them; the first that works is gone on with.
async fn connect(on: &mut On<'_, '_>, addresses: &[SocketAddr], patience: Duration) -> Option<SocketAddr> {
    let tried = addresses.get(..MOST_ADDRESSES).unwrap_or(addresses);
    let attempts = tried.iter().map(|address| async move {
        let began = Instant::now();
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok((*address, began.elapsed())),
            Ok(Err(error)) => Err(format!("{address}: {error}")),
            Err(_) => Err(format!("{address}: no answer within {}", milliseconds(patience))),
        }
    });
    let (good, bad): (Vec<_>, Vec<_>) = join_all(attempts).await.into_iter().partition(Result::is_ok);
    let good: Vec<(SocketAddr, Duration)> = good.into_iter().flatten().collect();
    let refusals = bad.into_iter().filter_map(Result::err).collect::<Vec<_>>().join("; ");
    let Some((first, took)) = good.first().copied() else {
        on.failure(
            "tcp",
            refusals,
            Advice::new(
                "no connection can be made",
                "start the server, correct the port in the URL, or have whoever runs firewall and network policy let \
                 this machine through",
            ),
        );
        return None;
    };
    let took = milliseconds(took);
    if refusals.is_empty() {
        let others = if good.len() > 1 { format!(", as do {} more", good.len() - 1) } else { String::new() };
        on.ok("tcp", format!("{first} takes connections ({took}){others}"));
    } else {
        on.warning(
            "tcp",
            format!("{first} takes connections ({took}), others do not: {refusals}"),
            Advice::new(
                "who tries the dead address first waits, or fails",
                "take the dead address out of DNS, or make the server listen there too (often it is the IPv6 one)",
            ),
        );
    }
    Some(first)
}
