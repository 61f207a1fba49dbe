//! The keys of a fleet, and what is sealed under them: ChaCha20-Poly1305 (RFC 8439), each time under a key of its own that
//! HKDF-SHA256 (RFC 5869) derives from the fleet's and a random salt. So no nonce comes twice, however much is sealed.
//!
//! ```text
//! sealed: form (1 byte) | id of the key (4) | salt (24) | ciphertext and tag
//! ```
//!
//! There are two keys at most. What is sealed under either opens; the first one that all replicas have seals. So a key is
//! rotated by putting the new one first in every replica's file, in any order, and taking the old one out once nothing is
//! left that was sealed under it (`/status` says so).
//!
//! Promise: what opens was sealed by a holder of the key, for the very purpose that the opener names.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{digest, hkdf};

use super::Fault;

/// Length of a key in bytes.
const KEY_LEN: usize = 32;
/// Most keys that are held.
const MOST_KEYS: usize = 2;
/// The form of what is sealed.
const FORM: u8 = 1;
const ID_LEN: usize = 4;
const SALT_LEN: usize = 24;
const HEAD_LEN: usize = 1 + ID_LEN + SALT_LEN;
/// What sealing adds, in bytes.
pub(super) const OVERHEAD: usize = HEAD_LEN + 16;

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    /// Tells it from others; says nothing of it.
    id: KeyId,
    bytes: [u8; KEY_LEN],
}

/// Tells keys apart.
pub(super) type KeyId = [u8; ID_LEN];

impl fmt::Debug for Key {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", name(self.id))
    }
}

/// A key id for people.
pub(super) fn name(id: KeyId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Read(PathBuf, io::Error),
    /// A line is no key. It is not quoted: it may be one.
    #[error("line {0} is no key: one is 64 hexadecimal digits, as openssl rand -hex 32 prints them")]
    Line(usize),
    /// There is none, or there are too many.
    #[error("there are {0} keys: give one, or two while one replaces the other, the new one first")]
    Count(usize),
}

impl Key {
    /// The key that `text` gives as 64 hexadecimal digits.
    #[must_use]
    fn read(text: &str) -> Option<Key> {
        let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
        let digits = digits.filter(|digits| digits.len() == 2 * KEY_LEN)?;
        let mut bytes = [0; KEY_LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"sse-sunset fleet key id\0");
        context.update(&bytes);
        let mut id = KeyId::default();
        id.copy_from_slice(context.finish().as_ref().get(..ID_LEN)?);
        Some(Key { id, bytes })
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }
}

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum KeyFile {
    /// A file, which may change.
    File(PathBuf),
    /// They were given as they are.
    Given(Keyring),
}

impl KeyFile {
    /// The keys as they are now.
    ///
    /// # Errors
    /// When they cannot be read, or are none.
    pub fn read(&self) -> Result<Keyring, KeyError> {
        match self {
            KeyFile::File(path) => Keyring::read_file(path),
            KeyFile::Given(keys) => Ok(keys.clone()),
        }
    }
}

/// The keys that are held: one, or two while one replaces the other.
#[derive(Debug, Clone)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// The keys of a text: one a line, the newest first. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// When a line is no key, or there is no key, or there are more than two.
    pub fn read(text: &str) -> Result<Keyring, KeyError> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<Key>, KeyError> =
            lines.map(|(number, line)| Key::read(line).ok_or(KeyError::Line(number + 1))).collect();
        let keys = keys?;
        if (1..=MOST_KEYS).contains(&keys.len()) { Ok(Keyring { keys }) } else { Err(KeyError::Count(keys.len())) }
    }

    fn read_file(path: &Path) -> Result<Keyring, KeyError> {
        let text = std::fs::read_to_string(path).map_err(|error| KeyError::Read(path.to_owned(), error))?;
        Keyring::read(&text)
    }

    /// The ids of the keys, the newest first.
    pub(super) fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(Key::id).collect()
    }

    /// The key that goes, or the only one.
    pub(super) fn oldest(&self) -> &Key {
        self.keys.last().expect("a keyring holds a key")
    }

    /// The first key that `are_known` says yes to, else the newest.
    pub(super) fn sealing(&self, is_known: impl Fn(KeyId) -> bool) -> &Key {
        let common = self.keys.iter().find(|key| is_known(key.id));
        common.or(self.keys.first()).expect("a keyring holds a key")
    }

    /// What was sealed for `purpose`, opened.
    ///
    /// # Errors
    /// Whether the key is not held, or the rest is not as it was sealed.
    pub(super) fn open(&self, purpose: &[&[u8]], sealed: &[u8]) -> Result<Vec<u8>, Unsealed> {
        let (head, text) = sealed.split_at_checked(HEAD_LEN).ok_or(Unsealed::Forged)?;
        let (form, head) = head.split_first().ok_or(Unsealed::Forged)?;
        let (id, salt) = head.split_at_checked(ID_LEN).ok_or(Unsealed::Forged)?;
        if *form != FORM {
            return Err(Unsealed::Foreign);
        }
        let key = self.keys.iter().find(|key| key.id == *id).ok_or(Unsealed::Foreign)?;
        let (cipher, nonce) = key.derive(salt);
        let mut text = text.to_vec();
        let opened = cipher.open_in_place(nonce, bound(purpose), &mut text).map_err(|_| Unsealed::Forged)?.len();
        text.truncate(opened);
        Ok(text)
    }
}

