//! The secret that whoever changes something must show.

use std::fmt;

use ring::hmac;
use ring::rand::SystemRandom;

/// A token. It is not kept itself, only a tag of it under a key that lives as long as the process.
#[derive(Clone)]
pub struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    /// Fewer characters can be guessed.
    pub const SHORTEST: usize = 16;

    /// Reads a token from the text of its file.
    ///
    /// # Errors
    /// What is wrong with it, to stand behind the name of the file.
    pub fn read(text: &str) -> Result<Token, String> {
        let token = text.trim();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must hold one token of visible ASCII characters and nothing else".to_owned());
        }
        if token.len() < Token::SHORTEST {
            return Err(format!("must hold a token of {} characters or more", Token::SHORTEST));
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the operating system has random numbers");
        let tag = hmac::sign(&key, token.as_bytes());
        Ok(Token { key, tag })
    }

    /// Whether `shown` is it. How long that takes tells nothing: tags are compared, in constant time, and nobody can
    /// choose those.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        hmac::verify(&self.key, shown, self.tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_known_by_all_of_its_bytes() {
        let token = Token::read("  0123456789abcdef\n").expect("a token");
        assert!(token.is(b"0123456789abcdef"));
        for other in [&b"0123456789abcdeF"[..], b"0123456789abcde", b"0123456789abcdef0", b""] {
            assert!(!token.is(other));
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn short_and_odd_tokens_are_refused() {
        for text in ["", "0123456789abcde\n", "0123456789 abcdef", "0123456789abcdef\nsecond", "0123456789abcdeé"] {
            assert!(Token::read(text).is_err(), "{text:?}");
        }
    }
}
