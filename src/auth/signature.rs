//! The signature by which the operator's own probes are known: proof, where a name or user agent would be a claim.
//!
//! ```text
//! Sse-Sunset-Probe: v1 1790000000 <nonce, 32 hex digits> <mac, 64 hex digits>[; keep-alive=off|<n>s]
//! mac = HMAC-SHA256(key, "sse-sunset-probe v1\nGET\n<unix seconds>\n<nonce>\n<keep-alive, or ->")
//! ```
//!
//! Promise: what [`Verifier`] accepts was signed with the key, for a `GET`, at most five minutes ago (or ahead, by clocks
//! that differ), and was not accepted here before. Host and path are not covered: proxies on the way rewrite both, and the
//! signature has to survive the very path that it probes.
//!
//! What somebody can do who sees one such header (a proxy on the way, its log): nothing with the key, which it does not
//! show. Nothing at the process that has accepted it, which takes each nonce once. Within five minutes of the time in it, one
//! `GET` at each *other* process with this key (replicas, a restart), and one here if the probe's own never arrived. What that
//! buys is one stream with a keep-alive of the probe's choice and a handshake that is not in the log: the session
//! (`session::evidence`) takes the excuse back with the first message that is more than a handshake, so use can never hide
//! behind it. It could pass for the positive control for as long; a forged control says that the path works, never that
//! nobody uses it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use crate::clock;

/// The header: on the request the signature, on the answer [`ACCEPTED`].
pub const PROBE_HEADER: HeaderName = HeaderName::from_static("sse-sunset-probe");
/// What the answer's header says when the signature was good.
pub const ACCEPTED: &str = "accepted";
/// How much the clocks of the two sides may differ, the way between them included.
pub const CLOCK_DIFFERENCE: Duration = Duration::from_secs(300);

/// Shortest key, in bytes: what cannot be guessed.
const MIN_KEY: usize = 16;
/// Nonces that are remembered at most. Only who has the key can fill this, and then probes count as clients.
const MAX_NONCES: usize = 10_000;
/// Longest interval of keep-alive comments that a probe may ask for.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(3600);

const VERSION: &str = "v1";
const NONCE: usize = 16;

type Nonce = [u8; NONCE];

/// The key that probes and proxy share.
#[derive(Clone)]
pub struct ProbeKey(hmac::Key);

/// Why a file gives no key; completes a sentence that begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It holds too little.
    #[error("holds {0} bytes, and a key needs {MIN_KEY} at least: make one with `openssl rand -hex 32`")]
    TooShort(usize),
}

/// What a probe wants for its stream, to see what the way to it does to silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// No comments.
    Off,
    /// One after each interval of silence, in whole seconds.
    Every(Duration),
}

/// A request that is the operator's own probe, by proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedProbe {
    /// What it wants for its stream instead of the proxy's setting.
    pub keep_alive: Option<KeepAlive>,
}

/// Why a signature proves nothing. The request is ordinary traffic then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not of the form above, or there several times.
    #[error("the signature is malformed")]
    Malformed,
    /// Signed with another key, or changed on the way.
    #[error("the signature was made with another key")]
    Forged,
    /// Made too long ago, or too far ahead.
    #[error("the signature is stale, or the clocks differ by more than five minutes")]
    Stale,
    /// Accepted before.
    #[error("the signature was used before")]
    Replayed,
    /// Too many were accepted lately to tell.
    #[error("too many signatures were used lately")]
    Full,
}

impl Rejected {
    /// The same in a word, for the answer.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Rejected::Malformed => "malformed",
            Rejected::Forged => "forged",
            Rejected::Stale => "stale",
            Rejected::Replayed => "replayed",
            Rejected::Full => "full",
        }
    }
}

/// Signs the requests of probes.
#[derive(Debug, Clone)]
pub struct Signer {
    key: ProbeKey,
}

