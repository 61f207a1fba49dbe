//! Reads single values. Errors complete the sentence `--option: "value" …`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use jiff::SignedDuration;
use reqwest::Url;

use super::LogFormat;
use crate::admin::Token;
use crate::auth::ProbeKey;
use crate::front::Through;
use crate::session::OpaqueRotation;
use crate::traffic::{AddressForm, Target};
use crate::upstream::{self, Era, HttpVersion};

pub(super) type Read<T> = Result<T, String>;

pub(super) fn socket_address(text: &str) -> Read<SocketAddr> {
    let address = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    address.ok_or_else(|| "is not an address and port, such as 127.0.0.1:8080".to_owned())
}

/// `None` for none.
pub(super) fn admin_address(text: &str) -> Read<Option<SocketAddr>> {
    if text == "off" {
        return Ok(None);
    }
    socket_address(text)
        .map(Some)
        .map_err(|_| "is neither off nor an address and port, such as 127.0.0.1:9090".to_owned())
}

pub(super) fn admin_token(path: &str) -> Read<Token> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    Token::read(&text)
}

/// An HTTP URL without user, password and fragment.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn upstream_url(text: &str) -> Read<Url> {
    let url = http_url(text)?;
    if url.username().is_empty() && url.password().is_none() && url.fragment().is_none() {
        return Ok(url);
    }
    Err("must not hold a user, a password or a fragment".to_owned())
}

pub(super) fn public_url(text: &str) -> Read<Url> {
    let url = upstream_url(text)?;
    if url.query().is_some() {
        return Err("must not have a query".to_owned());
    }
    path(url.path())?;
    Ok(url)
}

fn http_url(text: &str) -> Read<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "is not an http:// or https:// URL, such as http://127.0.0.1:3001/mcp".to_owned())
}

/// Of any scheme: desktop applications and extensions have origins of their own. Never `null`, which is everybody's.
pub(super) fn origin(text: &str) -> Read<String> {
    if let Some((scheme, host)) = text.split_once("://")
        && !matches!(scheme, "http" | "https")
    {
        let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let fits = !scheme.is_empty() && scheme.bytes().all(is_scheme) && !host.is_empty() && host.bytes().all(is_host);
        return if fits {
            Ok(text.to_owned())
        } else {
            Err("is not an origin, such as https://app.example.com".to_owned())
        };
    }
    let url = http_url(text)?;
    let origin = url.origin().ascii_serialization();
    if origin == text.trim_end_matches('/') {
        return Ok(origin);
    }
    Err(format!("is not an origin; write {origin}"))
}

/// Unreserved characters only: the path becomes part of the endpoint event, which clients resolve in many ways.
pub(super) fn path(text: &str) -> Read<String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if text.starts_with('/') && !text.starts_with("//") && text.bytes().all(unreserved) {
        return Ok(text.to_owned());
    }
    Err("is not a path of letters, digits, and -._~ that starts with one /".to_owned())
}

pub(super) fn network(text: &str) -> Read<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network.map_err(|_| "is not a network or address, such as 10.0.0.0/8".to_owned())
}

/// Reads a host, with a port or without.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn host(text: &str) -> Read<HeaderValue> {
    let authority = text.parse::<Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
    let host = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    host.ok_or_else(|| "is not a host or host:port".to_owned())
}

pub(super) fn opaque_rotation(text: &str) -> Read<OpaqueRotation> {
    match text {
        "guarded" => Ok(OpaqueRotation::Guarded),
        "deny" => Ok(OpaqueRotation::Deny),
        "allow" => Ok(OpaqueRotation::Allow),
        _ => Err("is none of guarded, deny and allow".to_owned()),
    }
}

/// `NAME: VALUE`, or `NAME: @FILE`. Problems never quote the value: it may be a credential.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn upstream_header(text: &str) -> Read<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').ok_or("is not NAME: VALUE")?;
    let name = header_name(name.trim())?;
    if upstream::is_reserved(&name) {
        return Err(format!("names {name}, which the proxy sets itself"));
    }
    let value = match value.trim().strip_prefix('@') {
        Some(path) => {
            let bytes = file(path).map_err(|problem| format!("names the file {path}, which {problem}"))?;
            String::from_utf8(bytes).map_err(|_| format!("reads {path}, which is not text"))?.trim().to_owned()
        }
        None => value.trim().to_owned(),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| "has a value that no header can have")?;
    value.set_sensitive(true);
    Ok((name, value))
}

pub(super) fn file(path: &str) -> Read<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

/// The file of the key that probes sign with.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn probe_key(path: &str) -> Read<ProbeKey> {
    ProbeKey::read(Path::new(path)).map_err(|error| error.to_string())
}

/// The file of certificates of authorities.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn authorities(path: &str) -> Read<Vec<reqwest::Certificate>> {
    let found = reqwest::Certificate::from_pem_bundle(&file(path)?).unwrap_or_default();
    if found.is_empty() { Err("holds no certificate in PEM form".to_owned()) } else { Ok(found) }
}

