//! The options of OAuth.

use reqwest::Url;

use super::reader::Reader;
use super::units::Read;
use crate::auth::oauth::{Config, MetadataAt, ProbeMode, ResourceMode};
use crate::front;

impl Reader<'_> {
    /// Tokens that the operator gives stand in the place of the clients' own, who need not log in then.
    pub(super) fn oauth(
        &mut self,
        public: Option<&Url>,
        front: &front::Config,
        loopback: bool,
        is_tls: bool,
    ) -> Config {
        let resource = self.value("oauth-resource", resource).unwrap_or_default();
        let probe = self.value("oauth-probe", probe).unwrap_or_default();
        let metadata_at = self.value("oauth-metadata-at", metadata_at).unwrap_or_default();
        let hosts = self.many("oauth-host", host);
        let injects = self.many("upstream-header", super::units::upstream_header);
        let injects = injects.iter().any(|(name, _)| *name == http::header::AUTHORIZATION);
        // Clients of this machine have a name for it; those of something in front of it have another.
        let is_direct = loopback && !self.is_given("trusted-proxy") && !self.is_given("allowed-host");
        let is_named = matches!(resource, ResourceMode::Exact | ResourceMode::Facade);
        if is_named && public.is_none() && !is_direct {
            self.problem(
                "--oauth-resource exact and facade need --public-url: clients get tokens for that URL".to_owned(),
            );
        }
        if is_named && injects {
            self.problem(
                "--upstream-header gives every client the same Authorization, so none of them logs in; leave \
                 --oauth-resource out"
                    .to_owned(),
            );
        }
        Config {
            resource: if injects { ResourceMode::None } else { resource },
            probe,
            metadata_at,
            hosts,
            public: public.cloned(),
            is_tls,
            public_path: front.public_path.clone(),
            sse_path: front.sse_path.clone(),
            is_direct,
            credentials: front.credential_headers.clone(),
            knows_addresses: self.is_given("trusted-proxy"),
        }
    }
}

fn resource(text: &str) -> Read<ResourceMode> {
    match text {
        "auto" => Ok(ResourceMode::Auto),
        "exact" => Ok(ResourceMode::Exact),
        "upstream" => Ok(ResourceMode::Upstream),
        "facade" => Ok(ResourceMode::Facade),
        "none" => Ok(ResourceMode::None),
        _ => Err("is none of auto, exact, upstream, facade, none".to_owned()),
    }
}

fn probe(text: &str) -> Read<ProbeMode> {
    match text {
        "auto" => Ok(ProbeMode::Auto),
        "always" => Ok(ProbeMode::Always),
        "off" => Ok(ProbeMode::Off),
        _ => Err("is none of auto, always, off".to_owned()),
    }
}

fn metadata_at(text: &str) -> Read<MetadataAt> {
    match text {
        "well-known" => Ok(MetadataAt::WellKnown),
        "sse-path" => Ok(MetadataAt::SsePath),
        "query" => Ok(MetadataAt::Query),
        _ => Err("is none of well-known, sse-path, query".to_owned()),
    }
}

/// A host as it stands in URLs, without a port.
fn host(text: &str) -> Read<String> {
    let url = Url::parse(&format!("https://{text}/")).ok().filter(|url| url.port().is_none() && url.path() == "/");
    let host = url.as_ref().and_then(Url::host_str).filter(|_| !text.contains(['@', '?', '#', ':', '/']));
    host.map(str::to_owned).ok_or_else(|| "is not a host, such as auth.example.com".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Given, Origin, Raw, resolve};
    use super::*;

    fn problems(options: &[(&'static str, &str)]) -> Vec<String> {
        let given = |value: &str| Given { values: vec![value.to_owned()], origin: Origin::Flag };
        let mut raw = Raw::from([("upstream", given("http://127.0.0.1:3001/mcp"))]);
        raw.extend(options.iter().map(|(name, value)| (*name, given(value))));
        resolve(&raw, Vec::new(), "here").err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tokens_for_the_public_url_need_one() {
        let public = [("listen", "0.0.0.0:8080"), ("allowed-host", "mcp.example.com")];
        assert_eq!(problems(&public), [""; 0]);
        for mode in ["exact", "facade"] {
            let found = problems(&[&public[..], &[("oauth-resource", mode)]].concat());
            assert!(found.len() == 1 && found[0].contains("--public-url"), "{found:?}");
            let named = [("public-url", "https://mcp.example.com"), ("oauth-resource", mode)];
            assert_eq!(problems(&[&public[..], &named].concat()), [""; 0]);
            assert_eq!(problems(&[("oauth-resource", mode)]), [""; 0], "loopback has a name of its own");
            for option in [("trusted-proxy", "127.0.0.0/8"), ("allowed-host", "mcp.example.com")] {
                let found = problems(&[option, ("oauth-resource", mode)]);
                assert!(found.len() == 1 && found[0].contains("--public-url"), "something is in front: {found:?}");
            }
        }
    }

    #[test]
    fn credential_of_the_operator_leaves_nobody_to_log_in() {
        let header = ("upstream-header", "Authorization: Bearer x");
        assert_eq!(problems(&[header]), [""; 0]);
        let found = problems(&[header, ("oauth-resource", "facade")]);
        assert!(found.len() == 1 && found[0].contains("--upstream-header"), "{found:?}");
    }

    #[test]
    fn words_and_hosts_are_read_strictly() {
        for (name, value) in [("oauth-resource", "on"), ("oauth-probe", "never"), ("oauth-metadata-at", "/x")] {
            assert_eq!(problems(&[(name, value)]).len(), 1, "{name}");
        }
        assert_eq!(host("auth.example.com"), Ok("auth.example.com".to_owned()));
        for bad in ["", "https://a", "a:443", "a/b", "u@a", "a?b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
