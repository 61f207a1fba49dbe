//! TLS in front: what is spoken in it, certificates that change, clients that show one, handshakes that do not come.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sse_sunset::config::{Given, Origin, Raw};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::tls::{Authority, Identity};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, RawClient, pass, within};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

/// A server's certificate in a folder, and the proxy that shows it.
pub(crate) struct Secure {
    pub(crate) authority: Authority,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) upstream: FakeUpstream,
    pub(crate) proxy: Proxy,
}

impl Secure {
    pub(crate) async fn start(options: &[(&'static str, &str)]) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().expect("a folder");
        authority.identity("localhost").write_to(folder.path());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        let upstream = FakeUpstream::start(SSE).await;
        let proxy = Proxy::start_with(upstream.url(), |raw| {
            put(raw, "tls-cert", &file(folder.path(), "cert.pem"));
            put(raw, "tls-key", &file(folder.path(), "key.pem"));
            for (name, value) in options {
                // Paths are those of the folder.
                let value = if *name == "tls-client-ca" { file(folder.path(), value) } else { (*value).to_owned() };
                put(raw, name, &value);
            }
        });
        Secure { authority, folder, upstream, proxy }
    }

    pub(crate) async fn client(&self, http2: bool) -> LegacyClient {
        LegacyClient::connect_by(self.authority.client(http2, None), &self.proxy.https_url(), &[]).await
    }

    /// Whether new connections are shown this certificate.
    async fn shows(&self, identity: &Identity) -> bool {
        let stream = self.authority.dial(self.proxy.address, "http/1.1").await;
        stream.get_ref().1.peer_certificates().expect("a certificate")[0].as_ref() == identity.der()
    }

    /// Waits until new connections are shown this certificate; what sets that going has been done.
    async fn until_it_shows(&self, identity: &Identity) {
        within("the new certificate", async {
            while !self.shows(identity).await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn put(raw: &mut Raw, name: &'static str, value: &str) {
    raw.insert(name, Given { values: vec![value.to_owned()], origin: Origin::Flag });
}

fn file(folder: &Path, name: &str) -> String {
    let path: PathBuf = folder.join(name);
    path.to_str().expect("a plain path").to_owned()
}

#[tokio::test]
async fn legacy_conversation_runs_over_tls_in_either_version_of_http() {
    let secure = Secure::start(&[]).await;
    for (http2, version) in [(false, "1.1"), (true, "2")] {
        let mut client = secure.client(http2).await;
        assert!(client.initialize().await["result"].is_object());
        client.call(1, "progress", json!({})).await;
        let messages = client.until_answer(1).await;
        assert!(messages.len() > 1 && messages.last().expect("an answer")["result"].is_object(), "{messages:?}");
        let log = secure.proxy.log();
        let connect = log.iter().rfind(|record| record["event.name"] == "legacy.connect").expect("a record");
        assert_eq!(connect["network.protocol.version"], version);
        assert_eq!(connect["server.address"], "localhost");
    }
    let seen = secure.upstream.seen();
    let host = format!("localhost:{}", secure.proxy.address.port());
    for seen in seen.iter().filter(|seen| seen.body["method"] == "tools/call") {
        assert_eq!(seen.headers["x-forwarded-proto"], "https");
        assert_eq!(seen.headers["x-forwarded-host"], host.as_str());
    }
    secure.proxy.stop().await;
}

#[tokio::test]
async fn certificate_that_changed_is_shown_to_new_connections_and_streams_go_on() {
    let secure = Secure::start(&[]).await;
    let mut client = secure.client(true).await;
    client.initialize().await;
    for by_itself in [true, false] {
        let new = secure.authority.identity("localhost");
        assert!(!secure.shows(&new).await);
        new.write_to(secure.folder.path());
        if by_itself {
            pass(Duration::from_secs(11)).await;
        } else {
            secure.proxy.reload_certificate();
        }
        secure.until_it_shows(&new).await;
        client.call(1, "echo", json!({"text": "still here"})).await;
        assert_eq!(client.answer(1).await["result"]["content"][0]["text"], "still here");
    }
    assert_eq!(secure.proxy.logged("legacy.connect", 1).await.len(), 1, "one stream all the time");
    drop(client);
    secure.proxy.stop().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_certificate_in_force() {
    let secure = Secure::start(&[]).await;
    let old = secure.authority.identity("localhost");
    old.write_to(secure.folder.path());
    secure.proxy.reload_certificate();
    let path = |name: &str| secure.folder.path().join(name);
    let other = secure.authority.identity("localhost").pem().1;
    let spoilers: [&dyn Fn(); 4] = [
        &|| std::fs::write(path("cert.pem"), "nothing").expect("a file"),
        &|| std::fs::write(path("key.pem"), &other).expect("a file"),
        &|| std::fs::write(path("key.pem"), "").expect("a file"),
        &|| std::fs::remove_file(path("cert.pem")).expect("a file"),
    ];
    for spoil in spoilers {
        spoil();
        secure.proxy.reload_certificate();
        assert!(secure.shows(&old).await);
        old.write_to(secure.folder.path());
    }
    // It is no dead end: the next good files are taken.
    let new = secure.authority.identity("localhost");
    new.write_to(secure.folder.path());
    secure.proxy.reload_certificate();
    assert!(secure.shows(&new).await);
    secure.proxy.stop().await;
}

#[tokio::test]
async fn client_has_to_show_a_certificate_and_is_known_by_it() {
    let secure = Secure::start(&[("tls-client-ca", "ca.pem")]).await;
    let stranger = Authority::new().identity("stranger");
    for identity in [None, Some(&stranger)] {
        let http = secure.authority.client(false, identity);
        let refused = within("a refusal", http.get(format!("{}/sse", secure.proxy.https_url())).send()).await;
        refused.expect_err("no certificate of the authority");
    }
    secure.proxy.metrics_show(|metrics| metrics.connections_lost.of("tls").get() == 2).await;
    let known = secure.authority.identity("reports.example");
    for http2 in [false, true] {
        let http = secure.authority.client(http2, Some(&known));
        let mut client = LegacyClient::connect_by(http, &secure.proxy.https_url(), &[]).await;
        client.initialize().await;
    }
    for connect in secure.proxy.logged("legacy.connect", 2).await {
        assert_eq!(connect["identity.source"], "mtls");
        assert_eq!(connect["identity"], "mtls:CN=reports.example");
    }
    secure.proxy.stop().await;
}

#[tokio::test]
async fn client_without_a_certificate_is_served_where_it_is_optional() {
    let secure = Secure::start(&[("tls-client-ca", "ca.pem"), ("tls-client-auth", "optional")]).await;
    drop(secure.client(true).await);
    let stranger = Authority::new().identity("stranger");
    let http = secure.authority.client(true, Some(&stranger));
    let refused = within("a refusal", http.get(format!("{}/sse", secure.proxy.https_url())).send()).await;
    refused.expect_err("nobody vouches for it");
    let connect = secure.proxy.logged("legacy.connect", 1).await;
    assert_eq!(connect.len(), 1);
    assert_ne!(connect[0]["identity.source"], "mtls");
    secure.proxy.stop().await;
}

#[tokio::test]
async fn certificate_of_a_trusted_proxy_is_not_its_clients() {
    let secure = Secure::start(&[("tls-client-ca", "ca.pem"), ("trusted-proxy", "127.0.0.0/8")]).await;
    let http = secure.authority.client(true, Some(&secure.authority.identity("balancer.example")));
    let headers = [("x-forwarded-for", "192.0.2.7"), ("user-agent", "someone/1")];
    drop(LegacyClient::connect_by(http, &secure.proxy.https_url(), &headers).await);
    assert_eq!(secure.proxy.logged("legacy.connect", 1).await[0]["identity"], "ua:someone");
    secure.proxy.stop().await;
}

#[tokio::test]
async fn handshake_that_does_not_come_or_does_not_end_is_given_up() {
    let secure = Secure::start(&[]).await;
    let mut silent = RawClient::connect(&secure.proxy).await;
    drop(secure.client(false).await);
    pass(Duration::from_secs(11)).await;
    assert_eq!(silent.read_to_end().await, "");
    secure.proxy.metrics_show(|metrics| metrics.connections_lost.of("silent").get() == 1).await;

    let mut slow = RawClient::connect(&secure.proxy).await;
    for byte in [b"\x16", b"\x03", b"\x01"] {
        slow.send(byte).await;
        drop(secure.client(false).await);
        pass(Duration::from_secs(4)).await;
    }
    assert_eq!(slow.read_to_end().await, "");
    secure.proxy.metrics_show(|metrics| metrics.connections_lost.of("tls_timeout").get() == 1).await;

    // One that shook hands and says nothing more has no longer than any other.
    let mut shaken = secure.authority.dial(secure.proxy.address, "http/1.1").await;
    drop(secure.client(false).await);
    pass(Duration::from_secs(11)).await;
    let mut rest = Vec::new();
    let _ = within("the end", shaken.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    secure.proxy.stop().await;
}

#[tokio::test]
async fn plain_http_is_no_tls_and_http2_is_spoken_where_it_was_agreed_on_only() {
    let secure = Secure::start(&[]).await;
    let mut plain = RawClient::connect(&secure.proxy).await;
    plain.send_while_taken(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!plain.read_to_end().await.contains("HTTP/1.1"));
    secure.proxy.metrics_show(|metrics| metrics.connections_lost.of("tls").get() == 1).await;

    let mut undeclared = secure.authority.dial(secure.proxy.address, "http/1.1").await;
    undeclared.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.expect("sent");
    let mut answer = Vec::new();
    let _ = within("the end", undeclared.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"\x00\x00") && !answer.windows(3).any(|part| part == b"200"), "{answer:?}");
    secure.proxy.stop().await;
}
