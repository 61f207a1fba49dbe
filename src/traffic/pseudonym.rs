//! Keyed pseudonyms for what must not stand in the log: addresses and subjects.
//!
//! The key lives in the state directory and is made at first start; without a state directory it lives as long as
//! the process, and pseudonyms of two starts cannot be compared.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::hmac;

use super::hex;

/// Key length in bytes; that of the hash.
const KEY_LEN: usize = 32;
/// Name of the key file within the state directory.
const KEY_FILE: &str = "pseudonym.key";
/// Bytes of the HMAC that are kept: enough to tell clients apart, short enough to read.
const KEPT: usize = 8;

/// How client addresses stand in the log (`--client-address`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressForm {
    /// As a keyed pseudonym.
    Hmac,
    /// In full.
    Full,
}

/// Makes pseudonyms under one key.
#[derive(Debug, Clone)]
pub struct Pseudonyms {
    key: hmac::Key,
    addresses: AddressForm,
}

impl Pseudonyms {
    /// Under a key that dies with the process.
    #[must_use]
    pub fn ephemeral(addresses: AddressForm) -> Self {
        let mut key = [0; KEY_LEN];
        getrandom::fill(&mut key).expect("the operating system has random numbers");
        Pseudonyms { key: hmac::Key::new(hmac::HMAC_SHA256, &key), addresses }
    }

    /// Under the key kept in `state_dir`, which is made (mode 0600) if there is none.
    ///
    /// # Errors
    /// When the key can neither be read nor made, or is not one.
    pub fn kept_in(state_dir: &Path, addresses: AddressForm) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        let path = state_dir.join(KEY_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_key(&path)?;
                fs::read_to_string(&path)?
            }
            read => read?,
        };
        Pseudonyms::of_text(&path, &text, addresses)
    }

    /// Under the key that is kept in `state_dir`; none is made.
    ///
    /// # Errors
    /// When the key cannot be read, or is not one.
    pub fn read_from(state_dir: &Path, addresses: AddressForm) -> io::Result<Self> {
        let path = state_dir.join(KEY_FILE);
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
        Pseudonyms::of_text(&path, &text, addresses)
    }

    fn of_text(path: &Path, text: &str, addresses: AddressForm) -> io::Result<Self> {
        let key = unhex(text.trim()).filter(|key| key.len() == KEY_LEN).ok_or_else(|| {
            let text = format!("{} does not hold {KEY_LEN} bytes in hexadecimal", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        Ok(Pseudonyms { key: hmac::Key::new(hmac::HMAC_SHA256, &key), addresses })
    }

    /// The pseudonym of `value`, apart from equal values of another `kind`.
    #[must_use]
    pub fn of(&self, kind: &str, value: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(kind.as_bytes());
        context.update(b"\0");
        context.update(value.as_bytes());
        hex(context.sign().as_ref().get(..KEPT).unwrap_or_default())
    }

    /// An address, in the form the operator chose. IPv4 addresses mapped into IPv6 are IPv4 addresses.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> String {
        let address = address.to_canonical().to_string();
        match self.addresses {
            AddressForm::Full => address,
            AddressForm::Hmac => self.of("address", &address),
        }
    }
}

/// Writes a new key under a name of its own and links it to `path`, so that replicas that start together agree on one.
fn make_key(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{}.new", super::random_hex(4)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(hex(&key).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_is_made_once_private_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        let first = Pseudonyms::kept_in(&state, AddressForm::Hmac).expect("a key");
        let second = Pseudonyms::kept_in(&state, AddressForm::Hmac).expect("the key");
        assert_eq!(first.of("sub", "alice"), second.of("sub", "alice"));
        let mode = fs::metadata(state.join(KEY_FILE)).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).expect("the directory").count(), 1);
    }

    #[test]
    fn broken_key_is_an_error_and_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(KEY_FILE), "nonsense").expect("written");
        let error = Pseudonyms::kept_in(dir.path(), AddressForm::Hmac).expect_err("no key");
        assert!(error.to_string().contains("hexadecimal"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(KEY_FILE)).expect("kept"), "nonsense");
    }

    #[test]
    fn pseudonyms_differ_by_kind_value_and_key() {
        let pseudonyms = Pseudonyms::ephemeral(AddressForm::Hmac);
        assert_eq!(pseudonyms.of("sub", "a").len(), 2 * KEPT);
        assert_ne!(pseudonyms.of("sub", "a"), pseudonyms.of("address", "a"));
        assert_ne!(pseudonyms.of("sub", "a"), Pseudonyms::ephemeral(AddressForm::Hmac).of("sub", "a"));
    }

    #[test]
    fn addresses_are_full_only_by_choice() {
        let address: IpAddr = "::ffff:192.0.2.7".parse().expect("an address");
        assert_eq!(Pseudonyms::ephemeral(AddressForm::Full).address(address), "192.0.2.7");
        assert!(!Pseudonyms::ephemeral(AddressForm::Hmac).address(address).contains('.'));
    }
}
