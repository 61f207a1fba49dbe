//! What trusted proxies say of the client in front of them: `X-Forwarded-For`, `-Host`, `-Proto`, or `Forwarded` (RFC 7239).
//!
//! Whoever is trusted appends to what it got, so lists are read from the right: the first address that no trusted proxy has
//! is the client's, and what stands to its left is only claimed.
//!
//! The trap: a proxy that writes the one form passes the other on as the client sent it, and nothing tells which one it
//! writes. So where both are there, they have to name the same client; if they do not, one of them is forged, and neither
//! is believed: the client is then whoever sent the request, the proxy itself. `Forwarded` never adds a host or a scheme
//! beside `X-Forwarded-For`, for the same reason.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderValue};

use crate::net::TrustedProxies;

/// What is believed of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Its address.
    pub(super) client: IpAddr,
    /// The host it asked for, where someone says.
    pub(super) host: Option<HeaderValue>,
    /// Whether it spoke TLS, where someone says.
    pub(super) is_https: Option<bool>,
}

/// One element of `Forwarded`: what one proxy says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    r#for: Option<String>,
    host: Option<String>,
    proto: Option<String>,
}

impl Claim {
    /// Nobody says anything: the client is whoever sent the request.
    pub(super) fn none(client: IpAddr) -> Self {
        Claim { client, host: None, is_https: None }
    }
}

/// Reads what `headers` claim; they come from `sender`, which is trusted.
pub(super) fn read(headers: &HeaderMap, sender: IpAddr, trusted: &TrustedProxies) -> Claim {
    let old = x_forwarded(headers, sender, trusted);
    if !headers.contains_key(header::FORWARDED) {
        return old;
    }
    let new = forwarded(headers, sender, trusted);
    if !["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].iter().any(|name| headers.contains_key(*name)) {
        return new;
    }
    if old.client == new.client {
        return old;
    }
    tracing::debug!("Forwarded and X-Forwarded-For of a trusted proxy name different clients; neither is believed");
    Claim::none(sender)
}

