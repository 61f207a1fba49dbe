//! Who a client is, as well as can be told (EVIDENCE, Identity).
//!
//! Strongest first: an authenticated principal, then what `clientInfo` says, then the user-agent's product, then the
//! address. An identity is prefixed with its kind, so that a user-agent cannot pose as a principal.

use std::net::IpAddr;

use serde::Deserialize;

use super::family::family;
use super::pseudonym::Pseudonyms;

/// Longest name, version or user-agent that is kept, in bytes.
const LONGEST: usize = 512;

/// Where an identity was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentitySource {
    /// `sub` of a bearer token.
    Subject,
    /// `client_id` or `azp` of a bearer token.
    ClientId,
    /// The header that the operator named.
    Header,
    /// The subject of the certificate it showed.
    Certificate,
    /// `clientInfo` of `initialize`.
    ClientInfo,
    /// The product of the user-agent.
    UserAgent,
    /// The address.
    Address,
}

impl IdentitySource {
    /// The name that stands in `identity.source`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            IdentitySource::Subject => "sub",
            IdentitySource::ClientId => "client_id",
            IdentitySource::Header => "header",
            IdentitySource::Certificate => "mtls",
            IdentitySource::ClientInfo => "client_info",
            IdentitySource::UserAgent => "user_agent",
            IdentitySource::Address => "address",
        }
    }
}

/// A client's identity, ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For example `client_id:reporting` or `name:Cursor via mcp-remote`.
    pub value: String,
    /// Where it was taken from.
    pub source: IdentitySource,
}

/// What a credential or the operator's header says of the client; labels only, nothing is verified here (the
/// upstream verifies the same token on the same request).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Principal {
    /// `sub` of a bearer JWT.
    pub subject: Option<String>,
    /// Its `client_id`, else `azp`.
    pub client_id: Option<String>,
    /// The value of the header that the operator named.
    pub header: Option<String>,
    /// The subject of the certificate that the client showed.
    pub certificate: Option<String>,
    /// A bearer token that says nothing, and may be another one tomorrow.
    pub is_opaque: bool,
    /// The authentication scheme, in lower case.
    pub scheme: Option<String>,
}

impl Principal {
    /// Whether it says who the client is.
    #[must_use]
    pub fn names_someone(&self) -> bool {
        self.header.is_some() || self.subject.is_some() || self.client_id.is_some() || self.certificate.is_some()
    }
}

/// `clientInfo` of `initialize`, with the bridge taken out of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The product: `Cursor`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it came through: `mcp-remote 0.1.31`.
    pub bridge: Option<String>,
}

impl ClientInfo {
    /// Reads the names a client gave. Bridges put the product in front of themselves: `Cursor (via mcp-remote 0.1.31)`.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let (name, bridge) = match name.strip_suffix(')').and_then(|open| open.split_once(" (via ")) {
            Some((product, bridge)) => (product, Some(printable(bridge))),
            None => (name, None),
        };
        ClientInfo { name: printable(name), version: printable(version), bridge }
    }
}

impl<'de> Deserialize<'de> for ClientInfo {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Names {
            #[serde(default)]
            name: String,
            #[serde(default)]
            version: String,
        }
        let names = Names::deserialize(deserializer)?;
        Ok(ClientInfo::new(&names.name, &names.version))
    }
}

/// Everything known of a client. It grows: the connection says some, `initialize` says more.
#[derive(Debug, Clone)]
pub struct Client {
    /// What its credential says.
    pub principal: Principal,
    /// What its `initialize` said.
    pub info: Option<ClientInfo>,
    /// Its user-agent, printable.
    pub user_agent: Option<String>,
    /// Its address, as far as trusted proxies tell.
    pub address: IpAddr,
}

