//! Session ids that name their owner, so that no replica has to look anything up.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Fault;
use super::keys::{Key, KeyId, Keyring, OVERHEAD, Unsealed, key_id};

/// What an id is sealed for.
const PURPOSE: &[u8] = b"session id";
/// Random bytes in an id: as much as nobody guesses, should the key ever be known.
const RANDOM: usize = 16;
/// Bytes of what is sealed.
const TEXT: usize = 8 + RANDOM;

/// Names one start of a process: `boot.id` of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot(u64);

impl Boot {
    pub(super) fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 8]) -> Self {
        Boot(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Boot {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Boot)
    }
}

/// A new id of a session of `owner`, within the fleet called `fleet`.
pub(super) fn seal(key: &Key, fleet: &str, owner: Boot) -> String {
    let mut text = owner.to_bytes().to_vec();
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).expect("the operating system has random numbers");
    text.extend_from_slice(&random);
    URL_SAFE_NO_PAD.encode(key.seal(&[PURPOSE, fleet.as_bytes()], &text))
}

/// Who owns the session called `id`.
///
/// # Errors
/// When no replica of the fleet gave the id out, as far as the keys here tell.
pub(super) fn open(keys: &Keyring, fleet: &str, id: &str) -> Result<Boot, Fault> {
    let sealed = URL_SAFE_NO_PAD.decode(id).map_err(|_| Fault::ForgedId)?;
    let text = keys.open(&[PURPOSE, fleet.as_bytes()], &sealed).map_err(Unsealed::of_id)?;
    let owner = text.first_chunk().filter(|_| text.len() == TEXT).ok_or(Fault::ForgedId)?;
    Ok(Boot::from_bytes(*owner))
}

/// The key that `id` was sealed under, as it says itself.
pub(super) fn key_of(id: &str) -> Option<KeyId> {
    let sealed = URL_SAFE_NO_PAD.decode(id).ok().filter(|sealed| sealed.len() == OVERHEAD + TEXT)?;
    key_id(&sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(digit: &str) -> Keyring {
        Keyring::read(&digit.repeat(64)).expect("a key")
    }

    #[test]
    fn id_names_its_owner_to_holders_of_the_key_only() {
        let (ring, other, owner) = (ring("1"), self::ring("2"), Boot(7));
        let key = ring.sealing(|_| true);
        let id = seal(key, "fleet", owner);
        assert_eq!(open(&ring, "fleet", &id), Ok(owner));
        assert_eq!(open(&ring, "other", &id), Err(Fault::ForgedId), "of another fleet under the same key");
        assert_eq!(open(&other, "fleet", &id), Err(Fault::ForeignId));
        assert_ne!(seal(key, "fleet", owner), id);
        assert_eq!(key_of(&id), Some(key.id()));
        assert!(id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn what_is_no_id_is_forged() {
        let ring = ring("1");
        for id in ["", "x", "00ff", "ä", &"a".repeat(128), &random_id()] {
            assert!(open(&ring, "fleet", id).is_err(), "{id}");
        }
    }

    fn random_id() -> String {
        crate::traffic::random_hex(32)
    }
}