/// Tells signed requests from all others, and takes each signature once.
#[derive(Debug)]
pub struct Verifier {
    key: ProbeKey,
    /// What was accepted and is not stale, by time.
    taken: Mutex<BTreeSet<(i64, Nonce)>>,
}

/// A header, taken apart.
struct Parts {
    signed_at: i64,
    nonce: Nonce,
    mac: Vec<u8>,
    keep_alive: Option<KeepAlive>,
}

impl ProbeKey {
    /// Reads the key from a file: all of it, without white space at both ends. It should be readable by its user only.
    ///
    /// # Errors
    /// When the file cannot be read or holds fewer than 16 bytes.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes = std::fs::read(path).map_err(KeyError::Unreadable)?;
        let key = bytes.trim_ascii();
        if key.len() < MIN_KEY {
            return Err(KeyError::TooShort(key.len()));
        }
        Ok(ProbeKey(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(…)")
    }
}

impl KeepAlive {
    fn read(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(KeepAlive::Off);
        }
        let digits = text.strip_suffix('s').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let interval = Duration::from_secs(digits.parse().ok()?);
        (!interval.is_zero() && interval <= LONGEST_KEEP_ALIVE).then_some(KeepAlive::Every(interval))
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepAlive::Off => f.write_str("off"),
            // Never less than a second: 0s is no interval.
            KeepAlive::Every(interval) => write!(f, "{}s", interval.as_secs().max(1)),
        }
    }
}

/// What the MAC covers.
fn signed_text(signed_at: i64, nonce: &Nonce, keep_alive: Option<KeepAlive>) -> String {
    let keep_alive = keep_alive.map_or_else(|| "-".to_owned(), |keep_alive| keep_alive.to_string());
    format!("sse-sunset-probe {VERSION}\nGET\n{signed_at}\n{}\n{keep_alive}", hex(nonce))
}

impl Signer {
    /// A signer with `key`.
    #[must_use]
    pub fn new(key: ProbeKey) -> Self {
        Signer { key }
    }

    /// A signature for one `GET`, now; the next one needs another.
    #[must_use]
    pub fn sign(&self, keep_alive: Option<KeepAlive>) -> HeaderValue {
        self.sign_at(clock::unix_now(), keep_alive)
    }

    fn sign_at(&self, signed_at: i64, keep_alive: Option<KeepAlive>) -> HeaderValue {
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).expect("the operating system has random numbers");
        let mac = hmac::sign(&self.key.0, signed_text(signed_at, &nonce, keep_alive).as_bytes());
        let parameter = keep_alive.map(|keep_alive| format!("; keep-alive={keep_alive}")).unwrap_or_default();
        let text = format!("{VERSION} {signed_at} {} {}{parameter}", hex(&nonce), hex(mac.as_ref()));
        let mut value = HeaderValue::from_str(&text).expect("digits, letters and spaces");
        value.set_sensitive(true);
        value
    }
}

impl Verifier {
    /// A verifier for `key` that has accepted nothing yet.
    #[must_use]
    pub fn new(key: ProbeKey) -> Self {
        Verifier { key, taken: Mutex::default() }
    }

    /// Whether a `GET` with these headers is a probe of the operator; `None` if it does not say that it is.
    ///
    /// # Errors
    /// Why what it says proves nothing.
    pub fn verify(&self, headers: &HeaderMap) -> Option<Result<SignedProbe, Rejected>> {
        let mut values = headers.get_all(PROBE_HEADER).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return Some(Err(Rejected::Malformed));
        }
        Some(self.accept(value, clock::unix_now()))
    }

    fn accept(&self, value: &HeaderValue, now: i64) -> Result<SignedProbe, Rejected> {
        let parts = value.to_str().ok().and_then(Parts::read).ok_or(Rejected::Malformed)?;
        let Parts { signed_at, nonce, mac, keep_alive } = parts;
        let text = signed_text(signed_at, &nonce, keep_alive);
        hmac::verify(&self.key.0, text.as_bytes(), &mac).map_err(|_| Rejected::Forged)?;
        let difference = i64::try_from(CLOCK_DIFFERENCE.as_secs()).unwrap_or(i64::MAX);
        let oldest = now.saturating_sub(difference);
        if signed_at < oldest || signed_at > now.saturating_add(difference) {
            return Err(Rejected::Stale);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // What is stale needs no memory: it is refused for that.
        while taken.first().is_some_and(|(signed_at, _)| *signed_at < oldest) {
            taken.pop_first();
        }
        if taken.contains(&(signed_at, nonce)) {
            return Err(Rejected::Replayed);
        }
        if taken.len() >= MAX_NONCES {
            return Err(Rejected::Full);
        }
        taken.insert((signed_at, nonce));
        Ok(SignedProbe { keep_alive })
    }
}

