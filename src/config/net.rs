//! How clients are let in: limits, TLS, and who may speak for others.

use std::path::PathBuf;

use super::reader::Reader;
use super::units;
use crate::net::{self, ClientAuth, Limits, Tls, TlsFiles, TrustedProxies};

impl Reader<'_> {
    pub(super) fn net(&mut self) -> net::Config {
        let trusted = TrustedProxies(self.many("trusted-proxy", units::network));
        let proxy_protocol = self.value("proxy-protocol", units::proxy_protocol).unwrap_or_default();
        if proxy_protocol && !self.is_given("trusted-proxy") {
            let text = "--proxy-protocol v2 needs --trusted-proxy: from anyone else such a header would be a lie";
            self.problem(text.to_owned());
        }
        net::Config {
            limits: Limits {
                first_byte: self.interval("first-byte-timeout"),
                handshake: self.interval("tls-handshake-timeout"),
                head: self.interval("header-timeout"),
                idle: self.interval("idle-timeout"),
            },
            max_connections: self
                .optional("max-connections", units::count)
                .unwrap_or_else(net::default_max_connections),
            max_per_address: self.optional("max-connections-per-address", units::count),
            tls: self.tls(),
            trusted,
            proxy_protocol,
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let file = |text: &str| Ok(PathBuf::from(text));
        let (cert, key) = (self.optional("tls-cert", file), self.optional("tls-key", file));
        let ca = self.optional("tls-client-ca", file);
        let required = self.optional("tls-client-auth", units::client_auth);
        if cert.is_some() != key.is_some() {
            self.problem("--tls-cert and --tls-key go together".to_owned());
        }
        if ca.is_some() && cert.is_none() {
            self.problem(
                "--tls-client-ca needs --tls-cert and --tls-key: certificates are shown in TLS only".to_owned(),
            );
        }
        if ca.is_none() && self.is_given("tls-client-auth") {
            self.problem("--tls-client-auth needs --tls-client-ca, which says who vouches for clients".to_owned());
        }
        let clients = ca.map(|ca| ClientAuth { ca, required: required.unwrap_or(true) });
        match Tls::load(TlsFiles { cert: cert?, key: key?, clients }) {
            Ok(tls) => Some(tls),
            Err(error) => {
                self.problem(format!("TLS: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Given, Origin, Raw, resolve};

    fn problems(options: &[(&'static str, &str)]) -> Vec<String> {
        let mut raw = Raw::new();
        for (name, value) in [("upstream", "http://127.0.0.1:3001/mcp")].iter().chain(options) {
            raw.insert(name, Given { values: vec![(*value).to_owned()], origin: Origin::Flag });
        }
        let problems = resolve(&raw, Vec::new(), "here").err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_that_need_each_other_are_told_apart() {
        for (options, text) in [
            (&[("tls-cert", "a.pem")][..], "go together"),
            (&[("tls-client-ca", "a.pem")], "--tls-client-ca needs --tls-cert"),
            (&[("tls-client-auth", "optional")], "needs --tls-client-ca"),
            (&[("tls-cert", "/nowhere/a.pem"), ("tls-key", "b.pem")], "TLS: /nowhere/a.pem cannot be read"),
            (&[("proxy-protocol", "v2")], "needs --trusted-proxy"),
            (&[("proxy-protocol", "v1"), ("trusted-proxy", "10.0.0.1")], "neither off nor v2"),
        ] {
            let problems = problems(options);
            assert!(problems.len() == 1 && problems[0].contains(text), "{text}: {problems:?}");
        }
    }

    #[test]
    fn proxy_protocol_of_named_proxies_is_valid() {
        assert_eq!(problems(&[("proxy-protocol", "v2"), ("trusted-proxy", "10.0.0.1")]), Vec::<String>::new());
    }
}
