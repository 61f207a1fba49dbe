//! What certificates say: of clients, who they are; of our own, until when it is good.
//!
//! Nothing is verified here: whoever gets this far was vouched for by an authority that the operator named.

use std::fmt::Write as _;

use ring::digest;
use x509_parser::oid_registry::OidRegistry;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Who showed a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject (RFC 4514: `CN=reporting,O=Example`), or where it is empty the first name beside it, such as that of
    /// SPIFFE; `None` when there is no name at all.
    pub subject: Option<String>,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`): the same after a renewal with the same key.
    pub key: [u8; 32],
}

impl ClientCertificate {
    /// Reads it; `None` when it cannot be read.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let digest = digest::digest(&digest::SHA256, certificate.public_key().raw);
        let subject = Some(subject(certificate.subject())).filter(|subject| !subject.is_empty());
        Some(ClientCertificate {
            subject: subject.or_else(|| alternative(&certificate)),
            key: digest.as_ref().try_into().ok()?,
        })
    }
}

/// The last second of a certificate, as Unix time.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Workloads have their name here and no subject (SPIFFE X.509-SVID §2).
fn alternative(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        _ => None,
    };
    let uri = names.iter().find(|name| matches!(name, GeneralName::URI(_)));
    uri.or(names.first()).and_then(text)
}

/// RFC 4514 §2: the most specific part first.
fn subject(name: &X509Name<'_>) -> String {
    let registry = OidRegistry::default().with_x509();
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| {
            let attributes: Vec<String> = part.iter().map(|attribute| pair(attribute, &registry)).collect();
            attributes.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn pair(attribute: &AttributeTypeAndValue<'_>, registry: &OidRegistry<'_>) -> String {
    let oid = attribute.attr_type();
    // Only the names of RFC 4514 §3 stand for themselves; others are numbers, with the bytes of their
    // value.
    let name = x509_parser::objects::oid2abbrev(oid, registry).ok();
    let name = name.filter(|name| ["CN", "L", "ST", "O", "OU", "C", "STREET", "DC", "UID"].contains(name));
    if let (Some(name), Ok(value)) = (name, attribute.as_str()) {
        return format!("{name}={}", escaped(value));
    }
    let mut text = format!("{}=#", oid.to_id_string());
    for byte in attribute.as_slice() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// RFC 4514 §2.4.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let at_edge = character == ' ' && (at == 0 || at == last) || character == '#' && at == 0;
        if at_edge || matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn of(params: &CertificateParams, key: &KeyPair) -> ClientCertificate {
        let certificate = params.self_signed(key).expect("a certificate");
        ClientCertificate::of(certificate.der()).expect("what it says")
    }

    #[test]
    fn subject_is_written_as_rfc_4514_has_it() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Bolts, Nuts + Co");
        params.distinguished_name.push(DnType::CommonName, "#1 reporting ");
        let subject = of(&params, &key).subject.expect("a subject");
        assert_eq!(subject, "CN=\\#1 reporting\\ ,O=Bolts\\, Nuts \\+ Co,C=DE");
    }

    #[test]
    fn certificate_without_a_subject_is_known_by_its_other_name_and_its_key() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).expect("a name");
        params.distinguished_name = DistinguishedName::new();
        let uri = "spiffe://example/ns/reports".try_into().expect("a name");
        params.subject_alt_names.push(SanType::URI(uri));
        let first = of(&params, &key);
        assert_eq!(first.subject.as_deref(), Some("spiffe://example/ns/reports"));
        assert_eq!(first.key, of(&params, &key).key, "a renewal with the same key");
        assert_ne!(first.key, of(&params, &KeyPair::generate().expect("a key")).key);
        params.subject_alt_names.clear();
        assert_eq!(of(&params, &key).subject, None);
    }
}
