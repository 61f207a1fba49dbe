//! Sockets that were open before this process was (`sd_listen_fds(3)`): whoever connects while it is replaced waits in them.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process;

use listenfd::ListenFd;

/// What the socket for clients is called (`FileDescriptorName=`).
const CLIENTS: &str = "http";
/// And the one for operators.
const ADMIN: &str = "admin";
/// The descriptor of the first one (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// The sockets that were passed, each if it was.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For clients, in place of `--listen`.
    pub clients: Option<TcpListener>,
    /// For operators, in place of `--admin`.
    pub admin: Option<TcpListener>,
}

/// What is wrong with the sockets, and so with the units that describe them.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Not one that HTTP can be spoken on.
    #[error(
        "the socket {1:?} that was passed as descriptor {0} cannot be used: {2}; a socket unit needs ListenStream= with an \
         address and a port"
    )]
    Unusable(usize, String, io::Error),
    /// It is not clear what for.
    #[error(
        "several sockets were passed, and one is called {0:?}: each needs FileDescriptorName=http (for clients) or admin (for \
         operators)"
    )]
    Nameless(String),
    /// There is one listener of each kind.
    #[error(
        "two sockets were passed that are called {0:?}, and one can be used; ListenStream=[::]:8080 takes IPv4 and IPv6 alike"
    )]
    Twice(&'static str),
}

impl Sockets {
    /// Those that were passed to this process, and not to one that started it. Once, and before there are other threads: it
    /// takes the variables out of the environment.
    ///
    /// # Errors
    /// When one of them is of no use.
    pub fn from_env() -> Result<Self, SocketError> {
        // Without this, `listenfd` takes what is anybody's.
        if env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) != Some(process::id()) {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut names = names.split(':');
        let mut sockets = Sockets::default();
        let count = passed.len();
        for index in 0..count {
            let name = names.next().unwrap_or_default();
            match passed.take_tcp_listener(index) {
                Ok(Some(socket)) => sockets.put(socket, name, count)?,
                Ok(None) => {}
                Err(error) => return Err(SocketError::Unusable(FIRST + index, name.to_owned(), error)),
            }
        }
        Ok(sockets)
    }

    /// Its place by its name; the only one there is may have any, as few units give one.
    fn put(&mut self, socket: TcpListener, name: &str, count: usize) -> Result<(), SocketError> {
        let (place, name) = match name {
            ADMIN => (&mut self.admin, ADMIN),
            CLIENTS => (&mut self.clients, CLIENTS),
            _ if count == 1 => (&mut self.clients, CLIENTS),
            _ => return Err(SocketError::Nameless(name.to_owned())),
        };
        match place.replace(socket) {
            None => Ok(()),
            Some(_) => Err(SocketError::Twice(name)),
        }
    }

    /// The addresses in place of `--listen` and `--admin`.
    #[must_use]
    pub fn addresses(&self) -> [(&'static str, Option<SocketAddr>); 2] {
        let address = |socket: &Option<TcpListener>| socket.as_ref().and_then(|socket| socket.local_addr().ok());
        [("listen", address(&self.clients)), ("admin", address(&self.admin))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<Sockets, SocketError> {
        let mut sockets = Sockets::default();
        for name in names {
            sockets.put(TcpListener::bind("127.0.0.1:0").expect("a port"), name, names.len())?;
        }
        Ok(sockets)
    }

    #[test]
    fn only_socket_may_have_any_name_and_several_are_told_apart_by_theirs() {
        for only in ["http", "sse-sunset.socket", "unknown", ""] {
            let sockets = named(&[only]).expect("of use");
            assert!(sockets.clients.is_some() && sockets.admin.is_none(), "{only:?}");
        }
        assert!(named(&["admin"]).is_ok_and(|sockets| sockets.clients.is_none() && sockets.admin.is_some()));
        assert!(named(&["admin", "http"]).is_ok_and(|sockets| sockets.clients.is_some() && sockets.admin.is_some()));
        assert!(matches!(named(&["http", "unknown"]), Err(SocketError::Nameless(name)) if name == "unknown"));
        assert!(matches!(named(&["http", "http"]), Err(SocketError::Twice("http"))));
    }
}
