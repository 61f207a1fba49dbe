//! The admin listener and its connections: few, short of patience, and apart from those of clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Admin, Config, Vitals};
use crate::drain::{Drain, Phase, Tasks, Watch};
use crate::net::{self, Limits, Peer};

/// Connections at once; more are closed unread. Balancers, scrapers and people are few, and descriptors are for clients.
const MAX_CONNECTIONS: usize = 64;
/// How long the last answers may take when the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// An admin listener that has its address and does not answer yet.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    admin: Admin,
}

/// One that answers, until it is closed or dropped.
#[derive(Debug)]
pub struct Open {
    accepting: JoinHandle<()>,
    connections: Tasks,
    end: Drain,
}

impl Door {
    /// Takes the address, or the socket that was `passed` for it.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn bind(config: &Config, passed: Option<std::net::TcpListener>, vitals: Vitals) -> io::Result<Door> {
        Ok(Door { listener: net::take(passed, config.listen)?, admin: Admin::new(config, vitals) })
    }

    /// The address that was taken.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Begins to answer. The shutdown of the process is not its own: it goes on until it is told.
    #[must_use]
    pub fn open(self) -> Open {
        let connections = Tasks::default();
        let (end, ended) = Drain::new();
        let accepting = connections.spawn(accept(self.listener, self.admin, connections.clone(), ended));
        Open { accepting, connections, end }
    }
}

async fn accept(listener: TcpListener, admin: Admin, connections: Tasks, ended: Watch) {
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let take = |stream, peer| {
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            return tracing::warn!(%peer, "the admin listener has all the connections it may have; one was closed");
        };
        let (admin, ended) = (admin.clone(), ended.clone());
        connections.spawn(async move {
            let answer = move |request, _: Peer| {
                let admin = admin.clone();
                async move { admin.answer(request).await }
            };
            net::serve(stream, peer, Limits::default(), ended, answer).await;
            drop(seat);
        });
    };
    net::listen(&listener, take).await;
}

impl Open {
    /// Stops answering, after what is being answered.
    pub async fn close(self) {
        self.accepting.abort();
        self.end.enter(Phase::Over);
        let _ = timeout(LAST_ANSWERS, self.connections.ended()).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
