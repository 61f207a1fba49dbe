//! Small documents from elsewhere: the metadata of authorization servers, and what the OAuth facade passes on.
//!
//! Where they are is what a server says, so every request is held to what cannot be misused (SECURITY §1, 25): `https`
//! only (`http` for the upstream's own origin and for loopback), no redirects, no link-local or metadata addresses
//! whatever a name resolves to, 64 KiB, 5 s. Which hosts are asked at all is the caller's to decide. The trap: a name is
//! checked when it is resolved for the connection itself; a check before would see other addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::Duration;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use reqwest::{Client, Url};
use tokio::time::timeout;

use super::http::{Config, HttpVersion, POOL_IDLE, client_builder, root_cause};
use super::resolver::Guarded;

/// Longest document, in bytes.
pub const LONGEST_DOCUMENT: usize = 64 << 10;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of metadata services that are not link-local: Alibaba Cloud's, and AWS over IPv6.
const METADATA_SERVICES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// It is not asked for: where it stands nothing may be asked.
    #[error("{0} is not asked: {1}")]
    Forbidden(String, &'static str),
    /// There was no answer.
    #[error("{0} does not answer: {1}")]
    Unreachable(String, String),
    /// Not in time.
    #[error("{0} did not answer within {s} s", s = PATIENCE.as_secs())]
    Silent(String),
    /// It is too long.
    #[error("the answer of {0} has more than {LONGEST_DOCUMENT} bytes")]
    TooLong(String),
}

/// What came.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The status; redirects included, as they are not followed.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Fetches documents, from the upstream as it is configured and from others as anybody would.
#[derive(Debug)]
pub struct Fetcher {
    config: Config,
    /// What goes with requests to the upstream's own origin: not what stands for a client's credential.
    headers: HeaderMap,
    own: OnceLock<Result<Client, String>>,
    /// For servers of others, over TLS; made when one is first asked, because it needs authorities.
    secure: OnceLock<Result<Client, String>>,
    /// For loopback without TLS.
    plain: OnceLock<Result<Client, String>>,
}

impl Fetcher {
    /// One for the upstream of `config`; no client is made yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let host = config.host.iter().map(|host| (header::HOST, host.clone()));
        let headers = config.headers.iter().filter(|(name, _)| *name != header::AUTHORIZATION).cloned().chain(host);
        Fetcher {
            headers: headers.collect(),
            config: config.clone(),
            own: OnceLock::new(),
            secure: OnceLock::new(),
            plain: OnceLock::new(),
        }
    }

    /// Gets the document at `url`.
    ///
    /// # Errors
    /// When there is none to be had; a status is no error.
    pub async fn get(&self, url: &Url) -> Result<Fetched, FetchFault> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// Posts `body` with `headers`.
    ///
    /// # Errors
    /// When there is no answer; a status is no error.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Fetched, FetchFault> {
        self.send(Method::POST, url, headers, body).await
    }

    async fn send(&self, method: Method, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Fetched, FetchFault> {
        let place = place(url);
        let client = self.client(url)?;
        let mut request = reqwest::Request::new(method, url.clone());
        *request.headers_mut() = headers;
        if self.is_own(url) {
            request.headers_mut().extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        let exchange = async {
            let unreachable =
                |error: reqwest::Error| FetchFault::Unreachable(place.clone(), root_cause(&error.without_url()));
            let mut response = client.execute(request).await.map_err(unreachable)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
                if body.len() + chunk.len() > LONGEST_DOCUMENT {
                    return Err(FetchFault::TooLong(place.clone()));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Fetched { status, headers, body: body.freeze() })
        };
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(FetchFault::Silent(place.clone())))
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.config.url.origin()
    }

    /// The client for `url`, if it may be asked at all.
    fn client(&self, url: &Url) -> Result<&Client, FetchFault> {
        let place = place(url);
        let made = if self.is_own(url) {
            self.own.get_or_init(|| self.make_own())
        } else {
            check(url).map_err(|why| FetchFault::Forbidden(place.clone(), why))?;
            let client = if url.scheme() == "https" { &self.secure } else { &self.plain };
            client.get_or_init(|| self.make_other(url))
        };
        made.as_ref().map_err(|error| FetchFault::Unreachable(place, error.clone()))
    }

    fn make_own(&self) -> Result<Client, String> {
        let config = &self.config;
        let mut client = client_builder(&config.url, config.authorities.iter().cloned(), config.connect_timeout)
            .pool_idle_timeout(POOL_IDLE);
        client = match config.version {
            HttpVersion::Http1 => client.http1_only(),
            HttpVersion::Http2 => client.http2_prior_knowledge(),
        };
        if let Some(identity) = &config.identity {
            client = client.identity(identity.clone());
        }
        client.build().map_err(|error| root_cause(&error))
    }

    fn make_other(&self, url: &Url) -> Result<Client, String> {
        let resolver = Guarded::new(if url.scheme() == "https" { may_be_asked } else { is_loopback });
        let client = client_builder(url, self.config.authorities.iter().cloned(), self.config.connect_timeout);
        // A code is good for one use: it must not go out on a connection that its server is closing.
        client
            .http1_only()
            .pool_idle_timeout(POOL_IDLE)
            .dns_resolver(resolver)
            .build()
            .map_err(|error| root_cause(&error))
    }
}

