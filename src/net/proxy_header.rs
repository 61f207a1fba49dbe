//! The header of the PROXY protocol, version 2, in which a balancer that only hands bytes on names its client.
//!
//! Promise: exactly the header is read and not a byte behind it, and what is no header is known at its first wrong byte.
//! Who may send one is decided before: from anyone else it would be a lie about an address.
//!
//! Source: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, section 2.2. Version 1 is text of unknown length
//! and not taken. What stands behind the addresses (TLVs, with their checksum) is skipped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpStream;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length of the rest.
const FIXED: usize = 16;
/// Longest header that is taken. Addresses need 36 bytes, what balancers add (names, certificates' subjects) some hundred.
const LONGEST: usize = 4096;

/// Who a connection comes from, by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The balancer itself, which looks whether we live (`LOCAL`).
    Proxy,
    /// Someone that it does not name (`UNSPEC`).
    Unknown,
    /// Its client.
    Client(SocketAddr),
}

/// What is wrong with a header.
#[derive(Debug, thiserror::Error)]
pub(super) enum Bad {
    /// It does not begin like one.
    #[error("a connection of --trusted-proxy did not begin with a header of the PROXY protocol, version 2")]
    NoHeader,
    /// It is one of a kind that says nothing about TCP.
    #[error("a header of the PROXY protocol has version and command {command:#04x}, family and protocol {family:#04x}")]
    Kind { command: u8, family: u8 },
    /// Its length cannot be right.
    #[error("a header of the PROXY protocol is {0} bytes long")]
    Length(usize),
    /// The connection ended within it.
    #[error("a connection ended within its header of the PROXY protocol: {0}")]
    Ended(io::Error),
}

/// What a part of a connection's first bytes says.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The header has so many bytes at least, and they are not all here.
    Needs(usize),
    Whole(Source),
}

/// Reads the header at the start of a connection. Not cancel safe: a header that is not read to its end is lost.
pub(super) async fn read(stream: &TcpStream) -> Result<Source, Bad> {
    let mut bytes = Vec::with_capacity(FIXED + 36);
    loop {
        let wanted = match parse(&bytes)? {
            Parsed::Whole(source) => return Ok(source),
            Parsed::Needs(length) => length,
        };
        let had = bytes.len();
        bytes.resize(wanted, 0);
        stream.readable().await.map_err(Bad::Ended)?;
        let came = match stream.try_read(bytes.get_mut(had..).unwrap_or_default()) {
            Ok(0) => return Err(Bad::Ended(io::ErrorKind::UnexpectedEof.into())),
            Ok(came) => came,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(Bad::Ended(error)),
        };
        bytes.truncate(had + came);
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, Bad> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes.get(..compared) != SIGNATURE.get(..compared) {
        return Err(Bad::NoHeader);
    }
    let Some(([command, family, high, low], rest)) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk)
    else {
        return Ok(Parsed::Needs(FIXED));
    };
    let (command, family) = (*command, *family);
    let kind = || Bad::Kind { command, family };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    // STREAM over IPv4 and IPv6, or nothing in particular.
    let addresses = match (command, family) {
        // Whatever else a LOCAL header says has to be ignored.
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        _ => return Err(kind()),
    };
    if length < addresses || FIXED + length > LONGEST {
        return Err(Bad::Length(FIXED + length));
    }
    if rest.len() < length {
        return Ok(Parsed::Needs(FIXED + length));
    }
    Ok(Parsed::Whole(match (command, family) {
        (0x20, _) => Source::Proxy,
        (_, 0x11) => Source::Client(ipv4(rest).ok_or_else(kind)?),
        (_, 0x21) => Source::Client(ipv6(rest).ok_or_else(kind)?),
        _ => Source::Unknown,
    }))
}

/// Source address, destination address, source port, destination port.
fn ipv4(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = bytes.split_first_chunk::<4>()?;
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*address)), port(rest.get(4..)?)?))
}

fn ipv6(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = bytes.split_first_chunk::<16>()?;
    Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)), port(rest.get(16..)?)?))
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|port| u16::from_be_bytes(*port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn header_names_the_client_and_what_follows_the_addresses_is_skipped() {
        let client = Source::Client("192.0.2.7:4660".parse().expect("an address"));
        assert_eq!(parse(&header(0x21, 0x11, &V4)).expect("a header"), Parsed::Whole(client));
        let with_more = [&V4[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        assert_eq!(parse(&header(0x21, 0x11, &with_more)).expect("a header"), Parsed::Whole(client));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 0x01, 1, 9);
        let client = Source::Client("[2001::1]:9".parse().expect("an address"));
        assert_eq!(parse(&header(0x21, 0x21, &v6)).expect("a header"), Parsed::Whole(client));
    }

    #[test]
    fn local_is_the_proxy_itself_whatever_it_says_beside() {
        assert_eq!(parse(&header(0x20, 0x00, &[])).expect("a header"), Parsed::Whole(Source::Proxy));
        assert_eq!(parse(&header(0x20, 0x11, &V4)).expect("a header"), Parsed::Whole(Source::Proxy));
        assert_eq!(parse(&header(0x21, 0x00, &[])).expect("a header"), Parsed::Whole(Source::Unknown));
    }

    #[test]
    fn other_versions_families_and_lengths_are_no_headers() {
        for bytes in [
            header(0x11, 0x11, &V4),
            header(0x22, 0x11, &V4),
            header(0x21, 0x12, &V4),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, &V4),
            header(0x20, 0x00, &[0; LONGEST - FIXED + 1]),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(),
            b"G".to_vec(),
        ] {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(&header(0x20, 0x00, &[0; LONGEST - FIXED])).is_ok());
    }

    proptest! {
        #[test]
        fn no_byte_behind_the_header_is_asked_for(rest in proptest::collection::vec(any::<u8>(), 12..200), cut in 0usize..228) {
            let whole = header(0x21, 0x11, &rest);
            let cut = cut.min(whole.len());
            match parse(&whole[..cut]).expect("a header") {
                Parsed::Needs(length) => prop_assert!(cut < length && length <= whole.len()),
                Parsed::Whole(_) => prop_assert_eq!(cut, whole.len()),
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), keeps in 0usize..17) {
            let mut start = header(0x21, 0x11, &V4);
            start.truncate(keeps);
            start.extend(bytes);
            let _ = parse(&start);
        }
    }
}
