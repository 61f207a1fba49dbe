//! Keyed pseudonyms for what must not stand in the log: addresses and subjects.
//!
//! The key lives in the state directory and is made at first start; without a state directory it lives as long as
//! the process, and pseudonyms of two starts cannot be compared.
//!
//! The trap: replicas have to write the same pseudonyms, or one client is another identity on each of them. So a running
//! process may be given another key, and all clones of its [`Pseudonyms`] use that from then on.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ring::hmac;

use super::hex;

/// Key length in bytes; that of the hash.
const KEY_LEN: usize = 32;
/// Name of the key file within the state directory.
const KEY_FILE: &str = "pseudonym.key";
/// Where keys are kept that the fleet's has replaced; a number follows if there are several.
const REPLACED_FILE: &str = "pseudonym.key.before-fleet";
/// Keys that are kept so, at most.
const MOST_REPLACED: u32 = 100;
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

/// Makes pseudonyms under one key. Clones share it.
#[derive(Debug, Clone)]
pub struct Pseudonyms {
    key: Arc<RwLock<Key>>,
    addresses: AddressForm,
    /// The directory in which the key is kept, if it is.
    dir: Option<PathBuf>,
}

/// The key; never shown.
struct Key {
    bytes: [u8; KEY_LEN],
    hmac: hmac::Key,
}

impl Key {
    fn new(bytes: [u8; KEY_LEN]) -> Self {
        Key { bytes, hmac: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; KEY_LEN];
        getrandom::fill(&mut bytes)?;
        Ok(Key::new(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Pseudonyms {
    /// Under a key that dies with the process.
    #[must_use]
    pub fn ephemeral(addresses: AddressForm) -> Self {
        let key = Key::random().expect("the operating system has random numbers");
        Pseudonyms::under(key, addresses, None)
    }

    fn under(key: Key, addresses: AddressForm, dir: Option<PathBuf>) -> Self {
        Pseudonyms { key: Arc::new(RwLock::new(key)), addresses, dir }
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
        Ok(Pseudonyms::under(of_text(&path, &text)?, addresses, Some(state_dir.to_owned())))
    }

    /// Under the key that is kept in `state_dir`; none is made.
    ///
    /// # Errors
    /// When the key cannot be read, or is not one.
    pub fn read_from(state_dir: &Path, addresses: AddressForm) -> io::Result<Self> {
        let path = state_dir.join(KEY_FILE);
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
        Ok(Pseudonyms::under(of_text(&path, &text)?, addresses, None))
    }

    /// The key, for other replicas. Nobody else may see it: with it, pseudonyms can be guessed back.
    #[must_use]
    pub fn secret(&self) -> Vec<u8> {
        self.key().bytes.to_vec()
    }

    /// Takes over the key of other replicas, and keeps it where the own one was kept; that one is kept beside it. Says whether
    /// it is another one. Blocks.
    ///
    /// # Errors
    /// When it is no key, and is not taken over; when it cannot be kept, and is taken over all the same.
    pub fn take_over(&self, secret: &[u8]) -> io::Result<bool> {
        let bytes: [u8; KEY_LEN] = secret.try_into().map_err(|_| {
            let text = format!("expected a key of {KEY_LEN} bytes, got {}", secret.len());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        if self.key().bytes == bytes {
            return Ok(false);
        }
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Key::new(bytes);
        if let Some(dir) = &self.dir {
            replace_key(dir, &bytes)?;
        }
        Ok(true)
    }

    fn key(&self) -> RwLockReadGuard<'_, Key> {
        self.key.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pseudonym of `value`, apart from equal values of another `kind`.
    #[must_use]
    pub fn of(&self, kind: &str, value: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key().hmac);
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

fn of_text(path: &Path, text: &str) -> io::Result<Key> {
    let key = unhex(text.trim()).and_then(|key| <[u8; KEY_LEN]>::try_from(key).ok()).ok_or_else(|| {
        let text = format!("{} does not hold {KEY_LEN} bytes in hexadecimal", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Key::new(key))
}

/// Writes a new key under a name of its own and links it to `path`, so that replicas that start together agree on one.
fn make_key(path: &Path) -> io::Result<()> {
    let key = Key::random().map_err(io::Error::other)?;
    let draft = write_draft(path, &key.bytes)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes `key` in the place of the one in `dir`. That one gets another name before, so that it is never lost.
fn replace_key(dir: &Path, key: &[u8; KEY_LEN]) -> io::Result<()> {
    let path = dir.join(KEY_FILE);
    // Replicas that share the directory: one of them was first.
    if fs::read_to_string(&path).ok().and_then(|text| unhex(text.trim())).is_some_and(|kept| kept == key) {
        return Ok(());
    }
    let names = (1..=MOST_REPLACED).map(|number| match number {
        1 => REPLACED_FILE.to_owned(),
        number => format!("{REPLACED_FILE}.{number}"),
    });
    for name in names {
        match fs::hard_link(&path, dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => break,
        }
    }
    let draft = write_draft(&path, key)?;
    fs::rename(draft, path)
}

fn write_draft(path: &Path, key: &[u8; KEY_LEN]) -> io::Result<PathBuf> {
    let draft = path.with_extension(format!("{}.new", super::random_hex(4)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(hex(key).as_bytes())?;
    file.sync_all()?;
    Ok(draft)
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
    fn key_of_the_fleet_is_used_by_all_clones_at_once_and_kept_beside_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let fleet = Pseudonyms::ephemeral(AddressForm::Hmac);
        let ours = Pseudonyms::kept_in(dir.path(), AddressForm::Hmac).expect("a key");
        let (clone, before) = (ours.clone(), ours.of("sub", "alice"));
        assert!(ours.take_over(&fleet.secret()).expect("kept"));
        assert_eq!(clone.of("sub", "alice"), fleet.of("sub", "alice"));
        assert!(!ours.take_over(&fleet.secret()).expect("nothing to do"));
        let again = Pseudonyms::kept_in(dir.path(), AddressForm::Hmac).expect("the key");
        assert_eq!(again.of("sub", "alice"), fleet.of("sub", "alice"));
        assert!(ours.take_over(&Pseudonyms::ephemeral(AddressForm::Hmac).secret()).expect("kept"));
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("a key");
        let first = of_text(dir.path(), &read(REPLACED_FILE)).expect("a key");
        assert_eq!(Pseudonyms::under(first, AddressForm::Hmac, None).of("sub", "alice"), before);
        assert_eq!(read("pseudonym.key.before-fleet.2"), hex(&fleet.secret()));
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 3, "no draft stays");
    }

    #[test]
    fn what_is_no_key_is_not_taken_over_and_a_key_is_though_it_cannot_be_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        let ours = Pseudonyms::kept_in(&state, AddressForm::Hmac).expect("a key");
        let before = ours.of("sub", "alice");
        let error = ours.take_over(b"short").expect_err("no key");
        assert!(error.to_string().contains("got 5"), "{error}");
        assert_eq!(ours.of("sub", "alice"), before);
        fs::remove_dir_all(&state).expect("removed");
        let fleet = Pseudonyms::ephemeral(AddressForm::Hmac);
        ours.take_over(&fleet.secret()).expect_err("nowhere to keep it");
        assert_eq!(ours.of("sub", "alice"), fleet.of("sub", "alice"));
        assert!(!format!("{ours:?}").contains("bytes"));
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