pub(super) fn http_version(text: &str) -> Read<HttpVersion> {
    match text {
        "1.1" => Ok(HttpVersion::Http1),
        "2" => Ok(HttpVersion::Http2),
        _ => Err("is neither 1.1 nor 2".to_owned()),
    }
}

pub(super) fn proxy_protocol(text: &str) -> Read<bool> {
    match text {
        "off" => Ok(false),
        "v2" => Ok(true),
        _ => Err("is neither off nor v2".to_owned()),
    }
}

/// Whether clients have to show a certificate.
pub(super) fn client_auth(text: &str) -> Read<bool> {
    match text {
        "optional" => Ok(false),
        "required" => Ok(true),
        _ => Err("is neither optional nor required".to_owned()),
    }
}

/// The era to speak; none to find out.
pub(super) fn era_or_auto(text: &str) -> Read<Option<Era>> {
    match text {
        "auto" => Ok(None),
        _ => era(text).map(Some).map_err(|_| "is neither auto, session nor modern".to_owned()),
    }
}

pub(super) fn era(text: &str) -> Read<Era> {
    [Era::Session, Era::Modern]
        .into_iter()
        .find(|era| era.as_str() == text)
        .ok_or_else(|| "is neither session nor modern".to_owned())
}

pub(super) fn passthrough(text: &str) -> Read<Through> {
    match text {
        "off" => Ok(Through::Off),
        "mcp" => Ok(Through::Mcp),
        "all" => Ok(Through::All),
        _ => Err("is none of off, mcp, all".to_owned()),
    }
}

/// An option that stands for itself.
pub(super) fn switch(text: &str) -> Read<bool> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

pub(super) fn header_name(text: &str) -> Read<HeaderName> {
    text.parse().map_err(|_| "is not a header name".to_owned())
}

/// Reads a duration, which may be zero.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn duration(text: &str) -> Read<Duration> {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("needs a unit, such as {text}s"));
    }
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "is not a duration, such as 500ms, 15s or 2m".to_owned())
}

/// A duration that is not zero.
///
/// # Errors
/// What is wrong with it, to complete the sentence.
pub fn interval(text: &str) -> Read<Duration> {
    let interval = duration(text)?;
    if interval.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(interval) }
}

pub(super) fn count(text: &str) -> Read<usize> {
    let count = text.replace('_', "").parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "is not a whole number above zero".to_owned())
}

pub(super) fn bytes(text: &str) -> Read<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: usize = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err("has an unknown unit; use B, KiB, MiB or GiB".to_owned()),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)).filter(|size| *size > 0);
    size.ok_or_else(|| "is not a size, such as 4MiB".to_owned())
}

pub(super) fn target(text: &str) -> Read<Target> {
    match text {
        "" => Err("is no path; - is standard output".to_owned()),
        "-" => Ok(Target::Stdout),
        path => Ok(Target::File(PathBuf::from(path))),
    }
}

pub(super) fn address_form(text: &str) -> Read<AddressForm> {
    match text {
        "hmac" => Ok(AddressForm::Hmac),
        "full" => Ok(AddressForm::Full),
        _ => Err("is neither hmac nor full".to_owned()),
    }
}

pub(super) fn log_format(text: &str) -> Read<LogFormat> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("is none of auto, human, json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("15").unwrap_err(), "needs a unit, such as 15s");
        for bad in ["", "-1s", "soon", "1 parsec"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_may_be_of_any_scheme_but_null_is_none() {
        for good in
            ["https://app.example.com", "http://localhost:6274", "chrome-extension://abcdef", "app://obsidian.md"]
        {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        assert!(
            origin("https://app.example.com/path").is_err_and(|problem| problem.contains("https://app.example.com"))
        );
        for bad in ["null", "*", "app://", "://x", "a b://c", "app://a/b"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert_eq!(bytes("100"), Ok(100));
        assert_eq!(bytes("1kB"), Ok(1000));
        for bad in ["", "0", "-1", "4 parsecs", "99999999999GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_hold_no_credentials() {
        assert!(upstream_url("http://127.0.0.1:3001/mcp?code=x").is_ok());
        for bad in ["127.0.0.1:3001", "ftp://a/b", "http://user:pass@a/mcp", "http://a/mcp#x", ""] {
            assert!(upstream_url(bad).is_err(), "{bad}");
        }
        assert_eq!(origin("https://app.example.com/"), Ok("https://app.example.com".into()));
        assert!(origin("https://app.example.com/path").is_err());
    }

    #[test]
    fn networks_may_be_single_addresses() {
        assert_eq!(network("10.1.2.3").map(|network| network.to_string()), Ok("10.1.2.3/32".into()));
        assert!(network("10.0.0.0/99").is_err());
    }
}