impl Key {
    /// `text`, so that only holders of the key can read or change it, and only for `purpose`.
    pub(super) fn seal(&self, purpose: &[&[u8]], text: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(OVERHEAD + text.len());
        sealed.push(FORM);
        sealed.extend_from_slice(&self.id);
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).expect("the operating system has random numbers");
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(text);
        let (cipher, nonce) = self.derive(&salt);
        let secret = sealed.get_mut(HEAD_LEN..).expect("the head was written");
        let tag = cipher.seal_in_place_separate_tag(nonce, bound(purpose), secret);
        sealed.extend_from_slice(tag.expect("no text of ours is 256 GiB long").as_ref());
        sealed
    }

    /// What one text is sealed with.
    fn derive(&self, salt: &[u8]) -> (LessSafeKey, Nonce) {
        let mut derived = [0; KEY_LEN + NONCE_LEN];
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.bytes);
        let okm = prk.expand(&[b"sse-sunset fleet"], Length(derived.len()));
        okm.and_then(|okm| okm.fill(&mut derived)).expect("so much can be derived");
        let (key, nonce) = derived.split_at(KEY_LEN);
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the length is right");
        (LessSafeKey::new(cipher), Nonce::try_assume_unique_for_key(nonce).expect("the length is right"))
    }
}

/// How much is derived.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The key that something is sealed under, as it says itself.
pub(super) fn key_id(sealed: &[u8]) -> Option<KeyId> {
    sealed.get(1..)?.first_chunk().copied()
}

/// Why something does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsealed {
    /// The key is held, or there is none named, and this is not what was sealed.
    Forged,
    /// The key is not held.
    Foreign,
}

impl Unsealed {
    /// The same of a session id.
    pub(super) fn of_id(self) -> Fault {
        match self {
            Unsealed::Forged => Fault::ForgedId,
            Unsealed::Foreign => Fault::ForeignId,
        }
    }

    /// The same of an envelope.
    pub(super) fn of_envelope(self) -> Fault {
        match self {
            Unsealed::Forged => Fault::ForgedEnvelope,
            Unsealed::Foreign => Fault::ForeignEnvelope,
        }
    }
}

/// The parts as one text, of which none can pass for the end of another.
fn bound(purpose: &[&[u8]]) -> Aad<Vec<u8>> {
    let mut bound = Vec::new();
    for part in purpose {
        bound.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bound.extend_from_slice(part);
    }
    Aad::from(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[char]) -> Keyring {
        let lines: Vec<String> = keys.iter().map(|digit| digit.to_string().repeat(64)).collect();
        Keyring::read(&lines.join("\n")).expect("keys")
    }

    fn seal(ring: &Keyring) -> Vec<u8> {
        ring.sealing(|_| true).seal(&[b"a", b"b"], b"text")
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let ring = ring(&['1']);
        let sealed = seal(&ring);
        assert_eq!(sealed.len(), OVERHEAD + 4);
        assert_eq!(ring.open(&[b"a", b"b"], &sealed), Ok(b"text".to_vec()));
        for purpose in [&[&b"ab"[..]][..], &[b"a"], &[b"a", b"c"], &[b"", b"ab"], &[]] {
            assert_eq!(ring.open(purpose, &sealed), Err(Unsealed::Forged), "{purpose:?}");
        }
    }

    #[test]
    fn what_was_changed_anywhere_does_not_open() {
        let ring = ring(&['1']);
        let sealed = seal(&ring);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(&[b"a", b"b"], &changed).is_err(), "{at}");
            assert!(ring.open(&[b"a", b"b"], &sealed[..at]).is_err(), "{at}");
        }
        assert_ne!(seal(&ring), sealed, "under another salt");
    }

    #[test]
    fn keys_are_rotated_without_a_moment_at_which_something_does_not_open() {
        let (old, both, new) = (ring(&['1']), ring(&['2', '1']), ring(&['2']));
        let knows = |ring: &Keyring| {
            let ids = ring.ids();
            move |id| ids.contains(&id)
        };
        let by = |sealer: &Keyring, known: &Keyring| sealer.sealing(knows(known)).seal(&[b"a", b"b"], b"text");
        assert!(old.open(&[b"a", b"b"], &by(&both, &old)).is_ok(), "others have only the old one yet");
        assert!(both.open(&[b"a", b"b"], &by(&old, &both)).is_ok());
        assert!(new.open(&[b"a", b"b"], &by(&both, &both)).is_ok(), "the new one, once all have it");
        assert_eq!(new.open(&[b"a", b"b"], &by(&old, &old)), Err(Unsealed::Foreign));
    }

    #[test]
    fn file_says_which_line_is_no_key_and_does_not_quote_it() {
        let key = "0f".repeat(32);
        assert_eq!(Keyring::read(&format!("# ours\n\n {key} \n")).expect("a key").ids().len(), 1);
        for (text, expected) in [
            (String::new(), "there are 0 keys"),
            (format!("{key}\n{key}\n{key}"), "there are 3 keys"),
            (format!("# x\n{}", &key[1..]), "line 2 is no key"),
            (format!("{key}g"), "line 1 is no key"),
            (format!("{}é", &key[2..]), "line 1 is no key"),
        ] {
            let error = Keyring::read(&text).expect_err("no keys").to_string();
            assert!(error.starts_with(expected) && !error.contains(&key[2..]), "{error}");
        }
        assert!(!format!("{:?}", Keyring::read(&key)).contains("0f0f"));
    }
}