impl Parts {
    fn read(text: &str) -> Option<Self> {
        let (proof, parameter) = match text.split_once(';') {
            Some((proof, parameter)) => (proof.trim_end(), Some(parameter.trim())),
            None => (text, None),
        };
        let mut words = proof.split(' ');
        let (Some(VERSION), Some(signed_at), Some(nonce), Some(mac), None) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        let keep_alive = match parameter {
            Some(parameter) => Some(KeepAlive::read(parameter.strip_prefix("keep-alive=")?)?),
            None => None,
        };
        let nonce = unhex(nonce)?.try_into().ok()?;
        Some(Parts { signed_at: signed_at.parse().ok()?, nonce, mac: unhex(mac)?, keep_alive })
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    // Longer ones are no nonce and no MAC.
    if text.len() > 64 || !text.len().is_multiple_of(2) {
        return None;
    }
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn key(text: &str) -> ProbeKey {
        ProbeKey(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    fn pair() -> (Signer, Verifier) {
        (Signer::new(key("of the operator")), Verifier::new(key("of the operator")))
    }

    fn text(value: &HeaderValue) -> String {
        value.to_str().expect("text").to_owned()
    }

    fn accept(verifier: &Verifier, text: &str, now: i64) -> Result<SignedProbe, Rejected> {
        verifier.accept(&HeaderValue::from_str(text).expect("a header"), now)
    }

    #[test]
    fn signature_is_taken_once_with_its_parameter() {
        let (signer, verifier) = pair();
        for keep_alive in [None, Some(KeepAlive::Off), Some(KeepAlive::Every(Duration::from_secs(7)))] {
            let value = signer.sign_at(NOW, keep_alive);
            assert_eq!(verifier.accept(&value, NOW), Ok(SignedProbe { keep_alive }));
            assert_eq!(verifier.accept(&value, NOW + 1), Err(Rejected::Replayed));
        }
    }

    /// The form is a promise to those who write probes of their own.
    #[test]
    fn signature_has_the_form_that_is_documented() {
        let value = text(&pair().0.sign_at(NOW, Some(KeepAlive::Every(Duration::from_secs(1)))));
        let words: Vec<&str> = value.split(' ').collect();
        assert_eq!((words[0], words[1], words[4]), ("v1", "1790000000", "keep-alive=1s"));
        assert_eq!((words[2].len(), words[3].len()), (32, 65));
        let signed = format!("sse-sunset-probe v1\nGET\n1790000000\n{}\n1s", words[2]);
        let mac = hmac::sign(&key("of the operator").0, signed.as_bytes());
        assert_eq!(words[3], format!("{};", hex(mac.as_ref())));
    }

    #[test]
    fn clocks_may_differ_by_five_minutes_and_no_more() {
        for (later, expected) in [(300, true), (301, false), (-300, true), (-301, false)] {
            let (signer, verifier) = pair();
            let verdict = verifier.accept(&signer.sign_at(NOW, None), NOW + later);
            assert_eq!(verdict.is_ok(), expected, "{later}: {verdict:?}");
            assert_eq!(verdict.err(), (!expected).then_some(Rejected::Stale));
        }
    }

    #[test]
    fn signature_of_another_key_or_of_something_else_is_forged() {
        let (signer, verifier) = pair();
        assert_eq!(verifier.accept(&Signer::new(key("of another")).sign_at(NOW, None), NOW), Err(Rejected::Forged));
        let good = text(&signer.sign_at(NOW, Some(KeepAlive::Off)));
        let (proof, _) = good.split_once(';').expect("a parameter");
        let later = good.replace("1790000000", "1790000060");
        let mut nonce = good.clone();
        nonce.replace_range(14..15, if &good[14..15] == "0" { "1" } else { "0" });
        for tampered in [proof, &format!("{proof}; keep-alive=1s"), &later, &nonce] {
            assert_eq!(accept(&verifier, tampered, NOW), Err(Rejected::Forged), "{tampered}");
        }
        assert!(accept(&verifier, &good, NOW).is_ok(), "the tampered ones have not used it up");
    }

    #[test]
    fn another_spelling_is_the_same_signature() {
        let (signer, verifier) = pair();
        let good = text(&signer.sign_at(NOW, None));
        assert!(accept(&verifier, &good, NOW).is_ok());
        for spelling in [good.replace(" 17", " 0017"), good.replace(" 17", " +17"), good[3..].to_uppercase()] {
            let spelling = if spelling.starts_with("v1") { spelling } else { format!("v1 {spelling}") };
            assert_eq!(accept(&verifier, &spelling, NOW), Err(Rejected::Replayed), "{spelling}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let (signer, verifier) = pair();
        let good = text(&signer.sign_at(NOW, None));
        let odd = ["", "v1", "v1 1 2 3", "v2 1790000000 00 00", "accepted", &good.replace("v1", "v2")];
        let parameters = ["; keep-alive=0s", "; keep-alive=3601s", "; keep-alive=1m", "; keep-alive=", "; x=1", ";"];
        let parameters = parameters.map(|parameter| format!("{good}{parameter}"));
        for text in odd.into_iter().map(str::to_owned).chain(parameters) {
            assert_eq!(accept(&verifier, &text, NOW), Err(Rejected::Malformed), "{text}");
        }
        let mut twice = HeaderMap::new();
        twice.append(PROBE_HEADER, signer.sign(None));
        twice.append(PROBE_HEADER, signer.sign(None));
        assert_eq!(verifier.verify(&twice), Some(Err(Rejected::Malformed)));
        assert_eq!(verifier.verify(&HeaderMap::new()), None);
    }

    #[test]
    fn memory_of_nonces_is_bounded_and_forgets_what_is_stale() {
        let (signer, verifier) = pair();
        for _ in 0..MAX_NONCES {
            assert!(verifier.accept(&signer.sign_at(NOW, None), NOW).is_ok());
        }
        assert_eq!(verifier.accept(&signer.sign_at(NOW, None), NOW), Err(Rejected::Full));
        assert!(verifier.accept(&signer.sign_at(NOW + 301, None), NOW + 301).is_ok());
        assert_eq!(verifier.taken.lock().expect("no panic").len(), 1);
    }

    #[test]
    fn key_is_read_from_a_file_and_has_to_be_long_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("probe.key");
        let missing = ProbeKey::read(&path).expect_err("no file").to_string();
        assert!(missing.starts_with("cannot be read"), "{missing}");
        std::fs::write(&path, "   too short key \n\n").expect("written");
        let short = ProbeKey::read(&path).expect_err("too short").to_string();
        assert!(short.contains("holds 13 bytes") && short.contains("openssl"), "{short}");
        std::fs::write(&path, " long enough, it is\n").expect("written");
        let (here, there) = (ProbeKey::read(&path).expect("a key"), key("long enough, it is"));
        assert!(Verifier::new(there).accept(&Signer::new(here.clone()).sign_at(NOW, None), NOW).is_ok());
        assert_eq!(format!("{here:?}"), "ProbeKey(…)");
    }
}
