//! The proxy under test, with its traffic log in a temporary file.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use sse_sunset::app::App;
use sse_sunset::config::{self, Given, Origin, Raw};
use sse_sunset::metrics::Metrics;
use sse_sunset::net::Tls;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{LegacyClient, within};

/// A running proxy. Every test ends it with [`Proxy::stop`], which checks that every session is accounted for.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    tls: Option<Tls>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`, with further options by name.
    pub(crate) fn start(upstream: &str, options: &[(&'static str, &str)]) -> Self {
        Self::start_with(upstream, |raw| {
            for (name, value) in options {
                raw.insert(name, Given { values: vec![(*value).to_owned()], origin: Origin::Flag });
            }
        })
    }

    /// The same, with options as `add` puts them.
    pub(crate) fn start_with(upstream: &str, add: impl FnOnce(&mut Raw)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("traffic.log");
        let mut raw = Raw::new();
        let defaults = [
            ("upstream", upstream),
            ("listen", "127.0.0.1:0"),
            ("admin", "off"),
            ("traffic-log", log.to_str().expect("a plain path")),
            ("drain-delay", "0s"),
            ("drain", "10s"),
            // What lingers is a subject of its own.
            ("linger", "0s"),
            // So is OAuth.
            ("oauth-resource", "none"),
        ];
        for (name, value) in defaults {
            raw.insert(name, Given { values: vec![value.to_owned()], origin: Origin::Flag });
        }
        add(&mut raw);
        let config = config::resolve(&raw, Vec::new(), "test").expect("a valid configuration");
        let app = App::build(config).expect("a proxy");
        let (address, metrics) = (app.address().expect("an address"), app.metrics());
        let (admin, tls) = (app.admin_address().expect("an address"), app.tls());
        let (shutdown, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        Proxy { address, admin, shutdown: Some(shutdown), running, folder, metrics, tls }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same within TLS, by the name that certificates of tests are for.
    pub(crate) fn https_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// What SIGHUP does to the certificate.
    pub(crate) fn reload_certificate(&self) {
        self.tls.as_ref().expect("--tls-cert").reload();
    }

    /// Where operators ask, if the options say that they can.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin.expect("--admin"))
    }

    /// A client with an open stream that has read its endpoint.
    pub(crate) async fn client(&self) -> LegacyClient {
        LegacyClient::connect(self, &[]).await
    }

    /// What the log holds now.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("traffic.log")).expect("a log");
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// Waits until the log holds `count` records called `name`.
    pub(crate) async fn logged(&self, name: &str, count: usize) -> Vec<Value> {
        within(name, async {
            loop {
                let found: Vec<Value> = self.log().into_iter().filter(|record| record["event.name"] == name).collect();
                if found.len() >= count {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Waits until the program's numbers are as they should be.
    pub(crate) async fn metrics_show(&self, wanted: impl Fn(&Metrics) -> bool) {
        within("a number", async {
            while !wanted(&self.metrics) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Begins the drain.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }

    /// Waits for the end of the process, whatever became of the log.
    pub(crate) async fn ended(self) {
        within("the end of the proxy", self.running).await.expect("no panic");
    }

    /// Drains, and checks what holds after every test: the process ended, exactly one `legacy.end` for each session
    /// that connected, no hole in `log.seq`.
    pub(crate) async fn stop(mut self) -> Vec<Value> {
        self.begin_stop();
        within("the end of the proxy", &mut self.running).await.expect("no panic");
        let log = self.log();
        let labels = |name: &str| {
            let mut labels: Vec<String> = log
                .iter()
                .filter(|record| record["event.name"] == name)
                .map(|record| record["legacy.session"].to_string())
                .collect();
            labels.sort();
            labels
        };
        let mut connected = labels("legacy.connect");
        // A client that came back connects again under the label of its session.
        connected.dedup();
        assert_eq!(connected, labels("legacy.end"), "one end for each session");
        let mut sequence: Vec<u64> = log.iter().filter_map(|record| record["log.seq"].as_u64()).collect();
        sequence.sort_unstable();
        assert_eq!(sequence, (0..log.len() as u64).collect::<Vec<_>>(), "log.seq has no hole");
        log
    }
}
