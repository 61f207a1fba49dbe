//! The digest by which client and server agree on what a long message was.

use std::fmt::Write as _;

use ring::digest;

/// SHA-256 of `data` in hexadecimal digits.
pub(crate) fn sha256(data: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, data);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
