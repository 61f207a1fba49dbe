//! How figures and foreign texts are written.

use std::time::Duration;

use reqwest::Url;

use crate::upstream::Fault;

/// `3.2 ms`, `480 ms`, `2.1 s`.
pub(super) fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// A URL without its query, which may hold a secret.
pub(super) fn location(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// A foreign text, shortened, on one line, without control characters.
pub(super) fn quote(text: &str) -> String {
    Fault::quote(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_as_many_digits_as_matter() {
        let cases = [(3_210, "3.2 ms"), (480_400, "480 ms"), (2_100_000, "2.1 s"), (10_000_000, "10 s")];
        for (us, expected) in cases {
            assert_eq!(milliseconds(Duration::from_micros(us)), expected);
        }
    }

    #[test]
    fn location_has_no_query() {
        let url = Url::parse("https://mcp.example.com:8443/mcp?code=hunter2").expect("a URL");
        assert_eq!(location(&url), "https://mcp.example.com:8443/mcp");
    }
}
