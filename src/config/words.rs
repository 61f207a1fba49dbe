//! Single values as commands besides `serve` take them, read by the same rules and told with the same words.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::Url;

use super::units;

/// An `http` or `https` URL without user, password and fragment.
///
/// # Errors
/// What is wrong with it.
pub fn url(text: &str) -> Result<Url, String> {
    units::upstream_url(text)
}

/// `NAME: VALUE`, or `NAME: @FILE`.
///
/// # Errors
/// What is wrong with it, without the value, which may be a credential.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    units::upstream_header(text)
}

/// A host, with a port or without.
///
/// # Errors
/// What is wrong with it.
pub fn host(text: &str) -> Result<HeaderValue, String> {
    units::host(text)
}

/// A duration with its unit; zero is one.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text)
}

/// A duration with its unit, longer than zero.
///
/// # Errors
/// What is wrong with it.
pub fn interval(text: &str) -> Result<Duration, String> {
    units::interval(text)
}

/// What a file holds.
///
/// # Errors
/// Why it cannot be read.
pub fn file(path: &str) -> Result<Vec<u8>, String> {
    units::file(path)
}
