//! The proxy in this process, with limits that short inputs can reach.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::HeaderName;
use sse_sunset::auth::oauth::Oauth;
use sse_sunset::config::{self, Given, Origin, Raw};
use sse_sunset::drain::{Drain, Tasks, Watch};
use sse_sunset::fleet::Fleet;
use sse_sunset::front::{self, AllowedHost, Front, Guard, TrustedProxies, Ways};
use sse_sunset::metrics::Metrics;
use sse_sunset::net::{self, Limits};
use sse_sunset::passthrough::{self, Passthrough};
use sse_sunset::session::{self, Books, Sessions};
use sse_sunset::sunset::Sunset;
use sse_sunset::traffic::{AddressForm, Log, Pseudonyms, Target};
use sse_sunset::upstream::{self, EraOptions, HttpTransport};
use tokio::net::{TcpListener, TcpStream};

use super::upstream::Upstream;

/// One log for all runs: each has a thread of its own.
static BOOKS: LazyLock<Books> = LazyLock::new(|| Books {
    log: Log::open(Target::File("/dev/null".into()), "fuzz".into(), None).expect("there is always room in it"),
    pseudonyms: Arc::new(Pseudonyms::ephemeral(AddressForm::Hmac)),
    metrics: Arc::new(Metrics::new(session::LISTS)),
});

const PATIENCE: passthrough::Limits =
    passthrough::Limits { stall: Duration::from_secs(60), body_stall: Duration::from_secs(30), max: 1000 };

/// For what is passed through and for tokens, neither of which there is here.
static CONFIG: LazyLock<config::Config> = LazyLock::new(|| {
    let given = |value: &str| Given { values: vec![value.to_owned()], origin: Origin::Flag };
    let raw = Raw::from([("upstream", given("http://127.0.0.1:9/mcp")), ("oauth-resource", given("none"))]);
    config::resolve(&raw, Vec::new(), "fuzz").expect("valid")
});

pub(super) struct Proxy {
    listener: TcpListener,
    front: Front,
    sessions: Sessions,
    tasks: Tasks,
    connections: Tasks,
    watch: Watch,
    /// While it is there, the process lives.
    _drain: Drain,
}

impl Proxy {
    pub(super) fn start() -> Self {
        let listener = net::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let (drain, watch) = Drain::new();
        let (tasks, connections) = (Tasks::default(), Tasks::default());
        // The books are shared by runs, the numbers of each are its own.
        let books = Books { metrics: Arc::new(Metrics::new(session::LISTS)), ..BOOKS.clone() };
        let upstream = upstream::Upstream::new(Arc::new(Upstream), EraOptions::default(), "fuzz", tasks.clone());
        let sunset = Sunset::never(Arc::clone(&books.metrics));
        let sessions = Sessions::new(
            session_config(),
            upstream.clone(),
            books.clone(),
            sunset.clone(),
            Fleet::solo(),
            tasks.clone(),
            watch.clone(),
        );
        let transport = HttpTransport::new(&CONFIG.upstream).expect("no TLS");
        let passthrough = Passthrough::new(&CONFIG.upstream, transport, PATIENCE, tasks.clone()).expect("no TLS");
        let oauth = Oauth::new(CONFIG.oauth.clone(), CONFIG.listen, &CONFIG.upstream, upstream.clone());
        let ways = Ways { sessions: sessions.clone(), passthrough, upstream, oauth, sunset, fleet: Fleet::solo() };
        let front = Front::new(front_config(), ways, books, tasks.clone(), watch.clone());
        Proxy { listener, front, sessions, tasks, connections, watch, _drain: drain }
    }

    /// A client's end of a connection that is served.
    pub(super) async fn connect(&self) -> TcpStream {
        let address = self.listener.local_addr().expect("an open socket");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), self.listener.accept());
        let (stream, peer) = accepted.expect("a connection");
        let front = self.front.clone();
        self.connections.spawn(net::serve(
            stream,
            peer,
            Limits::default(),
            self.watch.clone(),
            move |request, peer| {
                let front = front.clone();
                async move { front.answer(request, peer).await }
            },
        ));
        client.expect("a connection")
    }

    /// Waits for the end of everything.
    pub(super) async fn ended(self) {
        self.connections.ended().await;
        self.tasks.ended().await;
        assert!(self.sessions.is_empty(), "a session without a task");
    }
}

fn front_config() -> front::Config {
    let hosts = vec![AllowedHost::Name("mcp.example.com".into())];
    front::Config {
        sse_path: "/sse".into(),
        messages_path: "/messages".into(),
        public_path: String::new(),
        max_body: 512,
        body_time: Duration::from_secs(30),
        guard: Guard::new(hosts, vec!["https://app.example.com".into()], true),
        cors_headers: vec![HeaderName::from_static("x-app")],
        no_keep_alive: vec!["Java-http-client/17".into()],
        trusted: TrustedProxies(vec!["127.0.0.0/8".parse().expect("a network")]),
        identity_header: Some(HeaderName::from_static("x-team")),
        modern_url: Some("https://mcp.example.com/mcp".into()),
        ..front::Config::default()
    }
}

fn session_config() -> session::Config {
    session::Config {
        max_sessions: 2,
        max_in_flight: 2,
        max_waiting: 2,
        outbox_bytes: 4096,
        memory: 16 << 10,
        // While bytes wait behind a request, hyper does not see its client go; a stream without comments then lives as
        // long as an unused one may.
        unused: Duration::from_secs(600),
        ..session::Config::default()
    }
}