impl Client {
    /// The strongest identity that is known.
    #[must_use]
    pub fn identity(&self, pseudonyms: &Pseudonyms) -> Identity {
        let is = |source, value| Identity { value, source };
        if let Some(header) = &self.principal.header {
            return is(IdentitySource::Header, format!("header:{header}"));
        }
        if let Some(subject) = &self.principal.subject {
            return is(IdentitySource::Subject, format!("sub:{}", pseudonyms.of("sub", subject)));
        }
        if let Some(client_id) = &self.principal.client_id {
            return is(IdentitySource::ClientId, format!("client_id:{client_id}"));
        }
        // After the token: in a mesh all clients may come through one certificate.
        if let Some(subject) = &self.principal.certificate {
            return is(IdentitySource::Certificate, format!("mtls:{subject}"));
        }
        if let Some(info) = self.info.as_ref().filter(|info| !info.name.is_empty()) {
            // Without the bridge's version: the same client after an update of its bridge is the same client.
            let bridge = info.bridge.as_ref().and_then(|bridge| bridge.split_whitespace().next());
            let via = bridge.map(|bridge| format!(" via {bridge}")).unwrap_or_default();
            return is(IdentitySource::ClientInfo, format!("name:{}{via}", info.name));
        }
        if let Some(product) = self.user_agent.as_deref().and_then(product) {
            return is(IdentitySource::UserAgent, format!("ua:{product}"));
        }
        is(IdentitySource::Address, format!("address:{}", pseudonyms.address(self.address)))
    }

    /// The client's family.
    #[must_use]
    pub fn family(&self) -> &'static str {
        let info = self.info.as_ref();
        family(
            info.map(|info| info.name.as_str()),
            info.and_then(|info| info.bridge.as_deref()),
            self.user_agent.as_deref(),
        )
    }
}

/// The product of a user-agent, without its version.
fn product(user_agent: &str) -> Option<&str> {
    let end = user_agent.find(['/', '(']).unwrap_or(user_agent.len());
    user_agent.get(..end).map(str::trim).filter(|product| !product.is_empty())
}

/// Text from outside as the log may hold it: at most 512 bytes, control characters escaped.
#[must_use]
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(LONGEST));
    for character in text.chars() {
        if safe.len() + character.len_utf8() > LONGEST {
            break;
        }
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::AddressForm;

    fn client() -> Client {
        Client {
            principal: Principal::default(),
            info: None,
            user_agent: None,
            address: "192.0.2.1".parse().expect("an address"),
        }
    }

    fn identity(client: &Client) -> String {
        client.identity(&Pseudonyms::ephemeral(AddressForm::Full)).value
    }

    #[test]
    fn identity_is_the_strongest_that_is_known() {
        let mut client = client();
        assert_eq!(identity(&client), "address:192.0.2.1");
        client.user_agent = Some("python-httpx/0.28.1".to_owned());
        assert_eq!(identity(&client), "ua:python-httpx");
        client.info = Some(ClientInfo::new("Cursor (via mcp-remote 0.1.31)", "1.0"));
        assert_eq!(identity(&client), "name:Cursor via mcp-remote");
        client.principal.certificate = Some("CN=reporting".to_owned());
        assert_eq!(identity(&client), "mtls:CN=reporting");
        client.principal.client_id = Some("reporting".to_owned());
        assert_eq!(identity(&client), "client_id:reporting");
        client.principal.subject = Some("alice".to_owned());
        assert!(identity(&client).starts_with("sub:"));
        assert!(!identity(&client).contains("alice"));
        client.principal.header = Some("team-a".to_owned());
        assert_eq!(identity(&client), "header:team-a");
    }

    #[test]
    fn bridge_is_taken_out_of_the_name() {
        let info = ClientInfo::new("Cursor (via mcp-remote 0.1.31)", "1");
        assert_eq!((info.name.as_str(), info.bridge.as_deref()), ("Cursor", Some("mcp-remote 0.1.31")));
        let plain = ClientInfo::new("my (odd) client", "1");
        assert_eq!((plain.name.as_str(), plain.bridge), ("my (odd) client", None));
    }

    #[test]
    fn names_from_outside_are_capped_and_escaped() {
        let info = ClientInfo::new(&format!("a\n\u{1b}[31m{}", "é".repeat(600)), "");
        assert!(info.name.starts_with("a\\n\\u{1b}[31mé"), "{}", info.name);
        assert!(info.name.len() <= LONGEST);
    }
}