/// Whether a client may be sent to `url`, or this process go there: over TLS, or to this very machine.
#[must_use]
pub fn is_safe_url(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => address(url).map_or_else(|| url.host_str() == Some("localhost"), is_loopback),
        _ => false,
    }
}

fn check(url: &Url) -> Result<(), &'static str> {
    if !is_safe_url(url) {
        return Err("it is neither https nor on this machine");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its URL holds a user or password");
    }
    // Addresses in URLs are not resolved.
    if address(url).is_some_and(|address| !may_be_asked(address)) {
        return Err("its address is link-local or one of a metadata service");
    }
    Ok(())
}

fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether something may be asked at `address` because a server said so.
fn may_be_asked(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(address) => {
            address.is_link_local() || address.is_broadcast() || address.octets().first() == Some(&0)
        }
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !address.is_unspecified() && !address.is_multicast() && !METADATA_SERVICES.contains(&address)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Scheme, host, port and path: a query may hold secrets.
fn place(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// The headers of `headers` that are called so.
#[must_use]
pub fn pick(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let values =
        names.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name.clone(), value.clone())));
    values.fold(HeaderMap::new(), |mut picked, (name, value)| {
        picked.append(name, value);
        picked
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn only_tls_and_this_machine_are_asked_and_no_metadata_service() {
        for good in [
            "https://as.example/x",
            "http://127.0.0.1:1/x",
            "http://localhost:9/",
            "http://[::1]/",
            "https://10.0.0.1/",
        ] {
            assert_eq!(check(&url(good)), Ok(()), "{good}");
        }
        for bad in [
            "http://as.example/x",
            "http://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://2852039166/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fd00:ec2::254]/",
            "https://100.100.100.200/",
            "https://0.0.0.0/",
            "https://user:pass@as.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://localhost.evil.example/",
        ] {
            assert!(check(&url(bad)).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn name_is_judged_by_the_address_it_resolves_to() {
        let denied = Guarded::with(may_be_asked, |_| vec![([169, 254, 169, 254], 0).into()]);
        assert!(
            denied
                .addresses("as.example".into())
                .await
                .is_err_and(|error| error.to_string().contains("169.254.169.254"))
        );
        let mixed = Guarded::with(may_be_asked, |_| vec![([169, 254, 1, 1], 0).into(), ([192, 0, 2, 1], 0).into()]);
        assert!(mixed.addresses("as.example".into()).await.is_err(), "a name that may lead there is not followed");
        let good = Guarded::with(may_be_asked, |_| vec![([192, 0, 2, 1], 0).into()]);
        assert_eq!(good.addresses("as.example".into()).await.expect("addresses").len(), 1);
    }

    #[test]
    fn faults_name_no_query() {
        let fault = FetchFault::Silent(place(&url("https://as.example/x?code=secret")));
        assert_eq!(fault.to_string(), "https://as.example/x did not answer within 5 s");
    }
}
