//! Header names of MCP's HTTP transports.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Names the upstream session (MCP 2025-03-26 to 2025-11-25, transports §Session Management).
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// The negotiated protocol version (MCP 2025-06-18, transports §Protocol Version Header).
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Where a broken event stream shall go on.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Repeats `method` (MCP 2026-07-28, transports §Standard Headers).
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// The revision of the modern era, as headers and `_meta` name it.
pub const MODERN_VERSION: &str = "2026-07-28";

/// The first revision whose requests carry [`PROTOCOL_VERSION`]; versions are dates and compare as text.
pub const VERSION_HEADER_SINCE: &str = "2025-06-18";

/// A value of its own: as it was read it is a part of 8 KiB that came with it, and keeps all of that.
///
/// # Panics
/// Never: it is a value already.
#[must_use]
pub fn copied_value(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// The same headers with values of their own.
#[must_use]
pub fn copied(headers: &HeaderMap) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.clone(), copied_value(value))).collect()
}

/// Whether a header belongs to the transport itself. Those that a legacy client sends never go upstream: they speak of
/// its own connection (Java names 2024-11-05 on every request, mcp-remote adds `Mcp-Method` to SSE POSTs).
#[must_use]
pub fn is_protocol_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-") || *name == LAST_EVENT_ID
}
