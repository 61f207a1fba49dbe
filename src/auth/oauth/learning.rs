//! What the upstream says about its protection: its own metadata, and that of its authorization server.
//!
//! Only these are asked (SECURITY §1, 25): the upstream's own origin, the authorization servers that its metadata names,
//! and hosts that the operator named. The public origin is asked at the upstream, unless it was named: what stands there may
//! be this proxy.
//! Learnt at start, at the first 401, and when a document is asked for; a challenge that names another place expires it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;

use super::cached::{Cached, Problem};
use super::metadata::{Resource, Server};
use super::places;
use crate::upstream::{Fetcher, Url};

/// What protects the upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Protection {
    /// Its metadata, if it publishes any.
    pub(super) resource: Option<Resource>,
    /// What it publishes for its whole origin.
    pub(super) root: Option<Bytes>,
}

/// What was learnt, and from where.
#[derive(Debug)]
pub(super) struct Learning {
    fetcher: Fetcher,
    upstream: Url,
    /// The origins under which clients know the proxy.
    public: Vec<String>,
    /// Further hosts that may be asked.
    hosts: Vec<String>,
    /// Where the last challenge said that the metadata stands.
    named: Mutex<Option<Url>>,
    protection: Cached<Protection>,
    server: Cached<Option<Server>>,
}

/// What stands at one place.
enum Found<T> {
    Document(T),
    Nothing,
    Unknown(String),
}

impl Learning {
    pub(super) fn new(fetcher: Fetcher, upstream: Url, public: Vec<String>, hosts: Vec<String>) -> Self {
        let (named, protection, server) = (Mutex::default(), Cached::default(), Cached::default());
        Learning { fetcher, upstream, public, hosts, named, protection, server }
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// A challenge of the upstream has named this place.
    pub(super) fn hear(&self, metadata: Option<&str>) {
        let Some(url) = metadata.and_then(|text| Url::parse(text).ok()) else { return };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.as_ref() != Some(&url) {
            *named = Some(url);
            self.protection.expire();
        }
    }

    /// What protects the upstream.
    pub(super) async fn protection(&self) -> Result<Arc<Protection>, Problem> {
        let before = self.protection.known();
        let now = self.protection.get(|| self.find_protection()).await?;
        Ok(self.changed_since(before.as_ref(), now))
    }

    /// The same for somebody whose POST waits.
    pub(super) async fn protection_soon(&self) -> Result<Arc<Protection>, Problem> {
        let before = self.protection.known();
        let now = self.protection.get_soon(|| self.find_protection()).await?;
        Ok(self.changed_since(before.as_ref(), now))
    }

    /// Another protection may have another server.
    fn changed_since(&self, before: Option<&Arc<Protection>>, now: Arc<Protection>) -> Arc<Protection> {
        if before != Some(&now) {
            self.server.expire();
        }
        now
    }

    /// Who gives out tokens for the upstream.
    pub(super) async fn server(&self) -> Result<Option<Server>, Problem> {
        let protection = self.protection().await?;
        Ok((*self.server.get(|| self.find_server(&protection)).await?).clone())
    }

    async fn find_protection(&self) -> Result<Protection, Problem> {
        let mut found = Protection::default();
        let mut problems = Vec::new();
        for place in self.resource_places() {
            match self.look(&place, Resource::read).await {
                Found::Document(resource) => {
                    found.resource = Some(resource);
                    break;
                }
                Found::Nothing => {}
                Found::Unknown(problem) => problems.push(problem),
            }
        }
        if found.resource.is_none() {
            return if problems.is_empty() { Ok(found) } else { Err(Problem(problems.join("; "))) };
        }
        if let Some(root) = places::resource_metadata(&self.upstream).pop()
            && let Found::Document(resource) = self.look(&root, Resource::read).await
        {
            found.root = Some(resource.text);
        }
        Ok(found)
    }

    /// Best first: where the challenge says, and where RFC 9728 says.
    fn resource_places(&self) -> Vec<Url> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut places = Vec::new();
        if let Some(named) = named {
            let own = self.at_upstream(&named);
            // On the public host stands what this proxy makes of the document.
            places.extend((self.is_operators(&named) && !self.is_public(&named)).then_some(named));
            // Behind a balancer the server speaks of its public name; the document is its own all the same.
            places.push(own);
        }
        for usual in places::resource_metadata(&self.upstream) {
            if !places.contains(&usual) {
                places.push(usual);
            }
        }
        places
    }

    async fn find_server(&self, protection: &Protection) -> Result<Option<Server>, Problem> {
        let issuer = if let Some(resource) = &protection.resource {
            let first = resource.servers.first().and_then(|issuer| Url::parse(issuer).ok());
            let Some(issuer) = first else { return Ok(None) };
            issuer
        } else {
            // Before there was metadata of resources, the server's own origin was asked (MCP 2025-03-26, authorization §2.3).
            let mut origin = self.upstream.clone();
            origin.set_path("");
            origin.set_query(None);
            origin
        };
        let issuer = self.reachable(issuer);
        let mut problems = Vec::new();
        for place in places::server_metadata(&issuer) {
            match self.look(&place, |text| Server::read(text)).await {
                Found::Document(server) => return Ok(Some(server)),
                Found::Nothing => {}
                Found::Unknown(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(None) } else { Err(Problem(problems.join("; "))) }
    }

    /// Where what stands at `url` is asked for: what has our public name is asked at the upstream, unless the operator said
    /// that it can be asked there. Then it is another server, behind another door of the same balancer.
    pub(super) fn reachable(&self, url: Url) -> Url {
        if self.is_public(&url) && !self.is_operators(&url) { self.at_upstream(&url) } else { url }
    }

    /// Whether the authorization server has our public name, and is asked at the upstream for that.
    pub(super) fn maps_server(&self) -> bool {
        let protection = self.protection.known();
        let issuer = protection.as_ref().and_then(|known| known.resource.as_ref()?.servers.first());
        let issuer = issuer.and_then(|issuer| Url::parse(issuer).ok());
        issuer.is_some_and(|issuer| self.is_public(&issuer) && !self.is_operators(&issuer))
    }

    fn is_public(&self, url: &Url) -> bool {
        self.public.contains(&url.origin().ascii_serialization())
    }

    fn is_operators(&self, url: &Url) -> bool {
        url.host_str().is_some_and(|host| self.hosts.iter().any(|known| known == host))
    }

    /// The same path on the upstream's own origin.
    fn at_upstream(&self, url: &Url) -> Url {
        let mut own = self.upstream.clone();
        own.set_path(url.path());
        own.set_query(url.query());
        own
    }

    async fn look<T>(&self, place: &Url, read: impl Fn(&Bytes) -> Option<T>) -> Found<T> {
        match self.fetcher.get(place).await {
            Ok(fetched) if fetched.status == StatusCode::OK => {
                read(&fetched.body).map_or(Found::Nothing, Found::Document)
            }
            // Nothing else says that there is nothing: a server that fails has not said so.
            Ok(fetched) if fetched.status.is_server_error() || fetched.status == StatusCode::TOO_MANY_REQUESTS => {
                let origin = place.origin().ascii_serialization();
                Found::Unknown(format!("{origin}{} answered {}", place.path(), fetched.status.as_u16()))
            }
            Ok(_) => Found::Nothing,
            Err(fault) => Found::Unknown(fault.to_string()),
        }
    }
}