fn x_forwarded(headers: &HeaderMap, sender: IpAddr, trusted: &TrustedProxies) -> Claim {
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut client = sender;
    for hop in hops.into_iter().rev() {
        let Some(address) = address(hop) else { break };
        client = address;
        if !trusted.trusts(address) {
            break;
        }
    }
    let is_https = headers.get("x-forwarded-proto").map(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    Claim { client, host: headers.get("x-forwarded-host").cloned(), is_https }
}

fn forwarded(headers: &HeaderMap, sender: IpAddr, trusted: &TrustedProxies) -> Claim {
    let mut claim = Claim::none(sender);
    let lines: Vec<&HeaderValue> = headers.get_all(header::FORWARDED).iter().collect();
    for line in lines.into_iter().rev() {
        // Each proxy's line is whole in itself: what its client sent cannot make it unreadable, only stop the reading.
        let Some(elements) = line.to_str().ok().and_then(elements) else { return claim };
        for element in elements.into_iter().rev() {
            claim.host = element.host.and_then(|host| HeaderValue::from_str(&host).ok());
            claim.is_https = element.proto.map(|proto| proto.eq_ignore_ascii_case("https"));
            // `unknown`, or a name that says nothing: who was in front of that proxy stays unknown.
            let Some(address) = element.r#for.as_deref().and_then(address) else { return claim };
            claim.client = address;
            if !trusted.trusts(address) {
                return claim;
            }
        }
    }
    claim
}

/// All elements of one header line; `None` when it breaks the grammar (RFC 7239 §4).
fn elements(line: &str) -> Option<Vec<Element>> {
    let mut rest = line;
    let mut elements = vec![Element::default()];
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        let element = elements.last_mut()?;
        let place = match name.to_ascii_lowercase().as_str() {
            "for" => Some(&mut element.r#for),
            "host" => Some(&mut element.host),
            "proto" => Some(&mut element.proto),
            // `by`, and what others may add.
            other if !other.is_empty() && other.bytes().all(is_token) => None,
            _ => return None,
        };
        if place.is_some_and(|place| place.replace(value).is_some()) {
            // No parameter may stand in one element twice.
            return None;
        }
        let after = after.trim_start_matches([' ', '\t']);
        if after.is_empty() {
            return Some(elements);
        }
        if let Some(next) = after.strip_prefix(',') {
            elements.push(Element::default());
            rest = next;
        } else {
            rest = after.strip_prefix(';')?;
        }
    }
}

/// A token or a quoted string, and what stands behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Colons and brackets would have to be quoted; proxies that do not are understood all the same.
        let end = text.find(|c: char| !c.is_ascii() || !(is_token(c as u8) || ":[]".contains(c))).unwrap_or(text.len());
        return if end == 0 { None } else { text.split_at_checked(end).map(|(value, rest)| (value.to_owned(), rest)) };
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return quoted.get(at + 1..).map(|rest| (value, rest)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address, with or without a port; IPv6 with or without brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = |text: &str| text.parse::<IpAddr>().ok();
    let address = bare(hop)
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| bare(hop.strip_prefix('[')?.strip_suffix(']')?))
        // A port that is a name of its own (RFC 7239 §6.2).
        .or_else(|| hop.rsplit_once(":_").and_then(|(node, _)| bare(node.trim_matches(['[', ']']))));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENDER: &str = "10.0.0.1";

    fn claim(lines: &[(&'static str, &str)]) -> Claim {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("a header"));
        }
        let trusted = TrustedProxies(vec!["10.0.0.0/8".parse().expect("a network")]);
        read(&headers, SENDER.parse().expect("an address"), &trusted)
    }

    fn client(name: &'static str, value: &str) -> String {
        claim(&[(name, value)]).client.to_string()
    }

    #[test]
    fn client_is_the_rightmost_address_that_is_not_trusted() {
        let of = |value| client("x-forwarded-for", value);
        assert_eq!(of("6.6.6.6, 192.0.2.7, 10.1.1.1"), "192.0.2.7");
        assert_eq!(of("192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(of("192.0.2.7, garbage"), SENDER);
        assert_eq!(of("10.2.2.2"), "10.2.2.2");
    }

    #[test]
    fn forwarded_names_it_in_all_its_forms() {
        let of = |value| client("forwarded", value);
        assert_eq!(of("for=6.6.6.6, for=192.0.2.7;proto=https, For=10.1.1.1"), "192.0.2.7");
        assert_eq!(of("for=\"[2001:db8::17]:4711\""), "2001:db8::17");
        assert_eq!(of("for=\"[2001:db8::17]\";by=_x"), "2001:db8::17");
        assert_eq!(of("for=\"192.0.2.7:_port\""), "192.0.2.7");
        assert_eq!(of("for=192.0.2.7:80"), "192.0.2.7");
        assert_eq!(of("for=192.0.2.7,for=_hidden"), SENDER);
        assert_eq!(of("for=192.0.2.7, for=unknown"), SENDER);
        assert_eq!(of("for=192.0.2.7, for=\"10.1.1.1\""), "192.0.2.7");
    }

    #[test]
    fn host_and_scheme_are_what_the_clients_own_proxy_saw() {
        let line =
            "for=6.6.6.6;host=evil.example, for=192.0.2.7;host=\"a.example:8443\";proto=HTTPS, for=10.1.1.1;proto=http";
        let claim = claim(&[("forwarded", line)]);
        assert_eq!(claim.host.expect("a host"), "a.example:8443");
        assert_eq!(claim.is_https, Some(true));
    }

    #[test]
    fn broken_lines_of_the_client_stop_the_reading_and_do_no_more() {
        for evil in ["for=\"1.2.3.4", "for=a;for=b", "=x", "for", "for=1.2.3.4;", "for=\"a\"b"] {
            let joined = format!("{evil}, for=192.0.2.7");
            assert_eq!(client("forwarded", &joined), SENDER, "{joined}");
            let apart = claim(&[("forwarded", evil), ("forwarded", "for=192.0.2.7")]);
            assert_eq!(apart.client.to_string(), "192.0.2.7", "{evil}");
        }
    }

    #[test]
    fn forms_that_name_different_clients_are_both_disbelieved() {
        let forged =
            claim(&[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https"), ("forwarded", "for=6.6.6.6")]);
        assert_eq!(forged, Claim::none(SENDER.parse().expect("an address")));
        let agreed =
            claim(&[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7;host=evil.example;proto=https")]);
        assert_eq!(agreed.client.to_string(), "192.0.2.7");
        assert_eq!((agreed.host, agreed.is_https), (None, None));
    }

    proptest! {
        #[test]
        fn what_trusted_proxies_append_decides_whatever_the_client_sent(sent in "[ -~]{0,40}") {
            let lines = [("forwarded", sent.as_str()), ("forwarded", "for=192.0.2.7;proto=https, for=10.3.3.3")];
            prop_assert_eq!(claim(&lines).client.to_string(), "192.0.2.7");
            let joined = format!("{sent}, for=192.0.2.7");
            let client = client("forwarded", &joined);
            prop_assert!(client == "192.0.2.7" || client == SENDER, "{}", client);
        }
    }
}
