//! Names to addresses: asked anew for every connection, and forgiving for a minute.
//!
//! A server that moves is found at once, and a resolver that fails for a moment (a restarted DNS pod) fails no call: the
//! addresses that were good a minute ago are used.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// For how long addresses are good that cannot be asked for again.
const GRACE: Duration = Duration::from_secs(60);

type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The last addresses of each name, and when they were told.
type Known = HashMap<String, (Vec<SocketAddr>, Instant)>;

/// Asks the system.
pub struct Resolver {
    lookup: Box<dyn Fn(String) -> Lookup + Send + Sync>,
    known: Arc<Mutex<Known>>,
}

impl Resolver {
    /// A resolver that asks the system, as it is configured.
    #[must_use]
    pub fn new() -> Self {
        // The port is that of the URL; the one here is of no account.
        Resolver::with(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }))
    }

    fn with(lookup: impl Fn(String) -> Lookup + Send + Sync + 'static) -> Self {
        Resolver { lookup: Box::new(lookup), known: Arc::default() }
    }

    /// The addresses of `name`, each with a port of no account.
    ///
    /// # Errors
    /// When there are none, and none were known a minute ago.
    pub fn addresses(&self, name: String) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        let (asked, known) = ((self.lookup)(name.clone()), Arc::clone(&self.known));
        async move {
            let answer = asked.await;
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(addresses) if !addresses.is_empty() => {
                    known.insert(name, (addresses.clone(), Instant::now()));
                    Ok(addresses)
                }
                failed => match known.get(&name) {
                    Some((addresses, told)) if told.elapsed() < GRACE => {
                        tracing::warn!(
                            name,
                            "the name of the upstream cannot be resolved; its last addresses are used"
                        );
                        Ok(addresses.clone())
                    }
                    _ => failed,
                },
            }
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(addresses.await?.into_iter()) as Addrs) })
    }
}

/// Asks the system, and gives no addresses that must not be asked: a name is whatever its owner makes it.
pub(super) struct Guarded {
    allows: fn(IpAddr) -> bool,
    lookup: Arc<dyn Fn(String) -> Lookup + Send + Sync>,
}

impl Guarded {
    /// Gives addresses of names all of whose addresses `allows` lets through.
    pub(super) fn new(allows: fn(IpAddr) -> bool) -> Self {
        let lookup = |name: String| -> Lookup {
            Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) })
        };
        Guarded { allows, lookup: Arc::new(lookup) }
    }

    #[cfg(test)]
    pub(super) fn with(
        allows: fn(IpAddr) -> bool,
        lookup: impl Fn(String) -> Vec<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        let lookup = move |name| -> Lookup {
            let found = lookup(name);
            Box::pin(async move { Ok(found) })
        };
        Guarded { allows, lookup: Arc::new(lookup) }
    }

    pub(super) fn addresses(&self, name: String) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        let (asked, allows) = ((self.lookup)(name), self.allows);
        async move {
            let found = asked.await?;
            match found.iter().find(|address| !allows(address.ip())) {
                Some(denied) => Err(io::Error::other(format!("its address {} must not be asked", denied.ip()))),
                None => Ok(found),
            }
        }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(addresses.await?.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn name_is_asked_for_each_time_and_its_last_addresses_bridge_a_failure() {
        let turn = AtomicUsize::new(0);
        let resolver = Resolver::with(move |_| {
            let answer = match turn.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(vec![([192, 0, 2, 1], 0).into()]),
                1 => Ok(vec![([192, 0, 2, 2], 0).into()]),
                2 => Err(io::Error::other("no such name")),
                _ => Ok(Vec::new()),
            };
            Box::pin(async { answer })
        });
        let ask = || resolver.addresses("mcp.example".to_owned());
        assert_eq!(ask().await.expect("addresses")[0].to_string(), "192.0.2.1:0");
        assert_eq!(ask().await.expect("addresses")[0].to_string(), "192.0.2.2:0", "it has moved");
        assert_eq!(ask().await.expect("addresses")[0].to_string(), "192.0.2.2:0", "an error");
        assert_eq!(ask().await.expect("addresses")[0].to_string(), "192.0.2.2:0", "and no address");
        assert!(resolver.addresses("other.example".to_owned()).await.expect("no error").is_empty());
        let old = Instant::now().checked_sub(GRACE).expect("the machine runs for longer");
        resolver.known.lock().expect("no panic").values_mut().for_each(|(_, told)| *told = old);
        assert!(ask().await.expect("no error").is_empty(), "not for ever");
    }
}
