//! A way to Redis that can lead elsewhere, and on which subscriptions can fall silent without being closed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The way; what goes over it is cut off when this is dropped.
pub(super) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// Counted up whenever subscriptions fall silent: those that were made before.
    silenced: watch::Sender<u64>,
    /// New subscriptions hear nothing either.
    holds: AtomicBool,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            silenced: watch::channel(0).0,
            holds: AtomicBool::new(false),
        });
        let relaying = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&relaying);
                tokio::spawn(async move { shared.relay(client).await });
            }
        });
        Relay { address, shared, accepting }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead there.
    pub(super) fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("no panic") = target;
    }

    /// Whether nothing comes of any subscription.
    pub(super) fn hold_subscriptions(&self, hold: bool) {
        self.shared.holds.store(hold, Ordering::Relaxed);
        if !hold {
            self.silence_subscriptions();
        }
    }

    /// Subscriptions that there are stay open, and nothing comes of them any more.
    pub(super) fn silence_subscriptions(&self) {
        self.shared.silenced.send_modify(|times| *times += 1);
    }
}

impl Shared {
    async fn relay(&self, mut client: TcpStream) {
        let target = *self.target.lock().expect("no panic");
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        let made = *self.silenced.borrow();
        let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut subscribes = false;
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(read @ 1..) = read else { return };
                    subscribes |= up[..read].windows(9).any(|word| word == b"SUBSCRIBE");
                    if server.write_all(&up[..read]).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut down) => {
                    let Ok(read @ 1..) = read else { return };
                    let is_held = self.holds.load(Ordering::Relaxed);
                    let is_silent = subscribes && (is_held || *self.silenced.borrow() > made);
                    if !is_silent && client.write_all(&down[..read]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
