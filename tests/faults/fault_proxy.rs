//! A TCP proxy in this process that does to connections what networks and balancers do.
//!
//! Promise: bytes are delayed, held back, cut into pieces or lost with their connection, but never changed. Its port
//! stays its own while it refuses connections.
//!
//! The trap: a connection that is held back is not a host that vanished: this host's kernel goes on acknowledging.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::port::Port;
use crate::wait::{self, seconds};

/// Bytes of a piece, as small as to split every line.
const PIECE: usize = 7;

/// What becomes of bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They pass.
    Pass,
    /// They pass this much later, in both directions.
    Delay(Duration),
    /// They pass in pieces of [`PIECE`] bytes.
    Slice,
    /// They stay where they are: connections are accepted, nothing moves and nothing is closed.
    Blackhole,
    /// The client's pass, the server's stay where they are.
    Deaf,
    /// Open connections stay and new ones are refused.
    Refuse,
}

/// The proxy; its connections are reset when this is dropped.
pub(crate) struct FaultProxy {
    shared: Arc<Shared>,
    manner: watch::Sender<Manner>,
    _runtime: Runtime,
}

struct Shared {
    port: Port,
    target: Mutex<SocketAddr>,
    is_listening: AtomicBool,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
}

/// What is known of an open connection, and how it is told to end.
#[derive(Default)]
struct Connection {
    /// Whether the last request on it was a GET: an event stream, in our world.
    is_stream: AtomicBool,
    reset: CancellationToken,
    half_close: CancellationToken,
}

impl FaultProxy {
    /// Before `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let shared = Arc::new(Shared {
            port: Port::reserve(),
            target: Mutex::new(target),
            is_listening: AtomicBool::new(true),
            connections: Mutex::default(),
        });
        let (manner, watched) = watch::channel(Manner::Pass);
        let listener = runtime.block_on(async { listen(&shared.port) });
        runtime.spawn(accept(Arc::clone(&shared), watched, listener));
        FaultProxy { shared, manner, _runtime: runtime }
    }

    /// `http://HOST:PORT`
    pub(crate) fn base(&self) -> String {
        self.shared.port.base()
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.base())
    }

    pub(crate) fn mcp_url(&self) -> String {
        format!("{}/mcp", self.base())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.port.address
    }

    /// New connections lead to `target`; those that are open stay where they are.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// From now on. New connections are refused, or taken again, when this returns.
    pub(crate) fn set(&self, manner: Manner) {
        self.manner.send_replace(manner);
        wait::until("the port is open, or closed", seconds(5), || {
            self.shared.is_listening.load(Ordering::Acquire) == (manner != Manner::Refuse)
        });
    }

    /// Resets every connection, on both sides, and tells how many when that is done.
    pub(crate) fn cut_all(&self) -> usize {
        self.cut(|_| true)
    }

    /// Resets every connection that carries an event stream, and tells how many.
    pub(crate) fn cut_streams(&self) -> usize {
        self.cut(|connection| connection.is_stream.load(Ordering::Relaxed))
    }

    fn cut(&self, of: impl Fn(&Connection) -> bool) -> usize {
        let to_cut = |(number, connection): (&u64, &Arc<Connection>)| of(connection).then_some(*number);
        let cut: Vec<u64> = self.shared.connections().iter().filter_map(to_cut).collect();
        for connection in cut.iter().filter_map(|number| self.shared.connections().get(number).cloned()) {
            connection.reset.cancel();
        }
        wait::until("connections are reset", seconds(5), || {
            let open = self.shared.connections();
            !cut.iter().any(|number| open.contains_key(number))
        });
        cut.len()
    }

    /// Tells the target of every connection that nothing more comes, and goes on with the other direction.
    pub(crate) fn half_close_all(&self) {
        for connection in self.shared.connections().values() {
            connection.half_close.cancel();
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self) -> SocketAddr {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(port: &Port) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(port.address).expect("the reserved port");
    socket.listen(1024).expect("a listener")
}

/// Accepts connections for ever, except while they are to be refused.
async fn accept(shared: Arc<Shared>, manner: watch::Receiver<Manner>, mut listener: TcpListener) {
    let mut refusing = manner.clone();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                number += 1;
                tokio::spawn(carry(Arc::clone(&shared), number, client, manner.clone()));
            }
            () = async { drop(refusing.wait_for(|manner| *manner == Manner::Refuse).await) } => {
                drop(listener);
                shared.is_listening.store(false, Ordering::Release);
                drop(refusing.wait_for(|manner| *manner != Manner::Refuse).await);
                listener = listen(&shared.port);
                shared.is_listening.store(true, Ordering::Release);
            }
        }
    }
}

/// One connection, from the accept to its end.
async fn carry(shared: Arc<Shared>, number: u64, mut client: TcpStream, mut manner: watch::Receiver<Manner>) {
    let connection = Arc::new(Connection::default());
    shared.connections().insert(number, Arc::clone(&connection));
    let mut server = None;
    let passing = async {
        let _ = manner.wait_for(|manner| *manner != Manner::Blackhole).await;
        let server = server.insert(TcpStream::connect(shared.target()).await?);
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, manner.clone(), Some(&connection));
        let down = pump(from_server, to_client, manner.clone(), None);
        tokio::try_join!(up, down)
    };
    let orderly = tokio::select! {
        ended = passing => ended.is_ok(),
        () = connection.reset.cancelled() => false,
    };
    if !orderly {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
    drop((client, server));
    shared.connections().remove(&number);
}

/// One direction of a connection, until its end; `connection` in that of the client.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut manner: watch::Receiver<Manner>,
    connection: Option<&Connection>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let half_closed = async {
            match connection {
                Some(connection) => connection.half_close.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            () = half_closed => 0,
        };
        let passes = |manner: &Manner| match manner {
            Manner::Blackhole => false,
            Manner::Deaf => connection.is_some(),
            Manner::Pass | Manner::Delay(_) | Manner::Slice | Manner::Refuse => true,
        };
        let Ok(now) = manner.wait_for(passes).await.map(|now| *now) else { return Ok(()) };
        if read == 0 {
            return to.shutdown().await;
        }
        let bytes = &buffer[..read];
        if let Some(connection) = connection
            && (bytes.starts_with(b"GET ") || bytes.starts_with(b"POST "))
        {
            connection.is_stream.store(bytes.starts_with(b"GET "), Ordering::Relaxed);
        }
        match now {
            Manner::Slice => {
                for piece in bytes.chunks(PIECE) {
                    to.write_all(piece).await?;
                    tokio::task::yield_now().await;
                }
            }
            Manner::Delay(delay) => {
                tokio::time::sleep(delay).await;
                to.write_all(bytes).await?;
            }
            Manner::Pass | Manner::Blackhole | Manner::Deaf | Manner::Refuse => to.write_all(bytes).await?,
        }
    }
}
